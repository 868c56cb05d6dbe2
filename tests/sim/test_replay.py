"""One run of a back-test, read as a story, and held to the bill by hand."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotrunner.core.model import (
    Attempt,
    DataSource,
    EndReason,
    JobSpec,
    Limits,
    Market,
    Notice,
    Pause,
    Pool,
    PriceLimit,
    Refusal,
    Refused,
)
from spotrunner.core.money import moved_cost, usd
from spotrunner.core.policy.named import policies
from spotrunner.core.sight import sights
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window, closes_at, is_open
from spotrunner.daemon.tables import TablesOnDemand
from spotrunner.sim.replay import Replay, rates
from spotrunner.sim.scene import Scene
from spotrunner.sim.sightings import Sightings
from tests.build import EXTRAS, ON_DEMAND, SPOT, T0, a_spec, an_offer, at
from tests.sim.scenes import (
    PACES,
    a_bill,
    a_job_of,
    a_pool_scene,
    a_replay,
    a_scene,
    hour,
    pool_scenes,
    scenes,
)

DEARER = 170_000
COMMIT_S = PACES.commit_s
NOTICE_S = 11_160  # 3.1 h, when no round is due


def reasons(replay: Replay) -> list[EndReason | None]:
    return [attempt.end_reason for attempt in replay.attempts]


def zones(replay: Replay) -> list[str]:
    return [attempt.offer.pool.zone for attempt in replay.attempts]


def kinds(replay: Replay) -> list[str]:
    return [event.kind for event in replay.events]


def test_nothing_happens_and_it_costs_the_changeover_and_the_work() -> None:
    replay = a_replay(a_job_of(8), a_scene())
    run = replay.run()
    assert run.finished_at == hour(8) + dt.timedelta(seconds=PACES.changeover_s)
    assert run.cost_usd_micros == a_bill(8 * 3600 + 300, SPOT)
    assert reasons(replay) == [EndReason.DONE]
    assert (run.interruptions, run.launches, run.refusals, run.on_demand_share) == (0, 1, 0, 0.0)
    assert replay.job.state is JobState.SUCCEEDED


def test_on_demand_is_what_it_is_measured_against() -> None:
    run = a_replay(a_job_of(8), a_scene(), "on_demand").run()
    assert run.cost_usd_micros == a_bill(8 * 3600 + 300, ON_DEMAND)
    assert run.on_demand_share == 1.0


def test_the_price_at_the_start_of_each_hour_holds_for_it() -> None:
    scene = a_scene(a_pool_scene(prices=((0, SPOT), (1.5, 200_000), (1.6, 300_000))))
    run = a_replay(a_job_of(2.5), scene).run()
    assert run.cost_usd_micros == a_bill(2.5 * 3600 + 300, SPOT, SPOT, 300_000)


def test_a_notice_is_followed_by_another_zone_and_nothing_is_lost() -> None:
    scene = a_scene(
        a_pool_scene("us-east-1a", shut=[(3.1, 9)]),
        a_pool_scene("us-east-1b", prices=((0, DEARER),)),
    )
    replay = a_replay(a_job_of(8), scene)
    run = replay.run()
    assert zones(replay) == ["us-east-1a", "us-east-1b"]
    assert reasons(replay) == [EndReason.INTERRUPTED, EndReason.DONE]
    first, second = replay.attempts
    # It trains on through its notice, and ends itself before EC2 does: it pays for its time.
    trained_s = NOTICE_S + 120 - (3 * COMMIT_S + PACES.safety_s)
    assert first.ended_at == at(trained_s + COMMIT_S)
    assert first.cost_usd_micros == a_bill(trained_s + COMMIT_S, SPOT)
    assert second.launched_at == at(NOTICE_S + PACES.lag_s)
    assert second.first_step_at == at(NOTICE_S + PACES.lag_s + 300)
    assert second.step_before == NOTICE_S - 300  # what the notice's own commit saved
    left_s = 8 * 3600 - (trained_s - 300)
    assert run.finished_at == second.first_step_at + dt.timedelta(seconds=left_s)
    assert second.launched_at is not None
    assert run.finished_at is not None
    lived_s = (run.finished_at - second.launched_at).total_seconds()
    assert run.cost_usd_micros == (first.cost_usd_micros or 0) + a_bill(lived_s, DEARER)
    assert run.interruptions == 1


def test_an_hour_that_ec2_cuts_short_is_free() -> None:
    scene = a_scene(
        a_pool_scene("us-east-1a", shut=[(0.5, 9)]),
        a_pool_scene("us-east-1b", prices=((0, DEARER),)),
    )
    replay = a_replay(a_job_of(2), scene)
    run = replay.run()
    first, second = replay.attempts
    assert first.end_reason is EndReason.INTERRUPTED
    # Its disk and its address are not: they lived until EC2 took it.
    lived_s = 0.5 * 3600 + PACES.notice_s
    assert first.free
    assert first.cost_usd_micros == a_bill(lived_s, 0) == -(-1920 * EXTRAS // 3600)
    assert run.cost_usd_micros == first.cost_usd_micros + (second.cost_usd_micros or 0)


def test_a_refusal_is_followed_by_the_next_pool_at_once() -> None:
    scene = a_scene(
        a_pool_scene("us-east-1a", shut=[(0, 20)]),
        a_pool_scene("us-east-1b", prices=((0, DEARER),)),
    )
    replay = a_replay(a_job_of(2), scene)
    run = replay.run()
    assert run.refusals == 1
    assert zones(replay) == ["us-east-1b"]
    assert replay.attempts[0].launched_at == T0


def test_where_all_pools_are_shut_it_asks_again_after_each_cool_down() -> None:
    replay = a_replay(a_job_of(1), a_scene(a_pool_scene(shut=[(0, 1)])))
    run = replay.run()
    assert run.refusals == 6
    assert replay.attempts[0].launched_at == hour(1)


def test_a_deadline_goes_on_demand_and_back_to_spot_that_has_come_to_stay() -> None:
    """Nothing for the first hours: it waits, goes on-demand when the slack is used up, and leaves
    it again for spot."""
    scene = a_scene(a_pool_scene(shut=[(0, 4.2)]))
    replay = a_replay(a_job_of(10, within=14), scene, "deadline")
    run = replay.run()
    assert run.in_time
    markets = [attempt.offer.market for attempt in replay.attempts]
    assert markets[0] is Market.ON_DEMAND
    assert Market.SPOT in markets
    assert EndReason.MOVED in reasons(replay)
    assert run.moves >= 1
    assert 0 < run.on_demand_share < 1
    assert run.cost_usd_micros < a_bill(10 * 3600 + 300, ON_DEMAND)


def test_a_move_launches_first_and_hands_over_without_losing_a_step() -> None:
    scene = a_scene(a_pool_scene(shut=[(0, 4.2)]))
    replay = a_replay(a_job_of(10, within=14), scene, "deadline")
    replay.run()
    for old, new in zip(replay.attempts, replay.attempts[1:], strict=False):
        if old.end_reason is EndReason.MOVED:
            assert new.replaces == old.id
            assert old.ended_at is not None
            assert new.launched_at is not None
            assert new.launched_at < old.ended_at
            assert new.first_step_at is not None
            assert new.first_step_at > old.ended_at
            return
    pytest.fail("nothing moved")


def test_a_budget_stops_it_and_is_never_exceeded() -> None:
    replay = a_replay(a_job_of(8, budget=600_000), a_scene(hours=48))
    run = replay.run()
    assert run.finished_at is None
    assert replay.job.pause is Pause.BUDGET
    assert "budget" in run.why
    assert 0 < run.cost_usd_micros <= 600_000
    assert reasons(replay)[0] is EndReason.BUDGET
    assert replay.attempts[0].step_after is not None
    assert replay.attempts[0].step_after > 3000


def test_a_bid_ends_the_instance_when_the_price_rises_above_it() -> None:
    scene = a_scene(a_pool_scene(prices=((0, SPOT), (2, 250_000), (5, SPOT))))
    replay = a_replay(a_job_of(4, max_price_usd_micros=200_000), scene)
    run = replay.run()
    assert run.interruptions == 1
    first, second = replay.attempts
    assert first.notice is not None
    assert first.notice.seen_at == hour(2)
    assert second.launched_at is not None
    assert second.launched_at >= hour(5)
    assert "max_price" in " ".join(event.why for event in replay.events)


def test_without_a_bid_the_same_price_ends_nothing() -> None:
    scene = a_scene(a_pool_scene(prices=((0, SPOT), (2, 250_000), (5, SPOT))))
    run = a_replay(a_job_of(4), scene).run()
    assert (run.interruptions, run.launches) == (0, 1)


def test_a_slower_type_takes_its_time() -> None:
    spec = a_job_of(
        2,
        instance_types=("g5.xlarge", "g4dn.xlarge"),
        speeds=(("g5.xlarge", 2), ("g4dn.xlarge", 1)),
    )
    run = a_replay(spec, a_scene()).run()
    assert run.finished_at == hour(4) + dt.timedelta(seconds=300)


def test_the_changeover_that_was_measured_is_what_the_policies_plan_with() -> None:
    paces = dataclasses.replace(PACES, changeover_s=900)
    replay = a_replay(a_job_of(2), a_scene(), paces=paces)
    replay.run()
    assert replay.attempts[0].first_step_at == at(900)


def test_a_history_that_ends_first_says_so() -> None:
    run = a_replay(a_job_of(8), a_scene(hours=3)).run()
    assert run.finished_at is None
    assert run.why == "the history ended before the job did"
    assert not run.in_time


def test_it_pays_on_as_the_daemon_does() -> None:
    replay = a_replay(a_job_of(3), a_scene())
    replay.run()
    assert kinds(replay)[:2] == ["active", "placed"]
    assert kinds(replay).count("extended") >= 5
    assert kinds(replay)[-2:] == ["ended", "succeeded"]


def test_data_of_another_region_is_brought_with_each_launch() -> None:
    """Two launches in eu-west-1 pay for it, and the one in us-east-1, where it lies, does not."""
    scene = a_scene(
        a_pool_scene("eu-west-1a", shut=[(2, 3), (5, 99)]),
        a_pool_scene("us-east-1a", prices=((0, DEARER),), shut=[(0, 4.5)]),
    )
    far = DataSource(source="s3://d/", target="d", bytes=50_000_000_000, region="us-east-1")
    run = a_replay(a_job_of(6, data=(far,)), scene)
    run.run()
    regions = [attempt.offer.pool.region for attempt in run.attempts]
    assert regions == ["eu-west-1", "eu-west-1", "us-east-1"]
    assert [moved_cost(attempt) for attempt in run.attempts] == [1_000_000, 1_000_000, 0]


# -- nights ------------------------------------------------------------------------------------

# T0 is at noon: it opens after 10 hours and closes after 19.
NIGHT = Window(start_min=22 * 60, stop_min=7 * 60, tz="UTC", days=tuple(range(7)))
NIGHT_S = 9 * 3600 - 300  # what is trained of a whole one
LIMIT = PriceLimit(pause_usd_micros=200_000, resume_usd_micros=190_000, after_s=600)


def trained(replay: Replay) -> list[tuple[dt.datetime, int]]:
    """From when on each attempt trained, and how many seconds of work it left behind."""
    return [
        (attempt.first_step_at, (attempt.step_after or 0) - attempt.step_before)
        for attempt in replay.attempts
        if attempt.first_step_at is not None
    ]


def test_a_job_of_two_nights_trains_in_none_of_the_hours_between() -> None:
    replay = a_replay(a_job_of(12, window=NIGHT), a_scene())
    run = replay.run()
    left_s = 12 * 3600 - NIGHT_S
    assert trained(replay) == [
        (hour(10) + dt.timedelta(seconds=300), NIGHT_S),
        (hour(34) + dt.timedelta(seconds=300), left_s),
    ]
    first, second = replay.attempts
    assert (first.launched_at, second.launched_at) == (hour(10), hour(34))
    # What it trained to the last second is committed just after it.
    assert first.ended_at == hour(19) + dt.timedelta(seconds=COMMIT_S)
    assert reasons(replay) == [EndReason.PAUSED, EndReason.DONE]
    assert run.finished_at == second.first_step_at + dt.timedelta(seconds=left_s)  # type: ignore[operator]
    nights = a_bill(9 * 3600 + COMMIT_S, SPOT), a_bill(left_s + 300, SPOT)
    assert run.cost_usd_micros == sum(nights)
    assert [event.why for event in replay.events if event.kind == "resumed"] == [
        "its window is open",
        "its window is open",
    ]


def test_a_window_that_is_always_open_changes_nothing() -> None:
    always = dataclasses.replace(NIGHT, stop_min=NIGHT.start_min)
    scene = a_scene(a_pool_scene(shut=[(5, 6)]))
    assert a_replay(a_job_of(12, window=always), scene).run() == a_replay(a_job_of(12), scene).run()


@given(scene=scenes(), hours=st.floats(0.5, 12), slack_h=st.none() | st.floats(1, 20))
@settings(max_examples=25, deadline=None)
def test_whatever_happens_it_trains_in_its_window_only(
    scene: Scene, hours: float, slack_h: float | None
) -> None:
    """Who has a notice at the end of the window goes on for it: the two minutes are free."""
    within = None if slack_h is None else 24 + hours + slack_h
    spec = a_job_of(hours, within=within, window=NIGHT)
    replay = a_replay(spec, scene, "cheapest" if within is None else "deadline")
    replay.run()
    for attempt in replay.attempts:
        assert attempt.launched_at is not None
        assert is_open(NIGHT, attempt.launched_at)
        last = attempt.ended_at or replay.now
        closes = closes_at(NIGHT, attempt.launched_at)
        grace_s = PACES.notice_s + 2 * PACES.lag_s if attempt.notice else COMMIT_S + PACES.lag_s
        assert closes is not None
        assert last <= closes + dt.timedelta(seconds=grace_s)


def test_a_deadline_on_the_second_morning_is_met_on_demand() -> None:
    """There is no spot in either night: it waits for it, and not for longer than it may."""
    scene = a_scene(a_pool_scene(shut=[(0, 100)]))
    replay = a_replay(a_job_of(12, within=43, window=NIGHT), scene, "deadline")
    run = replay.run()
    assert run.in_time
    assert run.on_demand_share == 1.0
    assert run.finished_at is not None
    assert is_open(NIGHT, run.finished_at)
    first, second = replay.attempts
    assert first.launched_at is not None
    # Of 18 hours it works 12: the daytime is no time to wait for.
    assert hour(10) < first.launched_at < hour(16)
    assert first.ended_at == hour(19) + dt.timedelta(seconds=COMMIT_S)
    assert second.offer.market is Market.ON_DEMAND


def test_a_deadline_in_the_night_and_spot_on_both_sides_of_it() -> None:
    spec = a_job_of(8, within=19, window=NIGHT)
    run = a_replay(spec, a_scene(), "deadline").run()
    assert run.in_time
    assert run.finished_at == hour(18) + dt.timedelta(seconds=300)
    assert run.cost_usd_micros == a_bill(8 * 3600 + 300, SPOT)


def test_a_peak_of_the_price_pauses_it_and_a_fall_lets_it_go_on() -> None:
    prices = ((0, SPOT), (2, 300_000), (4, 195_000), (5, 150_000))
    replay = a_replay(a_job_of(4, price_limit=LIMIT), a_scene(a_pool_scene(prices=prices)))
    run = replay.run()
    first, second = replay.attempts
    assert reasons(replay) == [EndReason.PAUSED, EndReason.DONE]
    # Ten minutes above, and a commit; at 0.195 USD it is below one limit and above the other.
    lived_s = 2 * 3600 + 600 + COMMIT_S
    assert first.ended_at == at(lived_s)
    assert second.launched_at == hour(5)
    left_s = 4 * 3600 - (2 * 3600 + 600 - 300)
    assert run.finished_at == hour(5) + dt.timedelta(seconds=300 + left_s)
    bills = a_bill(lived_s, SPOT, SPOT, 300_000), a_bill(300 + left_s, 150_000)
    assert run.cost_usd_micros == sum(bills)
    assert [event.data.get("pause") for event in replay.events if event.kind == "paused"] == [
        "price"
    ]


def test_a_peak_that_is_over_sooner_pauses_nothing() -> None:
    prices = ((0, SPOT), (2, 300_000), (2.16, SPOT))
    replay = a_replay(a_job_of(4, price_limit=LIMIT), a_scene(a_pool_scene(prices=prices)))
    run = replay.run()
    assert run.launches == 1
    assert run.cost_usd_micros == a_bill(4 * 3600 + 300, SPOT, SPOT, 300_000, SPOT)


def test_a_peak_that_never_ends_is_why_it_did_not() -> None:
    prices = ((0, SPOT), (2, 300_000))
    scene = a_scene(a_pool_scene(prices=prices), hours=48)
    run = a_replay(a_job_of(4, price_limit=LIMIT), scene).run()
    assert run.finished_at is None
    assert run.why.startswith("the history ended before the job did: the cheapest offer is ")
    assert "above resume_below" in run.why


def test_its_cap_ends_it_in_the_second_night() -> None:
    """It has paid for what it has, its last steps are saved, and the cap is the reason."""
    cap = a_bill(9 * 3600 + COMMIT_S, SPOT) + 500_000
    spec = a_job_of(14, window=NIGHT, budget=cap)
    replay = a_replay(spec, a_scene(hours=24 * 4))
    run = replay.run()
    assert run.finished_at is None
    assert run.why.startswith(f"the budget of {usd(cap)} has ")
    assert 0 < run.cost_usd_micros <= cap
    assert reasons(replay)[:2] == [EndReason.PAUSED, EndReason.BUDGET]
    # The window closes over it, and changes nothing about the reason.
    assert replay.job.pause is Pause.BUDGET
    _, (_, steps) = trained(replay)[:2]
    assert steps > 1800


def test_unattended_it_is_paid_for_hours_ahead_but_not_past_its_window() -> None:
    plain = a_job_of(12, window=NIGHT)
    alone = dataclasses.replace(plain, unattended_s=4 * 3600)
    often, seldom = (a_replay(spec, a_scene()) for spec in (plain, alone))
    assert often.run().cost_usd_micros == seldom.run().cost_usd_micros
    assert kinds(seldom).count("extended") < kinds(often).count("extended") / 2
    closes = hour(19) + dt.timedelta(seconds=Limits().stop_s)
    assert seldom.attempts[0].paid_until <= closes


@given(scene=scenes(), hours=st.floats(0.5, 6))
@settings(max_examples=25, deadline=None)
def test_the_same_past_gives_the_same_run_to_the_bit(scene: Scene, hours: float) -> None:
    spec = a_job_of(hours)
    assert a_replay(spec, scene).run() == a_replay(spec, scene).run()


# -- promises ----------------------------------------------------------------------------------


TABLES = TablesOnDemand()
KINDS = ("g4dn.xlarge", "g5.xlarge")


@st.composite
def jobs_and_scenes(draw: st.DrawFn) -> tuple[JobSpec, Scene]:
    """A job of one type or of two, of which any may be the faster and any the cheaper one."""
    scene = draw(scenes())
    if draw(st.booleans()):
        return a_job_of(draw(st.floats(0.5, 6))), scene
    speed = draw(st.floats(0.25, 4))
    price = draw(st.integers(ON_DEMAND // 4, 4 * ON_DEMAND))
    zone = draw(st.sampled_from(("us-east-1a", "us-east-1b")))
    other = draw(pool_scenes(zone))
    other = dataclasses.replace(
        other,
        pool=dataclasses.replace(other.pool, instance_type=KINDS[1]),
        on_demand_usd_micros_hour=price,
    )
    names = draw(st.sampled_from((KINDS, KINDS[::-1])))
    spec = a_job_of(
        draw(st.floats(0.5, 6)),
        instance_types=names,
        speeds=((KINDS[0], 1.0), (KINDS[1], speed)),
    )
    return spec, dataclasses.replace(scene, pools=(*scene.pools, other))


@given(
    job_and_scene=jobs_and_scenes(),
    slack_s=st.floats(1, 20_000),
    changeover_s=st.sampled_from((60, 300, 1200)),
    checkpoint_s=st.sampled_from((60, 600, 1800)),
    policy=st.sampled_from(sorted(policies())),
)
@settings(max_examples=150, deadline=None)
def test_no_policy_misses_a_deadline_while_on_demand_exists(
    job_and_scene: tuple[JobSpec, Scene],
    slack_s: float,
    changeover_s: int,
    checkpoint_s: int,
    policy: str,
) -> None:
    """`cheapest` knows no deadline. The fastest type has a second to spare at least: work counts
    in whole ones."""
    if policy == "cheapest":
        return
    paces = dataclasses.replace(PACES, changeover_s=changeover_s, checkpoint_every_s=checkpoint_s)
    spec, scene = job_and_scene
    assert spec.work_s is not None
    needs_s = math.ceil(spec.work_s / max(rates(spec).values())) + changeover_s
    spec = dataclasses.replace(spec, deadline_at=at(needs_s + slack_s))
    limits = Limits(changeover_s=changeover_s)
    known = policies(TABLES)
    run = Replay(spec, known[policy], scene, paces=paces, limits=limits).run()
    assert run.in_time, f"{policy} ended {run.finished_at}, {run.deadline_at} was the deadline"


# -- what is seen of the pools -----------------------------------------------------------------

_POOL = Pool(region="us-east-1", zone="us-east-1a", instance_type="g4dn.xlarge")


def an_attempt(number: int, begin: dt.datetime) -> Attempt:
    return Attempt(
        id=f"j.{number}",
        job_id="j",
        generation=number,
        state=AttemptState.RUNNING,
        offer=an_offer(),
        intent_at=begin,
        paid_until=begin,
        first_paid_s=1,
        launched_at=begin,
    )


@given(
    happenings=st.lists(
        st.tuples(
            st.sampled_from(("refused", "launched", "noticed", "ended", "look")),
            st.integers(1, 40_000),
        ),
        max_size=40,
    )
)
@settings(max_examples=100, deadline=None)
def test_sightings_say_what_the_core_says(happenings: list[tuple[str, int]]) -> None:
    followed, now = Sightings(600), T0
    attempts: dict[str, Attempt] = {}
    refusals: list[Refusal] = []
    for number, (what, seconds) in enumerate(happenings):
        now += dt.timedelta(seconds=seconds)
        living = [it for it in attempts.values() if it.notice is None and it.ended_at is None]
        changed = None
        if what == "refused" and not living:
            refusal = Refusal(pool=_POOL, market=Market.SPOT, at=now, meaning=Refused.CAPACITY)
            refusals.append(refusal)
            followed.refusal(refusal)
        elif what == "launched" and not living:
            changed = an_attempt(number, now)
        elif what == "noticed" and living:
            changed = dataclasses.replace(living[0], notice=Notice(at=now, seen_at=now))
        elif what == "ended" and living:
            changed = dataclasses.replace(
                living[0],
                state=AttemptState.ENDED,
                ended_at=now,
                end_reason=EndReason.INTERRUPTED if seconds % 2 else EndReason.MOVED,
            )
        if changed is not None:
            attempts[changed.id] = changed
            followed.attempt(changed)
        assert followed.at(now) == sights(attempts.values(), refusals, now, 600)


def test_the_spec_must_say_how_long_the_work_is() -> None:
    with pytest.raises(AssertionError, match="work"):
        a_replay(a_spec(), a_scene())


def test_on_demand_costs_its_own_price_where_spot_is_dearer() -> None:
    pool = a_pool_scene(prices=((0, 900_000),), on_demand=500_000)
    spot, on_demand = pool.offers_at(hour(1))
    assert (spot.price_usd_micros_hour, spot.dearest_usd_micros_hour) == (900_000, 900_000)
    assert (on_demand.price_usd_micros_hour, on_demand.dearest_usd_micros_hour) == (500_000,) * 2
