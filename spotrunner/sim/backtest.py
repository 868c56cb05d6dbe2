"""Many runs of one job over a history: what it would have cost, and whether it was in time.

Runs begin at points spread evenly over the history, each with a seed of its own, and every policy
meets the same weather in the same run. They are spread over processes; whatever their number, the
results are the same to the bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import multiprocessing
import random
import signal
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.market import move_usd_micros
from spotrunner.core.model import JobSpec, Limits
from spotrunner.core.money import billed, usd
from spotrunner.core.policy.named import policies
from spotrunner.core.windows import NEVER, Window, after_open_s, closes_at, opens_at
from spotrunner.daemon.tables import TablesOnDemand
from spotrunner.sim.bound import bound
from spotrunner.sim.history import BadHistory, Gap, History
from spotrunner.sim.lifetimes import Paces
from spotrunner.sim.replay import Replay, Run, rates
from spotrunner.sim.scene import scene

MOST_RUNS = 10_000
PROCESSES = 2
# The planner's, which all runs of a process share.
_TABLES = TablesOnDemand()
# Fewer runs are over before a process has begun.
_WORTH_PROCESSES = 5
# How much history a run needs beyond what it takes if nothing goes wrong.
_ROOM = 1.5
_ROOM_S = 6 * 3600.0
# Capacity that is drawn, and the last prices, go on beyond the history's end as long as it takes.
_MOST_LENGTHS = 10
# No run takes longer, whatever its window: ten years of nights.
_MOST_OPENINGS = 3653
_MOST_S = _MOST_OPENINGS * 86_400.0

Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is tested. `deadline_s` is from each run's start on, and takes the place of the spec's
    own; `names` are of the policies, and `hazards` what they weigh capacity with: of the weather
    itself they say nothing."""

    spec: JobSpec
    history: History
    names: tuple[str, ...]
    deadline_s: float | None = None
    runs: int = 100
    seed: int = 1
    paces: Paces = dataclasses.field(default_factory=Paces)
    limits: Limits = dataclasses.field(default_factory=Limits)
    hazards: Hazards = MEASURED

    @property
    def planning(self) -> Limits:
        """What policies plan with is the changeover that the instances are modelled with."""
        return dataclasses.replace(self.limits, changeover_s=round(self.paces.changeover_s))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Run `index`: each policy's, and what perfect knowledge would have paid for it, micro-dollars
    (sim/bound): `bound` below every policy, `foresight` without living on free hours. None where
    the deadline could not be met."""

    index: int
    start: dt.datetime
    runs: tuple[Run, ...]  # one a policy, in the setting's order
    bound_usd_micros: int | None
    foresight_usd_micros: int | None


@dataclass(frozen=True, kw_only=True)
class BackTest:
    """`outcomes` may be fewer than were asked for, where somebody stopped it."""

    setting: Setting
    outcomes: tuple[Outcome, ...]

    @property
    def is_whole(self) -> bool:
        return len(self.outcomes) == self.setting.runs

    def of(self, name: str) -> tuple[Run, ...]:
        index = self.setting.names.index(name)
        return tuple(outcome.runs[index] for outcome in self.outcomes)


def run(
    setting: Setting, *, processes: int = PROCESSES, progress: Progress = lambda done: None
) -> BackTest:
    """`progress` hears how many runs are done. KeyboardInterrupt ends it with what there is."""
    starts = spread(setting)
    found: list[Outcome] = []
    try:
        for outcome in _outcomes(setting, starts, processes):
            found.append(outcome)
            progress(len(found))
    except KeyboardInterrupt:
        pass
    found.sort(key=lambda outcome: outcome.index)
    return BackTest(setting=setting, outcomes=tuple(found))


def one(setting: Setting, index: int, start: dt.datetime) -> Outcome:
    """All policies under the same weather."""
    spec = setting.spec
    if setting.deadline_s is not None:
        spec = dataclasses.replace(
            spec, deadline_at=start + dt.timedelta(seconds=setting.deadline_s)
        )
    weather = scene(setting.history, start, _until(setting, start), f"{setting.seed}/{index}")
    known = policies(_TABLES)
    runs = tuple(
        Replay(
            spec,
            known[name],
            weather,
            paces=setting.paces,
            limits=setting.planning,
            hazards=setting.hazards,
        ).run()
        for name in setting.names
    )
    # Without a deadline there is no end to waiting: what counts is the time that was taken.
    end = spec.deadline_at or max(each.finished_at or weather.until for each in runs)
    return Outcome(
        index=index,
        start=start,
        runs=runs,
        bound_usd_micros=bound(spec, weather, setting.paces, end),
        foresight_usd_micros=bound(spec, weather, setting.paces, end, free_hours=False),
    )


# -- when runs begin ---------------------------------------------------------------------------


def spread(setting: Setting) -> list[dt.datetime]:
    """The starts, evenly over where a run fits and no pool has a gap. Raises BadHistory."""
    history = setting.history
    least_s, room_s = _least_s(setting), _room_s(setting)
    length_s = (history.end - history.start).total_seconds()
    if length_s < least_s:
        raise BadHistory(
            f"{history.source} has {_hours(length_s)} of history, and the job takes"
            f" {_hours(least_s)} at least: give it more history, or less work"
        )
    last = history.start + dt.timedelta(seconds=max(0.0, length_s - room_s))
    open_ = _without(history.start, last, history.gaps)
    total_s = sum((end - begin).total_seconds() for begin, end in open_)
    if not open_:
        raise BadHistory(
            f"{history.source} has gaps wherever a run could start: leave pools with gaps out of"
            " the job's types and regions, or give it other prices"
        )
    count = max(1, setting.runs - 1)
    return [_point(open_, total_s * index / count) for index in range(setting.runs)]


def too_short(setting: Setting) -> str | None:
    """A warning where all runs begin at one time, since only one fits."""
    history = setting.history
    length_s = (history.end - history.start).total_seconds()
    if length_s > _room_s(setting) or setting.runs == 1:
        return None
    return (
        f"{history.source} has {_hours(length_s)} of history, hardly more than one run needs: all"
        " runs start at its beginning"
    )


def _without(
    begin: dt.datetime, end: dt.datetime, gaps: Sequence[Gap]
) -> list[tuple[dt.datetime, dt.datetime]]:
    open_ = []
    for gap in sorted(gaps, key=lambda gap: gap.begin):
        if gap.begin > end:
            break
        if gap.begin > begin:
            open_.append((begin, gap.begin))
        begin = max(begin, gap.end)
    if begin <= end:
        open_.append((begin, end))
    return open_


def _point(open_: Sequence[tuple[dt.datetime, dt.datetime]], offset_s: float) -> dt.datetime:
    for begin, end in open_:
        width_s = (end - begin).total_seconds()
        if offset_s <= width_s:
            return begin + dt.timedelta(seconds=round(offset_s))
        offset_s -= width_s
    return open_[-1][1]


def _least_s(setting: Setting) -> float:
    """A run from the history's start on the job's fastest type, without a single interruption."""
    return _in_windows(setting, _least_open_s(setting))


def _least_open_s(setting: Setting) -> float:
    assert setting.spec.work_s is not None
    types = {each.pool.instance_type for each in setting.history.pools}
    known = rates(setting.spec)
    return setting.paces.changeover_s + setting.spec.work_s / max(known[name] for name in types)


def _room_s(setting: Setting) -> float:
    if setting.deadline_s is not None:
        return max(_least_s(setting), setting.deadline_s)
    return _in_windows(setting, _ROOM * _least_open_s(setting) + _ROOM_S)


def _in_windows(setting: Setting, open_s: float) -> float:
    """How long it takes until the job's window has been open for so long."""
    window, start = setting.spec.window, setting.history.start
    if window is None:
        return open_s
    return (after_open_s(window, start, open_s) - start).total_seconds()


def _until(setting: Setting, start: dt.datetime) -> dt.datetime:
    """When a run is given up. Recorded capacity is not made up beyond its end."""
    if setting.history.knows_capacity:
        return setting.history.end
    return start + dt.timedelta(seconds=min(_MOST_LENGTHS * _room_s(setting), _MOST_S))


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"


# -- processes ---------------------------------------------------------------------------------


def _outcomes(setting: Setting, starts: Sequence[dt.datetime], processes: int) -> Iterator[Outcome]:
    """As they are done. Whoever stops listening ends the processes. What is done early comes from
    all of the history, so that it stands for the rest."""
    numbered = list(enumerate(starts))
    random.Random(setting.seed).shuffle(numbered)
    if processes == 1 or len(starts) < _WORTH_PROCESSES:
        for index, start in numbered:
            yield one(setting, index, start)
        return
    with _deaf():
        pool = multiprocessing.get_context("spawn").Pool(processes, _begin, (setting,))
    with pool:
        yield from pool.imap_unordered(_one, numbered)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes that begin in here ignore Ctrl-C from their first moment: it is the parent's
    affair, and their imports would print it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_setting: Setting | None = None  # of a process of the pool


def _begin(setting: Setting) -> None:
    global _setting
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _setting = setting


def _one(numbered: tuple[int, dt.datetime]) -> Outcome:
    assert _setting is not None
    return one(_setting, *numbered)


# -- what comes of it --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Of one figure over all runs."""

    mean: float
    p10: float
    p50: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of nothing."""
        if not values:
            return None
        ordered = sorted(values)
        p10, p50, p90 = (quantile(ordered, part) for part in (0.1, 0.5, 0.9))
        return cls(mean=statistics.fmean(ordered), p10=p10, p50=p50, p90=p90)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One policy over all runs. Costs are of all runs, micro-dollars; `finish_s` and
    `saved_fraction` of those that ended, None where none did: what was given up saved nothing.
    `unfinished` were not over when the history was, or the budget; `missed` were late, or never
    ended although there is a deadline."""

    policy: str
    runs: int
    cost_usd_micros: Spread
    finish_s: Spread | None
    interruptions: Spread
    on_demand_share: float
    saved_fraction: float | None
    missed: int
    unfinished: int
    moves: float
    launches: float
    refusals: float
    why_unfinished: str


def summary(test: BackTest, name: str) -> Summary:
    found = test.of(name)
    assert found, "a summary of no run"
    cost = _spread([it.cost_usd_micros for it in found])
    machines_s = sum(it.spot_s + it.on_demand_s for it in found)
    unfinished = [it for it in found if it.finished_at is None]
    return Summary(
        policy=name,
        runs=len(found),
        cost_usd_micros=cost,
        finish_s=Spread.of([it.finish_s for it in found if it.finish_s is not None]),
        interruptions=_spread([it.interruptions for it in found]),
        on_demand_share=sum(it.on_demand_s for it in found) / max(1, machines_s),
        saved_fraction=_saved_fraction(test.setting, found),
        missed=sum(not it.in_time for it in found) if found[0].deadline_at else 0,
        unfinished=len(unfinished),
        moves=statistics.fmean(it.moves for it in found),
        launches=statistics.fmean(it.launches for it in found),
        refusals=statistics.fmean(it.refusals for it in found),
        why_unfinished=unfinished[0].why if unfinished else "",
    )


def _saved_fraction(setting: Setting, runs: Sequence[Run]) -> float | None:
    costs = [it.cost_usd_micros for it in runs if it.finished_at is not None]
    return 1 - statistics.fmean(costs) / on_demand_usd_micros(setting) if costs else None


def perfect(test: BackTest, *, free_hours: bool) -> Spread | None:
    """What perfect knowledge would have paid, over the runs whose deadline could be met."""
    found = [
        each.bound_usd_micros if free_hours else each.foresight_usd_micros for each in test.outcomes
    ]
    return Spread.of([each for each in found if each is not None])


def on_demand_usd_micros(setting: Setting) -> int:
    """What the job costs on-demand, from one launch to its end, where that is cheapest; with its
    disk, its address and its data, as in life. A window is not asked: it would only cost more."""
    return min(price for _, price in _on_demand_plans(setting))


def on_demand_finish_s(setting: Setting) -> float:
    """How long the job takes on the fastest on-demand offer, without a pause."""
    return min(seconds for seconds, _ in _on_demand_plans(setting))


def on_demand_late_s(setting: Setting) -> tuple[float, ...]:
    """By how much that offer misses the deadline, a figure for each start; negative: in time. With
    a window it launches anew at each opening."""
    assert setting.deadline_s is not None
    changeover_s = setting.paces.changeover_s
    work_s = on_demand_finish_s(setting) - changeover_s
    return tuple(
        (_done_at(setting.spec.window, start, work_s, changeover_s) - start).total_seconds()
        - setting.deadline_s
        for start in spread(setting)
    )


def _done_at(
    window: Window | None, at: dt.datetime, work_s: float, changeover_s: float
) -> dt.datetime:
    """When so much work is done that nothing but the window interrupts; NEVER where no opening is
    longer than a launch."""
    if window is None or window.always:
        return at + dt.timedelta(seconds=changeover_s + work_s)
    for _ in range(_MOST_OPENINGS):
        opens = opens_at(window, at)
        at = closes_at(window, opens) or NEVER
        trains_s = (at - opens).total_seconds() - changeover_s
        if work_s <= trains_s:
            return opens + dt.timedelta(seconds=changeover_s + work_s)
        work_s -= max(0.0, trains_s)
    return NEVER


def _on_demand_plans(setting: Setting) -> Iterator[tuple[float, int]]:
    spec = setting.spec
    assert spec.work_s is not None
    known = rates(spec)
    for each in setting.history.pools:
        seconds = spec.work_s / known[each.pool.instance_type] + setting.paces.changeover_s
        region = each.pool.region
        extras = extras_usd_micros_hour(region, spec.disk_gib)
        instance = billed(round(seconds), (), each.on_demand_usd_micros_hour)
        beside = billed(round(seconds), (), extras) + move_usd_micros(spec, region)
        yield seconds, instance + beside


def conclusion(test: BackTest, name: str) -> str:
    """One plain sentence about a policy; runs that never ended come first."""
    found, count = summary(test, name), len(test.outcomes)
    cost, ended = found.cost_usd_micros, found.runs - found.unfinished
    open_ = f" did not end in {found.unfinished} of {count} runs and" if found.unfinished else ""
    in_time = (
        f"in time in {found.runs - found.missed} of {count} runs"
        if test.setting.deadline_s is not None
        else f"done in {ended} of {count} runs"
    )
    against = _against(found)
    return (
        f"{name}{open_} would have cost {usd(round(cost.mean))} (p90 {usd(round(cost.p90))}),"
        f" {against}{in_time}"
    )


def _against(found: Summary) -> str:
    """Nothing where no run ended: half a job at half the price is no saving."""
    saved = found.saved_fraction
    if saved is None:
        return ""
    against = f"{abs(saved):.0%} {'below' if saved >= 0 else 'above'} on-demand"
    if abs(saved) < 0.005:
        against = "the on-demand price"
    return f"{against} where it ended, " if found.unfinished else f"{against}, "


def _spread(values: Sequence[float]) -> Spread:
    found = Spread.of(values)
    assert found is not None
    return found


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value that this part of them is below, between the two nearest."""
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
