"""`AsyncRecorder`: the same calls for asyncio, over the same core.

Waiting costs no thread: the reading thread wakes the loop. Only `open` and `close`, which start and
end a process, run in a thread of the loop's executor.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from engine.client.camera import Camera, CameraSettings
from engine.client.core import CALL_S, CLOSE_S, OPEN_S, SERVE, START_S, STILL_S, STOP_S, Core
from engine.client.events import Event
from engine.client.mailbox import Mailbox
from engine.client.options import (
    CameraOptions,
    CatalogOptions,
    KeyOptions,
    Options,
    catalog_arguments,
)
from engine.client.pending import Pending
from engine.client.values import Result, Source, Started, Status
from ipc.errors import ChannelClosed, EngineTimeout, SealrecError

if TYPE_CHECKING:
    from engine.preview import LiveView

__all__ = ["AsyncEventStream", "AsyncRecorder"]

T = TypeVar("T")
E = TypeVar("E", bound=Event)


async def _outcome(pending: Pending[T], timeout_s: float) -> T:
    """Wait for an outcome as `Pending.result` does."""
    alarm = _Alarm()
    pending.when_done(alarm.ring)
    try:
        async with asyncio.timeout(timeout_s):
            await alarm.wait()
    except TimeoutError:
        pending.fail(pending.overdue(timeout_s))
    except asyncio.CancelledError:
        pending.fail(ChannelClosed("Nobody waits for it any more."))
        raise
    return pending.outcome()


class _Alarm:
    """An event of the running loop that another thread sets."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits; from any thread. A loop that is closed has nobody who does."""
        if not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._rung.set)
            except RuntimeError:
                return  # it was closed in this moment

    async def wait(self) -> None:
        """Wait to be woken."""
        await self._rung.wait()
        self._rung.clear()


class AsyncEventStream:
    """Events of one engine as an asynchronous iterator that ends with the engine.

    Close it when it is not read any more.
    """

    def __init__(self, kinds: tuple[type[Event], ...]) -> None:
        self._alarm = _Alarm()
        self.mailbox = Mailbox(kinds, self._alarm.ring)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while (event := self.mailbox.take()) is None:
            if self.mailbox.ended:
                raise StopAsyncIteration
            await self._alarm.wait()
        return event

    async def read(self, timeout_s: float) -> Event:
        """Wait for the next event.

        Raises:
            EngineTimeout: none came in time.
            ChannelClosed: none will come: the engine is gone, or the stream was closed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await anext(self)
        except TimeoutError:
            raise EngineTimeout(f"No such event came within {timeout_s:g} s.") from None
        except StopAsyncIteration:
            raise ChannelClosed("No more events will come.", hint="Its engine is gone.") from None

    def close(self) -> None:
        """Take no more events."""
        self.mailbox.close()


class AsyncRecorder:
    """`Recorder` for asyncio: the same methods, deadlines and errors; see there.

    Cancelling a call leaves what it asked for to the engine, and nobody waits for it.

    Args:
        command: Command line of the engine, for where ``sys.executable`` is no Python.
        **catalog: See `CatalogOptions`.
    """

    def __init__(self, command: Sequence[str] = SERVE, **catalog: Unpack[CatalogOptions]) -> None:
        self._core = Core([*command, *catalog_arguments(catalog)])

    def __repr__(self) -> str:
        return f"<AsyncRecorder engine={self._core.pid} state={self.status.state}>"

    async def open(self, timeout_s: float = OPEN_S) -> None:
        """Start the engine and wait until it answers; ``async with`` does so."""
        await asyncio.to_thread(self._core.open, timeout_s)

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Stop and seal a running recording and have the engine leave; harmless when repeated."""
        await asyncio.to_thread(self._core.close, timeout_s)

    async def __aenter__(self) -> AsyncRecorder:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except SealrecError as late:
            if error is None:
                raise
            error.add_note(str(late))

    @property
    def pid(self) -> int | None:
        """Process id of the engine; None while there is none."""
        return self._core.pid

    @property
    def status(self) -> Status:
        """The newest status; never waits."""
        return self._core.status

    async def open_camera(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = START_S,
        **options: Unpack[CameraOptions],
    ) -> Source:
        """Open the camera and let it stream."""
        return await _outcome(self._core.open_camera(config, options), timeout_s)

    async def close_camera(self, timeout_s: float = STOP_S) -> None:
        """Stop and seal what is being recorded, and close the camera."""
        await _outcome(self._core.close_camera(), timeout_s)

    async def start(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = START_S,
        **options: Unpack[Options],
    ) -> Started:
        """Start a recording."""
        return await _outcome(self._core.start(config, options), timeout_s)

    async def stop(self, timeout_s: float = STOP_S) -> Result:
        """Stop and seal."""
        return await _outcome(self._core.stop(), timeout_s)

    async def pause(self, timeout_s: float = CALL_S) -> int:
        """Keep no frames until `resume`."""
        return await _outcome(self._core.pause(paused=True), timeout_s)

    async def resume(self, timeout_s: float = CALL_S) -> int:
        """Keep frames again."""
        return await _outcome(self._core.pause(paused=False), timeout_s)

    async def mark(self, kind: str, text: str = "", timeout_s: float = CALL_S) -> int:
        """Write something that happened into the recording."""
        return await _outcome(self._core.mark(kind, text), timeout_s)

    async def trigger(self, timeout_s: float = CALL_S) -> None:
        """Let a camera that waits for software triggers take one frame."""
        await _outcome(self._core.trigger(), timeout_s)

    async def get_status(self, timeout_s: float = CALL_S) -> Status:
        """Ask the engine for the status of now."""
        return await _outcome(self._core.get_status(), timeout_s)

    async def camera(self, timeout_s: float = CALL_S) -> Camera:
        """Ask for the settings of the open camera."""
        return await _outcome(self._core.camera(), timeout_s)

    async def set_camera(
        self, *, timeout_s: float = START_S, **changes: Unpack[CameraSettings]
    ) -> Camera:
        """Change settings of the open camera."""
        return await _outcome(self._core.set_camera(changes), timeout_s)

    async def save_still(
        self,
        path: str | os.PathLike[str],
        timeout_s: float = STILL_S,
        **options: Unpack[KeyOptions],
    ) -> Path:
        """Seal the newest frame as a recording of its own."""
        return await _outcome(self._core.save_still(Path(path), options), timeout_s)

    def live_view(self) -> LiveView:
        """The camera's picture; its `wait_frame` waits, so give it a thread."""
        return self._core.live_view()

    async def wait_status(self, condition: Callable[[Status], bool], timeout_s: float) -> Status:
        """Wait for a status that fulfils a condition."""
        return await _outcome(self._core.when_status(condition, "reach that status"), timeout_s)

    async def wait_recording(self, timeout_s: float) -> Status:
        """Wait for the green light of the recording just started."""
        wanted = self._core.when_of_recording(lambda s: s.is_recording, "become durable")
        return await _outcome(wanted, timeout_s)

    async def wait_written(self, frames: int, timeout_s: float) -> Status:
        """Wait until so many frames of the recording are durable; it may be over by then."""
        return await _outcome(self._core.when_written(frames), timeout_s)

    async def wait_stopped(self, timeout_s: float) -> Result:
        """Wait for the end of the newest recording."""
        return await _outcome(self._core.when_stopped(), timeout_s)

    async def wait_event(self, kind: type[E], timeout_s: float) -> E:
        """Wait for the next event of a type."""
        connection = self._core.connected()
        stream = self.events(kind)
        try:
            event = await stream.read(timeout_s)
        except ChannelClosed:
            raise connection.died() from None
        finally:
            stream.close()
        assert isinstance(event, kind)
        return event

    def subscribe(
        self, callback: Callable[[Any], object], *kinds: type[Event]
    ) -> Callable[[], None]:
        """Call back for every event, on a thread of the client's own and not in the loop."""
        return self._core.delivery.subscribe(callback, kinds)

    def events(self, *kinds: type[Event]) -> AsyncEventStream:
        """Events from now on, of all or of some types, as an asynchronous iterator."""
        stream = AsyncEventStream(kinds)
        self._core.follow(stream.mailbox)
        return stream
