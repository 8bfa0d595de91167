"""What FORMAT.md promises of a whole recording, checked through the independent reader.

Written from FORMAT.md alone, like the reader itself; it must never import ``engine`` either. A
deviation is one sentence, so that a test asserts that there are none and shows all at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from struct import unpack_from

from tests.contracts.independent_reader import (
    CHUNK,
    Box,
    Event,
    Fragment,
    Header,
    Part,
    Row,
    find,
    kinds_within,
)

__all__ = ["deviations"]

LOST = (
    *("camera_gap", "incomplete", "ring_full", "encoder_lost"),
    *("encode_error", "write_error", "paused"),
)
# A later word may set these right.
OVERTAKEN = ("paused", "encode_error", "write_error", "encoder_lost")
FrameKey = tuple[int, int]  # epoch, frame_id


def deviations(parts: Sequence[Part]) -> Iterator[str]:
    """Everything in which a recording (all its parts, in order) departs from FORMAT.md."""
    for index, part in enumerate(parts):
        previous = parts[index - 1].commitment if index else bytes(32)
        for fault in (*_of_part(part), *_of_seal(part, parts[: index + 1])):
            yield f"part {index}: {fault}"
        if (part.header.part_index, part.header.previous_part) != (index, previous):
            yield f"part {index}: part_index or previous_part"
        if part.header.recording_id != parts[0].header.recording_id or part.dek != parts[0].dek:
            yield f"part {index}: another recording_id or data key"
        if part.seal and part.seal.table["last"] != (index == len(parts) - 1):
            yield f"part {index}: last is {part.seal.table['last']}"
    rows = [row for part in parts for row in part.rows()]
    yield from _of_rows(rows)
    yield from _of_balance(parts)


def _of_part(part: Part) -> Iterator[str]:
    if part.state == "incomplete":
        yield "incomplete"
    yield from _of_headers(*part.headers)
    kinds = [box.kind for box in part.boxes]
    if kinds[:3] != ["ftyp", "moov", "emsg"] or part.session is None:
        yield f"does not begin with ftyp, moov, session: {kinds[:3]}"
    elif part.session.numbers() != (90_000, 0, 0, 0):
        yield f"session emsg says {part.session.numbers()}"
    if unknown := set(kinds) - {"ftyp", "moov", "emsg", "moof", "mdat", "free"}:
        yield f"unexpected boxes {unknown}"
    if "edts" in kinds_within(part.plaintext[: part.boxes[1].end]):
        yield "an edit list"
    if part.timescale != 90_000:
        yield f"timescale {part.timescale}"
    if any(box.kind == "emsg" and box.start % CHUNK for box in part.boxes[3:]):
        yield "an emsg that does not start at a chunk edge"
    if part.state == "recovered" and len(part.plaintext) % CHUNK:
        yield "recovered, and does not end at a chunk edge"
    yield from _of_padding(part.boxes)
    for number, fragment in enumerate(part.fragments):
        yield from (f"fragment {number}: {fault}" for fault in _of_fragment(part, fragment))
        if fragment.event.number != number:
            yield f"fragment {number} has the id {fragment.event.number}"


def _of_headers(first: Header | None, second: Header | None) -> Iterator[str]:
    if first is None or second is None:
        yield "a header copy is bad"
        return
    if first.said() != second.said():
        yield "the header copies say different things"
    if abs(first.generation - second.generation) != 1:
        yield f"generations {first.generation} and {second.generation}: each write is one"
    for slot in first.slots:
        kind, _, _, iterations = unpack_from(">BBHI", slot)
        salt_is_zero, iv_is_zero = not any(slot[24:56]), not any(slot[56:68])
        if salt_is_zero != (kind == 2) or iv_is_zero != (kind == 3):
            yield f"salt or iv of a slot of kind {kind}"
        if (kind == 1 and iterations < 600_000) or (kind != 1 and iterations):
            yield f"{iterations} iterations in a slot of kind {kind}"
        slot[116:192].rstrip(b"\0").decode()  # a label is UTF-8


def _of_padding(boxes: Iterable[Box]) -> Iterator[str]:
    for before, box in pairwise(boxes):
        if box.kind != "free":
            continue
        missing = -before.end % CHUNK
        if box.end - box.start != missing + (CHUNK if 0 < missing < 8 else 0):
            yield f"free box of {box.end - box.start} bytes where {missing} are missing"
        if any(box.body):
            yield f"padding at {box.start} is not zeros"


def _of_fragment(part: Part, fragment: Fragment) -> Iterator[str]:
    event, rows, samples = fragment.event, fragment.rows, fragment.samples
    if event.timescale != 90_000:
        yield f"emsg timescale {event.timescale}"
    if (fragment.moof is None) == bool(rows):
        yield f"{len(rows)} rows, moof: {fragment.moof is not None}"
    if [sample.time for sample in samples] != [row.pts for row in rows]:
        yield f"sample times {[s.time for s in samples]} are not {[row.pts for row in rows]}"
    if [sample.sync for sample in samples] != [bool(row.flags & 1) for row in rows]:
        yield "the samples' sync flags are not the rows' key frame flags"
    if not samples or not rows or fragment.moof is None:
        return
    if event.time != rows[0].pts:
        yield f"presentation_time {event.time}, first pts {rows[0].pts}"
    if event.duration != sum(sample.duration for sample in samples):
        yield f"event_duration {event.duration}, samples {sum(s.duration for s in samples)}"
    if not samples[0].sync:
        yield "does not begin with a key frame"
    yield from _of_media(part, fragment.moof, sum(sample.size for sample in samples))


def _of_media(part: Part, moof: Box, size: int) -> Iterator[str]:
    mdat = part.boxes[part.boxes.index(moof) + 1]
    if mdat.kind != "mdat" or len(mdat.body) != size:
        yield f"{mdat.kind} of {len(mdat.body)} bytes for samples of {size}"
    tfhd, trun = (find(moof.body, "traf", kind).body for kind in ("tfhd", "trun"))
    if not tfhd[1] & 0x02 or tfhd[3] & 0x01:
        yield "default-base-moof is not set"
    offset = unpack_from(">i", trun, 8)[0] if trun[3] & 0x01 else 0
    if moof.start + offset != mdat.end - len(mdat.body):
        yield f"trun data offset {offset}"


def _of_seal(part: Part, so_far: Sequence[Part]) -> Iterator[str]:
    """The seal stands last, where the header says, and its index and totals are what is there."""
    if part.state != "sealed" or part.seal is None:
        if part.state == "sealed" or part.seal is not None or part.header.seal_chunk:
            yield f"{part.state}, seal {part.seal is not None}, at {part.header.seal_chunk}"
        return
    table = part.seal.table
    if part.header.seal_chunk * CHUNK != part.seal.box.start or part.boxes[-1] != part.seal.box:
        yield f"seal_chunk {part.header.seal_chunk}, seal at {part.seal.box.start}"
    if part.seal.numbers()[1:] != (part.end_pts(), 0, len(part.fragments)):
        yield f"seal emsg says {part.seal.numbers()}, part ends at {part.end_pts()}"
    expected = [_index_row(fragment.event, fragment.rows) for fragment in part.fragments]
    if [tuple(row) for row in table["index"]] != expected:
        yield f"index {table['index']}, is {expected}"
    for field, of in (("part", [part]), *([("recording", so_far)] if table["last"] else [])):
        counted = Counter({name: len(frames) for name, frames in _classes(of).items()})
        if Counter(table[field]) != counted:  # a class without frames may be left out
            yield f"{field} says {table[field]}, counted {dict(counted)}"
    if table["parts"] != len(so_far):
        yield f"parts is {table['parts']}"


def _index_row(event: Event, rows: Sequence[Row]) -> tuple[int, int, int]:
    return event.box.start // CHUNK, event.time, len(rows)


def _classes(parts: Sequence[Part]) -> dict[str, set[FrameKey]]:
    """The frames of each class over parts, by FORMAT.md "Counting"."""
    written = {(row.epoch, row.frame_id) for part in parts for row in part.rows()}
    classes: dict[str, set[FrameKey]] = {"written": written} | {name: set() for name in LOST}
    for kind, epoch, first, last, *_ in (row for part in parts for row in part.lost()):
        ids = () if first is None else range(first, last + 1)
        classes[kind].update((epoch, frame_id) for frame_id in ids)
    settled = set(written)
    for kind in OVERTAKEN:
        classes[kind] -= settled
        settled |= classes[kind]
    return classes


def _of_rows(rows: Sequence[Row]) -> Iterator[str]:
    """A seq is one frame; pts starts at 0 and grows with it."""
    by_seq: dict[int, Row] = {}
    for row in rows:
        first = by_seq.setdefault(row.seq, row)
        if first is not row and first.identity() != row.identity():
            yield f"seq {row.seq} is two frames"
    ordered = [by_seq[seq] for seq in sorted(by_seq)]
    if ordered and ordered[0].pts != 0:
        yield f"the recording's first pts is {ordered[0].pts}"
    yield from (
        f"pts {late.pts} of seq {late.seq} after {early.pts}"
        for early, late in pairwise(ordered)
        if late.pts <= early.pts
    )
    if any(late.host_ns < early.host_ns for early, late in pairwise(ordered)):
        yield "host times step back"
    keys = Counter((row.epoch, row.frame_id) for row in ordered)
    yield from (f"frame {key} has two seq" for key, times in keys.items() if times > 1)


def _of_balance(parts: Sequence[Part]) -> Iterator[str]:
    """In each epoch every id from first to last is in exactly one class."""
    for kind, epoch, first, last, first_ns, last_ns in (row for p in parts for row in p.lost()):
        if kind not in LOST or (first is None) != (last is None) or first_ns > last_ns:
            yield f"a row of lost: {kind, epoch, first, last, first_ns, last_ns}"
            return
    seen = Counter(frame for frames in _classes(parts).values() for frame in frames)
    for epoch in sorted({epoch for epoch, _ in seen}):
        ids = {frame_id: times for (of, frame_id), times in seen.items() if of == epoch}
        missing = set(range(min(ids), max(ids) + 1)) - set(ids)
        twice = sorted(frame_id for frame_id, times in ids.items() if times > 1)
        if missing or twice:
            yield f"epoch {epoch}: in no class {sorted(missing)[:9]}, in two {twice[:9]}"
