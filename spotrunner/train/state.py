"""What a checkpoint says beside its variables: where the run is, and what it is a run of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 1


class CheckpointMismatch(Exception):
    """The checkpoint belongs to another model, other data, or another trainer."""


@dataclass(frozen=True, kw_only=True)
class VariableFacts:
    """One variable as the checkpoint has it: Keras' path of it, its shape and dtype."""

    path: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What the order of the examples depends on; a resume with other values is another run."""

    examples: int
    batch_size: int
    seed: int
    shuffle: bool


@dataclass(frozen=True, kw_only=True)
class State:
    """A position in training: `step` steps are done, `history` has the metrics of each ended epoch.

    `running` are the training metrics of the epoch in progress. Between the last step of an
    epoch and the end of its validation, `history` is one epoch short: the resume validates.
    """

    step: int
    running: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    data: DataFacts
    precision: str
    variables: Mapping[str, Sequence[VariableFacts]]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)


def read_state(text: str, *, source: str) -> State:
    """The state in a checkpoint's text; `source` names the checkpoint in errors."""
    fields: dict[str, Any] = json.loads(text)
    if fields.pop("format", None) != FORMAT:
        raise CheckpointMismatch(f"{source} has another format than this library's {FORMAT}")
    fields["data"] = DataFacts(**fields["data"])
    fields["variables"] = {
        group: [VariableFacts(**{**facts, "shape": tuple(facts["shape"])}) for facts in listed]
        for group, listed in fields["variables"].items()
    }
    return State(**fields)


def check_data(saved: DataFacts, here: DataFacts, *, source: str) -> None:
    """Raise CheckpointMismatch when the data differ, naming each difference."""
    before, now = asdict(saved), asdict(here)
    differing = [
        f"{name} was {before[name]} and is {now[name]}" for name in now if before[name] != now[name]
    ]
    if differing:
        raise CheckpointMismatch(
            f"{source} was saved by a run on other data ({'; '.join(differing)}): "
            "go on with the old values, or start from an empty checkpoint folder"
        )


def check_variables(
    saved: Sequence[VariableFacts], here: Sequence[VariableFacts], *, group: str, source: str
) -> None:
    """Raise CheckpointMismatch when the variables differ, naming the first shapes that do."""
    if len(saved) != len(here):
        raise CheckpointMismatch(
            f"{source} is of another model: it has {len(saved)} {group} variables, "
            f"this model has {len(here)}{_first_difference(saved, here)}"
        )
    if (difference := _first_difference(saved, here)) != "":
        raise CheckpointMismatch(f"{source} is of another model{difference}")


def _first_difference(saved: Sequence[VariableFacts], here: Sequence[VariableFacts]) -> str:
    # Paths are only told, not compared: Keras numbers them by what else the process has built.
    for old, new in zip(saved, here, strict=False):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            return (
                f": {old.path} is {old.dtype} {list(old.shape)} in the checkpoint, "
                f"{new.path} is {new.dtype} {list(new.shape)} in the model"
            )
    return ""
