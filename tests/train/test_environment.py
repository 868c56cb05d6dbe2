from __future__ import annotations

from pathlib import Path

from spotrunner.train.environment import read_environment


def test_without_the_contract_everything_lies_under_spotrunner_run(tmp_path: Path) -> None:
    here = read_environment({}, tmp_path)
    here.make_folders()
    made = {path.name for path in (tmp_path / "spotrunner-run").iterdir()}
    assert made == {"checkpoints", "data", "outputs", "logs"}
    assert (here.job, here.attempt, here.rank, here.nodes) == ("local", None, 0, 1)


def test_the_contract_names_folders_job_and_rank() -> None:
    variables = {
        "SPOTRUNNER_CHECKPOINT_DIR": "/c",
        "SPOTRUNNER_DATA_DIR": "/d",
        "SPOTRUNNER_OUTPUT_DIR": "/o",
        "SPOTRUNNER_LOG_DIR": "/l",
        "SPOTRUNNER_JOB": "digits-1",
        "SPOTRUNNER_ATTEMPT": "digits-1-2",
        "SPOTRUNNER_RANK": "3",
        "SPOTRUNNER_NODES": "4",
    }
    here = read_environment(variables, Path("/nowhere"))
    folders = (here.checkpoints, here.data, here.outputs, here.logs)
    assert folders == (Path("/c"), Path("/d"), Path("/o"), Path("/l"))
    assert (here.job, here.attempt, here.rank, here.nodes) == ("digits-1", "digits-1-2", 3, 4)
    assert here.progress == Path("/l/progress.jsonl")
    assert here.tensorboard == Path("/l/tensorboard")
