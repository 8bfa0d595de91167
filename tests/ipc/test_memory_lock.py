"""Keys pinned in memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ipc.memory_lock import lock_in_memory

linux = pytest.mark.skipif(sys.platform == "win32", reason="reads /proc")


def locked_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmLck:"))


@linux
def test_a_locked_key_is_pinned_or_said_not_to_be() -> None:
    """True: the system counts the pages of this object as locked. False: it counts none."""
    before = locked_bytes()
    secret = os.urandom(32_768)  # several pages, so that other locked pages cannot hide it
    allowed = lock_in_memory(secret)
    grown = locked_bytes() - before
    assert grown >= 28_672 if allowed else grown == 0


def test_nothing_is_easily_locked() -> None:
    """No bytes need no page."""
    assert lock_in_memory(b"")
