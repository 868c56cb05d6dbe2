"""A trainer of the contract without any framework: counts steps, saves, obeys signals.

Arguments: total steps, seconds a step, then words: `deaf` ignores SIGTERM, `fails` exits with 3,
`full` has no room for checkpoints from step 50 on, `slow` takes two seconds for each.
"""

import json
import os
import pathlib
import signal
import sys
import threading

checkpoints = pathlib.Path(os.environ["SPOTRUNNER_CHECKPOINT_DIR"])
outputs = pathlib.Path(os.environ["SPOTRUNNER_OUTPUT_DIR"])
progress = pathlib.Path(os.environ["SPOTRUNNER_LOG_DIR"]) / "progress.jsonl"
total, step_s, words = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
asked: set[str] = set()
pause = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: asked.add("save"))
signal.signal(signal.SIGTERM, lambda *_: None if "deaf" in words else asked.add("stop"))

done = sorted((p for p in checkpoints.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
step = int(json.loads((done[-1] / "state.json").read_text())["step"]) if done else 0
trail = json.loads((done[-1] / "state.json").read_text())["trail"] if done else []


def tell(**fields: object) -> None:
    with progress.open("a") as file:
        file.write(json.dumps({"step": step, "total_steps": total, **fields}) + "\n")


def save() -> None:
    final = checkpoints / f"{step:08d}"
    if final.exists():
        return
    partial = checkpoints / f".partial-{step}"
    partial.mkdir(exist_ok=True)
    if "full" in words and step >= 50:
        try:
            pathlib.Path("/dev/full").write_text("weights")
        except OSError as error:
            print("not saved:", error, flush=True)
            return
    if "slow" in words:
        pause.wait(2.0)
    state = {"step": step, "trail": [*trail, os.environ["SPOTRUNNER_ATTEMPT"]]}
    (partial / "state.json").write_text(json.dumps(state))
    partial.rename(final)
    tell(saved=final.name, save_s=0.01)


print("resumes from", step, flush=True)
tell()
while step < total:
    pause.wait(step_s)
    step += 1
    tell(metrics={"loss": 1 / step}, steps_per_s=1 / step_s)
    if "fails" in words and step == 5:
        print("about to fail", flush=True)
        sys.exit(3)
    if step % 20 == 0 or asked:
        save()
    if "stop" in asked:
        sys.exit(75)
    asked.discard("save")
(outputs / "model.json").write_text(json.dumps({"steps": step, "trail": trail}))
