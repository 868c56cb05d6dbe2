"""A trainer of the contract without any framework: counts steps, saves, obeys signals, and tells in
its result what it saw of its container.

The environment: STEPS, STEP_S, SAVE_EVERY (steps; 0: only when it is asked to).
"""

import json
import os
import pathlib
import signal
import sys
import threading
import urllib.error
import urllib.request

checkpoints = pathlib.Path(os.environ["SPOTRUNNER_CHECKPOINT_DIR"])
outputs = pathlib.Path(os.environ["SPOTRUNNER_OUTPUT_DIR"])
progress = pathlib.Path(os.environ["SPOTRUNNER_LOG_DIR"]) / "progress.jsonl"
total, step_s = int(os.environ["STEPS"]), float(os.environ["STEP_S"])
save_every = int(os.environ["SAVE_EVERY"])
asked: list[str] = []
pause = threading.Event()
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda which, _: asked.append(signal.Signals(which).name))


def writable(folder: pathlib.Path) -> bool:
    try:
        (folder / ".probe").touch()
        (folder / ".probe").unlink()
    except OSError:
        return False
    return True


def role_token() -> str:
    """What the metadata service says to who asks it for a token."""
    request = urllib.request.Request(
        "http://169.254.169.254/latest/api/token",
        method="PUT",
        headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"},
    )
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:
            return f"HTTP {answer.status}"
    except urllib.error.HTTPError as refused:
        return f"HTTP {refused.code}"
    except OSError:
        return "no answer"


def restored() -> dict[str, object]:
    complete = [each for each in checkpoints.iterdir() if each.name.isdigit()]
    if not complete:
        return {"step": 0, "starts": [], "signals": []}
    newest = max(complete, key=lambda folder: int(folder.name))
    state: dict[str, object] = json.loads((newest / "state.json").read_text())
    return state


def tell(**fields: object) -> None:
    with progress.open("a") as file:
        file.write(json.dumps({"step": step, "total_steps": total, **fields}) + "\n")


def save() -> None:
    final = checkpoints / f"{step:08d}"
    if final.exists():
        return
    partial = checkpoints / f".partial-{step}"
    partial.mkdir(exist_ok=True)
    (partial / "state.json").write_text(json.dumps({**state, "step": step}))
    partial.rename(final)
    tell(saved=final.name, save_s=0.01)


state = restored()
step = int(str(state["step"]))
starts, signals = state["starts"], state["signals"]
assert isinstance(starts, list)
assert isinstance(signals, list)
starts.append([os.environ["SPOTRUNNER_ATTEMPT"], step])
seen = {
    "uid": os.getuid(),
    "pid_namespace": os.getpid() < 100,
    "writable": {
        "workdir": writable(pathlib.Path.cwd()),
        "data": writable(pathlib.Path(os.environ["SPOTRUNNER_DATA_DIR"])),
        "outputs": writable(outputs),
        "home": writable(pathlib.Path.home()),
    },
    "role_token": role_token(),
}
print("goes on from step", step, flush=True)
tell()
while step < total:
    pause.wait(step_s)
    step += 1
    tell(metrics={"loss": 1 / step}, steps_per_s=1 / step_s)
    if asked or (save_every and step % save_every == 0):
        signals.extend([name, step] for name in asked)
        save()
    if "SIGTERM" in asked:
        sys.exit(75)
    asked.clear()
(outputs / "result.json").write_text(json.dumps({**state, "seen": seen}))
