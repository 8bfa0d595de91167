"""Exports a recording to an ordinary MP4 that is not encrypted, with its marks beside it.

No plaintext gets a name before it is whole (``outputs``). How pictures are copied is ``copying``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av

from engine.container.recipients import Secret
from engine.reading.copying import ExportReport, opened_copy
from engine.reading.marks import as_json, as_webvtt
from engine.reading.outputs import check_target, new_output, write_beside, writing
from engine.reading.tracks import Clip, Progress

__all__ = ["Clip", "ExportReport", "export"]


def export(  # noqa: PLR0913 - one keyword per option
    path: Path,
    out: Path,
    secret: Secret,
    *,
    part: int | None = None,
    force: bool = False,
    salvage: bool = False,
    clip: Clip | None = None,
    marks: bool = True,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a recording, or one part of it, as an ordinary MP4 that is not encrypted.

    Args:
        path: Any part.
        out: The MP4, readable by its owner alone.
        secret: What opens the recording.
        part: Only this part. Its times still count from the recording's first frame.
        force: Replace ``out`` if it exists. A sealed recording is never replaced.
        salvage: Take what is intact of damaged parts, and leave out those that do not open.
        clip: Only this stretch, which then begins at zero.
        marks: Write the recording's marks as chapters, and beside ``out`` as ``.vtt`` and
            ``.json``, if it has any.
        progress: Told the share that is done.

    Raises:
        ConfigError: no such recording or part, ``out`` cannot be used, nothing to export (in that
            stretch), or parts with different settings, which no single track can hold.
        WrongKey, Corrupt: of any part.
        DiskError: ``out`` cannot be written. Whatever fails, nothing is left behind.
    """
    check_target(out, force=force)
    with opened_copy(path, secret, part=part, salvage=salvage, clip=clip) as copy:
        found = copy.marks() if marks else []
        texts = {".vtt": as_webvtt(found), ".json": as_json(found)} if found else {}
        for suffix in texts:
            check_target(out.with_suffix(suffix), force=force)
        with new_output(out, force=force) as output, writing(out, av.FFmpegError):
            report = copy.write(output.path, marks=found, progress=progress)
            output.publish()
        beside = [write_beside(out.with_suffix(s), text, force=force) for s, text in texts.items()]
    return replace(report, path=out, beside=tuple(beside))
