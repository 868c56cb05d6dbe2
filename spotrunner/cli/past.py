"""What a back-test starts from: a history, and what policies weigh capacity with. Here the
daemon's."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotrunner.cli import words
from spotrunner.cli.api import find
from spotrunner.cli.failure import BadInput
from spotrunner.core.hazard import MEASURED, Hazards
from spotrunner.core.model import JobSpec, Pool
from spotrunner.sim.history import BadHistory, Gap, History, Row, from_rows, usd_micros

SOURCE = "the daemon"
# A daemon in order has read within the hour.
_NEW = dt.timedelta(hours=1)
# By EC2, of spot prices.
_REMEMBERED = dt.timedelta(days=90)


@dataclass(frozen=True, kw_only=True)
class Past:
    """`hazards` are the daemon's where the history is, else the measured ones."""

    history: History
    hazards: Hazards = MEASURED


def daemons_past(spec: JobSpec, past_s: int, api_file: Path | None) -> Past:
    """Of the last `past_s` seconds by its clock. Raises NoDaemon, Failure, BadInput, BadHistory."""
    answer = find(api_file).get(
        "/v1/prices",
        type=list(spec.instance_types),
        region=list(spec.regions),
        since=f"{past_s}s",
        steps=True,
    )
    troubles = [it["trouble"] for it in answer["regions"].values() if it["trouble"]]
    if not any(pool["steps"] for pool in answer["pools"]):
        why = f": {troubles[0]}" if troubles else ""
        raise BadHistory(
            f"{SOURCE} has no prices of the job's types and regions yet{why}; read them with"
            " `spotrunner prices sync`, or name recorded prices with --csv DIR"
        )
    return Past(history=_history(answer), hazards=_hazards(answer["hazards"]))


def _hazards(told: dict[str, Any]) -> Hazards:
    """What `policy fit` made of the daemon's own launches, if it was asked to."""
    return Hazards(
        lost_an_hour=tuple(told["lost_an_hour"]),
        regained_an_hour=tuple(told["regained_an_hour"]),
        lost_weight=told["lost_weight"],
        regained_weight=told["regained_weight"],
    )


def _history(answer: dict[str, Any]) -> History:
    rows = []
    on_demand: dict[tuple[str, str], int] = {}
    for it in answer["pools"]:
        region, kind = it["region"], it["instance_type"]
        pool = Pool(region=region, zone=it["zone"], instance_type=kind)
        if it["ondemand_usd_hour"] is not None:
            on_demand[region, kind] = usd_micros(str(it["ondemand_usd_hour"]), f"{pool}")
        rows += [
            Row(
                pool=pool,
                at=_time(begin),
                price_usd_micros_hour=usd_micros(str(price), f"{pool} at {begin}"),
            )
            for begin, _, price in it["steps"]
        ]
    end = max(_time(step[1]) for it in answer["pools"] for step in it["steps"])
    found = from_rows(rows, on_demand, SOURCE, until=end, unread=_unread(answer, end))
    now = _time(answer["now"])
    return _with_its_beginning(_with_its_age(found, now), _time(answer["since"]), now)


def _unread(answer: dict[str, Any], end: dt.datetime) -> dict[tuple[str, str], list[Gap]]:
    """By region and type. The history ends where the last read of all does: what is unknown
    beyond is no gap in it."""
    found: dict[tuple[str, str], list[Gap]] = {}
    for hole in answer["unknown"]:
        gap = Gap(begin=_time(hole["from"]), end=min(end, _time(hole["to"])))
        if gap.begin < gap.end:
            found.setdefault((hole["region"], hole["instance_type"]), []).append(gap)
    return found


def _with_its_beginning(history: History, since: dt.datetime, now: dt.datetime) -> History:
    """With a warning, where the daemon has read less than was asked for."""
    if history.start - since <= _NEW:
        return history
    warning = (
        f"the daemon's prices begin at {history.start:%Y-%m-%d %H:%M} UTC, and"
        f" {words.duration((now - since).total_seconds())} were asked for"
    )
    if now - history.start < _REMEMBERED - _NEW:
        warning += "; `spotrunner prices sync --days 90` reads all that EC2 remembers"
    return dataclasses.replace(history, warnings=(warning, *history.warnings))


def _with_its_age(history: History, now: dt.datetime) -> History:
    """With a warning, where the daemon has read nothing for so long that the newest is missing."""
    if now - history.end <= _NEW:
        return history
    ago_s = (now - history.end).total_seconds()
    warning = (
        f"{SOURCE} has read no prices for {words.duration(ago_s)}: the history ends at"
        f" {history.end:%Y-%m-%d %H:%M} UTC; `spotrunner prices` says why, and `spotrunner prices"
        " sync` reads what is missing"
    )
    return dataclasses.replace(history, warnings=(*history.warnings, warning))


def _time(text: str) -> dt.datetime:
    at = words.instant(text)
    if at is None:
        raise BadInput(f"the daemon names a time that is none: {text}")
    return at
