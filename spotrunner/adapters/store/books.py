"""What every store books of the attempts that it is given."""

from __future__ import annotations

from spotrunner.core.ledger import Entry, entries
from spotrunner.core.model import Attempt
from spotrunner.core.states import AttemptState
from spotrunner.core.windows import zone_problem

# Until somebody says whose midnights cut the days.
FIRST_TZ = "UTC"


def lines(attempt: Attempt, tz: str) -> tuple[Entry, ...]:
    """What the attempt came to, by day; nothing of one that has not ended."""
    if attempt.state is not AttemptState.ENDED:
        return ()
    # One that ended without anybody knowing when is booked the same at any time.
    end = attempt.ended_at or attempt.launched_at or attempt.intent_at
    return entries(attempt, tz, end)


def check_zone(tz: str) -> None:
    """Raises ValueError."""
    problem = zone_problem(tz)
    if problem is not None:
        raise ValueError(problem)
