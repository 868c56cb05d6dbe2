"""TensorBoard logs whose x axis is the global step, so that attempts continue one curve."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

LOG = logging.getLogger("spotrunner.train")

VALIDATION = "val_"  # Keras' prefix of the metrics on validation data


class Board:
    """Two runs, `train` and `validation`; every attempt adds a file of its own to each."""

    def __init__(self, folder: Path, *, attempt: str | None) -> None:
        self._folder = folder
        self._suffix = ".attempt-" + re.sub(r"[^\w-]", "_", attempt or "local")
        self._writers: dict[str, Any] = {}
        # TensorFlow 2.21 no longer depends on tensorboard, and tf.summary fails without it.
        self._installed = importlib.util.find_spec("tensorboard") is not None
        if not self._installed:
            LOG.warning("no TensorBoard logs: pip install tensorboard")

    def batch(self, step: int, metrics: Mapping[str, float], *, steps_per_s: float) -> None:
        """The running metrics of the epoch in progress."""
        self._write("train", step, "batch_", {**metrics, "steps_per_s": steps_per_s})

    def epoch(self, step: int, metrics: Mapping[str, float], *, learning_rate: float) -> None:
        """What an epoch ended with; `val_…` goes to the run `validation` under the same tag."""
        on_train = {name: v for name, v in metrics.items() if not name.startswith(VALIDATION)}
        on_validation = {
            name.removeprefix(VALIDATION): v for name, v in metrics.items() if name not in on_train
        }
        self._write("train", step, "epoch_", {**on_train, "learning_rate": learning_rate})
        self._write("validation", step, "epoch_", on_validation)

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()

    def _write(self, run: str, step: int, prefix: str, scalars: Mapping[str, float]) -> None:
        if not self._installed or not scalars:
            return
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(
                str(self._folder / run), filename_suffix=self._suffix
            )
        with self._writers[run].as_default():
            for name, value in scalars.items():
                tf.summary.scalar(prefix + name, value, step=step)
