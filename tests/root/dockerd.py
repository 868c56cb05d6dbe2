"""One docker daemon of the tests' own, in a network and a mount namespace that end with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from spotrunner.lab.namespaces import enter, in_own_thread
from tests.lab.waiting import until

IMAGE = "trainer:1"
_T = TypeVar("_T")
_START_S = 30.0
# lo for what runs on the "host"; the bridge needs forwarding, which dockerd sets itself.
_HOLD = (
    "mount -t tmpfs tmpfs /run && mkdir /run/lock && ip link set lo up && touch {ready} &&"
    " exec sleep 100000"
)


@dataclass(kw_only=True)
class Den:
    """`folder` is short: a socket's path may have 107 characters."""

    folder: Path
    live_restore: bool = False
    _holder: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _containerd: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _daemon: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def host(self) -> str:
        """For DOCKER_HOST: a socket of the file system can be reached from any network."""
        return f"unix://{self.folder}/s"

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        ready = self.folder / "ready"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", _HOLD.format(ready=ready)],
            stdin=subprocess.DEVNULL,
        )
        until(ready.exists)
        # By itself, as a package installs it: it is not docker's to take along.
        self._containerd = self._spawn(
            *("containerd", "--address", f"{self.folder}/c"),
            *("--root", f"{self.folder}/croot", "--state", f"{self.folder}/cstate"),
        )
        until((self.folder / "c").exists)
        self.start()

    def start(self) -> None:
        """Also after `kill`."""
        self._daemon = self._spawn(
            *("dockerd", "--host", self.host, "--pidfile", f"{self.folder}/pid"),
            *("--containerd", f"{self.folder}/c", "--data-root", f"{self.folder}/data"),
            *("--exec-root", f"{self.folder}/x", "--exec-opt", "native.cgroupdriver=cgroupfs"),
            *(("--live-restore",) if self.live_restore else ()),
        )
        until(lambda: self.docker("version", check=False).returncode == 0, _START_S)

    def kill(self) -> None:
        """-9, as the kernel does it for want of memory: its containers live on."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()

    def close(self) -> None:
        """All of it, by the folder that its processes name."""
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._daemon.wait(_START_S)
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        for child in (self._containerd, self._holder):
            if child is not None:
                child.kill()
                child.wait()
        until(lambda: not self._processes())
        shutil.rmtree(self.folder)

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "--host", self.host, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=check,
        )

    def within(self, do: Callable[[], _T]) -> _T:
        """In this daemon's network, as an agent that runs on the same machine."""
        assert self._holder is not None
        network = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        def run() -> _T:
            enter(network)
            return do()

        try:
            return in_own_thread(run)
        finally:
            os.close(network)

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        assert self._holder is not None
        inside = ["nsenter", "--target", str(self._holder.pid), "--net", "--mount", "--"]
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [*inside, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if any(str(self.folder) in word for word in words) and words[0] != "docker":
                    found.append(process)
        return found


@contextlib.contextmanager
def den(folder: Path, rootfs: Path, *, live_restore: bool = False) -> Iterator[Den]:
    """With one image, `trainer:1`, of that file system."""
    made = Den(folder=folder, live_restore=live_restore)
    try:
        made.open()
        made.docker("import", str(rootfs), IMAGE)
        yield made
    finally:
        made.close()
