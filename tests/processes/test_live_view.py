"""The live view of a running engine: it follows it, ends with it, and costs a recording nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.client import EngineDied, Recorder, Result, SealrecError
from engine.preview import LiveView
from ipc.errors import WrongState
from ipc.messages import ObserveRing
from tests.processes import viewer
from tests.processes.commands import command_line
from tests.processes.serving import serving, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="never run on Windows")

AWAIT_S = 60.0
FRAMES = 120
SIZE = (640, 400)
# High-water marks up to half a second say more about the machine than about who looks on.
USUAL_FILL = 20


@contextmanager
def recorder() -> Iterator[Recorder]:
    """An engine of its own."""
    with Recorder() as found:
        yield found


def options(folder: Path, key_file: Path, name: str = "x", **changes: Any) -> dict[str, Any]:
    """A recording that a busy machine can make without loss."""
    return {
        "output": folder / f"{name}.mp4.enc",
        "source": "synthetic",
        "width": SIZE[0],
        "height": SIZE[1],
        "fps": 30.0,
        "codec": "libx264",
        "ring_seconds": 10.0,
        "key_file": key_file,
        **changes,
    }


def handed(of: Recorder) -> int:
    """The ring's memory, as a live view gets it; the caller's."""
    return of._core.observe().result(AWAIT_S).handle


def is_live(view: LiveView) -> bool:
    """Whether it has a ring."""
    return view.state == "live"


def look_for_ever(view: LiveView) -> None:
    """Until it raises."""
    while True:
        view.wait_frame(AWAIT_S)


def high_water(of: Recorder) -> int:
    """Most frames that ever waited for the encoder."""
    return of.get_status().ring.high_water


@contextmanager
def four_viewers(handle: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Three that look, at full size, half size and as fast as they can, and one that is stopped."""
    wishes = ((1.0, 30.0), (0.5, 30.0), (0.5, 1000.0), (1.0, 30.0))
    viewers = [viewer.start(handle, scale, rate) for scale, rate in wishes]
    try:
        viewers[-1].send_signal(signal.SIGSTOP)
        yield viewers
    finally:
        for one in viewers:
            one.kill()
            one.wait()
            for pipe in (one.stdin, one.stdout):
                if pipe is not None:
                    pipe.close()


def test_viewers_change_nothing_in_a_recording(tmp_path: Path, key_file: Path) -> None:
    """With three of them and one stalled: the same frames, none lost, and no fuller a ring.

    What they saw meanwhile was never of two frames.
    """
    results: dict[str, tuple[Result, int]] = {}
    with recorder() as engine:
        for name in ("without", "with"):
            engine.start(**options(tmp_path, key_file, name))
            engine.wait_recording(AWAIT_S)
            seen: list[tuple[int, int]] = []
            if name == "with":
                handle = handed(engine)
                with four_viewers(handle) as viewers:
                    os.close(handle)
                    engine.wait_written(FRAMES, AWAIT_S)
                    mark = high_water(engine)
                    seen = [viewer.ask(one) for one in viewers[:3]]
                assert all(count >= 1 for count, _ in seen)
                assert [wrong for _, wrong in seen] == [0, 0, 0]
            else:
                engine.wait_written(FRAMES, AWAIT_S)
                mark = high_water(engine)
            results[name] = (engine.stop(), mark)
    without, with_them = results["without"], results["with"]
    for result, _ in results.values():
        assert result.frames_written == result.frames_offered >= FRAMES
        assert not result.lost
    assert with_them[1] <= max(without[1], USUAL_FILL)


def test_no_picture_is_of_two_frames_while_a_camera_writes(tmp_path: Path, key_file: Path) -> None:
    """Thousands of reads of a small ring that a fast camera fills all the time."""
    changes = {"fps": 400.0, "ring_seconds": 0.02, "width": 320, "height": 200}
    with recorder() as engine:
        engine.start(**options(tmp_path, key_file, **changes))
        with engine.live_view() as view:
            checked = 0
            while checked < 1000:
                frame = view.wait_frame(AWAIT_S)
                assert frame is not None
                assert viewer.is_right(frame)
                checked += 1
                for _ in range(2):
                    again = view.latest()
                    assert again is None or viewer.is_right(again)
        result = engine.stop()
        assert result.balanced


def test_a_killed_viewer_harms_nobody(tmp_path: Path, key_file: Path) -> None:
    """In the middle of a read, again and again."""
    with recorder() as engine:
        engine.start(**options(tmp_path, key_file, frames=FRAMES))
        handle = handed(engine)
        for _ in range(3):
            one = viewer.start(handle, 1.0, 1000.0)
            one.kill()
            one.communicate()
        os.close(handle)
        result = engine.wait_stopped(AWAIT_S)
        assert (result.frames_written, dict(result.lost)) == (FRAMES, {})


def test_a_killed_engine_ends_the_view_and_no_more(tmp_path: Path, key_file: Path) -> None:
    """What was looked at can still be read: no bus error; then there is a clear word."""
    engine = Recorder()
    engine.open()
    engine.start(**options(tmp_path, key_file))
    with engine.live_view() as view:
        assert view.wait_frame(AWAIT_S) is not None
        with view.peek() as held:
            assert held is not None
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            with pytest.raises(EngineDied):
                look_for_ever(view)
            assert int(held.pixels.max()) >= 0
        assert view.state == "no_engine"
        wait_until(lambda: view.latest() is None, "the end of the picture")
    engine.close()
    wait_until(lambda: not list(tmp_path.glob("*.open")), "the seal by the workers")


def test_a_view_follows_from_camera_to_camera(tmp_path: Path, key_file: Path) -> None:
    """Each has a ring of its own, of another size; between them it says that there is none."""
    with recorder() as engine, engine.live_view() as view:
        assert view.state == "no_camera"
        assert view.latest() is None
        for name, size in (("a", (640, 400)), ("b", (320, 200))):
            engine.start(**options(tmp_path, key_file, name, width=size[0], height=size[1]))
            frame = view.wait_frame(AWAIT_S)
            assert frame is not None
            assert frame.pixels.shape == (size[1], size[0], 3)
            engine.stop()
            wait_until(lambda: not is_live(view), "the end of the ring")
            assert view.latest() is None
        assert view.statistics().rings == 2


def test_a_view_outlives_its_engine_and_finds_the_next(tmp_path: Path, key_file: Path) -> None:
    """A recorder that is opened again shows again; a closed one says so."""
    engine = Recorder()
    with engine.live_view() as view:
        assert view.state == "no_engine"
        with pytest.raises(SealrecError):
            view.wait_frame(1.0)
        for name in ("a", "b"):
            engine.open()
            engine.start(**options(tmp_path, key_file, name))
            assert view.wait_frame(AWAIT_S) is not None
            engine.close()
            assert view.latest() is None
            with pytest.raises(SealrecError):
                view.wait_frame(1.0)


def test_the_workers_inherit_no_way_to_the_controller(tmp_path: Path, key_file: Path) -> None:
    """The socket on which frames are handed out ends in the engine."""
    with recorder() as engine:
        engine.start(**options(tmp_path, key_file))
        status = engine.wait_recording(AWAIT_S)
        workers = status.raw["workers"]

        def sockets(role: str) -> list[str]:
            folder = Path(f"/proc/{workers[role]['pid']}/fd")
            links = [os.readlink(folder / number) for number in os.listdir(folder)]
            return [link for link in links if link.startswith("socket:")]

        try:
            assert sockets("supervisor")
        except PermissionError:
            pytest.skip("only root may look into a process that protects its memory")
        assert sockets("capture") == sockets("encoder") == []
        engine.stop()


def test_an_engine_started_without_the_socket_says_so(tmp_path: Path, key_file: Path) -> None:
    """As by a controller in another language that wants no pictures; nothing else is different."""
    with serving(tmp_path, key_file) as engine:
        refused = engine.answer(engine.call(ObserveRing))
        assert refused.error is not None
        assert refused.error["code"] == WrongState.code
        engine.start()
        refused = engine.answer(engine.call(ObserveRing))
        assert refused.error is not None
        assert "--observer-fd" in refused.error["hint"]
        engine.stop()


def test_a_wrong_descriptor_is_a_wrong_option(tmp_path: Path) -> None:
    """Exit code 2 and a sentence, before anything is served."""
    done = subprocess.run(
        command_line("serve", "--observer-fd=77"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "observer-fd" in done.stderr
    assert not done.stdout


def test_views_may_be_many_at_once(tmp_path: Path, key_file: Path) -> None:
    """Each asks for itself, and none takes another's ring."""
    with recorder() as engine:
        engine.start(**options(tmp_path, key_file))
        views = [engine.live_view() for _ in range(12)]
        for view in views:
            with closing(view):
                frame = view.wait_frame(AWAIT_S)
                assert frame is not None
                assert viewer.is_right(frame)
        engine.stop()
