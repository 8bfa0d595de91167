"""A controller as short as one can be: starts `sealrec serve`, commands it, passes on what it says.

`Engine` is for a benchmark's own process. Run as a module it is a process of its own that can be
killed: it records what ``--config`` says, prints everything it hears as JSON lines and takes
``stop`` on stdin. It decides nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.measure import ROOT, python
from ipc.channel import Channel
from ipc.errors import ChannelError
from ipc.messages import Message, Reply, Shutdown, StartRecording, StopRecording, ToController

__all__ = ["Engine"]

START, STOP = 1, 2
LEAVE_S = 120.0


class Engine:
    """One running `sealrec serve`.

    Args:
        listener: Gets every message, and None when the engine is gone; from a thread.
        log: Where its stderr goes; None: to ours.
    """

    def __init__(
        self, listener: Callable[[Message | None], None], *, log: Path | None = None
    ) -> None:
        self._listener = listener
        stderr = None if log is None else log.open("ab")
        try:
            self.process = subprocess.Popen(
                python("engine", "serve"),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        finally:
            if stderr is not None:
                stderr.close()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        read, write = (os.dup(pipe.fileno()) for pipe in (self.process.stdout, self.process.stdin))
        self.process.stdin.close()
        self.process.stdout.close()
        self._channel: Channel[Message] = Channel(read, write, ToController)
        self._channel.greet("controller", "sealrec benchmarks")
        self._reader = threading.Thread(target=self._read, name="engine", daemon=True)
        self._reader.start()

    def start(self, config: dict[str, Any]) -> None:
        """Ask for a recording."""
        self._channel.send_quietly(StartRecording(call=START, config=config))

    def stop(self) -> None:
        """Ask for its end."""
        self._channel.send_quietly(StopRecording(call=STOP))

    def shut_down(self) -> None:
        """Ask the engine to leave once all is sealed."""
        self._channel.send_quietly(Shutdown())

    def leave(self) -> int:
        """Wait until the engine has left; returns its exit code."""
        code = self.process.wait(LEAVE_S)
        self._reader.join(LEAVE_S)
        self._channel.close()
        return code

    def _read(self) -> None:
        try:
            self._channel.receive_hello()
            while True:
                self._listener(self._channel.receive())
        except ChannelError:
            pass  # whatever ended it, the engine cannot be heard any more
        self._channel.close_read()
        self._listener(None)


class _Teller:
    """Prints what is heard, and ends the engine when its answer to the stop is there."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._engine = Engine(self._hear)
        self.say("engine", pid=self._engine.process.pid)
        self._engine.start(config)
        threading.Thread(target=self._obey, name="orders", daemon=True).start()

    @staticmethod
    def say(kind: str, /, **fields: Any) -> None:
        """One line; the time is `time.perf_counter_ns`, the same in all processes of a machine."""
        line = json.dumps({"type": kind, "at": time.perf_counter_ns(), **fields}) + "\n"
        os.write(1, line.encode())

    def _hear(self, message: Message | None) -> None:
        if message is None:
            self.say("gone")
            return
        fields: dict[str, Any] = msgspec.to_builtins(message)
        self.say(fields.pop("type"), **fields)
        if isinstance(message, Reply) and (message.call == STOP or not message.ok):
            self._engine.shut_down()

    def _obey(self) -> None:
        if sys.stdin.readline().strip() == "stop":
            self.say("stopping")
            self._engine.stop()
        else:
            os._exit(1)  # nobody commands any more; the engine sees its pipe close

    def wait(self) -> int:
        """Wait until the engine has left."""
        code = self._engine.leave()
        self.say("left", code=code)
        return code


def main() -> int:
    """Record once; returns the engine's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON, as in PROTOCOL.md")
    wish = parser.parse_args()
    return _Teller(json.loads(wish.config.read_text())).wait()


if __name__ == "__main__":
    os._exit(main() & 0xFF)  # its threads may still wait for a line
