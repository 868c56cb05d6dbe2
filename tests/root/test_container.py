"""The trainer in containers of a real docker: signals, exit codes, and deaths of all kinds."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spotrunner.adapters.memory import MemoryObjects
from spotrunner.agent.images import NoImage
from spotrunner.agent.mask import Mask
from spotrunner.agent.runs import NotStarted, Unstartable
from spotrunner.agent.secrets import JobSecrets
from spotrunner.agent.trainer import Exit, Trainer
from spotrunner.agent.who import UID, ids
from spotrunner.agent.words import Sig
from spotrunner.core.diagnosis import diagnose
from spotrunner.core.secret_place import SecretPlace
from spotrunner.core.secret_ref import SecretForm, SecretRef
from spotrunner.lab.isolation import IMDS_ADDRESS
from tests.agent.world import HandClock
from tests.lab.waiting import until
from tests.root.dockerd import IMAGE, Den, den
from tests.root.registry import serving
from tests.root.rootfs import rootfs
from tests.root.trainers import a_trainer, prepared

pytestmark = pytest.mark.root

# To the end of a container, docker's own bookkeeping included.
END_S = 20.0


def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="den"))


@pytest.fixture(scope="module")
def shared(_can_run: None) -> Iterator[Den]:
    with den(folder(), rootfs()) as made:
        yield made


@pytest.fixture
def docker(shared: Den, monkeypatch: pytest.MonkeyPatch) -> Den:
    monkeypatch.setenv("DOCKER_HOST", shared.host)
    return shared


class Run:
    """One trainer, and what a test sees of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trainer = a_trainer(root)

    def start(self, commands: str, **changes: object) -> None:
        self.trainer.start(prepared(self.trainer, commands, **changes))

    def mark(self, name: str) -> None:
        (self.trainer.folders.outputs / name).touch()

    def signal(self, sig: Sig) -> None:
        until(lambda: self.trainer.signal(sig))

    @property
    def heard(self) -> list[str]:
        path = self.trainer.folders.outputs / "heard"
        return path.read_text().split() if path.exists() else []

    def until_heard(self, *words: str) -> None:
        until(lambda: self.heard == list(words), END_S)

    @property
    def log(self) -> str:
        return self.trainer.folders.trainer_log.read_text()

    def end(self, within_s: float = END_S) -> Exit:
        until(lambda: self.trainer.poll() is not None, within_s)
        found = self.trainer.poll()
        assert found is not None
        return found

    def next_agent(self) -> Trainer:
        """What the next agent has of it: the disk."""
        self.trainer = a_trainer(self.root)
        return self.trainer


@pytest.fixture
def run(docker: Den, tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    docker.docker("rm", "--force", made.trainer.name, check=False)


# -- signals and exit codes


THREE_LINES = "echo begin\nLISTEN 0 2>&1 | tee {out}/copy\necho end"


def three_lines(run: Run) -> str:
    return THREE_LINES.format(out=run.trainer.folders.outputs)


def test_a_save_reaches_the_trainer_behind_a_pipe_and_kills_nobody_else(run: Run) -> None:
    run.start(three_lines(run))
    run.until_heard("up")
    for n in (1, 2):
        run.signal(Sig.SAVE)
        run.until_heard("up", *["USR1"] * n)
    run.mark("end")
    assert run.end() == Exit(code=0)
    assert run.log.split() == ["begin", "listening", "end"]


def test_a_stop_reaches_the_trainer_behind_a_pipe_and_its_75_comes_through_tee(run: Run) -> None:
    run.start(three_lines(run))
    run.until_heard("up")
    run.signal(Sig.STOP)
    assert run.end() == Exit(code=75)
    assert run.heard == ["up", "TERM"]


def test_a_trainer_whose_launcher_has_left_it_a_session_of_its_own_hears_as_well(run: Run) -> None:
    """Nobody descends from anybody any more: what they share is the container."""
    run.start("(setsid LISTEN 0 &)\nwhile :; do sleep 0.05; done")
    run.until_heard("up")
    run.signal(Sig.SAVE)
    run.until_heard("up", "USR1")
    run.signal(Sig.STOP)
    run.until_heard("up", "USR1", "TERM")
    run.signal(Sig.KILL)
    assert run.end() == Exit(code=137)


def test_a_save_during_a_slow_import_waits_for_the_trainer(run: Run) -> None:
    run.start("LISTEN 0 slow | cat")
    run.signal(Sig.SAVE)
    run.mark("imported")
    run.until_heard("up", "USR1")
    run.mark("end")
    assert run.end() == Exit(code=0)


def test_a_stop_during_a_slow_import_ends_it(run: Run) -> None:
    run.start("LISTEN 0 slow | cat")
    until((run.trainer.folders.marks / "listening").exists)
    run.signal(Sig.STOP)
    assert run.end().code == 143
    assert run.heard == []


def test_the_first_process_is_an_init_and_bash_below_it_hears_a_stop(run: Run) -> None:
    """With bash as the first process of the container SIGTERM would reach nobody."""
    run.start("cat /proc/1/comm; trap 'echo stopped; exit 75' TERM; while :; do sleep 0.05; done")
    until(lambda: "docker-init" in run.log)
    run.signal(Sig.STOP)
    assert run.end() == Exit(code=75)
    assert "stopped" in run.log


def test_a_trainer_that_ignores_a_stop_is_killed(run: Run) -> None:
    run.start("LISTEN 0 deaf")
    run.until_heard("up")
    run.signal(Sig.STOP)
    run.until_heard("up", "TERM")
    assert run.trainer.poll() is None
    run.signal(Sig.KILL)
    assert run.end(5) == Exit(code=137)


def test_a_stalled_trainer_prints_its_stacks(run: Run) -> None:
    run.start("LISTEN 0 | cat")
    run.until_heard("up")
    run.signal(Sig.ABORT)
    assert run.end() == Exit(code=134)
    assert "Fatal Python error: Aborted" in run.log
    assert 'File "' in run.log


@pytest.mark.parametrize(("commands", "code"), [("exit 5", 5), ("false\ntrue", 1), ("true", 0)])
def test_the_exit_code_is_the_commands(run: Run, commands: str, code: int) -> None:
    run.start(commands)
    assert run.end() == Exit(code=code)


def test_nothing_is_left_of_a_container_that_was_read(run: Run, docker: Den) -> None:
    run.start("true")
    run.end()
    names = docker.docker("ps", "--all", "--format", "{{.Names}}").stdout.split()
    assert run.trainer.name not in names


# -- who it is, and what it may


def test_it_is_a_user_without_rights_with_a_home_and_a_name(run: Run) -> None:
    run.start(
        "id -u; id -g\n"
        "python3 -c 'import getpass, pathlib; print(getpass.getuser(), pathlib.Path.home())'\n"
        "mkdir -p ~/.local/bin\n"
        "printf '#!/bin/bash\\necho mine\\n' > ~/.local/bin/tool\n"
        "chmod +x ~/.local/bin/tool; tool\n"
        "grep -E 'CapEff|NoNewPrivs' /proc/self/status"
    )
    assert run.end() == Exit(code=0), run.log
    assert run.log.split() == [
        *(str(UID), str(UID), "trainer", str(run.trainer.folders.home), "mine"),
        *("CapEff:", "0000000000000000", "NoNewPrivs:", "1"),
    ]


def test_root_where_the_job_says_so(run: Run) -> None:
    run.start("id -u; touch /usr/local/bin/tool; echo $HOME", as_root=True)
    assert run.end() == Exit(code=0), run.log
    assert run.log.split() == ["0", "/root"]


@pytest.mark.parametrize("where", ["workdir", "data", "library"])
def test_code_and_data_are_read_only(run: Run, where: str) -> None:
    path = getattr(run.trainer.folders, where) / "new"
    run.start(f'python3 -c \'open("{path}", "w")\'')
    end = run.end()
    assert end.code == 1
    told = diagnose(end.code, oom_killed=False, log_tail=run.log.splitlines())
    assert told is not None
    assert told.what == f"{path} cannot be written: a read-only file system"


def test_it_writes_where_it_should_and_not_into_the_image(run: Run) -> None:
    run.start("touch $SPOTRUNNER_CHECKPOINT_DIR/a $SPOTRUNNER_OUTPUT_DIR/b /tmp/c\ntouch /opt/d")
    end = run.end()
    assert end.code == 1
    told = diagnose(end.code, oom_killed=False, log_tail=run.log.splitlines())
    assert told is not None
    assert "as_root" in told.change
    assert (run.trainer.folders.checkpoints / "a").stat().st_uid == UID
    assert (run.trainer.folders.outputs / "b").exists()


def test_a_secret_is_in_the_environment_and_in_no_process_list(run: Run, docker: Den) -> None:
    spec = prepared(run.trainer, "echo ${#KEY}; LISTEN 0")
    run.trainer.start(spec, {"KEY": "s3cr3t-value"})
    run.until_heard("up")
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if b"s3cr3t-value" in line]
    run.mark("end")
    assert run.end() == Exit(code=0)
    assert run.log.splitlines()[0] == "12"


class Kept:
    """One secret, wherever it is looked for."""

    def read(self, place: SecretPlace) -> str:
        return "s3cr3t-value"


def test_a_secret_as_a_file_is_read_by_the_trainer_alone_and_written_by_nobody(run: Run) -> None:
    folders = run.trainer.folders
    token = SecretRef(name="TOKEN", source="ssm:/token", form=SecretForm.FILE)
    secrets = JobSecrets(
        secrets=Kept(),
        objects=MemoryObjects(HandClock()),
        job_id="j",
        folder=folders.secrets,
        mask=Mask(),
        redact=lambda _: None,
    )
    secrets.fetch([token])
    secrets.lay(*ids(as_root=False))
    told = folders.secrets.stat(), (folders.secrets / "TOKEN").stat()
    assert [(it.st_uid, stat.S_IMODE(it.st_mode)) for it in told] == [(UID, 0o500), (UID, 0o400)]
    reads = 'cat "$SPOTRUNNER_SECRETS_DIR/TOKEN"; echo'
    writes = '! echo x > "$SPOTRUNNER_SECRETS_DIR/TOKEN"; ! touch "$SPOTRUNNER_SECRETS_DIR/x"'
    run.start(f"{reads}; {writes}; ! cat {folders.secrets}.json", secrets=(token,))
    assert run.end() == Exit(code=0)
    lines = run.log.splitlines()
    assert lines[0] == "s3cr3t-value"
    assert all("Read-only file system" in line for line in lines[1:3])
    secrets.remove()
    assert not folders.secrets.exists()


# -- ends that are nobody's wish


def test_a_trainer_that_runs_out_of_memory_is_told_from_one_that_was_killed(
    run: Run, docker: Den
) -> None:
    run.start("LISTEN 0; python3 -c 'x = bytearray(1 << 30)'")
    run.until_heard("up")
    docker.docker("update", "--memory", "64m", "--memory-swap", "64m", run.trainer.name)
    run.mark("end")
    end = run.end()
    assert (end.code, end.oom_killed) == (137, True)
    told = diagnose(end.code, oom_killed=end.oom_killed, log_tail=())
    assert told is not None
    assert "out of memory" in told.what


@pytest.mark.parametrize("how", [("rm", "--force"), ("kill",)], ids=["removed", "killed"])
def test_a_container_that_somebody_ended_is_the_machines_fault_within_seconds(
    run: Run, docker: Den, how: tuple[str, ...]
) -> None:
    run.start("LISTEN 0")
    run.until_heard("up")
    docker.docker(*how, run.trainer.name)
    end = run.end(5)
    assert end.lost


def test_an_image_without_bash_is_no_fault_of_the_machine(run: Run, docker: Den) -> None:
    """docker's init finds it out, and says so where docker keeps what a container prints."""
    empty = run.root / "empty.tar"
    subprocess.run(["tar", "--create", "--file", empty, "--files-from", os.devnull], check=True)
    docker.docker("import", str(empty), "empty:1")
    run.start("true", image="empty:1")
    end = run.end()
    assert end.code == 127
    told = diagnose(end.code, oom_killed=False, log_tail=run.log.splitlines())
    assert told is not None
    assert told.what == "the image has no bash"


def test_a_machine_that_cannot_give_its_gpus_is_unfit(run: Run) -> None:
    run.trainer.gpus = True
    with pytest.raises(NotStarted, match="could not select device driver"):
        run.start("true")


# -- agents that die


def test_a_trainer_outlives_its_agent_and_the_next_one_adopts_it(run: Run) -> None:
    agent = subprocess.Popen(
        [sys.executable, "-m", "tests.root.trainer_once", run.root, "LISTEN 3 | cat"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"started\n"
    run.until_heard("up")
    agent.kill()
    agent.communicate()

    assert run.next_agent().found()
    run.trainer.adopt()
    assert run.trainer.poll() is None
    run.signal(Sig.SAVE)
    run.until_heard("up", "USR1")
    run.mark("end")
    assert run.end() == Exit(code=3)


def test_an_end_that_no_agent_saw_is_told_to_the_next_one(run: Run) -> None:
    run.start("LISTEN 4")
    run.until_heard("up")
    run.mark("end")
    until((run.trainer.folders.marks / "exited").exists)
    for _ in range(2):  # also when that one dies too, and the container is gone already
        assert run.next_agent().found()
        run.trainer.adopt()
        assert run.end() == Exit(code=4)


def test_a_machine_that_was_booted_again_has_no_trainer(run: Run, docker: Den) -> None:
    """What a reboot leaves: a container that was killed, and no word of it."""
    run.start("LISTEN 0")
    run.until_heard("up")
    docker.docker("kill", run.trainer.name)
    assert not run.next_agent().found()


def test_a_fresh_machine_has_none(run: Run) -> None:
    assert not run.trainer.found()


# -- docker daemons that die


@pytest.fixture
def own(
    _can_run: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Den]:
    with den(folder(), rootfs(), live_restore=request.param) as made:
        monkeypatch.setenv("DOCKER_HOST", made.host)
        yield made


@pytest.mark.parametrize("own", [True], indirect=True, ids=["live restore"])
def test_a_docker_daemon_that_dies_takes_neither_signals_nor_the_end_along(
    own: Den, tmp_path: Path
) -> None:
    run = Run(tmp_path)
    run.start("LISTEN 0 | cat")
    run.until_heard("up")
    own.kill()
    began_s = time.monotonic()
    run.signal(Sig.SAVE)
    run.until_heard("up", "USR1")
    assert time.monotonic() - began_s < 2
    own.start()
    assert run.trainer.poll() is None
    run.mark("end")
    assert run.end() == Exit(code=0)


@pytest.mark.parametrize("own", [True], indirect=True, ids=["live restore"])
def test_an_end_while_docker_is_dead_is_told_by_what_the_shell_wrote(
    own: Den, tmp_path: Path
) -> None:
    run = Run(tmp_path)
    run.start("LISTEN 0")
    run.until_heard("up")
    own.kill()
    run.signal(Sig.STOP)
    assert run.end(END_S) == Exit(code=75)


@pytest.mark.parametrize("own", [False], indirect=True, ids=["as installed"])
def test_a_docker_daemon_that_stops_what_it_finds_is_the_machines_fault(
    own: Den, tmp_path: Path
) -> None:
    """Without live-restore a daemon that is started again stops the containers that it finds. The
    trainer's own 75 is no failure of the job then."""
    run = Run(tmp_path)
    run.start("LISTEN 0")
    run.until_heard("up")
    own.kill()
    assert run.trainer.poll() is None
    own.start()
    assert run.end().lost


# -- networks


def test_a_gangs_trainer_shares_the_network_and_not_the_machines_keys(
    run: Run, docker: Den
) -> None:
    asked = _serve_imds(docker)
    try:
        run.trainer.nodes = 2
        ask = (
            f"python3 -c 'import socket; socket.create_connection((\"{IMDS_ADDRESS}\", 80), 3)'"
            " 2>&1 | tail -1"
        )
        spec = prepared(run.trainer, f"{ask} || true")
        for _ in range(2):  # the rule is laid once
            docker.within(lambda: run.trainer.start(spec))
            assert run.end().code == 0
        assert (
            run.log.splitlines() == ["ConnectionRefusedError: [Errno 111] Connection refused"] * 2
        )
        rules = docker.within(lambda: _said("iptables", "-S", "OUTPUT"))
        assert rules.count("--uid-owner") == 1
        docker.within(lambda: socket.create_connection((IMDS_ADDRESS, 80), 3).close())
        until(lambda: asked() == 1)
    finally:
        docker.within(lambda: _said("iptables", "-F", "OUTPUT"))


def test_a_gang_as_root_is_refused(run: Run) -> None:
    run.trainer.nodes = 2
    with pytest.raises(Unstartable, match="as_root"):
        run.start("true", as_root=True)


def _serve_imds(docker: Den) -> Callable[[], int]:
    """A server at the metadata service's address, in the daemon's network alone; how many came."""
    came: list[int] = []

    def listen() -> socket.socket:
        _said("ip", "address", "replace", f"{IMDS_ADDRESS}/32", "dev", "lo")
        return socket.create_server((IMDS_ADDRESS, 80))

    server = docker.within(listen)

    def accept() -> None:
        with server:
            connection, _ = server.accept()
            came.append(1)
            connection.close()

    threading.Thread(target=accept, daemon=True).start()
    return lambda: len(came)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# -- images


def test_an_image_that_is_pulled_is_known_by_the_registrys_digest(
    run: Run, docker: Den, tmp_path: Path
) -> None:
    place = tmp_path / "registry"
    place.mkdir()
    serves = serving(rootfs(), place)
    registry = docker.within(serves.__enter__)
    try:
        images = run.trainer.images
        image = images.fetch(registry.image)
        assert (image.digest, image.baked) == (registry.digest, False)
        assert not images.fetch(registry.image).baked, "an agent started again knows its own"
        with pytest.raises(NoImage):
            images.fetch(registry.image.replace("trainer:1", "trainer:9"))
        pinned = f"{registry.image.rpartition(':')[0]}@{registry.digest}"
        assert images.fetch(pinned).digest == registry.digest
    finally:
        serves.__exit__(None, None, None)


def test_an_image_on_the_machine_is_a_baked_one(run: Run) -> None:
    image = run.trainer.images.fetch(IMAGE)
    assert image.baked
    assert image.digest.startswith("sha256:")
