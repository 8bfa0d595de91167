"""Changing the keys of a finished recording: every part, both copies, and any moment of a crash."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from engine.container import rewrap
from engine.container.core import new_core
from engine.container.header import Header, OpenedHeader, State, new_header, open_header, updated
from engine.container.payload import PayloadWriter
from engine.container.recipients import (
    DataKeySecret,
    KeyFileRecipient,
    KeyFileSecret,
    PasswordRecipient,
    PasswordSecret,
    PrivateKeySecret,
    PublicKeyRecipient,
    Secret,
    derive_kek,
    key_file_id,
)
from engine.container.rewrap import add_slot, remove_slot, rotate
from ipc.errors import ConfigError, Corrupt, DiskError, InUse, SealrecError, WrongKey
from ipc.osdep import lock_file

CHEAP = 100_000
DEK = bytes(range(32))
OLD, NEW, NEWER, ARCHIVE = (bytes([n]) * 32 for n in (1, 2, 3, 4))


def password(text: str) -> PasswordRecipient:
    salt = os.urandom(32)
    return PasswordRecipient(derive_kek(text, salt, CHEAP), salt, CHEAP, os.urandom(16))


def write_part(path: Path, part_index: int, recording_id: bytes = b"r" * 16) -> Path:
    """A sealed part for OLD and ARCHIVE whose copy B is one generation older."""
    core = new_core(
        recording_id=recording_id,
        part_index=part_index,
        created_unix_ms=1,
        previous_part=b"\x01" * 32 if part_index else bytes(32),
    )
    payload = PayloadWriter(DEK, core)
    chunks = payload.update(os.urandom(20_000)) + payload.finalize()
    recipients = [KeyFileRecipient(OLD, "old"), KeyFileRecipient(ARCHIVE, "archive")]
    older = updated(
        Header.parse(new_header(core, DEK, recipients)),
        DEK,
        state=State.SEALED,
        chunk_count=payload.chunk_count,
        payload_bytes=payload.payload_bytes,
    )
    newer = updated(Header.parse(older), DEK)
    path.write_bytes(newer + older + payload.preamble + chunks)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """The three parts of one recording."""
    names = ("r.mp4.enc", "r.001.mp4.enc", "r.002.mp4.enc")
    return [write_part(tmp_path / name, index) for index, name in enumerate(names)]


def opened(path: Path, secret: Secret) -> OpenedHeader:
    raw = path.read_bytes()
    return open_header(raw[:4096], raw[4096:8192], secret)


def opens(path: Path, secret: Secret) -> bool:
    """Whether a secret opens a part, by the rules and by each copy for itself."""
    raw = path.read_bytes()
    outcomes = set()
    for copies in ((0, 1), (0, 0), (1, 1)):
        a, b = (raw[copy * 4096 : (copy + 1) * 4096] for copy in copies)
        try:
            outcomes.add(open_header(a, b, secret).dek == DEK)
        except WrongKey:
            outcomes.add(False)
    assert len(outcomes) == 1
    return outcomes.pop()


def labels(path: Path) -> list[str]:
    return [slot.label for slot in opened(path, DataKeySecret(DEK)).header.slots]


# Add, remove, rotate


def test_an_added_key_opens_every_part(parts: list[Path]) -> None:
    """After add, old and new key open all parts by either copy."""
    add_slot(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW, "new"))
    for path in parts:
        assert labels(path) == ["old", "archive", "new"]
        assert all(opens(path, KeyFileSecret(kek)) for kek in (OLD, ARCHIVE, NEW))


def test_a_password_and_a_public_key_can_be_added(parts: list[Path]) -> None:
    """Every kind of recipient can join a finished recording."""
    private = X25519PrivateKey.generate()
    add_slot(parts, KeyFileSecret(OLD), password("Grüße"))
    recipient = PublicKeyRecipient(private.public_key().public_bytes_raw())
    add_slot(parts, PasswordSecret("Gru\u0308ße"), recipient)
    secret = PrivateKeySecret(private.private_bytes_raw())
    assert all(opens(path, secret) for path in parts)


def test_a_removed_key_opens_no_copy_of_any_part(parts: list[Path]) -> None:
    """After remove, neither copy has the slot, and the other key still opens."""
    remove_slot(parts, KeyFileSecret(ARCHIVE), key_file_id(OLD))
    for path in parts:
        assert not opens(path, KeyFileSecret(OLD))
        assert opens(path, KeyFileSecret(ARCHIVE))


def test_a_key_can_remove_itself(parts: list[Path]) -> None:
    """The key that authorises the change may be the one that goes."""
    remove_slot(parts, KeyFileSecret(OLD), key_file_id(OLD))
    assert not any(opens(path, KeyFileSecret(OLD)) for path in parts)


def test_a_rotation_replaces_one_key_in_its_place(parts: list[Path]) -> None:
    """A rotation puts the new slot where the old one was and leaves the others."""
    rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW, "new"))
    for path in parts:
        assert labels(path) == ["new", "archive"]
        assert not opens(path, KeyFileSecret(OLD))
        assert opens(path, KeyFileSecret(NEW))
        assert opens(path, KeyFileSecret(ARCHIVE))


def test_a_rotation_to_a_key_that_is_there_leaves_it_once(parts: list[Path]) -> None:
    """Retiring one key in favour of the other leaves a single slot of it."""
    rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(ARCHIVE, "archive"))
    assert [labels(path) for path in parts] == [["archive"]] * 3


def test_a_password_from_before_a_rotation_is_refused(parts: list[Path]) -> None:
    """A retired password opens neither copy; the one that took its place does."""
    rotate(parts, KeyFileSecret(OLD), password("first"))
    rotate(parts, PasswordSecret("first"), password("second"))
    for path in parts:
        assert not opens(path, PasswordSecret("first"))
        assert opens(path, PasswordSecret("second"))


def test_only_headers_change(parts: list[Path]) -> None:
    """Payload, core, state and counts stay; each copy is one generation further."""
    before = [path.read_bytes() for path in parts]
    result = rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    for path, old, part in zip(parts, before, result, strict=True):
        raw = path.read_bytes()
        assert raw[8192:] == old[8192:]
        was, a, b = (Header.parse(x) for x in (old[:4096], raw[:4096], raw[4096:8192]))
        assert (a.generation, b.generation) == (was.generation + 2, was.generation + 1)
        for now in (a, b):
            assert (now.core, now.state, now.seal_chunk) == (was.core, was.state, was.seal_chunk)
            assert (now.chunk_count, now.payload_bytes) == (was.chunk_count, was.payload_bytes)
        assert (part.path, part.header, part.changed) == (path, a, True)
        assert part.commitment == raw[8192 + 24 : 8192 + 56]


def test_what_is_there_already_is_left_alone(parts: list[Path]) -> None:
    """Adding a key that all parts have changes no byte."""
    before = [path.read_bytes() for path in parts]
    result = add_slot(parts, KeyFileSecret(OLD), KeyFileRecipient(ARCHIVE))
    assert [part.changed for part in result] == [False] * 3
    assert [path.read_bytes() for path in parts] == before


# What is refused, with nothing changed

Change = Callable[[list[Path]], object]

REFUSED: dict[str, tuple[Change, type[SealrecError]]] = {
    "wrong key": (
        lambda parts: add_slot(parts, KeyFileSecret(NEWER), KeyFileRecipient(NEW)),
        WrongKey,
    ),
    "unknown id": (lambda parts: remove_slot(parts, KeyFileSecret(OLD), bytes(16)), ConfigError),
    "no slot to rotate": (
        lambda parts: rotate(parts, DataKeySecret(DEK), KeyFileRecipient(NEW)),
        ConfigError,
    ),
    "long label": (
        lambda parts: add_slot(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW, "x" * 77)),
        ConfigError,
    ),
    "missing part": (
        lambda parts: add_slot(
            [*parts, parts[0].with_name("gone")], KeyFileSecret(OLD), KeyFileRecipient(NEW)
        ),
        ConfigError,
    ),
    "no parts": (lambda _: add_slot([], KeyFileSecret(OLD), KeyFileRecipient(NEW)), WrongKey),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_change_leaves_every_byte(name: str, parts: list[Path]) -> None:
    """What cannot be done is found before the first write."""
    change, error = REFUSED[name]
    before = [path.read_bytes() for path in parts]
    with pytest.raises(error):
        change(parts)
    assert [path.read_bytes() for path in parts] == before


def test_the_last_key_is_never_removed(parts: list[Path]) -> None:
    """A recording always keeps a key, in every part."""
    remove_slot(parts, KeyFileSecret(OLD), key_file_id(ARCHIVE))
    before = [path.read_bytes() for path in parts]
    with pytest.raises(ConfigError):
        remove_slot(parts, KeyFileSecret(OLD), key_file_id(OLD))
    assert [path.read_bytes() for path in parts] == before


def test_a_seventeenth_key_is_refused(parts: list[Path]) -> None:
    """16 slots are the format's limit."""
    for n in range(14):
        add_slot(parts, KeyFileSecret(OLD), KeyFileRecipient(bytes([100 + n]) * 32))
    before = [path.read_bytes() for path in parts]
    with pytest.raises(ConfigError):
        add_slot(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    assert [path.read_bytes() for path in parts] == before


def test_a_full_slot_table_of_a_later_part_is_found_before_the_first_write(
    parts: list[Path],
) -> None:
    """Parts may differ after interrupted changes; none is written when one of them has no room."""
    for n in range(14):
        add_slot(parts[1:2], KeyFileSecret(OLD), KeyFileRecipient(bytes([100 + n]) * 32))
    before = [path.read_bytes() for path in parts]
    with pytest.raises(ConfigError):
        add_slot(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    assert [path.read_bytes() for path in parts] == before


@pytest.fixture
def second_part_locked(parts: list[Path]) -> Iterator[None]:
    """Another holder has the lock of the second part."""
    fd = os.open(parts[1], os.O_RDWR)
    assert lock_file(fd)
    yield
    os.close(fd)


@pytest.mark.usefixtures("second_part_locked")
def test_a_part_in_use_stops_the_whole_change(parts: list[Path]) -> None:
    """One locked part is enough: no other part is touched either."""
    before = [path.read_bytes() for path in parts]
    with pytest.raises(InUse, match=r"r\.001\.mp4\.enc"):
        rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    assert [path.read_bytes() for path in parts] == before


def test_a_part_renamed_at_that_moment_is_in_use(
    parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that loses its name between opening and locking is not changed."""
    before = parts[1].read_bytes()

    def lock_and_lose_the_name(fd: int) -> bool:
        if parts[1].exists() and os.path.samestat(os.fstat(fd), parts[1].stat()):
            parts[1].rename(parts[1].with_name("renamed"))
        return lock_file(fd)

    monkeypatch.setattr(rewrap, "lock_file", lock_and_lose_the_name)
    with pytest.raises(InUse):
        rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    assert parts[1].with_name("renamed").read_bytes() == before


def test_the_locks_are_free_afterwards(parts: list[Path]) -> None:
    """After success and after refusal another process can lock every part."""
    rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    with pytest.raises(WrongKey):
        rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    for path in parts:
        fd = os.open(path, os.O_RDWR)
        assert lock_file(fd)
        os.close(fd)


def test_a_damaged_part_stops_the_whole_change(parts: list[Path]) -> None:
    """Two bad header copies of one part are named, and the other parts stay as they are."""
    parts[2].write_bytes(bytes(8192) + parts[2].read_bytes()[8192:])
    before = [path.read_bytes() for path in parts]
    with pytest.raises(Corrupt, match=r"r\.002\.mp4\.enc"):
        rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    assert [path.read_bytes() for path in parts] == before


def test_parts_of_two_recordings_do_not_mix(parts: list[Path], tmp_path: Path) -> None:
    """A part of another recording among the parts is refused, even under the same keys."""
    foreign = write_part(tmp_path / "other.mp4.enc", 0, recording_id=b"s" * 16)
    before = [path.read_bytes() for path in (*parts, foreign)]
    with pytest.raises(Corrupt):
        rotate([*parts, foreign], KeyFileSecret(OLD), KeyFileRecipient(NEW))
    assert [path.read_bytes() for path in (*parts, foreign)] == before


# Crashes


def moments(parts: list[Path], change: Callable[[], object]) -> list[list[bytes]]:
    """Contents of all parts after every 512-byte sector that a change writes, in its order.

    The sectors of one copy reach the disk in any order; here in two, forwards and backwards.
    """
    before = [bytearray(path.read_bytes()) for path in parts]
    change()
    after = [path.read_bytes() for path in parts]
    seen = []
    for index in range(len(parts)):
        first = 1 - opened_copy(bytes(before[index]))
        for copy in (first, 1 - first):
            sectors = range(copy * 4096, (copy + 1) * 4096, 512)
            for order in (sectors, sectors[::-1]):
                torn = [bytearray(content) for content in before]
                for at in order:
                    torn[index][at : at + 512] = after[index][at : at + 512]
                    seen.append([bytes(content) for content in torn])
            before = torn
    assert seen[-1] == after
    return seen


def opened_copy(raw: bytes) -> int:
    return open_header(raw[:4096], raw[4096:8192], DataKeySecret(DEK)).copy


def test_every_moment_of_a_crash_leaves_parts_that_a_valid_key_opens(parts: list[Path]) -> None:
    """Torn at any sector, each part opens with the old or the new key and with the untouched one.

    And once the new key is in force in a part, the old one is refused there.
    """
    secrets = {kek: KeyFileSecret(kek) for kek in (OLD, NEW, ARCHIVE)}
    for contents in moments(
        parts, lambda: rotate(parts, secrets[OLD], KeyFileRecipient(NEW, "new"))
    ):
        for raw in contents:
            able = set()
            for kek, secret in secrets.items():
                try:
                    open_header(raw[:4096], raw[4096:8192], secret)
                except WrongKey:
                    continue
                able.add(kek)
            assert able in ({OLD, ARCHIVE}, {NEW, ARCHIVE})


@pytest.mark.parametrize("again", [OLD, NEW], ids=["old", "new"])
def test_an_interrupted_rotation_is_completed_by_running_it_again(
    again: bytes, parts: list[Path]
) -> None:
    """From any moment, a second run with either key leaves one set of keys in all copies."""
    for contents in moments(
        parts, lambda: rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW, "new"))
    )[::5]:
        for path, raw in zip(parts, contents, strict=True):
            path.write_bytes(raw)
        if not any(key_opens(raw, again) for raw in contents):
            with pytest.raises(WrongKey):
                rotate(parts, KeyFileSecret(again), KeyFileRecipient(NEWER, "newer"))
            continue
        rotate(parts, KeyFileSecret(again), KeyFileRecipient(NEWER, "newer"))
        for path in parts:
            assert labels(path) == ["newer", "archive"]
            assert [opens(path, KeyFileSecret(k)) for k in (OLD, NEW, NEWER, ARCHIVE)] == [
                False,
                False,
                True,
                True,
            ]


def key_opens(raw: bytes, kek: bytes) -> bool:
    try:
        return open_header(raw[:4096], raw[4096:8192], KeyFileSecret(kek)).dek == DEK
    except WrongKey:
        return False


def test_a_stale_copy_is_healed_by_any_change(parts: list[Path]) -> None:
    """A part that is as asked, but whose other copy still has a removed slot, is rewritten."""
    before = parts[0].read_bytes()
    remove_slot(parts, KeyFileSecret(ARCHIVE), key_file_id(OLD))
    after = parts[0].read_bytes()
    # The moment after the first of the two writes: copy B is new, copy A has the old slot.
    parts[0].write_bytes(before[:4096] + after[4096:])
    add_slot(parts, KeyFileSecret(ARCHIVE), KeyFileRecipient(ARCHIVE))
    assert not opens(parts[0], KeyFileSecret(OLD))
    assert opens(parts[0], KeyFileSecret(ARCHIVE))


def test_a_damaged_copy_is_written_first(parts: list[Path]) -> None:
    """With copy A damaged, the change goes to A first and then to B."""
    raw = bytearray(parts[0].read_bytes())
    raw[4095] ^= 1
    parts[0].write_bytes(raw)
    generation = opened(parts[0], KeyFileSecret(OLD)).header.generation
    rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    after = parts[0].read_bytes()
    written = [Header.parse(after[at : at + 4096]).generation for at in (0, 4096)]
    assert written == [generation + 1, generation + 2]


def test_each_copy_is_durable_before_the_other_is_touched(
    parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 4: write, sync, write, sync, for every part, the older copy first."""
    calls: list[object] = []
    real_write, real_sync = rewrap.write_at, rewrap.sync_data

    def write_at(fd: int, data: bytes, offset: int) -> None:
        calls.append(offset)
        real_write(fd, data, offset)

    def sync_data(fd: int) -> None:
        calls.append("sync")
        real_sync(fd)

    monkeypatch.setattr(rewrap, "write_at", write_at)
    monkeypatch.setattr(rewrap, "sync_data", sync_data)
    rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    assert calls == [4096, "sync", 0, "sync"] * 3


def test_a_failing_disk_is_reported_and_leaves_a_part_that_opens(
    parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write error in the middle names the part, and a second run completes the change."""
    real_write, left = rewrap.write_at, [3]

    def write_at(fd: int, data: bytes, offset: int) -> None:
        if left[0] == 0:
            real_write(fd, data[:1000], offset)
            raise OSError(5, "Input/output error")
        left[0] -= 1
        real_write(fd, data, offset)

    monkeypatch.setattr(rewrap, "write_at", write_at)
    with pytest.raises(DiskError, match=r"r\.001\.mp4\.enc"):
        rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    monkeypatch.undo()
    assert [opened(p, KeyFileSecret(ARCHIVE)).valid for p in parts] == [
        (True, True),
        (False, True),
        (True, True),
    ]
    rotate(parts, KeyFileSecret(OLD), KeyFileRecipient(NEW))
    assert all(opens(path, KeyFileSecret(NEW)) for path in parts)
    assert not any(opens(path, KeyFileSecret(OLD)) for path in parts)
