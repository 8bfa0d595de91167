"""`benchmarks.feed_camera` with clocks around its steps (`benchmarks.probes`)."""

from __future__ import annotations

import benchmarks.feed_camera
import workers.capture
from benchmarks.feed_camera import FeedCamera
from benchmarks.probes import CAMERA, Probes
from ipc.worker import leave
from workers.ring_sink import RingSink

if __name__ == "__main__":
    probes = Probes("capture")
    probes.around(benchmarks.feed_camera, "wait_until", CAMERA)
    probes.around(FeedCamera, "_first_in_time", CAMERA)
    probes.around(FeedCamera, "_deliver", CAMERA)
    probes.around(FeedCamera, "copy", "copy")
    probes.around(RingSink, "acquire", "ring", frame=True)
    probes.around(RingSink, "publish", "ring")
    workers.capture.open_source = FeedCamera  # type: ignore[attr-defined]
    code = workers.capture.main()
    probes.save()
    leave(code)
