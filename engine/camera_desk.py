"""Requests about an open camera that no recording hangs on: settings, stills, frames to look at.

Runs on the supervisor's thread and answers each call once. What a call means for the pipeline is
decided here; only another binning, for which the camera is opened again, is left to the supervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from engine import chronicle
from engine.camera_control import CameraAnswer, parse_changes
from engine.config import parse_still
from engine.pipeline import Pipeline
from engine.processes import WorkerExit, WorkerMessage
from engine.stills import ROLE, StillAnswer, Stills, StillSource
from ipc.camera_control import CameraChanges
from ipc.errors import ConfigError, SealrecError, WrongState, from_code
from ipc.handover import RingOffers
from ipc.messages import GetCamera, ObserveRing, SaveStill, SetCamera

__all__ = ["CameraDesk"]

Answer = Callable[[int, dict[str, Any] | SealrecError], None]
Reopen = Callable[[int, CameraChanges, int], None]


class CameraDesk:
    """Answers them.

    Args:
        post: Puts an item into the supervisor's inbox, from any thread.
        answer: Answers a call, with its result or the error.
        reopen: Opens the camera again for a call, with these changes; the last argument is the
            present binning. Answering is its own then.
        offers: Where a ring's memory is handed out.
        put: Takes what the catalog shall know.
    """

    def __init__(
        self,
        post: Callable[[object], None],
        answer: Answer,
        reopen: Reopen,
        offers: RingOffers,
        put: chronicle.Put = chronicle.nobody,
    ) -> None:
        self._answer, self._reopen, self._offers = answer, reopen, offers
        self._stills = Stills(post, self._still_answered, put)
        self._binning: dict[int, CameraChanges] = {}

    def handle(self, item: object, pipeline: Pipeline | None) -> bool:
        """Take a request or an answer that is waited for; False if it is none of these.

        Raises:
            SealrecError: the request is refused.
        """
        match item:
            case GetCamera(call):
                _open(pipeline).ask_camera(call, None)
            case SetCamera(call, fields):
                self._set(_open(pipeline), call, parse_changes(fields))
            case CameraAnswer():
                self._camera_answered(pipeline, item)
            case ObserveRing(call):
                opened = _open(pipeline)
                fields = self._offers.offer(call, opened.ring)
                self._answer(call, {**fields, "serial": opened.serial})
            case SaveStill(call, fields):
                self._save_still(_open(pipeline), call, fields)
            case WorkerMessage() | WorkerExit() if item.worker.role == ROLE:
                self._stills.take(item)
            case _:
                return False
        return True

    def release(self) -> None:
        """The ring is about to be closed."""
        self._stills.close()
        self._offers.withdraw()

    def _set(self, pipeline: Pipeline, call: int, changes: CameraChanges) -> None:
        if changes.binning is None:
            pipeline.ask_camera(call, changes)
            return
        # Whether that is another one has to be asked first.
        pipeline.ask_camera(call, None)
        self._binning[call] = changes

    def _camera_answered(self, pipeline: Pipeline | None, answer: CameraAnswer) -> None:
        changes, state = self._binning.pop(answer.call, None), answer.state
        if state is None:
            self._answer(answer.call, from_code(answer.code, answer.message, answer.hint))
        elif changes is None or changes.binning is None:
            self._answer(answer.call, msgspec.to_builtins(state))
        elif changes.binning == state.binning:
            rest = msgspec.structs.replace(changes, binning=None)
            _open(pipeline).ask_camera(answer.call, rest)
        else:
            try:
                _refuse_binning(_open(pipeline), changes.binning, state.binning_range)
            except SealrecError as error:
                self._answer(answer.call, error)
                return
            self._reopen(answer.call, changes, state.binning or 1)

    def _save_still(self, pipeline: Pipeline, call: int, fields: dict[str, Any]) -> None:
        source = pipeline.source.said
        if source is None or not pipeline.statistics.published:
            raise WrongState("There is no picture to save.", hint="Look that the camera delivers.")
        camera = source.camera | {"source": pipeline.source.config.source}
        self._stills.save(
            call, parse_still(fields), StillSource(pipeline.ring, source.rate_hz, camera)
        )

    def _still_answered(self, answer: StillAnswer) -> None:
        self._answer(answer.call, answer.error or answer.result or {})


def _open(pipeline: Pipeline | None) -> Pipeline:
    if pipeline is None:
        raise WrongState("No camera is open.", hint="Open one, or start a recording.")
    return pipeline


def _refuse_binning(pipeline: Pipeline, binning: int, limits: tuple[int, int] | None) -> None:
    """Raise what stands against another binning."""
    if pipeline.recording is not None:
        raise WrongState(
            "The binning changes the size of the frames: not while they are recorded.",
            hint="Stop the recording first; it goes on as it is.",
        )
    if not pipeline.lifecycle.keep_open or limits is None:
        raise WrongState("This source has no binning that can be changed.")
    if not limits[0] <= binning <= limits[1]:
        raise ConfigError(
            f"The camera does not join {binning} pixels.",
            hint=f"It offers {limits[0]} to {limits[1]}.",
        )
