"""The step-keyed input pipeline: which examples a step sees is a function of its number alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from spotrunner.train.times import EVERY

# (x, y, seed) -> (x, y) of one batch; seed is int64 of shape (2,), for tf.random.stateless_*
Augment = Callable[[Any, Any, Any], tuple[Any, Any]]

# The batches that are made, or wait ready, while one is trained on; more only costs memory.
PREFETCH_BATCHES = 4

# Validation needs no gradients: larger batches than in training fit, and finish sooner.
VALIDATION_BATCH = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class StepKeyed:
    """Arrays that are shuffled anew every epoch without any state to save.

    The examples of an epoch are its own permutation (`index_shuffle` keyed by seed and epoch),
    so a run that starts at step 1,234 sees what step 1,234 would have seen. The last
    `examples` modulo `batch_size` of each permutation are left out; they differ by epoch.
    """

    x: Any  # a tensor of shape (examples, ...), or a nest of them
    y: Any
    examples: int
    batch_size: int
    seed: int
    shuffle: bool
    augment: Augment | None

    @property
    def steps_per_epoch(self) -> int:
        return self.examples // self.batch_size

    def indices(self, step: Any) -> Any:
        """The examples of a step: int64, shape (batch_size,), each an index into the arrays."""
        step = tf.cast(step, tf.int64)
        epoch, batch = step // self.steps_per_epoch, step % self.steps_per_epoch
        places = batch * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)
        if not self.shuffle:
            return places
        return tf.random.experimental.index_shuffle(
            places,
            seed=tf.stack([tf.constant(self.seed, tf.int64), epoch]),
            max_index=tf.constant(self.examples - 1, tf.int64),
        )

    def batch(self, step: Any) -> tuple[Any, Any]:
        """The batch (x, y) that global step number `step`, from 0, trains on."""
        ids = self.indices(step)
        x, y = tf.nest.map_structure(lambda array: tf.gather(array, ids), (self.x, self.y))
        if self.augment is None:
            return x, y
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        return self.augment(x, y, seed)

    def batches(self, first: int, last: int, made: Callable[[int], None] | None = None) -> Any:
        """A tf.data.Dataset of the batches of the steps `first` to `last` - 1. `made` is told when
        one of them is ready: of one in EVERY, in the threads that make them."""
        batch = self.batch if made is None else self._noted(made)
        steps = tf.data.Dataset.range(first, last)
        ready = steps.map(batch, num_parallel_calls=PREFETCH_BATCHES, deterministic=True)
        return steady(ready.prefetch(PREFETCH_BATCHES))

    def _noted(self, made: Callable[[int], None]) -> Callable[[Any], tuple[Any, Any]]:
        def noted(step: Any) -> tuple[Any, Any]:
            batch = self.batch(step)
            with tf.control_dependencies(tf.nest.flatten(batch)):
                told = tf.cond(step % EVERY == 0, lambda: _tell(made, step), lambda: step)
            with tf.control_dependencies([told]):
                return tf.nest.map_structure(tf.identity, batch)  # type: ignore[no-any-return]

        return noted


def _tell(made: Callable[[int], None], step: Any) -> Any:
    """Not stateful as far as tf.data is concerned: a stateful one would make it forget that batches
    may be made in parallel. tf.timestamp is forbidden where operations must be deterministic."""

    def note(number: Any) -> Any:
        made(int(number))
        return np.int64(number)

    return tf.numpy_function(note, [step], tf.int64, stateful=False)


def steady(dataset: Any) -> Any:
    """The dataset without tf.data's tuner of parallel calls.

    Its thread sleeps for longer the longer it runs, up to a minute, and `fit` waits for it when
    it lets its iterator go: 2 to 19 s measured after trainings of 3 to 65 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def validation_batches(given: Any | None) -> Any | None:
    """Validation data as `fit` takes it: (x, y) in batches, a tf.data.Dataset as it is."""
    if given is None or isinstance(given, tf.data.Dataset):
        return given
    return steady(tf.data.Dataset.from_tensor_slices(tuple(given)).batch(VALIDATION_BATCH))


def step_keyed(
    x: Any, y: Any, *, batch_size: int, seed: int, shuffle: bool, augment: Augment | None
) -> StepKeyed:
    """Arrays, or nests of arrays, of one length as a StepKeyed.

    Raises ValueError when lengths differ or there is less than one batch.
    """
    # tf.data gathers on the CPU: arrays that went to the GPU would travel back for every batch.
    with tf.device("/cpu:0"):
        x, y = tf.nest.map_structure(tf.convert_to_tensor, (x, y))
    lengths = {int(array.shape[0]) for array in tf.nest.flatten((x, y))}
    if len(lengths) != 1:
        raise ValueError(f"x and y must have one length, but have {sorted(lengths)}")
    examples = lengths.pop()
    if batch_size < 1 or examples < batch_size:
        raise ValueError(f"{examples} examples make no batch of {batch_size}")
    return StepKeyed(
        x=x,
        y=y,
        examples=examples,
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        augment=augment,
    )
