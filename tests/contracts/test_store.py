"""The contract of ports.Store, over memory and SQLite."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from spotrunner.core.model import Attempt, Command, CommandVerb, Event, Job, Pool, Refusal
from spotrunner.core.states import AttemptState, JobState
from spotrunner.ports import Changes, Misconfigured, StaleEpoch, Store
from tests.contracts.values import (
    a_job,
    a_refusal,
    a_spec,
    an_attempt,
    an_event,
    any_of,
    at,
    led,
)

JOB = "digits-aaaa"

# A store is made once a test and shared by its examples: each leaves its own jobs behind.
many = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# -- whose it is, and who may write ------------------------------------------------------------


def test_the_installation_is_set_once(store: Store) -> None:
    assert store.installation() is None
    store.set_installation("5170c4fe")
    store.set_installation("5170c4fe")
    assert store.installation() == "5170c4fe"
    with pytest.raises(Misconfigured, match=r"5170c4fe, not 11111111"):
        store.set_installation("11111111")
    assert store.installation() == "5170c4fe"


def test_every_leader_has_a_higher_epoch(store: Store) -> None:
    epochs = [store.lead(holder) for holder in ("a", "b", "a")]
    assert epochs == sorted(set(epochs))
    assert epochs[0] >= 1


def test_every_region_of_any_attempt_is_remembered(store: Store) -> None:
    assert store.regions() == frozenset()
    epoch = led(store, a_job())
    for generation, region in ((1, "us-east-1"), (2, "eu-west-1"), (3, "us-east-1")):
        pool = Pool(region=region, zone=f"{region}a", instance_type="g4dn.xlarge")
        attempt = an_attempt(JOB, generation)
        offer = dataclasses.replace(attempt.offer, pool=pool)
        changed = dataclasses.replace(attempt, offer=offer, state=AttemptState.ENDED)
        store.write(epoch, Changes(attempts=(changed,)))
    assert store.regions() == {"us-east-1", "eu-west-1"}


def test_a_leader_gets_above_what_the_mail_remembers(store: Store) -> None:
    assert store.lead("restored from a backup", above=41) == 42
    assert store.lead("the next", above=7) == 43


def test_only_the_latest_leader_writes(store: Store) -> None:
    first = led(store, a_job())
    second = store.lead("another")
    changes = Changes(jobs=(a_job(state=JobState.ACTIVE),), events=(an_event(),))
    with pytest.raises(StaleEpoch):
        store.write(first, changes)
    assert store.job(JOB) == a_job()
    assert store.events(JOB) == ()
    store.write(second, changes)
    assert store.job(JOB) == a_job(state=JobState.ACTIVE)


def test_an_epoch_that_was_never_given_out_writes_nothing(store: Store) -> None:
    """That of a leader whose store was replaced under it by a backup."""
    epoch = led(store, a_job())
    with pytest.raises(StaleEpoch):
        store.write(epoch + 1, Changes(events=(an_event(),)))


# -- one transaction ---------------------------------------------------------------------------


def test_a_write_is_whole(store: Store) -> None:
    epoch = led(store, a_job())
    command = store.add_command(JOB, CommandVerb.CANCEL, at(1))
    changes = Changes(
        jobs=(a_job(state=JobState.ACTIVE, reason="because"),),
        attempts=(an_attempt(), an_attempt(generation=2)),
        events=(an_event(), an_event(kind="placed")),
        refusals=(a_refusal(),),
        commands_done=(command.id,),
    )
    store.write(epoch, changes)
    assert store.jobs() == changes.jobs
    assert store.attempts([JOB]) == changes.attempts
    assert tuple(event for _, event in store.events(JOB)) == changes.events
    assert store.refusals(at(0)) == changes.refusals
    assert store.commands() == ()


@pytest.mark.parametrize(
    "wrong",
    [
        Changes(jobs=(a_job("nobody-aaaa"),)),
        Changes(attempts=(an_attempt("nobody-aaaa"),)),
    ],
    ids=["job", "attempt"],
)
def test_of_a_write_that_is_refused_nothing_stays(store: Store, wrong: Changes) -> None:
    epoch = led(store, a_job())
    command = store.add_command(JOB, CommandVerb.CANCEL, at(1))
    with pytest.raises(Misconfigured, match="no job nobody-aaaa"):
        store.write(
            epoch,
            Changes(
                jobs=(a_job(state=JobState.ACTIVE), *wrong.jobs),
                attempts=(an_attempt(), *wrong.attempts),
                events=(an_event(),),
                refusals=(a_refusal(),),
                commands_done=(command.id,),
            ),
        )
    assert store.jobs() == (a_job(),)
    assert store.attempts([JOB, "nobody-aaaa"]) == ()
    assert store.events(JOB) == ()
    assert store.refusals(at(0)) == ()
    assert store.commands() == (command,)


def test_a_later_value_replaces_the_earlier_one(store: Store) -> None:
    epoch = led(store, a_job())
    store.write(epoch, Changes(attempts=(an_attempt(),)))
    ended = an_attempt(state=AttemptState.ENDED, ended_at=at(60), cost_usd_micros=7)
    store.write(epoch, Changes(attempts=(ended,)))
    assert store.attempts([JOB]) == (ended,)


# -- jobs --------------------------------------------------------------------------------------


def test_a_job_comes_with_its_first_events(store: Store) -> None:
    store.add_job(a_job(), [an_event(kind="submitted")])
    assert store.job(JOB) == a_job()
    assert [event.kind for _, event in store.events(JOB)] == ["submitted"]


def test_an_id_is_taken_once(store: Store) -> None:
    store.add_job(a_job(), ())
    with pytest.raises(Misconfigured, match=f"there is a job {JOB} already"):
        store.add_job(a_job(reason="another"), [an_event()])
    assert store.jobs() == (a_job(),)
    assert store.events(JOB) == ()


def test_there_is_no_job_that_nobody_added(store: Store) -> None:
    assert store.job(JOB) is None
    assert store.jobs() == ()
    assert store.open_jobs() == ()
    assert store.attempts([JOB]) == ()
    assert store.attempts([]) == ()


def test_jobs_come_oldest_first(store: Store) -> None:
    for name, seconds in (("c", 1), ("a", 2), ("b", 0)):
        store.add_job(a_job(name, submitted_at=at(seconds)), ())
    assert [job.id for job in store.jobs()] == ["b", "c", "a"]
    assert store.open_jobs() == store.jobs()


def test_the_newest_jobs_come_oldest_first(store: Store) -> None:
    for number, second in enumerate((3, 1, 2, 2)):
        store.add_job(a_job(f"digits-aaa{number}", submitted_at=at(second)), ())
    assert [job.id[-1] for job in store.jobs(newest=2)] == ["3", "0"]
    assert [job.id[-1] for job in store.jobs(newest=3)] == ["2", "3", "0"]
    assert store.jobs(newest=9) == store.jobs(newest=4) == store.jobs()
    assert store.jobs(newest=0) == ()


def test_jobs_are_found_by_their_name(store: Store) -> None:
    """All of it: one name may begin like another, and a search knows no wildcards."""
    for name, second in (("digits", 2), ("digits", 1), ("digits-x", 0), ("digit", 0), ("d", 0)):
        job = a_job(f"{name}-aaa{second}", spec=a_spec(name=name), submitted_at=at(second))
        store.add_job(job, ())
    assert [job.id for job in store.jobs_named("digits")] == ["digits-aaa1", "digits-aaa2"]
    assert [job.id for job in store.jobs_named("digits-x")] == ["digits-x-aaa0"]
    for nobody in ("", "digits-aaa1", "d%", "digit_", "DIGITS"):
        assert store.jobs_named(nobody) == ()


def test_jobs_are_counted_by_state(store: Store) -> None:
    assert not store.job_counts()
    states = [JobState.QUEUED, JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.ACTIVE]
    for number, state in enumerate(states):
        store.add_job(a_job(f"digits-aaa{number}", state=state), ())
    assert dict(store.job_counts()) == {
        JobState.QUEUED: 1,
        JobState.SUCCEEDED: 2,
        JobState.ACTIVE: 1,
    }


def test_open_are_jobs_that_are_not_over_or_have_a_live_attempt(store: Store) -> None:
    jobs = [
        a_job(f"{state.value}-{live}", state=state, submitted_at=at(number))
        for number, state in enumerate(JobState)
        for live in (False, True)
    ]
    epoch = led(store, *jobs)
    live_states = [state for state in AttemptState if state.live]
    attempts = [an_attempt(job.id, 1, state=AttemptState.ENDED) for job in jobs]
    attempts += [
        an_attempt(job.id, 2, state=live_states[number % len(live_states)])
        for number, job in enumerate(jobs)
        if job.id.endswith("True")
    ]
    store.write(epoch, Changes(attempts=tuple(attempts)))
    wanted = [job.id for job in jobs if not job.state.over or job.id.endswith("True")]
    assert [job.id for job in store.open_jobs()] == wanted


@pytest.mark.parametrize("state", [state for state in AttemptState if state.live])
def test_a_live_attempt_of_any_state_keeps_its_job_open(store: Store, state: AttemptState) -> None:
    epoch = led(store, a_job(state=JobState.CANCELLED))
    store.write(epoch, Changes(attempts=(an_attempt(state=state),)))
    assert [job.id for job in store.open_jobs()] == [JOB]


def test_attempts_come_by_job_and_generation(store: Store) -> None:
    names = [f"job-{number:04d}" for number in range(1200)]
    epoch = led(store, a_job("a"), a_job("b"))
    wanted = [an_attempt(name, number) for name in ("a", "b") for number in (1, 2, 10)]
    store.write(epoch, Changes(attempts=tuple(reversed(wanted))))
    # Ids of no job, and more of them than a statement takes.
    assert store.attempts(["b", *names, "a", "a"]) == tuple(wanted)
    assert store.attempts(["b"]) == tuple(wanted[3:])


def test_recent_attempts_are_live_or_ended_since_a_time(store: Store) -> None:
    ended = AttemptState.ENDED
    epoch = led(store, a_job("a"), a_job("b", state=JobState.SUCCEEDED))
    attempts = [
        an_attempt("a", 1, state=ended, intent_at=at(40), ended_at=at(99.999999)),
        an_attempt("a", 2, state=ended, intent_at=at(30), ended_at=at(100)),
        an_attempt("a", 3, state=AttemptState.RUNNING, intent_at=at(20)),
        # An instance of it turned up after it was given up.
        an_attempt("b", 1, state=AttemptState.TERMINATING, intent_at=at(0), ended_at=at(50)),
        an_attempt("b", 2, state=ended, intent_at=at(10), ended_at=at(200)),
        an_attempt("b", 3, state=ended, intent_at=at(10)),
    ]
    store.write(epoch, Changes(attempts=tuple(attempts)))
    found = [attempt.id for attempt in store.recent_attempts(at(100))]
    assert found == ["b.1", "b.2", "a.3", "a.2"]
    assert store.recent_attempts(at(99))[-1] == attempts[0]
    assert [attempt.id for attempt in store.recent_attempts(at(999))] == ["b.1", "a.3"]


@pytest.mark.parametrize("state", [state for state in AttemptState if state.live])
def test_an_attempt_of_any_live_state_is_recent(store: Store, state: AttemptState) -> None:
    assert store.recent_attempts(at(0)) == ()
    epoch = led(store, a_job())
    store.write(epoch, Changes(attempts=(an_attempt(state=state),)))
    assert store.recent_attempts(at(10**6)) == (an_attempt(state=state),)


def test_recent_attempts_of_one_time_come_by_their_ids(store: Store) -> None:
    epoch = led(store, a_job("a"), a_job("b"))
    wanted = [an_attempt(job, number) for job in ("a", "b") for number in (1, 2)]
    store.write(epoch, Changes(attempts=tuple(reversed(wanted))))
    assert store.recent_attempts(at(0)) == tuple(wanted)


# -- somebody looks ----------------------------------------------------------------------------


def test_watching_only_raises_the_time(store: Store) -> None:
    led(store, a_job())
    for seconds, wanted in ((60, 60), (30, 60), (90, 90)):
        store.watch(JOB, at(seconds))
        assert store.job(JOB) == a_job(watched_until=at(wanted))
    store.watch("nobody", at(60))
    assert len(store.jobs()) == 1


def test_a_write_keeps_who_watches(store: Store) -> None:
    """The leader writes what it knew at the beginning of its round."""
    epoch = led(store, a_job(watched_until=at(10)))
    store.watch(JOB, at(60))
    store.write(epoch, Changes(jobs=(a_job(watched_until=at(10), state=JobState.ACTIVE),)))
    assert store.job(JOB) == a_job(watched_until=at(60), state=JobState.ACTIVE)


# -- commands ----------------------------------------------------------------------------------


def test_commands_wait_in_their_order_until_they_are_done(store: Store) -> None:
    epoch = led(store, a_job())
    first = store.add_command(JOB, CommandVerb.CHECKPOINT, at(1))
    second = store.add_command(JOB, CommandVerb.CANCEL, at(1))
    assert first == Command(id=first.id, at=at(1), job_id=JOB, verb=CommandVerb.CHECKPOINT)
    assert first.id != second.id
    assert store.commands() == (first, second)
    store.write(epoch, Changes(commands_done=(first.id,)))
    store.write(epoch, Changes(commands_done=(first.id, 999)))
    assert store.commands() == (second,)


def test_there_is_no_command_without_its_job(store: Store) -> None:
    with pytest.raises(Misconfigured, match="there is no job nobody"):
        store.add_command("nobody", CommandVerb.CANCEL, at(1))
    assert store.commands() == ()


# -- events and refusals -----------------------------------------------------------------------


def test_events_are_read_on_from_a_number(store: Store) -> None:
    epoch = led(store, a_job(), a_job("other"))
    events = [an_event(kind=str(n)) for n in range(3)]
    store.write(epoch, Changes(events=(events[0], an_event("other"), events[1])))
    store.write(epoch, Changes(events=(events[2],)))
    numbered = store.events(JOB)
    assert [event for _, event in numbered] == events
    numbers = [number for number, _ in numbered]
    assert numbers == sorted(set(numbers))
    assert store.events(JOB, after=0) == numbered
    assert store.events(JOB, after=numbers[0]) == numbered[1:]
    assert store.events(JOB, after=numbers[2]) == ()


@pytest.mark.parametrize("why", ["", "\0 \ud800 'x'; --", "ж" * 100_000])
def test_an_event_may_quote_anything_of_anybody(store: Store, why: str) -> None:
    epoch = led(store)
    event = an_event(
        "a-job-that-only-tags-know", why=why, data={"exit": -9, "price": 0.5, "x": why}
    )
    store.write(epoch, Changes(events=(event,)))
    assert [found for _, found in store.events(event.job_id)] == [event]


def test_refusals_are_read_since_a_time(store: Store) -> None:
    epoch = led(store)
    refusals = [a_refusal(at=at(seconds), message=str(seconds)) for seconds in (30, 10, 20, 10)]
    store.write(epoch, Changes(refusals=tuple(refusals)))
    found = [refusal.message for refusal in store.refusals(at(0))]
    assert found == ["10", "10", "20", "30"]
    assert [refusal.message for refusal in store.refusals(at(20))] == ["20", "30"]


def test_times_of_any_zone_are_one_time(store: Store) -> None:
    shanghai = dt.timezone(dt.timedelta(hours=8))
    epoch = led(store)
    store.write(epoch, Changes(refusals=(a_refusal(at=at(0.5).astimezone(shanghai)),)))
    assert len(store.refusals(at(0.5))) == 1
    assert store.refusals(at(0.500001)) == ()


# -- all values come back ----------------------------------------------------------------------


@many
@given(data=st.data())
def test_what_was_written_is_read(store: Store, data: st.DataObject) -> None:
    name = f"job-{len(store.jobs())}"
    job = data.draw(any_of(Job, id=name))
    # Nothing is booked of it: years of any length and prices of any size come to no cost.
    live = st.sampled_from([state for state in AttemptState if state.live])
    attempt = data.draw(any_of(Attempt, id=f"{name}.1", job_id=name, state=data.draw(live)))
    refusal = data.draw(any_of(Refusal))
    event = data.draw(any_of(Event, job_id=name, subject=name, kind="placed"))
    store.add_job(a_job(name, submitted_at=job.submitted_at, watched_until=job.watched_until), ())
    epoch = store.lead("test")
    store.write(
        epoch, Changes(jobs=(job,), attempts=(attempt,), refusals=(refusal,), events=(event,))
    )
    assert store.job(name) == job
    assert store.attempts([name]) == (attempt,)
    assert refusal in store.refusals(refusal.at)
    assert [found for _, found in store.events(name)] == [event]


# -- several threads ---------------------------------------------------------------------------

ROUNDS = 40


def together(*acts: Callable[[], None]) -> None:
    """Run all at once; an error in any is raised."""
    with ThreadPoolExecutor(len(acts)) as executor:
        for result in [executor.submit(act) for act in acts]:
            result.result(timeout=60)


def test_the_api_writes_beside_the_round(store: Store) -> None:
    epoch = led(store, a_job())
    commands: list[Command] = []

    def write() -> None:
        for n in range(1, ROUNDS + 1):
            changes = Changes(jobs=(a_job(checkpoints_asked=n),), attempts=(an_attempt(),))
            store.write(epoch, changes)

    def ask() -> None:
        for n in range(ROUNDS):
            commands.append(store.add_command(JOB, CommandVerb.CHECKPOINT, at(n)))

    def watch() -> None:
        for n in range(ROUNDS):
            store.watch(JOB, at(n))

    def submit() -> None:
        for n in range(ROUNDS):
            store.add_job(a_job(f"other-{n}"), [an_event(f"other-{n}")])

    together(write, ask, ask, watch, submit)
    assert store.job(JOB) == a_job(checkpoints_asked=ROUNDS, watched_until=at(ROUNDS - 1))
    assert len(store.jobs()) == 1 + ROUNDS
    assert sorted(command.id for command in store.commands()) == sorted(it.id for it in commands)
    assert len({command.id for command in commands}) == 2 * ROUNDS


def test_readers_see_a_write_whole_or_not_at_all(store: Store) -> None:
    epoch = led(store, a_job())
    over = threading.Event()

    def write() -> None:
        try:
            for n in range(ROUNDS):
                attempts = tuple(an_attempt(generation=g, step_before=n) for g in (1, 2, 3))
                store.write(epoch, Changes(attempts=attempts, events=(an_event(),) * 2))
        finally:
            over.set()

    def read() -> None:
        while not over.is_set():
            assert len({attempt.step_before for attempt in store.attempts([JOB])}) <= 1
            assert len(store.events(JOB)) % 2 == 0

    together(write, read, read)
    assert len(store.events(JOB)) == 2 * ROUNDS


def test_when_leaders_race_one_writes_at_a_time(store: Store) -> None:
    """Each adds to what it read; an earlier leader's late write would be lost or lose another's."""
    led(store, a_job())
    kept: list[int] = []

    def lead_and_write() -> None:
        for _ in range(ROUNDS // 4):
            epoch = store.lead("one of many")
            job = store.job(JOB)
            assert job is not None
            try:
                store.write(
                    epoch,
                    Changes(jobs=(dataclasses.replace(job, spec=a_spec(retries=epoch)),)),
                )
            except StaleEpoch:
                continue
            kept.append(epoch)

    together(lead_and_write, lead_and_write, lead_and_write)
    job = store.job(JOB)
    assert job is not None
    # Whoever wrote last was the last leader that could write.
    assert job.spec.retries == max(kept)
