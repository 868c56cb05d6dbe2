"""Jobs that stand still, and go on: the user's word, the window, the price."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spotrunner.core.draft import Draft
from spotrunner.core.market import rate_usd_micros_hour
from spotrunner.core.model import (
    CommandVerb,
    EndReason,
    Job,
    Market,
    Pause,
    Phase,
    PriceLimit,
    Snapshot,
    Verb,
)
from spotrunner.core.pause import pause
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window
from tests.build import (
    JOB,
    ON_DEMAND,
    SPOT,
    a_command,
    a_head,
    a_job,
    a_notice,
    a_quote,
    a_refusal,
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
    job_after,
    kinds,
    pending,
)

ID = f"{JOB}.1"
EVERY_DAY = tuple(range(7))


def paused(snapshot: Snapshot) -> Draft:
    return after(pause, snapshot)


def how(snapshot: Snapshot) -> tuple[str, str | None]:
    """The job's state and its pause, after the phase."""
    job = paused(snapshot).jobs[JOB]
    return job.state.value, job.pause.value if job.pause else None


def standing(kind: Pause, **changes: Any) -> Job:
    return a_job(JobState.PAUSED, pause=kind, reason="as it was", **changes)


# -- the user ----------------------------------------------------------------------------------


def test_what_the_user_paused_stands_still_until_the_user_says_so() -> None:
    snapshot = a_snapshot(jobs=[standing(Pause.USER)])
    assert how(snapshot) == ("paused", "user")
    assert not paused(snapshot).plan().events
    assert not decided(snapshot).launches


def test_pause_stops_with_a_checkpoint_and_resume_starts_again() -> None:
    first = a_running_snapshot(commands=(a_command(CommandVerb.PAUSE),))
    plan = decided(first)
    assert job_after(plan, first).pause is Pause.USER
    assert attempt_after(plan, first).ending is EndReason.PAUSED
    assert [posted.order.verb for posted in plan.orders] == [Verb.STOP]
    assert not plan.terminations
    assert not plan.launches
    assert kinds(plan)[:2] == ["paused", "winding-down"]
    # It has the time of a cancelled one, and is then ended.
    assert not decided(applied(first, plan, now_s=899)).terminations
    late = applied(first, plan, now_s=900)
    assert [act.instance_id for act in decided(late).terminations] == [f"i-{ID}"]
    resumed = dataclasses.replace(late, commands=(a_command(CommandVerb.RESUME),))
    plan = decided(resumed)
    assert job_after(plan, resumed).state is JobState.ACTIVE
    assert [launch.attempt.replaces for launch in plan.launches] == [ID]


@pytest.mark.parametrize("verb", list(CommandVerb))
@pytest.mark.parametrize(
    "job",
    [
        a_job(JobState.QUEUED),
        a_job(JobState.ACTIVE),
        *(standing(kind) for kind in Pause),
        *(a_job(state) for state in JobState if state.over),
    ],
    ids=lambda job: f"{job.state.value} {job.pause.value if job.pause else ''}".strip(),
)
def test_every_command_is_understood_in_every_state(job: Job, verb: CommandVerb) -> None:
    command = a_command(verb, budget_usd_micros=9_000_000, deadline_at=at(90_000))
    for snapshot in (
        a_running_snapshot(jobs=[job], commands=(command,)),
        a_snapshot(jobs=[job], commands=(command,)),
    ):
        plan = decided(snapshot)
        assert plan.commands_done == (1,)
        became = job_after(plan, snapshot)
        if job.state.over:
            assert dataclasses.replace(became, ended_at=None) == job
        elif verb is CommandVerb.CANCEL:
            assert (became.state, became.pause) == (JobState.CANCELLED, None)
        elif verb is CommandVerb.PAUSE:
            assert (became.state, became.pause) == (JobState.PAUSED, Pause.USER)
        elif verb is CommandVerb.EXTEND:
            assert became.spec.budget_usd_micros == 9_000_000
            assert became.spec.deadline_at == at(90_000)
            assert (became.pause is Pause.USER) is (job.pause is Pause.USER)
        elif verb is CommandVerb.RESUME:
            assert became.pause is not Pause.USER


def test_extend_changes_only_what_it_names_and_says_it() -> None:
    for changes, words in (
        ({"budget_usd_micros": 12_500_000}, "the user changed it: its budget is 12.50 USD"),
        ({"deadline_at": at(3600)}, "the user changed it: its deadline is 2026-11-01 13:00 UTC"),
    ):
        snapshot = a_running_snapshot(commands=(a_command(CommandVerb.EXTEND, **changes),))
        plan = decided(snapshot)
        assert plan.events[0].why == words
        before, spec = snapshot.jobs[0].spec, job_after(plan, snapshot).spec
        assert spec == dataclasses.replace(before, **changes)


def test_what_the_budget_paused_goes_on_at_once_when_it_is_extended() -> None:
    """With the smallest start that there is: 0.16 USD pay 942 s and the slack."""
    job = standing(Pause.BUDGET, budget=100_000)
    told = a_command(CommandVerb.EXTEND, budget_usd_micros=160_000)
    snapshot = a_snapshot(jobs=[job], commands=(told,), offers=[an_offer()])
    plan = decided(snapshot)
    assert [launch.attempt.first_paid_s for launch in plan.launches] == [942]
    assert (job_after(plan, snapshot).state, job_after(plan, snapshot).reason) == (
        JobState.ACTIVE,
        "",
    )


def test_a_job_that_is_extended_by_too_little_is_paused_again_with_the_number() -> None:
    job = standing(Pause.BUDGET, budget=100_000)
    told = a_command(CommandVerb.EXTEND, budget_usd_micros=110_000)
    snapshot = a_snapshot(jobs=[job], commands=(told,), offers=[an_offer()])
    plan = decided(snapshot)
    assert not plan.launches
    assert kinds(plan) == ["changed"]
    assert "needs 0.1536 USD in reserve" in job_after(plan, snapshot).reason


def test_a_job_that_is_extended_by_enough_is_told_to_go_on() -> None:
    spent = an_attempt(1, AttemptState.ENDED, end_reason=EndReason.BUDGET, ended_at=at(500))
    job = standing(Pause.BUDGET, budget=100_000)
    told = a_command(CommandVerb.EXTEND, budget_usd_micros=200_000)
    snapshot = a_snapshot(600, jobs=[job], attempts=[spent], commands=(told,), offers=[an_offer()])
    assert kinds(decided(snapshot)) == ["changed", "resumed", "placed"]


@pytest.mark.parametrize(("extended_s", "starts"), [(None, False), (400, False), (500, True)])
def test_what_the_budget_stopped_starts_again_for_more_than_a_boots_worth(
    extended_s: float | None, starts: bool
) -> None:
    """A changeover of 115 s and a step of 1800 s, though the job has not been paused yet; unless
    its user has said since that it may cost more."""
    spent = an_attempt(
        1, AttemptState.ENDED, sent_s=5, end_reason=EndReason.BUDGET, ended_at=at(500)
    )
    enough = rate_usd_micros_hour(a_spec(), an_offer()) * (120 + 1800 + 115 + 10) // 3600
    for budget, expected in ((enough, True), (enough * 8 // 10, starts)):
        job = a_job(budget=budget, extended_at=None if extended_s is None else at(extended_s))
        plan = decided(a_snapshot(600, jobs=[job], attempts=[spent], offers=[an_offer()]))
        assert bool(plan.launches) is expected


def test_paused_and_resumed_within_one_round_it_has_never_stopped() -> None:
    wishes = (a_command(CommandVerb.PAUSE), a_command(CommandVerb.RESUME, id=2))
    snapshot = a_running_snapshot(commands=wishes)
    plan = decided(snapshot)
    assert job_after(plan, snapshot).state is JobState.ACTIVE
    assert attempt_after(plan, snapshot).state is AttemptState.RUNNING


def test_what_stands_still_is_not_paid_on_nor_sent_again() -> None:
    running = a_running_snapshot(900, jobs=[standing(Pause.USER)])
    assert attempt_after(decided(running), running).paid_until == at(1800)
    sent = a_snapshot(30, jobs=[standing(Pause.USER)], attempts=[pending()])
    plan = decided(sent)
    assert not plan.launches
    assert attempt_after(plan, sent).state is AttemptState.TERMINATING


def test_a_replacement_in_flight_is_stopped_with_the_one_it_replaces() -> None:
    old = an_attempt(1, AttemptState.INTERRUPTED, notice=a_notice(4300), launched_s=0)
    new = an_attempt(2, AttemptState.STARTING, replaces=ID, launched_s=4190, intent_s=4180)
    snapshot = a_running_snapshot(
        4200,
        jobs=[standing(Pause.USER)],
        attempts=(old, new),
        instances=(an_instance(old), an_instance(new)),
    )
    plan = decided(snapshot)
    for generation in (1, 2):
        stopped = attempt_after(plan, snapshot, generation)
        assert (stopped.state, stopped.ending) == (AttemptState.TERMINATING, EndReason.PAUSED)


def test_a_notice_in_the_first_hour_is_waited_for_though_the_job_is_paused() -> None:
    """That hour is free if EC2 takes it, so nobody else ends it."""
    old = an_attempt(1, AttemptState.INTERRUPTED, notice=a_notice(700))
    snapshot = a_running_snapshot(650, jobs=[standing(Pause.USER)], attempt=old)
    assert attempt_after(decided(snapshot), snapshot).state is AttemptState.INTERRUPTED
    late = a_running_snapshot(1001, jobs=[standing(Pause.USER)], attempt=old)
    assert attempt_after(decided(late), late).state is AttemptState.TERMINATING


def test_three_pauses_in_a_row_do_not_make_a_job_hopeless() -> None:
    """Each ended without a later checkpoint; of three other ends the job would have failed."""

    def job_with(reason: EndReason) -> JobState:
        attempts = [
            an_attempt(n, AttemptState.ENDED, end_reason=reason, step_before=100, step_after=100)
            for n in (1, 2, 3)
        ]
        snapshot = a_snapshot(attempts=attempts, head=a_head(100))
        return job_after(decided(snapshot), snapshot).state

    assert job_with(EndReason.PAUSED) is JobState.ACTIVE
    assert job_with(EndReason.BOOT) is JobState.FAILED


# -- the window --------------------------------------------------------------------------------


def at_night(start: str = "22:00", stop: str = "07:00", tz: str = "UTC") -> Job:
    def minute(clock: str) -> int:
        return int(clock[:2]) * 60 + int(clock[3:])

    window = Window(start_min=minute(start), stop_min=minute(stop), tz=tz, days=EVERY_DAY)
    return a_job(spec=a_spec(window=window))


def test_a_closed_window_pauses_and_says_when_it_goes_on() -> None:
    """T0 is noon."""
    snapshot = a_running_snapshot(jobs=[at_night()])
    plan = decided(snapshot)
    job = job_after(plan, snapshot)
    assert (job.state, job.pause) == (JobState.PAUSED, Pause.WINDOW)
    assert job.reason == (
        "its window is closed (22:00-07:00 UTC): it goes on at 2026-11-01 22:00 UTC"
    )
    assert attempt_after(plan, snapshot).ending is EndReason.PAUSED


@pytest.mark.parametrize(
    ("tz", "is_open"), [("UTC", False), ("America/Los_Angeles", True), ("Asia/Tokyo", False)]
)
def test_the_window_is_of_the_jobs_zone(tz: str, is_open: bool) -> None:
    """Noon in UTC is 04:00 in Los Angeles and 21:00 in Tokyo."""
    assert (how(a_snapshot(jobs=[at_night(tz=tz)])) == ("active", None)) is is_open


def test_it_opens_and_the_job_goes_on() -> None:
    job = dataclasses.replace(at_night(), state=JobState.PAUSED, pause=Pause.WINDOW)
    assert how(a_snapshot(10 * 3600 - 1, jobs=[job])) == ("paused", "window")
    opened = a_snapshot(10 * 3600, jobs=[job])
    assert [event.why for event in paused(opened).plan().events] == ["its window is open"]
    assert [launch.attempt.job_id for launch in decided(opened).launches] == [JOB]


def test_a_pause_is_said_once_while_it_lasts() -> None:
    first = paused(a_snapshot(jobs=[at_night()]))
    assert kinds(first.plan()) == ["paused"]
    again = paused(a_snapshot(700, jobs=[first.jobs[JOB]]))
    assert not again.plan().events


# -- the price ---------------------------------------------------------------------------------

LIMIT = PriceLimit(pause_usd_micros=200_000, resume_usd_micros=190_000, after_s=600)


def limited(state: JobState = JobState.ACTIVE, limit: PriceLimit = LIMIT, **changes: Any) -> Job:
    return a_job(state, spec=a_spec(price_limit=limit), **changes)


def a_market(now_s: float, *quotes: tuple[float, int], **changes: Any) -> dict[str, Any]:
    """One pool, with its price as it was and is."""
    listed = tuple(a_quote(at_s, price) for at_s, price in quotes if at_s <= now_s)
    offers = (an_offer(price=listed[-1].price_usd_micros_hour),) if listed else ()
    return {"now_s": now_s, "quotes": listed, "offers": offers, **changes}


@pytest.mark.parametrize(
    ("now_s", "pauses"), [(1000, False), (1599, False), (1600, True), (9000, True)]
)
def test_above_the_limit_for_long_enough_it_pauses(now_s: float, pauses: bool) -> None:
    """It rose at 1000 s; pause_after is 600 s."""
    found = a_running_snapshot(
        jobs=[limited()], **a_market(now_s, (0, SPOT), (1000, 200_001), (1200, 300_000))
    )
    assert (how(found) == ("paused", "price")) is pauses


def test_a_fall_in_between_starts_the_time_anew() -> None:
    quotes = ((0, SPOT), (1000, 210_000), (1500, 200_000), (1510, 210_000))
    for now_s, pauses in ((1650, False), (2109, False), (2110, True)):
        found = a_running_snapshot(jobs=[limited()], **a_market(now_s, *quotes))
        assert (how(found) == ("paused", "price")) is pauses


def test_at_the_limit_is_not_above_it() -> None:
    assert how(a_running_snapshot(jobs=[limited()], **a_market(9000, (0, 200_000)))) == (
        "active",
        None,
    )


def test_it_stops_with_a_checkpoint_and_says_the_price() -> None:
    snapshot = a_running_snapshot(jobs=[limited()], **a_market(9000, (0, SPOT), (1000, 250_000)))
    plan = decided(snapshot)
    assert attempt_after(plan, snapshot).ending is EndReason.PAUSED
    assert [posted.order.verb for posted in plan.orders] == [Verb.STOP]
    place = "the cheapest offer is us-east-1a/g4dn.xlarge: its 0.2500 USD/h are above "
    assert job_after(plan, snapshot).reason == f"{place}pause_above, 0.2000 USD/h"
    later = applied(snapshot, plan, now_s=9015)
    assert job_after(decided(later), later).reason == f"{place}resume_below, 0.1900 USD/h"


# What the price does every 5 minutes, with the state of the job. Above 0.2 it waits 10 minutes, and
# goes on at 0.19 and below; in between it stays what it is.
STORY = [
    (0, 160_000, "active"),
    (300, 210_000, "active"),  # above: its time begins
    (600, 195_000, "active"),  # and ends: it is below again
    (900, 210_000, "active"),
    (1200, 230_000, "active"),
    (1500, 230_000, "price"),  # above for 600 s
    (1800, 195_000, "price"),  # between the limits: it stays paused
    (2100, 201_000, "price"),
    (2400, 199_000, "price"),
    (2700, 190_000, "active"),  # at resume_below
    (3000, 199_000, "active"),  # between the limits: it stays active
    (3300, 201_000, "active"),
    (3600, 200_000, "active"),
    (3900, 240_000, "active"),
    (4200, 240_000, "active"),
    (4500, 240_000, "price"),
]


def test_the_story_of_a_price_without_flapping() -> None:
    jobs = [limited()]
    told: list[str] = []
    for now_s, _, state in STORY:
        quotes = [(at_s, price) for at_s, price, _ in STORY if at_s <= now_s]
        running = [an_attempt()] if jobs[0].state is JobState.ACTIVE else []
        draft = paused(a_snapshot(jobs=jobs, attempts=running, **a_market(now_s, *quotes)))
        # What goes on is placed at once.
        became = draft.jobs[JOB]
        told += kinds(draft.plan())
        word = became.pause.value if became.pause else "active"
        assert (now_s, word) == (now_s, state)
        jobs = (
            [dataclasses.replace(became, state=JobState.ACTIVE)] if not became.pause else [became]
        )
    assert told == ["paused", "resumed", "paused"]


def test_another_pool_below_the_limit_is_taken_first() -> None:
    offers = (an_offer(price=250_000), an_offer("us-east-1b", price=180_000))
    quotes = (a_quote(0, SPOT), a_quote(1000, 250_000), a_quote(0, 180_000, "us-east-1b"))
    for now_s, moves in ((1599, False), (1600, True)):
        snapshot = a_running_snapshot(now_s, jobs=[limited()], offers=offers, quotes=quotes)
        plan = decided(snapshot)
        assert job_after(plan, snapshot).state is JobState.ACTIVE
        assert not plan.terminations
        found = [str(launch.attempt.offer.pool) for launch in plan.launches]
        assert found == (["us-east-1b/g4dn.xlarge"] if moves else [])
    (launch,) = plan.launches
    assert launch.attempt.replaces == ID, "the old one trains until the new one is ready"
    assert "above pause_above" in launch.why


def test_a_pool_below_the_limit_that_is_refused_now_pauses_it_too() -> None:
    offers = (an_offer(price=250_000), an_offer("us-east-1b", price=180_000))
    snapshot = a_running_snapshot(
        9000,
        jobs=[limited()],
        offers=offers,
        quotes=(a_quote(0, 250_000),),
        refusals=(a_refusal("us-east-1b", at_s=8990),),
    )
    assert how(snapshot) == ("paused", "price")


def test_without_an_attempt_only_the_price_pauses_and_a_refusal_is_waited_for() -> None:
    dear = a_snapshot(jobs=[limited()], offers=(an_offer(price=250_000),))
    assert how(dear) == ("paused", "price")
    refused = a_snapshot(
        jobs=[limited()], offers=(an_offer(price=180_000),), refusals=(a_refusal(at_s=590),)
    )
    assert how(refused) == ("active", None)


def test_prices_that_nobody_knows_are_no_reason_and_end_no_pause() -> None:
    blind = a_running_snapshot(9000, jobs=[limited()], offers=(), quotes=())
    assert how(blind) == ("active", None)
    waiting = limited(JobState.PAUSED, pause=Pause.PRICE, reason="as it was")
    assert how(a_snapshot(jobs=[waiting], offers=())) == ("paused", "price")


@pytest.mark.parametrize(
    ("price", "state"), [(210_399, "active"), (210_400, "active"), (210_401, "price")]
)
def test_a_share_of_on_demand_is_of_the_pools_own(price: int, state: str) -> None:
    """40 % of 0.526 USD."""
    limit = PriceLimit(pause_share=0.4, resume_share=0.38, after_s=0)
    found = a_running_snapshot(jobs=[limited(limit=limit)], **a_market(600, (0, price)))
    assert how(found)[1 if state == "price" else 0] == state


@pytest.mark.parametrize(("price", "resumes"), [(199_880, True), (199_881, False)])
def test_a_share_to_resume_at_too(price: int, resumes: bool) -> None:
    """38 % of 0.526 USD are 0.19988."""
    limit = PriceLimit(pause_share=0.4, resume_share=0.38, after_s=0)
    waiting = limited(JobState.PAUSED, limit, pause=Pause.PRICE)
    found = a_snapshot(jobs=[waiting], **a_market(600, (0, price)))
    assert (how(found) == ("queued", None)) is resumes


def test_on_demand_above_the_limit_is_not_taken_instead() -> None:
    spec = a_spec(price_limit=LIMIT, deadline_at=at(10_000), work_s=9_000, policy="deadline")
    offers = (
        an_offer(price=250_000),
        an_offer(market=Market.ON_DEMAND, price=ON_DEMAND, dearest=ON_DEMAND),
    )
    snapshot = a_snapshot(jobs=[a_job(spec=spec)], offers=offers)
    assert not decided(snapshot).launches
    assert how(snapshot) == ("paused", "price")


def test_one_that_runs_on_demand_above_a_limit_stops_after_its_time() -> None:
    spec = a_spec(price_limit=LIMIT, market=Market.ON_DEMAND)
    offer = an_offer(market=Market.ON_DEMAND, price=ON_DEMAND, dearest=ON_DEMAND)
    attempt = an_attempt(launched_s=0, offer=offer, paid_until_s=9000)
    for now_s, state in ((599, "active"), (600, "paused")):
        found = a_running_snapshot(now_s, jobs=[a_job(spec=spec)], attempt=attempt, offers=(offer,))
        assert how(found)[0] == state


def test_an_interruption_at_a_price_above_the_limit_pauses_at_once() -> None:
    """Nothing trains any more that pause_after could leave alone."""
    notice = a_report(notice=a_notice(1200), at_s=1090)
    snapshot = a_running_snapshot(
        jobs=[limited()], reports=(notice,), **a_market(1100, (0, SPOT), (1000, 250_000))
    )
    plan = decided(snapshot)
    job = job_after(plan, snapshot)
    assert (job.state, job.pause) == (JobState.PAUSED, Pause.PRICE)
    assert not plan.launches
    # Its first hour is free if EC2 takes it.
    assert attempt_after(plan, snapshot).state is AttemptState.INTERRUPTED


# -- which comes first -------------------------------------------------------------------------


def a_shut_and_dear(pause: Pause | None = None) -> Snapshot:
    spec = a_spec(
        window=Window(start_min=1320, stop_min=420, tz="UTC", days=EVERY_DAY), price_limit=LIMIT
    )
    job = a_job(JobState.PAUSED if pause else JobState.ACTIVE, spec=spec, pause=pause)
    return a_snapshot(jobs=[job], offers=(an_offer(price=250_000),))


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        (Pause.USER, Pause.USER),
        (None, Pause.WINDOW),
        (Pause.PRICE, Pause.WINDOW),
        # it does not run, whatever else keeps it from that
        (Pause.BUDGET, Pause.BUDGET),
    ],
)
def test_the_users_word_is_before_the_window_and_that_before_the_price(
    before: Pause | None, kind: Pause
) -> None:
    assert paused(a_shut_and_dear(before)).jobs[JOB].pause is kind


def test_when_one_reason_ends_the_next_is_said() -> None:
    opened = dataclasses.replace(a_shut_and_dear(Pause.WINDOW), now=at(10 * 3600))
    draft = paused(opened)
    assert draft.jobs[JOB].pause is Pause.PRICE
    assert kinds(draft.plan()) == ["paused"]


def test_a_resume_into_a_closed_window_says_both() -> None:
    job = dataclasses.replace(at_night(), state=JobState.PAUSED, pause=Pause.USER)
    snapshot = a_snapshot(jobs=[job], commands=(a_command(CommandVerb.RESUME),))
    plan = decided(snapshot)
    assert kinds(plan) == ["resumed", "paused"]
    assert job_after(plan, snapshot).pause is Pause.WINDOW


@pytest.mark.parametrize("state", [state for state in JobState if state.over])
def test_what_is_over_is_paused_by_nothing(state: JobState) -> None:
    job = dataclasses.replace(at_night(), state=state)
    assert how(a_snapshot(jobs=[job])) == (state.value, None)


def test_success_while_it_stands_still_is_a_success() -> None:
    snapshot = a_snapshot(jobs=[standing(Pause.USER)], head=a_head(500, done="outputs"))
    job = job_after(decided(snapshot), snapshot)
    assert (job.state, job.pause) == (JobState.SUCCEEDED, None)


def test_the_budgets_pause_is_no_matter_of_this_phase() -> None:
    assert how(a_snapshot(jobs=[standing(Pause.BUDGET)])) == ("paused", "budget")
    running = a_running_snapshot(jobs=[standing(Pause.BUDGET)])
    assert attempt_after(decided(running), running).state is AttemptState.RUNNING


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_of_an_agent_is_understood_while_its_job_stands_still(phase: Phase) -> None:
    for state in AttemptState:
        for kind in Pause:
            attempt = an_attempt(1, state, ending=EndReason.PAUSED, ending_s=1)
            snapshot = a_running_snapshot(
                jobs=[standing(kind)],
                attempt=attempt,
                reports=(a_report(phase=phase, first_step_s=100, notice=a_notice(700)),),
            )
            later = applied(snapshot, decided(snapshot))
            decided(dataclasses.replace(later, now=at(5000)))
