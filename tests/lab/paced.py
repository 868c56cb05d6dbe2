"""The digits payload at no more than so many steps a second: a job that no machine finishes before
its story is told. It lies beside the payload's train.py and takes its arguments."""

from __future__ import annotations

import runpy
import threading
import time
from functools import partialmethod
from typing import Any

from spotrunner import train  # noqa: F401 - before TensorFlow, as in the payload

# isort: split
import keras

from spotrunner.train.run import Run

STEPS_A_SECOND = 10


class Pace(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    def __init__(self) -> None:
        super().__init__()
        self._next_s = time.monotonic()
        self._pause = threading.Event()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now_s = time.monotonic()
        self._pause.wait(max(0.0, self._next_s - now_s))
        self._next_s = max(self._next_s, now_s) + 1 / STEPS_A_SECOND


if __name__ == "__main__":
    Run.fit = partialmethod(Run.fit, callbacks=[Pace()])  # type: ignore[method-assign, assignment]
    runpy.run_path("train.py", run_name="__main__")
