"""What the policies cost on recorded spot capacity, as a share of on-demand.

    python benchmarks/policy.py --traces DIR [--policy NAME] [--obs full|try] [-o json] [--check]

Scenarios, jobs and starts are those of the reference scorer of these traces: each zone alone, five
sets of zones together, gangs; five jobs from tight to loose, changeovers of 3 and 12 minutes, 20
starts each. `--obs full` shows the capacity of every zone at each tick; `try` only what a launch
shows, which is how the world is. `--check` exits with 1 and says what failed: the project's limits,
and that greedy and Uniform Progress cost what they are known to cost to 0.001 (where score.py lies
beside the folder it is run as well). Where there are no traces there is nothing to measure: that
is said, and is no failure.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from spotrunner.core.policy import Choice, Policy
from spotrunner.core.policy.named import policies
from spotrunner.core.situation import Situation
from spotrunner.daemon.tables import TablesOnDemand
from spotrunner.sim.ticks import TickJob, TickMarket, TickRun, TickZone, run
from spotrunner.sim.traces import MANIFEST, BadTraces, TraceSet, ZoneTrace, read

HOUR_S = 3600.0
DEFAULT = ("on_demand", "greedy", "uniform_progress", "deadline", "planner")

# name -> hours of work, hours to the deadline
JOBS: Mapping[str, tuple[int, int]] = {
    "tight": (24, 26),
    "j80": (24, 30),
    "j67": (24, 36),
    "loose": (24, 48),
    "night": (8, 12),
}
CHANGEOVERS_H = (0.05, 0.20)
STARTS = 20
FIRST_START_H = 24  # the scorer keeps the first day for policies that ask for history
LEAST_AVAILABLE = 0.005  # of a zone that is never there nothing can be decided

# Zones that are tried together, in the set that has nine of them.
MULTI_SET = "B_2023-02_aws_v100"
MULTI = (
    ("us-east-1a", "us-east-1d"),
    ("us-east-1d", "us-east-1f"),
    ("us-east-1a", "us-east-1d", "us-east-1f"),
    ("us-east-1f", "us-east-2a"),
    ("us-east-1d", "us-east-1f", "us-east-2a", "us-west-2b"),
)
NOT_SCORED = "F_"  # a CPU type

# -- limits ------------------------------------------------------------------------------------

# The mean over all scenarios may not be above, by policy and what is seen.
LIMITS = {
    ("deadline", "full"): 0.606,
    ("deadline", "try"): 0.608,
    ("planner", "full"): 0.6030,
    ("planner", "try"): 0.6060,
}
PUBLISHED = {"greedy": 0.657, "uniform_progress": 0.632}
AGREEMENT = 0.001
WARM_MEDIAN_US = 1000.0
NEVER_LATE = ("on_demand", "greedy", "uniform_progress", "deadline", "planner")
BASELINE = "uniform_progress"


# -- scenarios ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scenario:
    id: str
    group: str
    trace: TraceSet
    zones: tuple[ZoneTrace, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One policy on one job with one changeover, from all starts of a scenario."""

    scenario: int
    job: str
    changeover_h: float
    policy: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What came of a task: means over its starts. `ratio` is the cost over that of on-demand."""

    task: Task
    group: str
    ratio: float
    late: int
    runs: int
    launches: float
    spot_share: float


def scenarios(sets: Iterable[TraceSet]) -> list[Scenario]:
    found = []
    for trace in sets:
        if trace.name.startswith(NOT_SCORED):
            continue
        group = "gang" if trace.nodes > 1 else "single"
        for zone in trace.zones:
            if fmean(zone.up(trace.nodes)) >= LEAST_AVAILABLE:
                id = f"{trace.name[0]}:{zone.key}"
                found.append(Scenario(id=id, group=group, trace=trace, zones=(zone,)))
        if trace.name == MULTI_SET:
            found += _multi(trace)
    return found


def _multi(trace: TraceSet) -> Iterator[Scenario]:
    by_zone = {zone.pool.zone: zone for zone in trace.zones}
    for names in MULTI:
        if all(name in by_zone for name in names):
            zones = tuple(by_zone[name] for name in names)
            yield Scenario(id=f"B:{'+'.join(names)}", group="multi", trace=trace, zones=zones)


def starts(scenario: Scenario, deadline_s: float) -> list[int]:
    """Ticks, spread evenly over the trace; none where it is shorter than the job."""
    gap_s, ticks = scenario.trace.gap_s, len(scenario.zones[0].capacity)
    first = int(FIRST_START_H * HOUR_S / gap_s)
    last = ticks - math.ceil(deadline_s / gap_s) - 1
    first = 0 if last < first else first
    if last < 0:
        return []
    return sorted({round(first + (last - first) * k / (STARTS - 1)) for k in range(STARTS)})


# -- runs --------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _loaded(folder: str) -> tuple[Scenario, ...]:
    """Once a process."""
    return tuple(scenarios(read(Path(folder))))


@lru_cache(maxsize=1)
def _policies() -> Mapping[str, Policy]:
    return policies(TablesOnDemand(most=64))


def cell(folder: str, task: Task, obs: str) -> Cell | None:
    scenario = _loaded(folder)[task.scenario]
    work_h, deadline_h = JOBS[task.job]
    job = TickJob(
        work_s=work_h * HOUR_S,
        deadline_s=deadline_h * HOUR_S,
        changeover_s=task.changeover_h * HOUR_S,
    )
    policy = _policies()[task.policy]
    runs = [
        run(policy, job, market(scenario, start, job.deadline_s), sees_all=obs == "full")
        for start in starts(scenario, job.deadline_s)
    ]
    return summed(task, scenario, runs) if runs else None


def summed(task: Task, scenario: Scenario, runs: Sequence[TickRun]) -> Cell:
    on_demand_usd_h = scenario.zones[0].on_demand_usd_micros_hour / 1_000_000
    on_demand_usd = on_demand_usd_h * (JOBS[task.job][0] + task.changeover_h)
    return Cell(
        task=task,
        group=scenario.group,
        ratio=fmean(it.cost_usd for it in runs) / on_demand_usd,
        late=sum(it.late for it in runs),
        runs=len(runs),
        launches=fmean(it.launches for it in runs),
        spot_share=fmean(it.spot_s / (it.spot_s + it.on_demand_s) for it in runs),
    )


def market(scenario: Scenario, start: int, deadline_s: float) -> TickMarket:
    ticks = slice(start, start + math.ceil(deadline_s / scenario.trace.gap_s) + 1)
    nodes = scenario.trace.nodes
    return TickMarket(
        zones=tuple(
            TickZone(
                pool=zone.pool,
                up=_up(zone, nodes)[ticks],
                prices_usd_micros_hour=_prices(zone)[ticks],
            )
            for zone in scenario.zones
        ),
        on_demand_usd_micros_hour=scenario.zones[0].on_demand_usd_micros_hour,
        gap_s=scenario.trace.gap_s,
    )


@lru_cache(maxsize=64)
def _up(zone: ZoneTrace, nodes: int) -> bytes:
    return zone.up(nodes)


@lru_cache(maxsize=64)
def _prices(zone: ZoneTrace) -> tuple[int, ...]:
    return zone.prices()


def measure(folder: Path, names: Sequence[str], obs: str, workers: int) -> list[Cell]:
    tasks = [
        Task(scenario=index, job=job, changeover_h=changeover_h, policy=name)
        for name in names
        for changeover_h in CHANGEOVERS_H
        for job in JOBS
        for index in range(len(_loaded(str(folder))))
    ]
    with ProcessPoolExecutor(max_workers=workers) as pool:
        count = len(tasks)
        found = pool.map(cell, [str(folder)] * count, tasks, [obs] * count, chunksize=8)
        return [each for each in found if each is not None]


# -- how long a decision takes -----------------------------------------------------------------


class Timed:
    """Passes on what it is asked, and notes how long each answer took."""

    def __init__(self, policy: Policy) -> None:
        self.name, self.needs_deadline = policy.name, policy.needs_deadline
        self._policy = policy
        self.micros: list[float] = []

    def choose(self, situation: Situation) -> Choice:
        begun = time.perf_counter_ns()
        choice = self._policy.choose(situation)
        self.micros.append((time.perf_counter_ns() - begun) / 1000)
        return choice


def decision_us(folder: Path, name: str, obs: str) -> tuple[float, float]:
    """Median and 99th percentile of a warm decision: the same runs are made twice, and the second
    time counts. The scenario with the most zones, which is the slowest."""
    scenario = max(_loaded(str(folder)), key=lambda it: len(it.zones))
    job = TickJob(work_s=24 * HOUR_S, deadline_s=30 * HOUR_S, changeover_s=0.2 * HOUR_S)
    micros: list[float] = []
    for _ in range(2):
        timed = Timed(_policies()[name])
        for start in starts(scenario, job.deadline_s)[:5]:
            run(timed, job, market(scenario, start, job.deadline_s), sees_all=obs == "full")
        micros = sorted(timed.micros)
    if not micros:
        return 0.0, 0.0
    return micros[len(micros) // 2], micros[len(micros) * 99 // 100]


# -- what is said of it ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """One policy in one group of scenarios."""

    policy: str
    group: str
    ratio: float
    late: int
    runs: int
    launches: float
    spot_share: float


def rows(cells: Sequence[Cell], names: Sequence[str]) -> list[Row]:
    groups = [*sorted({each.group for each in cells}), "ALL"]
    return [
        _row(name, group, [it for it in cells if it.task.policy == name and _in(it, group)])
        for group in groups
        for name in names
    ]


def _in(cell: Cell, group: str) -> bool:
    return group in ("ALL", cell.group)


def _row(name: str, group: str, cells: Sequence[Cell]) -> Row:
    return Row(
        policy=name,
        group=group,
        ratio=fmean(it.ratio for it in cells),
        late=sum(it.late for it in cells),
        runs=sum(it.runs for it in cells),
        launches=fmean(it.launches for it in cells),
        spot_share=fmean(it.spot_share for it in cells),
    )


def printed(found: Sequence[Row], times_us: Mapping[str, tuple[float, float]]) -> str:
    lines = [f"{'':8}{'policy':18}{'cost/OD':>9}{'late':>6}{'runs':>6}{'launches':>10}{'spot':>7}"]
    group = None
    for row in found:
        lines += [""] if row.group not in (group, None) and group is not None else []
        lines.append(
            f"{row.group if row.group != group else '':8}{row.policy:18}{row.ratio:9.4f}"
            f"{row.late:6d}{row.runs:6d}{row.launches:10.2f}{row.spot_share:7.1%}"
        )
        group = row.group
    lines += ["", f"{'':8}{'a warm decision':18}{'median':>9}{'p99':>9}"]
    lines += [f"{'':8}{name:18}{m:6.0f} us{p:6.0f} us" for name, (m, p) in times_us.items()]
    return "\n".join(lines)


# -- checks ------------------------------------------------------------------------------------


def failures(
    found: Sequence[Row], times_us: Mapping[str, tuple[float, float]], obs: str
) -> list[str]:
    """One sentence for each limit that is broken."""
    return [
        *_too_dear(found, obs),
        *_too_late(found),
        *_above_baseline(found),
        *(
            f"{name}: a warm decision takes {median:.0f} us, above {WARM_MEDIAN_US:.0f}"
            for name, (median, _) in times_us.items()
            if median > WARM_MEDIAN_US
        ),
    ]


def _too_dear(found: Sequence[Row], obs: str) -> Iterator[str]:
    for row in found:
        if row.group != "ALL":
            continue
        limit = LIMITS.get((row.policy, obs))
        if limit is not None and row.ratio > limit:
            yield f"{row.policy}: cost {row.ratio:.4f} of on-demand with obs {obs}, above {limit}"
        known = PUBLISHED.get(row.policy)
        if known is not None and abs(row.ratio - known) > AGREEMENT:
            yield f"{row.policy}: cost {row.ratio:.4f} of on-demand, and {known} is published"


def _too_late(found: Sequence[Row]) -> Iterator[str]:
    for row in found:
        if row.group == "ALL" and row.late and row.policy in NEVER_LATE:
            yield f"{row.policy}: {row.late} of {row.runs} runs missed the deadline"


def _above_baseline(found: Sequence[Row]) -> Iterator[str]:
    baseline = {row.group: row.ratio for row in found if row.policy == BASELINE}
    for row in found:
        if row.policy in ("deadline", "planner") and row.ratio > baseline.get(row.group, math.inf):
            yield f"{row.policy}: dearer than {BASELINE} in group {row.group}"


def disagreements(folder: Path, found: Sequence[Row], obs: str) -> list[str]:
    """With score.py itself, where the folder is that of its layout, data/SPLIT beside it."""
    scorer = folder.resolve().parent.parent / "score.py"
    if not scorer.exists():
        return []
    asked = [sys.executable, str(scorer), "--split", folder.name, "--obs", obs, "--by", "group"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    table = answer.stdout.partition("[ALL]")[2]
    theirs = {name: float(cost) for name, cost in re.findall(r"^(\w+) +(\d\.\d+)", table, re.M)}
    if not theirs:
        return [f"score.py gave no table: {answer.stderr.strip()[-200:]}"]
    return [
        f"{row.policy}: {row.ratio:.4f} here, {theirs[row.policy]:.4f} by score.py"
        for row in found
        if row.group == "ALL"
        and row.policy in PUBLISHED
        and abs(row.ratio - theirs.get(row.policy, row.ratio)) > AGREEMENT
    ]


# -- the command -------------------------------------------------------------------------------


def _folder(named: Path) -> Path:
    """The folder with the manifest: the one that was named, or the only one below it."""
    below = sorted(named.rglob(MANIFEST))
    return below[0].parent if len(below) == 1 else named


def main() -> int:
    asked = _asked()
    asked.traces = _folder(asked.traces)
    if not (asked.traces / MANIFEST).exists():
        print(f"{asked.traces} has no {MANIFEST}: nothing to measure (give --traces DIR)")
        return 0
    names = asked.policy or list(DEFAULT)
    begun = time.perf_counter()
    try:
        cells = measure(asked.traces, names, asked.obs, asked.workers)
    except BadTraces as error:
        print(f"bad traces: {error}", file=sys.stderr)
        return 2
    found = rows(cells, names)
    times_us = {name: decision_us(asked.traces, name, asked.obs) for name in names}
    wrong = failures(found, times_us, asked.obs) if asked.check else []
    wrong += disagreements(asked.traces, found, asked.obs) if asked.check else []
    wall_s = round(time.perf_counter() - begun, 1)
    if asked.output == "json":
        print(json.dumps(_as_json(found, times_us, wrong, asked.obs, wall_s), indent=2))
    else:
        print(printed(found, times_us))
        print(f"\nobs={asked.obs} scenarios={len(_loaded(str(asked.traces)))} wall={wall_s} s")
    for sentence in wrong:
        print(f"FAILED {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the policies on recorded capacity.")
    parser.add_argument("--traces", type=Path, required=True, metavar="DIR")
    parser.add_argument("--policy", action="append", choices=sorted(policies()), metavar="NAME")
    parser.add_argument("--obs", choices=["full", "try"], default="full")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    return parser.parse_args()


def _as_json(
    found: Sequence[Row],
    times_us: Mapping[str, tuple[float, float]],
    wrong: Sequence[str],
    obs: str,
    wall_s: float,
) -> Mapping[str, object]:
    return {
        "benchmark": "policy",
        "obs": obs,
        "rows": [
            {
                "policy": row.policy,
                "group": row.group,
                "cost_ratio": round(row.ratio, 5),
                "late": row.late,
                "runs": row.runs,
                "launches": round(row.launches, 2),
                "spot_share": round(row.spot_share, 4),
            }
            for row in found
        ],
        "decision_us": {
            name: {"median": round(median, 1), "p99": round(p99, 1)}
            for name, (median, p99) in times_us.items()
        },
        "failed": list(wrong),
        "wall_s": wall_s,
        "python": sys.version.split()[0],
    }


if __name__ == "__main__":
    sys.exit(main())
