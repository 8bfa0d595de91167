"""Verifies a recording: each byte and table, the balance over all parts, on request each picture.

Nothing is believed that the files do not show: frames are counted from the fragment tables with a
fresh ledger, compared with the totals in the seals and with the media boxes themselves, and the
parts must follow each other. Memory does not grow with the length: fragments pass one by one.

What it cannot see: FORMAT.md, "What this proves".
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.container.boxes import TIMESCALE_HZ
from engine.container.names import index_of
from engine.container.part import PartReader
from engine.container.recipients import Secret
from engine.container.tables import FrameRow, SealTable
from engine.ledger import WRITTEN, Ledger
from engine.reading.account import PartAccount
from engine.reading.selection import reading, select_parts
from ipc.errors import Corrupt, Truncated, Unbalanced, WrongKey

if TYPE_CHECKING:
    from engine.reading.pictures import PictureCheck

__all__ = ["Barcodes", "Fingerprint", "PartResult", "VerifyReport", "verify"]

_WORST_LAST: Final = ("sealed", "recovered", "incomplete", "corrupt", "wrong-key")
_EXIT_CODES: Final = {
    "incomplete": Truncated.exit_code,
    "corrupt": Corrupt.exit_code,
    "wrong-key": WrongKey.exit_code,
}
_CLOSED: Final = ("sealed", "recovered")
_SENTENCES: Final = 100
_DECODE_WEIGHT: Final = 20  # decoding a picture against decrypting it

Progress = Callable[[float], None]
"""Takes the done share, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells a part from any other state of itself: what the audit has on record of it.

    Attributes:
        generation: Of its authenticated header.
        chunk_count: Of that header.
        commitment: Key commitment of its payload; empty if it has none yet.
        header_mac: 32 bytes.
    """

    generation: int
    chunk_count: int
    commitment: bytes
    header_mac: bytes

    @classmethod
    def of(cls, part: PartReader) -> Fingerprint:
        """The fingerprint of an opened part."""
        header = part.header
        return cls(header.generation, header.chunk_count, part.commitment, header.mac)


@dataclass(frozen=True, slots=True)
class PartResult:
    """What was found in one part.

    Attributes:
        path: The file.
        index: Which part it is.
        state: ``sealed``, ``recovered``, ``incomplete``, ``corrupt`` or ``wrong-key``.
        frames: Frames in it; of a corrupt one, in its intact prefix.
        fingerprint: None if its header does not open.
        audit_head: Where the catalog's audit ended when it was sealed; empty if that is not known.
    """

    path: Path
    index: int
    state: str
    frames: int
    fingerprint: Fingerprint | None = None
    audit_head: str = ""


@dataclass(frozen=True, slots=True)
class Barcodes:
    """Pictures of a synthetic recording whose barcode was looked at, and how many were right."""

    checked: int = 0
    right: int = 0


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What ``verify`` found.

    Attributes:
        state: The worst of the parts.
        frames: Frames written, each counted once however many parts hold it.
        duration_s: End of the last fragment.
        lost: Frames per class, classes without any left out.
        balanced: Every id from first to last is in exactly one class, and tables, seals and media
            say the same.
        complete: All parts are there, in order and closed, as far as the files can tell.
        parts: One result per part looked at.
        problems: A sentence for everything that is wrong.
        notes: A sentence for what is worth knowing and harms nothing.
        decoded: Frames that decoded; None if that was not asked for.
        barcodes: None if that was not asked for, or the source has none.
        recording_id: 16 bytes; None if no part opens.
        whole: All parts were looked at, not one alone.
    """

    state: str
    frames: int
    duration_s: float
    lost: dict[str, int]
    balanced: bool
    complete: bool
    parts: tuple[PartResult, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    decoded: int | None = None
    barcodes: Barcodes | None = None
    recording_id: bytes | None = None
    whole: bool = True

    @property
    def exit_code(self) -> int:
        """0 good, 3 incomplete, 4 corrupt, 5 wrong key, 6 unbalanced or a part missing."""
        if self.state in _EXIT_CODES:
            return _EXIT_CODES[self.state]
        good = self.balanced and self.complete and not self.problems
        return 0 if good else Unbalanced.exit_code

    def as_dict(self) -> dict[str, Any]:
        """The JSON of the README."""
        result: dict[str, Any] = {
            "state": self.state,
            "frames": self.frames,
            "duration_s": self.duration_s,
            "lost": self.lost,
            "balanced": self.balanced,
            "complete": self.complete,
            "parts": [
                {"path": str(p.path), "index": p.index, "state": p.state, "frames": p.frames}
                for p in self.parts
            ],
            "problems": list(self.problems),
            "notes": list(self.notes),
        }
        if self.decoded is not None:
            result["decoded"] = self.decoded
        if self.barcodes is not None:
            result["barcodes"] = {"checked": self.barcodes.checked, "right": self.barcodes.right}
        return result


def verify(
    path: Path,
    secret: Secret,
    *,
    decode: bool = False,
    progress: Progress | None = None,
    part: int | None = None,
) -> VerifyReport:
    """Verify a recording, or one part of it.

    Args:
        path: Any part.
        secret: What opens it.
        decode: Decode every picture as well, and compare the synthetic source's barcodes with the
            frame table.
        progress: Told the share that is done.
        part: Look at this part alone. Its balance is then that of its own tables: a frame that
            another part accounts for is in no class.

    Raises:
        ConfigError: there is no such recording or part, or it cannot be read. Wrong keys and
            damage are results, not errors.
    """
    paths = select_parts(path, part)
    run = _Run(secret, decode=decode, whole=part is None)
    sizes = [_size_of(p) for p in paths]
    done, total = 0, max(1, sum(sizes))
    for part_path, size in zip(paths, sizes, strict=True):
        share, before = size / total, done / total

        def tell(within: float, share: float = share, before: float = before) -> None:
            if progress is not None:
                progress(before + share * within)

        run.take(part_path, tell)
        done += size
    return run.report()


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # renamed in this moment; opening it will tell
        return 0


@dataclass(frozen=True, slots=True)
class _Link:
    """What a part says of its place in the recording."""

    name: str
    index: int
    previous: bytes
    commitment: bytes
    seal: SealTable | None


@dataclass(slots=True)
class _Found:
    """What is known so far of the whole recording."""

    ledger: Ledger = field(default_factory=Ledger)
    results: list[PartResult] = field(default_factory=list)
    links: list[_Link] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)  # what unbalances the account
    damage: list[str] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)  # what makes the recording incomplete
    notes: list[str] = field(default_factory=list)
    recording_id: bytes | None = None
    last_frame: FrameRow | None = None
    end_pts: int = 0


class _Run:
    """One verification."""

    def __init__(self, secret: Secret, *, decode: bool, whole: bool) -> None:
        self._secret, self._whole = secret, whole
        self._found = _Found()
        self._pictures: PictureCheck | None = None
        if decode:
            from engine.reading.pictures import (
                PictureCheck,  # av and numpy only for those who decode
            )

            self._pictures = PictureCheck()

    def take(self, path: Path, progress: Progress) -> None:
        """Verify one part."""
        state, frames, index = "wrong-key", 0, index_of(path)
        fingerprint, head = None, ""
        try:
            part = self._open(path, progress)
        except WrongKey as error:
            self._found.damage.append(f"{path.name}: {error.message}")
        except Corrupt as error:
            state = "corrupt"
            self._found.damage.append(f"{path.name}: {error.message}")
        else:
            with closing(part):
                index, fingerprint = part.part_index, Fingerprint.of(part)
                head = "" if part.seal is None else part.seal.audit_head
                state, frames = self._read(part, progress)
        self._found.results.append(PartResult(path, index, state, frames, fingerprint, head))
        progress(1.0)

    def _open(self, path: Path, progress: Progress) -> PartReader:
        """Open a part and decrypt all of it; a damaged one as far as it is intact."""
        weight = 1.0 if self._pictures is None else 1 / (1 + _DECODE_WEIGHT)
        try:
            part = PartReader.open(path, self._secret)
            try:
                with reading(path):
                    part.check_all(lambda done, of: progress(weight * done / of))
            except BaseException:
                part.close()
                raise
            return part
        except Corrupt:
            return PartReader.open(path, self._secret, salvage=True)

    def _read(self, part: PartReader, progress: Progress) -> tuple[str, int]:
        """Check what is in an opened part; returns its state and frames."""
        found, name = self._found, part.path.name
        if part.error is not None:
            found.damage.append(f"{name}: {part.error.message}")
        if not all(part.copies_valid):
            found.notes.append(f"{name}: one of the two header copies is damaged; the other holds.")
        if part.state == "sealed" and name.endswith(".open"):
            found.notes.append(f"{name} is whole; `sealrec recover` gives it its name.")
        core = part.header.core
        if found.recording_id is None:
            found.recording_id = core.recording_id
        if core.recording_id != found.recording_id:
            found.chain.append(f"{name} belongs to another recording; its frames are not counted.")
            return part.state, 0
        if any(core.part_index == link.index for link in found.links):
            found.chain.append(f"{name} is part {core.part_index} once more; it is not counted.")
            return part.state, 0
        if core.part_index != index_of(part.path):
            found.chain.append(f"{name} says that it is part {core.part_index}.")
        found.links.append(
            _Link(name, core.part_index, core.previous_part, part.commitment, part.seal)
        )
        return self._count(part, progress)

    def _count(self, part: PartReader, progress: Progress) -> tuple[str, int]:
        """Count a part's frames and compare tables, media, seal and pictures."""
        found = self._found
        account = PartAccount(part, found.ledger, found.last_frame)
        state: str = part.state
        try:
            with reading(part.path):
                account.read()
                found.end_pts = max(found.end_pts, part.end_pts)
                if self._pictures is not None:
                    begin = 1 / (1 + _DECODE_WEIGHT)
                    self._pictures.check(part, lambda done: progress(begin + (1 - begin) * done))
        except Corrupt as error:
            state = "corrupt"
            found.damage.append(f"{part.path.name}: {error.message}")
        found.last_frame = account.last
        if state in _CLOSED:
            account.compare_seal(whole=self._whole and self._readable())
        found.accounts += [f"{part.path.name}: {text}" for text in account.problems]
        return state, account.frames

    def _readable(self) -> bool:
        """Whether every part before this one was read to its end."""
        found = self._found
        return not found.chain and all(r.state in _CLOSED for r in found.results)

    def report(self) -> VerifyReport:
        """The result."""
        found, pictures = self._found, self._pictures
        balance = found.ledger.balance()
        unread = any(r.state in ("corrupt", "wrong-key") for r in found.results)
        accounts = [*balance.problems, *found.accounts]
        if not balance.balanced and not accounts:
            accounts.append(f"{balance.offered} frames came; the classes hold another number.")
        if self._whole:
            found.chain += _chain_problems(found.links, {r.index for r in found.results})
        shown = [] if pictures is None else pictures.problems
        state = max((r.state for r in found.results), key=_WORST_LAST.index)
        closed = all(r.state in _CLOSED for r in found.results)
        return VerifyReport(
            state=state,
            frames=found.ledger.written,
            duration_s=round(found.end_pts / TIMESCALE_HZ, 6),
            lost={name: n for name, n in balance.totals.items() if n and name != WRITTEN},
            balanced=not accounts and not unread,
            complete=closed and not found.chain,
            parts=tuple(found.results),
            problems=_bounded([*found.damage, *found.chain, *accounts, *shown]),
            notes=_bounded(found.notes),
            decoded=None if pictures is None else pictures.decoded,
            barcodes=_barcodes(pictures),
            recording_id=found.recording_id,
            whole=self._whole,
        )


def _chain_problems(links: list[_Link], present: set[int]) -> list[str]:
    """What is missing between or behind the parts, or does not follow."""
    problems = [f"Part {i} is missing." for i in range(max(present)) if i not in present]
    links = sorted(links, key=lambda link: link.index)
    for one, two in pairwise(links):
        if one.index + 1 == two.index and two.previous != one.commitment:
            problems.append(f"{two.name} does not follow {one.name}.")
    for link in links:
        if link.seal is None:
            continue
        if link.seal.parts != link.index + 1:
            problems.append(f"{link.name} is part {link.index}; its seal counts {link.seal.parts}.")
        if link.seal.last and link.index < max(present):
            problems.append(f"{link.name} says that it is the last part; another follows.")
        if not link.seal.last and link.index == max(present):
            problems.append(f"Part {link.index + 1} is missing: {link.name} is not the last.")
    return problems


def _barcodes(pictures: PictureCheck | None) -> Barcodes | None:
    if pictures is None or not pictures.has_barcodes:
        return None
    return Barcodes(pictures.checked, pictures.right)


def _bounded(sentences: list[str]) -> tuple[str, ...]:
    more = len(sentences) - _SENTENCES
    kept = sentences[:_SENTENCES]
    return (*kept, f"And {more} more of that kind.") if more > 0 else tuple(kept)
