from __future__ import annotations

from dataclasses import replace

import pytest

from spotrunner.train.state import (
    CheckpointMismatch,
    DataFacts,
    State,
    VariableFacts,
    check_data,
    check_variables,
    read_state,
)

DATA = DataFacts(examples=1500, batch_size=32, seed=7, shuffle=True)
KERNEL = VariableFacts(path="dense/kernel", shape=(64, 10), dtype="float32")
BIAS = VariableFacts(path="dense/bias", shape=(10,), dtype="float32")


def a_state() -> State:
    return State(
        step=150,
        running={"loss": 0.1 + 0.2},
        history=[{"loss": 1.5, "val_loss": float("nan")}],
        data=DATA,
        precision="float32",
        variables={"weights": [KERNEL, BIAS], "seeds": []},
    )


def test_a_state_comes_back_as_it_was_written() -> None:
    read = read_state(a_state().to_json(), source="checkpoint 00000150")
    assert read.to_json() == a_state().to_json()
    assert read.running["loss"] == 0.1 + 0.2
    assert read.variables["weights"] == [KERNEL, BIAS]


def test_another_format_is_refused() -> None:
    with pytest.raises(CheckpointMismatch, match="checkpoint 00000150 has another format"):
        read_state(
            a_state().to_json().replace('"format": 1', '"format": 9'), source="checkpoint 00000150"
        )


def test_other_data_is_refused_with_each_difference() -> None:
    check_data(DATA, DATA, source="checkpoint 1")
    with pytest.raises(
        CheckpointMismatch, match="batch_size was 32 and is 64; seed was 7 and is 8"
    ):
        check_data(DATA, replace(DATA, batch_size=64, seed=8), source="checkpoint 1")


def test_another_model_is_refused_with_both_shapes() -> None:
    check_variables([KERNEL], [replace(KERNEL, path="dense_1/kernel")], group="weights", source="")
    wider = replace(KERNEL, shape=(128, 10))
    with pytest.raises(
        CheckpointMismatch, match=r"float32 \[64, 10\] in the checkpoint.*\[128, 10\]"
    ):
        check_variables([KERNEL], [wider], group="weights", source="checkpoint 1")


def test_another_number_of_variables_is_told() -> None:
    with pytest.raises(CheckpointMismatch, match="it has 2 weights variables, this model has 1"):
        check_variables([KERNEL, BIAS], [KERNEL], group="weights", source="checkpoint 1")
