"""S3 in trouble in the life of a whole agent: it boots, restores, trains, commits, ships and ends
through every answer that S3 has, and through damage to what lies there."""

from __future__ import annotations

import datetime as dt

import pytest

from spotrunner.adapters.heads import ObjectHeads
from spotrunner.core.model import CheckpointRef, Phase, Verb
from tests.agent.faulty_s3 import ANSWERS, Fault
from tests.agent.rented import SEED_STEP, Account
from tests.agent.told import JOB

pytestmark = pytest.mark.slow

# Every kind of request that an agent makes, in the order of its life.
REQUESTS = [
    ("GET", "*/mail/orders/*"),
    ("GET", "*/spec.json"),
    ("GET", "*/workdir/*"),
    ("GET", "*/datasets/*"),
    ("GET", "*/HEAD.json"),
    ("PUT", "*/HEAD.json"),
    ("GET", "*/checkpoints/000*/MANIFEST.json"),
    ("GET", "*/checkpoints/000*/weights"),
    ("PUT", "*/mail/reports/*"),
    ("PUT", "*/checkpoints/000*/state.json"),
    ("PUT", "*/checkpoints/000*/MANIFEST.json"),
    ("PUT", "*/logs/*"),
    ("PUT", "*/outputs/*/model.json"),
    ("PUT", "*/outputs/*/MANIFEST.json"),
]


@pytest.mark.parametrize("kind", [*ANSWERS, "lost", "cut", "slow"])
def test_a_whole_life_through_each_answer(account: Account, kind: str) -> None:
    """The first two requests of each kind meet it; one, of what the client itself does not try
    again, so that the waits between the agent's own tries stay short."""
    account.submit("90 0.02")
    machine = account.rent()
    times = 2 if kind in ("500", "503", "lost", "cut", "slow") else 1
    faults = [
        Fault(kind=kind, method=method, path=path, times=times)
        for method, path in REQUESTS
        # What is never asked for on a condition is never refused for one.
        if kind not in ("409", "412") or method == "PUT"
    ]
    account.s3.script(*faults)
    machine.start()
    machine.until_phase(Phase.DONE)
    account.s3.script()
    head = account.holds()
    assert head.done is not None
    assert account.model()["trail"] == [f"{JOB}.1"]


@pytest.mark.parametrize("kind", ["503", "cut"])
def test_s3_that_is_gone_from_the_notice_on_costs_only_what_was_not_committed(
    account: Account, kind: str
) -> None:
    account.submit("9000 0.02")
    machine = account.rent()
    machine.start()
    machine.until_report(lambda report: (report.committed_step or 0) > SEED_STEP)
    committed = account.head.step
    account.s3.script(Fault(kind=kind, method="PUT", path="*/checkpoints/*", times=100_000))
    machine.order(paid_until=account.in_s(40))
    machine.notice(in_s=20)
    machine.until_phase(Phase.HANDOVER)
    machine.until(lambda: machine.calls("shutdown -P now"))
    account.s3.script()
    head = account.holds()
    assert head.generation == 2
    assert head.step >= committed


def harm(account: Account, ref: CheckpointRef, what: str) -> None:
    if what == "wrong digest":
        account.objects.put(f"{ref.folder}weights", b"w" * 4096)
    elif what == "missing object":
        account.objects.delete([f"{ref.folder}weights"])
    elif what == "torn: no manifest":
        account.objects.delete([f"{ref.folder}MANIFEST.json"])
    else:
        account.objects.put(f"{ref.folder}MANIFEST.json", b'{"files": [')


@pytest.mark.parametrize(
    "what", ["wrong digest", "missing object", "torn: no manifest", "torn: half a manifest"]
)
def test_what_cannot_be_restored_costs_the_steps_since_the_checkpoint_before(
    account: Account, what: str
) -> None:
    account.submit("60 0.02")
    last = account.commit(20, final=True)
    assert last.manifest is not None
    harm(account, last.manifest, what)
    machine = account.rent()
    machine.start()
    machine.until_phase(Phase.DONE)
    head = account.holds()
    assert head.done is not None
    assert f"resumes from {SEED_STEP}" in machine.printed
    assert "resumes from 20" not in machine.printed


def test_a_damaged_checkpoint_and_a_notice_at_once_leave_the_rest_to_the_next_one(
    account: Account,
) -> None:
    """Held in the middle of the restore whose end is damage."""
    account.submit("60 0.02")
    last = account.commit(20, final=True)
    assert last.manifest is not None
    harm(account, last.manifest, "wrong digest")
    machine = account.rent()
    account.s3.script(Fault(kind="held", method="GET", path="*/checkpoints/00000020*/weights"))
    machine.start()
    machine.until(lambda: account.s3.met)
    machine.notice()
    machine.until_report(lambda report: report.notice)
    account.s3.release()
    machine.until_phase(Phase.IDLE)
    machine.is_gone()
    head = ObjectHeads(account.objects).read(JOB).head
    assert head is not None
    assert (head.manifest, head.previous) == (last.manifest, last.previous), "nobody gave it up"
    machine = account.rent(3)
    machine.start()
    machine.until_phase(Phase.DONE)
    assert account.holds().done is not None


@pytest.mark.parametrize("ahead_h", [-3, 3])
def test_a_machine_whose_clock_is_wrong_lives_by_the_time_of_s3(
    account: Account, ahead_h: int
) -> None:
    account.s3.ahead = dt.timedelta(hours=ahead_h)
    account.submit("9000 0.02")
    machine = account.rent()
    machine.start()
    report = machine.until_report(lambda report: report.committed_step)
    assert abs((report.at - account.s3.now()).total_seconds()) < 30
    assert report.phase is Phase.TRAIN
    machine.notice(in_s=10)
    machine.until_phase(Phase.IDLE)
    assert account.holds().final


def test_time_that_was_paid_by_the_clock_of_s3_alone_is_paid(account: Account) -> None:
    """By this machine's own clock it would have an hour more."""
    account.s3.ahead = dt.timedelta(hours=1)
    account.submit("9000 0.02")
    machine = account.rent()
    machine.start()
    machine.until_report(lambda report: (report.committed_step or 0) > SEED_STEP)
    machine.order(paid_until=account.in_s(30))
    machine.until_phase(Phase.UNPAID)
    assert account.holds().step >= SEED_STEP


def test_a_stop_while_every_commit_is_refused_ends_all_the_same(account: Account) -> None:
    """409 for as long as anybody asks; the power does not wait for S3 to agree."""
    account.submit("9000 0.02")
    machine = account.rent()
    machine.start()
    machine.until_report(lambda report: (report.committed_step or 0) > SEED_STEP)
    account.s3.script(Fault(kind="409", method="PUT", path="*/HEAD.json", times=100_000))
    machine.order(verb=Verb.STOP, paid_until=account.in_s(40))
    machine.until(lambda: machine.calls("shutdown -P now"))
    account.s3.script()
    assert account.holds().step > SEED_STEP
