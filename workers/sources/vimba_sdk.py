"""The camera SDK, Vimba X through vmbpy: loading and starting it, finding cameras.

No other module imports vmbpy. It streams nothing: that is `vimba`.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from ipc.errors import CameraError, ConfigError
from ipc.messages import CameraRow
from workers.sources.genicam import RATE_FEATURES, Features

__all__ = ["Sdk", "list_cameras"]

POLL_S = 0.1


class Sdk:
    """vmbpy, loaded when a camera is wanted and not before.

    Attributes:
        module: The package.
        errors: What its calls raise; they have no common root.

    Raises:
        CameraError: It is not installed, or its library cannot be loaded.
    """

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
        # A missing camera raises any of them. RuntimeError is what vmbpy raises for an object whose
        # context a disconnection has already closed.
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

    def start(self, stack: ExitStack, settings: str | None = None) -> Any:
        """Start the SDK until the stack closes.

        Args:
            stack: Ends it.
            settings: A VmbC.xml: transport layers, polling periods. None: what the SDK finds.

        Raises:
            CameraError: No transport layer, or it does not start.
            ConfigError: There is no such settings file.
        """
        system = self.module.VmbSystem.get_instance()
        if settings is not None:
            if not Path(settings).is_file():
                raise ConfigError(f"There are no camera SDK settings {settings!r}.")
            system.set_path_configuration(settings)
        try:
            return stack.enter_context(system)
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

    def open_camera(self, system: Any, camera_id: str, stack: ExitStack, wait_s: float) -> Any:
        """Open a camera until the stack closes.

        Args:
            system: What `start` gave.
            camera_id: Empty: the first that is free.
            stack: Closes it.
            wait_s: How long it may be missing or in use.

        Raises:
            CameraError: It is still missing or in use.
        """
        deadline = time.monotonic() + wait_s
        while True:
            try:
                camera = self._find_camera(system, camera_id)
                stack.enter_context(camera)
                return camera
            except CameraError:
                if time.monotonic() >= deadline:
                    raise
            except self.errors as error:
                if time.monotonic() >= deadline:
                    raise CameraError(
                        f"{camera_id or 'The camera'} cannot be opened: {error}",
                        hint="Close other programs that use it, or plug it in again.",
                    ) from error
            time.sleep(POLL_S)

    def _find_camera(self, system: Any, camera_id: str) -> Any:
        cameras = system.get_all_cameras()
        found = ", ".join(camera.get_id() for camera in cameras) or "none"
        if camera_id:
            try:
                return system.get_camera_by_id(camera_id)
            except self.module.VmbCameraError as error:
                raise CameraError(
                    f"There is no camera {camera_id!r}.", hint=f"Connected cameras: {found}."
                ) from error
        if not cameras:
            raise CameraError(
                "No camera is connected.",
                hint="Check its cable and power; it may need some seconds.",
            )
        full = self.module.AccessMode.Full
        free = [camera for camera in cameras if full in camera.get_permitted_access_modes()]
        return (free or cameras)[0]


def list_cameras(settings: str | None = None) -> list[CameraRow]:
    """All cameras that the SDK finds; each that permits it is opened for a moment.

    Raises:
        CameraError: vmbpy or a transport layer is missing.
        ConfigError: There is no such settings file.
    """
    sdk = Sdk()
    with ExitStack() as stack:
        system = sdk.start(stack, settings)
        return [_describe_camera(sdk, camera) for camera in system.get_all_cameras()]


def _describe_camera(sdk: Sdk, camera: Any) -> CameraRow:
    modes = camera.get_permitted_access_modes()
    formats: tuple[str, ...] = ()
    rates = None
    if sdk.module.AccessMode.Full in modes:
        with suppress(*sdk.errors), camera:
            features = Features(camera, sdk.errors)
            formats, rates = features.offered_formats(), features.range_of(RATE_FEATURES)
    return CameraRow(
        id=camera.get_id(),
        model=camera.get_model(),
        serial=camera.get_serial(),
        access=[mode.name for mode in modes],
        formats=list(formats),
        rate_range_hz=rates,
    )
