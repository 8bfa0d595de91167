"""What a frame source is, and how one is opened from its address.

A source delivers frames, ids and times; it keeps no account. Epochs, gaps between ids and every
count of the ledger live in the sink (workers/capture.py), once for all sources. This module imports
no picture library and no camera SDK: `open_source` loads the one module that the address names.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ipc.camera_control import CameraChanges, CameraState
from ipc.errors import ConfigError
from ipc.frame import PixelFormat

__all__ = [
    "AdjustableSource",
    "FrameSink",
    "Pixels",
    "Source",
    "SourceInfo",
    "SourceSpec",
    "SourceStatistics",
    "TriggeredSource",
    "frame_buffers",
    "open_source",
    "refuse_odd_width",
    "wait_until",
]

Pixels = npt.NDArray[np.uint8]

# Event.wait is as coarse as the system's timer (15.6 ms on Windows); time.sleep is not.
STOP_CHECK_S = 0.05
BUFFERED_S = 0.5
BUFFERS = (8, 64)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What was asked for; None leaves the choice to the source.

    Attributes:
        url: ``synthetic[:scene|:chart]``, ``file:PATH`` or ``vimba[:ID]``.
        width: Frame width in pixels.
        height: Frame height in pixels.
        rate_hz: Frames per second.
        pixel_format: Format of the delivered frames.
        frames: The source ends by itself after this many ids, lost ones counted too.
        realtime: True paces frames as a camera would; False delivers as fast as the sink takes.
        trigger: What a camera waits for before each frame; ``off``: it runs freely; None leaves it.
        settings_file: The camera's settings as its SDK saves them, loaded before all of the above.
        restore: The same as text, of an earlier opening; takes the file's place.
        sdk_settings: File with which the camera SDK starts; None: the SDK's own.
        wait_s: How long a camera that is missing or in use may stay so before opening fails.
        changes: Settings to make after all of the above: what was changed while it was open before.
    """

    url: str
    width: int | None = None
    height: int | None = None
    rate_hz: float | None = None
    pixel_format: PixelFormat | None = None
    frames: int | None = None
    realtime: bool = True
    trigger: Literal["off", "software", "hardware"] | None = None
    settings_file: str | None = None
    restore: str = ""
    sdk_settings: str | None = None
    wait_s: float = 0.0
    changes: CameraChanges | None = None

    @property
    def kind(self) -> str:
        """The part of the address before the first colon."""
        return self.url.partition(":")[0]

    @property
    def target(self) -> str:
        """The part of the address behind the first colon, empty if there is none."""
        return self.url.partition(":")[2]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What an opened source will deliver.

    Attributes:
        width_px: Frame width.
        height_px: Frame height.
        pixel_format: Format of every frame.
        rate_hz: Nominal frames per second.
        camera: Model, serial and settings, as read back and as shown in the session table.
        clock: What ``camera_ns`` counts.
        triggered: Frames come when something outside says so.
        silence_limit_s: No frame for longer is a fault; None: nothing says when the next is due.
        settings: All of the camera's settings as text, for ``SourceSpec.restore``.
    """

    width_px: int
    height_px: int
    pixel_format: PixelFormat
    rate_hz: float
    camera: dict[str, str] = field(default_factory=dict)
    clock: str = ""
    triggered: bool = False
    silence_limit_s: float | None = None
    settings: str = ""


@dataclass(frozen=True, slots=True)
class SourceStatistics:
    """Counts of one source since it was opened, for status and tests; the ledger is the sink's.

    Attributes:
        published: Frames handed to the sink.
        refused: Frames the sink did not take.
        missed: Ids the source itself never delivered (a deadline missed, an id the camera skipped).
        incomplete: Frames that arrived damaged.
        max_late_ns: Longest time from a frame's due time to its hand-over; 0 if not paced.
    """

    published: int = 0
    refused: int = 0
    missed: int = 0
    incomplete: int = 0
    max_late_ns: int = 0


class FrameSink(Protocol):
    """Where a source puts its frames. All calls come from one thread at a time."""

    def acquire(
        self,
        frame_id: int,
        camera_ns: int,
        *,
        width_px: int,
        height_px: int,
        pixel_format: PixelFormat,
    ) -> npt.NDArray[Any] | None:
        """Ask for room for one frame.

        Args:
            frame_id: The camera's own id, growing.
            camera_ns: Start of exposure on the camera's clock.
            width_px: Width of this frame.
            height_px: Height of this frame.
            pixel_format: Format of this frame.

        Returns:
            Writable uint8 view of shape ``pixel_format.shape(width_px, height_px)`` to fill, then
            `publish`. None: the frame was refused and is already counted; go on with the next.
        """
        ...

    def publish(self) -> None:
        """Hand over the frame acquired last."""
        ...

    def incomplete(self, frame_id: int, camera_ns: int) -> None:
        """Report a frame that arrived damaged; it is never encoded."""
        ...

    def missed(self, first_id: int, last_id: int) -> None:
        """Report ids that never came and that no later frame will reveal as a gap."""
        ...


class Source(Protocol):
    """A camera or what stands in for one."""

    def open(self) -> SourceInfo:
        """Open the source and read back what it will deliver.

        Raises:
            ConfigError: The wish cannot be met.
            CameraError: There is nothing to open, or it does not answer.
        """
        ...

    def run(self, sink: FrameSink, stop: threading.Event) -> str:
        """Deliver frames until done or stopped.

        Returns:
            Why it ended: ``limit``, ``end``, ``stopped``, ``camera_lost: ...`` (it may come back)
            or ``source_error: ...``.
        """
        ...

    def statistics(self) -> SourceStatistics:
        """Counts so far; may be called from another thread."""
        ...

    def close(self) -> None:
        """Let go of everything. A second call does nothing."""
        ...


@runtime_checkable
class TriggeredSource(Protocol):
    """A source that can be told to take a frame."""

    def trigger(self) -> None:
        """Take one frame; nothing happens where no software trigger is awaited."""
        ...


@runtime_checkable
class AdjustableSource(Protocol):
    """A source whose settings can be read and changed while it delivers, from another thread."""

    @property
    def info(self) -> SourceInfo | None:
        """What it delivers since the last change; None while it is not open."""
        ...

    def camera_state(self) -> CameraState:
        """Read the settings back.

        Raises:
            WrongState: It is not open.
        """
        ...

    def adjust(self, changes: CameraChanges) -> CameraState:
        """Change settings, numbers moved into their ranges; binning is left to the next opening.

        Returns:
            What is set now.

        Raises:
            ConfigError: There is no such setting, or it cannot be changed now.
            WrongState: It is not open.
        """
        ...


def open_source(spec: SourceSpec) -> Source:
    """Return the source that ``spec.url`` names; nothing is opened yet.

    Raises:
        ConfigError: Unknown address, or a size, rate or limit that is not positive.
    """
    _refuse_impossible(spec)
    if spec.kind == "synthetic":
        from workers.sources.synthetic import SyntheticSource

        return SyntheticSource(spec, pattern=spec.target or "scene")
    if spec.kind == "file":
        from workers.sources.file import FileSource

        return FileSource(spec)
    if spec.kind == "vimba":
        from workers.sources.vimba import VimbaSource

        return VimbaSource(spec)
    raise ConfigError(
        f"There is no source {spec.url!r}.",
        hint="Use synthetic, file:PATH or vimba[:ID].",
    )


def frame_buffers(rate_hz: float) -> int:
    """How many frames may wait for the host, as the SDK's buffers do: `BUFFERED_S` of them.

    The thread that takes them waits for the processor like any other; the buffers bridge that.
    """
    return min(max(round(rate_hz * BUFFERED_S), BUFFERS[0]), BUFFERS[1])


def refuse_odd_width(width_px: int, pixel_format: PixelFormat) -> None:
    """Raise ConfigError for yuv422 of an odd width: two pixels share their chroma."""
    if pixel_format is PixelFormat.YUV422 and width_px % 2:
        raise ConfigError(f"yuv422 needs an even width, not {width_px} px.")


def wait_until(due_ns: int, stop: threading.Event) -> bool:
    """Sleep until ``due_ns`` on the clock of ``time.perf_counter_ns``.

    Returns:
        False if ``stop`` was set meanwhile (seen within 50 ms).
    """
    while (left_ns := due_ns - time.perf_counter_ns()) > 0:
        if stop.is_set():
            return False
        time.sleep(min(left_ns / 1e9, STOP_CHECK_S))
    return not stop.is_set()


def _refuse_impossible(spec: SourceSpec) -> None:
    named = {
        "width": spec.width,
        "height": spec.height,
        "rate": spec.rate_hz,
        "number of frames": spec.frames,
    }
    for name, value in named.items():
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"The {name} must be greater than zero, not {value}.")
