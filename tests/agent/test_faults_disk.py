"""A disk that is full, for whole agents: a small one of its own is mounted where an instance keeps
everything, so it takes root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spotrunner.core.model import Phase
from tests.agent.rented import SEED_STEP, Account, Rented
from tests.agent.told import JOB

pytestmark = pytest.mark.root

MIB = 1024 * 1024
SMALL, LARGE = 6, 64


@pytest.fixture(autouse=True)
def _is_root() -> None:
    if os.geteuid() == 0:
        return
    if os.environ.get("SPOTRUNNER_ROOT_TESTS") == "required":
        pytest.fail("only root mounts a disk")
    pytest.skip("only root mounts a disk")


@contextmanager
def a_disk(machine: Rented, mib: int) -> Iterator[Path]:
    """Of so many MiB, for as long as the machine lives."""
    folder = machine.state.parent
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder)
    try:
        yield folder
        machine.ends()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grows(disk: Path, mib: int) -> None:
    """As when somebody makes its volume larger."""
    _mount("-o", f"remount,size={mib}m", disk)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(64 * 1024))
        except OSError:
            return


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def test_data_that_does_not_fit_is_said_and_waits_for_room(account: Account) -> None:
    account.submit("60 0.02")
    account.objects.put("datasets/digits/large", os.urandom(8 * MIB))
    machine = account.rent()
    with a_disk(machine, SMALL) as disk:
        machine.start()
        report = machine.until_report(lambda report: "disk" in report.message)
        assert report.phase is Phase.FETCH
        assert "disk_gib" in report.message, "it says what to change"
        assert not machine.calls("docker run")
        grows(disk, LARGE)
        machine.until_phase(Phase.DONE)
    assert account.holds().done is not None


def test_a_checkpoint_that_does_not_fit_is_said_and_waits_for_room(account: Account) -> None:
    account.submit("60 0.02")
    account.commit(20, final=True, weights_bytes=8 * MIB)
    machine = account.rent()
    with a_disk(machine, SMALL) as disk:
        machine.start()
        report = machine.until_report(lambda report: "disk" in report.message)
        assert report.phase is Phase.RESTORE
        assert "disk_gib, now " in report.message, "it says what to change"
        assert account.head.step == 20, "what does not fit is not damaged"
        grows(disk, LARGE)
        machine.until_phase(Phase.DONE)
    assert account.holds().done is not None
    assert account.model()["trail"] == [f"{JOB}.1"]


@pytest.mark.parametrize("notice", [False, True])
def test_a_disk_that_fills_up_under_a_trainer_costs_what_was_not_committed(
    account: Account, notice: bool
) -> None:
    """Whatever it then writes fails: its checkpoint, its progress, its log. The agent, which has no
    room either, commits what it has, says what it was, and ends."""
    account.submit("9000 0.02")
    machine = account.rent()
    with a_disk(machine, LARGE) as disk:
        machine.start()
        machine.until_report(lambda report: (report.committed_step or 0) > SEED_STEP)
        fill(disk)
        committed = account.head.step
        if notice:
            machine.notice(in_s=20)
        report = machine.until_phase(Phase.FAILED, Phase.IDLE)
    if not notice:  # one that was told to end needs no diagnosis
        assert report.diagnosis is not None
        assert "disk" in report.diagnosis.what
    head = account.holds()
    assert head.final
    assert head.step >= committed
