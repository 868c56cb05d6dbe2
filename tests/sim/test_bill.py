"""The daemon's own reckoning (core/money) against what the simulated EC2 charges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core import money
from spotrunner.core.model import EndedBy, Market
from spotrunner.sim.steps import Steps
from tests.sim.worlds import POOL, START, a_request, a_world, at

PRICES = st.lists(st.integers(1_000, 500_000), min_size=1, max_size=6)


@given(prices=PRICES, life_s=st.floats(0.5, 20_000), ours=st.booleans())
def test_the_ledger_never_books_less_than_ec2_charges(
    prices: list[int], life_s: float, ours: bool
) -> None:
    """The ledger counts from LaunchTime, EC2 from `running`: it books those seconds too much."""
    steps = Steps([(at(3600 * hour), price) for hour, price in enumerate(prices)])
    world = a_world(prices={POOL: steps})
    (record,) = world.run_instances(START, a_request(world))
    starts = 10.0  # `pending` takes that long in this world
    end_s = starts + life_s
    if ours:
        world.terminate(at(end_s), POOL.region, [record.id])
    else:
        world.interrupt(at(end_s), record.id, notice=False)
    (line,) = world.bill(at(end_s + 9000))

    hours = tuple(steps.at(at(3600 * hour)) for hour in range(7))
    booked = money.billed(int(end_s) + 1, hours, hours[-1])
    by = EndedBy.US if ours else EndedBy.EC2
    if money.is_free(Market.SPOT, record.launched_at, at(end_s), by):
        assert line.free
    else:
        assert line.usd_micros <= booked
        pending_usd_micros = 11 * max(hours) // 3600 + 1
        least_usd_micros = max(hours) // 60
        assert line.free or booked <= line.usd_micros + pending_usd_micros + least_usd_micros
