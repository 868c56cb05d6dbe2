"""The prices that the daemon has read, as a history for a back-test."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from spotrunner.cli import words
from spotrunner.cli.api import find
from spotrunner.cli.failure import BadInput
from spotrunner.core.model import JobSpec, Pool
from spotrunner.sim.history import BadHistory, Gap, History, Row, from_rows, usd_micros

SOURCE = "the daemon"


def daemons_history(spec: JobSpec, past_s: int, api_file: Path | None) -> History:
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
    return _from(answer)


def _from(answer: dict[str, Any]) -> History:
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
    unread: dict[tuple[str, str], list[Gap]] = {}
    for hole in answer["unknown"]:
        gap = Gap(begin=_time(hole["from"]), end=_time(hole["to"]))
        unread.setdefault((hole["region"], hole["instance_type"]), []).append(gap)
    return from_rows(rows, on_demand, SOURCE, until=_time(answer["now"]), unread=unread)


def _time(text: str) -> dt.datetime:
    at = words.instant(text)
    if at is None:
        raise BadInput(f"the daemon names a time that is none: {text}")
    return at
