"""How fast a job trains on each type, against the others: from the job file, from its own progress,
else from what its GPUs are.

The prior is memory bandwidth times the number of GPUs: training steps mostly wait for memory (T4 to
V100 is 2.8 by bandwidth and 3.0 measured, ResNet-50 in fp32). It is wrong for a trainer that uses
one GPU of several, or whose input is too slow: its first progress reports replace it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence

from spotrunner.core.catalogue import TYPES
from spotrunner.core.model import Attempt, JobSpec, Report

WARM_AFTER = dt.timedelta(minutes=2)


def rates(attempts: Sequence[Attempt], reports: Mapping[str, Report]) -> dict[str, float]:
    """Steps a second that the job's own attempts reported last, by type."""
    found: dict[str, float] = {}
    for attempt in attempts:
        report = reports.get(attempt.id)
        told = report.steps_per_s if report is not None and is_warm(report) else None
        rate = told or attempt.steps_per_s
        if rate is not None and rate > 0:
            found[attempt.offer.pool.instance_type] = rate
    return found


def is_warm(report: Report) -> bool:
    """Its pace tells something of the hours to come. The first steps compile the graph and fill
    the input pipeline: a deadline that believed them would buy on-demand for nothing."""
    first_step_at = report.first_step_at
    return first_step_at is None or report.at >= first_step_at + WARM_AFTER


def speeds(spec: JobSpec, measured: Mapping[str, float]) -> dict[str, float]:
    """Of each of the job's types, in one unit: steps a second where any is `measured`, else one
    that means nothing by itself."""
    assumed = _assumed(spec)
    if not measured:
        return assumed
    found = {}
    for name in assumed:
        near = min(measured, key=lambda other: _apart(assumed, name, other))
        ratio = assumed[name] / assumed[near] if near in assumed else prior(name) / prior(near)
        found[name] = measured[name] if name in measured else measured[near] * ratio
    return found


def prior(instance_type: str) -> float:
    kind = TYPES[instance_type]
    return float(kind.gpus * kind.gpu.bandwidth_gb_s)


def _assumed(spec: JobSpec) -> dict[str, float]:
    """The user's word, and the prior in the user's unit for the types that it leaves out."""
    told = dict(spec.speeds)
    unit = next((told[name] / prior(name) for name in spec.instance_types if name in told), 1.0)
    return {name: told.get(name, unit * prior(name)) for name in spec.instance_types}


def _apart(assumed: Mapping[str, float], name: str, other: str) -> float:
    """How far a measured type is from another one: the nearest says most of it."""
    if other not in assumed:
        return math.inf
    return abs(math.log(assumed[other] / assumed[name]))
