"""Instances as machines of their own: namespaces, a real docker daemon, and a metadata service at
its real address.

```
   the machine                 the router's network            the instance's network, mounts, pids
   lab's endpoint, 127.0.0.1:P <---------- relay ------------- 127.0.0.1:P
                               IMDS 169.254.169.254:80 ------- eth0 -- docker0 -- containers
```
The metadata service is one hop away from the instance's own processes and two from a container, as
on EC2, so that the hop limit does what it does there. Nothing else is within reach. No address, no
route, no rule and no name appears on the machine itself; all ends with the last process or socket
in it, also when the lab is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spotrunner.lab import dockerd
from spotrunner.lab.cgroups import group_of, remove_groups
from spotrunner.lab.namespaces import enter, enter_new, in_own_thread
from spotrunner.lab.relay import Relay

IMDS_ADDRESS = "169.254.169.254"
_BOOT = Path(__file__).with_name("isolated.sh")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What an isolated lab calls, with the package of Debian and Ubuntu that has it.
_NEEDED: Mapping[str, str] = {
    "ip": "iproute2",
    "iptables": "iptables",
    "unshare": "util-linux",
    "mount": "mount",
    "mkfs.ext4": "e2fsprogs",
    "dockerd": "docker.io",
    "docker": "docker.io",
}
_IP_TIMEOUT_S = 10.0
# Spoken to before the first processes of the instance are there.
_BACKLOG = 32


def problem(*, uid: int | None = None, path: str = SYSTEM_PATH) -> str | None:
    """Why no lab can isolate its instances here, and what would help. `uid` is who starts it (by
    default whoever runs this), `path` where tools are looked for."""
    if sys.platform != "linux":
        return "an isolated lab needs Linux: its instances are network namespaces"
    if (os.geteuid() if uid is None else uid) != 0:
        return "an isolated lab needs root, for its network namespaces and docker daemons"
    missing = [tool for tool in _NEEDED if shutil.which(tool, path=path) is None]
    if missing:
        packages = " ".join(sorted({_NEEDED[tool] for tool in missing}))
        return (
            f"an isolated lab needs {', '.join(missing)}, which are not installed"
            f" (Debian and Ubuntu: apt-get install {packages})"
        )
    if not Path("/dev/loop-control").exists():
        return "an isolated lab needs loop devices for its disks: modprobe loop"
    return None


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """`ports` are those of this machine's loopback that instances reach at the same address, the
    endpoint's among them; they are asked for at each launch."""

    ports: Callable[[], Sequence[int]]

    def cell(self, *, mark: str, private_ip: str, disk_gib: int) -> Cell:
        """The namespaces of one instance. Raises OSError or SubprocessError."""
        return in_own_thread(lambda: _make(mark, private_ip, disk_gib, self.ports()))


@dataclass(kw_only=True)
class Cell:
    """The network of one instance, from its making to `close`."""

    mark: str
    disk_gib: int
    imds: socket.socket
    network: int | None
    relays: Sequence[Relay] = field(repr=False)

    @property
    def group(self) -> str:
        return group_of(self.mark)

    def start(
        self, command: Sequence[str], *, root: Path, environment: Mapping[str, str], console: Path
    ) -> subprocess.Popen[bytes]:
        """Start what the instance's first process is: all others die with it. What cannot be made
        is said on the console."""
        network = self.network
        assert network is not None, "an instance is started once"
        self.network = None
        disk = root / "var/lib/docker"
        dockerd.write(root / ".lab", disk, self.group)
        for relay in self.relays:
            relay.start()
        inside = [
            *("unshare", "--mount", "--propagation", "private"),
            *("--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", str(_BOOT), str(disk), str(self.disk_gib), *command),
        ]
        try:
            return in_own_thread(lambda: _start(network, inside, root, environment, console))
        finally:
            os.close(network)

    def close(self) -> None:
        """After the end of its processes. Again is no error."""
        if self.network is not None:
            os.close(self.network)
            self.network = None
        for relay in self.relays:
            relay.close()
        self.relays = ()
        remove_groups(self.group)


def _make(mark: str, private_ip: str, disk_gib: int, ports: Sequence[int]) -> Cell:
    """In a thread of its own, which changes its network."""
    with contextlib.ExitStack() as undo:
        instance = enter_new()
        undo.callback(os.close, instance)
        _ip("link set lo up")
        relays = []
        for port in ports:
            relays.append(Relay(_listen("127.0.0.1", port), port))
            undo.callback(relays[-1].close)
        os.close(enter_new())  # the router's: its socket will keep it
        imds = _route(instance, private_ip)
        undo.callback(imds.close)
        enter(instance)
        _ip(f"address add {private_ip}/32 dev eth0")
        _ip("link set eth0 up")
        _ip(f"route add {IMDS_ADDRESS}/32 dev eth0")
        undo.pop_all()
    return Cell(mark=mark, disk_gib=disk_gib, imds=imds, network=instance, relays=relays)


def _route(instance: int, private_ip: str) -> socket.socket:
    """In the router's network: the link to the instance's, and where IMDS listens."""
    _ip("link set lo up")
    _ip(f"address add {IMDS_ADDRESS}/32 dev lo")
    _ip(f"link add instance type veth peer name eth0 netns /proc/{os.getpid()}/fd/{instance}")
    _ip("link set instance up")
    _ip(f"route add {private_ip}/32 dev instance")
    return _listen(IMDS_ADDRESS, 80)


def _start(
    network: int, command: Sequence[str], root: Path, environment: Mapping[str, str], console: Path
) -> subprocess.Popen[bytes]:
    enter(network)
    with console.open("ab") as out:
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def _ip(words: str) -> None:
    """Raises SubprocessError with ip's own words."""
    done = subprocess.run(
        ["ip", *words.split()],
        env={"PATH": SYSTEM_PATH},
        capture_output=True,
        text=True,
        timeout=_IP_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise subprocess.SubprocessError(f"ip {words}: {done.stderr.strip()}")


def _listen(address: str, port: int) -> socket.socket:
    return socket.create_server((address, port), backlog=_BACKLOG)
