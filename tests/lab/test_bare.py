"""A job without a container in the whole lab; its agent is killed, and it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from spotrunner.cli.demo.stage import Stage, stage
from tests.lab.followed import Followed
from tests.lab.traces import processes_of
from tests.lab.waiting import until

pytestmark = pytest.mark.slow

BOOT_S = 90.0
TRAIN_S = 120.0
JOB = """\
name: bare
resources:
  instance_types: [g4dn.xlarge, g5.xlarge]
  regions: [us-east-1, us-west-2, eu-west-1]
image: none
workdir: .
run: python3 -S train.py 900 0.02 | cat
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("bare")
    with stage(3, folder, print) as made:
        yield made
    assert processes_of(folder) == []


@pytest.fixture
def job(ground: Stage, tmp_path: Path) -> Iterator[Followed]:
    script = Path(__file__).parents[1] / "agent" / "trainer_script.py"
    (tmp_path / "train.py").write_text(script.read_text())
    (tmp_path / "job.yaml").write_text(JOB)
    followed = Followed(ground, tmp_path / "job.yaml")
    yield followed
    followed.close()


def test_a_job_without_a_container_outlives_its_agent(ground: Stage, job: Followed) -> None:
    until(lambda: job.trains(1), BOOT_S)
    trainer = _pid(ground, "train.py")
    agent = _pid(ground, "spotrunner.app.agent")
    psutil.Process(agent).kill()
    until(lambda: _pids(ground, "spotrunner.app.agent") not in ([], [agent]))
    made = job.made(1)
    until(lambda: job.made(1) > made + 50)
    assert _pid(ground, "train.py") == trainer, "nobody has started another one"
    until(lambda: job.state == "succeeded", TRAIN_S)
    assert len(job.attempts) == 1
    done = job.head().done
    assert done is not None
    model = ground.objects.get((Path(done).parent / "model.json").as_posix()).body
    assert json.loads(model)["trail"] == [], "it never went on from a checkpoint"


def _pid(ground: Stage, words: str) -> int:
    (found,) = _pids(ground, words)
    return found


def _pids(ground: Stage, words: str) -> list[int]:
    """Of a program of an instance, not of the shells and tools that name it in a script."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "pid"]):
        line, variables = process.info["cmdline"] or [], process.info["environ"] or {}
        ours = str(ground.folder) in " ".join(variables.values())
        if ours and words in line[1:] and "python" in Path(line[0]).name:
            found.append(int(process.info["pid"]))
    return found
