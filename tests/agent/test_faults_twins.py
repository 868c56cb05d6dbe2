"""Two agents for one job, as processes: one sleeps while another works, and wakes up late."""

from __future__ import annotations

import signal

import pytest

from spotrunner.core.model import Phase, TakeOver
from tests.agent.faulty_s3 import Fault
from tests.agent.rented import SEED_STEP, Account, Rented
from tests.agent.told import JOB

pytestmark = pytest.mark.slow

OLD = f"{JOB}.2"


@pytest.fixture
def old(account: Account) -> Rented:
    """It trains, and its agent falls asleep in the middle of an upload."""
    account.submit("9000 0.02")
    machine = account.rent()
    machine.start()
    machine.until_report(lambda report: (report.committed_step or 0) > SEED_STEP)
    account.s3.script(Fault(kind="held", method="PUT", path="*/checkpoints/000*/state.json"))
    machine.until(lambda: account.s3.met)
    machine.signal(signal.SIGSTOP)
    return machine


def replaced(account: Account) -> Rented:
    """By an attempt on another machine, which has committed."""
    new = account.rent(3, take_over=TakeOver(attempt=OLD, now=True))
    new.start()
    new.until_report(lambda report: report.committed_step)
    return new


def test_an_agent_of_an_old_generation_that_wakes_up_stops(account: Account, old: Rented) -> None:
    new = replaced(account)
    taken = account.head
    account.s3.release()
    old.signal(signal.SIGCONT)
    old.until_phase(Phase.FENCED)
    old.is_gone()
    assert account.head.attempt == new.attempt
    assert account.head.step >= taken.step
    new.notice(in_s=15)
    new.until_phase(Phase.IDLE)
    assert account.holds().generation == 3


def test_a_write_of_an_old_generation_that_arrives_late_changes_nothing(
    account: Account,
) -> None:
    """Its swap of HEAD has left it, and is on the way for as long as the next one needs."""
    account.submit("9000 0.02")
    old = account.rent()
    old.start()
    old.until_report(lambda report: (report.committed_step or 0) > SEED_STEP)
    account.s3.script(Fault(kind="held", method="PUT", path="*/HEAD.json"))
    old.until(lambda: account.s3.met)
    old.signal(signal.SIGSTOP)
    account.holder(3).take()
    account.s3.release()
    old.signal(signal.SIGCONT)
    old.until_phase(Phase.FENCED)
    head = account.holds()
    assert (head.attempt, head.final) == (f"{JOB}.3", False)


def test_two_agents_of_one_attempt_on_one_machine(account: Account, old: Rented) -> None:
    """As where systemd gave the first one up, which then wakes: both hold HEAD by right, and what
    the one commits the other finds committed."""
    first = old.child
    old.start()
    old.until_report(lambda report: report.phase is Phase.TRAIN)
    account.s3.release()
    first.send_signal(signal.SIGCONT)
    step = account.head.step
    old.until(lambda: account.head.step > step + 40)
    old.notice(in_s=15)
    old.until_phase(Phase.IDLE)
    first.terminate()
    first.wait(40)
    head = account.holds()
    assert (head.attempt, head.final) == (OLD, True)


def test_the_same_attempt_on_two_machines_is_two_trainers_and_one_head(account: Account) -> None:
    """A launch that happened twice: EC2 gave two instances for one attempt. The reaper ends one of
    them; until then no swap of either is lost, and the step never falls."""
    account.submit("9000 0.02")
    twins = [account.rent(), account.rent()]
    for twin in twins:
        twin.start()
    twins[0].until(lambda: account.head.step > SEED_STEP + 60)
    for twin in twins:
        twin.notice(in_s=15)
    for twin in twins:
        twin.until(lambda twin=twin: twin.calls("shutdown -P now"))  # type: ignore[misc]
    assert account.holds().final
