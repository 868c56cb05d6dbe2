"""A notice in every phase of an instance's life, on real parts: daemon, market, user-data, agents
and trainers. S3 takes its time where a phase would be too short to be met."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spotrunner.cli.demo.stage import Stage, stage
from spotrunner.lab.mail import owner_client
from spotrunner.lab.paths import HOME_BUCKET, HOME_REGION
from tests.agent.promises import left_of, nothing_is_lost, remember_heads
from tests.lab.followed import Followed
from tests.lab.traces import processes_of
from tests.lab.waiting import until

pytestmark = pytest.mark.slow

# All phases share one lab and run at the same time.
MOMENT_S = 150.0
TRAIN_S = 240.0
NOTICE_S = 120.0
LATE_S = 6.0
JOB = """\
name: {name}
resources:
  instance_types: [g4dn.xlarge, g5.xlarge]
  regions: [us-east-1, us-west-2, eu-west-1]
image: tensorflow/tensorflow:2.17.0-gpu
workdir: .
run: python3 -S train.py {arguments} | cat
"""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """`late` is what S3 takes its time for, by method and path below the job's folder. `attempt`
    is the one that EC2 takes: the second after a sudden death of the first. `arguments` make a
    training that is longer than a replacement needs to be ready."""

    name: str
    reached: Callable[[Followed], object]
    late: tuple[str, str] | None = None
    arguments: str = "1200 0.02"
    attempt: int = 1


def phase_is(phase: str) -> Callable[[Followed], object]:
    return lambda job: job.detail["job"]["phase"] == phase


def has_written(pattern: str) -> Callable[[Followed], object]:
    """On the disk of the last instance."""

    def has(job: Followed) -> object:
        if not job.attempts:
            return False
        root = job.stage.lab.paths.folder / "instances" / job.attempts[-1]["instance_id"]
        return any(root.glob(f"var/lib/spotrunner/*/checkpoints/{pattern}"))

    return has


PHASES = [
    Phase(name="boots", reached=lambda job: job.has_instance(1), arguments="60 0.02"),
    Phase(name="copies", reached=phase_is("fetch"), late=("GET", "workdir/*"), arguments="60 0.02"),
    Phase(
        name="restores",
        reached=phase_is("restore"),
        late=("GET", "checkpoints/000*/state.json"),
        attempt=2,
    ),
    Phase(name="trains", reached=lambda job: job.trains(1) and job.made(1) > 5),
    Phase(name="saves", reached=has_written(".partial-*"), arguments="240 0.02 slow"),
    Phase(
        name="uploads",
        reached=has_written("000*"),
        late=("PUT", "checkpoints/000*/state.json"),
    ),
    Phase(
        name="outputs",
        reached=phase_is("handover"),
        late=("PUT", "outputs/*/model.json"),
        arguments="60 0.02",
    ),
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("phases")
    with stage(3, folder, print) as made:
        yield made
    assert processes_of(folder) == []


def submitted(ground: Stage, phase: Phase, folder: Path) -> Followed:
    folder.mkdir()
    script = Path(__file__).parents[1] / "agent" / "trainer_script.py"
    (folder / "train.py").write_text(script.read_text())
    (folder / "job.yaml").write_text(JOB.format(name=phase.name, arguments=phase.arguments))
    job = Followed(ground, folder / "job.yaml")
    if phase.late is not None:
        method, path = phase.late
        path = f"/{HOME_BUCKET}/jobs/{job.id}/{path}"
        ground.lab.post("object-fault", {"method": method, "path": path, "late_s": LATE_S})
    return job


@pytest.fixture
def jobs(ground: Stage, tmp_path: Path) -> Iterator[dict[str, Followed]]:
    """One a phase, all at once, in a bucket that keeps every HEAD."""
    remember_heads(owner_client(ground.lab.url, "s3", HOME_REGION), HOME_BUCKET)
    made: dict[str, Followed] = {}
    for phase in PHASES:
        made[phase.name] = submitted(ground, phase, tmp_path / phase.name)
    yield made
    for job in made.values():
        job.close()


def test_a_notice_in_every_phase(ground: Stage, jobs: dict[str, Followed], tmp_path: Path) -> None:
    client = owner_client(ground.lab.url, "s3", HOME_REGION)
    waiting = list(PHASES)

    def taken_at_its_moment() -> bool:
        for phase in list(waiting):
            job = jobs[phase.name]
            if len(job.attempts) == phase.attempt and phase.reached(job):
                job.interrupt(phase.attempt, notice=True)
                waiting.remove(phase)
            elif len(job.attempts) == phase.attempt - 1 and job.trains(1) and job.head().step:
                job.interrupt(1, notice=False)
        return not waiting

    until(taken_at_its_moment, MOMENT_S)
    until(lambda: all(job.state == "succeeded" for job in jobs.values()), TRAIN_S)
    # An instance that EC2 takes within its first hour is free, and waits for its end.
    ground.lab.skip(NOTICE_S)
    until(lambda: all(job.nothing_left() for job in jobs.values()), 60)
    for phase in PHASES:
        job = jobs[phase.name]
        head = nothing_is_lost(client, HOME_BUCKET, job.id, tmp_path / "restored" / phase.name)
        ended_as_it_should(phase, job, head.done)
    assert not left_of(ground.lab.paths.folder / "instances")


def ended_as_it_should(phase: Phase, job: Followed, done: str | None) -> None:
    assert done is not None
    reasons = [each["end_reason"] for each in job.attempts]
    assert reasons[-1] in ("done", "interrupted")
    # Only who was at its outputs may have come to its end inside the notice.
    fewest = phase.attempt if phase.name == "outputs" else phase.attempt + 1
    assert fewest <= len(reasons) <= fewest + 1, f"{phase.name}: {reasons}"
    model = job.stage.objects.get((Path(done).parent / "model.json").as_posix()).body
    assert json.loads(model)["steps"] == int(phase.arguments.split()[0])
