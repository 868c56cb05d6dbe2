from __future__ import annotations

from pathlib import Path

import pytest

from spotrunner.train import folders


def a_checkpoint(root: Path, step: int) -> Path:
    partial = folders.begin(root, step)
    (partial / "variables").write_bytes(b"weights")
    return folders.publish(partial, step)


def test_a_checkpoint_is_visible_only_when_it_is_published(tmp_path: Path) -> None:
    partial = folders.begin(tmp_path, 150)
    (partial / "variables").write_bytes(b"weights")
    assert folders.latest(tmp_path) is None
    assert not folders.exists(tmp_path, 150)
    final = folders.publish(partial, 150)
    assert final == tmp_path / "00000150" == folders.latest(tmp_path)
    assert folders.exists(tmp_path, 150)
    assert [entry.name for entry in tmp_path.iterdir()] == ["00000150"]
    assert (final / "variables").read_bytes() == b"weights"


def test_the_latest_is_the_highest_number_not_the_last_name(tmp_path: Path) -> None:
    for name in ("00000900", "100000000", "7"):
        (tmp_path / name).mkdir()
    assert [int(found.name) for found in folders.complete(tmp_path)] == [7, 900, 100000000]


@pytest.mark.parametrize("name", [".partial-00000200-1", "final", "12a", "-3", "٣", "²", "1.5"])
def test_other_names_are_no_checkpoints(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert folders.complete(tmp_path) == []


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "00000005").write_text("")
    assert folders.complete(tmp_path) == []


def test_a_torn_save_of_the_same_process_id_is_written_over(tmp_path: Path) -> None:
    (folders.begin(tmp_path, 5) / "half").write_text("")
    assert list(folders.begin(tmp_path, 5).iterdir()) == []


def test_sweeping_takes_the_torn_and_leaves_the_complete(tmp_path: Path) -> None:
    a_checkpoint(tmp_path, 5)
    (folders.begin(tmp_path, 9) / "half").write_text("")
    folders.sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["00000005"]


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        a_checkpoint(tmp_path, step)
    folders.prune(tmp_path, 3)
    assert [int(found.name) for found in folders.complete(tmp_path)] == [10, 15, 20]
