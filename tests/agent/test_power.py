"""Ending the machine: in the user-data's bash and in the agent's Python, by the same rule.

The tools on PATH are stand-ins, everywhere in this file: nothing here can end a real machine.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from spotrunner.agent.imds import Imds
from spotrunner.agent.power import LAB_MARKER, Power, Refused
from spotrunner.core.boot import Boot, user_data
from tests.agent import standins
from tests.agent.imds_server import ATTEMPT, ImdsServer

ME = "digits-7f3a.4"

MACHINES = {
    "lab": {LAB_MARKER: "i-0abc"},
    "nitro": {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n"},
    "xen by its bios": {
        "sys/class/dmi/id/sys_vendor": "Xen\n",
        "sys/class/dmi/id/bios_version": "4.11.amazon\n",
    },
    "xen by its hypervisor": {"sys/hypervisor/uuid": "ec2e1916-9099-7caf-fd21-012345abcdef\n"},
    "laptop": {"sys/class/dmi/id/sys_vendor": "LENOVO\n"},
    "another cloud": {
        "sys/class/dmi/id/sys_vendor": "Google\n",
        "sys/hypervisor/uuid": "4c4c4544\n",
    },
    "nothing": {},
}
OURS = ("lab", "nitro", "xen by its bios", "xen by its hypervisor")


class Machine:
    """A sandbox root with stand-ins first on PATH, and its metadata service."""

    def __init__(self, root: Path, imds: ImdsServer, kind: str) -> None:
        self.root = root
        self.imds = imds
        for name, text in MACHINES[kind].items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.tools = standins.make(root / "standins")
        imds.script.items[ATTEMPT] = ME.encode()

    def bash(self, call: str) -> subprocess.CompletedProcess[str]:
        """Run one call with the functions of the user-data, and nothing else of it."""
        boot = Boot(
            attempt=ME,
            job="digits-7f3a",
            installation="inst-1",
            bucket="home",
            region="us-east-1",
            archive_url="http://127.0.0.1:1/agent.tar.gz",
            archive_sha256="ab" * 32,
            first_step_s=1800,
        )
        functions = user_data(boot).split("\narm_timer ||")[0]
        return subprocess.run(
            ["bash", "-c", f"{functions}\n{call}"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "SPOTRUNNER_ROOT": str(self.root),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
        }

    def python(self, monkeypatch: pytest.MonkeyPatch) -> Power:
        monkeypatch.setenv("PATH", self.environment["PATH"])
        imds = Imds(self.imds.url, timeout_s=0.3)
        return Power(root=str(self.root), attempt=ME, imds=imds, wait=lambda _: None)

    @property
    def shutdowns(self) -> list[str]:
        return [call for call in standins.calls(self.tools) if call.startswith("shutdown")]


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path, imds_server: ImdsServer) -> Machine:
    return Machine(tmp_path, imds_server, getattr(request, "param", "lab"))


@pytest.mark.parametrize("machine", OURS, indirect=True)
def test_our_machines_are_ended(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.bash("power_off now").returncode == 0
    machine.python(monkeypatch).off()
    machine.python(monkeypatch).arm(30)
    assert machine.shutdowns == ["shutdown -P now", "shutdown -P now", "shutdown -P +30"]


@pytest.mark.parametrize("machine", sorted(set(MACHINES) - set(OURS)), indirect=True)
def test_any_other_machine_is_left_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    done = machine.bash("power_off now")
    assert done.returncode == 1
    assert "refusing" in done.stdout
    with pytest.raises(Refused):
        machine.python(monkeypatch).off()
    with pytest.raises(Refused):
        machine.python(monkeypatch).arm(30)
    assert machine.shutdowns == []


def test_an_instance_of_another_attempt_is_left_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.imds.script.items[ATTEMPT] = b"digits-7f3a.5"
    done = machine.bash("power_off now")
    assert done.returncode == 1
    assert "'digits-7f3a.5', not digits-7f3a.4" in done.stdout
    with pytest.raises(Refused):
        machine.python(monkeypatch).off()
    assert machine.shutdowns == []


@pytest.mark.parametrize("status", [404, 403, 500])
def test_without_a_name_of_the_instance_it_is_not_known(
    machine: Machine, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.imds.script.fails[ATTEMPT] = status
    assert machine.bash("power_off now").returncode == 2
    with pytest.raises(Refused):
        machine.python(monkeypatch).off()
    assert machine.shutdowns == []


def test_a_timer_that_could_not_be_armed_is_armed_again_and_never_later(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the old one would end a machine that is paid for."""
    power = machine.python(monkeypatch)
    waits: list[float] = []
    machine.imds.script.fails[ATTEMPT] = 503

    def comes_back(seconds: float) -> None:
        waits.append(seconds)
        machine.imds.script.fails.clear()

    power.wait = comes_back
    power.arm(30)
    assert len(waits) == 1
    assert machine.shutdowns == ["shutdown -P +29"]


def test_once_confirmed_the_metadata_service_may_be_silent(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    power = machine.python(monkeypatch)
    power.confirm(power.imds.attempt())
    machine.imds.script.fails[ATTEMPT] = 503
    power.off()
    assert machine.shutdowns == ["shutdown -P now"]


def test_in_the_lab_a_systems_own_shutdown_is_never_called(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PATH holds only a folder without the stand-in: a name that leads nowhere is refused."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for tool in ("bash", "date", "grep", "curl"):
        (bare / tool).symlink_to(Path("/usr/bin") / tool)
    power = machine.python(monkeypatch)
    monkeypatch.setenv("PATH", str(bare))
    with pytest.raises(Refused):
        power.off()
    script = f'PATH="{bare}"\n'
    assert machine.bash(f"{script}power_off now").returncode == 1
    assert machine.shutdowns == []


@pytest.mark.parametrize("folder", ["/sbin", "/usr/sbin", "/usr/bin", "/usr/local/bin"])
def test_what_lies_in_a_systems_folder_is_no_stand_in(machine: Machine, folder: str) -> None:
    """`command` is replaced, so that no real tool has to lie there."""
    call = f'command() {{ echo "{folder}/shutdown"; }}; has_standin'
    assert machine.bash(call).returncode == 1


def test_the_timer_counts_what_has_passed_already(machine: Machine) -> None:
    assert machine.bash("SECONDS=125; arm_timer").returncode == 0
    assert machine.shutdowns == ["shutdown -P +28"]


def test_what_the_timer_was_armed_to_is_kept_for_a_reboot(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{machine.tools}:/usr/bin:/bin")
    imds = Imds(machine.imds.url)
    power = Power(root=str(machine.root), attempt=ME, imds=imds, clock_s=lambda: 1_000_000.7)
    power.arm(121)
    power.arm(30)
    kept = machine.root / "var" / "lib" / "spotrunner" / f"{ME}.paid_until"
    assert kept.read_text() == f"{1_000_000 + 30 * 60}\n"
    assert standins.calls(machine.tools)[-1] == "shutdown -P +30"
