"""Calls about a camera's settings on their way to the capture process and back.

What the settings are stands in ipc/camera_control.py, how a camera takes them in workers/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ipc.camera_control import CameraChanges, CameraState
from ipc.errors import CameraError, ConfigError
from ipc.messages import AskCamera, CameraRefused, CameraTold

__all__ = ["CameraAnswer", "CameraCalls", "parse_changes"]


@dataclass(frozen=True, slots=True)
class CameraAnswer:
    """The outcome of one call: a state, or else why there is none."""

    call: int
    state: CameraState | None
    code: str = ""
    message: str = ""
    hint: str = ""


def parse_changes(fields: dict[str, Any]) -> CameraChanges:
    """Check what a controller wants changed.

    Raises:
        ConfigError: an unknown name, or a value that no camera takes.
    """
    try:
        return msgspec.convert(fields, CameraChanges)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The camera's settings cannot be changed so: {error}.") from error


class CameraCalls:
    """The calls that wait for one capture process.

    Args:
        ask: Sends to it.
        answer: Gets each outcome.
    """

    def __init__(
        self, ask: Callable[[AskCamera], None], answer: Callable[[CameraAnswer], None]
    ) -> None:
        self._ask, self._answer = ask, answer
        self._waiting: dict[int, CameraChanges | None] = {}

    def ask(self, call: int, changes: CameraChanges | None) -> None:
        """Pass a call on; None only asks."""
        self._waiting[call] = changes
        self._ask(AskCamera(call=call, changes=changes))

    def told(self, message: CameraTold) -> CameraChanges | None:
        """A camera has answered; what was changed, None if nothing was to be."""
        changes = self._waiting.pop(message.call, None)
        self._answer(CameraAnswer(message.call, message.state))
        return changes

    def refused(self, message: CameraRefused) -> None:
        """A camera has refused."""
        self._waiting.pop(message.call, None)
        self._answer(CameraAnswer(message.call, None, message.code, message.message, message.hint))

    def capture_is_gone(self) -> None:
        """Nobody will answer what waits."""
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            self._answer(
                CameraAnswer(call, None, CameraError.code, "The camera went away meanwhile.")
            )
