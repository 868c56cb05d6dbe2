"""Trainers for a real docker: what runs in them, and how their agent holds them."""

from __future__ import annotations

from pathlib import Path

from spotrunner.agent.docker import Docker
from spotrunner.agent.folders import Folders
from spotrunner.agent.images import Images
from spotrunner.agent.trainer import Trainer
from spotrunner.core.model import JobSpec
from tests.agent.world import HandClock, NoRegistries, a_spec
from tests.root.dockerd import IMAGE

# Says what it hears; leaves with 75 on SIGTERM unless it is `deaf`, with its argument when `end`
# appears. It is slow to import where `imported` has to appear first.
LISTENER = """
import os, pathlib, signal, sys, threading
here, pause = pathlib.Path(os.environ["SPOTRUNNER_OUTPUT_DIR"]), threading.Event()
while "slow" in sys.argv and not (here / "imported").exists():
    pause.wait(0.02)
def note(word):
    with (here / "heard").open("a") as file:
        file.write(word + "\\n")
def leave(*_):
    note("TERM")
    if "deaf" not in sys.argv:
        sys.exit(75)
signal.signal(signal.SIGUSR1, lambda *_: note("USR1"))
signal.signal(signal.SIGTERM, leave)
note("up")
print("listening", flush=True)
while not (here / "end").exists():
    pause.wait(0.02)
sys.exit(int(sys.argv[1]))
"""


def a_trainer(root: Path, *, nodes: int = 1) -> Trainer:
    """Of one attempt that lives in `root`; made again it is what the next agent has."""
    folders = Folders(root=root / "state")
    folders.make()
    (folders.workdir / "listener.py").write_text(LISTENER)
    (root / "train").mkdir(exist_ok=True)
    docker = Docker(config=root / "docker")
    return Trainer(
        attempt=root.name,
        job_id="j",
        folders=folders,
        library_source=root / "train",
        docker=docker,
        images=Images(
            docker=docker,
            registries=NoRegistries(),
            clock=HandClock(),
            pulled=folders.root / "pulled",
        ),
        nodes=nodes,
    )


def prepared(trainer: Trainer, commands: str, **changes: object) -> JobSpec:
    """LISTEN in the commands is the listener."""
    run = commands.replace("LISTEN", "python3 -S listener.py")
    spec = a_spec(**{"run": run, "image": IMAGE, **changes})
    trainer.prepare(spec)
    return spec
