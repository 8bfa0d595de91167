"""What both faces of the client share: the engine of the moment, and requests as `Pending`.

Nothing here waits but `open` and `close`; `recorder` waits with threads, `asynchronous` with
asyncio.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.client.camera import Camera
from engine.client.delivery import Delivery
from engine.client.mailbox import Mailbox
from engine.client.options import configuration
from engine.client.pending import Pending
from engine.client.values import Result, Source, Started, Status
from ipc.errors import EndedEarly, WrongState

if TYPE_CHECKING:
    from engine.client.connection import Connection
    from engine.preview import LiveView

__all__ = [
    "CALL_S",
    "CLOSE_S",
    "OPEN_S",
    "SERVE",
    "START_S",
    "STILL_S",
    "STOP_S",
    "Core",
    "HandedRing",
]

# -P: a controller may have packages of the same names beside it.
SERVE = (sys.executable, "-P", "-m", "engine", "serve")
OPEN_S = 30.0
START_S = 90.0  # the engine itself gives up after 60
STOP_S = 120.0
CALL_S = 5.0
STILL_S = 15.0
CLOSE_S = 30.0
LAST_EVENTS_S = 2.0


@dataclass(frozen=True, slots=True)
class HandedRing:
    """A ring's memory, handed over.

    Attributes:
        serial: Which ring.
        handle: Descriptor (Windows: handle), the receiver's.
    """

    serial: int
    handle: int


class Core:
    """The engine of the moment.

    Args:
        command: Command line that starts it.
    """

    def __init__(self, command: Sequence[str] = SERVE) -> None:
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._delivering = False
        self.delivery = Delivery(self._tick)

    def open(self, timeout_s: float) -> None:
        """Start the engine and wait until it answers.

        Raises:
            WrongState: one is running.
            EngineDied: it cannot be started, or ended at once.
            EngineTimeout: it did not come up in time and was ended.
            UnknownVersion: it is not of this protocol.
        """
        with self._lock:
            if self._connection is not None and not self._connection.gone:
                raise WrongState("The engine is running already.", hint="Close it first.")
            from engine.client.process import EngineProcess

            process = EngineProcess(self._command)
            # The wire's libraries load while the engine loads its own.
            from engine.client.connection import Connection

            if not self._delivering:
                self.delivery.open()
                self._delivering = True
            connection = Connection(process, self.delivery.publish)
            self._connection = connection
        try:
            connection.ready.result(timeout_s)
        except BaseException:
            connection.abandon()
            self.close(0)
            raise

    def close(self, timeout_s: float) -> None:
        """Stop, seal and leave; see `Connection.leave`. A second time it does nothing.

        Raises:
            EngineTimeout: it has not left.
            EngineDied: it had died, and no call has said so yet.
        """
        with self._lock:
            connection, self._connection = self._connection, None
            delivering, self._delivering = self._delivering, False
        try:
            if connection is not None:
                connection.leave(timeout_s)
        finally:
            if delivering:
                self.delivery.close(LAST_EVENTS_S)

    def connected(self) -> Connection:
        """The engine.

        Raises:
            WrongState: there is none.
        """
        connection = self._connection
        if connection is None:
            raise WrongState("No engine is running.", hint="Use `with Recorder()`, or open().")
        return connection

    @property
    def connection(self) -> Connection | None:
        """The newest engine, which may have ended; None without one."""
        return self._connection

    @property
    def pid(self) -> int | None:
        """Process id of the engine; None without one."""
        connection = self._connection
        return None if connection is None or connection.gone else connection.pid

    @property
    def status(self) -> Status:
        """The newest status."""
        connection = self._connection
        return Status() if connection is None else connection.status

    def _tick(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.tell_silence()

    # --- calls --------------------------------------------------------------------------------

    def open_camera(
        self, config: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> Pending[Source]:
        """Ask for the camera to be opened."""
        from ipc.messages import OpenCamera

        pending: Pending[Source] = Pending(
            "open the camera", "It may open yet: look at the status, or close it."
        )
        return self.connected().call(
            lambda call: OpenCamera(call=call, config=configuration(config, options)),
            lambda raw: Source.read(raw["source"]) or Source(),
            pending,
        )

    def close_camera(self) -> Pending[None]:
        """Ask for it to be closed."""
        from ipc.messages import CloseCamera

        pending: Pending[None] = Pending("close the camera", "It goes on doing so.")
        return self.connected().call(lambda call: CloseCamera(call=call), lambda _: None, pending)

    def pause(self, *, paused: bool) -> Pending[int]:
        """Ask for a pause, or for its end."""
        from ipc.messages import Pause, Resume

        pending: Pending[int] = Pending("pause" if paused else "resume")
        kind = Pause if paused else Resume
        return self.connected().call(lambda call: kind(call=call), _host_ns, pending)

    def mark(self, kind: str, text: str) -> Pending[int]:
        """Ask for a mark."""
        from ipc.messages import Mark

        pending: Pending[int] = Pending("take the mark")
        return self.connected().call(
            lambda call: Mark(call=call, kind=kind, text=text), _host_ns, pending
        )

    def trigger(self) -> Pending[None]:
        """Ask for one frame of a camera that waits for triggers."""
        from ipc.messages import Trigger

        pending: Pending[None] = Pending("pass the trigger on")
        return self.connected().call(lambda call: Trigger(call=call), lambda _: None, pending)

    def start(
        self, config: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> Pending[Started]:
        """Ask for a recording."""
        from ipc.messages import StartRecording

        connection = self.connected()
        pending: Pending[Started] = Pending(
            "start recording", "It may begin yet: look at the status, or stop it."
        )
        return connection.call(
            lambda call: StartRecording(call=call, config=configuration(config, options)),
            lambda raw: connection.has_begun(Started.read(raw)),
            pending,
        )

    def stop(self) -> Pending[Result]:
        """Ask for its end."""
        from ipc.messages import StopRecording

        connection = self.connected()
        pending: Pending[Result] = Pending(
            "stop and seal", "It goes on doing so; stop() again gives the same result."
        )
        return connection.call(
            lambda call: StopRecording(call=call),
            lambda raw: connection.has_stopped(Result.read(raw)),
            pending,
        )

    def get_status(self) -> Pending[Status]:
        """Ask for the status of now."""
        from ipc.messages import GetStatus

        pending: Pending[Status] = Pending("tell its status")
        return self.connected().call(lambda call: GetStatus(call=call), Status.read, pending)

    def camera(self) -> Pending[Camera]:
        """Ask for the camera's settings."""
        from ipc.messages import GetCamera

        pending: Pending[Camera] = Pending("tell the camera's settings")
        return self.connected().call(lambda call: GetCamera(call=call), Camera.read, pending)

    def set_camera(self, changes: Mapping[str, Any]) -> Pending[Camera]:
        """Ask for other settings of the camera."""
        from ipc.messages import SetCamera

        pending: Pending[Camera] = Pending("change the camera", "It may do so yet.")
        given = dict(changes)
        return self.connected().call(
            lambda call: SetCamera(call=call, changes=given), Camera.read, pending
        )

    def save_still(self, path: Path, options: Mapping[str, Any]) -> Pending[Path]:
        """Ask for the newest frame as a sealed file."""
        from ipc.messages import SaveStill

        config = configuration(None, {**options, "output": path})
        pending: Pending[Path] = Pending("seal a still", "It may do so yet.")
        return self.connected().call(
            lambda call: SaveStill(call=call, config=config),
            lambda raw: Path(raw["path"]),
            pending,
        )

    def observe(self) -> Pending[HandedRing]:
        """Ask for the ring's memory."""
        from ipc.messages import ObserveRing

        connection, number = self.connected(), 0

        def build(call: int) -> ObserveRing:
            nonlocal number
            number = call
            return ObserveRing(call=call)

        def read(raw: Mapping[str, Any]) -> HandedRing:
            return HandedRing(int(raw["serial"]), connection.take_ring(number, raw))

        return connection.call(build, read, Pending("hand out its frames"))

    def live_view(self) -> LiveView:
        """A view that follows the engine's cameras."""
        # Loads numpy, which whoever wants pictures has.
        from engine.preview import LiveView
        from engine.preview_rings import EngineRings

        return LiveView(EngineRings(self))

    # --- conditions ---------------------------------------------------------------------------

    def when_status(self, condition: Callable[[Status], bool], what: str) -> Pending[Status]:
        """The newest status, once a condition holds for it."""
        connection = self.connected()

        def found() -> Status | None:
            status = connection.heard
            return status if status is not None and condition(status) else None

        return connection.when(found, Pending(what))

    def when_written(self, frames: int) -> Pending[Status]:
        """A status, once so many frames of the newest recording are durable, also by its end."""
        return self.when_of_recording(
            lambda status: status.frames.written >= frames,
            f"write {frames} frames",
            at_the_end=lambda result: result.frames_written >= frames,
        )

    def when_of_recording(
        self,
        condition: Callable[[Status], bool],
        what: str,
        at_the_end: Callable[[Result], bool] = lambda _: False,
    ) -> Pending[Status]:
        """A status of the newest recording that fulfils a condition, or one after its end.

        Fails once the recording is over and ``at_the_end`` does not hold for its result.
        """
        connection = self.connected()

        def found() -> Status | None:
            started, status = connection.started, connection.heard
            if started is None or status is None:
                return None
            if status.recording_id == started.recording_id and condition(status):
                return status
            if connection.stopped is not None:
                if at_the_end(connection.stopped):
                    return status
                problem = connection.stopped.problem
                said = f" {problem.message}" if problem else ""
                raise EndedEarly(f"The recording ended before it did {what}.{said}")
            return None

        return connection.when(found, Pending(what))

    def when_stopped(self) -> Pending[Result]:
        """The balance sheet of the newest recording, once it is over.

        Raises:
            WrongState: none was begun.
        """
        connection = self.connected()
        if connection.started is None and not connection.gone:
            raise WrongState("Nothing was recorded yet.", hint="Start a recording first.")
        return connection.when(lambda: connection.stopped, Pending("end the recording"))

    # --- events -------------------------------------------------------------------------------

    def follow(self, mailbox: Mailbox) -> None:
        """Put the engine's events into a mailbox until it is gone.

        Raises:
            EngineDied, WrongState: there is none.
        """
        self.connected().follow(mailbox)


def _host_ns(raw: Mapping[str, Any]) -> int:
    return int(raw["host_ns"])
