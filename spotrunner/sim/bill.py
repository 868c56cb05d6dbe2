"""What EC2 charges for an instance. Written apart from core/money, which is checked against it.

Source: AWS, "Billing for interrupted Spot Instances"; "New - Per-Second Billing for EC2 Instances"
(60 seconds the least); "New Amazon EC2 Spot pricing" (the price at the start of each instance-hour
holds for that hour). An instance is charged from `running` until it begins to shut down.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable

from spotrunner.core.model import Market
from spotrunner.sim.machine import Machine
from spotrunner.sim.values import Charge

_HOUR = dt.timedelta(hours=1)
_LEAST_S = 60


def charge(
    machine: Machine, now: dt.datetime, price_usd_micros: Callable[[dt.datetime], int]
) -> Charge:
    """The instance's line of the bill at `now`; `price_usd_micros` gives the hourly price that its
    pool and market had at a time."""
    begin, end = machine.running_at, machine.paid_end_at
    micros, free = 0, False
    if begin is not None:
        free = (
            machine.market is Market.SPOT
            and machine.taken_at is not None
            and machine.taken_at - begin < _HOUR
        )
        micros = 0 if free else _metered(begin, end or now, price_usd_micros)
    return Charge(
        instance_id=machine.id,
        pool=machine.pool,
        market=machine.market,
        from_at=begin,
        to_at=end,
        usd_micros=micros,
        free=free,
    )


def _metered(
    begin: dt.datetime, end: dt.datetime, price_usd_micros: Callable[[dt.datetime], int]
) -> int:
    seconds = max(_LEAST_S, math.ceil((end - begin).total_seconds()))
    hour_start, micro_seconds = begin, 0
    while seconds > 0:
        part = min(seconds, 3600)
        micro_seconds += part * price_usd_micros(hour_start)
        seconds -= part
        hour_start += _HOUR
    return math.ceil(micro_seconds / 3600)
