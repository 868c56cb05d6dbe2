"""Value iteration over a model of spot capacity: what waiting, launching and staying are expected
to cost from here to the end, and the cheapest of them.

The state is (time left, mode, age of the run or outage, slack). In slack coordinates running costs
no slack, waiting costs all of its time and a launch one changeover, so that one table serves any
amount of work. All spot candidates are one process: which of them to take is decided by expected
dollars per work-hour. Tables are made elsewhere, since each takes a good part of a second; while
there is none, the deadline rule decides.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from spotrunner.core.hazard import bucket
from spotrunner.core.policy import Choice, stay
from spotrunner.core.policy.deadline import Deadline, cheaper_place
from spotrunner.core.policy.guard import fallback, has_time_for, rescue, seconds_to_rescue
from spotrunner.core.policy.tables import (
    AGES,
    GO_ON_DEMAND,
    GO_SPOT,
    NO_TABLES,
    STAY_ON_DEMAND,
    STAY_SPOT,
    WAIT,
    Page,
    Tables,
    key_of,
)
from spotrunner.core.policy.words import named
from spotrunner.core.situation import Candidate, Situation

# A healthy spot instance is left only for work that is cheaper by so much, with the move paid.
MOVE_GAIN = 0.1


class Planner:
    name = "planner"
    needs_deadline = True

    def __init__(self, tables: Tables = NO_TABLES) -> None:
        self._tables = tables
        self._rule = Deadline()

    def choose(self, situation: Situation) -> Choice:
        needed = rescue(situation)
        if needed is not None:
            return needed
        base = situation.on if situation.is_on_demand else fallback(situation)
        if math.isinf(situation.slack_s) or base is None:
            return self._by_rule(situation, "it needs a deadline, an estimate and on-demand")
        spot = situation.on if situation.is_on_spot else next(iter(situation.spot), None)
        table = self._tables.table(key_of(situation, _price(situation, spot, base)))
        if table is None:
            return self._by_rule(situation, "its table is not there yet")
        return _Plan(
            situation=situation,
            base=base,
            spot=spot,
            page=table.page(situation.left_s or 0.0, _slack_s(situation)),
            look_s=min(table.look_s, seconds_to_rescue(situation)),
        ).choose()

    def _by_rule(self, situation: Situation, why: str) -> Choice:
        choice = self._rule.choose(situation)
        return dataclasses.replace(choice, why=f"{choice.why} (the plan was not asked: {why})")


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """One decision. `base` is on-demand, `spot` the offer that would be taken, or is."""

    situation: Situation
    base: Candidate
    spot: Candidate | None
    page: Page
    look_s: float

    def choose(self) -> Choice:
        return self._on_spot() if self.situation.is_on_spot else self._elsewhere()

    def _on_spot(self) -> Choice:
        situation, age = self.situation, self._run_age()
        stays, leaves = self.page.cost(STAY_SPOT + age), self.page.cost(GO_ON_DEMAND + AGES + age)
        if leaves < stays:
            return self._take(self.base, f"expected cost {_h(leaves)}, on spot {_h(stays)}")
        better = cheaper_place(situation, MOVE_GAIN)
        if better is not None:
            return self._take(better, "pays for the move")
        why = f"it runs on spot: expected cost {_h(stays)}, on-demand {_h(leaves)}"
        return stay(situation, why, self.look_s)

    def _elsewhere(self) -> Choice:
        situation, spot, info = self.situation, self.spot, self._info()
        on_demand_row = STAY_ON_DEMAND if situation.is_on_demand else GO_ON_DEMAND
        waits, runs = self.page.cost(WAIT + info), self.page.cost(on_demand_row + info)
        costs = f"expected cost {_h(runs)} on-demand, {_h(waits)} waiting"
        if spot is not None and has_time_for(situation, spot):
            launches = self.page.cost(GO_SPOT + self._run_age())
            costs += f", {_h(launches)} on spot"
            if launches <= min(waits, runs):
                return self._take(spot, costs)
        # Waiting is over for good where a look from now it would be too late for on-demand.
        if waits < runs and situation.slack_s >= situation.look_s:
            return Choice(take=None, why=f"it waits for spot: {costs}", look_s=self.look_s)
        return self._take(self.base, costs)

    def _take(self, take: Candidate, why: str) -> Choice:
        return Choice(take=take, why=f"{named(take)}: {why}", look_s=self.look_s)

    def _run_age(self) -> int:
        """The bucket of the run that a launch joins, or that the job is in. Where we see one pool
        up, the union of all has been up for at least as long."""
        if self.spot is None:
            return 0
        sight = self.spot.sight
        if sight.up:
            return bucket(max(sight.age_s, self.situation.together.age_s))
        return bucket(sight.run_age_s)

    def _info(self) -> int:
        """The row of what is known without a spot instance. What nobody has looked at counts as
        down for as long."""
        together = self.situation.together
        if self.spot is not None and self.spot.sight.up:
            return AGES + self._run_age()
        return bucket(together.age_s) if together.up is False else self._run_age()


def _price(situation: Situation, spot: Candidate | None, base: Candidate) -> float:
    """Of work on spot, as a share of its price on-demand."""
    every = [it for it in situation.candidates if it.is_spot]
    spot = spot or min(every, key=_usd_micros_work_hour, default=base)
    return _usd_micros_work_hour(spot) / _usd_micros_work_hour(base)


def _usd_micros_work_hour(candidate: Candidate) -> float:
    """While it works: the launches are in the plan."""
    return candidate.offer.price_usd_micros_hour / candidate.speed


def _slack_s(situation: Situation) -> float:
    """The table's: without what the launch under way still takes, and with what another would."""
    pending_s = situation.pending_s if situation.on is not None else 0.0
    return situation.slack_s + situation.changeover_s - pending_s


def _h(hours: float) -> str:
    return f"{hours:.2f} h of on-demand" if hours < 1e5 else "late"
