"""The long-lived process behind one container. It outlives the `docker run` that started it, as
containers outlive their client."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from types import FrameType

from spotrunner.lab.marks import CONTAINER_MARK, INSTANCE_MARK
from spotrunner.lab.processes import kill_until_none, marked
from spotrunner.lab.shims.containers import Container
from spotrunner.lab.shims.machine import Machine

_IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(lab: str, id_: str) -> int:
    machine = Machine.read(lab)
    container = Container(folder=machine.lab / "containers" / id_)
    code, error = 0, ""
    try:
        child = _start(machine, container)
    except OSError as failed:
        missing = isinstance(failed, FileNotFoundError)
        code, error = 127 if missing else 126, f"exec: {failed.strerror}: {failed.filename}"
    else:
        container.note(status="running", pid=child.pid, runner=os.getpid())
        signal.signal(signal.SIGTERM, lambda number, _frame: _pass_on(container, number, _frame))
        ended = child.wait()
        code = 128 - ended if ended < 0 else ended
        mark = _mark(machine, container)
        kill_until_none(lambda: marked(CONTAINER_MARK, lambda value: value == mark))
    removed = container.spec["remove"]
    container.note(status="exited", exit_code=code, error=error, pid=None, removed=removed)
    return 0


def _pass_on(container: Container, number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        container.deliver(number)


def _start(machine: Machine, container: Container) -> subprocess.Popen[bytes]:
    """Raises OSError."""
    spec = container.spec
    home = container.folder / "home"
    home.mkdir()
    tools = f"{Path(machine.python).parent}:{_IMAGE_PATH}"
    environment = {
        "PATH": tools,
        "HOME": str(home),
        "TMPDIR": str(home),
        "HOSTNAME": container.id[:12],
        "LANG": "C.UTF-8",
        # Behind docker's bridge the metadata service cannot be reached.
        "AWS_EC2_METADATA_DISABLED": "true",
        **spec["environment"],
        INSTANCE_MARK: machine.mark,
        CONTAINER_MARK: _mark(machine, container),
    }
    with (container.folder / "out").open("ab") as out, (container.folder / "err").open("ab") as err:
        return subprocess.Popen(
            spec["command"],
            env=environment,
            cwd=spec["workdir"] or str(home),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def _mark(machine: Machine, container: Container) -> str:
    return f"{machine.mark}/{container.id}"
