"""What `show` says of machines: one that trains, copies, idles, stalls or fails."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from spotrunner.core.diagnosis import Diagnosis
from spotrunner.core.figures import ClockState, Copying, Figures, GpuFigures
from spotrunner.core.milestones import Milestones
from spotrunner.core.model import EndReason, Phase
from spotrunner.core.saving import Saving
from spotrunner.core.secret_ref import SecretForm, SecretRef
from spotrunner.core.states import AttemptState, JobState
from spotrunner.ports import Changes
from tests.build import (
    JOB,
    a_job,
    a_report,
    a_spec,
    an_attempt,
    an_order,
    at,
)
from tests.cli.conftest import Behind, Run

pytestmark = pytest.mark.usefixtures("here")

GIB = 2**30
DIGEST = "tensorflow/tensorflow@sha256:1234567890abcdef1234567890abcdef"
WAY = Milestones(
    booted_at=at(31),
    agent_at=at(36),
    image_at=at(157),
    data_at=at(188),
    head_at=at(188.4),
    restored_at=at(200),
)
T4 = GpuFigures(
    index=0,
    name="Tesla T4",
    used_percent=87,
    memory_used_mib=12_390,
    memory_total_mib=15_360,
    temperature_c=64,
    power_w=67.8,
)
FIGURES = Figures(
    at=at(1190),
    gpus=(T4,),
    driver="535.183.01",
    cpu_share=0.34,
    memory_used_bytes=8 * GIB,
    memory_total_bytes=16 * GIB,
    disk_free_bytes=61 * GIB,
    disk_total_bytes=100 * GIB,
    disk_read_bytes_s=120.0 * 2**20,
    disk_written_bytes_s=2_000.0,
    received_bytes_s=80.0 * 2**20,
    sent_bytes_s=5_000.0,
    busy_share=0.86,
    step_s=0.2134,
    input_wait_share=0.04,
)


class Told:
    """The store and the mail of one job, 20 minutes in."""

    def __init__(self, behind: Behind, run: Run) -> None:
        self._behind = behind
        self._run = run

    def job(self, *attempts: Any, state: JobState = JobState.ACTIVE, **changes: Any) -> None:
        reason = changes.pop("reason", "")
        job = dataclasses.replace(a_job(state, spec=a_spec(**changes)), reason=reason)
        self._behind.store.add_job(job, [])
        epoch = self._behind.store.lead("a test")
        self._behind.store.write(epoch, Changes(attempts=attempts or (an_attempt(1),)))
        self._behind.clock.advance(1200)

    def report(self, attempt: int = 1, **changes: Any) -> None:
        fields = {"at_s": 1195, **changes}
        self._behind.mailbox.post_report(a_report(f"{JOB}.{attempt}", **fields))
        self._behind.mailbox.boxes()

    def lines(self) -> dict[str, str]:
        said = self._run("show", JOB)
        assert said.code == 0, said.err
        facts = (line.split("  ", 1) for line in said.out.split("\n\n")[0].splitlines())
        return {fact[0]: fact[1].strip() for fact in facts if len(fact) == 2}

    def json(self) -> Any:
        return json.loads(self._run("show", JOB, "-o", "json").out)


@pytest.fixture
def told(behind: Behind, run: Run) -> Told:
    return Told(behind, run)


MACHINE_LINES = {
    "copying",
    "gpu",
    "machine",
    "each step",
    "clock",
    "stalled",
    "advice",
    "last start",
    "because",
    "failed",
}


def test_a_machine_that_tells_nothing_has_no_lines(told: Told) -> None:
    told.job()
    told.report()
    assert not MACHINE_LINES & told.lines().keys()
    (instance,) = told.json()["instances"]
    assert instance["figures"] is None
    assert instance["advice"] == []


def test_a_machine_in_three_lines(told: Told) -> None:
    told.job()
    told.report(figures=FIGURES, clock=ClockState(synchronised=True, offset_s=0.001))
    lines = told.lines()
    assert lines["gpu"] == "used 87%, 12.1 of 15.0 GiB, 64 °C, 68 W (Tesla T4)"
    assert lines["machine"] == (
        "CPU 34%, memory 8.0 of 16.0 GiB, disk 61 GiB free (reads 120.0 MiB/s),"
        " network 80.0 MiB/s in"
    )
    assert lines["each step"] == (
        "0.213 s, 4% of it waits for input, the GPU works 86% of the time"
    )
    assert not {"clock", "advice", "copying", "stalled"} & lines.keys()
    (instance,) = told.json()["instances"]
    assert instance["figures"]["gpus"][0]["temperature_c"] == 64
    assert instance["clock_trouble"] is None


def test_eight_gpus_share_a_line(told: Told) -> None:
    gpus = tuple(
        dataclasses.replace(T4, index=index, used_percent=90 - index, memory_used_mib=1024 * index)
        for index in range(8)
    )
    told.job()
    told.report(figures=dataclasses.replace(FIGURES, gpus=gpus))
    assert told.lines()["gpu"] == (
        "8 of them, used 83 to 90%, the fullest 7.0 of 15.0 GiB (Tesla T4)"
    )


def test_a_gpu_that_tells_little(told: Told) -> None:
    told.job()
    told.report(figures=Figures(at=at(1190), gpus=(GpuFigures(index=0, name="GRID"),)))
    lines = told.lines()
    assert lines["gpu"] == "tells nothing (GRID)"
    assert not {"machine", "each step"} & lines.keys()


def test_old_figures_say_nothing_of_now(told: Told) -> None:
    told.job()
    told.report(figures=dataclasses.replace(FIGURES, at=at(899)))
    assert not {"gpu", "machine", "each step"} & told.lines().keys()


def test_advice_says_what_why_and_what_to_change(told: Told) -> None:
    told.job()
    told.report(figures=dataclasses.replace(FIGURES, busy_share=0.11, input_wait_share=0.7))
    advice = told.lines()["advice"]
    assert advice.startswith("the GPU works 11% of the time, and 70% of each step waits for input.")
    assert "prefetch" in advice
    (said,) = told.json()["instances"][0]["advice"]
    assert said["rule"] == "input"
    assert said.keys() == {"rule", "what", "why", "change"}


def test_a_clock_that_is_wrong_is_a_warning(told: Told) -> None:
    told.job()
    told.report(clock=ClockState(synchronised=True, offset_s=-5.25, source="chrony"))
    assert told.lines()["clock"] == "wrong: 5.2 s behind, by chrony"


@pytest.mark.parametrize(
    ("copying", "line"),
    [
        (
            Copying(
                source="s3://sets/train/",
                bytes=2 * GIB,
                total_bytes=8 * GIB,
                files=340,
                total_files=1000,
                bytes_s=128.0 * 2**20,
            ),
            "s3://sets/train/: 2.0 of 8.0 GiB, 340 of 1000 files, 128.0 MiB/s, 48s left",
        ),
        (Copying(source="s3://sets/train/", bytes=3 * 2**20), "s3://sets/train/: 3.0 MiB"),
        (
            Copying(source="s3://a/", bytes=0, total_bytes=2**20, bytes_s=0.0),
            "s3://a/: 0.0 of 1.0 MiB",
        ),
    ],
)
def test_a_copy_that_is_under_way(told: Told, copying: Copying, line: str) -> None:
    told.job(an_attempt(1, AttemptState.STARTING))
    told.report(phase=Phase.FETCH, copying=copying)
    assert told.lines()["copying"] == line


def test_a_way_to_the_first_step_that_is_over(told: Told) -> None:
    told.job(an_attempt(1, first_step_s=231, milestones=WAY, image_digest=DIGEST))
    lines = told.lines()
    assert lines["last start"] == (
        "3m 50s, $0.0100: request 4s, boot 26s, agent 5s, image 2m 1s, data 31s, restore 11s,"
        " first step 31s"
    )
    assert lines["image"] == "tensorflow/tensorflow:2.17.0-gpu (sha256:1234567890ab)"
    (attempt,) = told.json()["attempts"]
    assert [leg["leg"] for leg in attempt["start"]["legs"]] == [
        "request",
        "boot",
        "agent",
        "image",
        "data",
        "wait",
        "restore",
        "first step",
    ]
    assert attempt["image_digest"] == DIGEST


def test_a_way_that_a_bake_has_shortened(told: Told) -> None:
    way = dataclasses.replace(WAY, image_at=at(36), data_at=at(40), baked=True)
    told.job(an_attempt(1, first_step_s=231, milestones=way))
    assert "agent 5s, image 0s (baked), data 4s" in told.lines()["last start"]
    assert told.json()["attempts"][0]["start"]["baked"]


def test_a_way_that_lasts(told: Told) -> None:
    told.job(an_attempt(1, AttemptState.STARTING))
    assert told.lines()["last start"] == "19m 59s, $0.0531: request 4s, boot 19m 55s so far"
    told.report(
        phase=Phase.FETCH,
        milestones=dataclasses.replace(WAY, data_at=None, head_at=None, restored_at=None),
    )
    assert told.lines()["last start"] == (
        "19m 59s, $0.0531: request 4s, boot 26s, agent 5s, image 2m 1s, data 17m 23s so far"
    )


def test_a_stalled_trainer(told: Told) -> None:
    told.job()
    told.report(restarts=1, stalled_at=at(1000), alive_at=at(1100))
    once = "the trainer made no steps and was started again in place once"
    assert told.lines()["stalled"] == once
    told.report(at_s=1199, restarts=0, stalled_at=at(1190), alive_at=at(500))
    assert told.lines()["stalled"] == "the trainer makes no steps"


def test_two_machines_are_told_apart(told: Told) -> None:
    told.job(an_attempt(1), an_attempt(2, AttemptState.STARTING, replaces=f"{JOB}.1"))
    told.report(1, figures=FIGURES)
    told.report(2, phase=Phase.READY, figures=dataclasses.replace(FIGURES, gpus=()))
    lines = told.lines()
    assert {"gpu 1", "machine 1", "machine 2"} <= lines.keys()
    assert "gpu 2" not in lines


def test_a_failed_job_says_why(told: Told) -> None:
    known = Diagnosis(what="out of memory", why="it needs more", change="use a smaller batch")
    ended = an_attempt(
        1, AttemptState.ENDED, end_reason=EndReason.FAILED, ended_at=at(900), diagnosis=known
    )
    told.job(ended, state=JobState.FAILED, reason="out of memory: use a smaller batch")
    lines = told.lines()
    assert lines["why"] == "out of memory: use a smaller batch"
    assert lines["because"] == "it needs more"
    assert told.json()["attempts"][0]["diagnosis"] == {
        "what": "out of memory",
        "why": "it needs more",
        "change": "use a smaller batch",
    }


def test_a_job_that_goes_on_says_why_an_attempt_of_it_failed(told: Told) -> None:
    known = Diagnosis(what="out of memory", why="it needs more", change="use a smaller batch")
    failed = an_attempt(
        1, AttemptState.ENDED, end_reason=EndReason.FAILED, ended_at=at(900), diagnosis=known
    )
    told.job(failed, an_attempt(2, sent_s=901, launched_s=905, first_step_s=1000), retries=1)
    lines = told.lines()
    assert lines["failed"] == "attempt 1: out of memory: it needs more; use a smaller batch"
    assert "because" not in lines


def test_how_often_it_saves(told: Told) -> None:
    attempt = an_attempt(1)
    attempt = dataclasses.replace(attempt, order=an_order(attempt, save_every_s=600))
    told.job(attempt, saving=Saving(auto=True))
    assert told.lines()["checkpoint"] == "none yet; one every 10m"
    told.report(committed_step=250, committed_s=1150)
    assert told.lines()["checkpoint"] == "step 250, 50s ago; one every 10m"
    shown = told.json()
    assert shown["job"]["checkpoint"] == {
        "auto": True,
        "every_s": None,
        "keep_last": 3,
        "keep_every_steps": None,
    }
    assert shown["attempts"][0]["save_every_s"] == 600


def test_secrets_are_named_by_where_they_are(told: Told) -> None:
    told.job(
        secrets=(
            SecretRef(name="WANDB", source="object:WANDB"),
            SecretRef(name="HF", source="ssm:/team/hf", form=SecretForm.FILE),
        )
    )
    assert told.lines()["secrets"] == "WANDB sent with the job, HF from ssm:/team/hf"


def test_a_trainer_that_knows_no_save_signal_and_what_to_change(told: Told) -> None:
    first = an_attempt(1, AttemptState.ENDED, end_reason=EndReason.INTERRUPTED, ended_at=at(900))
    second = an_attempt(2)
    unaware = dataclasses.replace(first, handles_save_signal=False)
    told.job(unaware, dataclasses.replace(second, order=an_order(second, save_every_s=None)))
    said = told.lines()["checkpoint"]
    assert "none is asked for: the trainer ended by SIGUSR1" in said
    assert "say save_signal: false" in said
