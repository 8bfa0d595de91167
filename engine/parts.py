"""The parts of one recording as the supervisor keeps them: names, headers, the ends of dead ones.

Builds each part's header (so the key encryption keys stay in this process), chains the parts by
their commitments, and closes the part of a dead encoder in the background. It writes no payload:
that is the encoder's.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import keys
from engine.config import RecordingConfig
from engine.container import names, recovery
from engine.container.header import Header, new_core, new_header
from engine.container.part import PartReader
from engine.container.payload import PAYLOAD_OFFSET, PREAMBLE
from engine.container.recipients import DataKeySecret, Recipient
from engine.ledger import Ledger, written_runs
from ipc import osdep
from ipc.errors import ConfigError, InUse, SealrecError
from ipc.frame import Loss

__all__ = ["Part", "PartRecovered", "Parts"]

KEY_BYTES = 32
IN_USE_S, IN_USE_PAUSE_S = 10.0, 0.05
MAX_LOSSES = 65_536
COMMITMENT = slice(PREAMBLE - KEY_BYTES, PREAMBLE)


@dataclass(slots=True)
class Part:
    """One part.

    Attributes:
        index: 0, 1, ...
        path: Final name.
        state: ``open``, ``sealed``, ``failed`` (the disk took no more), ``recovering``,
            ``recovered`` or ``incomplete`` (recovery could not close it yet).
        file_bytes: Size of its file as last heard.
        end_pts: Where its last durable fragment ends, 90 kHz.
        commitment: 32 bytes; zeros while unknown.
        encoder: Name of the encoder that was opened.
        hardware: Whether that is a hardware encoder.
    """

    index: int
    path: Path
    state: str = "open"
    file_bytes: int = 0
    end_pts: int = 0
    commitment: bytes = bytes(KEY_BYTES)
    encoder: str = ""
    hardware: bool = False


@dataclass(frozen=True, slots=True)
class PartRecovered:
    """A part was closed and counted, or could not be: then ``error`` says why, the file stays.

    Attributes:
        part: Which.
        ledger: What it holds.
        losses: The losses that it names, in order; the first 65,536 of them.
        state: ``sealed``, ``recovered`` or ``incomplete``.
        error: For a person; empty if it was closed.
        header: The one in force; None if it was not closed.
    """

    part: Part
    ledger: Ledger
    state: str
    error: str = ""
    header: Header | None = None
    losses: tuple[Loss, ...] = ()


class Parts:
    """All parts of one recording, and its keys for as long as it runs.

    Args:
        config: Where it goes and who may open it.

    Raises:
        ConfigError, KeyFileError: nothing was written.
    """

    def __init__(self, config: RecordingConfig) -> None:
        self.recording_id = secrets.token_bytes(16)
        self.dek = secrets.token_bytes(KEY_BYTES)
        osdep.lock_in_memory(self.dek)
        self._recipients = _recipients(config)
        # A key or label that no header can hold is refused now, not when the first part opens.
        self._header(0, bytes(KEY_BYTES))
        self.base = _claim(config)
        self._all: list[Part] = []
        self.recovering = 0

    def __iter__(self) -> Iterator[Part]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def current(self) -> Part | None:
        """The newest part."""
        return self._all[-1] if self._all else None

    @property
    def size_bytes(self) -> int:
        """Bytes in all files, as last heard."""
        return sum(part.file_bytes for part in self._all)

    @property
    def end_pts(self) -> int:
        """Where the recording ends now, 90 kHz."""
        return max((part.end_pts for part in self._all), default=0)

    def begin(self) -> tuple[Part, bytes]:
        """The next part and its 4096-byte header; nothing is written yet.

        Raises:
            ConfigError: a recording can have no more parts.
        """
        last = self.current
        index, previous = 0, bytes(KEY_BYTES)
        if last is not None:
            index, previous = last.index + 1, last.commitment
        part = Part(index, names.part_path(self.base, index))
        header = self._header(index, previous)
        self._all.append(part)
        return part, header

    def opened(self, encoder: str, *, hardware: bool) -> None:
        """The current part is open, and its preamble durable, by which the next one names it."""
        part = self.current
        assert part is not None
        part.encoder, part.hardware = encoder, hardware
        self._note_commitment(part)

    @staticmethod
    def _note_commitment(part: Part) -> None:
        for path in (names.open_path(part.path), part.path):  # it may be sealed already
            part.commitment = _commitment(path) or part.commitment

    def _header(self, index: int, previous: bytes) -> bytes:
        core = new_core(
            recording_id=self.recording_id,
            part_index=index,
            created_unix_ms=time.time_ns() // 1_000_000,
            previous_part=previous,
        )
        return new_header(core, self.dek, self._recipients)

    def retire(self, post: Callable[[PartRecovered], None]) -> None:
        """The current part's encoder is dead: close it in the background.

        A part that died before its preamble holds nothing; it is deleted and its index is used
        again (FORMAT.md, "Rules of writing" 6).

        Args:
            post: Gets the outcome, from another thread.
        """
        part = self.current
        if part is None or part.state == "sealed":
            return
        # Under its final name already if somebody else has recovered it in this moment.
        commitment = _commitment(names.open_path(part.path)) or _commitment(part.path)
        if commitment is None:
            self._delete(part)
            self._all.pop()
            return
        part.commitment, part.state = commitment, "recovering"
        self._close_and_count(part, post)

    def recount(self, post: Callable[[PartRecovered], None]) -> None:
        """Close the current part, which is sealed, and count it from its own tables.

        Its encoder died before it could do that, or say all that it had written.

        Args:
            post: Gets the outcome, from another thread.
        """
        assert self.current is not None
        self._close_and_count(self.current, post)

    def _close_and_count(self, part: Part, post: Callable[[PartRecovered], None]) -> None:
        self.recovering += 1
        secret = DataKeySecret(self.dek)
        threading.Thread(
            target=lambda: post(_recover(part, secret)), name="recovery", daemon=True
        ).start()

    def recovered(self, item: PartRecovered) -> None:
        """Note the outcome of a recovery."""
        self.recovering -= 1
        part = item.part
        part.state = item.state
        with contextlib.suppress(OSError):
            part.file_bytes = part.path.stat().st_size

    def was_sealed(self) -> bool:
        """Whether the current part's seal is whole, whatever its encoder could still do or say.

        It may lack its final name; `recount` gives it that. Another part behind it would make a
        liar of a seal that says it is the last.
        """
        part = self.current
        if part is None or part.state != "open":
            return False
        if not part.path.exists() and not self._is_seal_whole(part):
            return False
        part.state = "sealed"
        self._note_commitment(part)
        return True

    def _is_seal_whole(self, part: Part) -> bool:
        try:
            with PartReader.open(names.open_path(part.path), DataKeySecret(self.dek)) as reader:
                return reader.seal_offset is not None
        except (SealrecError, OSError):
            return False

    def existing_paths(self) -> list[Path]:
        """Where each part is now, under its final name or still ``.open``."""
        return [p.path if p.path.exists() else names.open_path(p.path) for p in self._all]

    def discard(self) -> None:
        """Remove what a recording that never began has left; only once its encoder is gone."""
        for part in self._all:
            self._delete(part)
        self._all = []

    def forget_keys(self) -> None:
        """Let go of the data key and of everything that wraps it."""
        self.dek = b""
        self._recipients = []

    @staticmethod
    def _delete(part: Part) -> None:
        for path in (names.open_path(part.path), names.reserve_path(part.path)):
            with contextlib.suppress(OSError):
                path.unlink()


def _recover(part: Part, secret: DataKeySecret) -> PartRecovered:
    """Close a part if it is not closed, and count what it holds, from its own tables."""
    ledger, losses = Ledger(), list[Loss]()
    try:
        _close(part, secret)
        with PartReader.open(part.path, secret) as reader:
            for fragment in reader.fragments():
                for run in written_runs(fragment.table.frames):
                    ledger.add_written(run)
                losses += _count(ledger, fragment.table.lost)
                del losses[MAX_LOSSES:]
            if reader.seal is not None:
                losses += _count(ledger, reader.seal.lost)
            part.end_pts = max(part.end_pts, reader.end_pts)
            found = reader.header, tuple(losses[:MAX_LOSSES])
            return PartRecovered(part, ledger, reader.state, "", *found)
    except (SealrecError, OSError) as error:
        return PartRecovered(part, ledger, "incomplete", str(error))


def _count(ledger: Ledger, losses: tuple[Loss, ...]) -> tuple[Loss, ...]:
    for loss in losses:
        ledger.add_lost(loss)
    return losses


def _close(part: Part, secret: DataKeySecret) -> None:
    """Close a part; somebody else may be at it just now, such as `sealrec recover`."""
    deadline = time.monotonic() + IN_USE_S
    while not part.path.exists():
        try:
            recovery.recover_part(names.open_path(part.path), secret)
            return
        except (InUse, FileNotFoundError):
            if time.monotonic() > deadline:
                raise
            time.sleep(IN_USE_PAUSE_S)


def _commitment(path: Path) -> bytes | None:
    """The key commitment in a part's preamble; None if the part ends before."""
    found = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(PAYLOAD_OFFSET)
        found = file.read(PREAMBLE)
    return found[COMMITMENT] if len(found) == PREAMBLE else None


def _recipients(config: RecordingConfig) -> list[Recipient]:
    given: list[Recipient] = [
        keys.password_recipient(k.value, label=k.label) for k in config.keys if k.kind == "password"
    ]
    paths = {
        kind: [k.value for k in config.keys if k.kind == kind]
        for kind in ("key_file", "password_file", "public_key")
    }
    if any(paths.values()) or not given:
        given += keys.recipients_from(
            key_files=paths["key_file"],
            password_files=paths["password_file"],
            public_keys=paths["public_key"],
        )
    return given


def _claim(config: RecordingConfig) -> Path:
    """Find the recording's name and make its directory; leaves no file behind.

    Raises:
        ConfigError: the name is taken, or the directory cannot be made or written.
    """
    base = config.base()
    try:
        if config.next_free_name:
            base = names.next_free(base)
        else:
            names.check_free(base)
        # As long as the longest name to come, so that none is refused later.
        probe = base.parent / f".{base.name}.{secrets.token_hex(6)}"
        base.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{base.parent} cannot be written: {error.strerror}.",
            hint="Nothing was started; choose another directory or change its permissions.",
        ) from error
    return base
