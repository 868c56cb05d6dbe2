"""Training that loses nothing when its machine goes: what a payload imports inside its container.

    from spotrunner import train

    run = train.start(seed=7, deterministic=True)
    data = run.dataset(x, y, batch_size=64)
    with run.strategy.scope():
        model = ...
        model.compile(...)
    run.fit(model, data, epochs=50, validation_data=(x_test, y_test))
    run.export(model)
    run.finish(model)

Stands on TensorFlow and the standard library only. Import it before TensorFlow: under an agent
the import takes over SIGTERM, so that the seconds in which TensorFlow loads end in order too.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from spotrunner.train.augment import random_shift
from spotrunner.train.early import EarlyStopping
from spotrunner.train.environment import read_environment
from spotrunner.train.signals import REQUESTS
from spotrunner.train.state import CheckpointMismatch

if TYPE_CHECKING:
    from spotrunner.train.run import Run

__all__ = ["CheckpointMismatch", "EarlyStopping", "random_shift", "start"]

LOG = logging.getLogger("spotrunner.train")

if "SPOTRUNNER_ATTEMPT" in os.environ and threading.current_thread() is threading.main_thread():
    REQUESTS.install()


def start(
    *,
    seed: int = 0,
    precision: str = "auto",
    deterministic: bool = False,
    threads: int | None = None,
) -> Run:
    """Prepare TensorFlow and the folders for one run; the first call of a training script.

    Seeds Python, NumPy and Keras with `seed`. `precision` is "auto" (mixed precision where a
    GPU has it) or a Keras dtype policy. `deterministic` makes every operation give the same
    bits each time, at some speed; `threads` is the number of CPU threads that an operation is
    split over, which bits also depend on (default: TensorFlow's choice, and 1 for a deterministic
    run without a GPU, so that machines with other numbers of cores agree).

    Raises ValueError for an unknown precision, RuntimeError when TensorFlow is already in use.
    """
    if not LOG.hasHandlers():
        _log_to_stderr()
    REQUESTS.install()
    environment = read_environment(os.environ, Path.cwd())
    environment.make_folders()
    # Here and not above: it loads TensorFlow, 2 s that a reader of `--help` need not wait for.
    from spotrunner.train.run import prepare

    return prepare(
        environment, seed=seed, precision=precision, deterministic=deterministic, threads=threads
    )


def _log_to_stderr() -> None:
    """A training script rarely sets up logging, and what the run says must not be lost."""
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(logging.Formatter("%(asctime)s spotrunner: %(message)s", "%H:%M:%S"))
    LOG.addHandler(to_stderr)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
