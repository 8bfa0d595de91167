"""The test's side of the simulated cameras: sets them up, commands faults, reads the ledger.

Not a test, and no camera itself: those are producer.c and the files beside it (README.md).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.gentl.build import write_settings

__all__ = ["CameraSetup", "LedgerRow", "SimulatedCameras"]

POLL_S = 0.005

Options = dict[str, object]


@dataclass(frozen=True, slots=True)
class CameraSetup:
    """Who a simulated camera is.

    Attributes:
        camera_id: As VmbC lists it.
        serial: Serial number.
        model: ``158c`` (1456x1088) or ``230c`` (1920x1200).
        first_id: Frame id after each acquisition start.
        drift_ppm: How much faster than the host's its clock runs.
        uptime_s: Age of its clock when the script is written.
    """

    camera_id: str
    serial: str
    model: str = "158c"
    first_id: int = 0
    drift_ppm: float = 0.0
    uptime_s: float = 1000.0

    def line(self, index: int) -> str:
        """The script's line for this camera."""
        power_on = time.perf_counter_ns() - int(self.uptime_s * 1e9)
        return (
            f"camera {index} id={self.camera_id} serial={self.serial} model={self.model} "
            f"first_id={self.first_id} drift_ppm={self.drift_ppm} power_on={power_on}\n"
        )


TWO_CAMERAS = (
    CameraSetup("DEV_SIM000", "SIM158000", "158c"),
    CameraSetup("DEV_SIM001", "SIM230001", "230c", uptime_s=1777.0),
)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One row of what the producer did.

    Attributes:
        host_ns: ``time.perf_counter_ns()`` when it was written.
        pid: The process that had the library loaded.
        camera: Index; -1 for the script.
        what: Of frames ``delivered``, ``incomplete``, ``skipped``, ``no_buffer`` (one of these for
            each id) and ``discarded`` (a delivered one that its user never took); of events
            ``open``, ``open_refused``, ``start``, ``stop``, ``close``, ``unplug``, ``replug``,
            ``busy``, ``free``, ``fault``, ``bad_command``.
        acquisition: Number of the acquisition within the process, 1 first; None for events.
        frame_id: None for events.
        timestamp_ns: Start of exposure on the camera's clock; None for events.
        detail: For the person reading.
    """

    host_ns: int
    pid: int
    camera: int
    what: str
    acquisition: int | None
    frame_id: int | None
    timestamp_ns: int | None
    detail: str


class SimulatedCameras:
    """Cameras that the real VmbC finds in every process that runs with ``environment``.

    Faults may be commanded from any process at any time, also before the library is loaded.
    Moments: ``at_frame`` is the first frame with that id or a later one, once; otherwise the fault
    begins now, or ``after_s`` from now. Spans last ``for_s``, or until ``end``.

    Args:
        directory: For script, ledger and settings; must exist. A second object on the same
            directory, in another process, commands the same cameras.
        producer: The .cti of ``build_producer``.
        cameras: Up to 8.
        vendor: Name of the transport layer's maker. VmbC loads "Allied Vision" with no settings
            file, from GENICAM_GENTL64_PATH alone, but then looks for cameras every 2 s only.
    """

    def __init__(
        self,
        directory: Path,
        producer: Path,
        *,
        cameras: Sequence[CameraSetup] = TWO_CAMERAS,
        vendor: str = "",
    ) -> None:
        self.directory = directory
        self.script_path = directory / "script.txt"
        self.ledger_path = directory / "ledger.csv"
        self.producer = producer
        self.settings_path = directory / "VmbC.xml"
        if not self.script_path.exists():
            lines = [setup.line(index) for index, setup in enumerate(cameras)]
            self.script_path.write_text((f"vendor {vendor}\n" if vendor else "") + "".join(lines))
            write_settings(self.settings_path, producer=producer)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment before it starts vmbpy.

        It must also call ``VmbSystem.set_path_configuration(str(settings_path))``, unless the
        vendor is Allied Vision.
        """
        return {
            "SEALREC_SIM_SCRIPT": str(self.script_path),
            "SEALREC_SIM_LEDGER": str(self.ledger_path),
            "GENICAM_GENTL64_PATH": str(self.producer.parent),
        }

    # --- faults of frames ---

    def skip(
        self,
        camera: int,
        *,
        count: int = 1,
        for_s: float | None = None,
        at_frame: int | None = None,
    ) -> None:
        """Lose frames before the host sees them: their ids never come."""
        span = {"for": for_s} if for_s is not None else {"count": count}
        self.command("skip", camera, frame=at_frame, **span)

    def tear(
        self, camera: int, *, count: int = 1, filled: float = 0.5, at_frame: int | None = None
    ) -> None:
        """Deliver incomplete frames: only the first part of the buffer is written."""
        self.command("incomplete", camera, frame=at_frame, count=count, filled=filled)

    def restart_ids(self, camera: int, *, next_id: int = 0, at_frame: int | None = None) -> None:
        """Number the next frame ``next_id`` and count on from there."""
        self.command("ids", camera, frame=at_frame, next=next_id)

    def pulse(self, camera: int, *, count: int = 1) -> None:
        """Trigger on Line0; kept until the camera waits for one."""
        self.command("trigger", camera, count=count)

    # --- faults that last ---

    def stall(
        self, camera: int, *, for_s: float, at_frame: int | None = None, after_s: float = 0
    ) -> None:
        """Expose nothing for a while; the ids go on without a gap, the times with one."""
        self._span("stall", camera, at_frame, after_s, for_s)

    def hold(
        self, camera: int, *, for_s: float, at_frame: int | None = None, after_s: float = 0
    ) -> None:
        """Deliver late: frames are exposed and buffered on time, and handed out in one burst."""
        self._span("hold", camera, at_frame, after_s, for_s)

    def remove(
        self,
        camera: int,
        *,
        for_s: float | None = None,
        at_frame: int | None = None,
        after_s: float = 0,
    ) -> None:
        """Unplug; after ``for_s`` it is back with default settings and its clock near zero."""
        self._span("remove", camera, at_frame, after_s, for_s)

    def occupy(self, camera: int, *, for_s: float | None = None, after_s: float = 0) -> None:
        """Refuse to be opened, as when another program has the camera."""
        self._span("busy", camera, None, after_s, for_s)

    def hang(
        self,
        camera: int,
        *,
        for_s: float | None = None,
        at_frame: int | None = None,
        after_s: float = 0,
    ) -> None:
        """Let no feature access return, nor stopping; VmbC then requeues no buffer either."""
        self._span("hang", camera, at_frame, after_s, for_s)

    def restart_clock(
        self, camera: int, *, clock_ns: int = 0, at_frame: int | None = None, after_s: float = 0
    ) -> None:
        """Set the camera's clock, with ``at_frame`` to exactly this at that frame's exposure."""
        self._moment("clock", camera, at_frame, after_s, {"ns": clock_ns})

    def heat(self, camera: int, celsius: float, *, at_frame: int | None = None) -> None:
        """Set DeviceTemperature."""
        self._moment("temperature", camera, at_frame, 0, {"celsius": celsius})

    def end(self, camera: int, what: str) -> None:
        """End every running span of ``what``: stall, hold, remove, busy or hang."""
        self._moment("end", camera, None, 0, {"what": what})

    def command(self, verb: str, camera: int, **options: object) -> None:
        """Append one line to the script; options that are None are left out."""
        given = "".join(f" {key}={value}" for key, value in options.items() if value is not None)
        line = f"{verb} {camera}{given}\n".encode()
        script = os.open(self.script_path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(script, line)
        finally:
            os.close(script)

    def _moment(
        self,
        verb: str,
        camera: int,
        at_frame: int | None,
        after_s: float,
        options: dict[str, object],
    ) -> None:
        at_ns = time.perf_counter_ns() + int(after_s * 1e9) if at_frame is None else None
        self.command(verb, camera, frame=at_frame, at=at_ns, **options)

    def _span(
        self, verb: str, camera: int, at_frame: int | None, after_s: float, for_s: float | None
    ) -> None:
        self._moment(verb, camera, at_frame, after_s, {"for": for_s})

    # --- what the producer did ---

    def ledger(self, *what: str, camera: int | None = None) -> list[LedgerRow]:
        """Rows so far, oldest first: all, or those of these kinds and this camera."""
        if not self.ledger_path.exists():
            return []
        lines = self.ledger_path.read_text().split("\n")[:-1]  # a row still being written
        rows = [_row(line) for line in lines]
        return [
            row
            for row in rows
            if (not what or row.what in what) and (camera is None or row.camera == camera)
        ]

    def frame_ids(self, *what: str, camera: int = 0) -> list[int]:
        """Ids of the frames with these fates, by default the delivered ones."""
        rows = self.ledger(*(what or ("delivered",)), camera=camera)
        return [row.frame_id for row in rows if row.frame_id is not None]

    def wait_for(
        self, *what: str, camera: int | None = None, count: int = 1, timeout_s: float = 20
    ) -> LedgerRow:
        """Wait until ``count`` such rows exist and return the last of them.

        Raises:
            TimeoutError: They did not come.
        """
        rows: list[LedgerRow] = []

        def enough() -> bool:
            rows[:] = self.ledger(*what, camera=camera)
            return len(rows) >= count

        wait_until(enough, timeout_s=timeout_s, what=f"{count} ledger rows {what}")
        return rows[count - 1]


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 20, what: str = "") -> None:
    """Wait for a condition that nothing announces.

    Raises:
        TimeoutError: It did not become true; ``what`` says what was awaited.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what or condition}")
        time.sleep(POLL_S)


def _row(line: str) -> LedgerRow:
    host_ns, pid, camera, what, acquisition, frame_id, timestamp_ns, detail = line.split(",", 7)
    return LedgerRow(
        int(host_ns),
        int(pid),
        int(camera),
        what,
        _number(acquisition),
        _number(frame_id),
        _number(timestamp_ns),
        detail,
    )


def _number(text: str) -> int | None:
    return int(text) if text else None
