"""The parts that need TensorFlow, in this process: order of examples, augmentation, digests."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

with warnings.catch_warnings():
    # TensorFlow's import warns of its own dependencies, which is not ours to fix.
    warnings.simplefilter("ignore")
    tf = pytest.importorskip("tensorflow")

import numpy as np

from spotrunner.train.augment import random_shift
from spotrunner.train.data import PREFETCH_BATCHES, StepKeyed, step_keyed
from spotrunner.train.times import EVERY, StepTimes

pytestmark = pytest.mark.slow


def a_dataset(*, examples: int = 10, batch_size: int = 3, seed: int = 7, **more: Any) -> StepKeyed:
    numbers = np.arange(examples, dtype=np.int64)
    return step_keyed(
        numbers,
        numbers * 10,
        batch_size=batch_size,
        seed=seed,
        shuffle=more.get("shuffle", True),
        augment=more.get("augment"),
    )


def epoch_of(data: StepKeyed, epoch: int) -> list[int]:
    first = epoch * data.steps_per_epoch
    batches = data.batches(first, first + data.steps_per_epoch)
    return [int(number) for x, _ in batches for number in x]


def test_an_epoch_sees_no_example_twice_and_the_next_another_order() -> None:
    data = a_dataset()
    assert data.steps_per_epoch == 3
    first, second = epoch_of(data, 0), epoch_of(data, 1)
    assert len(set(first)) == len(set(second)) == 9
    assert first != second
    assert set().union(*(epoch_of(data, epoch) for epoch in range(5))) == set(range(10))


def test_a_pipeline_from_the_middle_goes_on_where_the_whole_one_is() -> None:
    data = a_dataset()
    whole = [x.numpy().tolist() for x, _ in data.batches(0, 12)]
    assert [x.numpy().tolist() for x, _ in data.batches(5, 12)] == whole[5:]
    assert whole[4] == data.indices(4).numpy().tolist()


def test_labels_stay_with_their_examples() -> None:
    for x, y in a_dataset().batches(0, 6):
        assert (x.numpy() * 10 == y.numpy()).all()


def test_the_order_is_the_seeds() -> None:
    assert epoch_of(a_dataset(seed=7), 0) == epoch_of(a_dataset(seed=7), 0)
    assert epoch_of(a_dataset(seed=7), 0) != epoch_of(a_dataset(seed=8), 0)
    assert epoch_of(a_dataset(shuffle=False), 1) == list(range(9))


def test_augmentation_is_keyed_by_the_step() -> None:
    def noisy(x: Any, y: Any, seed: Any) -> tuple[Any, Any]:
        return tf.random.stateless_uniform((3,), seed), y

    data = a_dataset(augment=noisy)
    drawn = [tuple(x.numpy().tolist()) for x, _ in data.batches(0, 6)]
    assert len(set(drawn)) == 6
    assert [tuple(x.numpy().tolist()) for x, _ in data.batches(4, 6)] == drawn[4:]


def test_nests_of_arrays_are_batched_alike() -> None:
    x = {"a": np.arange(8), "b": np.ones((8, 2))}
    y = np.arange(8)
    data = step_keyed(x, y, batch_size=4, seed=1, shuffle=True, augment=None)
    batch, labels = data.batch(1)
    assert batch["b"].shape == (4, 2)
    assert batch["a"].numpy().tolist() == labels.numpy().tolist()


def test_data_that_make_no_batch_are_an_error() -> None:
    with pytest.raises(ValueError, match="10 examples make no batch of 11"):
        a_dataset(batch_size=11)
    with pytest.raises(ValueError, match=r"have \[4, 5\]"):
        step_keyed(np.ones(4), np.ones(5), batch_size=1, seed=0, shuffle=True, augment=None)


def test_shifted_images_are_the_image_somewhere_else() -> None:
    image = np.zeros((5, 5), np.float32)
    image[2, 2] = 1.0
    batch = tf.constant(np.repeat(image[None, :, :, None], 200, axis=0))
    shifted = random_shift(batch, 1, tf.constant([3, 4])).numpy()
    assert shifted.shape == batch.shape
    places = {
        (int(row), int(column)) for _, row, column, _ in zip(*np.nonzero(shifted), strict=True)
    }
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    assert (shifted == random_shift(batch, 1, tf.constant([3, 4])).numpy()).all()
    assert (shifted != random_shift(batch, 1, tf.constant([3, 5])).numpy()).any()


# -- which batches are looked at ---------------------------------------------------------------


def test_batches_that_are_looked_at_are_the_same_batches() -> None:
    made: list[int] = []
    looked_at = [x.numpy().tolist() for x, _ in a_dataset().batches(5, 25, made.append)]
    assert looked_at == [x.numpy().tolist() for x, _ in a_dataset().batches(5, 25)]
    assert sorted(made) == [7, 14, 21]


@pytest.mark.parametrize("at_a_time", range(1, PREFETCH_BATCHES + 1))
def test_no_bunch_of_batches_hides_from_the_looks(at_a_time: int) -> None:
    """Of four that come together only the first is waited for: the looks must find each of them
    equally often."""
    found = {step % at_a_time for step in range(0, 100 * EVERY, EVERY)}
    assert found == set(range(at_a_time))


def test_a_trainer_that_is_faster_than_its_input_waits_for_it() -> None:
    def slow(x: Any, y: Any, seed: Any) -> tuple[Any, Any]:
        noise = tf.random.stateless_normal((200, 200), seed=seed)
        for _ in range(20):
            noise = tf.linalg.matmul(noise, noise) / tf.reduce_max(tf.abs(noise))
        return x + tf.cast(tf.reduce_sum(noise), x.dtype), y

    times = StepTimes()
    data = step_keyed(
        np.arange(64), np.arange(64), batch_size=2, seed=1, shuffle=True, augment=slow
    )
    times.starts()
    batches = iter(data.batches(0, 60, times.made))
    for step in range(60):
        times.begins(step)
        next(batches)
        times.ends()
    taken = times.take()
    assert taken is not None
    assert taken.input_wait_share is not None
    assert taken.input_wait_share > 0.3
