"""Write scikit-learn's digits (1,797 real 8x8 images) as shards, the way a data set lies in S3."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TEST_IMAGES = 297
TRAIN_SHARDS = 4


def write_shards(folder: Path) -> Path:
    """Write `train-…npz` and `test-…npz` to `folder`, and `dataset.json`; the path of that.

    Each shard has x, uint8 of shape (n, 8, 8) with values 0 to 16, and y, uint8 of shape (n,).
    """
    digits = load_digits()
    x, y = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    # The bundled order goes writer by writer: shuffled, every shard has all of them.
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    folder.mkdir(parents=True, exist_ok=True)
    shards = {"test-00000-of-00001.npz": test}
    for number, part in enumerate(np.array_split(train, TRAIN_SHARDS)):
        shards[f"train-{number:05d}-of-{TRAIN_SHARDS:05d}.npz"] = part
    for name, part in shards.items():
        np.savez_compressed(folder / name, x=x[part], y=y[part])
    description = {
        "name": "digits",
        "source": "scikit-learn load_digits (UCI optical recognition of handwritten digits)",
        "classes": 10,
        "shape": [8, 8],
        "examples": {name: len(part) for name, part in shards.items()},
    }
    file = folder / "dataset.json"
    file.write_text(json.dumps(description, indent=1) + "\n")
    return file


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    print(write_shards(arguments.parse_args().folder))
