"""Changes a simulated camera's settings through `VimbaSource`, in a process of its own.

Run as ``python -m tests.workers.adjusting DIRECTORY PRODUCER``; the answer is JSON on stdout: what
the camera said after each step. It judges nothing.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ipc.camera_control import CameraChanges
from ipc.errors import ConfigError
from tests.gentl.simulator import SimulatedCameras, wait_until
from tests.workers.memory_sink import MemorySink
from workers.sources.source import SourceSpec
from workers.sources.vimba import VimbaSource

CAMERA = "DEV_SIM000"


def spec(cameras: SimulatedCameras, **changes: Any) -> SourceSpec:
    """The first camera, at 100 Hz."""
    settings = str(cameras.settings_path)
    return SourceSpec(f"vimba:{CAMERA}", rate_hz=100.0, sdk_settings=settings, **changes)


def while_streaming(cameras: SimulatedCameras) -> dict[str, Any]:
    """Each change while frames come, and what is read back."""
    source, sink, stop = VimbaSource(spec(cameras)), MemorySink(keep=False), threading.Event()
    info = source.open()
    run = threading.Thread(target=source.run, args=(sink, stop))
    run.start()
    found: dict[str, Any] = {"opened": msgspec.to_builtins(source.camera_state())}

    def step(name: str, **changes: Any) -> None:
        frames = len(sink.frames)
        wait_until(lambda: len(sink.frames) > frames, what="frames")
        try:
            state = source.adjust(CameraChanges(**changes))
            found[name] = msgspec.to_builtins(state) | {"rate_hz": source.info.rate_hz}  # type: ignore[union-attr]
        except ConfigError as error:
            found[name] = {"refused": error.message}

    step("exposure", exposure_us=2500.0)
    step("gain", gain_db=6.0)
    step("beyond", gain_db=999.0, exposure_us=1.0)
    step("automatic", auto_exposure=True, auto_gain=True, auto_white_balance=True)
    step("by hand again", exposure_us=4000.0, gain_db=3.0)
    step("rate", frame_rate_hz=50.0)
    step("long", exposure_us=500_000.0)
    step("silence", frame_rate_hz=1.0)
    stop.set()
    run.join(20)
    found["size"] = [info.width_px, info.height_px]
    source.close()
    return found


def reopened(cameras: SimulatedCameras, **changes: Any) -> dict[str, Any]:
    """A new opening with changes, and the frame that comes of it."""
    source = VimbaSource(spec(cameras, changes=CameraChanges(**changes)))
    try:
        info = source.open()
        sizes: list[tuple[int, ...]] = []
        stop = threading.Event()
        sink = MemorySink(on_acquire=lambda _: sizes and stop.set())
        acquire: Callable[..., Any] = sink.acquire

        def look(*arguments: Any, **shape: Any) -> Any:
            sizes.append((shape["width_px"], shape["height_px"]))
            return acquire(*arguments, **shape)

        sink.acquire = look  # type: ignore[method-assign]
        source.run(sink, stop)
        state = msgspec.to_builtins(source.camera_state())
        return {"info": [info.width_px, info.height_px], "frame": sizes[0], **state}
    except ConfigError as error:
        return {"refused": error.message}
    finally:
        source.close()


def main() -> None:
    """Do all of it."""
    cameras = SimulatedCameras(Path(sys.argv[1]), Path(sys.argv[2]))
    os.environ.update(cameras.environment)
    found = {
        "streaming": while_streaming(cameras),
        "binned": reopened(cameras, binning=2, exposure_us=3000.0),
        "unbinned": reopened(cameras, binning=1),
        "too much": reopened(cameras, binning=7),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # threads of the SDK may outlive it


if __name__ == "__main__":
    main()
