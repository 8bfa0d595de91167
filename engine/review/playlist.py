"""An HLS playlist of an open recording, from the fragment tables: no byte of video is looked at.

One address per fragment, an init segment per part, times absolute in the media itself. The page
plays through Media Source instead, which knows gaps and errors; this is for browsers without it
and for players that are given the page's cookie. Source: RFC 8216.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from engine.container.boxes import TIMESCALE_HZ
from engine.review.fragments import PlayedPart

__all__ = ["hls_playlist"]

_LONGEST_S: Final = 1.0
"""A fragment lasts 0.8 s; behind a longer step in the index there is a gap."""


def hls_playlist(parts: Sequence[PlayedPart], end_pts: int) -> str:
    """The playlist.

    Args:
        parts: In order.
        end_pts: Of the recording, 90 kHz.
    """
    starts = [pts for part in parts for _, pts in part.fragments]
    lengths = [(b - a) / TIMESCALE_HZ for a, b in pairwise([*starts, max(end_pts, *starts[-1:])])]
    longest = max(lengths, default=1.0)
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{max(1, math.ceil(longest))}",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]
    at = 0
    for part in parts:
        if at:
            lines.append("#EXT-X-DISCONTINUITY")
        lines.append(f'#EXT-X-MAP:URI="init/{part.index}"')
        for number, _ in part.fragments:
            lines += [f"#EXTINF:{lengths[at]:.6f},", f"media/{part.index}/{number}"]
            at += 1
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])
