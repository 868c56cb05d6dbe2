"""The plan of a training run in steps and epochs, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spotrunner.train.early import EarlyStopping


@dataclass(frozen=True, kw_only=True)
class Course:
    """How long to train, and every how many steps to save and to report. Counts are positive."""

    epochs: int
    steps_per_epoch: int
    save_every_steps: int
    progress_every_steps: int
    early_stopping: EarlyStopping | None

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "save_every_steps", "progress_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def is_over(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Whether the epochs in `history` (their metrics, one each) are all there are to be."""
        if len(history) >= self.epochs:
            return True
        rule = self.early_stopping
        if rule is None or not history:
            return False
        if rule.monitor not in history[-1]:
            known = ", ".join(sorted(history[-1]))
            raise ValueError(f"early stopping looks at {rule.monitor!r}, but there is only {known}")
        return rule.is_over([epoch[rule.monitor] for epoch in history])

    def has_open_epoch(self, step: int, epochs_closed: int) -> bool:
        """Whether `step` is the last of an epoch that was not validated yet."""
        return step == (epochs_closed + 1) * self.steps_per_epoch
