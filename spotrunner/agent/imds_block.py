"""Keeps the trainer from the instance's own credentials where it shares the machine's network.

Behind docker's bridge the metadata service's answers never arrive (a hop limit of 1). Without the
bridge a rule of the firewall does the same for the trainer's user.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from spotrunner.agent.runs import NotStarted

_ADDRESSES = {"iptables": "169.254.169.254", "ip6tables": "fd00:ec2::254"}
_TIMEOUT_S = 10.0
_HAS_IPV6 = Path("/proc/net/if_inet6")


def block(uid: int) -> None:
    """Refuse the metadata service to this user; once is enough, again is no error. Raises
    NotStarted where that cannot be done: a trainer must not get at the keys."""
    for tool, address in _ADDRESSES.items():
        if tool == "ip6tables" and not (shutil.which(tool) and _HAS_IPV6.exists()):
            continue
        rule = ["OUTPUT", "-d", address, "-m", "owner", "--uid-owner", str(uid), "-j", "REJECT"]
        if _call(tool, "-C", *rule).returncode == 0:
            continue
        done = _call(tool, "-I", *rule)
        if done.returncode != 0:
            said = done.stderr.strip()[-200:]
            raise NotStarted(f"the metadata service cannot be kept from the trainer: {said}")


def _call(tool: str, verb: str, chain: str, *rule: str) -> subprocess.CompletedProcess[str]:
    # -w: another one who changes rules at this moment is waited for
    try:
        return subprocess.run(
            [tool, "-w", verb, chain, *rule],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotStarted(f"the metadata service cannot be kept from the trainer: {error}") from None
