"""Variables to and from checkpoint folders, in TensorFlow's own format beside a `state.json`."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spotrunner.train import folders
from spotrunner.train.state import (
    CheckpointMismatch,
    State,
    VariableFacts,
    check_variables,
    read_state,
)

LOG = logging.getLogger("spotrunner.train")

STATE_FILE = "state.json"
VARIABLES_PREFIX = "variables"

# What a trainer without an agent keeps; with one, the agent prunes what it has committed.
KEEP_WITHOUT_AGENT = 3

Groups = Mapping[str, Sequence[Any]]


def variable_groups(model: Any) -> Groups:
    """Everything that a step changes, in a stable order.

    `seeds` is the state of dropout and the like, which Keras 3 counts as no weight: left out,
    a resumed run differs. `loss_scale` stands apart from `optimizer` because only float16 has
    it, and a job moves between GPUs with float16 and bfloat16.
    """
    weights = list(model.weights)
    known = {id(variable) for variable in weights}
    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    own = {id(variable) for variable in inner.variables}
    return {
        "weights": weights,
        "seeds": [variable for variable in model.variables if id(variable) not in known],
        "optimizer": list(inner.variables),
        "loss_scale": [variable for variable in optimizer.variables if id(variable) not in own],
    }


def weights_sha256(model: Any) -> str:
    """SHA-256 (hex) over dtype, shape and bytes of the weights and the optimizer's variables."""
    groups = variable_groups(model)
    digest = hashlib.sha256()
    for variable in (*groups["weights"], *groups["optimizer"]):
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def facts_of(groups: Groups) -> dict[str, list[VariableFacts]]:
    return {
        name: [
            VariableFacts(
                path=variable.path,
                shape=tuple(variable.shape),
                dtype=keras.backend.standardize_dtype(variable.dtype),
            )
            for variable in variables
        ]
        for name, variables in groups.items()
    }


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A checkpoint that was read; `metrics` are values for variables that Keras makes later."""

    state: State
    metrics: list[Any]


class Checkpoints:
    """The checkpoint folder of one run. `pruned_by_us` is for runs without an agent."""

    def __init__(self, root: Path, *, pruned_by_us: bool) -> None:
        self._root = root
        self._pruned_by_us = pruned_by_us
        folders.sweep(root)

    def save(self, state: State, groups: Groups) -> float:
        """Write the checkpoint of `state.step` unless it is there; the seconds that it took."""
        if folders.exists(self._root, state.step):
            return 0.0
        began_s = time.perf_counter()
        partial = folders.begin(self._root, state.step)
        try:
            _write(partial, state, groups)
            folders.publish(partial, state.step)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        if self._pruned_by_us:
            folders.prune(self._root, KEEP_WITHOUT_AGENT)
        return time.perf_counter() - began_s

    def restore(self, groups: Groups) -> Restored | None:
        """Assign the newest complete checkpoint to the variables in `groups`; None without one.

        Raises CheckpointMismatch, before it has assigned anything, when shapes differ.
        """
        folder = folders.latest(self._root)
        if folder is None:
            return None
        state = _read_state(folder)
        saved, here = state.variables, facts_of(groups)
        assigned = [name for name in here if _is_restored(name, saved, here)]
        for name in assigned:
            check_variables(saved[name], here[name], group=name, source=_source(folder))
        reader = tf.train.load_checkpoint(str(folder / VARIABLES_PREFIX))
        for name in assigned:
            for index, variable in enumerate(groups[name]):
                variable.assign(reader.get_tensor(_key(name, index)))
        metrics = [
            reader.get_tensor(_key("metrics", index))
            for index in range(len(saved.get("metrics", ())))
        ]
        return Restored(state=state, metrics=metrics)


def _is_restored(
    name: str, saved: Mapping[str, Sequence[Any]], here: Mapping[str, Sequence[Any]]
) -> bool:
    if name != "loss_scale" or len(saved.get(name, ())) == len(here[name]):
        return True
    LOG.info("the loss scale starts anew: the checkpoint is of another precision")
    return False


def _write(partial: Path, state: State, groups: Groups) -> None:
    # The raw tf.Variables: TensorFlow would otherwise track Keras' objects and their names.
    raw = {name: [variable.value for variable in listed] for name, listed in groups.items()}
    tf.train.Checkpoint(**raw).write(str(partial / VARIABLES_PREFIX))
    (partial / STATE_FILE).write_text(state.to_json())


def _read_state(folder: Path) -> State:
    file = folder / STATE_FILE
    if not file.is_file():
        raise CheckpointMismatch(
            f"{_source(folder)} has no {STATE_FILE}: it was not saved by spotrunner.train"
        )
    return read_state(file.read_text(), source=_source(folder))


def _source(folder: Path) -> str:
    return f"checkpoint {folder.name}"


def _key(group: str, index: int) -> str:
    return f"{group}/{index}/.ATTRIBUTES/VARIABLE_VALUE"
