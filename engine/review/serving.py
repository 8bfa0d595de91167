"""Runs the review server: a loopback socket, a launch link, and an end that forgets every key."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from engine.review.access import Access
from engine.review.application import ReviewState, review_application
from engine.review.library import Library
from ipc import osdep
from ipc.errors import ConfigError

__all__ = ["Serving", "serve"]

LOOPBACK: Final = "127.0.0.1"
HEADER_S: Final = 10.0
CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Serving:
    """How to serve.

    Attributes:
        library: What can be reviewed.
        port: On 127.0.0.1; 0 for one that is free.
        idle_s: Keys are forgotten after so long without a request.
    """

    library: Library
    port: int
    idle_s: float


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which no request begins or ends its headers in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; it has a while to say what it wants."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEADER_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()


def serve(serving: Serving, announce: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        serving: What and where.
        announce: Told the launch link once requests are accepted.

    Raises:
        ConfigError: the port cannot be had.
    """
    osdep.forbid_core_dumps()
    listener = _listen(serving.port)
    try:
        access = Access(listener.getsockname()[1])
        state = ReviewState(access, serving.library, serving.idle_s)
        config = uvicorn.Config(
            review_application(state),
            http=ImpatientProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",  # not each request that is none
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
        _Server(config, lambda: announce(access.launch_url)).run(sockets=[listener])
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, *arguments: Any, **options: Any) -> None:
        """Start, then tell."""
        await super().startup(*arguments, **options)
        self._ready()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(CONNECTIONS)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            f"Port {port} of {LOOPBACK} cannot be had.", hint="Leave --port out for a free one."
        ) from error
    return listener
