"""A small convolutional network on handwritten digits; an interruption costs it nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from spotrunner import train  # before TensorFlow, so that a SIGTERM while that loads is in order

# isort: split
import keras
import numpy as np
from keras import layers


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All shards of a split: images in 0..1 of shape (n, 8, 8, 1), labels of shape (n,)."""
    shards = [np.load(file) for file in sorted(folder.glob(f"{split}-*.npz"))]
    x = np.concatenate([shard["x"] for shard in shards])[..., np.newaxis] / np.float32(16)
    return x, np.concatenate([shard["y"] for shard in shards])


def network(width: int) -> keras.Model:
    image = keras.Input((8, 8, 1), name="image", dtype="float32")
    h = image
    for filters in (width, width, 2 * width):
        h = layers.Conv2D(filters, 3, padding="same", use_bias=False)(h)
        h = layers.Activation("relu")(layers.BatchNormalization()(h))
        h = layers.Dropout(0.2)(h)
    h = layers.Flatten()(layers.MaxPooling2D()(h))
    h = layers.Dropout(0.4)(layers.Dense(4 * width, activation="relu")(h))
    return keras.Model(image, layers.Dense(10, dtype="float32", name="digit")(h))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--epochs", type=int, default=80)
    arguments.add_argument("--batch-size", type=int, default=32)
    arguments.add_argument("--width", type=int, default=64)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--save-every-steps", type=int, default=250)
    arguments.add_argument("--progress-every-steps", type=int, default=50)
    args = arguments.parse_args()

    run = train.start(seed=args.seed, deterministic=True)
    x, y = read(run.data_dir / "digits", "train")
    data = run.dataset(
        x,
        y,
        batch_size=args.batch_size,
        augment=lambda x, y, seed: (train.random_shift(x, 1, seed), y),
    )
    with run.strategy.scope():
        model = network(args.width)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            (args.epochs - 2) * data.steps_per_epoch,
            warmup_target=2e-3,
            warmup_steps=2 * data.steps_per_epoch,
        )
        model.compile(
            keras.optimizers.AdamW(rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    run.fit(
        model,
        data,
        epochs=args.epochs,
        validation_data=read(run.data_dir / "digits", "test"),
        save_every_steps=args.save_every_steps,
        progress_every_steps=args.progress_every_steps,
    )
    run.export(model)
    run.finish(model)


if __name__ == "__main__":
    main()
