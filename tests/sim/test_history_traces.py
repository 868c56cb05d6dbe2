"""Traces as a past: the set that fits best, with its real capacity."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from spotrunner.sim.history import BadHistory
from spotrunner.sim.history_traces import read_traces

np = pytest.importorskip("numpy")

START = dt.datetime(2023, 2, 15, 22, 0, tzinfo=dt.timezone.utc)
KIND, REGION = "p3.2xlarge", "us-east-1"


def a_set(
    folder: Path,
    name: str,
    zones: dict[str, list[int]],
    *,
    priced: bool = True,
    nodes: int = 1,
    gap_s: float = 600,
) -> dict[str, Any]:
    arrays = {f"avail/{zone}": np.array(ticks, dtype="uint8") for zone, ticks in zones.items()}
    if priced:
        arrays.update({f"price/{zone}": np.full(len(it), 0.9) for zone, it in zones.items()})
    np.savez(folder / f"{name}.npz", **arrays)
    return {
        "file": f"{name}.npz",
        "gap_seconds": gap_s,
        "nodes": nodes,
        "set_start_utc": "2023-02-15T22:00",
        "zones": {
            zone: {
                "zone": zone,
                "region": zone[:-1],
                "instance_type": KIND,
                "od_usd_h": 3.06,
                "ticks": len(ticks),
            }
            for zone, ticks in zones.items()
        },
    }


def written(folder: Path, sets: dict[str, dict[str, Any]]) -> Path:
    (folder / "manifest.json").write_text(json.dumps(sets))
    return folder


def test_capacity_and_prices_are_what_was_recorded(tmp_path: Path) -> None:
    zones = {"us-east-1a": [1, 1, 0, 0, 1, 1], "us-east-1b": [0, 1, 1, 1, 1, 1]}
    found = read_traces(written(tmp_path, {"B": a_set(tmp_path, "B", zones)}), {KIND}, {REGION})
    assert (found.start, found.end) == (START, START + dt.timedelta(hours=1))
    assert found.knows_capacity
    assert found.provenance == "prices and capacity: recorded, from the traces B"
    first = found.pools[0]
    assert first.on_demand_usd_micros_hour == 3_060_000
    assert first.prices.at(START) == 900_000
    assert first.capacity is not None
    up = [first.capacity.at(START + dt.timedelta(minutes=10 * tick)) for tick in range(6)]
    assert up == [True, True, False, False, True, True]


def test_the_set_with_the_most_pools_is_taken_and_gangs_are_not(tmp_path: Path) -> None:
    one, two = {"us-east-1a": [1] * 9}, {"us-east-1a": [1] * 6, "us-east-1b": [1] * 6}
    sets = {
        "one": a_set(tmp_path, "one", one),
        "two": a_set(tmp_path, "two", two),
        "gang": a_set(tmp_path, "gang", {**two, "us-east-1c": [4] * 6}, nodes=4),
    }
    found = read_traces(written(tmp_path, sets), {KIND}, {REGION})
    assert found.source == "the traces two"
    assert found.warnings == (
        f"1 other set(s) of traces in {tmp_path.name} fit the job too and are not used: two has"
        " the most pools",
    )


def test_a_zone_without_prices_is_said(tmp_path: Path) -> None:
    sets = {"A": a_set(tmp_path, "A", {"us-east-1a": [1] * 6}, priced=False)}
    found = read_traces(written(tmp_path, sets), {KIND}, {REGION})
    assert found.warnings == (
        "us-east-1a/p3.2xlarge: no price was recorded: taken to cost 32% of on-demand",
    )


def test_what_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(BadHistory, match=r"manifest\.json"):
        read_traces(tmp_path, {KIND}, {REGION})
    zones = {"us-east-1a": [1] * 6}
    written(tmp_path, {"A": a_set(tmp_path, "A", zones)})
    with pytest.raises(BadHistory, match=r"no zone of the job's types .* types are p3\.2xlarge"):
        read_traces(tmp_path, {"g5.xlarge"}, {REGION})
    written(tmp_path, {"A": a_set(tmp_path, "A", zones, gap_s=0)})
    with pytest.raises(BadHistory, match="gap_seconds is 0"):
        read_traces(tmp_path, {KIND}, {REGION})
