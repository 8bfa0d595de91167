"""The encoder process: drains the ring through a video encoder into a sealed part.

    idle -- OpenPart --> open -- FinishRecording, drained --> sealing --> idle
                          |-- frames change size or format --> sealed, PartNeeded --> idle
                          `-- disk takes no more --> failed: drains the ring, names each frame

With a camera that stays open, idle is standing by (`standby`): it reads the ring on.

The main thread reads, converts and encodes; `disk.DiskThread` seals and syncs. When the lifeline is
lost the encoder drains what is in the ring, seals, and leaves by itself. It is not the ledger of
the recording: it names what it writes and loses, part by part.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.ledger import Ledger
from ipc import logs, osdep
from ipc.errors import EncoderError
from ipc.frame import FrameFlags, Loss, LossClass
from ipc.lifeline import LIFELINE_LOST, Lifeline, SelfMeasure, WorkerArguments
from ipc.messages import (
    EpochMapped,
    Event,
    FinishRecording,
    NoteEvent,
    OpenPart,
    PartNeeded,
    PausePlaced,
    RecordingBegan,
    RecordingEnded,
    SetPaused,
    Shutdown,
    StandBy,
    StandingBy,
    ToEncoder,
)
from ipc.ring import RingFrame, RingReader
from ipc.worker import leave, run
from workers.disk import DiskThread
from workers.notes import Pauses
from workers.pieces import Pieces
from workers.reports import HEARTBEAT_S, DiskReports, Heartbeat
from workers.standby import Standby
from workers.timeline import Timeline
from workers.video_part import VideoPart

__all__ = ["main"]

WAIT_S = 0.05
DISK_WAIT_S = 0.02
ORPHAN_DRAIN_S = 2.0
SEAL_WAIT_S = 60.0
MAX_ENCODE_ERRORS = 30


class _Encoder:
    """One run of the process."""

    def __init__(self, lifeline: Lifeline, ring: RingReader) -> None:
        self._lifeline = lifeline
        self._channel = lifeline.channel
        self._ring = ring
        lifeline.arrived = ring.wake
        self._disk = DiskThread(DiskReports(lifeline.channel, ring))
        self._heartbeat = Heartbeat(lifeline.channel, self._disk)
        self._timeline = Timeline()
        self._part: VideoPart | None = None
        self._standby: Standby | None = None
        self._rest: StandBy | None = None
        self._told = False
        self._held: deque[RingFrame] = deque()
        self._pieces = Pieces(ring, self._disk, lifeline.channel)
        self._pauses = Pauses()
        self._live_ns = 0
        self._resumed = False
        self._through: int | None = None
        self._previous: Ledger | None = None
        self._consumed = 0
        self._done = False
        self._errors_in_row = 0

    # --- the loop -----------------------------------------------------------------------------

    def run(self, order: OpenPart | StandBy) -> int:
        """Record, or stand by, then serve the supervisor until it says so or is gone."""
        self._take_order(order)
        while True:
            self._heartbeat.beat()
            idle = self._part is None and self._standby is None and not self._disk.failed
            item = self._lifeline.next(HEARTBEAT_S if idle else 0)
            if isinstance(item, Shutdown):
                return self._leave()
            if item is LIFELINE_LOST:
                return self._finish_alone()
            if item is not None:
                self._take_order(item)
            if self._standby is not None:
                self._stand(self._standby)
            elif self._part is not None or self._disk.failed:
                self._step()
            if self._done:
                return self._leave()

    def _take_order(self, item: object) -> None:
        match item:
            case OpenPart():
                self._open(item)
            case StandBy():
                self._stand_by(item)
            case FinishRecording():
                self._through = item.through
                # Frames that were taken before this order came have their losses with them.
                late = self._consumed > item.through
                self._pieces.losses_through = None if late else item.losses_through
                self._previous = Ledger()
                self._previous.add_snapshot(item.previous)
                self._pieces.audit_head = item.audit_head
                if item.gap is not None:
                    self._pieces.add_losses([item.gap.loss()])
            case NoteEvent():
                self._pieces.notes.take(item)
            case SetPaused(host_ns, paused):
                self._place_pause(host_ns, paused=paused)

    def _stand_by(self, order: StandBy) -> None:
        """Read the ring from now on without recording, and say so."""
        if not self._resumed:
            self._ring.skip_before(time.perf_counter_ns())
            self._ring.resume()
            self._resumed = True
        # A frame read ahead belongs to what comes next.
        standby, self._held = Standby(self._ring, order, self._held), deque()
        self._rest, self._standby, self._told = order, standby, False

    def _stand(self, standby: Standby) -> None:
        # What was recorded before may still be on its way to the disk.
        idle = self._disk.idle
        if idle and not self._told:
            self._channel.send_quietly(StandingBy())
            self._told = True
        if not standby.turn(may_let_go=idle):
            self._ring.wait(WAIT_S if self._told else DISK_WAIT_S)

    def _step(self) -> None:
        if self._through is not None and self._consumed >= self._through:
            self._finish()
            return
        if self._disk.failed and self._part is not None:
            self._part.give_up()
            self._part = None
        if not self._disk.has_room():
            if self._part is not None and self._part.load is not None:
                self._part.load.held_up()
            time.sleep(DISK_WAIT_S)  # the disk is behind: the ring waits, not this process's memory
            return
        frame = self._held.popleft() if self._held else self._ring.read()
        if frame is None:
            self._pass_overwritten()
            self._idle()
            self._ring.wait(WAIT_S)
        elif self._pauses.cover(frame.stamp.host_ns, frame.seq):
            self._pause(frame)
        elif self._part is None:
            self._lose(frame, LossClass.WRITE_ERROR)
            self._pieces.report_unwritable(self._consumed)
        elif self._part.fits(frame):
            self._encode(self._part, frame)
        else:
            self._held.appendleft(frame)
            self._change_part(frame)

    def _place_pause(self, host_ns: int, *, paused: bool) -> None:
        """Heed a pause or its end from the next frame on, and say where, before it can matter.

        A successor that placed it elsewhere would write a frame that this one has named, or name
        one that is in this one's part.
        """
        self._pauses.set(host_ns, paused=paused, since_seq=self._consumed)
        placed = PausePlaced(host_ns=host_ns, since_seq=self._consumed)
        self._channel.send_quietly(placed)
        self._channel.flush(1.0)

    def _pause(self, frame: RingFrame) -> None:
        """Name a frame of a pause; what was recorded before it becomes durable at once."""
        self._lose(frame, LossClass.PAUSED)
        part = self._part
        if part is None:
            self._pieces.report_unwritable(self._consumed)
        elif part.empty:
            self._pieces.write_table(self._consumed)
        else:
            part.close_fragment(self._consumed)

    def _pass_overwritten(self) -> None:
        """Frames that were overwritten before they could be read are consumed: they are named.

        Otherwise a last frame of that kind would be waited for without end.
        """
        if self._ring.position > self._consumed:
            self._consumed = self._ring.position
            self._ring.release(self._consumed - 1)

    def _idle(self) -> None:
        """Close a fragment that no frame joins any more; keep the file alive without frames."""
        part = self._part
        if part is None:
            self._pieces.report_unwritable(self._consumed)
        elif part.empty:
            self._pieces.write_table(self._consumed)
        else:
            part.close_idle_fragment(self._consumed)

    # --- parts --------------------------------------------------------------------------------

    def _open(self, order: OpenPart) -> None:
        osdep.lock_in_memory(order.dek)
        part = VideoPart(order, self._pieces)
        pre_roll = self._begin(order)
        self._timeline = Timeline(order.host_origin_ns, order.epoch_offsets)
        part.watch_load(self._ring.statistics().slots, pre_roll)
        self._heartbeat.show_load(part.opened_speed, overloaded=False)
        self._part = part
        self._disk.create(part.plan())

    def _begin(self, order: OpenPart) -> int:
        """Find where the recording goes on, or begins; returns how many frames are its pre-roll."""
        self._rest, self._live_ns = order.stand_by, order.live_ns
        first_seq, overwritten = None, list[Loss]()
        if order.since_ns is not None or not self._resumed:
            self._pauses = Pauses(order.pauses)
        if not self._resumed:
            first_seq, overwritten = self._resume(order.since_ns)
        standby, self._standby = self._standby, None
        if order.since_ns is None:
            self._pieces.add_losses(overwritten)
            return 0
        self._through = self._previous = None
        standby = standby or Standby(self._ring, StandBy(hold_s=0, hold_frames=0))
        begun = standby.begin(order.since_ns)
        self._pieces.begin_recording([*overwritten, *begun.losses])
        self._held, self._consumed = begun.frames, begun.first_seq
        if first_seq is None:
            first_seq = begun.first_seq
        began = RecordingBegan(first_seq=first_seq, lost_before=begun.lost_before)
        self._channel.send_quietly(began)
        return sum(frame.stamp.host_ns < order.live_ns for frame in begun.frames)

    def _resume(self, since_ns: int | None) -> tuple[int | None, list[Loss]]:
        """Take a dead encoder's place.

        Returns:
            Where a recording begins that had not begun, and what of it was overwritten meanwhile.
        """
        first_seq = None if since_ns is None else self._ring.skip_before(since_ns)
        overwritten = self._ring.resume()
        self._consumed = self._ring.statistics().released
        self._resumed = True
        return first_seq, overwritten

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
        """The ring is drained up to where the recording ends: say where, and seal."""
        losses_through, lost = self._pieces.end_losses(self._consumed)
        self._channel.send_quietly(
            RecordingEnded(through=self._consumed, lost=lost, losses_through=losses_through)
        )
        if self._part is not None:
            self._seal(last=True)
        else:
            self._pieces.report_unwritable(self._consumed)
            self._done = self._rest is None  # nothing to seal: leaving is the answer
        self._through = None
        if self._rest is not None:
            self._stand_by(self._rest)

    def _seal(self, *, last: bool) -> None:
        part = self._part
        assert part is not None
        part.finish(self._consumed)
        self._heartbeat.beat(now_or_never=True)
        part.close()
        self._part = None
        self._pieces.seal(
            last=last,
            parts=part.index + 1,
            previous=self._previous,
            committed=self._consumed,
        )

    def _leave(self) -> int:
        if self._part is not None:
            self._part.close()
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

    def _encode(self, part: VideoPart, frame: RingFrame) -> None:
        known = self._timeline.offset_ns(frame.stamp.epoch) is not None
        pts = self._timeline.pts(frame.stamp)
        if not known:
            self._announce_epoch(frame.stamp.epoch)
        if part.wants_key:
            self._adapt(part, frame)
        stamp = frame.stamp
        if stamp.host_ns < self._live_ns:
            stamp = replace(stamp, flags=stamp.flags | FrameFlags.PRE_ROLL)
        try:
            part.encode(frame, stamp, pts, lambda: self._converted(part, frame))
        except EncoderError as error:
            self._encode_failed(frame, error)
            return
        self._consumed = frame.seq + 1
        self._errors_in_row = 0
        self._heartbeat.count(convert_s=part.convert_s, encode_s=part.encode_s)
        part.write_closed(self._consumed)

    def _converted(self, part: VideoPart, frame: RingFrame) -> None:
        """Give a frame's slot back, and begin with the next picture if it is there already."""
        self._ring.release(frame.seq)
        if not self._held and (following := self._ring.read()) is not None:
            self._held.append(following)
        if self._held:
            part.look_ahead(self._held[0])

    def _adapt(self, part: VideoPart, frame: RingFrame) -> None:
        """Take the speed that the load wants, and say what changed."""
        for one in part.adapt(self._ring.published - frame.seq - 1):
            self._tell(one.kind, one.text, **one.details)
        if part.load is not None:
            self._heartbeat.show_load(part.load.speed, overloaded=part.load.overloaded)

    def _tell(self, kind: str, text: str, **details: Any) -> None:
        """Tell of an event at once, and write it into the file with the next fragment."""
        now_ns = time.perf_counter_ns()
        self._pieces.notes.add_event(now_ns, kind, text)
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
        self._pieces.lose(frame.stamp, loss_class)
        self._ring.release(frame.seq)
        self._consumed = frame.seq + 1


def _first_order(lifeline: Lifeline) -> OpenPart | StandBy | None:
    """Wait, with everything imported, for what is to be done; None if there is nothing."""
    measure = SelfMeasure()
    while True:
        item = lifeline.next(HEARTBEAT_S)
        if isinstance(item, OpenPart | StandBy):
            return item
        if isinstance(item, Shutdown) or item is LIFELINE_LOST:
            return None
        lifeline.channel.send_quietly(measure.status({}))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the encoder worker; returns its exit code."""
    osdep.keep_heap_whole()
    return run("encoder", ToEncoder, _work, argv)


def _work(lifeline: Lifeline, arguments: WorkerArguments) -> int:
    assert arguments.ring is not None
    order = _first_order(lifeline)
    if order is None:
        return 0
    # The ring has no size before the source is open, so it cannot be attached earlier.
    return _Encoder(lifeline, RingReader.attach(arguments.ring)).run(order)


if __name__ == "__main__":
    leave(main())
