"""Interrupted runs come to the same weights, optimizer and metrics as one that was left alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.train.processes import Place

pytestmark = pytest.mark.slow

RESUMABLE = 75
STEPS = 24  # of small.py: 4 epochs of 6 steps


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(root=tmp_path_factory.mktemp("undisturbed"))
    assert place.run() == 0, place.output
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(root=tmp_path)


def test_sigterms_at_random_steps(undisturbed: Place, place: Place) -> None:
    # Even ones: in the first step of an attempt SIGTERM finds nothing unsaved, and no save follows.
    steps = sorted(random.Random(11).sample(range(2, STEPS, 2), 3))
    for step in steps:
        assert place.run("--term-at-step", str(step)) == RESUMABLE, (steps, place.output)
        assert place.checkpoints[-1] == f"{step:08d}", steps
    assert place.run() == 0, (steps, place.output)
    assert place.what_it_came_to() == undisturbed.what_it_came_to(), steps
    starts = {line["step"] for line in place.progress if line.get("steps_per_s", 0) is None}
    assert starts == {0, *steps}, "each attempt tells where it starts"


@pytest.mark.parametrize("step", [6, STEPS])
def test_sigterm_in_the_last_step_of_an_epoch(undisturbed: Place, place: Place, step: int) -> None:
    assert place.run("--term-at-step", str(step)) == RESUMABLE, place.output
    assert place.checkpoints == [f"{step:08d}"]
    assert place.run() == 0, place.output
    assert place.what_it_came_to() == undisturbed.what_it_came_to()


def test_sigterm_in_the_validation(undisturbed: Place, place: Place) -> None:
    assert place.run("--term-in", "evaluation") == RESUMABLE, place.output
    assert place.checkpoints == ["00000006"]
    assert place.run() == 0, place.output
    assert place.what_it_came_to() == undisturbed.what_it_came_to()


def test_sigterm_while_the_same_step_is_being_saved(undisturbed: Place, place: Place) -> None:
    assert place.run("--save-every-steps", "9", "--term-in", "save") == RESUMABLE, place.output
    assert place.checkpoints == ["00000009"]
    assert sum("saved" in line for line in place.progress) == 1
    assert place.run() == 0, place.output
    assert place.what_it_came_to() == undisturbed.what_it_came_to()


@pytest.mark.parametrize("moment", ["import", "model"])
def test_sigterm_before_the_first_step_ends_at_once(place: Place, moment: str) -> None:
    assert place.run("--term-in", moment) == RESUMABLE, place.output
    assert place.checkpoints == []


def test_sigterm_after_the_last_step(undisturbed: Place, place: Place) -> None:
    assert place.run("--term-in", "export") == RESUMABLE, place.output
    assert place.checkpoints == [f"{STEPS:08d}"]
    assert not (place.root / "o" / "result.json").exists()
    assert place.run() == 0, place.output
    assert place.what_it_came_to() == undisturbed.what_it_came_to()


def test_sigusr1_saves_and_goes_on(undisturbed: Place, place: Place) -> None:
    assert place.run("--usr1-at-step", "8") == 0, place.output
    assert place.checkpoints == ["00000008", f"{STEPS:08d}"]
    assert place.what_it_came_to() == undisturbed.what_it_came_to()


def test_an_unannounced_death_in_a_save(undisturbed: Place, place: Place) -> None:
    assert place.run("--save-every-steps", "4", "--die-at-step", "11") == 9
    torn = place.root / "c" / ".partial-00000010-1"
    torn.mkdir()
    (torn / "variables.index").write_bytes(b"half")
    assert place.run("--save-every-steps", "4") == 0, place.output
    assert place.what_it_came_to() == undisturbed.what_it_came_to()
    assert not torn.exists()
    assert place.checkpoints == [f"{step:08d}" for step in range(4, STEPS + 1, 4)]


def test_without_an_agent_old_checkpoints_go(place: Place) -> None:
    place.agent = False
    assert place.run("--save-every-steps", "4") == 0, place.output
    assert place.checkpoints == ["00000016", "00000020", "00000024"]


def test_an_optimizer_with_a_moving_average(tmp_path: Path) -> None:
    left_alone, place = Place(root=tmp_path / "a"), Place(root=tmp_path / "b")
    assert left_alone.run("--optimizer", "ema") == 0, left_alone.output
    for step in ("8", str(STEPS)):
        assert place.run("--optimizer", "ema", "--term-at-step", step) == RESUMABLE, place.output
    assert place.run("--optimizer", "ema") == 0, place.output
    assert place.what_it_came_to() == left_alone.what_it_came_to()


def test_early_stopping_counts_the_epochs_before_the_interruption(place: Place) -> None:
    # Nothing improves by 10: the first epoch is the best, and the third is the second without.
    assert place.run("--patience", "2", "--term-at-step", "14") == RESUMABLE, place.output
    assert place.run("--patience", "2") == 0, place.output
    assert (place.result["steps"], place.result["epochs"]) == (18, 3)
    assert place.run("--patience", "2") == 0, place.output
    assert (place.result["steps"], place.result["epochs"]) == (18, 3)


def test_from_a_gpu_with_float16_to_one_with_bfloat16(place: Place) -> None:
    assert place.run("--precision", "mixed_float16", "--term-at-step", "8") == RESUMABLE, (
        place.output
    )
    assert place.run("--precision", "mixed_bfloat16") == 0, place.output
    assert "precision changes from mixed_float16 to mixed_bfloat16" in place.output
    assert place.result["steps"] == STEPS


def test_a_checkpoint_of_another_model_is_refused_with_the_shapes(place: Place) -> None:
    assert place.run("--term-at-step", "2") == RESUMABLE, place.output
    assert place.run("--units", "32") == 1
    assert "checkpoint 00000002 is of another model" in place.output
    assert "[144, 16] in the checkpoint" in place.output
    assert "[144, 32] in the model" in place.output
    assert place.run("--batch-size", "8") == 1
    assert "batch_size was 16 and is 8" in place.output
    assert place.checkpoints == ["00000002"]


def test_what_a_run_leaves(undisturbed: Place) -> None:
    """Progress, TensorBoard files, result and checkpoint, as the contract has them."""
    lines = undisturbed.progress
    assert lines[0] == {
        "step": 0,
        "total_steps": STEPS,
        "epoch": 0,
        "metrics": {},
        "steps_per_s": None,
    }
    assert lines[-1]["saved"] == f"{STEPS:08d}"
    assert set(lines[-2]["metrics"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert {line["step"] for line in lines} >= {0, 5, 10, 15, 20, STEPS}
    for run in ("train", "validation"):
        files = list((undisturbed.root / "l" / "tensorboard" / run).iterdir())
        assert [file.name.endswith(".attempt-job-1") for file in files] == [True]
    assert undisturbed.result["metrics"] == lines[-2]["metrics"]
    assert undisturbed.result["precision"] == "float32"
