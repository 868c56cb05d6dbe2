"""A folder of availability traces as a history: here the capacity is real."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from spotrunner.sim.history import BadHistory, History, PoolHistory, with_dear_prices
from spotrunner.sim.steps import Steps
from spotrunner.sim.traces import CONSTANT_RATIO, BadTraces, TraceSet, ZoneTrace, read


def read_traces(folder: Path, types: Collection[str], regions: Collection[str]) -> History:
    """Of the set that has the most pools of these types and regions, for one instance at a time;
    of several the longest. Raises BadHistory."""
    try:
        sets = [each for each in read(folder) if each.nodes == 1]
    except BadTraces as error:
        raise BadHistory(str(error)) from None
    fitting = [(each, _zones(each, types, regions)) for each in sets]
    fitting = [(each, zones) for each, zones in fitting if zones]
    if not fitting:
        there = sorted({zone.pool.instance_type for each in sets for zone in each.zones})
        raise BadHistory(
            f"the traces in {folder.name} have no zone of the job's types in its regions; their"
            f" types are {', '.join(there) or 'none for a single instance'}"
        )
    best, zones = max(fitting, key=lambda pair: (len(pair[1]), len(pair[1][0].capacity)))
    return _history(best, zones, folder, len(fitting) - 1)


def _zones(
    traced: TraceSet, types: Collection[str], regions: Collection[str]
) -> Sequence[ZoneTrace]:
    return [
        zone
        for zone in traced.zones
        if zone.pool.instance_type in types and zone.pool.region in regions
    ]


def _history(traced: TraceSet, zones: Sequence[ZoneTrace], folder: Path, others: int) -> History:
    warnings = [
        f"{zone.pool}: no price was recorded: taken to cost {CONSTANT_RATIO:.0%} of on-demand"
        for zone in zones
        if zone.prices_usd_micros_hour is None
    ]
    if others:
        warnings.append(
            f"{others} other set(s) of traces in {folder.name} fit the job too and are not used:"
            f" {traced.name} has the most pools"
        )
    pools = tuple(
        PoolHistory(
            pool=zone.pool,
            on_demand_usd_micros_hour=zone.on_demand_usd_micros_hour,
            prices=Steps(traced.price_steps(zone)),
            first_at=traced.start,
            capacity=Steps(traced.capacity_steps(zone)),
        )
        for zone in zones
    )
    found = History(
        start=traced.start,
        end=traced.at(len(zones[0].capacity)),
        pools=pools,
        source=f"the traces {traced.name}",
        warnings=tuple(warnings),
    )
    return with_dear_prices(found, "od_usd_h of the manifest")
