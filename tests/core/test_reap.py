from __future__ import annotations

from typing import Any

import pytest

from spotrunner.core.draft import Draft
from spotrunner.core.model import (
    Attempt,
    EndReason,
    Instance,
    InstanceState,
    Limits,
    Phase,
    Snapshot,
)
from spotrunner.core.money import bill_end, billed, exposure
from spotrunner.core.reap import reap
from spotrunner.core.states import AttemptState, JobState
from tests.build import (
    EXTRAS,
    INSTALLATION,
    JOB,
    ON_DEMAND,
    a_job,
    a_notice,
    a_report,
    a_running_snapshot,
    a_snapshot,
    a_spec,
    after,
    an_attempt,
    an_instance,
    an_offer,
    applied,
    at,
    attempt_after,
    decided,
    kinds,
)

ID = f"{JOB}.1"


def reaped(snapshot: Snapshot) -> Draft:
    return after(reap, snapshot)


def terminated(snapshot: Snapshot) -> list[str]:
    return [act.instance_id for act in reaped(snapshot).plan().terminations]


def a_stranger(age_s: float = 500, now_s: float = 600, **changes: Any) -> Instance:
    """It carries our installation's tag and nobody knows its job."""
    fields: dict[str, Any] = {
        "id": "i-9",
        "job_id": "gone-0000",
        "attempt_id": "gone-0000.3",
        **changes,
    }
    return an_instance(launched_s=now_s - age_s, **fields)


# -- who is an orphan --------------------------------------------------------------------------


@pytest.mark.parametrize(("age_s", "is_orphan"), [(0, False), (29, False), (30, True)])
def test_what_is_younger_than_thirty_seconds_is_left_alone(age_s: float, is_orphan: bool) -> None:
    assert bool(terminated(a_snapshot(instances=[a_stranger(age_s)]))) is is_orphan


@pytest.mark.parametrize("state", list(InstanceState))
def test_only_what_costs_money_is_reaped(state: InstanceState) -> None:
    stranger = a_stranger(state=state)
    assert bool(terminated(a_snapshot(instances=[stranger]))) is stranger.billed


def test_other_installations_are_none_of_our_business() -> None:
    for installation in (None, "inst-of-somebody-else"):
        assert not terminated(a_snapshot(instances=[a_stranger(installation=installation)]))
    assert terminated(a_snapshot(instances=[a_stranger(installation=INSTALLATION)]))


def test_who_has_an_owner_is_left_alone() -> None:
    for state in AttemptState:
        if state.live:
            attempt = an_attempt(1, state)
            assert not terminated(a_running_snapshot(attempt=attempt))


def test_an_instance_without_tags_of_an_attempt_is_terminated() -> None:
    bare = a_stranger(job_id=JOB, attempt_id=None)
    assert terminated(a_running_snapshot(instances=(bare,))) == ["i-9"]


def test_a_second_instance_of_an_attempt_is_terminated_at_once() -> None:
    """Two writers with one generation: fencing could not tell them apart."""
    second = an_instance(id="i-second")
    snapshot = a_running_snapshot(instances=(an_instance(), second))
    assert terminated(snapshot) == ["i-second"]


@pytest.mark.parametrize(("age_s", "is_orphan"), [(30, False), (3600, False), (3910, True)])
def test_an_instance_that_an_image_is_made_on_is_an_orphan_when_it_has_not_ended_itself(
    age_s: float, is_orphan: bool
) -> None:
    bench = a_stranger(age_s, now_s=5000, job_id=None, attempt_id="bake:7f3a")
    assert bool(terminated(a_snapshot(5000, instances=[bench]))) is is_orphan


# -- orphans of a job that we know -------------------------------------------------------------


def adopted(snapshot: Snapshot) -> Attempt:
    return reaped(snapshot).attempts[f"{JOB}.7"]


def an_orphan(launched_s: float = 100) -> Instance:
    return an_instance(an_attempt(7), launched_s=launched_s)


def test_an_orphan_of_a_known_job_is_adopted_and_told_to_stop_first() -> None:
    snapshot = a_snapshot(instances=[an_orphan()])
    assert not terminated(snapshot)
    orphan = adopted(snapshot)
    assert (orphan.state, orphan.ending) == (AttemptState.TERMINATING, EndReason.ORPHANED)
    assert (orphan.generation, orphan.instance_id) == (7, f"i-{JOB}.7")
    assert orphan.ending_at == at(600)
    plan = decided(snapshot)
    assert [posted.order.verb.value for posted in plan.orders if posted.order.box == orphan.id] == [
        "stop"
    ]


def test_an_orphan_of_a_job_that_is_over_is_adopted_too() -> None:
    over = a_job(JobState.SUCCEEDED, ended_at=at(1))
    assert adopted(a_snapshot(jobs=[over], instances=[an_orphan()])).state.live


@pytest.mark.parametrize(("now_s", "ends"), [(899, False), (900, True)])
def test_an_orphan_is_terminated_after_five_minutes(now_s: float, ends: bool) -> None:
    first = a_snapshot(instances=[an_orphan()])
    plan = decided(applied(first, decided(first), now_s=now_s))
    assert ([act.instance_id for act in plan.terminations] == [f"i-{JOB}.7"]) is ends


def test_an_orphan_reserves_what_it_may_have_been_paid_for() -> None:
    """It ran for 500 s, and it may have an order for a whole step that we know nothing of."""
    orphan = adopted(a_snapshot(instances=[an_orphan()]))
    seconds = 500 + 1800 + 120
    assert exposure(orphan, Limits()) == billed(seconds, (), ON_DEMAND) + billed(
        seconds, (), EXTRAS
    )


def test_one_that_is_paid_far_ahead_reserves_as_far() -> None:
    jobs = [a_job(spec=a_spec(unattended_s=4 * 3600))]
    orphan = adopted(a_snapshot(jobs=jobs, instances=[an_orphan()]))
    assert bill_end(orphan, Limits()) == at(600 + 4 * 3600 + 120)


def test_an_orphan_in_a_pool_without_a_price_is_booked_like_the_dearest_known() -> None:
    orphan = an_instance(an_attempt(7, offer=an_offer("us-east-1c")), launched_s=100)
    assert adopted(a_snapshot(instances=[orphan])).offer.dearest_usd_micros_hour == 580_000


def test_while_no_price_is_known_an_orphan_blocks_the_cap_and_is_priced_later() -> None:
    blind = a_snapshot(instances=[an_orphan()], offers=())
    orphan = adopted(blind)
    assert orphan.offer.dearest_usd_micros_hour == 0
    later = a_snapshot(attempts=[orphan], instances=[an_orphan()])
    assert reaped(later).attempts[orphan.id].offer.dearest_usd_micros_hour == ON_DEMAND


def test_what_turns_up_after_it_was_given_up_is_opened_again() -> None:
    lost = an_attempt(
        1,
        AttemptState.ENDED,
        end_reason=EndReason.LOST,
        ended_at=at(500),
        cost_usd_micros=77,
        step_after=4,
    )
    found = reaped(a_running_snapshot(attempt=lost)).attempts[ID]
    assert (found.state, found.ending) == (AttemptState.TERMINATING, EndReason.ORPHANED)
    assert (found.cost_usd_micros, found.end_reason, found.ended_at) == (None, None, None)
    assert found.step_after is None


def test_what_turns_up_after_its_paid_time_is_terminated() -> None:
    lost = an_attempt(1, AttemptState.ENDED, end_reason=EndReason.LOST, ended_at=at(500))
    first = a_running_snapshot(4000, attempt=lost)
    second = applied(first, decided(first), now_s=4015)
    assert [act.instance_id for act in decided(second).terminations] == [f"i-{ID}"]


def test_the_reaper_too_leaves_the_free_first_hour_to_ec2() -> None:
    first = a_snapshot(instances=[an_orphan()])
    noticed = a_report(f"{JOB}.7", 610, Phase.IDLE, notice=a_notice(720))
    snapshot = applied(first, decided(first), now_s=890)
    again = applied(
        snapshot,
        decided(
            a_snapshot(
                890,
                attempts=snapshot.attempts,
                instances=[an_orphan()],
                reports=[noticed],
            )
        ),
        now_s=899,
    )
    assert not decided(again).terminations


# -- mail --------------------------------------------------------------------------------------


def test_the_letters_of_the_ended_go_to_their_jobs() -> None:
    attempts = [an_attempt(1, AttemptState.ENDED), an_attempt(2)]
    boxes = [f"{JOB}.1", f"{JOB}.2", "gone-0000.4"]
    archives = reaped(a_snapshot(attempts=attempts, boxes=boxes)).plan().archives
    assert [(act.box, act.job_id) for act in archives] == [
        (f"{JOB}.1", JOB),
        ("gone-0000.4", "gone-0000"),
    ]


def test_a_box_that_only_the_mail_knows_stays_while_its_job_lives() -> None:
    """The store was restored: the letters say which generations were handed out."""
    assert not reaped(a_snapshot(boxes=[f"{JOB}.9"])).plan().archives


def test_so_many_a_round() -> None:
    boxes = [f"gone-0000.{n}" for n in range(50)]
    assert len(reaped(a_snapshot(boxes=boxes)).plan().archives) == Limits().archives_a_round


def test_a_round_without_orphans_says_nothing() -> None:
    assert not kinds(decided(a_running_snapshot()))
    assert attempt_after(decided(a_running_snapshot()), a_running_snapshot()).state.live
