"""A trainer of the contract that tells its secrets to everybody who listens, and that fails the
first time. What it read goes into its outputs by its digest alone."""

import hashlib
import json
import os
import pathlib
import sys
import threading

checkpoints = pathlib.Path(os.environ["SPOTRUNNER_CHECKPOINT_DIR"])
outputs = pathlib.Path(os.environ["SPOTRUNNER_OUTPUT_DIR"])
progress = pathlib.Path(os.environ["SPOTRUNNER_LOG_DIR"]) / "progress.jsonl"
files = pathlib.Path(os.environ["SPOTRUNNER_SECRETS_DIR"])
secrets = {name: os.environ[name] for name in ("WANDB_API_KEY", "DB_PASSWORD")}
secrets |= {path.name: path.read_text() for path in files.iterdir()}
TOTAL, SAVED, FAILS = 120, 20, 40
pause = threading.Event()

done = sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
step = first = done[-1] if done else 0


def tell(**fields: object) -> None:
    with progress.open("a") as file:
        file.write(json.dumps({"step": step, "total_steps": TOTAL, **fields}) + "\n")


def blab() -> None:
    for name, value in secrets.items():
        print("my", name, "is", value, flush=True)
        print(json.dumps({name: value}), file=sys.stderr, flush=True)
        # Whoever ships the log meanwhile sees a half.
        print("in two halves:", value[:9], end="", flush=True)
        pause.wait(0.3)
        print(value[9:], flush=True)


while step < TOTAL:
    if step % 20 == 0:
        blab()
    pause.wait(0.05)
    step += 1
    tell(steps_per_s=20.0)
    if step % SAVED == 0:
        partial = checkpoints / f".partial-{step}"
        partial.mkdir()
        (partial / "state.json").write_text("{}")
        partial.rename(checkpoints / f"{step:08d}")
    if step == FAILS and not first:
        blab()
        print("cannot log in with", *secrets.values(), flush=True)
        sys.exit(3)

digests = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in secrets.items()}
(outputs / "digests.json").write_text(json.dumps(digests))
