"""A training script for the tests: everything that a resume must carry, small, in a few seconds.

Its options put signals and deaths at exact moments, which real ones reach by chance only.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import Any

from spotrunner import train
from spotrunner.train import folders

EXAMPLES = 100
BATCH = 16
STEPS_PER_EPOCH = EXAMPLES // BATCH


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--save-every-steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--units", type=int, default=16)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--optimizer", choices=["adamw", "ema"], default="adamw")
    parser.add_argument("--patience", type=int)
    parser.add_argument("--term-at-step", type=int, help="SIGTERM in the middle of this step")
    parser.add_argument("--usr1-at-step", type=int, help="SIGUSR1 in the middle of this step")
    parser.add_argument("--die-at-step", type=int, help="end without a word in this step")
    parser.add_argument(
        "--term-in",
        choices=["import", "model", "save", "evaluation", "export"],
        help="SIGTERM there",
    )
    return parser.parse_args()


def term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def moments(args: argparse.Namespace) -> Any:
    import keras

    class Moments(keras.callbacks.Callback):  # type: ignore[misc]
        # Counted here: the optimizer's own count leaves out steps whose float16 overflowed.
        step = steps_saved()

        def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
            self.step += 1
            if self.step == args.term_at_step:
                term()
            if self.step == args.usr1_at_step:
                os.kill(os.getpid(), signal.SIGUSR1)
            if self.step == args.die_at_step:
                os._exit(9)

        def on_test_batch_begin(self, batch: int, logs: object = None) -> None:
            if args.term_in == "evaluation":
                term()

    return Moments()


def steps_saved() -> int:
    found = folders.latest(Path(os.environ["SPOTRUNNER_CHECKPOINT_DIR"]))
    return 0 if found is None else int(found.name)


def term_while_saving() -> None:
    begin = folders.begin

    def interrupted(root: Path, step: int) -> Path:
        term()
        return begin(root, step)

    folders.begin = interrupted


def images() -> tuple[Any, Any]:
    import numpy as np

    random = np.random.default_rng(3)
    y = random.integers(0, 4, EXAMPLES)
    x = random.normal(size=(EXAMPLES, 8, 8, 1)) + y[:, None, None, None]
    return x.astype(np.float32), y


def network(units: int) -> Any:
    import keras
    from keras import layers

    image = keras.Input((8, 8, 1), name="image")
    h = layers.Conv2D(4, 3, use_bias=False)(image)
    h = layers.Activation("relu")(layers.BatchNormalization()(h))
    h = layers.Dropout(0.3)(layers.Flatten()(h))
    h = layers.Dropout(0.2)(layers.Dense(units, activation="relu")(h))
    return keras.Model(image, layers.Dense(4, dtype="float32")(h))


def optimizer(kind: str, steps: int) -> Any:
    import keras

    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=1e-2, warmup_steps=STEPS_PER_EPOCH
    )
    if kind == "ema":
        return keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.9)
    return keras.optimizers.AdamW(rate)


def main() -> None:
    args = options()
    if args.term_in == "import":
        term()
    run = train.start(seed=7, precision=args.precision, deterministic=True)
    import keras

    x, y = images()
    data = run.dataset(
        x,
        y,
        batch_size=args.batch_size,
        augment=lambda x, y, seed: (train.random_shift(x, 1, seed), y),
    )
    with run.strategy.scope():
        model = network(args.units)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        steps = args.epochs * data.steps_per_epoch
        model.compile(optimizer(args.optimizer, steps), loss, metrics=["accuracy"])
    if args.term_in == "model":
        term()
    if args.term_in == "save":
        term_while_saving()
    run.fit(
        model,
        data,
        epochs=args.epochs,
        validation_data=(x[:40], y[:40]),
        save_every_steps=args.save_every_steps,
        progress_every_steps=5,
        early_stopping=None
        if args.patience is None
        else train.EarlyStopping(monitor="loss", patience=args.patience, min_delta=10.0),
        callbacks=[moments(args)],
    )
    if args.term_in == "export":
        term()
    run.export(model)
    run.finish(model)


if __name__ == "__main__":
    main()
