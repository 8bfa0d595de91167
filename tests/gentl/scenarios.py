"""What a test does with vmbpy, each in a process of its own: vmbpy and VmbC keep threads behind.

Run as ``python -m tests.gentl.scenarios NAME DIRECTORY PRODUCER``; the answer is one line of JSON
on stdout. A scenario prepares nothing and judges nothing: the test that starts it does both.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import vmbpy
from vmbpy.c_binding import VmbCError  # raised bare by stop_streaming(), yet not exported

from tests.gentl.build import write_settings
from tests.gentl.simulator import SimulatedCameras, wait_until

CAMERA = "DEV_SIM000"
SMALL = {"Width": 320, "Height": 200}
FORMATS = ("Mono8", "BayerRG8", "RGB8", "BGR8", "YUV422_8_UYVY")


@contextlib.contextmanager
def running(cameras: SimulatedCameras) -> Iterator[vmbpy.VmbSystem]:
    """VmbC with the simulated cameras and no others."""
    os.environ.update(cameras.environment)
    system = vmbpy.VmbSystem.get_instance()
    system.set_path_configuration(str(cameras.settings_path))
    with system:
        yield system


def prepare(camera: vmbpy.Camera, rate_hz: float = 100, **features: Any) -> None:
    """Small frames at a fixed rate, then the given features."""
    for name, value in {**SMALL, **features}.items():
        camera.get_feature_by_name(name).set(value)
    camera.AcquisitionFrameRateEnable.set(True)
    camera.AcquisitionFrameRate.set(rate_hz)


class Frames:
    """Collects what the frame handler is given."""

    def __init__(self, look: Callable[[vmbpy.Frame], Any] | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.look = look

    def __call__(self, camera: vmbpy.Camera, stream: vmbpy.Stream, frame: vmbpy.Frame) -> None:
        row = {
            "id": frame.get_id(),
            "timestamp_ns": frame.get_timestamp(),
            "host_ns": time.perf_counter_ns(),
            "complete": frame.get_status() == vmbpy.FrameStatus.Complete,
            "seen": self.look(frame) if self.look else None,
        }
        camera.queue_frame(frame)
        self.rows.append(row)

    def wait(self, count: int) -> None:
        wait_until(lambda: len(self.rows) >= count, what=f"{count} frames")


def picture_of(frame: vmbpy.Frame) -> np.ndarray:
    """(height, width, bytes per pixel) view of the frame's buffer."""
    height, width = frame.get_height(), frame.get_width()
    return np.frombuffer(frame.get_buffer(), np.uint8).reshape(height, width, -1)


def barcode_of(frame: vmbpy.Frame) -> int | None:
    """The id in the picture; None if the second half is not the first one's complement."""
    picture = picture_of(frame)
    gray = picture[..., min(1, picture.shape[2] - 1)]  # UYVY: the luma
    side = max(2, min(16, gray.shape[1] // 64))
    cells = gray[:side, : 64 * side].reshape(side, 64, side)
    if not ((cells == 235) | (cells == 16)).all() or (cells != cells[:1, :, :1]).any():
        return None
    bits = "".join("1" if cell == 235 else "0" for cell in cells[0, :, 0])
    first, second = int(bits[:32], 2), int(bits[32:], 2)
    return first if first == second ^ 0xFFFFFFFF else None


@contextlib.contextmanager
def streaming(camera: vmbpy.Camera, frames: Frames, buffers: int = 16) -> Iterator[None]:
    camera.start_streaming(frames, buffer_count=buffers)
    try:
        yield
    finally:
        camera.stop_streaming()


# --- scenarios ---


def listing(cameras: SimulatedCameras) -> Any:
    with running(cameras) as system:
        return [(c.get_id(), c.get_model(), c.get_serial()) for c in system.get_all_cameras()]


def listing_by_environment(cameras: SimulatedCameras) -> Any:
    os.environ.update(cameras.environment)
    with vmbpy.VmbSystem.get_instance() as system:
        return [camera.get_id() for camera in system.get_all_cameras()]


def features(cameras: SimulatedCameras) -> Any:
    """Read every feature, then set those that depend on each other."""
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        streams = camera.get_streams()[0].get_all_features()
        every = (*camera.get_all_features(), *streams)
        values = {f.get_name(): str(f.get()) for f in every if hasattr(f, "get")}
        rate, exposure = camera.AcquisitionFrameRate, camera.ExposureTime
        answer: dict[str, Any] = {"values": values, "free_writeable": rate.is_writeable()}
        camera.AcquisitionFrameRateEnable.set(True)
        answer["writeable"] = rate.is_writeable()
        answer["range"] = rate.get_range()
        rate.set(150)
        exposure.set(20_000)
        answer["range_20_ms"], answer["clamped"] = rate.get_range(), rate.get()
        try:
            rate.set(60)
        except vmbpy.VmbFeatureError as error:
            answer["refused"] = str(error)
        exposure.set(1_000)
        rate.set(60)
        answer["set_again"] = rate.get()
        camera.get_feature_by_name("PixelFormat").set("BGR8")  # vmbpy attaches all but this
        answer["range_bgr8"] = rate.get_range()
        answer["payload_bgr8"] = camera.PayloadSize.get()
        camera.BinningHorizontal.set(2)
        camera.BinningVertical.set(2)
        sizes = ("Width", "Height", "WidthMax", "HeightMax", "PayloadSize")
        answer["binned"] = [camera.get_feature_by_name(name).get() for name in sizes]
        camera.Width.set(320)
        answer["offset_range"] = camera.OffsetX.get_range()
        before = camera.TimestampLatchValue.get()
        camera.TimestampLatch.run()
        answer["latched_ns"] = camera.TimestampLatchValue.get() - before
        cameras.heat(0, 61.5)
        wait_until(lambda: camera.DeviceTemperature.get() == 61.5, what="the temperature")
        camera.ExposureAuto.set("Continuous")
        answer["auto_exposure_writeable"] = exposure.is_writeable()
        return answer


def stream_each_format(cameras: SimulatedCameras) -> Any:
    answer = {}
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        for name in FORMATS:
            prepare(camera, PixelFormat=name)
            frames = Frames(barcode_of)
            with streaming(camera, frames):
                frames.wait(60)
                locked = not camera.Width.is_writeable()
            answer[name] = {"frames": frames.rows, "locked": locked}
    return answer


def stream_until(cameras: SimulatedCameras, count: int = 60, **features: Any) -> Any:
    """Stream ``count`` frames and give them."""
    frames = Frames()
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        prepare(camera, **features)
        with streaming(camera, frames):
            frames.wait(count)
        return frames.rows


def torn(cameras: SimulatedCameras) -> Any:
    """Each handler call leaves 77 in the whole buffer, as the old pixels of the next frame."""

    def look(frame: vmbpy.Frame) -> Any:
        picture = picture_of(frame)
        old_rows = (picture == 77).all(axis=(1, 2))
        seen = {"barcode": barcode_of(frame), "old_rows": np.flatnonzero(old_rows).tolist()}
        picture[...] = 77
        return seen

    frames = Frames(look)
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        prepare(camera)
        with streaming(camera, frames, 4):
            frames.wait(40)
            stream = camera.get_streams()[0]
            dropped = stream.get_feature_by_name("StatFrameDropped").get()
    return {"frames": frames.rows, "dropped": dropped}


def starved(cameras: SimulatedCameras) -> Any:
    """A handler that is stuck for a while, with three buffers."""
    go_on = threading.Event()

    def look(frame: vmbpy.Frame) -> None:
        if frame.get_id() == 10:
            go_on.wait()

    frames = Frames(look)
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        prepare(camera)
        with streaming(camera, frames, 3):
            cameras.wait_for("no_buffer", count=8)
            go_on.set()
            frames.wait(30)
            stream = camera.get_streams()[0]
            underrun = stream.get_feature_by_name("StatFrameUnderrun").get()
    return {"frames": frames.rows, "underrun": underrun}


def removal(cameras: SimulatedCameras) -> Any:
    """Unplug camera 0 and plug it in again while camera 1 streams on; what vmbpy says and when."""
    events: list[tuple[str, str, int, vmbpy.Camera]] = []
    clock = time.perf_counter_ns
    with running(cameras) as system:
        system.register_camera_change_handler(
            lambda camera, event: events.append((camera.get_id(), event.name, clock(), camera))
        )
        camera, other = system.get_camera_by_id(CAMERA), system.get_camera_by_id("DEV_SIM001")
        frames, other_frames, new_frames = Frames(), Frames(), Frames()
        with other:
            prepare(other)
            with streaming(other, other_frames):
                with camera:
                    prepare(camera)
                    camera.start_streaming(frames, buffer_count=8)
                    frames.wait(10)
                    cameras.remove(0)
                    gone = cameras.wait_for("unplug")
                    errors = [_error_of(camera.AcquisitionFrameRate.get)]
                    wait_until(lambda: bool(events), what="Missing")
                    wait_until(lambda: not camera.is_streaming(), what="the end of streaming")
                    listed = [camera.get_id() for camera in system.get_all_cameras()]
                    errors.append(_error_of(camera.stop_streaming))
                cameras.end(0, "remove")
                back = cameras.wait_for("replug")
                wait_until(lambda: len(events) > 1, what="Detected")
                with system.get_camera_by_id(CAMERA) as again:
                    width = again.Width.get()
                    prepare(again)
                    with streaming(again, new_frames):
                        new_frames.wait(20)
                other_frames.wait(len(other_frames.rows) + 1)
        return {
            "events": [event[:2] for event in events],
            "missing_after_ms": (events[0][2] - gone.host_ns) / 1e6,
            "detected_after_ms": (events[1][2] - back.host_ns) / 1e6,
            "errors": errors,
            "listed_after_missing": listed,
            "width_after": width,
            "same_object": events[1][3] is camera,
            "frames": frames.rows,
            "new_frames": new_frames.rows,
            "other_frames": other_frames.rows,
        }


def _error_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except (VmbCError, vmbpy.VmbCameraError, vmbpy.VmbFeatureError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def removal_stopped_before_missing(cameras: SimulatedCameras) -> Any:
    """stop_streaming() between the unplugging and VmbC's notice, then a clean end."""
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        prepare(camera)
        frames = Frames()
        camera.start_streaming(frames, buffer_count=8)
        frames.wait(10)
        cameras.remove(0)
        cameras.wait_for("unplug")
        return {"stop": _error_of(camera.stop_streaming), "streaming": camera.is_streaming()}


def replugged_unnoticed(cameras: SimulatedCameras) -> Any:
    """Gone and back between two looks of VmbC at its device list."""
    write_settings(cameras.settings_path, producer=cameras.producer, polling_ms=60_000)
    events: list[str] = []
    frames, new_frames = Frames(), Frames()
    with running(cameras) as system:
        system.register_camera_change_handler(lambda camera, event: events.append(event.name))
        camera = system.get_camera_by_id(CAMERA)
        with camera:
            prepare(camera)
            camera.start_streaming(frames, buffer_count=8)
            frames.wait(10)
            cameras.remove(0, for_s=0.02)
            cameras.wait_for("replug")
            read = _error_of(camera.ExposureTime.get)
            streaming_before = camera.is_streaming()
            stop = _error_of(camera.stop_streaming)
        with camera:
            prepare(camera)
            with streaming(camera, new_frames):
                new_frames.wait(10)
    answer = {"events": events, "read": read, "streaming": streaming_before, "stop": stop}
    return answer | {"new_ids": [row["id"] for row in new_frames.rows][:3]}


def busy(cameras: SimulatedCameras) -> Any:
    events: list[str] = []
    with running(cameras) as system:
        system.register_camera_change_handler(lambda camera, event: events.append(event.name))
        camera = system.get_camera_by_id(CAMERA)
        cameras.occupy(0)
        cameras.wait_for("busy")
        refused = _error_of(camera.__enter__)
        wait_until(lambda: bool(events), what="Unreachable")
        cameras.end(0, "busy")
        cameras.wait_for("free")
        wait_until(lambda: len(events) > 1, what="Reachable")
        with camera:
            return {"refused": refused, "events": events, "width": camera.Width.get()}


def hung(cameras: SimulatedCameras) -> Any:
    """Stop while the camera's registers hang: whether it hung, and the frames that came."""
    frames = Frames()
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        prepare(camera)
        camera.start_streaming(frames, buffer_count=16)
        frames.wait(5)
        cameras.hang(0)
        stopper = threading.Thread(target=camera.stop_streaming)
        stopper.start()
        cameras.wait_for("delivered", "no_buffer", count=100)
        hung = stopper.is_alive()
        cameras.end(0, "hang")
        stopper.join()
    return {"hung": hung, "frames": frames.rows}


def triggered(cameras: SimulatedCameras) -> Any:
    frames = Frames()
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        prepare(camera, TriggerMode="On", TriggerSource="Software")
        with streaming(camera, frames):
            for shot in range(3):
                camera.TriggerSoftware.run()
                frames.wait(shot + 1)
        camera.TriggerSource.set("Line0")
        with streaming(camera, frames):
            cameras.pulse(0, count=4)
            frames.wait(7)
        camera.TriggerMode.set("Off")
        single = camera.get_frame(timeout_ms=5000)
        return {"ids": [row["id"] for row in frames.rows], "single": single.get_width()}


def allocated_by_producer(cameras: SimulatedCameras) -> Any:
    mode = vmbpy.AllocationMode.AllocAndAnnounceFrame
    frames = Frames(barcode_of)
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        prepare(camera)
        camera.start_streaming(frames, buffer_count=5, allocation_mode=mode)
        frames.wait(20)
        camera.stop_streaming()
    return frames.rows


def hold_camera(cameras: SimulatedCameras) -> Any:
    """Stream until killed."""
    frames = Frames()
    with running(cameras) as system, system.get_camera_by_id(CAMERA) as camera:
        prepare(camera)
        with streaming(camera, frames):
            threading.Event().wait()


def cycles(cameras: SimulatedCameras) -> Any:
    """Open, stream and close 20 times; threads and descriptors whenever VmbC is shut down."""
    counts = []
    for _ in range(4):
        with running(cameras) as system:
            for _ in range(5):
                frames = Frames()
                with system.get_camera_by_id(CAMERA) as camera:
                    prepare(camera, 400, ExposureTime=500)
                    with streaming(camera, frames):
                        frames.wait(5)
        counts.append([len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))])
    return counts


def main() -> None:
    """Run one scenario and print its answer."""
    name, directory, producer = sys.argv[1:4]
    arguments = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
    answer = globals()[name](SimulatedCameras(Path(directory), Path(producer)), **arguments)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
