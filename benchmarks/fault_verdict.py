"""The judgement of one fault round: the promises of the README's table, against what is there.

Pure: the same course and the same evidence give the same outcome.

    hit                         may cost
    capture (and others)        one gap, named with its times; nothing else
    encoder, with supervisor    1 s and the backlog that the last status showed
    everything else             no frame, as long as what is not durable fits the ring
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.fault_evidence import Evidence
from benchmarks.fault_plan import Plan
from benchmarks.fault_round import FPS, Course

__all__ = ["Outcome", "judge"]

FRAGMENT_S = 0.8
CRASH_S = 1.0
# The synthetic camera of a busy machine may be this late when a stop or the lifeline ends it; a
# frame that it never made is not lost. Later still, if the supervisor had no turn either: a status
# is due every 0.2 s.
LATE_S = 0.35
STATUS_S = 0.2
PERIOD_S = 1 / FPS
GAP = "camera_gap"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One round in figures.

    Attributes:
        hit: Whether all victims were alive when their signal came.
        loss_s: What was lost, in recorded time.
        loss_frames: The same in frames.
        charged_s: What of it the bound is for: all but the gap of a dead capture, and but frames
            that no ring could keep.
        bound_s: What the promise allows, in the same time; None: as long as it takes.
        late_frames: Frames that the synthetic camera of a busy machine missed; not lost by a fault.
        excused_frames: Frames that were lapped in a ring too small for what was not durable.
        unreadable: Parts that do not open as far as they were durable.
        unbalanced: What is wrong with the account.
        orphans: Processes that did not leave.
        other: Any other broken promise.
    """

    hit: bool
    loss_s: float
    loss_frames: int
    charged_s: float
    bound_s: float | None
    late_frames: int
    excused_frames: int
    unreadable: tuple[str, ...] = ()
    unbalanced: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    over_bound: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that fails the round."""
        orphans = tuple(f"orphan: {text}" for text in self.orphans)
        return self.unreadable + self.unbalanced + orphans + self.over_bound + self.other


def judge(plan: Plan, course: Course, evidence: Evidence) -> Outcome:
    """Judge one round."""
    lost = dict(evidence.report.lost) if evidence.report else {}
    late = lost.pop(GAP, 0)
    tail_s, gap_s = _tail_s(plan, course, evidence), _gap_s(evidence)
    named = sum(lost.values())
    unrecoverable = plan.hits("encoder", "supervisor")
    if not unrecoverable and tail_s <= LATE_S + _standstill_s(plan, course):
        late, tail_s = late + round(tail_s * FPS), 0.0
    loss_s = tail_s + gap_s + named * PERIOD_S
    bound_s = _bound_s(plan, course)
    excess = _excess_frames(course) if plan.hits("encoder") else 0
    over: list[str] = []
    charged_s = tail_s + max(0, named - excess) * PERIOD_S
    if charged_s > bound_s + 1e-9:
        over.append(f"lost {charged_s:.2f} s ({lost or 'the end'}), {bound_s:.2f} s are allowed")
    if len(evidence.gaps_ns) > plan.hits("capture"):
        over.append(f"{len(evidence.gaps_ns)} gaps of unknown ids")
    return Outcome(
        hit=set(plan.victims) == set(course.hit_at),
        loss_s=round(loss_s, 3),
        loss_frames=round(loss_s * FPS),
        charged_s=round(charged_s, 3),
        bound_s=None if plan.hits("capture") and not unrecoverable else round(bound_s, 3),
        late_frames=late,
        excused_frames=min(named, excess),
        unreadable=_unreadable(course, evidence),
        unbalanced=(*_unbalanced(course, evidence), *_vanished(plan, course, evidence)),
        orphans=tuple(course.left_over),
        over_bound=tuple(over),
        other=(*course.trouble, *_broken(plan, course), *_left(plan, evidence)),
    )


def _expected_until(plan: Plan, course: Course) -> int | None:
    """Until when frames should be in the file; None if it never began."""
    if course.started_at is None:
        return None
    ends = [course.stopped_at] if course.stopped_at is not None else []
    hit, killed = course.hit_at, course.killed_at
    gone = [killed[role] for role in ("supervisor", "controller") if role in killed]
    if gone:
        ends.append(min(gone))
        if "capture" in hit:  # and nobody, or no recording, to start it again
            ends.append(hit["capture"])
    if plan.phase == "stop" and "capture" in hit:
        ends.append(hit["capture"])
    if "supervisor" in hit and "encoder" in hit:  # what comes later has nobody to write it
        ends.append(max(hit["supervisor"], hit["encoder"]))
    return min(ends, default=None)


def _tail_s(plan: Plan, course: Course, evidence: Evidence) -> float:
    """What is missing at the end."""
    until = _expected_until(plan, course)
    if until is None or course.started_at is None:
        return 0.0
    last = max(evidence.last_host_ns or course.started_at, *(b for _, b in evidence.gaps_ns), 0)
    return max(0.0, (until - last) / 1e9 - PERIOD_S)


def _standstill_s(plan: Plan, course: Course) -> float:
    """For how long nothing had been heard of the engine when frames should have ended."""
    until = _expected_until(plan, course)
    heard = [at for at, _ in course.statuses if until is not None and at <= until]
    return max(0.0, (until - heard[-1]) / 1e9 - STATUS_S) if until and heard else 0.0


def _gap_s(evidence: Evidence) -> float:
    """What the gaps of unknown ids lack: without a gap two frames are one period apart."""
    return sum(max(0.0, (last - first) / 1e9 - PERIOD_S) for first, last in evidence.gaps_ns)


def _bound_s(plan: Plan, course: Course) -> float:
    if not plan.hits("encoder", "supervisor"):
        return 0.0
    until = _expected_until(plan, course)
    status = course.status_before(until) if until is not None else None
    if status is None:
        return CRASH_S
    queue = status["write_queue"]["fragments"] * FRAGMENT_S
    return CRASH_S + status["ring"]["fill"] / FPS + queue


def _excess_frames(course: Course) -> int:
    """Frames that no ring of this size could have kept for the successor of a dead encoder."""
    rings = [status["ring"] for _, status in course.statuses]
    full = [ring for ring in rings if ring["slots"] and ring["not_durable"] >= ring["slots"]]
    return 10**9 if full else 0


def _unreadable(course: Course, evidence: Evidence) -> tuple[str, ...]:
    found = list(evidence.unreadable)
    report = evidence.report
    if report is not None and report.state not in ("sealed", "recovered"):
        found.append(f"it is {report.state}: {'; '.join(report.problems)}")
    if report is not None and report.barcodes is not None:
        barcodes = report.barcodes
        if barcodes.right != barcodes.checked:
            found.append(f"{barcodes.checked - barcodes.right} pictures are not those of the table")
    statuses = course.statuses
    said = statuses[-1][1]["frames"]["written"] if statuses else 0
    if evidence.frames < said:
        found.append(f"{said} frames were called durable, {evidence.frames} are there")
    return tuple(found)


def _unbalanced(course: Course, evidence: Evidence) -> tuple[str, ...]:
    found: list[str] = []
    report, result = evidence.report, course.result
    if report is not None and (not report.balanced or not report.complete or report.problems):
        found.append("; ".join(report.problems) or "it does not balance")
    if result is None:
        return tuple(found)
    if not result["balanced"]:
        found.append(f"the engine's result does not balance: {result}")
    if report is not None:
        found += _disagreement(result, evidence)
    return tuple(found)


def _vanished(plan: Plan, course: Course, evidence: Evidence) -> list[str]:
    """Frames that a status showed as offered, and that are neither in the file nor named.

    Only where the encoder or its successor lives to write them.
    """
    if plan.hits("encoder", "supervisor"):
        return []
    shown = max((status["frames"]["offered"] for _, status in course.statuses), default=0)
    named = sum(evidence.report.lost.values()) if evidence.report else 0
    missing = shown - evidence.frames - named
    return [f"{missing} of {shown} frames that were offered are in no class"] * (missing > 0)


def _disagreement(result: dict[str, Any], evidence: Evidence) -> list[str]:
    report = evidence.report
    assert report is not None
    pairs = {
        "frames": (result["frames_written"], report.frames),
        "lost": (result["lost"], report.lost),
        "gaps": (result["gaps"], len(evidence.gaps_ns)),
    }
    return [
        f"{name}: the engine says {a}, the file {b}" for name, (a, b) in pairs.items() if a != b
    ]


def _broken(plan: Plan, course: Course) -> list[str]:
    """What the engine owes its controller, if both lived."""
    if plan.hits("supervisor") or plan.hits("controller"):
        return []
    refused = [x for x in course.lines if x["type"] == "reply" and not x["ok"]]
    found = [f"refused: {line['error']}" for line in refused]
    if course.result is None:
        found.append("the engine gave no balance sheet")
    elif "problem" in course.result:
        found.append(f"it ended early: {course.result['problem']}")
    return found


def _left(plan: Plan, evidence: Evidence) -> list[str]:
    found = [f"{name} was left" for name in evidence.leftovers]
    if not plan.hits("encoder", "supervisor"):  # the one that lives closes what there is
        found += [f"{name} was left open" for name in evidence.not_closed]
    return found
