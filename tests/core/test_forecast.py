"""Dollars and time to the end, by hand.

The place costs 0.16 USD an hour, and 0.016112 for its disk and its address: 0.176112 in all, and
0.542112 at the dearest. A job of ten hours needs 600 s to start.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from spotrunner.core.forecast import Forecast, forecast
from spotrunner.core.model import JobSpec, Limits
from spotrunner.core.purse import Balance, Cap, Scope
from spotrunner.core.windows import NEVER, Window
from tests.build import EXTRAS, ON_DEMAND, SPOT, T0, a_spec, at
from tests.core.situations import CHANGEOVER_S, WORK_S, a_situation, on_demand, refused, spot

RATE = SPOT + EXTRAS
# What the last paid step, of 900 s, is reserved with.
LAST = (ON_DEMAND + EXTRAS) * 900 // 3600


def a_balance(usd_micros: int, accrued: int = 0, **cap: Any) -> Balance:
    fields: dict[str, Any] = {"scope": Scope.JOB, "name": "digits", **cap}
    return Balance(
        cap=Cap(usd_micros=usd_micros, **fields), accrued_usd_micros=accrued, reserved_usd_micros=0
    )


def seen(*balances: Balance, spec: JobSpec | None = None, **changes: Any) -> Forecast:
    found = forecast(a_situation(None, **changes), spec or a_spec(), balances, T0, Limits())
    assert found is not None
    return found


def paid_by(seconds: float) -> int:
    """A cap that stops the job after so long: its last step does not fit in any more."""
    return int(RATE * seconds / 3600) + LAST


# -- without caps ------------------------------------------------------------------------------


def test_a_job_that_waits_needs_a_start_and_its_work() -> None:
    assert seen() == Forecast(
        done_at=at(600 + 36_000),
        # 0.176112 * 10 h 10 min
        more_usd_micros=1_790_472,
    )


def test_one_that_trains_needs_what_is_left_of_it() -> None:
    found = seen(on=spot(), done_s=27_000)
    assert (found.done_at, found.more_usd_micros) == (at(9_000), 176_112 * 9_000 // 3600)


def test_one_that_starts_needs_the_rest_of_its_start_too() -> None:
    assert seen(on=spot(), done_s=27_000, pending_s=250.0).done_at == at(9_250)


def test_a_place_of_twice_the_speed_is_done_in_half_the_time() -> None:
    assert seen(on=spot(speed=2.0)).done_at == at(18_000)


def test_what_trains_on_demand_is_reckoned_so() -> None:
    found = seen(on=on_demand(), done_s=32_400)
    assert found.more_usd_micros == ON_DEMAND + EXTRAS


def test_a_job_that_waits_is_reckoned_at_the_best_spot_offer_that_it_can_have() -> None:
    cheap, dear = spot(price=100_000), spot("us-east-1b", price=200_000)
    prices = {
        (cheap, dear): 100_000,
        (refused(), dear): 200_000,
        (on_demand(), dear): 200_000,
        (refused(), on_demand()): SPOT,  # nothing can be had: what is listed first
    }
    for candidates, price in prices.items():
        found = forecast(a_situation(None, *candidates), a_spec(), (), T0, Limits())
        assert found is not None
        assert found.more_usd_micros == (price + EXTRAS) * 36_600 // 3600


@pytest.mark.parametrize("changes", [{"work_left_s": None}, {"work_s": None}, {"candidates": ()}])
def test_where_nothing_is_known_nothing_is_foretold(changes: dict[str, Any]) -> None:
    situation = dataclasses.replace(a_situation(None), **changes)
    assert forecast(situation, a_spec(), (), T0, Limits()) is None


# -- caps --------------------------------------------------------------------------------------


def test_a_cap_stops_it_before_its_last_step_would_not_fit_in_any_more() -> None:
    """1 USD: less 0.135528 for the last step, 0.864472 pay 17,671.1 s at 0.176112 USD an hour.
    600 s of them are the start."""
    found = seen(a_balance(1_000_000))
    assert found.cap is not None
    assert found.cap.usd_micros == 1_000_000
    assert found.cap_at is not None
    assert round((found.cap_at - T0).total_seconds(), 1) == 17_671.1
    assert found.cap_progress == pytest.approx((17_671.1 - 600) / 36_000, abs=1e-5)
    assert found.done_at == at(36_600), "when it would be done without the cap"


def test_what_is_spent_is_not_there_any_more() -> None:
    found = seen(a_balance(1_000_000, 500_000), on=spot(), done_s=18_000)
    # 0.364472 pay 7,450.3 s of training; half of the work was done before.
    assert found.cap_progress == pytest.approx(0.5 + 7_450.3 / 36_000, abs=1e-5)


def test_a_cap_that_is_spent_stops_it_now() -> None:
    found = seen(a_balance(100_000, 90_000), on=spot(), done_s=18_000)
    assert (found.cap_at, found.cap_progress) == (T0, 0.5)


def test_a_cap_that_pays_to_the_end_is_no_news() -> None:
    enough = paid_by(36_601)
    assert seen(a_balance(enough)).cap is None
    assert seen(a_balance(enough - 2 * RATE // 3600 - 2)).cap is not None


def test_of_several_caps_the_first_that_stops_it() -> None:
    own = a_balance(paid_by(20_000))
    owners = a_balance(paid_by(10_000), scope=Scope.OWNER, name="alice")
    installation = a_balance(paid_by(30_000), scope=Scope.INSTALLATION, name="")
    found = seen(own, owners, installation)
    assert found.cap == owners.cap


def by_day(usd_micros: int, begin_s: float, end_s: float) -> Balance:
    return a_balance(
        usd_micros,
        scope=Scope.INSTALLATION,
        name="",
        day=at(begin_s).date(),
        begin=at(begin_s),
        end=at(end_s),
    )


def test_a_days_cap_stops_it_only_on_that_day() -> None:
    """Its midnight, four hours from now, gives the next one."""
    for paid_s, stops in ((14_399, True), (14_401, False)):
        assert (seen(by_day(paid_by(paid_s), -7200, 14_400)).cap is not None) is stops


def test_tomorrows_cap_is_not_foretold() -> None:
    assert seen(by_day(1, 14_400, 14_400 + 86_400)).cap is None


# -- windows -----------------------------------------------------------------------------------


def at_night(days: tuple[int, ...] = tuple(range(7))) -> JobSpec:
    """22:00-07:00 in UTC: from T0, a Sunday's noon, on it opens in ten hours."""
    return a_spec(window=Window(start_min=1320, stop_min=420, tz="UTC", days=days))


def test_only_the_hours_of_the_window_count() -> None:
    """10 h 10 min: nine hours in the first night, 70 minutes in the second."""
    found = seen(spec=at_night())
    assert found.done_at == dt.datetime(2026, 11, 2, 23, 10, tzinfo=dt.timezone.utc)
    assert found.more_usd_micros == 1_790_472


def test_a_cap_is_reached_in_the_window_too() -> None:
    """17,671.1 s after it opens at 22:00."""
    found = seen(a_balance(1_000_000), spec=at_night())
    assert found.cap_at is not None
    opens_at = dt.datetime(2026, 11, 1, 22, 0, tzinfo=dt.timezone.utc)
    assert round((found.cap_at - opens_at).total_seconds(), 1) == 17_671.1


def test_a_week_of_one_night_is_a_long_time() -> None:
    """Sunday nights only: nine hours tonight, the rest in a week."""
    found = seen(spec=at_night((6,)))
    assert found.done_at == dt.datetime(2026, 11, 8, 23, 10, tzinfo=dt.timezone.utc)


def test_what_takes_decades_is_never_done() -> None:
    assert seen(work_left_s=1e10, work_s=1e10).done_at == NEVER
    assert seen(work_left_s=1e10, work_s=1e10, spec=at_night()).done_at == NEVER


def test_the_constants_are_those_of_the_situations() -> None:
    assert (WORK_S, CHANGEOVER_S, RATE, LAST) == (36_000, 600, 176_112, 135_528)
