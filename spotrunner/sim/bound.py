"""What the cheapest conceivable run costs for one who knows the future: a bound below all policies.

Why it is one. Every run of sim/replay is a row of stretches of training, one after the other, each
on a machine that was requested a changeover before. Here such stretches are chosen with perfect
knowledge, and each rule is bent in favour of the chooser:

- A second on a pool costs the lowest price that was in force there since an hour and a changeover
  before: EC2 charges the price at the start of the instance-hour, which lies in that time. The disk
  and the address cost what they cost, and each launch brings the job's data.
- A stretch ends when it likes, with nothing to pay for saves, handovers or a begun minute, and one
  may follow on another without a pause. Work is divisible, and nothing is ever lost.
- Spot can be trained on from a changeover after the pool had capacity until EC2's notice is over.
- An instance that EC2 takes in its first hour is free, so the last hour of each run of capacity,
  less a changeover, costs its disk, its address and its data only, as often as one likes.
- A window is open from a changeover after its start, since nothing is launched before, until the
  notice's time after its end: whoever has a notice then may still be training. Caps and price
  limits keep nobody from anything here.
- The demand for enough work is priced instead of kept (a Lagrange multiplier): for every price of
  work, the least cost less the worth of the work is below the cost of any run that does the work.
  The best of these bounds is the answer. Launches beyond the first may be spread over more work
  than there is by that, so that it may be lower than the true optimum by about a launch.

With `free_hours=False` no hour is free. That is no bound, since a policy may be lucky, but it says
what a perfect planner pays who does not live on interruptions.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spotrunner.core.charges import extras_usd_micros_hour
from spotrunner.core.market import move_usd_micros
from spotrunner.core.model import JobSpec
from spotrunner.core.windows import closes_at, opens_at
from spotrunner.sim.lifetimes import Paces
from spotrunner.sim.replay import rates
from spotrunner.sim.scene import PoolScene, Scene

_HOUR_S = 3600.0
Span = tuple[float, float]
_INF = math.inf
# Each round closes in on the best price of work: some six are enough, and all are bounds.
_MOST_ROUNDS = 40


@dataclass(frozen=True, kw_only=True)
class _Run:
    """When a pool can be trained on, in seconds: from a changeover after it opens to the notice's
    end; from `free_from` on by an instance that EC2 takes in its first hour."""

    begin: float
    end: float
    free_from: float


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Somewhere to train. By segment of the time: micro-dollars an hour with all that is beside the
    instance, or None where it cannot be had; by the start of a segment: what a launch that trains
    from then on has paid."""

    rate: float  # work a second
    price: Sequence[float | None]
    launch: Sequence[float]


def bound(
    spec: JobSpec, scene: Scene, paces: Paces, end: dt.datetime, *, free_hours: bool = True
) -> int | None:
    """Micro-dollars for work that is done by `end`, such as a deadline; None where even perfect
    knowledge is not so fast. Whoever takes longer may pay less."""
    assert spec.work_s is not None
    seconds = _Seconds(scene, spec, paces, (end - scene.start).total_seconds())
    edges = seconds.edges()
    sources = list(seconds.sources(edges, free_hours))
    return _cheapest(sources, edges, float(math.ceil(spec.work_s)))


# -- what can be had when ----------------------------------------------------------------------


class _Seconds:
    """The scene in seconds since its start."""

    def __init__(self, scene: Scene, spec: JobSpec, paces: Paces, end_s: float) -> None:
        self._scene = scene
        self._spec = spec
        self._bid = spec.max_price_usd_micros
        self._rates = rates(spec)
        self._changeover_s = paces.changeover_s
        self._notice_s = paces.notice_s
        self._end_s = end_s
        self._usable = list(self._usable_spans())
        self._runs = {each.pool: list(self._runs_of(each)) for each in scene.pools}

    def edges(self) -> list[float]:
        """Between two of these nothing changes, so that no stretch needs to begin or end there."""
        found = {0.0, self._end_s, *itertools.chain.from_iterable(self._usable)}
        for each in self._scene.pools:
            found.update(self._gone_s(at) for at in each.times)
            found.update(self._gone_s(at) + self._forgets_s for at in each.times)
            for run in self._runs[each.pool]:
                found.update((run.begin, run.end, run.free_from))
        return sorted(at for at in found if 0 <= at <= self._end_s)

    def sources(self, edges: Sequence[float], free_hours: bool) -> Iterator[_Source]:
        segments = list(itertools.pairwise(edges))
        usable = _inside(segments, self._usable)
        for each in self._scene.pools:
            rate, runs = self._rates[each.pool.instance_type], self._runs[each.pool]
            extras, move = self._beside(each.pool.region)
            inside = _inside(segments, [(run.begin, run.end) for run in runs])
            floors = [
                self._floor(each, *segment) + extras if there and may else None
                for segment, there, may in zip(segments, inside, usable, strict=True)
            ]
            yield self._source(rate, floors, move)
            late = [(run.free_from, run.end) for run in runs if self._is_usable(run.end)]
            if free_hours and late:
                free = zip(_inside(segments, late), usable, strict=True)
                yield self._source(rate, [extras if all(it) else None for it in free], move)
        for rate, price, move in self._on_demand():
            yield self._source(rate, [price if may else None for may in usable], move)

    def _source(self, rate: float, price: Sequence[float | None], move: float) -> _Source:
        """A launch at an edge has paid for what lies before it and after it: the cheaper counts."""
        before = [None, *price[:-1]]
        launch = [
            min((it for it in pair if it is not None), default=0.0) * self._changeover_s / _HOUR_S
            + move
            for pair in zip(before, price, strict=True)
        ]
        return _Source(rate=rate, price=price, launch=launch)

    def _on_demand(self) -> list[tuple[float, float, float]]:
        """(rate, price, move): it can be had in every region, so that what is dearer in another one
        is left out."""
        found = set()
        for each in self._scene.pools:
            extras, move = self._beside(each.pool.region)
            price = each.on_demand_usd_micros_hour + extras
            found.add((self._rates[each.pool.instance_type], price, move))
        return sorted(it for it in found if not any(_is_better(other, it) for other in found))

    def _beside(self, region: str) -> tuple[float, float]:
        """What an hour of disk and address costs there, and what each launch pays for its data."""
        extras = extras_usd_micros_hour(region, self._spec.disk_gib)
        return float(extras), float(move_usd_micros(self._spec, region))

    def _usable_spans(self) -> Iterator[Span]:
        """When anybody can be training, on whatever."""
        window = self._spec.window
        if window is None or window.always:
            yield self._changeover_s, _INF
            return
        end = self._scene.start + dt.timedelta(seconds=self._end_s)
        opens = opens_at(window, self._scene.start)
        while opens < end:
            closes = closes_at(window, opens)
            assert closes is not None, "it is open when it opens"
            begin, last = self._gone_s(opens) + self._changeover_s, self._gone_s(closes)
            opens = opens_at(window, closes)
            if begin < last:
                yield begin, min(last + self._notice_s, self._gone_s(opens) + self._changeover_s)

    def _is_usable(self, at_s: float) -> bool:
        return any(begin <= at_s <= end for begin, end in self._usable)

    def _runs_of(self, each: PoolScene) -> Iterator[_Run]:
        at = self._opens(each, self._scene.start)
        while at is not None and self._gone_s(at) < self._end_s:
            begin = self._gone_s(at) + self._changeover_s
            taking = each.takes(at, self._bid)
            if taking is None:
                yield _Run(begin=begin, end=math.inf, free_from=math.inf)
                return
            end = self._gone_s(taking.notice_at) + self._notice_s
            if begin < end:
                free_from = max(begin, end - _HOUR_S + self._changeover_s)
                yield _Run(begin=begin, end=end, free_from=free_from)
            at = self._opens(each, taking.notice_at)

    def _opens(self, each: PoolScene, since: dt.datetime) -> dt.datetime | None:
        """The first time from `since` on at which EC2 gives the pool."""
        at: dt.datetime | None = since
        while at is not None and not each.gives(at, self._bid):
            opening = each.open.next_where(at, lambda is_open: True)
            changes = [later for later in each.times if later > at]
            at = min([*changes[:1], *([opening[0]] if opening else [])], default=None)
        return at

    @property
    def _forgets_s(self) -> float:
        return _HOUR_S + self._changeover_s

    def _floor(self, each: PoolScene, begin: float, end: float) -> float:
        since = self._scene.start + dt.timedelta(seconds=max(0.0, begin - self._forgets_s))
        until = self._scene.start + dt.timedelta(seconds=end)
        quotes = each.quotes(since, until)
        return float(min((it.price_usd_micros_hour for it in quotes), default=0))

    def _gone_s(self, at: dt.datetime) -> float:
        return (at - self._scene.start).total_seconds()


def _is_better(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """As fast, and nothing of it dearer."""
    return one != other and one[0] == other[0] and one[1] <= other[1] and one[2] <= other[2]


def _inside(segments: Sequence[Span], runs: Sequence[Span]) -> list[bool]:
    """Which segments lie in one of these times; both are in order, and apart from each other."""
    found, left = [], list(reversed(runs))
    for begin, end in segments:
        while left and left[-1][1] <= begin:
            left.pop()
        found.append(bool(left) and left[-1][0] <= begin and end <= left[-1][1])
    return found


# -- the best bound ----------------------------------------------------------------------------


def _cheapest(sources: Sequence[_Source], edges: Sequence[float], work: float) -> int | None:
    """The highest of the bounds that the prices of work give: the plans at two prices, one with
    too little work and one with enough, name the next price to ask for."""
    # Whoever works has launched once: that is paid apart, and not spread over more work.
    launches = [
        launch
        for source in sources
        for launch, price in zip(source.launch, source.price, strict=True)
        if price is not None
    ]
    first = min(launches, default=0.0)
    worth = _dear(sources)
    low_cost, low_work, best = 0.0, 0.0, 0.0
    high_cost, high_work = _plan(sources, edges, worth, first)
    if high_work < work * (1 - 1e-4):
        return None
    for _ in range(_MOST_ROUNDS):
        worth = max(0.0, high_cost - low_cost) / max(1e-9, high_work - low_work)
        cost, done = _plan(sources, edges, worth, first)
        best = max(best, cost + worth * (work - done))
        if best >= low_cost + worth * (work - low_work) - 0.5:
            break
        if done < work:
            low_cost, low_work = cost, done
        else:
            high_cost, high_work = cost, done
    return max(0, math.floor((first + best) * (1 - 1e-9)) - 1)


def _dear(sources: Sequence[_Source]) -> float:
    """A price of work, a second, at which every second of it that can be had is worth a launch."""
    worth = [
        1e6 * (price + 1) / source.rate / _HOUR_S + launch
        for source in sources
        for launch, price in zip(source.launch, source.price, strict=True)
        if price is not None
    ]
    return max(worth, default=1e6)


def _plan(
    sources: Sequence[_Source], edges: Sequence[float], worth: float, first: float
) -> tuple[float, float]:
    """(cost, work) of the plan with the least cost less `worth` of its work. It launches at least
    once, and `first` of that is paid already."""
    idle, idle_cost, idle_work = _INF, 0.0, 0.0
    value = [_INF] * len(sources)
    cost, work = [0.0] * len(sources), [0.0] * len(sources)
    for segment, (begin, end) in enumerate(itertools.pairwise(edges)):
        seconds = end - begin
        for index, source in enumerate(sources):
            price = source.price[segment]
            if price is None:
                value[index] = _INF
                continue
            launch = source.launch[segment]
            if launch - first < value[index]:
                value[index] = cost[index] = launch - first
                work[index] = 0.0
            if idle + launch < value[index]:
                value[index] = idle + launch
                cost[index], work[index] = idle_cost + launch, idle_work
            paid, done = price * seconds / _HOUR_S, source.rate * seconds
            value[index] += paid - worth * done
            cost[index] += paid
            work[index] += done
        for index, each in enumerate(value):
            if each < idle:
                idle, idle_cost, idle_work = each, cost[index], work[index]
    return idle_cost, idle_work
