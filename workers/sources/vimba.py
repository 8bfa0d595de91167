"""An Allied Vision camera through Vimba X: the only module that knows vmbpy.

    closed -- open --> open -- run --> streaming -- stop, limit, camera gone --> open
       ^----------------- close -------'

The SDK's thread calls the frame handler: one copy into the sink's memory, and the buffer goes
back to the SDK whatever happened. Damaged frames are reported and never copied. Nothing is retried
here: a camera that is gone ends `VimbaSource.run` with ``camera_lost``.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from ipc.errors import CameraError, WrongState
from workers.sources.delivery import FrameHandler
from workers.sources.genicam import Features
from workers.sources.source import FrameSink, SourceInfo, SourceSpec, SourceStatistics

__all__ = ["CameraInfo", "VimbaSource", "list_cameras"]

NS = 1_000_000_000
WATCH_S = 0.1
# No frame for so long, and the camera is asked whether it is still there (a trigger may just wait).
SILENCE_S = 1.0
SILENCE_PERIODS = 5
STOP_S = 2.0  # stop_streaming is known to hang (VimbaPython #44)
BUFFERED_S = 0.25
BUFFERS = (8, 64)
DEFAULT_RATE_HZ = 30.0

TICK_FEATURES = ("GevTimestampTickFrequency", "DeviceTimestampFrequency")
RATE_FEATURES = ("AcquisitionFrameRate", "AcquisitionFrameRateAbs")
SHOWN_FEATURES = ("ExposureTime", "Gain", "BinningHorizontal", "BinningVertical", "TriggerMode")


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """A camera as found, for lists and for choosing one.

    Attributes:
        id: What ``vimba:ID`` takes.
        model: Model name.
        serial: Serial number.
        access: Permitted ways to open it; empty while another program has it.
        formats: Pixel formats it offers, in the camera's spelling; empty if it cannot be opened.
        rate_range_hz: Slowest and fastest frame rate at its present settings, if it tells.
    """

    id: str
    model: str
    serial: str
    access: tuple[str, ...]
    formats: tuple[str, ...]
    rate_range_hz: tuple[float, float] | None


def list_cameras() -> list[CameraInfo]:
    """All cameras that the SDK finds; each that permits it is opened for a moment.

    Raises:
        CameraError: vmbpy or a transport layer is missing.
    """
    with ExitStack() as stack:
        sdk = _Sdk()
        system = sdk.start(stack)
        return [_describe_camera(sdk, camera) for camera in system.get_all_cameras()]


class VimbaSource:
    """One camera, streaming with its own ids and its own clock.

    Args:
        spec: ``vimba`` takes the first camera, ``vimba:ID`` that one. Size, rate and pixel format
            are asked for where the camera lets them be written; what it really does is in the
            SourceInfo. ``realtime`` means nothing here.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._sdk: _Sdk | None = None
        self._stack = ExitStack()
        self._system: Any = None
        self._camera: Any = None
        self._info: SourceInfo | None = None
        self._ticks_hz = NS
        self._handler: FrameHandler | None = None
        self._hung = False

    def open(self) -> SourceInfo:
        """Open the camera, set what was asked for, read back what it does.

        Raises:
            CameraError: vmbpy, a transport layer or the camera is missing, or it is in use.
            ConfigError: The camera does not offer the pixel format.
        """
        if self._hung:
            raise CameraError(
                "The camera SDK did not come back from the last stream.",
                hint="Start the capture process again.",
            )
        self.close()
        sdk = self._sdk = _Sdk()
        try:
            self._system = sdk.start(self._stack)
            self._camera = _find_camera(sdk, self._system, self._spec.target)
            self._stack.enter_context(self._camera)
            self._info = self._configure(sdk)
        except sdk.errors as error:
            name = self._spec.target or "the camera"
            self.close()
            raise CameraError(
                f"{name} cannot be opened: {error}",
                hint="Close other programs that use it, or plug it in again.",
            ) from error
        except BaseException:
            self.close()
            raise
        return self._info

    def run(self, sink: FrameSink, stop: threading.Event) -> str:
        """Stream until the stop, the limit or the loss of the camera.

        Returns:
            ``stopped``, ``limit`` or ``camera_lost``.

        Raises:
            WrongState: The source is not open.
            CameraError: The stream does not start, or a frame cannot be taken at all.
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
                handler.finish("camera_lost")

        self._system.register_camera_change_handler(on_change)
        buffers = min(max(round(info.rate_hz * BUFFERED_S), BUFFERS[0]), BUFFERS[1])
        try:
            self._camera.start_streaming(handler=handler.on_frame, buffer_count=buffers)
            self._watch(handler, stop)
        except sdk.errors as error:
            raise CameraError(f"The camera does not stream: {error}") from error
        finally:
            self._stop_streaming()
            handler.end()
            self._system.unregister_camera_change_handler(on_change)
        if handler.failure is not None:
            raise handler.failure
        return handler.reason or "stopped"

    def statistics(self) -> SourceStatistics:
        """Counts of the present or last run."""
        return SourceStatistics() if self._handler is None else self._handler.statistics()

    def close(self) -> None:
        """Close camera and SDK; complaints about a vanished camera are of no use here."""
        stack, sdk = self._stack, self._sdk
        self._stack, self._sdk = ExitStack(), None
        self._system = self._camera = self._info = None
        if self._hung or sdk is None:  # a second thread inside a hung SDK would hang as well
            return
        with suppress(*sdk.errors):
            stack.close()

    def _configure(self, sdk: _Sdk) -> SourceInfo:
        camera, spec = self._camera, self._spec
        features = Features(camera, sdk.errors)
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
        width, height = features.read("Width"), features.read("Height")
        if width is None or height is None:
            raise CameraError("The camera tells neither its width nor its height.")
        rate = features.read_first(RATE_FEATURES) or spec.rate_hz or DEFAULT_RATE_HZ
        self._ticks_hz = int(features.read_first(TICK_FEATURES) or NS)
        shown = {name: features.read(name) for name in SHOWN_FEATURES}
        return SourceInfo(
            width_px=int(width),
            height_px=int(height),
            pixel_format=pixel_format,
            rate_hz=float(rate),
            camera={
                "model": camera.get_model(),
                "serial": camera.get_serial(),
                "id": camera.get_id(),
                **{name: str(value) for name, value in shown.items() if value is not None},
                **_not_as_asked(spec, {"width": width, "height": height, "rate_hz": rate}),
            },
            clock=f"the camera's time stamps, {self._ticks_hz} Hz (arrival where it sends none)",
        )

    def _watch(self, handler: FrameHandler, stop: threading.Event) -> None:
        """Wait for the end; a silent camera is asked for a value, which fails once it is gone."""
        sdk, info = self._sdk, self._info
        assert sdk is not None  # both checked by run
        assert info is not None
        silence_s = max(SILENCE_S, SILENCE_PERIODS / info.rate_hz)
        features = Features(self._camera, sdk.errors)
        while not stop.is_set() and not handler.wait_finished(WATCH_S):
            if handler.silent_s() > silence_s and not features.answers():
                handler.finish("camera_lost")

    def _stop_streaming(self) -> None:
        """Stop within STOP_S; a camera that was unplugged makes the SDK fail or hang."""
        sdk, camera = self._sdk, self._camera
        assert sdk is not None  # checked by run

        def stop_streaming() -> None:
            with suppress(*sdk.errors):
                camera.stop_streaming()

        stopper = threading.Thread(target=stop_streaming, name="vimba stop", daemon=True)
        stopper.start()
        stopper.join(STOP_S)
        self._hung = stopper.is_alive()


class _Sdk:
    """vmbpy, loaded when a camera is wanted and not before."""

    def __init__(self) -> None:
        try:
            import vmbpy
            from vmbpy.c_binding import VmbCError
        except ImportError as error:
            raise CameraError(
                "The camera SDK's Python package vmbpy is not installed.",
                hint="Install it with: pip install 'sealrec[camera]'",
            ) from error
        except Exception as error:  # its own error classes cannot be imported either
            raise CameraError(
                f"The camera SDK cannot be loaded: {error}", hint="Install Vimba X."
            ) from error
        self.module: Any = vmbpy
        # They have no common root, and a missing camera raises any of them. RuntimeError is what
        # vmbpy raises for an object whose context a disconnection has already closed.
        self.errors: tuple[type[Exception], ...] = (
            VmbCError,
            vmbpy.VmbCameraError,
            vmbpy.VmbFeatureError,
            vmbpy.VmbFrameError,
            vmbpy.VmbInterfaceError,
            vmbpy.VmbSystemError,
            vmbpy.VmbTimeout,
            vmbpy.VmbTransportLayerError,
            RuntimeError,
        )

    def start(self, stack: ExitStack) -> Any:
        """Start the SDK until the stack closes."""
        try:
            return stack.enter_context(self.module.VmbSystem.get_instance())
        except self.module.VmbTransportLayerError as error:
            raise CameraError(
                "The camera SDK finds no transport layer.",
                hint="Install Vimba X, or set GENICAM_GENTL64_PATH to the directory of the "
                "camera's .cti file.",
            ) from error
        except self.errors as error:
            raise CameraError(
                f"The camera SDK does not start: {error}",
                hint="Install Vimba X again, and look that only one version is on the path.",
            ) from error


def _find_camera(sdk: _Sdk, system: Any, camera_id: str) -> Any:
    cameras = system.get_all_cameras()
    found = ", ".join(camera.get_id() for camera in cameras) or "none"
    if camera_id:
        try:
            return system.get_camera_by_id(camera_id)
        except sdk.module.VmbCameraError as error:
            raise CameraError(
                f"There is no camera {camera_id!r}.", hint=f"Connected cameras: {found}."
            ) from error
    if not cameras:
        raise CameraError(
            "No camera is connected.", hint="Check its cable and power; it may need some seconds."
        )
    full = sdk.module.AccessMode.Full
    free = [camera for camera in cameras if full in camera.get_permitted_access_modes()]
    return (free or cameras)[0]


def _not_as_asked(spec: SourceSpec, given: dict[str, float]) -> dict[str, str]:
    """What the camera moved into its ranges, for the session table; nothing if nothing was."""
    asked = {"width": spec.width, "height": spec.height, "rate_hz": spec.rate_hz}
    changed = [
        f"{name} {given[name]:g} instead of {wish:g}"
        for name, wish in asked.items()
        if wish is not None and abs(wish - given[name]) > wish / 1000
    ]
    return {"not_as_asked": ", ".join(changed)} if changed else {}


def _describe_camera(sdk: _Sdk, camera: Any) -> CameraInfo:
    modes = camera.get_permitted_access_modes()
    formats: tuple[str, ...] = ()
    rates = None
    if sdk.module.AccessMode.Full in modes:
        with suppress(*sdk.errors), camera:
            features = Features(camera, sdk.errors)
            formats, rates = features.offered_formats(), features.range_of(RATE_FEATURES)
    return CameraInfo(
        id=camera.get_id(),
        model=camera.get_model(),
        serial=camera.get_serial(),
        access=tuple(mode.name for mode in modes),
        formats=formats,
        rate_range_hz=rates,
    )
