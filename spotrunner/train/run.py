"""One run of a training script: what `train.start` returns."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from spotrunner.train.board import Board
from spotrunner.train.checkpoint import Checkpoints, variable_groups, weights_sha256
from spotrunner.train.course import Course
from spotrunner.train.data import Augment, StepKeyed, step_keyed, validation_batches
from spotrunner.train.early import EarlyStopping
from spotrunner.train.environment import Environment
from spotrunner.train.loop import Outlets, StepBoundaries, train_to_the_end
from spotrunner.train.precision import Device, choose, describe
from spotrunner.train.progress import ProgressLog, finite
from spotrunner.train.state import DataFacts, check_data

LOG = logging.getLogger("spotrunner.train")


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What `fit` came to: the metrics of every epoch, also of those before an interruption."""

    steps: int
    history: Sequence[Mapping[str, float]]

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of the last epoch, `val_…` among them when there was validation data."""
        return self.history[-1]


class Run:
    """A run that can be interrupted: data, training, export and result of one script.

    `environment` has the folders, `precision` the dtype policy in force, `strategy` the scope
    to build the model in.
    """

    def __init__(self, environment: Environment, *, seed: int, precision: str) -> None:
        self.environment = environment
        self.seed = seed
        self.precision = precision
        self.strategy = tf.distribute.get_strategy()
        self._fitted: Fitted | None = None

    @property
    def data_dir(self) -> Path:
        """The folder that holds the job's data sets."""
        return self.environment.data

    def dataset(
        self,
        x: Any,
        y: Any,
        *,
        batch_size: int,
        shuffle: bool = True,
        augment: Augment | None = None,
    ) -> StepKeyed:
        """Training data for `fit`: arrays (or nests of arrays) with one first dimension.

        `augment(x, y, seed)` gets a batch and a seed of shape (2,) that is a function of the
        step; drawing with tf.random.stateless_* from it alone keeps a resume exact. Raises
        ValueError when there is less than one batch.
        """
        return step_keyed(
            x, y, batch_size=batch_size, seed=self.seed, shuffle=shuffle, augment=augment
        )

    def fit(
        self,
        model: Any,
        data: StepKeyed,
        *,
        epochs: int,
        validation_data: Any | None = None,
        save_every_steps: int = 500,
        progress_every_steps: int = 50,
        early_stopping: EarlyStopping | None = None,
        callbacks: Sequence[Any] = (),
    ) -> Fitted:
        """Train a compiled model, from the newest checkpoint on when there is one.

        `validation_data` is (x, y) or a tf.data.Dataset of batches. Keras `callbacks` work as
        in `model.fit`, but their own state is not saved, and after an interruption in the
        middle of an epoch `on_train_begin` comes a second time. Raises CheckpointMismatch when
        the checkpoint is of another model or other data.
        """
        if self._fitted is not None:
            raise RuntimeError("a run has one fit: the number of its step names the checkpoints")
        course = Course(
            epochs=epochs,
            steps_per_epoch=data.steps_per_epoch,
            save_every_steps=save_every_steps,
            progress_every_steps=progress_every_steps,
            early_stopping=early_stopping,
        )
        _build(model, data)
        boundaries = self._boundaries(model, data, course)
        validation = validation_batches(validation_data)
        train_to_the_end(
            model, data, course, boundaries, validation=validation, callbacks=callbacks
        )
        self._fitted = Fitted(steps=boundaries.step, history=tuple(boundaries.history))
        return self._fitted

    def export(self, model: Any) -> Path:
        """Write the model as a SavedModel to the outputs folder; the path of it.

        Its signature takes the names of the model's `keras.Input`s.
        """
        final = self.environment.outputs / "model"
        partial = final.with_name(".partial-model")
        shutil.rmtree(partial, ignore_errors=True)
        model.export(str(partial))
        shutil.rmtree(final, ignore_errors=True)  # of an attempt that ended before it had finished
        return partial.rename(final)

    def weights_sha256(self, model: Any) -> str:
        """SHA-256 (hex) over the weights and the optimizer's variables."""
        return weights_sha256(model)

    def finish(self, model: Any) -> Path:
        """Write `result.json` to the outputs folder: steps, final metrics, digest of the weights.

        The last call of a script, after `fit`; exit code 0 then tells that all is done.
        """
        if self._fitted is None:
            raise RuntimeError("finish comes after fit")
        result = {
            "job": self.environment.job,
            "attempt": self.environment.attempt,
            "steps": self._fitted.steps,
            "epochs": len(self._fitted.history),
            "metrics": finite(self._fitted.metrics),
            "weights_sha256": self.weights_sha256(model),
            "precision": self.precision,
            "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        }
        file = self.environment.outputs / "result.json"
        partial = file.with_name(".partial-result.json")
        partial.write_text(json.dumps(result, indent=1) + "\n")
        partial.replace(file)
        LOG.info("finished: %s", json.dumps({k: result[k] for k in ("steps", "weights_sha256")}))
        return file

    def _boundaries(self, model: Any, data: StepKeyed, course: Course) -> StepBoundaries:
        """The position to train from, with the model's variables as they were there."""
        here = self.environment
        outlets = Outlets(
            checkpoints=Checkpoints(here.checkpoints, pruned_by_us=here.attempt is None),
            progress=ProgressLog(here.progress, total_steps=course.total_steps),
            board=Board(here.tensorboard, attempt=here.attempt),
        )
        facts = DataFacts(
            examples=data.examples,
            batch_size=data.batch_size,
            seed=data.seed,
            shuffle=data.shuffle,
        )
        boundaries = StepBoundaries(course, outlets, facts, self.precision)
        boundaries.set_model(model)
        restored = outlets.checkpoints.restore(variable_groups(model))
        if restored is not None:
            check_data(restored.state.data, facts, source=f"checkpoint {restored.state.step:08d}")
            boundaries.go_on_from(restored)
        LOG.info("training from step %d to %d", boundaries.step, course.total_steps)
        boundaries.report(boundaries.running)
        return boundaries


def prepare(
    environment: Environment, *, seed: int, precision: str, deterministic: bool, threads: int | None
) -> Run:
    """Set TensorFlow up for a run. Must come before TensorFlow's first operation.

    On a CPU sums are split over the threads, so the same bits on machines with other numbers
    of cores need a fixed number of them; one is also what two runs beside each other go
    fastest with.
    """
    try:
        devices = _prepare_gpus()
        if threads is None and deterministic and not devices:
            threads = 1
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise RuntimeError("call train.start() before anything else uses TensorFlow") from error
    policy = choose(precision, devices)
    keras.config.set_dtype_policy(policy)
    LOG.info("%s", describe(policy, precision, devices))
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return Run(environment, seed=seed, precision=policy)


def _build(model: Any, data: StepKeyed) -> None:
    """Make every variable that a checkpoint holds, so that there is something to restore into.

    Keras would make those of metrics (and of losses with several outputs) in the first step.
    """
    if model.optimizer is None:
        raise ValueError("the model needs compile() before fit")
    x, y = data.batch(0)
    predicted = model(x, training=False)
    model.compute_loss(x=x, y=y, y_pred=predicted)
    model.compute_metrics(x, y, predicted)
    model.reset_metrics()
    model.optimizer.build(model.trainable_variables)


def _prepare_gpus() -> list[Device]:
    """Let every GPU's memory grow with need, and say what they are; an empty list on a CPU."""
    devices = []
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
        details = tf.config.experimental.get_device_details(gpu)
        devices.append(
            Device(
                name=details.get("device_name", "unknown GPU"),
                capability=details.get("compute_capability", (0, 0)),
            )
        )
    return devices
