"""The review server's addresses: one function each, what they answer, and nothing of a file's path.

All below the random folder of ``access``. Functions that read recordings are plain ones, so they
run in threads and the server stays responsive. Static files are a table made at start, not a
directory: a name that is not in it does not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Annotated, Final, Literal

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from engine.container.boxes import TIMESCALE_HZ
from engine.container.recipients import KeyFileSecret, PasswordSecret, PrivateKeySecret, Secret
from engine.key_files import checked_password, key_of_line, private_key_of_pem
from engine.reading.export import Clip, export
from engine.review.access import LAUNCH, Access, Guard
from engine.review.answers import answer, body_of, failed, number_of
from engine.review.attempts import Attempts
from engine.review.fragments import PlayedPart
from engine.review.library import Library, ListedRecording
from engine.review.playlist import hls_playlist
from engine.review.unlocked import Unlocked, Vault
from ipc.errors import SealrecError

__all__ = ["ReviewState", "review_application"]

WATCH_S: Final = 1.0
_TYPES: Final = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
_LAUNCHED: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>sealrec review</title>'
    '<link rel="icon" href="static/icon.svg"><meta http-equiv="refresh" content="0; url=./">'
    '<p><a href="./">Open the review page</a></p>'
)


class ListView(msgspec.Struct, frozen=True):
    """The list, and which of it is open."""

    title: str
    idle_s: float
    recordings: list[ListedRecording]
    open: list[str]


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person gives to open a recording."""

    kind: Literal["password", "key_file", "private_key"]
    value: str


class Still(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The picture that is about to be saved by the browser."""

    pts: int
    frame_id: int


class ClipAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stretch that is to be written as a plain MP4, 90 kHz."""

    from_pts: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    to_pts: Annotated[int, msgspec.Meta(gt=0, lt=2**62)]


class ClipSaved(msgspec.Struct, frozen=True):
    """Where a clip is."""

    path: str
    frames: int
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True):
    """What the player needs."""

    name: str
    end_pts: int
    parts: list[PlayedPart]
    states: dict[int, str]
    damage: tuple[str, ...]
    session: dict[str, str]
    camera: dict[str, str]
    codec: dict[str, str]


class ReviewState:
    """What all requests share.

    Args:
        access: Who is let in.
        library: What there is.
        idle_s: Keys are forgotten after so long without a request.
    """

    def __init__(self, access: Access, library: Library, idle_s: float) -> None:
        self.access = access
        self.library = library
        self.vault = Vault(idle_s)
        self.attempts = Attempts()


def review_application(state: ReviewState) -> Starlette:
    """The ASGI application."""
    served = _Served(state)
    one = "/recordings/{recording}"
    routes = [
        Route(f"/{LAUNCH}", served.launch),
        Route("/", served.page),
        Route("/static/{name}", served.asset),
        Route("/library", served.library),
        Route(f"{one}/unlock", served.unlock, methods=["POST"]),
        Route(f"{one}/lock", served.lock, methods=["POST"]),
        Route(f"{one}/leave", served.leave, methods=["POST"]),
        Route(f"{one}/active", served.active, methods=["POST"]),
        Route(f"{one}/still", served.still, methods=["POST"]),
        Route(f"{one}/clip", served.clip, methods=["POST"]),
        Route(f"{one}/manifest", served.manifest),
        Route(f"{one}/playlist.m3u8", served.playlist),
        Route(f"{one}/init/{{part}}", served.init_segment),
        Route(f"{one}/media/{{part}}/{{number}}", served.media),
        Route(f"{one}/frames/{{part}}/{{number}}", served.frames),
        Route(f"{one}/timeline", served.timeline),
        Route(f"{one}/verdict", served.verdict),
    ]
    return Starlette(
        routes=[Mount(f"/{state.access.folder}", routes=routes)],
        middleware=[Middleware(Guard, access=state.access)],
        exception_handlers={SealrecError: failed},
        lifespan=served.lifespan,
    )


class _Served:
    def __init__(self, state: ReviewState) -> None:
        self._state = state
        self._assets = _load_assets()

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Forget keys that nobody uses, and all of them at the end."""
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
            await run_in_threadpool(self._state.vault.forget_all)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            await run_in_threadpool(self._state.vault.forget_idle)

    # --- the page -----------------------------------------------------------------------------

    def launch(self, request: Request) -> Response:
        """Exchange the launch token for the cookie."""
        access = self._state.access
        cookie = access.exchange(request.query_params.get("token", ""))
        if cookie is None:
            if access.admits(request.headers.getlist("cookie")):
                return HTMLResponse(_LAUNCHED)
            return PlainTextResponse("This link was used already, or is not the right one.\n", 403)
        # Not a redirect: a strict cookie is not sent along with one that began elsewhere.
        return HTMLResponse(_LAUNCHED, headers={"Set-Cookie": cookie})

    def page(self, _request: Request) -> Response:
        """The one page."""
        return self._assets["index.html"]

    def asset(self, request: Request) -> Response:
        """A script, a style or the icon."""
        found = self._assets.get(request.path_params["name"])
        return found or PlainTextResponse("Nothing here.\n", 404)

    def library(self, _request: Request) -> Response:
        """The list of recordings."""
        state = self._state
        listed = state.library.recordings()
        opened = [row.id for row in listed if state.vault.is_open(row.id)]
        return answer(ListView(state.library.title, state.vault.idle_s, listed, opened))

    # --- one recording: opening and closing ---------------------------------------------------

    async def unlock(self, request: Request) -> Response:
        """Open a recording with a key."""
        key = await body_of(request, Key)
        recording = request.path_params["recording"]
        return await run_in_threadpool(self._unlock, recording, key)

    def _unlock(self, recording: str, key: Key) -> Response:
        state = self._state
        base = state.library.path(recording)
        with state.attempts.one():
            unlocked = Unlocked(base, _secret_of(key), state.library.sessions)
        state.vault.put(recording, unlocked)
        return self._manifest(unlocked)

    def lock(self, request: Request) -> Response:
        """Forget a recording's key now."""
        self._state.vault.forget(request.path_params["recording"])
        return Response(status_code=204)

    def leave(self, request: Request) -> Response:
        """The page that showed it is gone."""
        self._state.vault.leave(request.path_params["recording"])
        return Response(status_code=204)

    def active(self, request: Request) -> Response:
        """Somebody is at the page."""
        self._unlocked(request)
        return Response(status_code=204)

    def _unlocked(self, request: Request, *, active: bool = True) -> Unlocked:
        return self._state.vault.use(request.path_params["recording"], active=active)

    # --- one recording: what is in it ---------------------------------------------------------

    def manifest(self, request: Request) -> Response:
        """What the player needs."""
        return self._manifest(self._unlocked(request))

    def _manifest(self, unlocked: Unlocked) -> Response:
        fragments, session = unlocked.fragments, unlocked.fragments.session
        return answer(
            Manifest(
                name=self._state.library.name(unlocked.base),
                end_pts=fragments.end_pts,
                parts=fragments.parts(),
                states=fragments.states,
                damage=unlocked.damage,
                session={} if session is None else session.session,
                camera={} if session is None else session.camera,
                codec={} if session is None else session.codec,
            )
        )

    def playlist(self, request: Request) -> Response:
        """For HLS."""
        fragments = self._unlocked(request).fragments
        text = hls_playlist(fragments.parts(), fragments.end_pts)
        return Response(text, media_type="application/vnd.apple.mpegurl")

    def init_segment(self, request: Request) -> Response:
        """The beginning of a part."""
        part = number_of(request, "part")
        found = self._unlocked(request).fragments.init_segment(part)
        return Response(found, media_type="video/mp4")

    def media(self, request: Request) -> Response:
        """One fragment."""
        part, number = number_of(request, "part"), number_of(request, "number")
        found = self._unlocked(request).fragments.media(part, number)
        return Response(found, media_type="video/mp4")

    def frames(self, request: Request) -> Response:
        """The frame table of one fragment."""
        part, number = number_of(request, "part"), number_of(request, "number")
        return answer(self._unlocked(request).fragments.frames(part, number))

    async def still(self, request: Request) -> Response:
        """Put on record that the browser is about to save a picture; an error forbids it."""
        wanted = await body_of(request, Still)
        unlocked = self._unlocked(request)
        sessions = self._state.library.sessions
        if sessions is not None:
            at_s = wanted.pts / TIMESCALE_HZ
            to = f"browser: still of frame {wanted.frame_id} at {at_s:.3f} s"
            await run_in_threadpool(sessions.exported, unlocked.base, to)
        return Response(status_code=204)

    async def clip(self, request: Request) -> Response:
        """Write a stretch as a plain MP4 beside the recording, once that is on record."""
        wanted = await body_of(request, ClipAsked)
        return await run_in_threadpool(self._clip, self._unlocked(request), wanted)

    def _clip(self, unlocked: Unlocked, wanted: ClipAsked) -> Response:
        base, sessions = unlocked.base, self._state.library.sessions
        ends = "-".join(str(pts * 1000 // TIMESCALE_HZ) for pts in (wanted.from_pts, wanted.to_pts))
        out = base.with_name(f"{base.name.partition('.')[0]}.clip-{ends}ms.mp4")
        if sessions is not None:
            sessions.exported(base, str(out))
        report = export(
            base,
            out,
            unlocked.key,
            salvage=bool(unlocked.damage),
            clip=Clip(wanted.from_pts, wanted.to_pts),
        )
        return answer(ClipSaved(str(out), report.frames, report.size_bytes))

    def timeline(self, request: Request) -> Response:
        """What happened when, as far as it is known."""
        return answer(self._unlocked(request, active=False).timeline.view())

    def verdict(self, request: Request) -> Response:
        """Whether it is intact, as far as it is known."""
        return answer(self._unlocked(request, active=False).verification.verdict())


def _secret_of(key: Key) -> Secret:
    """What was typed or chosen in the page.

    Raises:
        KeyFileError: it is no such key.
    """
    if key.kind == "password":
        return PasswordSecret(checked_password(key.value, "The password"))
    data = key.value.encode(errors="replace")
    if key.kind == "key_file":
        return KeyFileSecret(key_of_line(data.partition(b"\n")[0].strip(), "This"))
    return PrivateKeySecret(private_key_of_pem(data, "This"))


def _load_assets() -> dict[str, Response]:
    found = {}
    for entry in files("engine.review").joinpath("static").iterdir():
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            found[entry.name] = Response(entry.read_bytes(), media_type=kind)
    return found
