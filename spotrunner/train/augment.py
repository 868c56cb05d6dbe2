"""Augmentations that draw from a given seed only, so that a step redone is the same step."""

from __future__ import annotations

from typing import Any


def random_shift(images: Any, pixels: int, seed: Any) -> Any:
    """Each image moved by -`pixels` to +`pixels` along both axes, black where nothing was.

    `images` has the shape (batch, height, width, channels), `seed` is two integers.
    """
    import tensorflow as tf

    batch, height, width = images.shape[0], images.shape[1], images.shape[2]
    padded = tf.pad(images, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]])
    corner = tf.random.stateless_uniform(
        (2, batch, 1), seed, minval=0, maxval=2 * pixels + 1, dtype=tf.int32
    )
    rows = tf.gather(padded, corner[0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, corner[1] + tf.range(width), axis=2, batch_dims=1)
