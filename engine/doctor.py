"""Go or no-go before a recording: is this machine able to do what will be asked of it?

Each check measures the thing itself rather than a stand-in: camera and encoder by a short recording
through the same processes, disk latency by synced writes into the asked directory, keys by wrapping
and opening a data key. Nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engine import keys
from engine.camera_check import judge_camera
from engine.config import RING_BYTES
from engine.container.header import new_core, new_header, open_header
from engine.container.recipients import KeyFileSecret
from engine.supervisor import Supervisor
from ipc import osdep
from ipc.errors import KeyFileError, SealrecError, from_code
from ipc.frame import PixelFormat
from ipc.memory_limits import memory_budget
from ipc.messages import Event, Reply, Shutdown, StartRecording, Status

__all__ = ["Check", "Wish", "examine"]

Verdict = Literal["ok", "warn", "fail"]

TRIAL_FRAMES = 60
CAMERA_TRIAL_S = 1.0
SPEED_MARGIN = 1.2
SYNC_ROUNDS = 20
SYNC_BYTES = 1 << 20
SLOW_SYNC_S = 0.5
STALLED_SYNC_S = 5.0
DEFAULT_BITS_PER_S = 6.67e6
EARLIEST_UNIX_S = 1_760_000_000  # this software is younger than that
SWAPS = Path("/proc/swaps")
DEVICE_MAPPER = Path("/sys/class/block")


@dataclass(frozen=True, slots=True)
class Wish:
    """The recording to come, as far as it is known.

    Attributes:
        directory: Where the file will lie.
        source: As for `record`.
        width, height, fps, pixel_format: As for `record`; None: what the camera does, or
            1920x1200 bgr8 at 30.
        codec, ring_seconds: As for `record`.
        camera: Further settings of `record` that concern a camera.
        minutes: How long it may become.
        key_files, password_files, public_keys: As for `record`; may be empty.
        allow_swap: Unencrypted swap is a warning instead of a failure.
    """

    directory: Path
    source: str = "synthetic"
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    pixel_format: str | None = None
    codec: str = "h264"
    ring_seconds: float = 3.0
    minutes: float = 60.0
    key_files: tuple[str, ...] = ()
    password_files: tuple[str, ...] = ()
    public_keys: tuple[str, ...] = ()
    allow_swap: bool = False
    camera: dict[str, Any] = field(default_factory=dict)

    @property
    def is_camera(self) -> bool:
        """A real camera, not what stands in for one."""
        return self.source.startswith("vimba")

    @property
    def picture(self) -> tuple[int, int, float, PixelFormat]:
        """Width, height, frame rate and pixel format, with the defaults filled in."""
        pixel_format = PixelFormat(self.pixel_format or "bgr8")
        return self.width or 1920, self.height or 1200, self.fps or 30.0, pixel_format


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, the verdict, and what was found in words and figures."""

    name: str
    verdict: Verdict
    text: str
    figures: dict[str, Any]


def examine(wish: Wish) -> Iterator[Check]:
    """Run all checks, one after the other; a check that fails does not stop the next."""
    if wish.is_camera:
        try:
            result = _record_trial(wish)
        except (SealrecError, OSError) as error:
            yield Check("camera", "fail", str(error), {})
        else:
            found = judge_camera(result, wish.fps)
            yield Check("camera", found.verdict, found.text, found.figures)
            wish = _as_it_is(wish, result["source"])
            yield _judge_recording(wish, result)
    checks: list[tuple[str, Callable[[Wish], Check]]] = [
        ("clock", _clock),
        ("swap", _swap),
        ("keys", _keys),
        ("memory", _memory),
        ("space", _space),
        ("disk", _disk),
    ]
    if not wish.is_camera:
        checks.append(("recording", _recording))
    for name, check in checks:
        try:
            yield check(wish)
        except (SealrecError, OSError) as error:
            yield Check(name, "fail", str(error), {})


def _as_it_is(wish: Wish, source: dict[str, Any]) -> Wish:
    """The wish with what the camera really does."""
    return replace(
        wish,
        width=source["width_px"],
        height=source["height_px"],
        pixel_format=source["pixel_format"],
        fps=wish.fps or source["rate_hz"],
    )


def _clock(_wish: Wish) -> Check:
    now = time.time()
    resolution_ns = time.get_clock_info("perf_counter").resolution * 1e9
    figures = {"unix_s": round(now, 3), "host_clock_resolution_ns": round(resolution_ns, 1)}
    if now < EARLIEST_UNIX_S:
        return Check("clock", "fail", "The clock is wrong: set date and time.", figures)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    return Check("clock", "ok", f"{stamp} (compare it with a watch)", figures)


def _swap(wish: Wish) -> Check:
    """Pictures in the ring could be written to swap; only encrypted or compressed-RAM swap is."""
    if sys.platform == "win32":
        return Check(
            "swap", "warn", "Not checked on Windows: encrypt the system drive (BitLocker).", {}
        )
    open_devices = [device for device in _swap_devices() if not _is_safe_swap(device)]
    figures = {"unencrypted": open_devices}
    if not open_devices:
        return Check("swap", "ok", "no swap, or encrypted swap only", figures)
    verdict: Verdict = "warn" if wish.allow_swap else "fail"
    text = f"{', '.join(open_devices)}: pictures in memory may reach the disk unencrypted. "
    return Check("swap", verdict, text + "Switch swap off or encrypt it.", figures)


def _swap_devices() -> list[str]:
    with contextlib.suppress(OSError):
        return [line.split()[0] for line in SWAPS.read_text().splitlines()[1:] if line.strip()]
    return []


def _is_safe_swap(device: str) -> bool:
    name = os.path.basename(os.path.realpath(device))
    if name.startswith("zram"):
        return True
    with contextlib.suppress(OSError):
        return (DEVICE_MAPPER / name / "dm" / "uuid").read_text().startswith("CRYPT-")
    return False


def _keys(wish: Wish) -> Check:
    given = len(wish.key_files) + len(wish.password_files) + len(wish.public_keys)
    if not given:
        return Check("keys", "warn", "none given: nothing was checked", {"keys": 0})
    dek = secrets.token_bytes(32)
    core = new_core(
        recording_id=secrets.token_bytes(16),
        part_index=0,
        created_unix_ms=time.time_ns() // 1_000_000,
    )
    recipients = keys.recipients_from(
        key_files=wish.key_files,
        password_files=wish.password_files,
        public_keys=wish.public_keys,
    )
    header = new_header(core, dek, recipients)
    for path in wish.key_files:
        if open_header(header, header, KeyFileSecret(keys.read_key_file(path))).dek != dek:
            raise KeyFileError(f"{path} does not open what it sealed.")
    if len(wish.public_keys) == given:
        text = "public keys only: this machine can neither read back nor recover what it records"
        return Check("keys", "warn", text, {"keys": given})
    return Check("keys", "ok", f"{given} usable", {"keys": given})


def _memory(wish: Wish) -> Check:
    width, height, fps, pixel_format = wish.picture
    need = round(pixel_format.size_bytes(width, height) * fps * wish.ring_seconds)
    budget = memory_budget()
    figures = {"ring_bytes": need, "available_bytes": budget.available_bytes}
    text = f"the ring takes {need / 1e6:.0f} MB of {budget.available_bytes / 1e6:.0f} MB"
    if need > budget.available_bytes:
        return Check("memory", "fail", f"{text}: lower --ring-seconds", figures)
    return Check("memory", "ok", text, figures)


def _space(wish: Wish) -> Check:
    free = shutil.disk_usage(_existing(wish.directory)).free
    width, height, fps, _ = wish.picture
    pixels = width * height * fps / (1920 * 1200 * 30)
    need = round(wish.minutes * 60 * DEFAULT_BITS_PER_S / 8 * max(0.2, pixels))
    figures = {"free_bytes": free, "needed_bytes": need}
    text = f"{free / 1e9:.1f} GB free, {wish.minutes:g} minutes need up to {need / 1e9:.1f} GB"
    return Check("space", "ok" if free > need * 1.1 else "fail", text, figures)


def _disk(wish: Wish) -> Check:
    """Write and sync as the writer does, in the directory of the recording."""
    data = secrets.token_bytes(SYNC_BYTES)
    write_s, sync_s = [], []
    with tempfile.TemporaryFile(dir=_existing(wish.directory)) as file:
        for round_ in range(SYNC_ROUNDS):
            began = time.perf_counter()
            osdep.write_at(file.fileno(), data, round_ * SYNC_BYTES)
            written = time.perf_counter()
            osdep.sync_data(file.fileno())
            write_s.append(written - began)
            sync_s.append(time.perf_counter() - written)
    rate = SYNC_BYTES * SYNC_ROUNDS / (sum(write_s) + sum(sync_s))
    worst, median = max(sync_s), statistics.median(sync_s)
    figures = {
        "synced_bytes_per_s": round(rate),
        "sync_median_s": round(median, 6),
        "sync_max_s": round(worst, 6),
    }
    text = f"{rate / 1e6:.0f} MB/s synced, sync {median * 1e3:.1f} ms, worst {worst * 1e3:.1f} ms"
    if worst > STALLED_SYNC_S or rate < 2 * DEFAULT_BITS_PER_S / 8:
        return Check("disk", "fail", f"{text}: too slow to record to", figures)
    return Check("disk", "warn" if worst > SLOW_SYNC_S else "ok", text, figures)


def _recording(wish: Wish) -> Check:
    """Make a short recording of the synthetic camera as fast as it goes."""
    return _judge_recording(wish, _record_trial(wish))


def _record_trial(wish: Wish) -> dict[str, Any]:
    """Record for a moment into the asked directory; nothing is kept but the balance sheet.

    Raises:
        SealrecError: it could not begin.
    """
    width, height, fps, pixel_format = wish.picture
    picture: dict[str, Any] = {
        "width": width,
        "height": height,
        "fps": fps,
        "pixel_format": pixel_format.value,
        "policy": "block",
        "realtime": False,
        # As fast as it goes, a fixed number of frames: the wish may be beyond any machine.
        "frames": TRIAL_FRAMES,
    }
    if wish.is_camera:
        picture = {
            "width": wish.width,
            "height": wish.height,
            "fps": wish.fps,
            "pixel_format": wish.pixel_format,
            "camera_return_s": 0.0,
            "seconds": CAMERA_TRIAL_S,
            **wish.camera,
        }
    with tempfile.TemporaryDirectory(dir=_existing(wish.directory), prefix=".doctor-") as folder:
        key = Path(folder) / "key"
        keys.new_key_file(key)
        config = {
            "output": str(Path(folder) / "trial.mp4.enc"),
            "source": wish.source if wish.is_camera else "synthetic",
            "keys": [{"kind": "key_file", "value": str(key)}],
            "codec": wish.codec,
            "ring_seconds": _trial_ring_s(wish),
            **picture,
        }
        return _run_trial(config)


def _judge_recording(wish: Wish, result: dict[str, Any]) -> Check:
    """Whether the encoder keeps up, and the file is whole."""
    width, height, wanted, _ = wish.picture
    encoder = result["encoder"]
    per_frame_ms = (encoder["encode_ms"] or 0.0) + (encoder["convert_ms"] or 0.0)
    fps = 1e3 / per_frame_ms if per_frame_ms else 0.0
    figures = {
        "encoder": encoder["name"],
        "max_fps": round(fps, 1),
        "frames": result["frames_written"],
        "lost": result["lost"],
        "balanced": result["balanced"],
        "state": result["state"],
    }
    text = f"{figures['encoder']} does {fps:.0f} fps at {width}x{height}"
    if not result["balanced"] or result["state"] != "sealed":
        return Check("recording", "fail", f"{text}; the file was not whole", figures)
    if not fps and wish.is_camera:
        return Check("recording", "warn", "no frame came: the encoder was not measured", figures)
    if fps < wanted:
        return Check("recording", "fail", f"{text}: not enough for {wanted:g} fps", figures)
    tight = fps < SPEED_MARGIN * wanted or sum(result["lost"].values()) > 0
    return Check("recording", "warn" if tight else "ok", text, figures)


def _trial_ring_s(wish: Wish) -> float:
    """A second of frames, but no more memory than a recording takes by default."""
    width, height, fps, pixel_format = wish.picture
    return min(1.0, wish.ring_seconds, RING_BYTES / (pixel_format.size_bytes(width, height) * fps))


def _run_trial(config: dict[str, Any]) -> dict[str, Any]:
    """Make one recording to its end.

    Raises:
        SealrecError: it could not begin.
    """
    outcome: dict[str, Any] = {}

    def listen(message: Reply | Status | Event) -> None:
        if isinstance(message, Event) and message.kind == "recording_stopped":
            outcome["result"] = message.details
            supervisor.submit(Shutdown())
        elif isinstance(message, Reply) and not message.ok:
            outcome["error"] = message.error
            supervisor.submit(Shutdown())

    supervisor = Supervisor(listen)
    supervisor.submit(StartRecording(call=1, config=config))
    supervisor.run()
    if outcome.get("error"):
        raise from_code(**outcome["error"])
    result: dict[str, Any] = outcome["result"]
    return result


def _existing(directory: Path) -> Path:
    """The directory, or its nearest ancestor that exists."""
    directory = directory.absolute()
    while not directory.is_dir():
        directory = directory.parent
    return directory
