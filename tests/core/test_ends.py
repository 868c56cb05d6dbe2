from __future__ import annotations

import dataclasses

import pytest

from spotrunner.core.model import (
    EndedBy,
    EndReason,
    InstanceState,
    Market,
    Phase,
    Report,
)
from spotrunner.core.money import billed
from spotrunner.core.states import AttemptState
from tests.build import (
    ON_DEMAND,
    SPOT,
    a_notice,
    a_quote,
    a_report,
    a_running_snapshot,
    a_snapshot,
    an_attempt,
    an_instance,
    an_offer,
    at,
)
from tests.core.settling import ID, an_end, attempt_of, settled


@pytest.mark.parametrize(
    ("by", "notice", "ending", "reason"),
    [
        (EndedBy.EC2, True, None, EndReason.INTERRUPTED),
        (EndedBy.EC2, False, None, EndReason.INTERRUPTED),
        (EndedBy.EC2, False, EndReason.SILENT, EndReason.INTERRUPTED),
        (EndedBy.EC2, False, EndReason.DONE, EndReason.DONE),
        (EndedBy.EC2, False, EndReason.FAILED, EndReason.FAILED),
        (EndedBy.EC2, False, EndReason.CANCELLED, EndReason.CANCELLED),
        (EndedBy.US, False, EndReason.SILENT, EndReason.SILENT),
        (EndedBy.ITSELF, False, EndReason.UNPAID, EndReason.UNPAID),
        (EndedBy.ITSELF, False, None, EndReason.FAULT),
        (EndedBy.FAULT, False, None, EndReason.FAULT),
        (EndedBy.UNKNOWN, True, None, EndReason.INTERRUPTED),
        # It handed over and ended itself before EC2 could.
        (EndedBy.ITSELF, True, EndReason.SUPERSEDED, EndReason.INTERRUPTED),
        (EndedBy.ITSELF, False, EndReason.SUPERSEDED, EndReason.SUPERSEDED),
    ],
)
def test_why_it_ended(
    by: EndedBy, notice: bool, ending: EndReason | None, reason: EndReason
) -> None:
    state = AttemptState.RUNNING if ending is None else AttemptState.TERMINATING
    attempt = an_attempt(
        1, state, notice=a_notice(1800) if notice else None, ending=ending, ending_s=1000
    )
    ended = attempt_of(an_end(attempt, by=by))
    assert (ended.state, ended.end_reason) == (AttemptState.ENDED, reason)


@pytest.mark.parametrize(
    ("ended_s", "by", "market", "micros"),
    [
        (3604, EndedBy.EC2, Market.SPOT, 0),
        (3605, EndedBy.EC2, Market.SPOT, SPOT),
        (1805, EndedBy.US, Market.SPOT, SPOT // 2),
        (1805, EndedBy.ITSELF, Market.SPOT, SPOT // 2),
        (1805, EndedBy.UNKNOWN, Market.SPOT, SPOT // 2),
        (1805, EndedBy.EC2, Market.ON_DEMAND, ON_DEMAND // 2),
        (5405, EndedBy.EC2, Market.SPOT, SPOT + 200_000 // 2),
    ],
)
def test_what_it_cost(ended_s: int, by: EndedBy, market: Market, micros: int) -> None:
    quotes = (a_quote(-999, SPOT), a_quote(3600, 200_000))
    attempt = an_attempt(offer=an_offer(market=market))
    ended = attempt_of(an_end(attempt, ended_s=ended_s, by=by, now_s=9000, quotes=quotes))
    assert ended.cost_usd_micros == micros
    assert ended.ended_at == at(ended_s)


@pytest.mark.parametrize(
    ("read_s", "reports", "lived_s"),
    [
        (None, (), 600),  # the round's own time
        (1200, (), 1200),  # its host slept between its first look and the listing
        (99_999, (), 1800 + 120),  # for ever so long: not beyond what was paid
        (1200, (a_report(ID, 900, Phase.UNPAID),), 960),  # the last word tells better
        (None, (a_report(ID, 900, Phase.TRAIN),), 900),  # it lived after our `now`
    ],
)
def test_an_end_without_a_time_is_not_before_it_was_read(
    read_s: float | None, reports: tuple[Report, ...], lived_s: int
) -> None:
    attempt = an_attempt(launched_s=0)
    ended = an_instance(attempt, InstanceState.ENDED, ended_by=EndedBy.ITSELF)
    read_at = None if read_s is None else at(read_s)
    snapshot = a_snapshot(
        600, attempts=[attempt], instances=[ended], reports=reports, read_at=read_at
    )
    assert attempt_of(snapshot).ended_at == at(lived_s)


def test_what_was_told_its_last_step_and_powered_off_unheard_ended_by_the_budget() -> None:
    attempt = an_attempt(end_detail="the budget pays no further step")
    ended = attempt_of(an_end(attempt, ended_s=1790, by=EndedBy.ITSELF, now_s=1830))
    assert ended.end_reason is EndReason.BUDGET


def test_an_hour_whose_price_is_not_known_is_booked_at_the_dearest() -> None:
    ended = attempt_of(an_end(ended_s=1805, by=EndedBy.US, quotes=()))
    assert ended.cost_usd_micros == ON_DEMAND // 2


def test_an_unlisted_end_is_booked_to_the_last_word_else_to_the_end_of_its_time() -> None:
    attempt = an_attempt(launched_s=0)
    gone = a_snapshot(9999, attempts=[attempt], not_found=frozenset({f"i-{ID}"}))
    assert attempt_of(gone).cost_usd_micros == billed(1920, (), ON_DEMAND)
    last = a_report(at_s=1000, phase=Phase.UNPAID)
    told = dataclasses.replace(gone, reports={ID: last})
    assert attempt_of(told).cost_usd_micros == billed(1060, (), ON_DEMAND)
    trains = dataclasses.replace(gone, reports={ID: a_report(at_s=1000)})
    idled = dataclasses.replace(
        gone, reports={ID: a_report(at_s=1000, phase=Phase.FENCED, notice=a_notice(1100))}
    )
    for no_end in (trains, idled):
        assert attempt_of(no_end).cost_usd_micros == billed(1920, (), ON_DEMAND)


def test_prices_are_noted_when_an_hour_is_over_and_not_before() -> None:
    quotes = (a_quote(-999, 150_000), a_quote(3000, 170_000), a_quote(7000, 190_000))
    for now_s, hours in ((3604, ()), (3605, (150_000,)), (7205, (150_000, 170_000))):
        attempt = attempt_of(a_running_snapshot(now_s, quotes=quotes))
        assert attempt.hour_prices_usd_micros == hours


def test_an_hour_without_a_quote_stays_open() -> None:
    assert attempt_of(a_running_snapshot(4000)).hour_prices_usd_micros == ()


def test_a_pool_that_took_an_instance_is_avoided() -> None:
    for snapshot in (
        an_end(by=EndedBy.EC2),
        # EC2 said only at the end who it was
        an_end(an_attempt(1, AttemptState.TERMINATING, ending=EndReason.FAULT, ending_s=1)),
        a_running_snapshot(reports=(a_report(notice=a_notice(700)),)),
        a_running_snapshot(
            instances=(an_instance(state=InstanceState.ENDING, ended_by=EndedBy.EC2),)
        ),
    ):
        (refusal,) = settled(snapshot).plan().refusals
        assert refusal.pool == an_attempt().offer.pool


def test_an_end_of_our_own_says_nothing_of_the_pool() -> None:
    for by in (EndedBy.US, EndedBy.ITSELF, EndedBy.FAULT):
        assert not settled(an_end(by=by)).plan().refusals


def test_shutting_down_is_as_good_as_gone_for_the_replacement_but_not_yet_an_end() -> None:
    instance = an_instance(state=InstanceState.ENDING, ended_by=EndedBy.EC2)
    attempt = attempt_of(a_running_snapshot(instances=(instance,)))
    assert (attempt.state, attempt.ending) == (AttemptState.TERMINATING, EndReason.INTERRUPTED)
    assert attempt.cost_usd_micros is None
