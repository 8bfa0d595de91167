"""One part while it is recorded: frames in, closed fragments out.

Owns the part's conversion, its video encoder with the speed that the load allows, and the fragment
that grows. It reads no ring and knows no disk: the encoder's loop does, and `pieces` takes what is
closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from engine.container.tables import SessionTable
from engine.ledger import Ledger
from ipc import logs
from ipc.errors import EncoderError
from ipc.frame import FrameStamp, LossClass, PixelFormat
from ipc.messages import OpenPart
from ipc.ring import RingFrame
from workers.codecs.ahead import AheadConverter
from workers.codecs.convert import Converter
from workers.codecs.encoders import VideoEncoder, open_encoder
from workers.codecs.spec import EncoderSpec
from workers.disk import PartPlan
from workers.fragments import FRAGMENT_S, IDLE_CLOSE_S, FragmentAssembler
from workers.load import LoadControl
from workers.pieces import Pieces, clock_pair
from workers.timeline import ticks

__all__ = ["Happened", "VideoPart"]

COLOUR = {"matrix": "smpte170m", "range": "limited", "conversion": "BT.601"}


@dataclass(frozen=True, slots=True)
class Happened:
    """Something to tell of, and to write into the file: kind, text and details of an event."""

    kind: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)


class VideoPart:
    """An open encoder and the fragment that is growing.

    Args:
        order: Size, format, codec and keys of the part.
        pieces: Takes what is closed.

    Attributes:
        index: Of the part.
        encode_s: Duration of the last frame's encoding.
        load: What watches the encoder's load; None where the source waits for room in the ring.

    Raises:
        ConfigError, EncoderError: no encoder opens for it.
    """

    def __init__(self, order: OpenPart, pieces: Pieces) -> None:
        frame = order.frame
        width_px, height_px = int(frame["width_px"]), int(frame["height_px"])
        size = {"width_px": width_px, "height_px": height_px, "rate_hz": float(frame["rate_hz"])}
        spec = msgspec.convert({**order.video, **size}, EncoderSpec)
        self.index = order.index
        self.encode_s = 0.0
        self.load: LoadControl | None = None
        self._order = order
        self._pieces = pieces
        self._rate_hz = spec.rate_hz
        self._pixel_format = PixelFormat(frame["pixel_format"])
        self._shape = self._pixel_format.shape(width_px, height_px)
        self._encoder = open_encoder(spec)
        self._converter = AheadConverter(Converter(width_px, height_px, self._pixel_format))
        self._assembler = FragmentAssembler(max(1, round(FRAGMENT_S * spec.rate_hz)))
        self._fragment_number = 1
        self._last_frame_at = time.perf_counter()

    def plan(self) -> PartPlan:
        """What the disk thread has to know to create the part's file."""
        order, encoder = self._order, self._encoder
        previous = Ledger()
        previous.add_snapshot(order.previous)
        return PartPlan(
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

    # --- load ---------------------------------------------------------------------------------

    @property
    def opened_speed(self) -> str:
        """The speed preset that was asked for; empty if the encoder has none."""
        return self._encoder.settings.get("preset", "")

    def watch_load(self, slots: int, pre_roll: int) -> None:
        """Watch the load from now on, if the recording may be lightened.

        Args:
            slots: Frames the ring holds.
            pre_roll: Frames that waited before the part began.
        """
        if self._order.may_lighten:
            self.load = LoadControl(
                slots=slots,
                rate_hz=self._rate_hz,
                speeds=self._encoder.speeds,
                speed=self.opened_speed,
                behind=pre_roll,
            )

    def adapt(self, waiting: int) -> list[Happened]:
        """At a fragment's start: take the speed that the load wants.

        Args:
            waiting: Frames in the ring behind the one that begins the fragment.
        """
        load = self.load
        if load is None:
            return []
        speed, overloaded = load.speed, load.overloaded
        wanted = load.observe(waiting, time.perf_counter())
        why = f"{waiting} frames wait in the ring"
        happened = []
        details = {"waiting": waiting}
        if load.overloaded and not overloaded:
            happened.append(Happened(kind="overload", text=why, details=details))
        elif overloaded and not load.overloaded:
            happened.append(Happened(kind="overload_over", text=why, details=details))
        if wanted is not None:
            try:
                self._assembler.take(self._encoder.change_speed(wanted))
                text = f"{speed} to {wanted}: {why}"
                happened.append(Happened(kind="speed_step", text=text, details={"speed": wanted}))
            except EncoderError as error:
                load.refused(speed)
                logs.logger.warning("speed not changed", wanted=wanted, error=str(error))
        return happened

    # --- frames -------------------------------------------------------------------------------

    def fits(self, frame: RingFrame) -> bool:
        """Whether a frame has this part's size and format."""
        return frame.pixel_format is self._pixel_format and frame.pixels.shape == self._shape

    @property
    def convert_s(self) -> float:
        """Duration of the last frame's conversion."""
        return self._converter.convert_s

    @property
    def wants_key(self) -> bool:
        """Whether the next frame begins a fragment."""
        return self._assembler.wants_key()

    @property
    def empty(self) -> bool:
        """No frame is waiting for its fragment to close."""
        return self._assembler.empty

    def look_ahead(self, frame: RingFrame) -> None:
        """Begin to convert the frame that will be encoded next, if it fits."""
        if self.fits(frame):
            self._converter.begin(frame.pixels)

    def encode(
        self, frame: RingFrame, stamp: FrameStamp, pts: int, converted: Callable[[], None]
    ) -> None:
        """Encode a frame, and close its fragment if it is complete.

        Args:
            frame: It fits.
            stamp: With the flags it shall have in the file.
            pts: 90 kHz.
            converted: Called once its pixels are read no more.

        Raises:
            EncoderError: the frame is not in the part.
        """
        key = self._assembler.wants_key()
        self._assembler.add(frame.seq, stamp, pts, time.perf_counter_ns())
        try:
            picture = self._converter.convert(frame.pixels)
            converted()
            began = time.perf_counter()
            samples = self._encoder.encode(picture, pts, key=key)
        except EncoderError:
            self._assembler.drop_last()
            raise
        self._assembler.take(samples)
        self._last_frame_at = time.perf_counter()
        self.encode_s = self._last_frame_at - began
        if self._assembler.complete(pts, time.perf_counter_ns()):
            self._assembler.close()

    # --- fragments ----------------------------------------------------------------------------

    def close_fragment(self, consumed: int) -> None:
        """Let the next frame begin a fragment, and write what is closed."""
        self._assembler.close()
        self.write_closed(consumed)

    def close_idle_fragment(self, consumed: int) -> None:
        """The same, if no frame came for a while."""
        if time.perf_counter() - self._last_frame_at > IDLE_CLOSE_S:
            self.close_fragment(consumed)

    def write_closed(self, consumed: int) -> None:
        """Write the fragments that are closed.

        Args:
            consumed: Ring cursor: all frames below are in the part or named.
        """
        period = ticks(int(1e9 / self._rate_hz))
        while (assembly := self._assembler.next_closed()) is not None:
            last = assembly.rows[-1]
            # What the encoder holds back, or the next fragment carries, is not covered by this one.
            covered = last.seq + 1 if not self._assembler.empty else consumed
            self._pieces.write(
                self._encoder,
                assembly,
                number=self._fragment_number,
                end_pts=last.pts + period,
                committed=covered,
            )
            self._fragment_number += 1

    # --- ends ---------------------------------------------------------------------------------

    def finish(self, consumed: int) -> None:
        """Write all there is; what the encoder does not give out is named."""
        try:
            self._assembler.take(self._encoder.flush())
        except EncoderError as error:
            logs.logger.warning("encoder did not flush", error=str(error))
        for stamp in self._assembler.give_up_waiting():
            self._pieces.lose(stamp, LossClass.ENCODE_ERROR)
        self.close_fragment(consumed)

    def give_up(self) -> None:
        """The disk takes no more: name the frames that wait for their fragment, and close."""
        for stamp in self._assembler.abandon():
            self._pieces.lose(stamp, LossClass.WRITE_ERROR)
        self.close()

    def close(self) -> None:
        """Let go of encoder and converter."""
        self._converter.close()
        self._encoder.close()


def _session_table(order: OpenPart, encoder: VideoEncoder) -> SessionTable:
    session: dict[str, Any] = order.session
    return SessionTable(
        session={str(k): str(v) for k, v in session.get("session", {}).items()},
        camera={str(k): str(v) for k, v in session.get("camera", {}).items()},
        codec={**encoder.settings, **{k: str(v) for k, v in order.frame.items()}},
        colour=COLOUR,
        software=str(session.get("software", "")),
        clock=clock_pair(),
    )
