"""accrued + reserved <= cap: of each cap, in all and by day, whatever is launched or extended.

The figures of single payments are tables; that no sequence of payments breaks a cap is shown by
random rounds of `keep` and `place`, with a bill that is counted anew after each of them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotrunner.core.caps import Bound, Caps, Spent
from spotrunner.core.model import (
    Attempt,
    EndReason,
    Job,
    Limits,
    Pause,
)
from spotrunner.core.money import accrued, billed, exposure
from spotrunner.core.purse import (
    UNBOUNDED,
    Balance,
    Books,
    Cap,
    Payment,
    Purse,
    Scope,
    days,
)
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import midnight
from tests.build import (
    EXTRAS,
    JOB,
    ON_DEMAND,
    SPOT,
    a_job,
    a_report,
    a_snapshot,
    a_spec,
    an_attempt,
    an_instance,
    an_offer,
    at,
    attempt_after,
    decided,
    job_after,
    pending,
)
from tests.core.payments import Payments, spent_of, words

LIMITS = Limits()
UTC, SHANGHAI = "UTC", "Asia/Shanghai"
# Midnight in Shanghai is 16:00 UTC, four hours after T0.
MIDNIGHT_S = 4 * 3600
TODAY, TOMORROW = dt.date(2026, 11, 1), dt.date(2026, 11, 2)
OTHER = "other-0000"


def an_owned(
    job: str = JOB,
    *,
    owner: str = "alice",
    sweep: str = "",
    budget: int | None = None,
    sweep_budget: int | None = None,
    state: JobState = JobState.ACTIVE,
    submitted_s: float = 0,
) -> Job:
    spec = a_spec(
        owner=owner,
        sweep=sweep,
        budget_usd_micros=budget,
        sweep_budget_usd_micros=sweep_budget,
    )
    return a_job(state, id=job, spec=spec, submitted_s=submitted_s)


def books(
    *jobs: Job,
    attempts: tuple[Attempt, ...] = (),
    caps: Caps | None = None,
    spent: Spent | None = None,
    now_s: float = 600,
    seen_s: float | None = None,
) -> Books:
    return Books(
        caps=caps or Caps(),
        spent=spent or Spent(),
        jobs=jobs,
        attempts=attempts,
        seen_at=lambda _: None if seen_s is None else at(seen_s),
        limits=LIMITS,
        now=at(now_s),
    )


def left_of(found: Books, job: Job, until_s: float = 3600) -> dict[str, int]:
    """By the words of each cap: what it leaves."""
    purse = found.purse(job, at(until_s))
    return {str(each.cap): each.left_usd_micros for each in purse.balances}


# -- which caps a job is under -----------------------------------------------------------------

CAPS = Caps(
    tz=SHANGHAI,
    installation=Bound(total_usd_micros=90_000_000, day_usd_micros=40_000_000),
    owners={"alice": Bound(total_usd_micros=20_000_000)},
    each_owner=Bound(day_usd_micros=5_000_000),
)


def test_a_job_is_under_its_own_cap_its_sweeps_its_owners_and_the_installations() -> None:
    job = an_owned(budget=3_000_000, sweep="lr", sweep_budget=7_000_000)
    assert left_of(books(job, caps=CAPS), job) == {
        "the budget of 3.00 USD": 3_000_000,
        "the budget of the sweep lr of 7.00 USD": 7_000_000,
        "alice's budget of 20.00 USD": 20_000_000,
        "the budget of the installation of 90.00 USD": 90_000_000,
        "the budget of the installation of 40.00 USD on 2026-11-01": 40_000_000,
    }


def test_who_has_no_bound_of_their_own_has_everybodys() -> None:
    job = an_owned(owner="bob")
    assert "bob's budget of 5.00 USD on 2026-11-01" in left_of(books(job, caps=CAPS), job)


def test_a_payment_over_midnight_is_under_the_caps_of_both_days() -> None:
    job = an_owned(owner="bob")
    for until_s, counted in ((MIDNIGHT_S - 1, 1), (MIDNIGHT_S, 2), (MIDNIGHT_S + 86_400, 3)):
        found = left_of(books(job, caps=CAPS), job, until_s)
        assert len([cap for cap in found if cap.startswith("bob")]) == counted


def test_without_any_cap_everything_can_be_paid() -> None:
    job = an_owned()
    purse = books(job).purse(job, at(3600))
    assert purse == UNBOUNDED
    assert (purse.left_usd_micros, purse.tightest) == (None, None)
    assert purse.pays_s(a_payment(0, 10**6)) == 10**6
    assert purse.bound_by(a_payment(0, 10**6)) is None


def test_the_newest_job_of_a_sweep_that_names_a_cap_has_the_last_word() -> None:
    first = an_owned("a-0001", sweep="lr", sweep_budget=5_000_000)
    second = an_owned("a-0002", sweep="lr", sweep_budget=2_000_000, submitted_s=10)
    third = an_owned("a-0003", sweep="lr", submitted_s=20)
    found = books(first, second, third)
    for job in (first, second, third):
        assert left_of(found, job) == {"the budget of the sweep lr of 2.00 USD": 2_000_000}


# -- what counts under them --------------------------------------------------------------------


def test_what_was_spent_and_what_may_still_be_count_under_every_cap() -> None:
    """Of jobs that are over only the sums are known; an ended attempt of an open job is in them."""
    job = an_owned(budget=3_000_000, sweep="lr", sweep_budget=7_000_000)
    ended = an_attempt(1, AttemptState.ENDED, cost_usd_micros=200_000, ended_at=at(300))
    live = an_attempt(2, launched_s=0)
    spent = Spent(
        total_usd_micros=900_000,
        by_owner={"alice": 800_000, "bob": 100_000},
        by_sweep={"lr": 700_000},
        by_day={TODAY: 600_000},
    )
    found = books(job, attempts=(ended, live), caps=CAPS, spent=spent)
    reserved = exposure(live, LIMITS)
    assert left_of(found, job) == {
        "the budget of 3.00 USD": 3_000_000 - 200_000 - reserved,
        "the budget of the sweep lr of 7.00 USD": 7_000_000 - 700_000 - reserved,
        "alice's budget of 20.00 USD": 20_000_000 - 800_000 - reserved,
        "the budget of the installation of 90.00 USD": 90_000_000 - 900_000 - reserved,
        "the budget of the installation of 40.00 USD on 2026-11-01": 40_000_000
        - 600_000
        - reserved,
    }


def test_accrued_and_reserved_are_told_apart() -> None:
    job, live = an_owned(budget=3_000_000), an_attempt(launched_s=0)
    (balance,) = books(job, attempts=(live,), now_s=900).purse(job, at(3600)).balances
    assert balance.accrued_usd_micros == SPOT // 4
    assert balance.reserved_usd_micros == exposure(live, LIMITS) - SPOT // 4


def test_after_an_absence_nothing_is_spent_beyond_what_was_paid_for() -> None:
    """No listing shows it: by its order and its timer it has ended long ago."""
    job, live = an_owned(budget=3_000_000), an_attempt(launched_s=0)
    (balance,) = books(job, attempts=(live,), now_s=36_000).purse(job, at(36_600)).balances
    assert balance.accrued_usd_micros == billed(1800 + 120, (), SPOT)
    assert balance.left_usd_micros == 3_000_000 - exposure(live, LIMITS)


def test_what_others_reserve_counts_under_what_is_shared_only() -> None:
    mine, theirs = an_owned(budget=3_000_000), an_owned(OTHER, owner="bob")
    live = an_attempt(job=OTHER)
    left = left_of(books(mine, theirs, attempts=(live,), caps=CAPS), mine)
    assert left["the budget of 3.00 USD"] == 3_000_000
    assert left["alice's budget of 20.00 USD"] == 20_000_000
    whole = "the budget of the installation of 90.00 USD"
    assert left[whole] == 90_000_000 - exposure(live, LIMITS)


def test_what_outstays_its_time_counts_on() -> None:
    job, live = an_owned(budget=3_000_000), an_attempt(launched_s=0, paid_until_s=1800)
    found = books(job, attempts=(live,), now_s=3600, seen_s=3600)
    assert left_of(found, job) == {"the budget of 3.00 USD": 3_000_000 - ON_DEMAND}


def test_a_cap_that_was_lowered_below_what_is_reserved_leaves_less_than_nothing() -> None:
    job, live = an_owned(budget=100_000), an_attempt(launched_s=0)
    purse = books(job, attempts=(live,)).purse(job, at(3600))
    assert purse.left_usd_micros == 100_000 - exposure(live, LIMITS) < 0
    assert purse.pays_s(a_payment(1800, 1800)) == 0


def test_nothing_is_left_while_the_price_of_a_living_attempt_is_unknown() -> None:
    """Under any cap that it counts for: others' jobs too, where the cap is shared."""
    blind = an_attempt(job=OTHER, offer=an_offer(price=0, dearest=0))
    mine, theirs = an_owned(budget=3_000_000), an_owned(OTHER, owner="bob")
    shared = Caps(installation=Bound(total_usd_micros=9_000_000))
    for caps, left in ((Caps(), 3_000_000), (shared, 0)):
        purse = books(mine, theirs, attempts=(blind,), caps=caps).purse(mine, at(3600))
        assert purse.left_usd_micros == left
        assert (purse.pays_s(a_payment(0, 1800)) > 0) is (left > 0)
    over = dataclasses.replace(blind, state=AttemptState.ENDED, cost_usd_micros=0)
    purse = books(mine, theirs, attempts=(over,), caps=shared).purse(mine, at(3600))
    assert purse.left_usd_micros == 3_000_000


# -- days --------------------------------------------------------------------------------------


def day_left(live: Attempt, now_s: float, *, day: int = 40_000_000) -> tuple[int, int]:
    """What the caps of today and tomorrow leave, in Shanghai."""
    job = an_owned()
    caps = Caps(tz=SHANGHAI, installation=Bound(day_usd_micros=day))
    found = books(job, attempts=(live,), caps=caps, now_s=now_s)
    today, tomorrow = found.purse(job, at(MIDNIGHT_S)).balances
    return today.left_usd_micros, tomorrow.left_usd_micros


def test_each_day_holds_its_own_part_of_a_reservation() -> None:
    """Launched 600 s before midnight for 1800 s and the slack of 120: 1320 s are tomorrow's."""
    launched_s = MIDNIGHT_S - 600
    live = an_attempt(intent_s=launched_s, launched_s=launched_s, paid_until_s=launched_s + 1800)
    today, tomorrow = day_left(live, launched_s + 60)
    assert today == 40_000_000 - billed(600, (), ON_DEMAND)
    # 2: the roundings of the two bills whose difference it is
    assert tomorrow == 40_000_000 - (billed(1920, (), ON_DEMAND) - billed(600, (), ON_DEMAND)) - 2


def test_a_launch_that_ec2_has_not_confirmed_may_be_either_days() -> None:
    """It may begin 120 s later than it was wanted, so that much more may be tomorrow's; and 5 s
    before, by EC2's clock."""
    wanted_s = MIDNIGHT_S - 600
    live = pending(intent_s=wanted_s, sent_s=None, paid_until_s=wanted_s + 1800)
    today, tomorrow = day_left(live, wanted_s)
    assert today == 40_000_000 - billed(600 + 5, (), ON_DEMAND)
    assert tomorrow == 40_000_000 - billed(1320 + 120, (), ON_DEMAND) - 2


def test_what_was_spent_yesterday_is_no_matter_today() -> None:
    """An attempt of two days: each holds what was its own, and an ended one what was booked."""
    live = an_attempt(launched_s=MIDNIGHT_S - 3600, paid_until_s=MIDNIGHT_S + 5400)
    ended = dataclasses.replace(
        live, state=AttemptState.ENDED, ended_at=at(MIDNIGHT_S + 3600), end_reason=EndReason.DONE
    )
    cost = accrued(ended, at(MIDNIGHT_S + 3600))
    ended = dataclasses.replace(ended, cost_usd_micros=cost)
    spent = spent_of([ended], [an_owned()], SHANGHAI)
    job = an_owned()
    caps = Caps(tz=SHANGHAI, installation=Bound(day_usd_micros=40_000_000))
    found = books(job, attempts=(ended,), caps=caps, spent=spent, now_s=MIDNIGHT_S + 4000)
    (today,) = found.purse(job, at(MIDNIGHT_S + 5000)).balances
    assert (today.cap.day, today.accrued_usd_micros) == (TOMORROW, ON_DEMAND)
    assert cost == 2 * ON_DEMAND


@pytest.mark.parametrize(
    ("tz", "begin_s", "end_s", "lengths_h"),
    [
        (UTC, 0, 1, [24]),
        (UTC, 0, 12 * 3600 - 1, [24]),
        (UTC, 0, 12 * 3600, [24, 24]),
        # T0 is noon in UTC on the day on which New York's clocks go back.
        ("America/New_York", 0, 1, [25]),
        ("America/New_York", -86_400, 0, [24, 25]),
    ],
)
def test_days_are_those_of_the_zone(
    tz: str, begin_s: float, end_s: float, lengths_h: list[int]
) -> None:
    found = [(end - begin).total_seconds() for _, begin, end in days(tz, at(begin_s), at(end_s))]
    assert found == [3600 * hours for hours in lengths_h]


# -- what a purse pays -------------------------------------------------------------------------


def a_payment(begin_s: float, wanted_s: int, rate: int = ON_DEMAND, **changes: object) -> Payment:
    fields: dict[str, object] = {"launched_at": at(0)}
    return Payment(
        begin=at(begin_s),
        wanted_s=wanted_s,
        usd_micros_hour=rate,
        **{**fields, **changes},  # type: ignore[arg-type]
    )


def a_purse_of(*lefts: int, days_from: int | None = None) -> Purse:
    """Caps in all; from index `days_from` on, those of today and the next days in Shanghai."""
    balances = []
    for n, left in enumerate(lefts):
        begin = end = day = None
        if days_from is not None and n >= days_from:
            day = TODAY + dt.timedelta(days=n - days_from)
            begin, end = midnight(SHANGHAI, day), midnight(SHANGHAI, day + dt.timedelta(days=1))
        cap = Cap(
            scope=Scope.INSTALLATION, name=str(n), usd_micros=left, day=day, begin=begin, end=end
        )
        balances.append(Balance(cap=cap, accrued_usd_micros=0, reserved_usd_micros=0))
    return Purse(balances=tuple(balances))


# One second costs 100 micro-dollars; 2 are kept back for roundings, and 2 more under a day's cap.
RATE = 360_000


@pytest.mark.parametrize(
    ("left", "pays_s"), [(0, 0), (-1, 0), (101, 0), (102, 1), (180_001, 1799), (180_002, 1800)]
)
def test_a_cap_pays_whole_seconds(left: int, pays_s: int) -> None:
    assert a_purse_of(left).pays_s(a_payment(0, 1800, RATE)) == pays_s


def test_the_tightest_of_several_pays() -> None:
    purse = a_purse_of(100_002, 50_002, 70_002)
    payment = a_payment(0, 1800, RATE)
    assert purse.pays_s(payment) == 500
    assert purse.tightest == purse.balances[1] == purse.bound_by(payment)
    assert a_purse_of(10**6, 10**6).bound_by(payment) is None


def test_what_is_due_at_once_is_paid_first() -> None:
    payment = a_payment(0, 1800, RATE, moved_usd_micros=50_000)
    assert a_purse_of(150_002).pays_s(payment) == 1000
    assert a_purse_of(40_000).pays_s(payment) == 0


@pytest.mark.parametrize(
    ("today", "tomorrow", "pays_s"),
    [
        (60_004, 120_004, 1800),  # 600 s today, 1200 s tomorrow: to the micro-dollar
        (60_003, 120_004, 599),
        (60_004, 120_003, 600 + 1199),
        (60_004, 0, 600),
        (0, 10**9, 0),
        (10**9, 119_904, 600 + 1199),
    ],
)
def test_a_payment_over_midnight_is_bounded_by_both_days(
    today: int, tomorrow: int, pays_s: int
) -> None:
    purse = a_purse_of(today, tomorrow, days_from=0)
    assert purse.pays_s(a_payment(MIDNIGHT_S - 600, 1800, RATE)) == pays_s


@pytest.mark.parametrize(
    ("begin_s", "pays_s"),
    [
        (MIDNIGHT_S - 1800, 0),  # it ends at midnight: all of it is today's
        (MIDNIGHT_S - 1, 0),
        (MIDNIGHT_S, 1800),
        (MIDNIGHT_S + 5, 1800),
    ],
)
def test_a_day_that_is_spent_hinders_no_other(begin_s: float, pays_s: int) -> None:
    purse = a_purse_of(0, 10**9, days_from=0)
    assert purse.pays_s(a_payment(begin_s, 1800, RATE)) == pays_s


def test_the_next_day_is_asked_only_for_what_reaches_it() -> None:
    purse = a_purse_of(10**9, 0, days_from=0)
    assert purse.pays_s(a_payment(MIDNIGHT_S - 1800, 1800, RATE)) == 1800
    assert purse.pays_s(a_payment(MIDNIGHT_S - 1800, 1801, RATE)) == 1800


def test_a_begun_second_before_midnight_is_todays() -> None:
    payment = a_payment(MIDNIGHT_S - 600.5, 1800, RATE)
    assert a_purse_of(60_104, 10**9, days_from=0).pays_s(payment) == 1800
    assert a_purse_of(60_103, 10**9, days_from=0).pays_s(payment) == 600


def test_a_launch_may_be_late_and_so_the_next_days() -> None:
    """Ten minutes and 120 s before midnight: 600 s are surely today's, 1320 may be tomorrow's."""
    payment = a_payment(MIDNIGHT_S - 600, 1800, RATE, late_s=120)
    for today, tomorrow, pays_s in (
        (60_004, 132_004, 1800),
        (60_004, 132_003, 480 + 1319),
        (60_003, 132_004, 599),
    ):
        assert a_purse_of(today, tomorrow, days_from=0).pays_s(payment) == pays_s


def test_a_launch_seconds_before_midnight_is_charged_a_minute_today() -> None:
    payment = a_payment(MIDNIGHT_S - 10, 1800, RATE, late_s=120)
    assert a_purse_of(6_004, 10**9, days_from=0).pays_s(payment) == 1800
    assert a_purse_of(6_003, 10**9, days_from=0).pays_s(payment) == 0
    # What runs already has had its minute.
    assert a_purse_of(1_004, 10**9, days_from=0).pays_s(a_payment(MIDNIGHT_S - 10, 1800, RATE))


def test_bytes_are_the_launchs_days() -> None:
    """360 micro-dollars an hour of bytes make 180 of 1800 s; 1000 are due at once."""
    for launched_s, today in ((0, 1_180), (-86_400, 0)):
        payment = a_payment(
            MIDNIGHT_S + 1,
            1800,
            RATE,
            launched_at=at(launched_s),
            moved_usd_micros=1_000,
            moved_usd_micros_hour=360,
        )
        purse = a_purse_of(today + 4, 180_004, days_from=0)
        assert purse.pays_s(payment) == 1800
        assert a_purse_of(today + 3, 180_003, days_from=0).pays_s(payment) < 1800


# -- in one round ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1_020, 1_500, 2_039])
def test_two_jobs_that_race_for_the_last_dollar_get_only_what_is_there(seconds: int) -> None:
    """There is enough for one start, and not for two."""
    jobs = [an_owned(id, state=JobState.QUEUED) for id in (JOB, OTHER)]
    bound = -(-(ON_DEMAND + EXTRAS) * seconds // 3600) + 2
    for caps in (
        Caps(installation=Bound(total_usd_micros=bound)),
        Caps(owners={"alice": Bound(total_usd_micros=bound)}),
        Caps(each_owner=Bound(day_usd_micros=bound + 2)),
    ):
        snapshot = a_snapshot(jobs=jobs, caps=caps)
        plan = decided(snapshot)
        (launch,) = plan.launches
        assert exposure(launch.attempt, LIMITS) <= bound
        assert launch.attempt.first_paid_s == min(1800, seconds - 120)
        late = job_after(plan, snapshot, OTHER)
        assert (late.state, late.pause) == (JobState.PAUSED, Pause.BUDGET)


def test_who_runs_is_paid_on_before_anybody_starts() -> None:
    running = an_attempt()
    jobs = [an_owned(OTHER, state=JobState.QUEUED), an_owned()]
    bound = exposure(running, LIMITS) + billed(900, (), ON_DEMAND) + 2
    snapshot = a_snapshot(
        900,
        jobs=jobs,
        attempts=[running],
        instances=[an_instance(running)],
        reports=[a_report(at_s=890)],
        caps=Caps(installation=Bound(total_usd_micros=bound)),
    )
    plan = decided(snapshot)
    assert not plan.launches
    assert attempt_after(plan, snapshot).paid_until == at(2700)


# -- whatever happens --------------------------------------------------------------------------

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_no_sequence_of_payments_breaks_a_cap(seed: int) -> None:
    payments = Payments(random.Random(seed))
    for _ in range(40):
        payments.step()
        for balance in payments.balances():
            assert balance.left_usd_micros >= 0, words(balance, payments.now)


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_books_that_are_kept_up_are_those_that_are_made_anew(seed: int) -> None:
    """Of the same values: launches, extensions, and ends that the store has summed up since."""
    payments = Payments(random.Random(seed))
    for _ in range(20):
        payments.step()
        assert list(payments.kept_up()) == list(payments.counted_anew())
