"""What both faces of the client share: the engine of the moment, and requests as `Pending`.

Nothing here waits but `open` and `close`; `recorder` waits with threads, `asynchronous` with
asyncio.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.client.delivery import Delivery
from engine.client.mailbox import Mailbox
from engine.client.options import configuration
from engine.client.pending import Pending
from engine.client.values import Result, Started, Status
from ipc.errors import EndedEarly, WrongState

if TYPE_CHECKING:
    from engine.client.connection import Connection

__all__ = ["CALL_S", "CLOSE_S", "OPEN_S", "SERVE", "START_S", "STOP_S", "Core"]

# -P: a controller may have packages of the same names beside it.
SERVE = (sys.executable, "-P", "-m", "engine", "serve")
OPEN_S = 30.0
START_S = 90.0  # the engine itself gives up after 60
STOP_S = 120.0
CALL_S = 5.0
CLOSE_S = 30.0
LAST_EVENTS_S = 2.0


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

    # --- conditions ---------------------------------------------------------------------------

    def when_status(self, condition: Callable[[Status], bool], what: str) -> Pending[Status]:
        """The newest status, once a condition holds for it."""
        connection = self.connected()

        def found() -> Status | None:
            status = connection.heard
            return status if status is not None and condition(status) else None

        return connection.when(found, Pending(what))

    def when_of_recording(self, condition: Callable[[Status], bool], what: str) -> Pending[Status]:
        """A status of the newest recording that fulfils a condition; fails once that is over."""
        connection = self.connected()

        def found() -> Status | None:
            started, status = connection.started, connection.heard
            if started is None or status is None:
                return None
            if status.recording_id == started.recording_id and condition(status):
                return status
            if connection.stopped is not None:
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
