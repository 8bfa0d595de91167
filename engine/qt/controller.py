"""`CameraController`: signals and methods of a controller that held its camera in its own process.

Behind them camera, recording and encryption are the engine's. All signals come in the thread that
the object lives in, which has to be the one that Qt draws in. Nothing that this thread does, or
does not do, holds up a recording: pictures come from the live view, which nobody waits for, and
every command has a deadline. ``connect`` and ``disconnect`` are the camera's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from qtpy.QtCore import QCoreApplication, QObject, Signal

from engine.client import (
    Camera,
    CameraBack,
    CameraClosed,
    CameraLost,
    EngineGone,
    ErrorReported,
    Event,
    Recorder,
    RecordingStarted,
    RecordingStopped,
    Result,
    Started,
    Status,
    StatusReceived,
)
from engine.preview import LiveFrame
from engine.qt.names import engine_codec, png_path, recording_path, still_path
from engine.qt.pictures import Pictures, pixmap_of
from ipc.errors import KeyFileError, SealrecError, WrongState

__all__ = ["CameraController"]

T = TypeVar("T")
FilePath = str | os.PathLike[str]

STOP_S = 10.0
CONTROL_S = 3.0
STILL_S = 15.0
CLOSE_S = 15.0
SHOWN = (
    *(StatusReceived, RecordingStarted, RecordingStopped, CameraLost, CameraBack),
    *(CameraClosed, ErrorReported, EngineGone),
)


class CameraController(QObject):  # type: ignore[misc]
    """One camera, its picture and its recordings.

    What goes wrong is told by `error_occurred`, and the method returns False or None; none raises.
    Recordings and stills need a key: at least one of ``key_file``, ``public_key`` and ``password``,
    each of which then opens them.

    Args:
        parent: Qt's owner of this object.
        source: ``vimba``, or ``synthetic`` or ``file:PATH`` in its place.
        key_file: Path of a key file.
        public_key: Path of a public key: then this machine cannot read what it records.
        password: Asked for one at each recording and still; nothing keeps it.
        folder: What relative names count from.
        still_format: ``sealed`` or, in the clear and on purpose, ``png``.
        display_fps: Pictures shown per second, at most.
        camera_options: Further fields of PROTOCOL.md, "Configuration", for the camera.
        recording_options: The same for each recording.
    """

    frame_ready = Signal(object)
    """The picture shown: ndarray (height, width, 3) uint8, red first, at the display scale."""
    pixmap_ready = Signal(object)
    """The same as a QPixmap."""
    fps_update = Signal(float)
    """Frames per second that the camera delivers."""
    connection_changed = Signal(bool)
    """The camera is there."""
    error_occurred = Signal(str)
    """For a person."""
    recording_status_changed = Signal(bool)
    """The green light: frames of the recording become durable. Never from a process being alive."""
    recording_started = Signal(str)
    """The path that is recorded to."""
    recording_stopped = Signal()
    """It is over, and sealed as far as the disk allowed: `last_result`."""
    exposure_changed = Signal(float)
    """Microseconds, as the camera has them."""
    gain_changed = Signal(float)
    """Decibels, as the camera has them."""
    _engine_said = Signal(object)

    def __init__(  # noqa: PLR0913 - keywords, each with its default
        self,
        parent: QObject | None = None,
        *,
        source: str = "vimba",
        key_file: FilePath | None = None,
        public_key: FilePath | None = None,
        password: Callable[[], str] | None = None,
        folder: FilePath = "",
        still_format: str = "sealed",
        display_fps: float = 30.0,
        camera_options: Mapping[str, Any] | None = None,
        recording_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(parent)
        self._source, self._folder, self._still_format = source, folder, still_format
        self._keys = {"key_file": key_file, "public_key": public_key}
        self._password, self._display_fps = password, display_fps
        self._camera_options = dict(camera_options or {})
        self._recording_options = dict(recording_options or {})
        self._recorder: Recorder | None = None
        self._pictures: Pictures | None = None
        self._scale = 1.0
        self._connected = self._away = self._green = False
        self._recording = ""
        self._begun: dict[str, str] = {}
        self._fps = 0.0
        self._camera = Camera()
        self._status_waits = False
        self.last_result: Result | None = None
        self._engine_said.connect(self._take)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.disconnect)

    # --- the camera ---------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """The camera is there."""
        return self._connected

    @property
    def is_streaming(self) -> bool:
        """Its picture is shown."""
        return self._pictures is not None

    @property
    def is_recording(self) -> bool:
        """A recording was started and is not over; whether it is well says the green light."""
        return bool(self._recording)

    def connect(self, camera_id: str | None = None) -> bool:
        """Start the engine and open the camera; True if it is there.

        Args:
            camera_id: As `sealrec cameras` lists it; None: the one asked for before, or any.
        """
        if self._connected:
            return True
        if self._away and self._recorder is not None and self._recorder.pid is not None:
            # Starting over would end the recording that waits for it.
            self.error_occurred.emit("The camera is away; the engine looks for it.")
            return False
        self._let_go()
        if camera_id:
            self._source = f"vimba:{camera_id}"
        recorder = Recorder()
        recorder.subscribe(lambda event: self._hear(recorder, event), *SHOWN)
        self._recorder, self._away = recorder, False

        def open_all() -> bool:
            recorder.open()
            recorder.open_camera(source=self._source, **self._camera_options)
            return True

        if not self._try(open_all):
            self._let_go()
            return False
        self._set_connected(True)
        self._read()
        return True

    def disconnect(self) -> None:
        """Seal what is being recorded, close the camera and end the engine."""
        self.stop_streaming()
        self.stop_recording()
        self._let_go()
        self._end(self._recording, None)
        self._away = False
        self._set_connected(False)

    def get_status(self) -> dict[str, Any]:
        """What a widget shows, in plain values."""
        status = Status() if self._recorder is None else self._recorder.status
        return {
            "is_connected": self.is_connected,
            "is_streaming": self.is_streaming,
            "is_recording": self.is_recording,
            "green_light": self._green,
            "state": status.state,
            "recording_path": self._begun.get(self._recording),
            "frames_written": status.frames.written,
            "frames_lost": status.frames.lost_in_all,
            "fps": self._fps,
            "exposure_us": self._camera.exposure_us,
            "gain_db": self._camera.gain_db,
            "disk_minutes_left": status.disk.minutes_left,
        }

    # --- the picture --------------------------------------------------------------------------

    def start_streaming(self) -> bool:
        """Show the camera's picture."""
        if self._pictures is not None:
            return True
        recorder = self._there()
        if recorder is None:
            return False
        view = self._try(recorder.live_view)
        if view is None:
            return False
        pictures = Pictures(view, self._display_fps, lambda: self._scale, self)
        pictures.came.connect(self._show)
        pictures.rate.connect(self._note_rate)
        pictures.failed.connect(self.error_occurred)
        self._pictures = pictures
        return True

    def stop_streaming(self) -> None:
        """Show no picture; a recording goes on."""
        pictures, self._pictures = self._pictures, None
        if pictures is not None:
            pictures.stop()
            pictures.deleteLater()

    def set_display_scale(self, scale: float) -> None:
        """Show smaller pictures: above 0, at most 1 of width and height. Recordings stay whole."""
        if 0 < scale <= 1:
            self._scale = scale
        else:
            self.error_occurred.emit(f"A picture cannot be shown at scale {scale:g}.")

    def capture_image(
        self, base_filename: FilePath, output_dir: FilePath | None = None
    ) -> Path | None:
        """Save the newest frame; its path once it is durable.

        A sealed still (README, "Qt") is written by the engine and takes up to a second the first
        time. A PNG is written from here, in the clear.
        """
        recorder = self._there()
        if recorder is None:
            return None
        folder, now = output_dir or self._folder, datetime.now()
        if self._still_format == "png":
            return self._try(lambda: _write_png(recorder, png_path(base_filename, folder, now)))
        path = still_path(base_filename, folder, now)
        return self._try(lambda: recorder.save_still(path, STILL_S, **self._with_keys()))

    # --- recording ----------------------------------------------------------------------------

    def start_recording(
        self,
        output_path: FilePath | None = None,
        fps: float = 30.0,
        codec: str | None = None,
        *,
        base_filename: FilePath | None = None,
    ) -> bool:
        """Record; True once the file is open, and the green light says when frames are in it.

        Args:
            output_path: ``x.mp4``, ``x.avi`` and ``x`` become ``x.mp4.enc``; a taken name the next
                free one, which `recording_started` tells.
            fps: Nothing is done with it: the file's times are the camera's.
            codec: ``h264``, ``hevc``, ``av1``, ``mpeg4``, or a FourCC.
            base_filename: Another word for ``output_path``.
        """
        recorder, name = self._there(), output_path or base_filename
        if recorder is None:
            return False
        if not name:
            self.error_occurred.emit("A recording needs a name.")
            return False
        path = recording_path(name, self._folder)

        def start() -> Started:
            options = {"output": path, "codec": engine_codec(codec), **self._recording_options}
            return recorder.start(**options, **self._with_keys())

        started = self._try(start)
        if started is not None:
            self._begin(started.recording_id, str(started.path))
        return started is not None

    def stop_recording(self) -> None:
        """Stop and seal; one that takes longer than 10 s goes on doing so and is told later."""
        recorder = self._recorder
        if recorder is None or not self._recording:
            return
        result = self._try(lambda: recorder.stop(STOP_S))
        if result is not None:
            self._end(result.recording_id, result)

    # --- exposure, gain, rate, binning --------------------------------------------------------

    def set_exposure(self, exposure_us: float) -> bool:
        """Set the exposure time in microseconds; ends automatic exposure."""
        return self._change(exposure_us=exposure_us)

    def set_gain(self, gain_db: float) -> bool:
        """Set the gain in decibels; ends automatic gain."""
        return self._change(gain_db=gain_db)

    def get_exposure(self) -> float:
        """Exposure time in microseconds; 0 if the camera does not tell."""
        return self._read().exposure_us or 0.0

    def get_gain(self) -> float:
        """Gain in decibels; 0 if the camera does not tell."""
        return self._read().gain_db or 0.0

    def get_exposure_range(self) -> tuple[float, float]:
        """Shortest and longest exposure in microseconds; zeros if the camera does not tell."""
        return self._read().exposure_range_us or (0.0, 0.0)

    def get_gain_range(self) -> tuple[float, float]:
        """Least and most gain in decibels; zeros if the camera does not tell."""
        return self._read().gain_range_db or (0.0, 0.0)

    def set_binning(self, binning: int) -> bool:
        """Join so many pixels in each direction. Opens the camera again; not while recording."""
        return self._change(binning=binning)

    def get_binning(self) -> int:
        """Pixels joined in each direction."""
        return self._read().binning or 1

    def set_auto_exposure(self, enabled: bool) -> bool:
        """Let the camera choose its exposure."""
        return self._change(auto_exposure=enabled)

    def set_auto_gain(self, enabled: bool) -> bool:
        """Let the camera choose its gain."""
        return self._change(auto_gain=enabled)

    def set_auto_white_balance(self, enabled: bool) -> bool:
        """Let the camera balance its colours."""
        return self._change(auto_white_balance=enabled)

    def get_acquisition_frame_rate_info(self) -> dict[str, float]:
        """``min_fps``, ``max_fps`` at the present exposure, and ``current_fps``."""
        camera = self._read()
        low, high = camera.frame_rate_range_hz or (0.0, 0.0)
        return {"min_fps": low, "max_fps": high, "current_fps": camera.frame_rate_hz or 0.0}

    def set_acquisition_frame_rate(self, fps: float) -> bool:
        """Set the camera's frame rate, within what its exposure allows."""
        return self._change(frame_rate_hz=fps)

    # --- within -------------------------------------------------------------------------------

    def _try(self, call: Callable[[], T]) -> T | None:
        """Make a call; what it refuses is told, and None comes back."""
        try:
            return call()
        except (SealrecError, OSError) as error:
            self.error_occurred.emit(str(error))
            return None

    def _there(self) -> Recorder | None:
        if self._recorder is None or self._recorder.pid is None:
            self.error_occurred.emit("No camera is connected.")
            return None
        return self._recorder

    def _with_keys(self) -> dict[str, Any]:
        """The keys of a recording; never without one.

        Raises:
            KeyFileError: there is none.
        """
        keys: dict[str, Any] = {name: path for name, path in self._keys.items() if path}
        if self._password is not None:
            keys["password"] = self._password()
        if not keys:
            raise KeyFileError(
                "Nothing is recorded without a key.",
                hint="Give the CameraController a key_file, a public_key or a password.",
            )
        return keys

    def _change(self, **changes: Any) -> bool:
        recorder = self._there()
        if recorder is None:
            return False
        camera = self._try(lambda: recorder.set_camera(**changes))
        self._note_camera(camera)
        return camera is not None

    def _read(self) -> Camera:
        recorder = self._recorder
        if recorder is not None and self._connected:
            with contextlib.suppress(SealrecError):  # then what is known
                self._note_camera(recorder.camera(CONTROL_S))
        return self._camera

    def _note_camera(self, camera: Camera | None) -> None:
        if camera is None:
            return
        before, self._camera = self._camera, camera
        if camera.exposure_us is not None and camera.exposure_us != before.exposure_us:
            self.exposure_changed.emit(camera.exposure_us)
        if camera.gain_db is not None and camera.gain_db != before.gain_db:
            self.gain_changed.emit(camera.gain_db)

    def _let_go(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            self._try(lambda: recorder.close(CLOSE_S))

    # --- what the engine says -----------------------------------------------------------------

    def _hear(self, recorder: Recorder, event: Event) -> None:
        """On the client's thread: pass an event on to Qt's; of statuses never two."""
        if isinstance(event, StatusReceived):
            if self._status_waits:
                return
            self._status_waits = True
        with contextlib.suppress(RuntimeError):  # Qt has destroyed this object
            self._engine_said.emit((recorder, event))

    def _take(self, said: tuple[Recorder, Event]) -> None:
        recorder, event = said
        if isinstance(event, StatusReceived):
            self._status_waits = False
        if recorder is not self._recorder:
            return  # of an engine that was let go of
        match event:
            case StatusReceived():
                # The newest, not the one that waited behind a dialog.
                status = recorder.status
                ours = bool(self._recording) and status.recording_id == self._recording
                self._set_green(ours and status.is_recording and not self._away)
            case RecordingStarted():
                self._begin(event.recording_id, str(event.path))
            case RecordingStopped():
                self._end(event.result.recording_id, event.result)
            case CameraLost():
                self._away = True
                self._set_green(False)  # the next status would say so in a moment
                self._set_connected(False)
                self.error_occurred.emit(event.text or "The camera is gone.")
            case CameraBack():
                self._away = False
                self._set_connected(True)
            case CameraClosed():
                self._closed(event)
            case ErrorReported():
                self.error_occurred.emit(event.text)
            case EngineGone():
                self._gone(recorder, event)

    def _closed(self, event: CameraClosed) -> None:
        """The camera was closed; for another binning it is opened again at once."""
        if not event.expected:
            self._away = False
            self.error_occurred.emit(event.text or "The camera was closed.")
            self._set_connected(False)

    def _gone(self, recorder: Recorder, event: EngineGone) -> None:
        if event.expected:
            return
        self.stop_streaming()
        self._recorder, self._away = None, False
        with contextlib.suppress(SealrecError):  # that it died is told here
            recorder.close(0)
        self.error_occurred.emit(f"The recording engine is gone: {event.text}.")
        self._end(self._recording, None)
        self._set_connected(False)

    def _begin(self, recording_id: str, path: str) -> None:
        """Once for each recording, whether its reply or its event is heard first."""
        if recording_id not in self._begun:
            self._begun[recording_id] = path
            self._recording = recording_id
            self.recording_started.emit(path)

    def _end(self, recording_id: str, result: Result | None) -> None:
        if not self._recording or recording_id != self._recording:
            return
        self._recording, self.last_result = "", result
        self._set_green(False)
        if result is not None and result.problem is not None:
            self.error_occurred.emit(result.problem.message)
        self.recording_stopped.emit()

    def _set_green(self, green: bool) -> None:
        if green != self._green:
            self._green = green
            self.recording_status_changed.emit(green)

    def _set_connected(self, connected: bool) -> None:
        if connected != self._connected:
            self._connected = connected
            self.connection_changed.emit(connected)

    def _show(self, frame: LiveFrame) -> None:
        self.frame_ready.emit(frame.pixels)
        self.pixmap_ready.emit(pixmap_of(frame))

    def _note_rate(self, fps: float) -> None:
        self._fps = fps
        self.fps_update.emit(fps)


def _write_png(recorder: Recorder, path: Path) -> Path:
    """Write the newest frame as a PNG that was not there before.

    Raises:
        WrongState: there is no frame.
        OSError: it cannot be written.
    """
    import cv2

    with recorder.live_view() as view:
        frame = view.wait_frame(CONTROL_S)
    if frame is None:
        raise WrongState("There is no picture to save.", hint="Look that the camera delivers.")
    done, data = cv2.imencode(".png", cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR))
    if not done:
        raise WrongState("The picture cannot be made a PNG.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data.tobytes())
    return path
