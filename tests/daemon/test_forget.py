"""What a submission kept encrypted of a job's secrets goes when nobody can need it any more."""

from __future__ import annotations

from structlog.testing import capture_logs

from spotrunner.core.model import CommandVerb
from spotrunner.core.secret_place import object_key
from spotrunner.core.secret_ref import SecretRef
from spotrunner.daemon.forget import FORGOTTEN
from spotrunner.ports import NotAuthorized, Unavailable
from spotrunner.sim.trainer import Training
from tests.daemon.tale import JOB, Tale

KEY = object_key(JOB, "WANDB_API_KEY")
SECRETS = (
    SecretRef(name="WANDB_API_KEY", source="object:WANDB_API_KEY"),
    SecretRef(name="HF_TOKEN", source="ssm:/hf"),
)
SHORT = Training(total_steps=6_000)


def a_tale() -> Tale:
    tale = Tale(training=SHORT, secrets=SECRETS)
    tale.objects.put_encrypted(KEY, b"s-1")
    return tale


def lies_there(tale: Tale) -> bool:
    return any(True for _ in tale.objects.list(KEY))


def test_it_is_deleted_when_the_job_is_over_and_an_event_says_so() -> None:
    tale = a_tale()
    tale.until_trains(1)
    assert lies_there(tale)
    tale.until_over()
    tale.until(lambda: not lies_there(tale), 60)
    tale.until(lambda: bool(tale.events(FORGOTTEN)), 60)
    (event,) = tale.events(FORGOTTEN)
    assert event.why == "the job is over: WANDB_API_KEY no longer lies in the bucket"


def test_a_replacement_finds_it() -> None:
    tale = a_tale()
    tale.until_trains(1)
    tale.interrupt(1)
    tale.until_trains(2)
    assert lies_there(tale)


def test_a_paused_job_keeps_it() -> None:
    tale = a_tale()
    tale.until_trains(1)
    tale.command(JOB, CommandVerb.PAUSE)
    tale.until(lambda: not tale.alive())
    tale.run(120)
    assert lies_there(tale)


def test_an_instance_that_ends_slowly_may_still_read_it() -> None:
    tale = a_tale()
    tale.until_trains(1)
    tale.command(JOB, CommandVerb.CANCEL)
    tale.until(lambda: tale.job(JOB).state.over)
    assert tale.store.open_jobs(), "its instance is there"
    assert lies_there(tale)
    tale.until_over()
    tale.until(lambda: not lies_there(tale), 60)


def test_an_s3_that_does_not_answer_is_asked_again() -> None:
    tale = a_tale()
    tale.until_over()
    tale.objects.fail_next("delete", Unavailable("503"), prefix=KEY)
    tale.run(20)
    tale.until(lambda: not lies_there(tale), 60)
    tale.until(lambda: bool(tale.events(FORGOTTEN)), 60)


def test_a_delete_that_is_refused_is_asked_seldom_and_told_when_it_changes() -> None:
    tale = a_tale()
    for error in (*[NotAuthorized("s3:DeleteObject")] * 3, *[Unavailable("503")] * 3):
        tale.objects.fail_next("delete", error, prefix=KEY)
    tale.until_over()
    with capture_logs() as logged:
        tale.run(60)
        assert lies_there(tale)
        tale.until(lambda: not lies_there(tale), 3600)
    told = [line["error"] for line in logged if line["event"] == "secrets not deleted"]
    assert told in (["s3:DeleteObject", "503"], ["503"])
    gone_at = tale.clock.now()
    ended_at = tale.job(JOB).ended_at
    assert ended_at is not None
    waits_s = 10 + 20 + 40 + 80 + 160 + 320
    assert waits_s <= (gone_at - ended_at).total_seconds() < waits_s + 300


def test_a_daemon_that_was_killed_before_it_had_deleted_it_does_so_later() -> None:
    tale = a_tale()
    tale.until(lambda: not tale.store.open_jobs())
    tale.start_daemon()
    tale.until(lambda: bool(tale.events(FORGOTTEN)), 60)
    assert not lies_there(tale)
    tale.start_daemon()
    tale.run(60)
    assert len(tale.events(FORGOTTEN)) == 1, "once"


def test_a_job_without_any_has_no_such_event() -> None:
    tale = Tale(training=SHORT, secrets=SECRETS[1:])
    tale.until_over()
    tale.run(60)
    assert not tale.events(FORGOTTEN)
