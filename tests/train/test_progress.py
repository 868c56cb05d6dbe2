from __future__ import annotations

import json
from pathlib import Path

from spotrunner.train.progress import ProgressLog
from spotrunner.train.times import Taken


def test_lines_have_the_contracts_keys(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    log = ProgressLog(file, total_steps=2300)
    log.step(150, epoch=3, metrics={"loss": 0.41, "accuracy": 0.88}, steps_per_s=61.2004)
    log.saved(150, name="00000150", save_s=0.081234)
    log.close()
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {
            "step": 150,
            "total_steps": 2300,
            "epoch": 3,
            "metrics": {"loss": 0.41, "accuracy": 0.88},
            "steps_per_s": 61.2,
        },
        {"step": 150, "total_steps": 2300, "saved": "00000150", "save_s": 0.0812},
    ]


def test_what_json_cannot_say_is_null(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    log = ProgressLog(file, total_steps=10)
    metrics = {"loss": float("nan"), "val_loss": float("inf")}
    log.step(1, epoch=0, metrics=metrics, steps_per_s=None)
    log.close()
    line = json.loads(file.read_text())
    assert line["metrics"] == {"loss": None, "val_loss": None}
    assert line["steps_per_s"] is None


def test_the_next_attempt_ends_a_torn_line_and_appends(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    file.write_text('{"step": 1}\n{"ste')
    log = ProgressLog(file, total_steps=10)
    log.saved(2, name="00000002", save_s=0.1)
    log.close()
    first, torn, last = file.read_text().splitlines()
    assert json.loads(first) == {"step": 1}
    assert torn == '{"ste'
    assert json.loads(last)["saved"] == "00000002"


def test_times_are_told_where_they_are_known(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    log = ProgressLog(file, total_steps=10)
    for share in (0.123456, None):
        taken = Taken(step_s=0.016234567, input_wait_share=share)
        log.step(1, epoch=0, metrics={}, steps_per_s=None, taken=taken)
    log.close()
    both, one = (json.loads(line) for line in file.read_text().splitlines())
    assert (both["step_s"], both["input_wait_share"]) == (0.01623, 0.123)
    assert one["step_s"] == 0.01623
    assert "input_wait_share" not in one
