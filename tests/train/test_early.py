from __future__ import annotations

import pytest

from spotrunner.train.early import EarlyStopping


@pytest.mark.parametrize(
    ("values", "over"),
    [
        ([], False),
        ([1.0, 0.9, 0.8], False),
        ([1.0, 1.1, 1.2], True),
        ([1.0, 1.1, 0.8, 1.0], False),
        ([1.0, 1.1, 0.8, 1.0, 1.0], True),
        ([1.0, 0.95, 0.92], True),  # better, but by less than min_delta from the best
        ([float("nan"), float("nan")], True),
    ],
)
def test_two_epochs_without_a_tenth_less(values: list[float], over: bool) -> None:
    assert EarlyStopping(patience=2, min_delta=0.1).is_over(values) is over


@pytest.mark.parametrize(
    ("monitor", "mode", "sign"),
    [
        ("val_loss", "auto", -1),
        ("val_accuracy", "auto", 1),
        ("val_auc", "auto", 1),
        ("val_accuracy", "min", -1),
        ("val_loss", "max", 1),
    ],
)
def test_which_way_is_better(monitor: str, mode: str, sign: int) -> None:
    assert EarlyStopping(monitor=monitor, mode=mode).sign == sign


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="'up'"):
        EarlyStopping(mode="up")
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping(patience=0)
