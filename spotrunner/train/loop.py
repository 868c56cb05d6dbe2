"""What happens at the step boundaries of Keras' `fit`: saves, signals, progress, epoch ends."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from spotrunner.train import folders
from spotrunner.train.board import Board
from spotrunner.train.checkpoint import Checkpoints, Restored, facts_of, variable_groups
from spotrunner.train.course import Course
from spotrunner.train.data import StepKeyed
from spotrunner.train.progress import ProgressLog
from spotrunner.train.signals import REQUESTS, leave
from spotrunner.train.state import CheckpointMismatch, DataFacts, State
from spotrunner.train.times import StepTimes

LOG = logging.getLogger("spotrunner.train")


class EpochOver(Exception):
    """Leaves a `fit` that only had the rest of an interrupted epoch to do.

    An exception because the regular way out of `fit` ends the training: it overwrites the
    weights of an optimizer with a moving average.
    """


@dataclass(frozen=True, kw_only=True)
class Outlets:
    """Where a step boundary writes to."""

    checkpoints: Checkpoints
    progress: ProgressLog
    board: Board


@dataclass(frozen=True, kw_only=True)
class Reported:
    """The last progress line, to measure the pace from."""

    step: int
    at_s: float


class StepBoundaries(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Knows the position of the run, and acts on it between two steps.

    It comes last in the list of callbacks, so that a save has what the others have changed.
    """

    def __init__(self, course: Course, outlets: Outlets, data: DataFacts, precision: str) -> None:
        super().__init__()
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.times = StepTimes()
        self._running: Mapping[str, float] = {}
        self._course = course
        self._outlets = outlets
        self._data = data
        self._precision = precision
        self._metrics_to_restore: Sequence[Any] = ()
        self._before_epoch = 0
        self._leaves_after_epoch = False
        self._reported: Reported | None = None
        self._pace: float | None = None

    @property
    def is_over(self) -> bool:
        return self._course.is_over(self.history)

    @property
    def has_open_epoch(self) -> bool:
        return self._course.has_open_epoch(self.step, len(self.history))

    @property
    def running(self) -> dict[str, float]:
        """The training metrics of the epoch in progress, over its steps so far."""
        return dict(self._running)

    def go_on_from(self, restored: Restored) -> None:
        """Take the position of a checkpoint, whose variables the model already has."""
        state = restored.state
        self.step = state.step
        self.history = [dict(epoch) for epoch in state.history]
        self._running = state.running
        self._metrics_to_restore = restored.metrics
        if state.precision != self._precision:
            LOG.warning(
                "precision changes from %s to %s: exact in position, not in bits",
                state.precision,
                self._precision,
            )

    def report(self, metrics: Mapping[str, float]) -> None:
        """A progress line at this step, with the pace since the last one."""
        now_s = time.perf_counter()
        if self._reported is not None and self.step > self._reported.step:
            self._pace = (self.step - self._reported.step) / (now_s - self._reported.at_s)
            self._outlets.board.batch(self.step, metrics, steps_per_s=self._pace)
        self._reported = Reported(step=self.step, at_s=now_s)
        epoch = self.step // self._course.steps_per_epoch
        self._outlets.progress.step(
            self.step,
            epoch=epoch,
            metrics=metrics,
            steps_per_s=self._pace,
            taken=self.times.take(),
        )

    def save(self) -> None:
        """Save this step, unless its checkpoint is there, and say so in the progress file."""
        groups = {**variable_groups(self.model), "metrics": self.model.metrics_variables}
        state = State(
            step=self.step,
            running=self._running,
            history=self.history,
            data=self._data,
            precision=self._precision,
            variables=facts_of(groups),
        )
        save_s = self._outlets.checkpoints.save(state, groups)
        # A request that came during the save asked for this very step.
        REQUESTS.save = False
        self._outlets.progress.saved(self.step, name=folders.name_of(self.step), save_s=save_s)
        self._outlets.board.flush()

    def leave_after_epoch(self, leaves: bool) -> None:
        self._leaves_after_epoch = leaves

    def on_train_begin(self, logs: object = None) -> None:
        self.times.starts()

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._before_epoch = self.step
        if self.step % self._course.steps_per_epoch:
            self._restore_metrics()

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        self.times.begins(self._before_epoch + batch)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        before, self.step = self.step, self._before_epoch + batch + 1
        self.times.ends(self.step - before)
        self._running = dict(logs or {})
        REQUESTS.unsaved = True
        if self.step % self._course.progress_every_steps == 0:
            self.report(self._running)
        self._answer(due=self.step % self._course.save_every_steps == 0)

    def on_test_begin(self, logs: object = None) -> None:
        # So that the time of the validation is not taken for time of the steps before it.
        if self._reported is not None and self._reported.step < self.step:
            self.report(self._running)

    def on_test_batch_end(self, batch: int, logs: object = None) -> None:
        # A validation can outlast the notice. The state says that its epoch is still open.
        self._answer(due=False)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        metrics = dict(logs or {})
        self.history.append(metrics)
        self._outlets.board.epoch(self.step, metrics, learning_rate=_learning_rate(self.model))
        self.report(metrics)
        LOG.info(
            "epoch %d/%d, step %d: %s", epoch + 1, self._course.epochs, self.step, _told(metrics)
        )
        if self.is_over:
            self.model.stop_training = True
        elif self._leaves_after_epoch:
            raise EpochOver

    def _restore_metrics(self) -> None:
        # Keras has just reset the metrics, but the first part of the epoch counts too.
        variables, values = self.model.metrics_variables, self._metrics_to_restore
        if len(variables) != len(values):
            raise CheckpointMismatch(
                f"checkpoint {folders.name_of(self.step)} has {len(values)} metric variables, this "
                f"model has {len(variables)}: compile it with the metrics that it was saved with"
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _answer(self, *, due: bool) -> None:
        if due or REQUESTS.save or REQUESTS.stop:
            self.save()
            if REQUESTS.stop:
                LOG.info("stopped at step %d, which is saved", self.step)
                leave()


def train_to_the_end(
    model: Any,
    data: StepKeyed,
    course: Course,
    boundaries: StepBoundaries,
    *,
    validation: Any | None,
    callbacks: Sequence[Any],
) -> None:
    """From where `boundaries` are to the end of the course, and a checkpoint of the end."""
    every = [*callbacks, boundaries]
    if boundaries.has_open_epoch:
        _close_epoch(model, boundaries, validation, every)
    if boundaries.is_over:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    elif boundaries.step % course.steps_per_epoch:
        _fit_rest_of_epoch(model, data, course, boundaries, validation, every)
    if not boundaries.is_over:
        model.fit(
            data.batches(boundaries.step, course.total_steps, boundaries.times.made),
            initial_epoch=boundaries.step // course.steps_per_epoch,
            epochs=course.epochs,
            steps_per_epoch=course.steps_per_epoch,
            shuffle=False,
            validation_data=validation,
            callbacks=every,
            verbose=0,
        )
    boundaries.save()
    REQUESTS.unsaved = False
    if REQUESTS.stop:
        leave()


def _fit_rest_of_epoch(
    model: Any,
    data: StepKeyed,
    course: Course,
    boundaries: StepBoundaries,
    validation: Any | None,
    callbacks: Sequence[Any],
) -> None:
    epoch = boundaries.step // course.steps_per_epoch
    end = (epoch + 1) * course.steps_per_epoch
    boundaries.leave_after_epoch(True)
    with contextlib.suppress(EpochOver):
        model.fit(
            data.batches(boundaries.step, end, boundaries.times.made),
            initial_epoch=epoch,
            epochs=epoch + 1,
            steps_per_epoch=end - boundaries.step,
            shuffle=False,
            validation_data=validation,
            callbacks=callbacks,
            verbose=0,
        )
    boundaries.leave_after_epoch(False)


def _close_epoch(
    model: Any, boundaries: StepBoundaries, validation: Any | None, callbacks: Sequence[Any]
) -> None:
    """Do what `fit` had still to do when it was stopped after the last step of an epoch."""
    listed = keras.callbacks.CallbackList(list(callbacks), model=model)
    metrics = boundaries.running
    if validation is not None:
        on_validation = model.evaluate(validation, callbacks=listed, return_dict=True, verbose=0)
        metrics |= {f"val_{name}": value for name, value in on_validation.items()}
    listed.on_epoch_end(len(boundaries.history), metrics)


def _learning_rate(model: Any) -> float:
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def _told(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
