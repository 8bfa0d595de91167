"""The encoder process: drains the ring through a video encoder into a sealed part.

    idle -- OpenPart --> open -- FinishRecording, drained --> sealing --> idle
                          |-- frames change size or format --> sealed, PartNeeded --> idle
                          `-- disk takes no more --> failed: drains the ring, names each frame

The main thread reads, converts and encodes; `disk.DiskThread` seals and syncs. When the lifeline is
lost the encoder drains what is in the ring, seals, and leaves by itself. It is not the ledger of
the recording: it names what it writes and loses, part by part.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.container.tables import (
    ClockPair,
    FragmentTable,
    FrameRow,
    Note,
    SealTable,
    SessionTable,
)
from engine.ledger import Ledger
from ipc import logs, osdep
from ipc.errors import EncoderError, SealrecError
from ipc.frame import FrameStamp, Loss, LossClass, PixelFormat, merge_losses
from ipc.lifeline import LIFELINE_LOST, Lifeline, SelfMeasure, WorkerArguments
from ipc.messages import (
    EpochMapped,
    Event,
    Failure,
    FinishRecording,
    FramesLost,
    LossRow,
    NoteEvent,
    OpenPart,
    PartNeeded,
    Shutdown,
    ToEncoder,
)
from ipc.ring import RingFrame, RingReader
from workers.codecs.convert import Converter
from workers.codecs.encoders import VideoEncoder, open_encoder
from workers.codecs.spec import EncoderSpec
from workers.disk import DiskThread, PartPlan, Piece
from workers.fragments import FRAGMENT_S, IDLE_CLOSE_S, Assembly, FragmentAssembler
from workers.load import LoadControl
from workers.reports import HEARTBEAT_S, DiskReports, Heartbeat
from workers.timeline import Timeline, ticks

__all__ = ["main"]

WAIT_S = 0.02
ORPHAN_DRAIN_S = 2.0
SEAL_WAIT_S = 60.0
TABLE_EVERY_S = 1.0
MAX_ENCODE_ERRORS = 30
CRASHED = 70
COLOUR = {"matrix": "smpte170m", "range": "limited", "conversion": "BT.601"}


@dataclass(slots=True)
class _Part:
    """The open part: its encoder and the fragment that is growing."""

    order: OpenPart
    width_px: int
    height_px: int
    pixel_format: PixelFormat
    encoder: VideoEncoder
    converter: Converter
    assembler: FragmentAssembler
    load: LoadControl | None
    fragment_number: int = 1


class _Encoder:
    """One run of the process."""

    def __init__(self, lifeline: Lifeline, ring: RingReader) -> None:
        self._lifeline = lifeline
        self._channel = lifeline.channel
        self._ring = ring
        self._disk = DiskThread(DiskReports(lifeline.channel, ring))
        self._heartbeat = Heartbeat(lifeline.channel, self._disk)
        self._timeline = Timeline()
        self._part: _Part | None = None
        self._held: RingFrame | None = None
        self._losses: list[Loss] = []
        self._events: list[Note] = []
        self._end_pts = 0
        self._resumed = False
        self._through: int | None = None
        self._previous: Ledger | None = None
        self._consumed = 0
        self._done = False
        self._errors_in_row = 0
        self._last_frame_at = self._last_piece_at = time.perf_counter()

    # --- the loop -----------------------------------------------------------------------------

    def run(self, order: OpenPart) -> int:
        """Record ``order``, then serve the supervisor until it says so or is gone."""
        self._open(order)
        while True:
            self._heartbeat.beat()
            idle = self._part is None and not self._disk.failed
            item = self._lifeline.next(HEARTBEAT_S if idle else 0)
            if isinstance(item, OpenPart):
                self._open(item)
            elif isinstance(item, FinishRecording):
                self._through = item.through
                self._previous = Ledger()
                self._previous.add_snapshot(item.previous)
                if item.gap is not None:
                    self._losses.append(item.gap.loss())
            elif isinstance(item, NoteEvent):
                self._events.append(Note(item.host_ns, item.kind, item.text))
            elif isinstance(item, Shutdown):
                return self._leave()
            elif item is LIFELINE_LOST:
                return self._finish_alone()
            if self._part is not None or self._disk.failed:
                self._step()
            if self._done:
                return self._leave()

    def _step(self) -> None:
        if self._disk.failed and self._part is not None:
            self._give_up(self._part)
        if not self._disk.has_room():
            if self._part is not None and self._part.load is not None:
                self._part.load.held_up()
            time.sleep(WAIT_S)  # the disk is behind: the ring waits, not this process's memory
            return
        frame = self._held or self._ring.read()
        self._held = None
        if frame is None:
            self._pass_overwritten()
            if self._through is not None and self._consumed >= self._through:
                self._finish()
            else:
                self._idle()
                self._ring.wait(WAIT_S)
            return
        if self._part is None:
            self._lose(frame, LossClass.WRITE_ERROR)
            self._report_unwritable()
        elif self._fits(self._part, frame):
            self._encode(self._part, frame)
        else:
            self._held = frame
            self._change_part(frame)

    def _pass_overwritten(self) -> None:
        """Frames that were overwritten before they could be read are consumed: they are named.

        Otherwise a last frame of that kind would be waited for without end.
        """
        if self._ring.position > self._consumed:
            self._consumed = self._ring.position
            self._ring.release(self._consumed - 1)

    def _idle(self) -> None:
        """Close a fragment that no frame joins any more; keep the file alive without frames."""
        now = time.perf_counter()
        part = self._part
        if part is None:
            self._report_unwritable()
            return
        waited = now - self._last_frame_at
        if not part.assembler.empty and waited > IDLE_CLOSE_S:
            part.assembler.close()
            self._write_closed(part)
        elif part.assembler.empty and now - self._last_piece_at > TABLE_EVERY_S:
            self._write_table_only()

    # --- parts --------------------------------------------------------------------------------

    def _open(self, order: OpenPart) -> None:
        osdep.lock_in_memory(order.dek)
        frame = order.frame
        width_px, height_px = int(frame["width_px"]), int(frame["height_px"])
        pixel_format = PixelFormat(frame["pixel_format"])
        rate_hz = float(frame["rate_hz"])
        gop = max(1, round(FRAGMENT_S * rate_hz))
        spec = msgspec.convert(
            {**order.video, "width_px": width_px, "height_px": height_px, "rate_hz": rate_hz},
            EncoderSpec,
        )
        encoder = open_encoder(spec)
        converter = Converter(width_px, height_px, pixel_format)
        if not self._resumed:
            self._losses += self._ring.resume()
            self._consumed = self._ring.statistics().released
            self._resumed = True
        self._timeline = Timeline(order.host_origin_ns, order.epoch_offsets)
        self._part = _Part(
            order,
            width_px,
            height_px,
            pixel_format,
            encoder,
            converter,
            FragmentAssembler(gop),
            self._load_control(order, encoder),
        )
        previous = Ledger()
        previous.add_snapshot(order.previous)
        self._disk.create(
            PartPlan(
                index=order.index,
                path=Path(order.path),
                header=order.header,
                dek=order.dek,
                init_segment=encoder.init_segment(),
                encoder=encoder.name,
                hardware=encoder.hardware,
                settings=encoder.settings,
                session=_session_table(order, encoder),
                previous=previous,
            )
        )

    @staticmethod
    def _fits(part: _Part, frame: RingFrame) -> bool:
        shape = part.pixel_format.shape(part.width_px, part.height_px)
        return frame.pixel_format is part.pixel_format and frame.pixels.shape == shape

    def _change_part(self, frame: RingFrame) -> None:
        height_px, width_px = frame.pixels.shape[:2]
        # First: the answer to the seal is an order to open the next part, of this size.
        self._channel.send_quietly(
            PartNeeded(
                width_px=width_px, height_px=height_px, pixel_format=frame.pixel_format.value
            )
        )
        self._seal(last=False)

    def _finish(self) -> None:
        """The ring is drained up to where the recording ends."""
        if self._part is None:
            self._report_unwritable()
            self._done = True  # nothing to seal: leaving is the answer
            return
        self._seal(last=True)

    def _seal(self, *, last: bool) -> None:
        part = self._part
        assert part is not None
        try:
            part.assembler.take(part.encoder.flush())
        except EncoderError as error:
            logs.logger.warning("encoder did not flush", error=str(error))
        for stamp in part.assembler.give_up_waiting():
            self._lose_stamp(stamp, LossClass.ENCODE_ERROR)
        part.assembler.close()
        self._write_closed(part)
        lost = self._take_losses()
        self._heartbeat.beat(now_or_never=True)
        part.encoder.close()
        self._part = None
        table = SealTable(
            parts=part.order.index + 1,
            last=last,
            lost=lost,
            events=self._take_events(),
            clock=_clock_pair(),
        )
        self._disk.seal(
            table,
            previous=self._previous,
            loss_cursor=self._ring.loss_cursor,
        )

    def _give_up(self, part: _Part) -> None:
        """The disk takes no more: name the frames that wait for their fragment."""
        for stamp in part.assembler.abandon():
            self._lose_stamp(stamp, LossClass.WRITE_ERROR)
        part.encoder.close()
        self._part = None

    def _leave(self) -> int:
        if self._part is not None:
            self._part.encoder.close()
        self._disk.leave(SEAL_WAIT_S)
        self._channel.flush(1.0)
        self._ring.close()
        return 0

    def _finish_alone(self) -> int:
        """The supervisor is gone: drain, seal, leave."""
        quiet_since = time.perf_counter()
        while self._part is not None:
            before = self._consumed
            ended = self._ring.ended is not None
            if ended and self._consumed >= self._ring.published:
                self._finish()
                break
            self._step()
            if self._consumed != before or self._consumed < self._ring.published:
                quiet_since = time.perf_counter()
            elif time.perf_counter() - quiet_since > ORPHAN_DRAIN_S:
                self._finish()  # capture died too and could not mark its end
        return self._leave()

    # --- frames -------------------------------------------------------------------------------

    def _encode(self, part: _Part, frame: RingFrame) -> None:
        known = self._timeline.offset_ns(frame.stamp.epoch) is not None
        pts = self._timeline.pts(frame.stamp)
        if not known:
            self._announce_epoch(frame.stamp.epoch)
        key = part.assembler.wants_key()
        if key:
            self._adapt(part, frame)
        began = time.perf_counter()
        part.assembler.add(frame.seq, frame.stamp, pts, time.perf_counter_ns())
        try:
            picture = part.converter.convert(frame.pixels)
            self._ring.release(frame.seq)
            converted = time.perf_counter()
            samples = part.encoder.encode(picture, pts, key=key)
        except EncoderError as error:
            part.assembler.drop_last()
            self._encode_failed(frame, error)
            return
        self._consumed = frame.seq + 1
        self._errors_in_row = 0
        part.assembler.take(samples)
        now = self._last_frame_at = time.perf_counter()
        self._heartbeat.count(convert_s=converted - began, encode_s=now - converted)
        if part.assembler.complete(pts, time.perf_counter_ns()):
            part.assembler.close()
        self._write_closed(part)

    def _load_control(self, order: OpenPart, encoder: VideoEncoder) -> LoadControl | None:
        """What watches the load of a part; None where the source waits for room in the ring."""
        speed = encoder.settings.get("preset", "")
        self._heartbeat.show_load(speed, overloaded=False)
        if not order.may_lighten:
            return None
        return LoadControl(
            slots=self._ring.statistics().slots,
            rate_hz=float(order.frame["rate_hz"]),
            speeds=encoder.speeds,
            speed=speed,
        )

    def _adapt(self, part: _Part, frame: RingFrame) -> None:
        """At a fragment's start: take the speed that the load wants, and say what changed."""
        load = part.load
        if load is None:
            return
        speed, overloaded = load.speed, load.overloaded
        waiting = self._ring.published - frame.seq - 1
        wanted = load.observe(waiting, time.perf_counter())
        why = f"{waiting} frames wait in the ring"
        if load.overloaded and not overloaded:
            self._tell("overload", why, waiting=waiting)
        elif overloaded and not load.overloaded:
            self._tell("overload_over", why, waiting=waiting)
        if wanted is not None:
            try:
                part.assembler.take(part.encoder.change_speed(wanted))
                self._tell("speed_step", f"{speed} to {wanted}: {why}", speed=wanted)
            except EncoderError as error:
                load.refused(speed)
                logs.logger.warning("speed not changed", wanted=wanted, error=str(error))
        self._heartbeat.show_load(load.speed, overloaded=load.overloaded)

    def _tell(self, kind: str, text: str, **details: Any) -> None:
        """Tell of an event at once, and write it into the file with the next fragment."""
        now_ns = time.perf_counter_ns()
        self._events.append(Note(now_ns, kind, text))
        self._channel.send_quietly(Event(kind=kind, host_ns=now_ns, text=text, details=details))

    def _announce_epoch(self, epoch: int) -> None:
        """Tell the supervisor before anything of the epoch can become durable.

        A successor that did not know the offset would place the same frames elsewhere.
        """
        offset_ns = self._timeline.offset_ns(epoch)
        origin_ns = self._timeline.host_origin_ns
        assert offset_ns is not None
        assert origin_ns is not None
        self._channel.send_quietly(
            EpochMapped(epoch=epoch, offset_ns=offset_ns, host_origin_ns=origin_ns)
        )
        self._channel.flush(1.0)

    def _encode_failed(self, frame: RingFrame, error: EncoderError) -> None:
        logs.logger.error("frame not encoded", frame_id=frame.stamp.frame_id, error=str(error))
        self._lose(frame, LossClass.ENCODE_ERROR)
        self._errors_in_row += 1
        if self._errors_in_row >= MAX_ENCODE_ERRORS:
            raise EncoderError(
                f"{self._errors_in_row} frames in a row could not be encoded: {error}",
                hint="The encoder is started again.",
            )

    def _lose(self, frame: RingFrame, loss_class: LossClass) -> None:
        self._lose_stamp(frame.stamp, loss_class)
        self._ring.release(frame.seq)
        self._consumed = frame.seq + 1

    def _lose_stamp(self, stamp: FrameStamp, loss_class: LossClass) -> None:
        self._losses.append(Loss.of(stamp, loss_class))

    def _take_losses(self) -> tuple[Loss, ...]:
        lost = (*self._losses, *self._ring.read_losses())
        self._losses = []
        return merge_losses(lost)

    # --- fragments ----------------------------------------------------------------------------

    def _write_closed(self, part: _Part) -> None:
        while (assembly := part.assembler.next_closed()) is not None:
            self._write(part, assembly)

    def _write(self, part: _Part, assembly: Assembly) -> None:
        first, last = assembly.rows[0], assembly.rows[-1]
        period = ticks(int(1e9 / float(part.order.frame["rate_hz"])))
        media = part.encoder.fragment(assembly.samples, part.fragment_number)
        part.fragment_number += 1
        # What the encoder still holds back or the next fragment carries is not covered by this one.
        committed = last.seq + 1 if not part.assembler.empty else self._consumed
        self._end_pts = last.pts + period
        self._put(
            self._table(assembly.rows), media, first.pts, self._end_pts - first.pts, committed
        )

    def _write_table_only(self) -> None:
        # Where the video stands: the time that passes without frames is in the table's clock.
        self._put(self._table(), b"", self._end_pts, 0, self._consumed)

    def _table(self, rows: tuple[FrameRow, ...] = ()) -> FragmentTable:
        return FragmentTable(
            frames=rows, lost=self._take_losses(), events=self._take_events(), clock=_clock_pair()
        )

    def _take_events(self) -> tuple[Note, ...]:
        events, self._events = tuple(self._events), []
        return events

    def _put(
        self, table: FragmentTable, media: bytes, pts: int, duration: int, committed: int
    ) -> None:
        self._last_piece_at = time.perf_counter()
        self._disk.write(Piece(table, media, pts, duration, committed, self._ring.loss_cursor))

    def _report_unwritable(self) -> None:
        """Tell the supervisor what no file can hold; nothing else will ever know."""
        lost = self._take_losses()
        if lost:
            self._channel.send_quietly(FramesLost(part=0, lost=[LossRow.of(loss) for loss in lost]))
        if self._consumed:
            self._ring.commit(self._consumed - 1)
        self._ring.commit_losses(self._ring.loss_cursor)


def _clock_pair() -> ClockPair:
    return ClockPair(time.perf_counter_ns(), time.time_ns())


def _session_table(order: OpenPart, encoder: VideoEncoder) -> SessionTable:
    session: dict[str, Any] = order.session
    return SessionTable(
        session={str(k): str(v) for k, v in session.get("session", {}).items()},
        camera={str(k): str(v) for k, v in session.get("camera", {}).items()},
        codec={**encoder.settings, **{k: str(v) for k, v in order.frame.items()}},
        colour=COLOUR,
        software=str(session.get("software", "")),
        clock=_clock_pair(),
    )


def _first_order(lifeline: Lifeline) -> OpenPart | None:
    """Wait, with everything imported, for the first part; None if there will be none."""
    measure = SelfMeasure()
    while True:
        item = lifeline.next(HEARTBEAT_S)
        if isinstance(item, OpenPart):
            return item
        if isinstance(item, Shutdown) or item is LIFELINE_LOST:
            return None
        lifeline.channel.send_quietly(measure.status({}))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the encoder worker; returns its exit code."""
    arguments = WorkerArguments.parse(sys.argv[1:] if argv is None else argv)
    logs.secure_standard_streams()
    logs.configure("encoder")
    osdep.forbid_core_dumps()
    lifeline = Lifeline(arguments, role="encoder", accepts=ToEncoder)
    assert arguments.ring is not None
    try:
        order = _first_order(lifeline)
        if order is None:
            return 0
        # The ring has no size before the source is open, so it cannot be attached earlier.
        encoder = _Encoder(lifeline, RingReader.attach(arguments.ring))
        return encoder.run(order)
    except SealrecError as error:
        failure = Failure(code=error.code, message=error.message, hint=error.hint)
        lifeline.channel.send_quietly(failure)
        lifeline.channel.flush(1.0)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the one place that catches all
        logs.logger.exception("encoder crashed")
        return CRASHED


if __name__ == "__main__":
    code = main()
    logs.flush(0.5)
    os._exit(code)
