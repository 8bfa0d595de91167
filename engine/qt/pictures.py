"""The live view's pictures in the Qt thread: one thread fetches, and never has two on their way.

A Qt thread that is blocked, by a dialog or for good, therefore costs one picture's memory, and the
recording nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QImage, QPixmap

from engine.preview import LiveFrame, LiveView
from ipc.errors import ChannelClosed, PeerDied, SealrecError

__all__ = ["Pictures", "pixmap_of"]

WAIT_S = 0.2
RATE_EVERY_S = 1.0


def pixmap_of(frame: LiveFrame) -> QPixmap:
    """The picture as Qt draws it; only in the Qt thread."""
    height_px, width_px = frame.pixels.shape[:2]
    pixels = frame.pixels
    image = QImage(pixels.data, width_px, height_px, 3 * width_px, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image)  # a copy: the image does not own the pixels


class Pictures(QObject):  # type: ignore[misc]
    """Fetches frames at a display's rate and gives them out in its own Qt thread.

    Args:
        view: Closed by `stop`.
        rate_hz: At most so many a second.
        scale: Gives the scale for the next one, above 0 and at most 1.
        parent: Its owner.
    """

    came = Signal(object)
    """A `LiveFrame`."""
    rate = Signal(float)
    """Frames per second that the camera delivers, about once a second."""
    failed = Signal(str)
    """The picture will not go on, and why."""
    _fetched = Signal()

    def __init__(
        self, view: LiveView, rate_hz: float, scale: Callable[[], float], parent: QObject
    ) -> None:
        super().__init__(parent)
        self._view, self._scale = view, scale
        self._period_s = 1.0 / rate_hz
        self._stop = threading.Event()
        self._newest: LiveFrame | None = None
        self._on_its_way = threading.Event()
        self._since: LiveFrame | None = None
        self._fetched.connect(self._give_out)
        self._thread = threading.Thread(target=self._fetch, name="live-view", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Fetch no more and let go of the ring; may be called again."""
        self._stop.set()
        self._thread.join(5 * WAIT_S)
        self._view.close()

    def _fetch(self) -> None:
        try:
            while not self._stop.is_set():
                due = time.monotonic() + self._period_s
                frame = self._view.wait_frame(WAIT_S, scale=self._scale())
                if frame is None:
                    continue
                self._newest = frame
                if not self._on_its_way.is_set():
                    self._on_its_way.set()
                    self._fetched.emit()
                self._stop.wait(max(0.0, due - time.monotonic()))
        except (PeerDied, ChannelClosed):
            return  # the engine is gone, and whoever owns this is told so
        except SealrecError as error:
            if not self._stop.is_set():
                self._tell_failed(str(error))
        except RuntimeError:
            return  # Qt has destroyed this object: the program ends

    def _tell_failed(self, text: str) -> None:
        try:
            self.failed.emit(text)
        except RuntimeError:
            return

    def _give_out(self) -> None:
        self._on_its_way.clear()
        frame, self._newest = self._newest, None
        if frame is None or self._stop.is_set():
            return
        self._measure(frame)
        self.came.emit(frame)

    def _measure(self, frame: LiveFrame) -> None:
        since = self._since
        if since is None or frame.seq < since.seq:
            self._since = frame
            return
        passed_s = (frame.host_ns - since.host_ns) / 1e9
        if passed_s >= RATE_EVERY_S:
            self.rate.emit((frame.seq - since.seq) / passed_s)
            self._since = frame
