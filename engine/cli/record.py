"""`sealrec record`, `demo` and `serve`: the commands that make recordings."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from engine.cli.catalog_options import AuditKey, CatalogFile, CatalogName, read_catalog
from engine.cli.options import (
    CameraSdkSettings,
    CameraSettings,
    KeyFiles,
    PasswordFiles,
    PublicKeys,
    parse_size,
)
from engine.cli.output import AsJson, console, human_bytes, human_time, print_json
from ipc.errors import ConfigError
from ipc.messages import Event, Reply, Shutdown, StartRecording, Status, StopRecording, Trigger

if TYPE_CHECKING:
    from engine.catalog.place import CatalogPlace

__all__ = ["record_once", "register"]

EXIT_EARLY = 7
START_CALL, STOP_CALL, TRIGGER_CALL = 1, 2, 3

Source = Annotated[
    str, typer.Option(help="synthetic[:scene|:chart], file:PATH or vimba[:ID].", metavar="SOURCE")
]
Size = Annotated[str | None, typer.Option(help="Width x height in pixels.", metavar="1920x1200")]
Fps = Annotated[float | None, typer.Option(help="Frames per second.")]
Format = Annotated[
    str | None, typer.Option(help="mono8, bayer_rg8, bgr8, rgb8 or yuv422.", metavar="FORMAT")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(record)
    app.command()(demo)
    app.command()(serve)


def record(  # noqa: PLR0913, PLR0917 - one parameter per option
    output: Annotated[Path, typer.Argument(help="The recording, e.g. session.mp4.enc.")],
    source: Source = "synthetic",
    size: Size = None,
    fps: Fps = None,
    pixel_format: Format = None,
    codec: Annotated[
        str, typer.Option(help="h264, hevc, av1, mpeg4, or an encoder's name.")
    ] = "h264",
    hardware: Annotated[str, typer.Option(help="Hardware encoders: auto, off or only.")] = "auto",
    preset: Annotated[str | None, typer.Option(help="The encoder's speed preset.")] = None,
    seconds: Annotated[float | None, typer.Option(help="End after so many seconds.")] = None,
    frames: Annotated[int | None, typer.Option(help="End after so many frames.")] = None,
    policy: Annotated[
        str,
        typer.Option(help="drop: lose and count when the ring is full; block: the source waits."),
    ] = "drop",
    realtime: Annotated[
        bool | None,
        typer.Option(help="Pace file and synthetic sources as a camera. Default: unless block."),
    ] = None,
    ring_seconds: Annotated[
        float | None, typer.Option(help="Depth of the frame ring. Default 3, at most 1 GiB.")
    ] = None,
    trigger: Annotated[
        str | None,
        typer.Option(
            help="What a camera waits for before each frame: hardware, or software: each line on "
            "stdin takes one; off. Default: as it is set."
        ),
    ] = None,
    camera_settings: CameraSettings = None,
    camera_sdk_settings: CameraSdkSettings = None,
    camera_return: Annotated[
        float, typer.Option(help="Seconds that a camera may be away before the file is sealed.")
    ] = 30.0,
    session: Annotated[
        list[str] | None,
        typer.Option("--session", help="NAME=VALUE for the file's session table; may repeat."),
    ] = None,
    key_file: KeyFiles = None,
    password_file: PasswordFiles = None,
    public_key: PublicKeys = None,
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    as_json: AsJson = False,
) -> int:
    """Record a source to an encrypted file until stopped by Ctrl-C, a limit or its end."""
    width, height = parse_size(size)
    config = {
        "output": str(output),
        "source": source,
        "keys": _keys(key_file, password_file, public_key),
        "width": width,
        "height": height,
        "fps": fps,
        "pixel_format": pixel_format,
        "codec": codec,
        "hardware": hardware,
        "preset": preset,
        "seconds": seconds,
        "frames": frames,
        "policy": policy,
        "realtime": policy != "block" if realtime is None else realtime,
        "ring_seconds": ring_seconds,
        "trigger": trigger,
        "camera_settings": camera_settings,
        "camera_sdk_settings": camera_sdk_settings,
        "camera_return_s": camera_return,
        "session": dict(_pair(item) for item in session or ()),
    }
    if seconds is not None and seconds <= 0:
        raise ConfigError("--seconds must be greater than zero.")
    place = read_catalog(catalog, catalog_file, audit_key)
    result = record_once(config, show=not as_json, catalog=place)
    return _report(result, as_json=as_json)


def demo(
    seconds: Annotated[float, typer.Option(help="Length of the recording.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="Directory; default data/sessions/<id>.")] = None,
    size: Size = "1920x1200",
    fps: Fps = 30.0,
    as_json: AsJson = False,
) -> int:
    """Record the synthetic camera, verify the file, and print where it is."""
    from engine import keys
    from engine.reading.verify import verify

    if seconds <= 0:
        raise ConfigError("--seconds must be greater than zero.")
    session = uuid.uuid4().hex[:12]
    folder = (out or Path("data") / "sessions" / session).absolute()
    width, height = parse_size(size)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True, mode=0o700)
    key_path, recording = folder / "demo.key", folder / "recording.mp4.enc"
    if not key_path.exists():
        keys.new_key_file(key_path)
    config = {
        "output": str(recording),
        "source": "synthetic",
        "keys": [{"kind": "key_file", "value": str(key_path)}],
        "width": width,
        "height": height,
        "fps": fps,
        "seconds": seconds,
        "next_free_name": True,
        "session": {"session_id": session},
    }
    result = record_once(config, show=not as_json)
    code = _exit_code(result)
    if result["parts"] and code == 0:
        report = verify(Path(result["parts"][0]), keys.secret_from(key_file=key_path))
        result["verify"] = report.as_dict()
        code = report.exit_code
    result["key_file"] = str(key_path)
    if as_json:
        print_json(result)
        return code
    _summary(result)
    if result["parts"]:
        _tell_how_to_look(result)
    return code


def _tell_how_to_look(result: dict[str, Any]) -> None:
    path, key = result["parts"][0], result["key_file"]
    if "verify" in result:
        console.print(f"verified: {result['verify']['state']}")
    console.print("The key lies beside it, for this demo only. Decode every frame, or play it:")
    console.print(f"  sealrec verify {path} --key-file {key} --decode", soft_wrap=True)
    console.print(f"  sealrec export {path} demo.mp4 --key-file {key}", soft_wrap=True)


def serve(
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    observer_fd: Annotated[
        int | None, typer.Option(help="A socket on which to hand out frames.", hidden=True)
    ] = None,
) -> int:
    """Serve a controller: msgpack messages on stdin and stdout (PROTOCOL.md)."""
    from engine.server import serve as run_server

    place = read_catalog(catalog, catalog_file, audit_key)
    return run_server(catalog=place, observer_fd=observer_fd)


def record_once(
    config: dict[str, Any], *, show: bool, catalog: CatalogPlace | None = None
) -> dict[str, Any]:
    """Make one recording in this process; Ctrl-C and SIGTERM stop and seal it.

    Args:
        config: As of `start` (PROTOCOL.md).
        show: Show events and a status line on stderr.
        catalog: Told what happens.

    Returns:
        The balance sheet.

    Raises:
        SealrecError: it could not begin.
    """
    from engine.supervisor import Supervisor
    from ipc import errors, logs, osdep

    logs.configure("engine", quiet=True)
    osdep.forbid_core_dumps()
    outcome: dict[str, Any] = {}
    live = Live(console=console, refresh_per_second=5, transient=True) if show else None

    def listen(message: Reply | Status | Event) -> None:
        if isinstance(message, Status) and live is not None:
            live.update(_status_line(message.status))
        elif isinstance(message, Event):
            _tell(message, show=show)
            if message.kind == "recording_stopped":
                outcome["result"] = message.details
                supervisor.submit(Shutdown())
        elif isinstance(message, Reply) and not message.ok and message.call != TRIGGER_CALL:
            outcome["error"] = message.error
            supervisor.submit(Shutdown())

    supervisor = Supervisor(listen, catalog)

    def stop(_signal: int, _frame: object) -> None:
        supervisor.submit(StopRecording(call=STOP_CALL))

    previous = {number: signal.signal(number, stop) for number in _stop_signals()}
    try:
        with live if live is not None and console.is_terminal else contextlib.nullcontext():
            supervisor.submit(StartRecording(call=START_CALL, config=config))
            if config.get("trigger") == "software":
                _read_triggers(lambda: supervisor.submit(Trigger(call=TRIGGER_CALL)))
            supervisor.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if outcome.get("error"):
        raise errors.from_code(**outcome["error"])
    result: dict[str, Any] = outcome["result"]
    return result


def _read_triggers(trigger: Callable[[], None]) -> None:
    """Call ``trigger`` for each line on stdin, from a thread of its own."""

    def read() -> None:
        # Not sys.stdin: its lock, held by a thread that still reads, would stop the exit.
        while lines := os.read(0, 4096):
            for _ in range(lines.count(b"\n")):
                trigger()

    threading.Thread(target=read, name="triggers", daemon=True).start()


def _stop_signals() -> list[signal.Signals]:
    found = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32":
        found.append(signal.SIGHUP)
    return found


def _tell(event: Event, *, show: bool) -> None:
    shown = (
        "error",
        "disk_failed",
        "disk_low",
        "overload",
        "speed_step",
        "camera_lost",
        "camera_back",
        "catalog_behind",
        "catalog_back",
        "frames_lost",
        "worker_restarted",
    )
    camera = event.details.get("source", {}).get("camera", {})
    if show and event.kind == "recording_started" and "not_as_asked" in camera:
        console.print(f"the camera moved what was asked for: {camera['not_as_asked']}")
    if show and event.kind in shown:
        console.print(f"{time.strftime('%H:%M:%S')} {event.kind}: {event.text}")


def _status_line(status: dict[str, Any]) -> Text:
    frames = status.get("frames")
    if not frames:
        return Text(status.get("state", ""))
    good = status["state"] == "recording"
    lost = sum(frames.values()) - frames["offered"] - frames["written"] - frames["in_flight"]
    disk, ring = status["disk"], status["ring"]
    left = disk["minutes_left"]
    text = Text()
    text.append("● ", style="bold red" if good else "yellow")
    text.append(f"{status['state']} {human_time(status['elapsed_s'])}  ")
    text.append(f"{frames['written']} written  ")
    text.append(f"{lost} lost  ", style="bold red" if lost else "")
    text.append(f"{status['fps_in']:.1f} fps  ring {ring['fill']}/{ring['slots']}  ")
    text.append(f"{human_bytes(status['durable_bytes'])} durable  ")
    text.append(f"disk {left:.0f} min left" if left is not None else "")
    return text


def _report(result: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(result)
    else:
        _summary(result)
    return _exit_code(result)


def _exit_code(result: dict[str, Any]) -> int:
    if result.get("problem"):
        return EXIT_EARLY
    if result["state"] == "incomplete":
        return 3
    return 0 if result["balanced"] else 6


def _summary(result: dict[str, Any]) -> None:
    lost = sum(result["lost"].values())
    console.print(
        f"{result['state']}: {result['frames_written']} of {result['frames_offered']} frames, "
        f"{lost} lost, {human_time(result['duration_s'])}, {human_bytes(result['size_bytes'])}, "
        + ("every frame accounted for" if result["balanced"] else "NOT BALANCED")
    )
    for label, count in result["lost"].items():
        console.print(f"  {label}: {count}")
    for path in result["parts"]:
        console.print(f"  {path}", soft_wrap=True)
    problem = result.get("problem")
    if problem:
        console.print(f"ended early: {problem['message']} {problem['hint']}")


def _keys(
    key_files: list[str] | None, password_files: list[str] | None, public_keys: list[str] | None
) -> list[dict[str, str]]:
    given = (
        ("key_file", key_files),
        ("password_file", password_files),
        ("public_key", public_keys),
    )
    return [{"kind": kind, "value": value} for kind, values in given for value in values or ()]


def _pair(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise ConfigError(f"--session takes NAME=VALUE, not {item!r}.")
    return name, value
