"""Early stopping as a pure function of the epochs so far: a resume needs no state for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    `mode` "auto" looks for larger values when the name says accuracy or AUC, else for smaller.
    """

    monitor: str = "val_loss"
    patience: int = 5
    min_delta: float = 0.0
    mode: str = "auto"

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "min", "max"):
            raise ValueError(f"mode is 'auto', 'min' or 'max', not {self.mode!r}")
        if self.patience < 1:
            raise ValueError(f"patience is at least 1 epoch, not {self.patience}")

    @property
    def sign(self) -> int:
        upwards = self.monitor.endswith(("acc", "accuracy", "auc"))
        return 1 if self.mode == "max" or (self.mode == "auto" and upwards) else -1

    def is_over(self, values: Sequence[float]) -> bool:
        """Whether to stop after these values of `monitor`, one an epoch."""
        best, waited = float("-inf"), 0
        for value in values:
            if self.sign * value > best + self.min_delta:
                best, waited = self.sign * value, 0
            else:
                waited += 1
        return waited >= self.patience
