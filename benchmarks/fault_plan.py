"""What one round of the fault benchmark does: a pure function of its seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["KINDS", "MANNERS", "PHASES", "Plan", "plan", "seeds"]

ROLES = ("capture", "encoder", "supervisor", "controller")
ALL = "all"
PAIRS = tuple("+".join(pair) for pair in itertools.combinations(ROLES, 2))
KINDS = (*ROLES, *PAIRS, ALL)
KIND_WEIGHTS = (*[3] * len(ROLES), *[1] * len(PAIRS), 3)

MANNERS = ("kill", "stop+kill", "segfault")
PHASES = ("start", "recording", "stop")
PHASE_WEIGHTS = (1, 2, 1)

# Longer than each phase takes on a free machine, so that its end is hit too.
MOMENT_S = {"start": 2.5, "recording": 3.0, "stop": 0.35}
STAGGER_S = 1.0
HOLD_S = (0.05, 1.5)


@dataclass(frozen=True, slots=True)
class Plan:
    """One round.

    Attributes:
        seed: Makes this plan again.
        kind: One of `KINDS`: who is hit.
        manner: One of `MANNERS`: with what.
        phase: ``start`` (from the moment all victims exist), ``recording`` or ``stop`` (from the
            order to stop).
        moment_s: When in that phase.
        stagger_s: How much later the second of a pair is hit.
        hold_s: How long a process is stopped before it is killed.
        before_s: Recorded before a stop is ordered in phase ``stop``.
        after_s: Recorded after what was hit is back.
    """

    seed: int
    kind: str
    manner: str
    phase: str
    moment_s: float
    stagger_s: float
    hold_s: float
    before_s: float
    after_s: float

    @property
    def victims(self) -> tuple[str, ...]:
        """Roles, in the order in which they are hit."""
        return ROLES if self.kind == ALL else tuple(self.kind.split("+"))

    def hits(self, *roles: str) -> bool:
        """Whether all of these roles are hit."""
        return set(roles) <= set(self.victims)

    def __str__(self) -> str:
        return f"{self.kind}: {self.manner} in {self.phase} at {self.moment_s:.2f} s"


def plan(seed: int) -> Plan:
    """The round of a seed."""
    draw = random.Random(seed)
    [kind] = draw.choices(KINDS, KIND_WEIGHTS)
    [phase] = draw.choices(PHASES, PHASE_WEIGHTS)
    manner = draw.choice(MANNERS)
    # A pair is hit at once, or the second while the first one's successor is starting.
    staggered = "+" in kind and manner != "stop+kill" and draw.random() < 0.5
    return Plan(
        seed=seed,
        kind=kind,
        manner=manner,
        phase=phase,
        moment_s=draw.uniform(0.0, MOMENT_S[phase]),
        stagger_s=draw.uniform(0.0, STAGGER_S) if staggered else 0.0,
        hold_s=draw.uniform(*HOLD_S) if manner == "stop+kill" else 0.0,
        before_s=draw.uniform(0.3, 2.0),
        after_s=draw.uniform(0.5, 1.5),
    )


def seeds(first: int, rounds: int, kinds: Collection[str] = KINDS) -> list[int]:
    """Seeds from ``first`` on whose round is of one of these kinds.

    Raises:
        ValueError: a kind that does not exist.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        raise ValueError(f"unknown kinds {', '.join(unknown)}; there are {', '.join(KINDS)}")
    wanted = (seed for seed in itertools.count(first) if plan(seed).kind in kinds)
    return list(itertools.islice(wanted, rounds))
