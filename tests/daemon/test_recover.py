"""A store that was restored from a backup, or lost, learns from the receipts what was spent."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from structlog.testing import capture_logs

from spotrunner.adapters import codec
from spotrunner.adapters.memory import MemoryObjects
from spotrunner.adapters.receipts import ObjectReceipts
from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.core.alert import Alert, AlertKind
from spotrunner.core.model import (
    Attempt,
    EndReason,
    Event,
    Head,
    Job,
    JobSpec,
    Pause,
    PriceLimit,
)
from spotrunner.core.states import AttemptState, JobState
from spotrunner.daemon.recover import STOPPED_JOB, UNKNOWN_JOB, recover
from spotrunner.ports import Changes, StaleEpoch, Unavailable
from spotrunner.sim.cloud import VirtualClock
from tests.build import INSTALLATION, JOB, T0, a_job, a_spec, an_attempt, an_order, at, pending
from tests.contracts.values import any_of

S = AttemptState


class CountedObjects(MemoryObjects):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__(VirtualClock(T0))
        self.gets: list[str] = []

    def get(self, key: str) -> Any:
        self.gets.append(key)
        return super().get(key)


class Bench:
    """A store as a backup left it, and receipts as they are."""

    def __init__(self, *attempts: Attempt, jobs: tuple[Job, ...] | None = None) -> None:
        self.objects = CountedObjects()
        self.receipts = ObjectReceipts(self.objects)
        self.store = MemoryStore()
        self.store.set_installation(INSTALLATION)
        for job in (a_job(),) if jobs is None else jobs:
            self.store.add_job(job, ())
        self.epoch = self.store.lead("bench")
        self.store.write(self.epoch, Changes(attempts=attempts))

    def receipt(self, *attempts: Attempt) -> None:
        for attempt in attempts:
            self.receipts.put(attempt)

    def recover(self) -> None:
        recover(
            store=self.store,
            receipts=self.receipts,
            objects=self.objects,
            epoch=self.epoch,
            now=at(7200),
            channels_of=lambda alert: alert.channels or ("ops",),
        )

    def attempts(self, job: str = JOB) -> tuple[Attempt, ...]:
        return self.store.attempts([job])

    def job(self, job: str = JOB) -> Job:
        found = self.store.job(job)
        assert found is not None
        return found

    def events(self, job: str = JOB) -> list[Event]:
        return [event for _, event in self.store.events(job)]

    def due(self) -> list[tuple[str, Alert]]:
        """By channel."""
        return [(delivery.channel, delivery.alert) for delivery in self.store.due(at(7200))]

    def submitted(self, spec: JobSpec, job: str = JOB) -> None:
        self.objects.put(f"jobs/{job}/spec.json", codec.to_json(spec))

    def done(self, job: str = JOB) -> None:
        head = Head(seq=3, generation=1, attempt=f"{job}.1", nonce="n", done="outputs/1")
        self.objects.put(f"jobs/{job}/checkpoints/HEAD.json", codec.to_json(head))


def lean(attempt: Attempt) -> Attempt:
    return dataclasses.replace(attempt, request=None, order=None, order_posted_n=0)


def recovered(known: Attempt, receipt: Attempt) -> Attempt:
    bench = Bench(known)
    bench.receipt(receipt)
    bench.recover()
    (attempt,) = bench.attempts()
    return attempt


# -- nothing to learn --------------------------------------------------------------------------


def test_a_new_installation_has_nothing_to_recover() -> None:
    bench = Bench()
    bench.recover()
    assert bench.attempts() == ()
    assert bench.events() == []


@pytest.mark.parametrize("state", list(AttemptState))
@pytest.mark.parametrize("written_in", list(AttemptState))
def test_a_store_that_wrote_the_receipt_itself_learns_nothing(
    state: AttemptState, written_in: AttemptState
) -> None:
    """The receipt is as old as its last payment; the record has gone on since."""
    states = list(AttemptState)
    if states.index(written_in) > states.index(state):
        return
    known = an_attempt(1, state, hour_prices_usd_micros=(160_000,), steps_per_s=9.5)
    known = dataclasses.replace(known, order=an_order(known, n=4), order_posted_n=4)
    written = an_attempt(1, written_in, sent_s=None if written_in is S.PENDING else 1)
    bench = Bench(known)
    bench.receipt(written)
    bench.recover()
    assert bench.attempts() == (known,)
    assert bench.events() == []
    assert bench.due() == []


def test_what_was_not_sent_yet_may_still_be_sent_by_the_store_that_knows_so() -> None:
    unsent = pending(sent_s=None)
    assert recovered(unsent, unsent) == unsent


def test_only_what_is_unknown_or_alive_is_read() -> None:
    ended = [an_attempt(number, S.ENDED) for number in range(1, 1001)]
    bench = Bench(*ended, an_attempt(1001))
    bench.receipt(*ended, an_attempt(1001), an_attempt(1002, S.ENDED, cost_usd_micros=5))
    bench.recover()
    assert sorted(bench.objects.gets) == [
        f"jobs/{JOB}/spec.json",
        f"ledger/{JOB}/{JOB}.1001.json",
        f"ledger/{JOB}/{JOB}.1002.json",
    ]
    assert len(bench.attempts()) == 1002


def test_another_budget_since_the_backup_is_known_where_the_job_lies() -> None:
    """`extend` writes it there before it tells the daemon: a cap is never forgotten."""
    bench = Bench(an_attempt(1))
    old = bench.job().spec
    bench.submitted(dataclasses.replace(old, budget_usd_micros=350_000, deadline_at=at(9000)))
    bench.recover()
    assert bench.job().spec == old, "the store is not behind"
    bench.receipt(an_attempt(2))
    bench.recover()
    assert bench.job().spec.budget_usd_micros == 350_000
    assert bench.job().spec.deadline_at == at(9000)


# -- attempts that the store does not know -----------------------------------------------------


@pytest.mark.parametrize("state", [s for s in AttemptState if s is not S.PENDING])
def test_an_attempt_that_the_store_does_not_know_is_as_its_receipt_has_it(
    state: AttemptState,
) -> None:
    bench = Bench()
    bench.receipt(an_attempt(3, state))
    bench.recover()
    assert bench.attempts() == (lean(an_attempt(3, state)),)


@pytest.mark.parametrize("sent_s", [None, 9])
def test_a_launch_that_may_have_been_sent_counts_as_sent(sent_s: float | None) -> None:
    """Else it would be sent again with other bytes, or ended as if it cost nothing."""
    bench = Bench()
    bench.receipt(pending(intent_s=5, sent_s=sent_s))
    bench.recover()
    (attempt,) = bench.attempts()
    assert attempt.state is AttemptState.PENDING
    assert attempt.sent_at == at(5 if sent_s is None else sent_s)
    assert attempt.request is None


def test_what_was_learned_is_told_once() -> None:
    bench = Bench(an_attempt(1))
    bench.receipt(
        an_attempt(1, S.ENDED, cost_usd_micros=200_000),
        an_attempt(2, S.ENDED, cost_usd_micros=300_000),
        an_attempt(3, S.ENDED, cost_usd_micros=0),
    )
    bench.recover()
    (event,) = bench.events()
    assert event.kind == "recovered"
    assert "2 that it did not know and 1 that it knew less of" in event.why
    assert "0.5000 USD" in event.why
    assert event.data == {"unknown": 2, "behind": 1, "usd": 0.5}
    bench.recover()
    assert bench.events() == [event]


# -- attempts that have gone on since the backup -----------------------------------------------


def test_what_was_paid_on_since_the_backup_is_paid() -> None:
    known = an_attempt(paid_until_s=1800)
    known = dataclasses.replace(known, order=an_order(known, n=2), order_posted_n=2)
    receipt = an_attempt(
        paid_until_s=5400,
        hour_prices_usd_micros=(160_000,),
        running_price_usd_micros=170_000,
        traffic_usd_micros=900,
        traffic_reserved_usd_micros=1_000,
    )
    assert recovered(known, receipt) == dataclasses.replace(
        receipt, request=known.request, order=known.order, order_posted_n=2
    )


@pytest.mark.parametrize("known_s", [1800, 3600])
def test_paid_time_never_falls(known_s: float) -> None:
    found = recovered(an_attempt(paid_until_s=known_s), an_attempt(paid_until_s=2700))
    assert found.paid_until == at(max(known_s, 2700))


def test_a_launch_whose_answer_came_after_the_backup() -> None:
    found = recovered(pending(sent_s=None), an_attempt(paid_until_s=2700))
    assert found.state is AttemptState.RUNNING
    assert found.instance_id == an_attempt().instance_id
    assert found.launched_at == at(5)
    assert found.sent_at == at(1)


def test_a_launch_that_was_sent_and_renewed_after_the_backup_is_not_sent_again() -> None:
    found = recovered(pending(sent_s=None), pending(sent_s=15, paid_until_s=1815))
    assert found.state is AttemptState.PENDING
    assert found.sent_at == at(15)
    assert found.request is None
    assert found.paid_until == at(1815)


@pytest.mark.parametrize("state", [s for s in AttemptState if s.live])
def test_what_has_ended_since_the_backup_has_ended(state: AttemptState) -> None:
    ended = an_attempt(1, S.ENDED, ended_at=at(900), cost_usd_micros=40_000)
    found = recovered(an_attempt(1, state), ended)
    assert found.state is AttemptState.ENDED
    assert found.cost_usd_micros == 40_000
    assert found.request is not None


def test_what_was_being_ended_at_the_backup_is_not_opened_by_an_older_receipt() -> None:
    stopping = an_attempt(1, S.TERMINATING, ending=EndReason.CANCELLED, ending_s=600)
    assert recovered(stopping, an_attempt()) == stopping


def test_what_the_store_knows_as_ended_stays_so() -> None:
    ended = an_attempt(1, S.ENDED, cost_usd_micros=40_000)
    assert recovered(ended, an_attempt(paid_until_s=9000)) == ended


def test_an_orphan_that_was_opened_again_stays_open() -> None:
    """Its receipt still says that it was given up: the new one was lost."""
    given_up = an_attempt(1, S.ENDED, ended_at=at(900), ending=EndReason.LOST)
    orphan = an_attempt(1, S.TERMINATING, ending=EndReason.ORPHANED, ending_s=1000)
    assert recovered(orphan, given_up) == orphan
    closed = dataclasses.replace(given_up, ending=EndReason.ORPHANED, cost_usd_micros=7)
    assert recovered(orphan, closed).cost_usd_micros == 7


# -- jobs that the store knows -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "attempt", "after"),
    [
        (a_job(JobState.QUEUED), an_attempt(), JobState.ACTIVE),
        (a_job(JobState.ACTIVE), an_attempt(), JobState.ACTIVE),
        (a_job(JobState.PAUSED, pause=Pause.BUDGET), an_attempt(), JobState.ACTIVE),
        (a_job(JobState.PAUSED, pause=Pause.WINDOW), an_attempt(), JobState.ACTIVE),
        # its user's word is not overruled
        (a_job(JobState.PAUSED, pause=Pause.USER), an_attempt(), JobState.PAUSED),
        (a_job(JobState.CANCELLED), an_attempt(), JobState.CANCELLED),
        (a_job(JobState.QUEUED), an_attempt(1, S.ENDED), JobState.QUEUED),
        (a_job(JobState.QUEUED), an_attempt(1, S.TERMINATING), JobState.QUEUED),
    ],
)
def test_a_job_that_was_placed_since_the_backup_is_at_work(
    before: Job, attempt: Attempt, after: JobState
) -> None:
    bench = Bench(jobs=(before,))
    bench.receipt(attempt)
    bench.recover()
    assert bench.job().state is after
    assert (bench.job().pause is None) == (after is not JobState.PAUSED)


def told(number: int, state: AttemptState, ending: EndReason, **changes: Any) -> Attempt:
    """An attempt that was told to stop, as a receipt has it."""
    over = {"end_reason": ending, "ended_at": at(900)} if state is S.ENDED else {}
    return an_attempt(number, state, ending=ending, ending_s=600, **{**over, **changes})


OPEN = [
    a_job(JobState.QUEUED),
    a_job(JobState.ACTIVE),
    a_job(JobState.PAUSED, pause=Pause.BUDGET),
    a_job(JobState.PAUSED, pause=Pause.WINDOW),
]


@pytest.mark.parametrize("before", OPEN)
@pytest.mark.parametrize("state", [S.TERMINATING, S.ENDED])
@pytest.mark.parametrize("ending", [EndReason.CANCELLED, EndReason.PAUSED])
def test_a_job_that_was_told_to_stop_since_the_backup_does_not_come_to_life(
    before: Job, state: AttemptState, ending: EndReason
) -> None:
    bench = Bench(jobs=(before,))
    bench.receipt(told(1, state, ending))
    bench.recover()
    job = bench.job()
    assert (job.state, job.pause) == (JobState.PAUSED, Pause.USER)
    assert job.reason == STOPPED_JOB.format(job=JOB)
    assert [event.kind for event in bench.events()] == ["recovered"]


def test_also_where_the_backup_knew_the_instance_at_work() -> None:
    bench = Bench(an_attempt(1), jobs=(a_job(JobState.ACTIVE),))
    bench.receipt(told(1, S.ENDED, EndReason.CANCELLED))
    bench.recover()
    assert bench.job().pause is Pause.USER


def test_also_where_ec2_took_it_while_it_was_stopping() -> None:
    bench = Bench()
    bench.receipt(told(1, S.ENDED, EndReason.PAUSED, end_reason=EndReason.INTERRUPTED))
    bench.recover()
    assert bench.job().pause is Pause.USER


@pytest.mark.parametrize(
    ("attempts", "after"),
    [
        ((told(1, S.ENDED, EndReason.PAUSED), an_attempt(2)), JobState.ACTIVE),
        ((told(1, S.ENDED, EndReason.PAUSED), told(2, S.ENDED, EndReason.MOVED)), JobState.QUEUED),
        ((an_attempt(1, S.ENDED), told(2, S.ENDED, EndReason.CANCELLED)), JobState.PAUSED),
        ((told(9, S.ENDED, EndReason.PAUSED), an_attempt(10)), JobState.ACTIVE),
    ],
)
def test_the_newest_instance_says_what_was_wanted_last(
    attempts: tuple[Attempt, ...], after: JobState
) -> None:
    bench = Bench(jobs=(a_job(JobState.QUEUED),))
    bench.receipt(*attempts)
    bench.recover()
    assert bench.job().state is after


def test_a_stop_that_the_backup_knew_of_is_no_news() -> None:
    """Its user has resumed the job since, and the backup knows."""
    known = told(1, S.TERMINATING, EndReason.PAUSED)
    bench = Bench(known, jobs=(a_job(JobState.QUEUED),))
    bench.receipt(told(1, S.ENDED, EndReason.PAUSED))
    bench.recover()
    assert bench.attempts()[0].state is S.ENDED
    assert bench.job().state is JobState.QUEUED
    assert bench.due() == []


@pytest.mark.parametrize(
    "before", [a_job(JobState.PAUSED, pause=Pause.USER), a_job(JobState.CANCELLED)]
)
def test_what_the_store_knows_as_stopped_stays_as_it_is(before: Job) -> None:
    bench = Bench(jobs=(before,))
    bench.receipt(told(1, S.ENDED, EndReason.CANCELLED))
    bench.recover()
    assert bench.job() == before
    assert bench.due() == []


def test_whose_job_waits_for_a_word_hears_of_it_once() -> None:
    bench = Bench(jobs=(a_job(spec=a_spec(owner="alice", alerts=("me",))),))
    bench.receipt(told(1, S.ENDED, EndReason.CANCELLED, cost_usd_micros=250_000))
    bench.recover()
    bench.recover()
    ((channel, alert),) = bench.due()
    assert channel == "me"
    assert alert == Alert(
        key=f"{JOB}/recovered/{bench.epoch}",
        at=at(7200),
        kind=AlertKind.PAUSED,
        job_id=JOB,
        owner="alice",
        channels=("me",),
        title=f"{JOB} is paused",
        why=STOPPED_JOB.format(job=JOB),
        cost="0.2500 USD counted from its receipts",
        command=f"spotrunner resume {JOB}",
    )


def test_a_job_that_is_at_work_again_is_nobodys_alarm() -> None:
    bench = Bench(jobs=(a_job(JobState.QUEUED),))
    bench.receipt(an_attempt())
    bench.recover()
    assert bench.due() == []


# -- jobs that the store does not know ---------------------------------------------------------


def test_an_unknown_job_is_back_paused_and_its_money_counted() -> None:
    bench = Bench(jobs=())
    spec = a_spec(owner="alice", budget_usd_micros=3_000_000)
    bench.objects.put(f"jobs/{JOB}/spec.json", codec.to_json(spec))
    bench.receipt(
        an_attempt(1, S.ENDED, intent_s=100, cost_usd_micros=250_000), an_attempt(2, intent_s=900)
    )
    bench.recover()
    assert bench.job() == Job(
        id=JOB,
        spec=spec,
        state=JobState.PAUSED,
        submitted_at=at(100),
        pause=Pause.USER,
        reason=UNKNOWN_JOB.format(job=JOB),
    )
    assert [a.state for a in bench.attempts()] == [S.ENDED, S.RUNNING]
    assert [event.kind for event in bench.events()] == ["recovered"]
    ((channel, alert),) = bench.due()
    assert (channel, alert.kind, alert.owner) == ("ops", AlertKind.PAUSED, "alice")
    assert alert.why == UNKNOWN_JOB.format(job=JOB)


FAILED = told(2, S.ENDED, EndReason.FAILED, end_detail="the trainer exited with 1")
CANCELLED = told(2, S.ENDED, EndReason.CANCELLED)
PANICKED = told(2, S.ENDED, EndReason.CANCELLED, end_detail="ordered to stop: spotrunner panic")


@pytest.mark.parametrize(
    ("last", "is_done", "retries", "after"),
    [
        (told(2, S.ENDED, EndReason.DONE), True, 0, JobState.SUCCEEDED),
        (CANCELLED, True, 0, JobState.SUCCEEDED),
        (CANCELLED, False, 0, JobState.CANCELLED),
        (FAILED, False, 0, JobState.FAILED),
        # It would have been tried again.
        (FAILED, False, 1, JobState.PAUSED),
        # Nobody cancelled it: `spotrunner panic` stopped the instance behind the daemon's back.
        (PANICKED, False, 0, JobState.PAUSED),
        (told(2, S.ENDED, EndReason.PAUSED), False, 0, JobState.PAUSED),
        (told(2, S.ENDED, EndReason.INTERRUPTED), False, 0, JobState.PAUSED),
    ],
)
def test_an_unknown_job_that_is_over_comes_back_as_it_ended(
    last: Attempt, is_done: bool, retries: int, after: JobState
) -> None:
    bench = Bench(jobs=())
    bench.submitted(a_spec(retries=retries))
    if is_done:
        bench.done()
    bench.receipt(an_attempt(1, S.ENDED, cost_usd_micros=250_000), last)
    bench.recover()
    job = bench.job()
    assert job.state is after
    assert (job.pause is Pause.USER) == (after is JobState.PAUSED)
    assert job.ended_at == (last.ended_at if after.over else None)
    assert [event.kind for event in bench.events()] == ["recovered"]
    assert len(bench.due()) == (0 if after.over else 1)
    assert bench.attempts() == (lean(an_attempt(1, S.ENDED, cost_usd_micros=250_000)), lean(last))


def test_a_head_that_cannot_be_read_keeps_nobody_from_leading() -> None:
    bench = Bench(jobs=())
    bench.submitted(a_spec())
    bench.objects.put(f"jobs/{JOB}/checkpoints/HEAD.json", b"not JSON")
    bench.receipt(an_attempt(1, S.ENDED))
    bench.recover()
    assert bench.job().pause is Pause.USER


# Floats as a job file can have them: finite.
FLOATS: dict[str, Any] = {
    "speeds": (("g4dn.xlarge", 0.5),),
    "price_limit": PriceLimit(after_s=600, pause_share=0.4, resume_share=0.38),
}


@settings(deadline=None)
@given(any_of(JobSpec, **FLOATS))
def test_any_spec_is_read_as_it_was_written(spec: JobSpec) -> None:
    bench = Bench(jobs=())
    bench.objects.put(f"jobs/{JOB}/spec.json", codec.to_json(spec))
    bench.receipt(an_attempt())
    bench.recover()
    assert bench.job().spec == spec


@pytest.mark.parametrize("body", [None, b"not JSON", b'{"name": "digits"}'])
def test_money_of_a_job_that_nobody_knows_is_said_aloud(body: bytes | None) -> None:
    bench = Bench(jobs=())
    if body is not None:
        bench.objects.put(f"jobs/{JOB}/spec.json", body)
    bench.receipt(an_attempt(1, S.ENDED, cost_usd_micros=250_000))
    with capture_logs() as lines:
        bench.recover()
    assert bench.store.jobs() == ()
    (line,) = [each for each in lines if each["log_level"] == "error"]
    assert line["job"] == JOB
    assert line["attempts"] == [f"{JOB}.1"]
    assert line["usd"] == 0.25


# -- what goes wrong ---------------------------------------------------------------------------


def test_a_receipt_that_cannot_be_read_hides_no_other() -> None:
    bench = Bench()
    bench.receipt(an_attempt(2))
    bench.objects.put(f"ledger/{JOB}/{JOB}.1.json", b"not JSON")
    bench.recover()
    assert [a.id for a in bench.attempts()] == [f"{JOB}.2"]


@pytest.mark.parametrize("operation", ["list", "get"])
def test_without_s3_nobody_leads(operation: str) -> None:
    """Whoever does not know what was spent may pay for nothing."""
    bench = Bench()
    bench.receipt(*(an_attempt(number) for number in range(1, 30)))
    bench.objects.fail_next(operation, Unavailable("no answer"), prefix="ledger/")
    with pytest.raises(Unavailable):
        bench.recover()
    assert bench.attempts() == ()
    bench.recover()
    assert len(bench.attempts()) == 29


def test_a_failure_half_way_is_made_good_by_the_next_call() -> None:
    bench = Bench(jobs=())
    for job in ("a-1111", "b-2222"):
        bench.objects.put(f"jobs/{job}/spec.json", codec.to_json(a_spec()))
        bench.receipt(an_attempt(1, S.ENDED, job=job, cost_usd_micros=5))
    bench.objects.fail_next("get", Unavailable("no answer"), prefix="jobs/b-2222/")
    with pytest.raises(Unavailable):
        bench.recover()
    assert [job.id for job in bench.store.jobs()] == ["a-1111"]
    bench.recover()
    assert [job.id for job in bench.store.jobs()] == ["a-1111", "b-2222"]
    assert [len(bench.events(job)) for job in ("a-1111", "b-2222")] == [1, 1]


def test_a_daemon_that_no_longer_leads_writes_nothing() -> None:
    bench = Bench()
    bench.receipt(an_attempt())
    bench.store.lead("another")
    with pytest.raises(StaleEpoch):
        bench.recover()
    assert bench.attempts() == ()
