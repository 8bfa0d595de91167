"""What differs between systems: processes, files, memory limits (ipc/osdep.py)."""

from __future__ import annotations

import mmap
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc import osdep
from ipc.errors import MemoryRefused, ProtocolError, WrongState
from ipc.memory_limits import memory_budget

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux figures")
MIB = 1 << 20


def run(code: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=check)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = osdep.create_private(tmp_path / "file")
    yield fd
    os.close(fd)


@linux
@pytest.mark.parametrize(("before", "after"), [(0, 5), (9, 9)])
def test_a_child_steps_back_by_5_and_never_forward(before: int, after: int) -> None:
    """The encoder steps back behind capture; one started lower stays where it is."""
    own = os.nice(0)
    code = f"import os, sys; os.nice({before}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        osdep.set_low_priority(child.pid)
        found = os.getpriority(os.PRIO_PROCESS, child.pid)
        child.communicate()
    assert found == min(19, own + max(before, after))
    osdep.set_low_priority(child.pid)  # gone: nothing to do, and no error


@linux
def test_a_protected_process_leaves_no_core_dump(tmp_path: Path) -> None:
    """Not dumpable, no core limit, and no file after a fatal signal."""
    code = f"""
import ctypes, os, resource, signal
from ipc import osdep
os.chdir({str(tmp_path)!r})
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1
osdep.forbid_core_dumps()
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
os.kill(os.getpid(), signal.SIGABRT)
"""
    done = run(code, check=False)
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert list(tmp_path.iterdir()) == []


@linux
def test_a_process_measures_its_own_memory_and_descriptors() -> None:
    """Memory taken and descriptors opened show in full."""
    before = osdep.own_memory()
    block = bytearray(b"x" * (64 * MIB))
    fds = os.pipe()
    after = osdep.own_memory()
    for fd in fds:
        os.close(fd)
    assert after.descriptors == before.descriptors + 2
    assert after.private_bytes - before.private_bytes > 60 * MIB
    quick = osdep.own_memory(before)
    assert quick.private_bytes - before.private_bytes > 60 * MIB
    assert (quick.pss_bytes, quick.shared_bytes) == (before.pss_bytes, before.shared_bytes)
    assert after.pss_bytes - before.pss_bytes > 60 * MIB
    assert len(block) == 64 * MIB


@linux
def test_shared_memory_is_told_apart_from_private_memory() -> None:
    """The frame ring's pages count as shared, so that the rest of a process can be judged."""
    before = osdep.own_memory()
    shared = mmap.mmap(-1, 64 * MIB)
    shared.write(b"x" * (64 * MIB))
    after = osdep.own_memory()
    shared.close()
    assert after.shared_bytes - before.shared_bytes >= 64 * MIB
    assert after.private_bytes - before.private_bytes < 32 * MIB
    assert after.pss_bytes - before.pss_bytes > 60 * MIB  # other pages may go meanwhile


@linux
@pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="needs another user")
def test_a_protected_process_of_an_ordinary_user_still_measures_itself() -> None:
    """Without a dump flag /proc shows nothing to others, but itself to the process."""
    code = """
import mmap
import os
from ipc import osdep
osdep.own_memory()  # loads what the other user may not read
os.setgid(65534); os.setuid(65534)
osdep.forbid_core_dumps()
own = osdep.own_memory()
print(own.pss_bytes > 1 << 20, own.private_bytes > 1 << 20, own.descriptors >= 3)
"""
    assert run(code).stdout.split() == ["True"] * 3


def test_a_lock_is_exclusive_and_goes_with_its_descriptor(tmp_path: Path) -> None:
    """A second opening of the file is told at once, and gets the lock when the first closes."""
    path = tmp_path / "part"
    first = osdep.create_private(path)
    second = os.open(path, os.O_RDWR)
    assert osdep.lock_file(first)
    assert osdep.lock_file(first)
    assert not osdep.lock_file(second)
    os.close(first)
    assert osdep.lock_file(second)
    os.close(second)


@linux
def test_a_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    """A dead engine's part is not "in use" for ever."""
    path = tmp_path / "part"
    path.touch()
    code = (
        "import os, sys, signal; from ipc import osdep;"
        f"print(osdep.lock_file(os.open({str(path)!r}, os.O_RDWR)), flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        fd = os.open(path, os.O_RDWR)
        assert not osdep.lock_file(fd)
        child.kill()
        child.wait()
        assert osdep.lock_file(fd)
        os.close(fd)


@settings(deadline=None, max_examples=50)
@given(writes=st.lists(st.tuples(st.binary(max_size=50), st.integers(0, 100)), max_size=8))
def test_positioned_writes_and_reads_behave_like_an_array(writes: list[tuple[bytes, int]]) -> None:
    """Each write lands where it was told; reads return it, and less only at the end."""
    model = bytearray()
    with tempfile.TemporaryDirectory() as directory:
        fd = osdep.create_private(Path(directory) / "file")
        for data, offset in writes:
            osdep.write_at(fd, data, offset)
            if data:
                model.extend(bytes(max(0, offset + len(data) - len(model))))
                model[offset : offset + len(data)] = data
        osdep.sync_data(fd)
        osdep.sync_directory(directory)
        assert osdep.read_at(fd, len(model) + 10, 0) == model
        for data, offset in writes:
            assert osdep.read_at(fd, len(data), offset) == model[offset : offset + len(data)]
        os.close(fd)


@linux
def test_a_write_cut_short_by_the_system_is_taken_up_and_its_error_reported(tmp_path: Path) -> None:
    """The bytes that fit are written; the rest is an error, never a silent loss."""
    path = tmp_path / "file"
    code = f"""
import os, resource
from ipc import osdep
fd = osdep.create_private({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    osdep.write_at(fd, bytes(range(250)) * 80, 0)
except OSError as error:
    print(error.errno)
"""
    assert run(code).stdout == "27\n"  # EFBIG
    assert path.read_bytes() == bytes(range(250)) * 40


def test_syncing_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A directory that vanished is not taken for durable."""
    if sys.platform == "linux":
        with pytest.raises(FileNotFoundError):
            osdep.sync_directory(tmp_path / "none")


def test_a_private_file_is_new_and_its_owners_alone(tmp_path: Path, file: int) -> None:
    """0600 whatever the umask, never an existing file, not inherited by children."""
    path = tmp_path / "file"
    assert osdep.is_private(path)
    assert not os.get_inheritable(file)
    with pytest.raises(FileExistsError):
        osdep.create_private(path)
    if sys.platform == "linux":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        before = os.umask(0)
        try:
            os.close(osdep.create_private(tmp_path / "open", os.O_WRONLY))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o600


@linux
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o660, 0o777])
def test_a_file_that_others_may_open_is_not_private(tmp_path: Path, mode: int, file: int) -> None:
    """Any right of group or others counts."""
    os.fchmod(file, mode)
    assert not osdep.is_private(tmp_path / "file")


@linux
@pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="needs chown")
def test_a_file_of_another_user_is_not_private(tmp_path: Path, file: int) -> None:
    """Its owner could read or replace it at any time."""
    os.fchown(file, 12_345, 12_345)
    assert not osdep.is_private(tmp_path / "file")


ME = "S-1-5-21-1-2-3-1001"


@pytest.mark.parametrize(
    ("descriptor", "private"),
    [
        (f"O:{ME}G:SYD:P(A;;FA;;;{ME})(A;;FA;;;SY)", True),
        (f"O:{ME}D:PAI(A;;FA;;;{ME})(A;;FA;;;BA)S:AI(AU;SA;FA;;;WD)", True),
        (f"O:BAD:(A;;FA;;;OW)(D;;FA;;;WD)(A;;FR;;;{ME})", True),
        (f"O:{ME}D:P", True),
        (f"O:{ME}D:P(A;;FA;;;{ME})(A;;FR;;;WD)", False),
        (f"O:{ME}D:P(A;;FA;;;{ME})(A;;FR;;;BU)", False),
        (f"O:{ME}D:(A;ID;0x1200a9;;;S-1-5-21-1-2-3-1002)", False),
        (f"O:S-1-5-21-1-2-3-1002D:P(A;;FA;;;{ME})", False),
        (f"O:{ME}G:SY", False),
        (f"O:{ME}D:NO_ACCESS_CONTROL", False),
        (f"O:{ME}D:P(A;;FA)", False),
        ("", False),
    ],
)
def test_windows_access_lists_are_read_strictly(descriptor: str, private: bool) -> None:
    """Only the user, SYSTEM and Administrators may be let in; what is not understood is refused."""
    assert osdep._grants_only(descriptor, ME) is private


def test_an_event_keeps_a_wake_up_and_gives_it_once() -> None:
    """Set before the wait is not missed; several sets are one; the time-out ends a wait."""
    event = osdep.WakeEvent.create()
    assert not event.wait(0)
    event.set()
    event.set()
    assert event.wait(30)
    assert not event.wait(0.01)
    other = osdep.WakeEvent.attach(event.handle)
    thread = threading.Thread(target=other.set)
    thread.start()
    assert event.wait(30)
    thread.join()
    other.close()
    event.set()
    assert event.wait(0), "a duplicate's end does not end the event"
    event.close()
    event.close()


@linux
def test_a_full_event_neither_blocks_nor_fails() -> None:
    """A writer whose reader is gone for years still only sets a flag."""
    event = osdep.WakeEvent.create()
    os.eventfd_write(event.handle, 2**64 - 2)
    event.set()
    assert event.wait(0)
    assert not event.wait(0)
    event.close()


def test_memory_has_no_size_until_allocated_and_then_for_good() -> None:
    """Reserved handles can be handed on first; the size is given once."""
    memory = osdep.SharedMemory.create()
    assert memory.size_bytes() == 0
    with pytest.raises(ProtocolError):
        memory.map(0, 4096, writable=True)
    memory.allocate(8192)
    assert memory.size_bytes() >= 8192
    with pytest.raises(WrongState):
        memory.allocate(8192)
    for offset, size in ((0, 1 << 30), (-65536, 4096), (0, 0)):
        with pytest.raises(ProtocolError):
            memory.map(offset, size, writable=True)
    memory.close()
    memory.close()


def test_a_closed_mapping_says_so() -> None:
    """Views cannot be taken of what was let go."""
    memory = osdep.SharedMemory.create()
    memory.allocate(4096)
    mapping = memory.map(0, 4096, writable=False)
    view = mapping.view()
    assert view.readonly
    mapping.close()
    assert bytes(view[:4]) == bytes(4), "a view taken before stays valid"
    view.release()
    with pytest.raises(WrongState):
        mapping.view()
    memory.close()


@linux
@pytest.mark.parametrize(
    ("limit", "value", "hint"),
    [
        ("RLIMIT_FSIZE", 1 * MIB, "ulimit -f"),
        ("RLIMIT_NOFILE", 3, "limit of open files"),
    ],
)
def test_a_limit_of_the_process_is_named_when_it_refuses_memory(
    limit: str, value: int, hint: str
) -> None:
    """The person reading learns which limit it was, not "error 27"."""
    code = f"""
import resource
from ipc import osdep
from ipc.errors import MemoryRefused
resource.setrlimit(resource.{limit}, ({value}, {value}))
try:
    osdep.SharedMemory.create().allocate(64 << 20)
except MemoryRefused as error:
    print(error)
"""
    assert hint in run(code).stdout


@linux
def test_memory_that_cannot_be_mapped_is_refused() -> None:
    """A limit of address space ends in an error with a hint, not in a crash."""
    code = """
import resource
from ipc import osdep
from ipc.errors import MemoryRefused
memory = osdep.SharedMemory.create()
memory.allocate(64 << 20)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20),) * 2)
try:
    memory.map(0, 64 << 20, writable=True)
except MemoryRefused as error:
    print(error)
"""
    assert "address space" in run(code).stdout


class Machine:
    """A /proc and cgroup tree with the figures of a machine."""

    def __init__(self, root: Path, available: int) -> None:
        self.proc = root / "proc"
        self.cgroups = root / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "meminfo").write_text(
            f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: {available // 1024} kB\n"
        )

    def member(self, cgroup: str, mount: str) -> None:
        (self.proc / "self/cgroup").write_text(cgroup)
        (self.proc / "self/mountinfo").write_text(mount.format(point=self.cgroups))

    def group(self, path: str, files: dict[str, str]) -> None:
        directory = self.cgroups / path
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text + "\n")


V2 = "30 1 0:27 / {point} rw shared:4 - cgroup2 cgroup2 rw\n"
V1 = "35 1 0:30 / {point} rw - cgroup cgroup rw,memory\n36 1 0:31 / /x rw - cgroup cgroup rw,cpu\n"


def v2(limit: int | str, usage: int, **more: str) -> dict[str, str]:
    return {"memory.max": str(limit), "memory.current": str(usage), **more}


@linux
def test_the_budget_leaves_headroom() -> None:
    """A tenth of what is there stays free, 256 MiB at most."""
    with tempfile.TemporaryDirectory() as root:
        assert memory_budget(Machine(Path(root), 1000 * MIB).proc).available_bytes == 900 * MIB
    with tempfile.TemporaryDirectory() as root:
        budget = memory_budget(Machine(Path(root), 8000 * MIB).proc)
        assert budget.available_bytes == (8000 - 256) * MIB
        assert budget.limit == "free memory of the machine"


@linux
def test_the_budget_knows_version_2_groups_and_their_ancestors(tmp_path: Path) -> None:
    """The tightest group counts, less what it uses, plus file cache that can be dropped."""
    machine = Machine(tmp_path, 8000 * MIB)
    machine.member("0::/slice/unit\n", V2)
    machine.group("", {})
    machine.group(
        "slice", v2(1000 * MIB, 700 * MIB, **{"memory.stat": f"inactive_file {100 * MIB}"})
    )
    machine.group("slice/unit", v2("max", 600 * MIB))
    budget = memory_budget(machine.proc)
    assert budget.available_bytes == 400 * MIB * 9 // 10
    assert budget.limit == str(tmp_path / "cgroup/slice/memory.max")
    machine.group("slice/unit", {"memory.high": str(650 * MIB)})
    assert memory_budget(machine.proc).available_bytes == 45 * MIB
    machine.group("slice/unit", {"memory.high": str(600 * MIB - 1)})
    assert memory_budget(machine.proc).available_bytes == 0


@linux
def test_the_budget_knows_version_1_groups(tmp_path: Path) -> None:
    """The same with the older files, whose "no limit" is a huge number."""
    machine = Machine(tmp_path, 8000 * MIB)
    machine.member("4:memory:/docker/abc\n1:cpu:/\n0::/\n", V1)
    machine.group("docker", {"memory.limit_in_bytes": str(2**63 - 4096)})
    machine.group("docker", {"memory.usage_in_bytes": str(300 * MIB)})
    machine.group("docker/abc", {"memory.limit_in_bytes": str(500 * MIB)})
    machine.group("docker/abc", {"memory.usage_in_bytes": str(400 * MIB)})
    machine.group("docker/abc", {"memory.stat": f"total_inactive_file {20 * MIB}"})
    assert memory_budget(machine.proc).available_bytes == 120 * MIB * 9 // 10


@linux
def test_the_budget_finds_its_group_in_a_container(tmp_path: Path) -> None:
    """A container mounts a subtree, and may show the full path, or one that is not there."""
    machine = Machine(tmp_path, 8000 * MIB)
    machine.group("", v2(1000 * MIB, 0))
    for cgroup, mount in (
        ("0::/docker/abc\n", V2.replace(" / ", " /docker/abc ")),
        ("0::/elsewhere\n", V2),
        ("0::/../..\n", V2),
    ):
        machine.member(cgroup, mount)
        assert memory_budget(machine.proc).available_bytes == 900 * MIB


@linux
def test_a_machine_without_groups_has_the_systems_figure(tmp_path: Path) -> None:
    """No cgroup files, or unreadable ones, are no limit and no error."""
    machine = Machine(tmp_path, 100 * MIB)
    assert memory_budget(machine.proc).available_bytes == 90 * MIB
    machine.member("0::/\n", V2)
    machine.group("", v2("nonsense", 5))
    assert memory_budget(machine.proc).available_bytes == 90 * MIB


def test_more_memory_than_the_budget_is_refused_before_any_page_is_taken() -> None:
    """The refusal names both figures, and the memory stays without a size."""
    memory = osdep.SharedMemory.create()
    with pytest.raises(MemoryRefused, match="--ring-seconds"):
        memory.allocate(1 << 50)
    assert memory.size_bytes() == 0
    memory.close()
