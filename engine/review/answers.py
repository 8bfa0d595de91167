"""What the review server takes and gives: bounded request bodies, JSON, errors in plain words."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from engine.review.attempts import TooManyAttempts
from engine.review.fragments import Locked
from ipc.errors import ConfigError, Corrupt, SealrecError, Truncated, WrongKey

__all__ = ["answer", "body_of", "failed", "number_of"]

BODY_BYTES: Final = 32_768
"""More than any key file or password needs."""
BODY_S: Final = 10.0
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_STATUS: Final[tuple[tuple[type[SealrecError], int], ...]] = (
    (TooManyAttempts, 429),
    (Locked, 423),
    (WrongKey, 403),
    (Corrupt, 409),
    (Truncated, 409),
    (ConfigError, 404),
)
_T = TypeVar("_T")


class TooLarge(SealrecError):
    """A request body longer than any that the page sends."""

    code = "too-large"


class BadRequest(SealrecError):
    """A request that the page does not make."""

    code = "bad-request"


def answer(value: Any) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def failed(_request: Request, error: Exception) -> Response:
    """An expected error as JSON."""
    assert isinstance(error, SealrecError)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 400)
    if isinstance(error, TooLarge):
        status = 413
    shown = {"code": error.code, "message": error.message, "hint": error.hint}
    found = Response(msgspec.json.encode(shown), status, media_type="application/json")
    if isinstance(error, TooManyAttempts):
        found.headers["Retry-After"] = str(max(1, round(error.wait_s)))
    return found


def number_of(request: Request, name: str) -> int:
    """A number in the path.

    Raises:
        ConfigError: it is none, or none that can be.
    """
    text = request.path_params[name]
    if not _NUMBER.fullmatch(text):
        raise ConfigError("There is nothing of that number.")
    return int(text)


async def body_of(request: Request, kind: type[_T]) -> _T:
    """The JSON body of a request.

    Raises:
        TooLarge: it is longer than ``BODY_BYTES``; it was not read to its end.
        BadRequest: it is not such a value, or did not come in time.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                data += piece
                if len(data) > BODY_BYTES:
                    raise TooLarge(f"A request has at most {BODY_BYTES} bytes.")
        return msgspec.json.decode(bytes(data), type=kind)
    except TimeoutError:
        raise BadRequest("The request did not come in time.") from None
    except msgspec.DecodeError:
        pass  # not as a cause: the error may quote the body, here a password
    finally:
        data[:] = bytes(len(data))
    raise BadRequest("That is no request of this page.")
