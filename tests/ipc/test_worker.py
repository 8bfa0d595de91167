"""A worker's frame: how it begins, what its supervisor hears, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipc.channel import Channel
from ipc.messages import Failure, FromCameras, Hello

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="passes descriptors")

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
from ipc.errors import CameraError
from ipc.messages import ToCameras
from ipc.worker import leave, run
def work(lifeline, arguments):
    {work}
leave(run("cameras", ToCameras, work))
"""


def run_worker(work: str) -> tuple[int, list[object], list[dict[str, str]]]:
    """Exit code, messages and log of a worker that does this."""
    down, up = os.pipe(), os.pipe()
    code = WORKER.format(work=work)
    worker = subprocess.Popen(
        [sys.executable, "-c", code, "--read", str(down[0]), "--write", str(up[1])],
        pass_fds=[down[0], up[1]],
        text=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    for fd in (down[0], up[1]):
        os.close(fd)
    channel: Channel[Hello] = Channel(up[0], down[1], FromCameras)
    said: list[object] = []
    try:
        _, log = worker.communicate(timeout=30)
        while True:
            said.append(channel.receive())
    except Exception:  # noqa: BLE001 - the end of the stream
        channel.close()
        channel.close_read()
    return worker.returncode, said, [json.loads(line) for line in log.splitlines()]


def test_an_error_is_told_and_is_the_exit_code() -> None:
    """What a person has to do reaches the supervisor; the log stays empty."""
    code, said, log = run_worker('raise CameraError("no camera", hint="plug one in")')
    assert code == 7
    assert said[1:] == [Failure("camera", "no camera", "plug one in")]
    assert log == []


def test_a_crash_is_in_the_log() -> None:
    """70, with the traceback; the supervisor hears the end of the pipe."""
    code, said, log = run_worker("return 1 / 0")
    assert (code, len(said)) == (70, 1)
    (line,) = log
    assert (line["event"], line["process"], line["level"]) == (
        "cameras crashed",
        "cameras",
        "error",
    )
    assert "ZeroDivisionError" in line["exception"]


@pytest.mark.parametrize("code", [0, 3])
def test_the_work_s_code_is_the_process_s(code: int) -> None:
    """Whatever threads still run: the process ends."""
    work = f"""import threading, time
    threading.Thread(target=time.sleep, args=(60,)).start()
    return {code}"""
    assert run_worker(work)[0] == code
