"""An Allied Vision camera through Vimba X, as a source of frames.

    closed -- open --> open -- run --> streaming -- stop, limit --> open
       ^------ close ---'                `-- camera gone --> lost -- close --> closed

The SDK's thread calls the frame handler: one copy into the sink's memory, and the buffer goes
back to the SDK whatever happened. Damaged frames are reported and never copied. Only opening waits
for a camera: one that goes away ends `VimbaSource.run` with ``camera_lost``, and a fresh process is
the safest place to open it again.
"""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ipc.camera_control import CameraChanges, CameraState
from ipc.errors import CameraError, ConfigError, WrongState
from workers.sources.camera_settings import MAX_SETTINGS_BYTES, parse_settings, read_settings
from workers.sources.controls import CameraControls
from workers.sources.delivery import FrameHandler
from workers.sources.genicam import RATE_FEATURES, Features
from workers.sources.source import (
    FrameSink,
    SourceInfo,
    SourceSpec,
    SourceStatistics,
    frame_buffers,
)
from workers.sources.vimba_sdk import Sdk

__all__ = ["CAMERA_LOST", "VimbaSource"]

NS = 1_000_000_000
WATCH_S = 0.1
ASK_EVERY_S = 1.0
# No frame for so long is a fault of a camera that runs freely.
SILENCE_S = 1.0
SILENCE_PERIODS = 5
STOP_S = 2.0  # stop_streaming is known to hang (VimbaPython #44)
DEFAULT_RATE_HZ = 30.0
CAMERA_LOST = "camera_lost"

TICK_FEATURES = ("GevTimestampTickFrequency", "DeviceTimestampFrequency")
SHOWN_FEATURES = (
    "ExposureTime",
    "ExposureAuto",
    "Gain",
    "GainAuto",
    "BalanceWhiteAuto",
    "BinningHorizontal",
    "BinningVertical",
    "TriggerMode",
    "TriggerSource",
    "DeviceTemperature",
)


class VimbaSource:
    """One camera, streaming with its own ids and its own clock.

    Args:
        spec: ``vimba`` takes the first camera, ``vimba:ID`` that one. Settings come from a file or
            an earlier opening first, then size, rate, pixel format and trigger as asked, where the
            camera lets them be written; what it really does is in the SourceInfo. ``realtime``
            means nothing here.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._sdk: Sdk | None = None
        self._stack = ExitStack()
        self._system: Any = None
        self._camera: Any = None
        self._info: SourceInfo | None = None
        self._ticks_hz = NS
        self._handler: FrameHandler | None = None
        self._hung = False
        self._triggers = threading.Lock()
        self._streaming = False
        self._triggers_before = 0

    def open(self) -> SourceInfo:
        """Open the camera, set what was asked for, read back what it does.

        Raises:
            CameraError: vmbpy, a transport layer or the camera is missing, or it is in use.
            ConfigError: The camera does not offer the pixel format or the trigger, or the settings
                are another camera's.
        """
        if self._hung:
            raise CameraError(
                "The camera SDK did not come back from the last stream.",
                hint="Start the capture process again.",
            )
        self.close()
        spec = self._spec
        sdk = self._sdk = Sdk()
        try:
            self._system = sdk.start(self._stack, spec.sdk_settings)
            self._camera = sdk.open_camera(self._system, spec.target, self._stack, spec.wait_s)
            self._info = self._configure(sdk)
        except sdk.errors as error:
            name = spec.target or "the camera"
            self.close()
            raise CameraError(
                f"{name} cannot be set up: {error}",
                hint="Close other programs that use it, or plug it in again.",
            ) from error
        except BaseException:
            self.close()
            raise
        return self._info

    def run(self, sink: FrameSink, stop: threading.Event) -> str:
        """Stream until the stop, the limit or the loss of the camera.

        Returns:
            ``stopped``, ``limit`` or ``camera_lost: ...``.

        Raises:
            WrongState: The source is not open.
            CameraError: A frame cannot be taken at all.
        """
        sdk, info = self._sdk, self._info
        if sdk is None or info is None:
            raise WrongState("The camera is not open.")
        handler = FrameHandler(sink, stop, info, sdk.errors)
        handler.limit, handler.ticks_hz = self._spec.frames, self._ticks_hz
        self._handler = handler
        camera_id = self._camera.get_id()

        def on_change(camera: Any, event: Any) -> None:
            missing = event == sdk.module.CameraEvent.Missing
            if missing and camera is not None and camera.get_id() == camera_id:
                handler.finish(f"{CAMERA_LOST}: {camera_id} is gone")

        self._system.register_camera_change_handler(on_change)
        buffers = frame_buffers(info.rate_hz)
        try:
            self._camera.start_streaming(handler=handler.on_frame, buffer_count=buffers)
            self._fire_early_triggers()
            self._watch(handler, stop)
        except sdk.errors as error:
            handler.finish(f"{CAMERA_LOST}: {camera_id} does not stream: {error}")
        finally:
            handler.end()
            self._streaming = False
            self._system.unregister_camera_change_handler(on_change)
            # One that is gone has nothing to stop, and the SDK may hang over it: that is for close.
            if not handler.reason.startswith(CAMERA_LOST):
                self._within(self._camera.stop_streaming)
        if handler.failure is not None:
            raise handler.failure
        return handler.reason or "stopped"

    def trigger(self) -> None:
        """Take one frame if the camera waits for a software trigger, or once it does."""
        with self._triggers:
            if self._streaming:
                self._fire_trigger()
            else:
                self._triggers_before += 1

    def _fire_early_triggers(self) -> None:
        with self._triggers:
            self._streaming = True
            for _ in range(self._triggers_before):
                self._fire_trigger()
            self._triggers_before = 0

    def _fire_trigger(self) -> None:
        sdk = self._sdk
        if sdk is not None and self._camera is not None:
            Features(self._camera, sdk.errors).run("TriggerSoftware")

    @property
    def info(self) -> SourceInfo | None:
        """What it delivers since the last change; None while it is not open."""
        return self._info

    def camera_state(self) -> CameraState:
        """See `workers.sources.source.AdjustableSource.camera_state`."""
        return self._controls().state()

    def adjust(self, changes: CameraChanges) -> CameraState:
        """See `workers.sources.source.AdjustableSource.adjust`."""
        controls = self._controls()
        controls.apply(changes)
        state = controls.state()
        info = self._info
        if info is not None:
            rate = _rate_of(state) or info.rate_hz
            limit_s = None if info.triggered else _silence_limit_s(rate)
            self._info = replace(info, rate_hz=rate, silence_limit_s=limit_s)
        return state

    def _controls(self) -> CameraControls:
        sdk, camera = self._sdk, self._camera
        if sdk is None or camera is None:
            raise WrongState("The camera is not open.")
        return CameraControls(Features(camera, sdk.errors))

    def statistics(self) -> SourceStatistics:
        """Counts of the present or last run."""
        return SourceStatistics() if self._handler is None else self._handler.statistics()

    def close(self) -> None:
        """Close camera and SDK; complaints about a vanished camera are of no use here."""
        stack, sdk = self._stack, self._sdk
        self._stack, self._info = ExitStack(), None
        if not self._hung and sdk is not None:  # a second thread inside a hung SDK would hang too
            self._within(stack.close)
        self._sdk = self._system = self._camera = None

    def _configure(self, sdk: Sdk) -> SourceInfo:
        camera, spec = self._camera, self._spec
        features = Features(camera, sdk.errors)
        moved = self._load_settings(sdk, features)
        controls, changes = CameraControls(features), spec.changes or CameraChanges()
        if changes.binning is not None:
            controls.bin(changes.binning)
        pixel_format = features.choose_format(spec.pixel_format)
        for offset, name, wish in (
            ("OffsetX", "Width", spec.width),
            ("OffsetY", "Height", spec.height),
        ):
            if wish is not None:
                features.write(offset, 0)
                features.write(name, wish)
        features.write("AcquisitionMode", "Continuous")
        if spec.rate_hz is not None:
            features.write("AcquisitionFrameRateEnable", True)
            features.write_first(RATE_FEATURES, spec.rate_hz)
        controls.apply(changes)
        triggered = features.choose_trigger(spec.trigger)
        width, height = features.read("Width"), features.read("Height")
        if width is None or height is None:
            raise CameraError("The camera tells neither its width nor its height.")
        rate = float(features.read_first(RATE_FEATURES) or spec.rate_hz or DEFAULT_RATE_HZ)
        self._ticks_hz = int(features.read_first(TICK_FEATURES) or NS)
        moved += _not_as_asked(spec, {"width": width, "height": height, "rate_hz": rate})
        shown = {name: features.read(name) for name in SHOWN_FEATURES}
        return SourceInfo(
            width_px=int(width),
            height_px=int(height),
            pixel_format=pixel_format,
            rate_hz=rate,
            camera={
                "model": camera.get_model(),
                "serial": camera.get_serial(),
                "id": camera.get_id(),
                "size": f"{width}x{height}",
                "rate_hz": f"{rate:g}",
                "pixel_format": str(features.read("PixelFormat")),
                **{name: str(value) for name, value in shown.items() if value is not None},
                **({"not_as_asked": ", ".join(moved)} if moved else {}),
            },
            clock=f"the camera's time stamps, {self._ticks_hz} Hz (arrival where it sends none)",
            triggered=triggered,
            silence_limit_s=None if triggered else _silence_limit_s(rate),
            settings=self._save_settings(sdk),
        )

    def _load_settings(self, sdk: Sdk, features: Features) -> list[str]:
        """Load the settings asked for, if any; what the camera made otherwise of them."""
        spec, camera = self._spec, self._camera
        if not spec.restore and spec.settings_file is None:
            return []
        if spec.restore:
            name, saved = "what was set before", parse_settings(spec.restore.encode(), "restore")
        else:
            name = str(spec.settings_file)
            saved = read_settings(name)
        model = camera.get_model()
        if saved.model != model:
            raise ConfigError(
                f"The camera settings {name!r} are of a {saved.model!r}, the camera is a {model!r}."
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "settings.xml"
            path.write_bytes(spec.restore.encode() or Path(name).read_bytes())
            try:
                camera.load_settings(str(path), sdk.module.PersistType.All)
            except sdk.errors as error:
                raise ConfigError(
                    f"The camera does not take the settings {name!r}: {error}."
                ) from error
        return saved.differences(features.setting)

    def _save_settings(self, sdk: Sdk) -> str:
        """All settings as the SDK writes them, but no look-up tables; empty if it is too much."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "settings.xml"
            with suppress(*sdk.errors, OSError, UnicodeError):
                self._camera.save_settings(str(path), sdk.module.PersistType.NoLUT)
                data = path.read_bytes()
                return data.decode() if len(data) <= MAX_SETTINGS_BYTES else ""
        return ""

    def _watch(self, handler: FrameHandler, stop: threading.Event) -> None:
        """Wait for the end; a silent camera is asked for a value, which fails once it is gone."""
        sdk = self._sdk
        assert sdk is not None  # checked by run
        features = Features(self._camera, sdk.errors)
        ask_at = 0.0
        while not stop.is_set() and not handler.wait_finished(WATCH_S):
            info = self._info
            silence_s = _silence_limit_s(info.rate_hz if info else DEFAULT_RATE_HZ)
            if handler.silent_s() > silence_s and time.monotonic() > ask_at:
                ask_at = time.monotonic() + ASK_EVERY_S
                if not features.answers():
                    handler.finish(f"{CAMERA_LOST}: {self._camera.get_id()} does not answer")

    def _within(self, call: Any) -> None:
        """Make a call that is known to hang over a camera that was unplugged; wait STOP_S at most.

        Its complaints about a vanished camera are of no use.
        """
        sdk = self._sdk
        assert sdk is not None  # an open source has one

        def run() -> None:
            with suppress(*sdk.errors):
                call()

        thread = threading.Thread(target=run, name="vimba call", daemon=True)
        thread.start()
        thread.join(STOP_S)
        self._hung = thread.is_alive()


def _silence_limit_s(rate_hz: float) -> float:
    return max(SILENCE_S, SILENCE_PERIODS / rate_hz)


def _rate_of(state: CameraState) -> float | None:
    """Frames per second: a long exposure slows a camera down, whatever its rate is set to."""
    rate, exposure_us = state.frame_rate_hz, state.exposure_us
    if rate is None or exposure_us is None:
        return rate
    return min(rate, 1e6 / exposure_us)


def _not_as_asked(spec: SourceSpec, given: dict[str, float]) -> list[str]:
    """What the camera moved into its ranges."""
    asked = {"width": spec.width, "height": spec.height, "rate_hz": spec.rate_hz}
    return [
        f"{name} {given[name]:g} instead of {wish:g}"
        for name, wish in asked.items()
        if wish is not None and abs(wish - given[name]) > wish / 1000
    ]
