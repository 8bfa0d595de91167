"""Change who can open a finished recording: new header slots in every part, payloads untouched.

All parts are locked and opened before the first byte is written, so a part in use, a wrong key or
a refused change leaves everything as it was. Each part then gets both header copies rewritten under
rule 4 of FORMAT.md, one generation each: whatever moment the power fails, one copy is whole and
opens, and no stale copy keeps a removed slot once the change is done.

A change that was cut off between two parts is completed by running it again, with the old secret or
the new one: a secret that opens any part of a recording reaches the data key, which is the same in
all of them. Removing a slot does not revoke: who kept an old header or the data key still opens the
file (FORMAT.md, "What this proves").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.container.header import HEADER_BYTES, Header, OpenedHeader, open_header, updated
from engine.container.payload import PAYLOAD_OFFSET, PREAMBLE, commitment_of
from engine.container.recipients import DataKeySecret, Recipient, Secret, recipient_id
from engine.container.slots import Slot, SlotOpener, wrap_slot
from ipc.errors import ConfigError, Corrupt, DiskError, InUse, WrongKey
from ipc.osdep import lock_file, read_at, sync_data, write_at

__all__ = ["RewrappedPart", "add_slot", "remove_slot", "rotate"]

_OPEN_FLAGS: Final = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class RewrappedPart:
    """One part after the change, with what an audit row needs.

    Attributes:
        path: The part.
        header: The header now in force.
        commitment: Key commitment of its payload, 32 bytes; empty if the file ends before it.
        changed: False when the part already was as asked.
    """

    path: Path
    header: Header
    commitment: bytes
    changed: bool


@dataclass(frozen=True, slots=True)
class _LockedPart:
    """A part whose lock is held.

    Attributes:
        path: The part.
        fd: Open for reading and writing.
        opened: Its authenticated header.
        has_stale_copy: Whether the other copy is damaged or lists other slots.
    """

    path: Path
    fd: int
    opened: OpenedHeader
    has_stale_copy: bool

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self.opened.header.slots

    def key_ids(self) -> set[bytes]:
        return {slot.key_id for slot in self.slots}

    def wrap(self, recipient: Recipient) -> Slot:
        return wrap_slot(recipient, self.opened.dek, self.opened.header.core.pack())


# Gives each part, in order, the slots it shall have; raises to leave everything as it was.
_Plan = Callable[[list[_LockedPart]], list[Sequence[Slot]]]


def add_slot(parts: Sequence[Path], secret: Secret, recipient: Recipient) -> list[RewrappedPart]:
    """Let one more key or password open every part of a recording.

    Args:
        parts: All parts of one recording.
        secret: Opens the recording as it is.
        recipient: Who may open it from now on. A part with a slot of this key id keeps that one.

    Returns:
        One row a part, in the order given.

    Raises:
        InUse: a part is being written; nothing was changed.
        WrongKey: the secret opens no part; nothing was changed.
        Corrupt: a part's header is damaged, or it is of another recording; nothing was changed.
        ConfigError: 16 slots are taken, or a file cannot be opened; nothing was changed.
        DiskError: a header could not be written; running the command again completes it.

    Source: FORMAT.md, rules of writing 1 and 4.
    """
    key_id = recipient_id(recipient)

    def plan(locked: list[_LockedPart]) -> list[Sequence[Slot]]:
        return [
            part.slots if key_id in part.key_ids() else (*part.slots, part.wrap(recipient))
            for part in locked
        ]

    return _rewrap(parts, secret, plan)


def remove_slot(parts: Sequence[Path], secret: Secret, key_id: bytes) -> list[RewrappedPart]:
    """Take a key or password off every part of a recording.

    Args:
        parts: All parts of one recording.
        secret: Opens the recording as it is; it may be the one that is removed.
        key_id: The 16 bytes by which ``info`` lists the slot.

    Returns:
        One row a part, in the order given; a part without such a slot is not changed.

    Raises:
        ConfigError: no part has such a slot, or it is the last one; nothing was changed.
        SealrecError: as ``add_slot``.
    """

    def plan(locked: list[_LockedPart]) -> list[Sequence[Slot]]:
        if not any(key_id in part.key_ids() for part in locked):
            raise ConfigError(
                f"No key of this recording has the id {key_id.hex()}.",
                hint="`sealrec info FILE` lists the ids.",
            )
        kept = [[slot for slot in part.slots if slot.key_id != key_id] for part in locked]
        if not all(kept):
            raise ConfigError(
                "This is the last key of the recording; without it nothing could open it.",
                hint="Add another key first: sealrec keys add.",
            )
        return list(kept)

    return _rewrap(parts, secret, plan)


def rotate(parts: Sequence[Path], secret: Secret, recipient: Recipient) -> list[RewrappedPart]:
    """Replace the slot that ``secret`` opens by one for ``recipient``, in every part.

    Afterwards every part has the same keys: those that stand beside the secret's slot today, and
    the recipient. What an interrupted change left in a part without the secret's slot goes too.

    Args:
        parts: All parts of one recording.
        secret: The key or password to retire. Not a ``DataKeySecret``: that one has no slot.
        recipient: Takes its place.

    Returns:
        One row a part, in the order given.

    Raises:
        ConfigError: the secret has no slot; nothing was changed.
        SealrecError: as ``add_slot``.
    """
    new_id = recipient_id(recipient)

    def plan(locked: list[_LockedPart]) -> list[Sequence[Slot]]:
        own = [_ids_opened_by(secret, part) for part in locked]
        if not any(own):
            raise ConfigError("Only a key or password of the recording can be replaced.")
        kept_ids = set[bytes]().union(
            *(part.key_ids() - ids for part, ids in zip(locked, own, strict=True) if ids)
        ) - {new_id}
        return [_with_replacement(part, kept_ids, recipient) for part in locked]

    return _rewrap(parts, secret, plan)


def _ids_opened_by(secret: Secret, part: _LockedPart) -> set[bytes]:
    opener, core = SlotOpener(secret), part.opened.header.core.pack()
    return {s.key_id for s in part.slots if opener.open_slot(s, core) is not None}


def _with_replacement(part: _LockedPart, kept_ids: set[bytes], recipient: Recipient) -> list[Slot]:
    kept = [slot for slot in part.slots if slot.key_id in kept_ids]
    gone = [i for i, slot in enumerate(part.slots) if slot.key_id not in kept_ids]
    kept.insert(gone[0] if gone else len(kept), part.wrap(recipient))
    return kept


def _rewrap(parts: Sequence[Path], secret: Secret, plan: _Plan) -> list[RewrappedPart]:
    with ExitStack() as held:
        files = [(path, held.enter_context(_locked_file(path))) for path in parts]
        locked = _open_all(files, secret)
        planned = plan(locked)
        # Pack once before the first write: a set of slots that does not fit is refused here.
        for part, slots in zip(locked, planned, strict=True):
            updated(part.opened.header, part.opened.dek, slots=slots)
        return [_apply(part, slots) for part, slots in zip(locked, planned, strict=True)]


@contextmanager
def _locked_file(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        raise ConfigError(f"{path} cannot be changed: {error.strerror}.") from None
    try:
        # A recovery may have renamed the file between its opening and its locking.
        if not lock_file(fd) or not _is_named(fd, path):
            raise InUse(f"{path} is in use; nothing was changed.", hint="Try again when it is not.")
        yield fd
    finally:
        os.close(fd)


def _is_named(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _open_all(files: Sequence[tuple[Path, int]], secret: Secret) -> list[_LockedPart]:
    """Open every part; the data key from one part opens those that lack this secret's slot.

    A part that was half changed when the power failed may lack it and yet name it, in a torn copy:
    Corrupt by the rules of reading. Whether it is, the data key shows.
    """
    opened: dict[Path, _LockedPart] = {}
    refusal: WrongKey | Corrupt = WrongKey("There is no part to open.")
    for path, fd in files:
        try:
            opened[path] = _open_one(path, fd, secret)
        except (WrongKey, Corrupt) as error:
            refusal = refusal if isinstance(refusal, Corrupt) else error
    if not opened:
        raise refusal
    known = DataKeySecret(next(iter(opened.values())).opened.dek)
    parts = [opened.get(path) or _open_one(path, fd, known) for path, fd in files]
    if len({part.opened.header.core.recording_id for part in parts}) > 1:
        raise Corrupt("These parts are of different recordings; nothing was changed.")
    return parts


def _open_one(path: Path, fd: int, secret: Secret) -> _LockedPart:
    raws = (read_at(fd, HEADER_BYTES, 0), read_at(fd, HEADER_BYTES, HEADER_BYTES))
    try:
        opened = open_header(*raws, secret)
    except Corrupt as error:
        raise Corrupt(f"{path}: {error.message} Nothing was changed.", hint=error.hint) from None
    slots = opened.header.slots
    stale = not all(opened.valid) or any(Header.parse(raw).slots != slots for raw in raws)
    return _LockedPart(path, fd, opened, stale)


def _apply(part: _LockedPart, slots: Sequence[Slot]) -> RewrappedPart:
    header = part.opened.header
    changed = tuple(slots) != part.slots or part.has_stale_copy
    if changed:
        # Rule 4: the older or invalid copy first, durable before the other is touched.
        for copy in part.opened.write_order:
            raw = updated(header, part.opened.dek, slots=slots)
            _write_copy(part, copy, raw)
            header = Header.parse(raw)
    preamble = read_at(part.fd, PREAMBLE, PAYLOAD_OFFSET)
    return RewrappedPart(part.path, header, commitment_of(preamble), changed)


def _write_copy(part: _LockedPart, copy: int, raw: bytes) -> None:
    try:
        write_at(part.fd, raw, copy * HEADER_BYTES)
        sync_data(part.fd)
    except OSError as error:
        raise DiskError(
            f"The header of {part.path} could not be written ({error.strerror}); "
            "one copy of it is whole, and the payload was not touched.",
            hint="Run the command again when the disk takes writes.",
        ) from error
