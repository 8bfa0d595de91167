"""The client library with real engines: a day, deaths, deadlines, a frozen controller."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from engine.client import (
    AsyncRecorder,
    CameraLost,
    EngineDied,
    EngineGone,
    EngineTimeout,
    Event,
    EventsDropped,
    FramesLost,
    Options,
    PartSealed,
    Recorder,
    RecordingStarted,
    RecordingStopped,
    Result,
    Status,
    StatusReceived,
)
from engine.client.events import read_event
from engine.client.mailbox import MAX_EVENTS, Mailbox
from engine.client.options import KEY_KINDS, configuration
from engine.config import RecordingConfig
from engine.container.recipients import Secret
from engine.keys import new_key_file, secret_from
from engine.reading.verify import verify
from ipc.errors import (
    ChannelClosed,
    ConfigError,
    EndedEarly,
    FrameTooLarge,
    KeyFileError,
    PeerDied,
    WrongState,
)
from tests.ipc.specification import Section, section
from tests.processes.serving import wait_until

AWAIT_S = 60.0
PASSWORD = "Grüße aus Zimmer 7"
HEAVY = {"av", "cryptography", "cv2", "msgspec", "numpy", "sqlalchemy", "vmbpy"}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A new key file."""
    path = tmp_path / "treatment.key"
    new_key_file(path)
    return path


@pytest.fixture
def small(tmp_path: Path, key_file: Path) -> Options:
    """Options of a small recording."""
    return {
        "output": tmp_path / "x.mp4.enc",
        "source": "synthetic",
        "width": 320,
        "height": 240,
        "codec": "libx264",
        "key_file": key_file,
    }


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for as long as this lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it was killed meanwhile
            os.kill(pid, signal.SIGCONT)


def engine_of(recorder: Recorder | AsyncRecorder) -> int:
    """Process id of a running engine."""
    assert recorder.pid is not None
    return recorder.pid


def in_a_thread(function: Callable[[], object]) -> Callable[[], BaseException]:
    """Call a function in a thread; returns what waits for the error it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def error() -> BaseException:
        thread.join(AWAIT_S)
        assert not thread.is_alive()
        [found] = raised
        return found

    return error


def sealed(path: Path, secret: Secret) -> int:
    """Frames of a sealed and balanced recording."""
    report = verify(path, secret)
    assert (report.state, report.balanced, report.complete) == ("sealed", True, True)
    return report.frames


def lost_nothing(result: Result) -> bool:
    """No frame that came was lost; on a busy machine the synthetic camera may itself be late."""
    return result.balanced and set(result.lost) <= {"camera_gap"}


# --- a day ------------------------------------------------------------------------------------


def test_a_day_of_recordings(
    small: Options, key_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three recordings in one engine; a subscriber that raises costs nobody else an event."""
    heard: list[Event] = []
    threads = set()

    def hear(event: Event) -> None:
        heard.append(event)
        threads.add(threading.current_thread())

    def fail(event: Event) -> None:
        raise RuntimeError(f"a mistake at {event.kind}")

    results: list[Result] = []
    with Recorder() as recorder:
        recorder.subscribe(fail)
        end = recorder.subscribe(hear)
        stream = recorder.events(RecordingStopped)
        engine = engine_of(recorder)

        started = recorder.start(small)
        assert recorder.wait_recording(AWAIT_S).recording_id == started.recording_id
        with pytest.raises(WrongState):
            recorder.start(small)
        results.append(recorder.stop())
        assert not recorder.status.is_recording

        second = recorder.start(small, frames=20)  # ends by itself
        assert second.path == tmp_path / "x-2.mp4.enc"
        results.append(recorder.wait_stopped(AWAIT_S))
        assert recorder.stop() == results[-1]

        third = recorder.start(small, output="y.mp4.enc", password=PASSWORD, session={"a": "b"})
        assert third.path == Path("y.mp4.enc").absolute()
        status = recorder.wait_written(10, AWAIT_S)
        assert status.frames.offered >= status.frames.written + status.frames.lost_in_all
        results.append(recorder.stop())
        assert engine_of(recorder) == engine
        recorder.wait_status(lambda status: status.state == "idle", AWAIT_S)
        wait_until(lambda: sum(isinstance(event, RecordingStopped) for event in heard) == 3)
        end()
    third.path.unlink()

    assert [event.result for event in stream if isinstance(event, RecordingStopped)] == results
    assert [event.result for event in heard if isinstance(event, RecordingStopped)] == results
    begun = [event for event in heard if isinstance(event, RecordingStarted)]
    assert [event.path for event in begun] == [started.path, second.path, third.path]
    assert sum(isinstance(event, PartSealed) for event in heard) == 3
    assert any(isinstance(event, StatusReceived) for event in heard)
    assert not any(isinstance(event, EngineGone) for event in heard), "unsubscribed before"
    assert [thread.name for thread in threads] == ["sealrec-events"]
    assert "a mistake at recording_stopped" in caplog.text
    for result, begin in zip(results[:2], (started, second), strict=True):
        assert (result.state, result.balanced, result.path) == ("sealed", True, begin.path)
        assert result.frames_written + result.frames_lost == result.frames_offered
        assert sealed(begin.path, secret_from(key_file=key_file)) == result.frames_written
    assert results[1].frames_offered == 20


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths lie in the test's folder."""
    monkeypatch.chdir(tmp_path)


def test_refusals_are_the_engines_errors(small: Options, tmp_path: Path) -> None:
    """Each has its class; none costs the engine, and waiting for what cannot come ends."""

    def fails(_: Status) -> bool:
        raise LookupError

    with Recorder() as recorder:
        with pytest.raises(WrongState):
            recorder.stop()
        with pytest.raises(WrongState):
            recorder.wait_stopped(AWAIT_S)
        with pytest.raises(ConfigError, match="colour"):
            recorder.start(small, colour="red")  # type: ignore[call-arg]
        with pytest.raises(ConfigError, match="key"):
            recorder.start(output=tmp_path / "y.mp4.enc")
        with pytest.raises(KeyFileError):
            recorder.start(small, key_file=tmp_path / "none")
        with pytest.raises(ConfigError, match="cannot be told") as refused:
            recorder.start(small, session={"a": object()})  # type: ignore[dict-item]
        assert refused.value.__cause__ is refused.value.__context__ is None
        with pytest.raises(EngineTimeout):
            recorder.wait_event(FramesLost, 0.0)
        with pytest.raises(WrongState):
            recorder.open()
        recorder.start(small, frames=5)
        with pytest.raises(EndedEarly):
            recorder.wait_written(6, AWAIT_S)
        with pytest.raises(LookupError):
            recorder.wait_status(fails, AWAIT_S)
        recorder.wait_status(lambda status: status.state == "idle", AWAIT_S)
        assert recorder.get_status().state == "idle"
        assert recorder.wait_event(StatusReceived, AWAIT_S).status.state == "idle"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["treatment.key", "x.mp4.enc"]


def test_a_password_is_shown_nowhere(small: Options, tmp_path: Path) -> None:
    """It opens the file, and is in no text, no log and no argument of any process."""
    del small["key_file"]
    arguments: list[bytes] = []
    with Recorder() as recorder:
        stream = recorder.events()
        with pytest.raises(ConfigError) as refused:
            recorder.start(small, password=PASSWORD, width=-1)
        with pytest.raises(ConfigError) as unsendable:
            recorder.start(small, password=PASSWORD + "\ud800")
        path = recorder.start(small, password=PASSWORD).path
        status = recorder.wait_written(10, AWAIT_S)
        for worker in status.raw["workers"].values():
            arguments.append(Path(f"/proc/{worker['pid']}/cmdline").read_bytes())
        shown = [repr(recorder), repr(refused.value), repr(unsendable.value)]
        recorder.stop()
    gone: list[Event] = list(stream)
    shown += [repr(event) for event in gone]
    assert isinstance(gone[-1], EngineGone)
    shown += gone[-1].last_lines
    assert "recording_started" in " ".join(gone[-1].last_lines), "stderr was read"
    assert not [text for text in shown if "Zimmer" in text]
    assert not [text for text in arguments if b"Zimmer" in text]
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    assert sealed(path, secret_from(password_file=tmp_path / "password")) >= 10


def test_closing_is_harmless_at_any_time(small: Options, key_file: Path) -> None:
    """Before, twice, from a subscriber, in mid recording; the recorder can be opened again."""
    recorder = Recorder()
    recorder.close()
    assert recorder.status.state == "no_engine"
    with pytest.raises(WrongState):
        recorder.start(small)
    recorder.open()
    path = recorder.start(small).path
    stream = recorder.events(RecordingStopped, EngineGone)
    closed = threading.Event()

    def close(event: Event) -> None:
        recorder.close()
        closed.set()

    recorder.subscribe(close, StatusReceived)
    assert closed.wait(AWAIT_S)
    recorder.close()
    over, gone = stream
    assert isinstance(over, RecordingStopped)
    assert isinstance(gone, EngineGone)
    assert (gone.exit_code, gone.expected) == (0, True)
    assert sealed(path, secret_from(key_file=key_file)) == over.result.frames_written
    with pytest.raises(ChannelClosed):
        stream.read(0.0)


# --- an engine that dies ----------------------------------------------------------------------


def test_an_engine_killed_in_mid_call() -> None:
    """Whoever waits is told at once, whatever for and with whatever deadline."""
    with Recorder() as recorder:
        engine = engine_of(recorder)
        with recorder.events() as stream, stopped(engine):
            waiting = [
                in_a_thread(recorder.get_status),
                in_a_thread(lambda: recorder.stop(timeout_s=3600)),
                in_a_thread(lambda: recorder.wait_status(lambda s: s.state == "none", 3600)),
                in_a_thread(lambda: recorder.wait_event(CameraLost, 3600)),
            ]
            os.kill(engine, signal.SIGKILL)
            errors = [error() for error in waiting]
            *_, last = stream
    assert {type(error) for error in errors} == {EngineDied}
    assert all(isinstance(error, PeerDied) for error in errors)
    assert isinstance(last, EngineGone)
    assert (last.pid, last.exit_code, last.expected) == (engine, -signal.SIGKILL, False)


def test_an_engine_killed_in_mid_recording(small: Options, key_file: Path) -> None:
    """An exception and an event; its workers seal, and another starts when it is asked for."""
    with Recorder() as recorder:
        gone = []
        recorder.subscribe(gone.append, EngineGone)
        path = recorder.start(small).path
        written = recorder.wait_written(10, AWAIT_S).frames.written
        os.kill(engine_of(recorder), signal.SIGKILL)
        with pytest.raises(EngineDied, match="SIGKILL") as died:
            recorder.wait_stopped(AWAIT_S)
        assert died.value.returned == -signal.SIGKILL
        assert died.value.last_lines
        assert recorder.pid is None
        assert recorder.status.state == "no_engine"
        assert recorder.status.frames.written >= written, "the last known figures stay"
        for call in (recorder.stop, lambda: recorder.start(small), recorder.events):
            with pytest.raises(EngineDied):
                call()
        wait_until(path.exists, "the seal")
        assert sealed(path, secret_from(key_file=key_file)) >= written
        recorder.open()
        assert recorder.start(small, frames=5).path != path
        assert recorder.wait_stopped(AWAIT_S).frames_offered == 5
    assert [(event.expected, event.exit_code) for event in gone] == [(False, -9), (True, 0)]


def test_a_death_that_no_call_told_is_told_at_the_end() -> None:
    """Leaving the ``with`` is no success if the engine died in it."""

    def treat() -> None:
        with Recorder() as recorder, recorder.events(EngineGone) as stream:
            os.kill(engine_of(recorder), signal.SIGKILL)
            stream.read(AWAIT_S)

    with pytest.raises(EngineDied):
        treat()


def test_an_engine_that_cannot_start(tmp_path: Path) -> None:
    """No such command, or one that ends at once: its last words are told."""
    with pytest.raises(EngineDied, match="cannot be started"):
        Recorder([str(tmp_path / "none")]).open()
    words = "import sys; sys.exit('no licence on a Sunday')"
    recorder = Recorder([sys.executable, "-c", words])
    with pytest.raises(EngineDied, match="no licence on a Sunday") as died:
        recorder.open()
    assert died.value.returned == 1
    deaf = Recorder([sys.executable, "-c", "import sys; sys.stdin.read()"])
    with pytest.raises(EngineTimeout):
        deaf.open(timeout_s=0.2)
    assert deaf.pid is None
    chatty = Recorder([sys.executable, "-c", "print('Hello, world!', flush=True); input()"])
    with pytest.raises(FrameTooLarge):
        chatty.open()


# --- an engine that does not answer -----------------------------------------------------------


def test_deadlines_with_an_engine_that_stands_still(small: Options, key_file: Path) -> None:
    """Calls end at their deadline, the light goes out, and the recording is none the worse."""
    with Recorder() as recorder:
        path = recorder.start(small).path
        recorder.wait_recording(AWAIT_S)
        silence = recorder.events(StatusReceived)
        with stopped(engine_of(recorder)):
            with pytest.raises(EngineTimeout, match=r"0\.1 s"):
                recorder.get_status(timeout_s=0.1)
            while (event := silence.read(AWAIT_S)).status.is_recording:
                pass
            assert event.status.state == "engine_silent"
            assert recorder.status.state == "engine_silent"
            with pytest.raises(EngineTimeout):
                recorder.stop(timeout_s=0.1)
        result = recorder.wait_stopped(AWAIT_S)
        assert recorder.stop() == result
    assert sealed(path, secret_from(key_file=key_file)) == result.frames_written
    assert lost_nothing(result)


def test_an_engine_that_does_not_leave_is_named(small: Options, key_file: Path) -> None:
    """Closing ends too; the engine seals by itself once it can, and is not killed."""
    recorder = Recorder()
    recorder.open()
    engine = engine_of(recorder)
    path = recorder.start(small).path
    recorder.wait_written(1, timeout_s=30)
    stream = recorder.events()
    with stopped(engine):
        with pytest.raises(EngineTimeout, match=str(engine)) as late:
            recorder.close(timeout_s=0.1)
        assert late.value.pid == engine
        assert not any(isinstance(event, EngineGone) for event in stream), "it ends all the same"
        recorder.close()
        assert not path.exists()
    wait_until(path.exists, "the seal")
    assert sealed(path, secret_from(key_file=key_file)) > 0


# --- a controller that does not read ----------------------------------------------------------

FROZEN = """
import fcntl, os, signal, sys
from engine.client import Recorder

with Recorder() as recorder:
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)  # full within a second
        except OSError:
            pass
    started = recorder.start(
        output=sys.argv[1], key_file=sys.argv[2], width=320, height=240, codec="libx264", frames=150
    )
    os.kill(os.getpid(), signal.SIGSTOP)
    result = recorder.wait_stopped(60)
    late = result.lost.get("camera_gap", 0)
    print(result.frames_offered, result.frames_written + late, result.state)
"""


def test_a_frozen_controller_costs_the_recording_nothing(key_file: Path, tmp_path: Path) -> None:
    """Five seconds are recorded and sealed while nobody reads; then all is told."""
    path = tmp_path / "x.mp4.enc"
    controller = subprocess.Popen(
        [sys.executable, "-c", FROZEN, str(path), str(key_file)], stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(path.exists, "the seal")
        state = Path(f"/proc/{controller.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state == "T", "it sealed while its controller stood still"
        os.kill(controller.pid, signal.SIGCONT)
        said, _ = controller.communicate(timeout=AWAIT_S)
    finally:
        controller.kill()
    assert controller.returncode == 0
    assert said.split() == ["150", "150", "sealed"]
    assert sealed(path, secret_from(key_file=key_file)) > 0


def test_a_subscriber_in_a_dialog_holds_up_no_call() -> None:
    """While a subscriber waits for a person, calls, statuses and streams go on."""
    asked, answered = threading.Event(), threading.Event()

    def ask(_: Event) -> None:
        asked.set()
        answered.wait(AWAIT_S)

    with Recorder() as recorder:
        recorder.subscribe(ask)
        assert asked.wait(AWAIT_S)
        assert recorder.get_status().state == "idle"
        recorder.wait_event(StatusReceived, AWAIT_S)
        assert recorder.status.state == "idle"
        assert not answered.is_set()
        answered.set()


def event_number(number: int) -> Event:
    """An event."""
    return Event(kind=str(number))


def test_a_mailbox_is_bounded() -> None:
    """Of statuses the newest waits; events beyond the bound are counted, an end never dropped."""
    mailbox = Mailbox()
    for number in range(MAX_EVENTS + 5):
        mailbox.put(StatusReceived(kind="status", status=Status(part=number)))
        mailbox.put(event_number(number))
    mailbox.put(RecordingStopped(kind="recording_stopped", details={}))
    mailbox.close()
    mailbox.put(event_number(0))
    read = []
    while not mailbox.ended:
        read.append(mailbox.get(0.0))
    first, *events, last, dropped = read
    assert isinstance(first, StatusReceived)
    assert first.status.part == MAX_EVENTS + 4
    assert [event.kind for event in events if event] == [str(n) for n in range(MAX_EVENTS - 1)]
    assert isinstance(last, RecordingStopped)
    assert isinstance(dropped, EventsDropped)
    assert dropped.count == 6


# --- what it is made of -----------------------------------------------------------------------


def test_importing_it_loads_nothing_heavy() -> None:
    """A controller pays for no codec, no cipher and no asyncio it does not use."""
    look = "import sys, engine.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=AWAIT_S, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & (HEAVY | {"asyncio", "logging", "workers"})


def test_the_options_are_those_of_a_recording() -> None:
    """Every option of the engine is an option here, under its name; a key has a short form."""
    names = set(get_type_hints(Options))
    assert names - set(KEY_KINDS) == set(RecordingConfig.__struct_fields__)


def test_a_configuration_is_in_the_protocols_form(tmp_path: Path) -> None:
    """Options go before the map, paths are absolute texts, keys add up, a password stays."""
    given = {"output": "a.mp4.enc", "keys": [{"kind": "password_file", "value": Path("p")}]}
    made = configuration(given, {"output": Path("b.mp4.enc"), "password": "x/../y"})
    assert made == {
        "output": str(tmp_path / "b.mp4.enc"),
        "keys": [
            {"kind": "password_file", "value": str(tmp_path / "p")},
            {"kind": "password", "value": "x/../y"},
        ],
    }
    assert given["keys"] == [{"kind": "password_file", "value": Path("p")}], "left as it was"


def test_every_kind_on_the_page_has_a_type() -> None:
    """An event that PROTOCOL.md names with its details never arrives as a plain one."""
    details = {
        "class": "ring_full",
        "code": "camera",
        "hint": "x",
        "count": 1,
        "free_bytes": 1,
        "frames": 1,
        "ids": [[1, 1]],
        "index": 1,
        "lost_bytes": 1,
        "minutes_left": 1.0,
        "missed": 0,
        "path": "x",
        "recording_id": "x",
        "source": {"width_px": 320},
        "speed": "x",
        "state": "x",
        "waiting": 1,
    }
    rows = section("Events").rows
    for kind, named, _ in rows:
        names = named.replace("the balance sheet", "").replace("; of an earlier run also", ",")
        names = names.replace("a [camera](#camera)", "")
        own = {name: details[name] for name in names.replace(",", " ").split()}
        event = read_event(kind, "", 0, own)
        assert type(event) is not Event, kind
        assert all(hasattr(event, name) for name in own if name != "class")
    assert len({type(read_event(row[0], "", 0, details)) for row in rows}) == len(rows)


def test_every_figure_on_the_page_has_a_field() -> None:
    """A status and a balance sheet have all of PROTOCOL.md; the workers' figures are in ``raw``."""
    status = section("Status").text.partition("`state` is")[0]  # its states are no figures
    for kind, text in ((Status, status), (Result, section("Balance sheet").text)):
        named = {name for row in Section("", text).rows for name in row[0].split(", ")}
        assert named - {field.name for field in fields(kind)} <= {"workers"}


def test_events_of_another_version_are_events() -> None:
    """An unknown kind, or details that are not as expected, arrive as they came."""
    new = read_event("laser_on", "5 W", 7, {"joule": 3})
    assert (type(new), new.kind, new.text, new.host_ns) == (Event, "laser_on", "5 W", 7)
    assert new.details == {"joule": 3}
    odd = read_event("frames_lost", "", 7, {"frames": "many"})
    assert (type(odd), odd.kind) == (Event, "frames_lost")
    lost = read_event("frames_lost", "", 7, {"class": "ring_full", "frames": 2, "ids": [[4, 5]]})
    assert isinstance(lost, FramesLost)
    assert (lost.loss_class, lost.frames, lost.ids) == ("ring_full", 2, ((4, 5),))


def test_a_status_of_another_version_is_a_status() -> None:
    """What is left out has its default, what is new is in ``raw``."""
    raw = {"state": "recording", "frames": {"offered": 9, "written": 7, "ring_full": 2}, "mood": 1}
    status = Status.read(raw)
    assert status.is_recording
    assert (status.frames.offered, status.frames.lost_in_all) == (9, 2)
    assert status.raw["mood"] == 1
    assert status.disk.minutes_left is None


# --- asyncio ----------------------------------------------------------------------------------


async def a_day(small: Options, key_file: Path) -> None:
    """Record twice, with a task that listens."""
    kinds = []

    async def listen(recorder: AsyncRecorder) -> None:
        async for event in recorder.events():
            kinds.append(type(event))

    async with AsyncRecorder() as recorder:
        assert repr(recorder)
        listener = asyncio.create_task(listen(recorder))
        started = await recorder.start(small)
        with pytest.raises(WrongState):
            await recorder.start(small)
        status, light, event = await asyncio.gather(
            recorder.wait_written(10, AWAIT_S),
            recorder.wait_recording(AWAIT_S),
            recorder.wait_event(StatusReceived, AWAIT_S),
        )
        assert status.frames.written >= 10
        assert light.is_recording
        assert event.kind == "status"
        result = await recorder.stop()
        await recorder.start(small, frames=5)
        assert (await recorder.wait_stopped(AWAIT_S)).frames_written == 5
        await recorder.wait_written(5, AWAIT_S)  # also when it is over
        await recorder.wait_status(lambda status: status.state == "idle", AWAIT_S)
        assert (await recorder.get_status()).state == "idle"
        with pytest.raises(EngineTimeout):
            await recorder.wait_event(FramesLost, 0.01)
    await listener
    assert kinds[-1] is EngineGone
    assert kinds.count(RecordingStopped) == 2
    assert sealed(started.path, secret_from(key_file=key_file)) == result.frames_written


async def a_death(small: Options) -> None:
    """A deadline, a cancelled call, a killed engine."""
    async with AsyncRecorder() as recorder:
        engine = engine_of(recorder)
        stream = recorder.events()
        with stopped(engine):
            with pytest.raises(EngineTimeout):
                await recorder.get_status(timeout_s=0.05)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(recorder.stop(), 0.05)
            waiting = asyncio.create_task(recorder.get_status(timeout_s=3600))
            await asyncio.sleep(0)
            os.kill(engine, signal.SIGKILL)
            with pytest.raises(EngineDied):
                await waiting
        *_, last = [event async for event in stream]
        assert isinstance(last, EngineGone)
        with pytest.raises(EngineDied):
            await recorder.start(small)


def test_the_same_day_for_asyncio(small: Options, key_file: Path) -> None:
    """The same calls, events and refusals, without a thread that waits."""
    asyncio.run(a_day(small, key_file))


def test_the_same_deaths_for_asyncio(small: Options) -> None:
    """The same deadlines and errors; a cancelled call is over."""
    asyncio.run(a_death(small))
