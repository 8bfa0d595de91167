"""`Recorder`: the engine with calls that wait, for controllers with threads (PyQt, scripts)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from engine.client.camera import Camera, CameraSettings
from engine.client.core import CALL_S, CLOSE_S, OPEN_S, SERVE, START_S, STILL_S, STOP_S, Core
from engine.client.events import Event
from engine.client.mailbox import EventStream, Mailbox
from engine.client.options import (
    CameraOptions,
    CatalogOptions,
    KeyOptions,
    Options,
    catalog_arguments,
)
from engine.client.values import Result, Source, Started, Status
from ipc.errors import ChannelClosed, SealrecError

if TYPE_CHECKING:
    from engine.preview import LiveView

__all__ = ["Recorder"]

E = TypeVar("E", bound=Event)


class Recorder:
    """One engine at a time and its recordings, one after another.

    Every method may be called from any thread, also from a subscriber. Each that waits has a
    deadline, and raises `EngineTimeout` when it passes, `EngineDied` when the engine dies meanwhile
    and `ChannelClosed` when it is closed. What the engine refuses is raised as its error of
    ``ipc.errors``. A dead engine is not started again unasked: call `open`.

    A recording never waits for this process. If it ends without `close`, even by SIGKILL, the
    engine stops, seals and leaves.

    Args:
        command: Command line of the engine, for where ``sys.executable`` is no Python.
        **catalog: See `CatalogOptions`; without any there is no catalog. A catalog that is missing,
            locked or down costs a recording nothing: `CatalogBehind` says so.

    Raises:
        ConfigError: a URL with a password.
    """

    def __init__(self, command: Sequence[str] = SERVE, **catalog: Unpack[CatalogOptions]) -> None:
        self._core = Core([*command, *catalog_arguments(catalog)])

    def __repr__(self) -> str:
        return f"<Recorder engine={self._core.pid} state={self.status.state}>"

    # --- the engine ---------------------------------------------------------------------------

    def open(self, timeout_s: float = OPEN_S) -> None:
        """Start the engine and wait until it answers; ``with`` does so.

        Raises:
            WrongState: one is running.
            EngineDied: it cannot be started, or ended at once.
        """
        self._core.open(timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Stop and seal a running recording and have the engine leave; harmless when repeated.

        Raises:
            EngineTimeout: the engine, named by its ``pid``, has not left in time. Its pipe is
                closed, so it seals and leaves by itself.
            EngineDied: it had died, and no call has said so yet.
        """
        self._core.close(timeout_s)

    def __enter__(self) -> Recorder:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except SealrecError as late:
            if error is None:
                raise
            error.add_note(str(late))  # what went wrong first is what matters

    @property
    def pid(self) -> int | None:
        """Process id of the engine; None while there is none."""
        return self._core.pid

    @property
    def status(self) -> Status:
        """The newest status; never waits. ``status.is_recording`` is the green light."""
        return self._core.status

    # --- calls --------------------------------------------------------------------------------

    def open_camera(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = START_S,
        **options: Unpack[CameraOptions],
    ) -> Source:
        """Open the camera and let it stream; a `start` then begins with the frames of its call.

        Args:
            config: A map as in PROTOCOL.md, "Configuration"; options go before it.
            timeout_s: For the camera to be opened.
            **options: See `CameraOptions`; ``pre_roll_s`` is the most that a recording may keep of
                the time before its start.

        Returns:
            What it delivers.

        Raises:
            ConfigError, CameraError, MemoryRefused: refused.
            WrongState: one is open, or a recording has opened its own.
        """
        return self._core.open_camera(config, options).result(timeout_s)

    def close_camera(self, timeout_s: float = STOP_S) -> None:
        """Stop and seal what is being recorded, and close the camera; harmless when repeated."""
        self._core.close_camera().result(timeout_s)

    def start(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = START_S,
        **options: Unpack[Options],
    ) -> Started:
        """Start a recording; returns when its file is open and frames are recorded.

        Args:
            config: A map as in PROTOCOL.md, "Configuration"; options go before it.
            timeout_s: For the camera, the encoder and the file to be opened.
            **options: See `Options`. A password travels over the engine's pipe and is not kept.

        Raises:
            ConfigError, KeyFileError, CameraError, EncoderError, DiskError, MemoryRefused: refused.
            WrongState: a recording is running, and goes on.
            EngineTimeout: it may begin yet.
        """
        return self._core.start(config, options).result(timeout_s)

    def stop(self, timeout_s: float = STOP_S) -> Result:
        """Stop and seal; also the result of a recording that ended by itself just before.

        Raises:
            WrongState: nothing was recorded.
            EngineTimeout: it goes on sealing; a second call gives the same result.
        """
        return self._core.stop().result(timeout_s)

    def pause(self, timeout_s: float = CALL_S) -> int:
        """Keep no frames until `resume`; each is named as paused, and the time passes in the file.

        Returns:
            Since when, on ``time.perf_counter_ns()``.

        Raises:
            WrongState: nothing is being recorded, or it is paused already.
        """
        return self._core.pause(paused=True).result(timeout_s)

    def resume(self, timeout_s: float = CALL_S) -> int:
        """Keep frames again; see `pause`."""
        return self._core.pause(paused=False).result(timeout_s)

    def mark(self, kind: str, text: str = "", timeout_s: float = CALL_S) -> int:
        """Write something that happened into the recording, at the time of this call.

        Args:
            kind: A short word, such as ``laser_on``.
            text: For a person.
            timeout_s: For the engine's answer; the mark is durable with its fragment.

        Returns:
            Its time, on ``time.perf_counter_ns()``.

        Raises:
            WrongState: nothing is being recorded.
        """
        return self._core.mark(kind, text).result(timeout_s)

    def trigger(self, timeout_s: float = CALL_S) -> None:
        """Let a camera that waits for software triggers take one frame.

        Raises:
            WrongState: none waits.
        """
        self._core.trigger().result(timeout_s)

    def get_status(self, timeout_s: float = CALL_S) -> Status:
        """Ask the engine for the status of now."""
        return self._core.get_status().result(timeout_s)

    def camera(self, timeout_s: float = CALL_S) -> Camera:
        """Ask for the settings of the open camera, as read back, and their ranges.

        Raises:
            WrongState: no camera is open, or it is a file.
            CameraError: it went away.
        """
        return self._core.camera().result(timeout_s)

    def set_camera(
        self, *, timeout_s: float = START_S, **changes: Unpack[CameraSettings]
    ) -> Camera:
        """Change settings of the open camera, also while it is recorded.

        Args:
            timeout_s: Another binning opens the camera again, which takes its time.
            **changes: See `CameraSettings`. Numbers are moved into the camera's ranges.

        Returns:
            What is set now.

        Raises:
            ConfigError: the camera has no such setting.
            WrongState: no camera is open; or another binning while it is recorded.
            CameraError: it went away.
        """
        return self._core.set_camera(changes).result(timeout_s)

    def save_still(
        self,
        path: str | os.PathLike[str],
        timeout_s: float = STILL_S,
        **options: Unpack[KeyOptions],
    ) -> Path:
        """Seal the newest frame, without loss, as a recording of one frame; also while recording.

        Args:
            path: As ``x.mp4.enc``; a taken name makes it the next free one.
            timeout_s: The first of a camera takes about a second longer.
            **options: Keys as of `start`, and ``session``.

        Returns:
            Where it is, once it is durable.

        Raises:
            ConfigError, KeyFileError, DiskError: refused.
            WrongState: no camera is open, or it has delivered nothing yet.
        """
        return self._core.save_still(Path(path), options).result(timeout_s)

    def live_view(self) -> LiveView:
        """The camera's picture at any rate; close it in the end. Needs numpy and OpenCV.

        It follows the engine's cameras as they are opened and closed, and costs a recording
        nothing. Each is for one thread; there may be several.
        """
        return self._core.live_view()

    # --- waiting ------------------------------------------------------------------------------

    def wait_status(self, condition: Callable[[Status], bool], timeout_s: float) -> Status:
        """Wait for a status that fulfils a condition; the newest one may be it.

        Args:
            condition: Called on the client's reading thread: quick, and without waiting.
            timeout_s: Deadline.
        """
        return self._core.when_status(condition, "reach that status").result(timeout_s)

    def wait_recording(self, timeout_s: float) -> Status:
        """Wait for the green light: frames of the recording just started become durable.

        Raises:
            EndedEarly: it ended before.
        """
        wanted = self._core.when_of_recording(lambda s: s.is_recording, "become durable")
        return wanted.result(timeout_s)

    def wait_written(self, frames: int, timeout_s: float) -> Status:
        """Wait until so many frames of the recording are durable; it may be over by then.

        Raises:
            EndedEarly: it ended with less.
        """
        return self._core.when_written(frames).result(timeout_s)

    def wait_stopped(self, timeout_s: float) -> Result:
        """Wait for the end of the newest recording, by its limit or for another reason.

        Raises:
            WrongState: none was begun.
        """
        return self._core.when_stopped().result(timeout_s)

    def wait_event(self, kind: type[E], timeout_s: float) -> E:
        """Wait for the next event of a type; what came before does not count."""
        connection = self._core.connected()
        with self.events(kind) as stream:
            try:
                event = stream.read(timeout_s)
            except ChannelClosed:
                raise connection.died() from None
        assert isinstance(event, kind)
        return event

    # --- events -------------------------------------------------------------------------------

    def subscribe(
        self, callback: Callable[[Any], object], *kinds: type[Event]
    ) -> Callable[[], None]:
        """Call back for every event, or for those of some types; also of engines started later.

        Callbacks come one after another on a thread of the client's own. One that raises is logged
        and called again for the next event; one that takes long holds up other callbacks only.

        Returns:
            What ends the subscription.
        """
        return self._core.delivery.subscribe(callback, kinds)

    def events(self, *kinds: type[Event]) -> EventStream:
        """Events from now on, of all or of some types, as an iterator that ends with the engine.

        Raises:
            EngineDied, WrongState: there is no engine.
        """
        mailbox = Mailbox(kinds)
        self._core.follow(mailbox)
        return EventStream(mailbox)
