"""Who may talk to the review server: one browser of this machine, and no page but our own.

The launch link carries a token that works once; it is exchanged for a cookie that scripts cannot
read and other sites do not send. Cookies do not tell ports apart, so the whole application lives
under a random folder and the cookie is bound to that. Host and Origin are checked on every request
(a foreign name may resolve to 127.0.0.1), and every answer forbids caching, framing and foreign
content. Not here: keys of recordings (``unlocked``), guessing them (``attempts``).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LAUNCH", "Access", "Guard"]

LAUNCH: Final = "open"
COOKIE: Final = "sealrec_review"

_METHODS: Final = ("GET", "HEAD", "POST")
_FOREIGN: Final = ("cross-site", "same-site")
_REQUEST_S: Final = 120.0
_CLOSED: Final = (
    "This page opens with the link that `sealrec review` printed. The link works once and in one "
    "browser; end the command and start it again for a new one.\n"
)
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self' blob:",  # a Media Source is a blob: address
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), display-capture=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Access:
    """The one browser that is let in.

    Args:
        port: Where the server listens on 127.0.0.1.

    Attributes:
        host: What a request's Host must be.
        origin: What its Origin must be, where it has one.
        folder: The random first part of every path.
        refused_launches: How often a launch link was tried that does not work (any more).
    """

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.origin = f"http://{self.host}"
        self.folder = secrets.token_urlsafe(16)
        self.refused_launches = 0
        self._token: str | None = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)

    @property
    def launch_url(self) -> str:
        """The link that opens the page, once."""
        return f"{self.origin}/{self.folder}/{LAUNCH}?token={self._token or 'spent'}"

    def exchange(self, token: str) -> str | None:
        """Take the launch token for a ``Set-Cookie``; None if it is another one or spent."""
        if self._token is None or not _same(token, self._token):
            self.refused_launches += 1
            return None
        self._token = None
        return f"{COOKIE}={self._cookie}; Path=/{self.folder}/; HttpOnly; SameSite=Strict"

    def admits(self, cookies: Iterable[str]) -> bool:
        """Whether one of these Cookie headers holds the cookie."""
        if self._token is not None:
            return False  # nobody has it yet
        for header in cookies:
            try:
                found = SimpleCookie(header).get(COOKIE)
            except CookieError:
                continue
            if found and _same(found.value, self._cookie):
                return True
        return False


class Guard:
    """ASGI middleware: lets in what ``Access`` admits, and nothing waits here without end."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        app = self._app if refusal is None else refusal
        async with asyncio.timeout(_REQUEST_S):
            await app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        """The answer to a request that is not let in; it says no more than a person needs."""
        headers = Headers(scope=scope)
        folder, _, rest = scope["path"].lstrip("/").partition("/")
        if headers.getlist("host") != [self._access.host]:
            return PlainTextResponse("Not this host.\n", 421)
        if scope["method"] not in _METHODS:
            return PlainTextResponse("Not this method.\n", 405)
        if not self._is_own(scope["method"], headers.getlist("origin")):
            return PlainTextResponse("Not from there.\n", 403)
        if not _same(folder, self._access.folder):
            return PlainTextResponse("Nothing here.\n", 404)
        if rest == LAUNCH and scope["method"] == "GET":
            return None  # may be followed from anywhere: the token decides
        return self._without_cookie(headers)

    def _is_own(self, method: str, origins: list[str]) -> bool:
        """Whether a request comes from our page, as far as its Origin tells."""
        return origins == [self._access.origin] or (not origins and method != "POST")

    def _without_cookie(self, headers: Headers) -> PlainTextResponse | None:
        if headers.get("sec-fetch-site") in _FOREIGN:
            return PlainTextResponse("Not from there.\n", 403)
        if not self._access.admits(headers.getlist("cookie")):
            return PlainTextResponse(_CLOSED, 403)
        return None


def _same(one: str, two: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), two.encode())
