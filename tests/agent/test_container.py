"""The trainer's container: its line, what docker's refusals mean, its image."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from pathlib import Path

import pytest

from spotrunner.agent import who
from spotrunner.agent.container import Container, commands
from spotrunner.agent.docker import Docker
from spotrunner.agent.folders import Folders
from spotrunner.agent.images import Image, Images, NoImage, NoRoom, PullFailed
from spotrunner.agent.runs import Launch, NotStarted, State, Unanswered, Unstartable
from spotrunner.agent.trainer import Trainer
from spotrunner.core.secret_ref import SecretForm, SecretRef
from spotrunner.ports import RegistryLogin
from tests.agent.world import HandClock, NoRegistries, a_spec

ECR = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
DIGEST = f"sha256:{'ab' * 32}"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(root=tmp_path / "state")
    folders.make()
    return folders


@pytest.fixture
def trainer(tmp_path: Path, folders: Folders) -> Trainer:
    library = tmp_path / "train"
    library.mkdir()
    (library / "loop.py").write_text("x = 1\n")
    docker = Docker(config=tmp_path / "docker")
    return Trainer(
        attempt="j.1",
        job_id="j",
        folders=folders,
        library_source=library,
        docker=docker,
        images=Images(
            docker=docker,
            registries=NoRegistries(),
            clock=HandClock(),
            pulled=tmp_path / "pulled",
        ),
    )


def container(folders: Folders) -> Container:
    return Container(
        name="spotrunner-j.1", folders=folders, docker=Docker(config=folders.root / "docker")
    )


def a_line(folders: Folders, **changes: object) -> list[str]:
    values: dict[str, object] = {"image": a_spec().image, "environment": {}, "spec": a_spec()}
    launch = Launch(**{**values, **changes})  # type: ignore[arg-type]
    return list(container(folders).arguments(launch))


def values(line: list[str], option: str) -> list[str]:
    return [line[n + 1] for n, part in enumerate(line) if part == option]


# -- the line


def test_every_folder_has_one_path_inside_and_outside(folders: Folders) -> None:
    mounts = values(a_line(folders), "-v")
    for mount in mounts:
        source, target = mount.split(":")[:2]
        assert source == target
    read_only = {Path(mount.split(":")[0]).name for mount in mounts if mount.endswith(":ro")}
    assert read_only == {"workdir", "data", "payload-lib"}


def test_a_container_outlives_its_agent_and_dockers_client(folders: Folders) -> None:
    line = a_line(folders)
    assert line[:3] == ["run", "--detach", "--init"]
    assert "--rm" not in line
    assert values(line, "--pull") == ["never"], "what was not fetched is not what was asked for"


def test_an_image_with_an_entrypoint_of_its_own_still_runs_our_shell(folders: Folders) -> None:
    line = a_line(folders)
    image = line.index(a_spec().image)
    assert values(line[:image], "--entrypoint") == ["bash"]
    assert line[image - 2 : image] == ["-w", str(folders.workdir)]
    assert line[image + 1] == "-c"


def test_gpus_are_asked_for_where_there_are_some(folders: Folders) -> None:
    assert "--gpus" not in a_line(folders)
    assert values(a_line(folders, gpus=True), "--gpus") == ["all"]


def test_a_trainer_has_no_rights_unless_its_job_asks_for_them(folders: Folders) -> None:
    line = a_line(folders)
    uid, gid = who.ids(as_root=False)
    assert values(line, "--user") == [f"{uid}:{gid}"]
    assert values(line, "--cap-drop") == ["ALL"]
    assert values(line, "--security-opt") == ["no-new-privileges"]
    rooted = a_line(folders, spec=a_spec(as_root=True))
    assert "--cap-drop" not in rooted
    assert values(rooted, "--security-opt") == ["no-new-privileges"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs a trainer as somebody else")
def test_the_trainers_user_is_our_own_and_root_where_the_job_says_so() -> None:
    assert who.ids(as_root=False) == (10001, 10001)
    assert who.ids(as_root=True) == (0, 0)


def test_a_stop_of_the_machine_leaves_time_to_save(folders: Folders) -> None:
    line = a_line(folders)
    assert values(line, "--stop-timeout") == ["110"]
    kinds = [limit.split("=")[0] for limit in values(line, "--ulimit")]
    assert kinds == ["core", "nofile", "memlock", "stack"]
    assert values(line, "--shm-size") == ["2g"]


def test_only_a_gang_shares_the_machines_network(folders: Folders) -> None:
    assert values(a_line(folders), "--network") == ["bridge"]
    assert values(a_line(folders, gang=True), "--network") == ["host"]


def test_a_secret_is_named_on_the_line_and_nowhere_told(folders: Folders) -> None:
    launch = Launch(
        spec=a_spec(), image="tf:1", environment={"A": "b"}, secrets={"WANDB_API_KEY": "s3cr3t-v"}
    )
    line = list(container(folders).arguments(launch))
    assert values(line, "-e") == ["A=b", "WANDB_API_KEY"]
    assert "s3cr3t-v" not in " ".join(line)
    assert "s3cr3t-v" not in repr(launch)


def test_secrets_as_files_lie_in_a_folder_that_nobody_can_write(
    trainer: Trainer, folders: Folders
) -> None:
    token = SecretRef(name="HF_TOKEN", source="ssm:/hf", form=SecretForm.FILE)
    spec = a_spec(secrets=(token,))
    assert f"{folders.secrets}:{folders.secrets}:ro" in values(a_line(folders, spec=spec), "-v")
    assert trainer.environment(spec)["SPOTRUNNER_SECRETS_DIR"] == str(folders.secrets)
    named = a_spec(secrets=(SecretRef(name="HF_TOKEN", source="ssm:/hf"),))
    assert str(folders.secrets) not in str(a_line(folders, spec=named))
    assert "SPOTRUNNER_SECRETS_DIR" not in trainer.environment(named)


def test_they_lie_in_memory_where_a_machine_has_a_place_for_that(tmp_path: Path) -> None:
    folders = Folders(root=tmp_path / "disk", memory=tmp_path / "memory")
    assert folders.secrets == tmp_path / "memory" / "secrets"


def test_the_commands_end_at_the_first_that_fails() -> None:
    spec = a_spec(setup="pip install x", run="python train.py | tee log")
    assert commands(spec).splitlines() == [
        "set -eo pipefail",
        "pip install x",
        "python train.py | tee log",
    ]


# -- the environment


def test_the_users_variables_cannot_replace_the_contracts(trainer: Trainer) -> None:
    envs = (("SPOTRUNNER_JOB", "other"), ("PYTHONPATH", "/app"), ("BATCH", "64"))
    environment = trainer.environment(a_spec(envs=envs))
    assert environment["SPOTRUNNER_JOB"] == "j"
    assert environment["BATCH"] == "64"
    assert environment["PYTHONPATH"] == f"{trainer.folders.library}:/app"


def test_a_user_whom_the_image_does_not_know_has_a_home_and_a_name(trainer: Trainer) -> None:
    environment = trainer.environment(a_spec())
    assert environment["HOME"] == str(trainer.folders.home)
    assert (environment["USER"], environment["LOGNAME"]) == ("trainer", "trainer")
    assert trainer.environment(a_spec(envs=(("HOME", "/tmp"),)))["HOME"] == "/tmp"
    assert "HOME" not in trainer.environment(a_spec(as_root=True)), "the image's own"


def test_the_library_is_the_training_part_alone(trainer: Trainer) -> None:
    for _ in range(2):
        trainer.lay_library()
    files = sorted(p.relative_to(trainer.folders.library) for p in _files(trainer.folders.library))
    assert [str(f) for f in files] == ["spotrunner/__init__.py", "spotrunner/train/loop.py"]


# -- what docker says


class FakeDocker:
    """A docker on PATH that answers from a file, and writes down what it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        tool = folder / "docker"
        tool.write_text(
            '#!/bin/bash\nhere="${0%/*}"\nprintf "%s\\n" "$*" >> "$here/asked"\n'
            '[ -t 0 ] || cat >> "$here/given"\n'
            'for verb in "$1-$2" "$1"; do\n'
            '  [ -e "$here/$verb.out" ] && cat "$here/$verb.out"\n'
            '  [ -e "$here/$verb.err" ] && cat "$here/$verb.err" >&2\n'
            '  [ -e "$here/$verb.code" ] && exit "$(cat "$here/$verb.code")"\n'
            "done\nexit 0\n"
        )
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def answers(self, verb: str, *, out: str = "", error: str = "", code: int = 0) -> None:
        for end, text in (("out", out), ("err", error), ("code", str(code))):
            (self.folder / f"{verb}.{end}").write_text(text)

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def given(self) -> str:
        return (self.folder / "given").read_text()


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    folder = tmp_path / "tools"
    folder.mkdir()
    return FakeDocker(folder, monkeypatch)


@pytest.mark.parametrize(
    ("code", "said", "meaning"),
    [
        (125, 'could not select device driver "" with capabilities: [[gpu]].', NotStarted),
        (125, "failed to create task for container: no space left on device", NotStarted),
        (125, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", NotStarted),
        (
            125,
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please"
            " update your driver to a newer version",
            Unstartable,
        ),
        (127, 'exec: "bash": executable file not found in $PATH: unknown.', Unstartable),
        (126, 'exec: "bash": permission denied: unknown.', Unstartable),
    ],
)
def test_what_no_machine_would_start_is_told_from_what_this_one_does_not(
    docker: FakeDocker, folders: Folders, code: int, said: str, meaning: type[Exception]
) -> None:
    docker.answers("run", error=f"docker: Error response from daemon: {said}", code=code)
    launch = Launch(spec=a_spec(), image="tf:1", environment={})
    with pytest.raises(meaning) as raised:
        container(folders).start(launch)
    assert said[:40] in str(raised.value)
    assert docker.asked[-1] == "rm --force spotrunner-j.1", "nothing is left of it"


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        (
            {"Status": "running", "Running": True, "Pid": 71, "ExitCode": 0, "OOMKilled": False},
            State(pid=71),
        ),
        (
            {"Status": "exited", "Running": False, "Pid": 0, "ExitCode": 75, "OOMKilled": False},
            State(code=75),
        ),
        (
            {"Status": "exited", "Running": False, "Pid": 0, "ExitCode": 137, "OOMKilled": True},
            State(code=137, oom_killed=True),
        ),
        (
            {"Status": "created", "Running": False, "Pid": 0, "ExitCode": 0, "OOMKilled": False},
            State(),
        ),
    ],
)
def test_what_docker_knows_of_a_container(
    docker: FakeDocker, folders: Folders, state: dict[str, object], meaning: State
) -> None:
    docker.answers("inspect", out=json.dumps([{"State": state}]))
    assert container(folders).state() == meaning


def test_a_container_that_is_not_there_and_a_docker_that_says_nothing(
    docker: FakeDocker, folders: Folders
) -> None:
    docker.answers("inspect", error="Error response from daemon: No such container: x", code=1)
    assert container(folders).state() is None
    for said in ("Cannot connect to the Docker daemon", "context deadline exceeded"):
        docker.answers("inspect", error=said, code=1)
        with pytest.raises(Unanswered):
            container(folders).state()
    docker.answers("inspect", out="[]")
    with pytest.raises(Unanswered):
        container(folders).state()


# -- the image


def images(tmp_path: Path, mirror: str = "", registries: object = None) -> Images:
    return Images(
        docker=Docker(config=tmp_path / "docker"),
        registries=registries or NoRegistries(),  # type: ignore[arg-type]
        clock=HandClock(),
        pulled=tmp_path / "pulled",
        mirror=mirror,
    )


def inspected(name: str) -> str:
    return json.dumps([{"Id": "sha256:1d", "RepoDigests": ["x/y@sha256:0", f"{name}@{DIGEST}"]}])


def test_a_baked_image_is_never_asked_for(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answers("image-inspect", out=inspected("tensorflow/tensorflow"))
    name = "tensorflow/tensorflow:2.17.0-gpu"
    assert images(tmp_path).fetch(name) == Image(name=name, digest=DIGEST, baked=True)
    assert not [asked for asked in docker.asked if asked.startswith("pull")]


def test_an_image_that_a_killed_agent_had_pulled_is_not_a_baked_one(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answers("image-inspect", error="No such image", code=1)
    docker.answers("pull", error="no route", code=1)
    with pytest.raises(PullFailed):
        images(tmp_path).fetch("tf:1")
    docker.answers("image-inspect", out=inspected("tf"))
    assert images(tmp_path).fetch("tf:1") == Image(name="tf:1", digest=DIGEST, baked=False)


def test_an_image_that_was_never_in_a_registry_has_an_id(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answers("image-inspect", out=json.dumps([{"Id": "sha256:1d", "RepoDigests": []}]))
    assert images(tmp_path).fetch("mine:1").digest == "sha256:1d"


@pytest.mark.parametrize(
    ("said", "hopeless"),
    [
        ("manifest unknown: manifest unknown", True),
        ("manifest for tf/tf:9 not found: manifest unknown", True),
        ("invalid reference format: repository name must be lowercase", True),
        ("pull access denied for x, repository does not exist or may require login", True),
        ("failed to resolve reference docker.io/x:1: docker.io/x:1: not found", True),
        ("toomanyrequests: You have reached your pull rate limit", False),
        ("dial tcp: lookup registry-1.docker.io: no such host", False),
        ("received unexpected HTTP status: 503 Service Unavailable", False),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", False),
    ],
)
def test_only_an_image_that_nobody_could_pull_is_hopeless(
    docker: FakeDocker, tmp_path: Path, said: str, hopeless: bool
) -> None:
    docker.answers("image-inspect", code=1)
    docker.answers("pull", error=f"Error response from daemon: {said}", code=1)
    with pytest.raises(NoImage if hopeless else PullFailed):
        images(tmp_path).fetch("tf:9")


def test_an_image_that_has_no_room_says_what_room_there_was(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answers("image-inspect", code=1)
    docker.answers("pull", error="write /var/lib/docker/tmp/x: no space left on device", code=1)
    with pytest.raises(NoRoom, match=r"tf:9: the image needs more than the [0-9.]+ GB that were"):
        images(tmp_path).fetch("tf:9")


class Account:
    """An account with a registry in each region."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.asked: list[str] = []

    def login(self, region: str) -> RegistryLogin:
        self.asked.append(region)
        expires_at = self.clock.now() + dt.timedelta(hours=12)
        return RegistryLogin(user="AWS", password="passw0rd", expires_at=expires_at)


def test_a_registry_of_the_account_is_logged_into_with_a_password_that_nobody_sees(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answers("image-inspect", code=1)
    clock = HandClock()
    account = Account(clock)
    them = images(tmp_path, registries=account)
    them.clock = clock
    for _ in range(2):
        them.fetch(f"{ECR}/team/model:1")
    assert account.asked == ["eu-west-1"], "a password that lasts is asked for once"
    assert f"login --username AWS --password-stdin {ECR}" in docker.asked
    assert docker.given == "passw0rd"
    assert "passw0rd" not in "".join(docker.asked)
    clock.at += dt.timedelta(hours=11, minutes=55)
    them.fetch(f"{ECR}/team/model:1")
    assert account.asked == ["eu-west-1", "eu-west-1"]
    assert "passw0rd" not in repr(account.login("eu-west-1"))


def test_a_role_that_may_not_log_in_is_told_what_to_grant(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answers("image-inspect", code=1)
    with pytest.raises(NoImage, match="no registry in eu-west-1"):
        images(tmp_path).fetch(f"{ECR}/model:1")
    docker.answers("pull", error="pull access denied: not authorized to perform", code=1)
    with pytest.raises(NoImage, match="ecr:BatchGetImage"):
        images(tmp_path, registries=Account(HandClock())).fetch(f"{ECR}/model:1")


def test_a_mirror_is_asked_first_and_need_not_have_everything(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answers("image-inspect", code=1)
    assert images(tmp_path, mirror="mirror.local/hub/").fetch("tf/tf:1").name == (
        "mirror.local/hub/tf/tf:1"
    )
    docker.answers("pull", error="manifest unknown", code=1)
    with pytest.raises(NoImage, match=r"docker pull tf/tf:1"):
        images(tmp_path, mirror="mirror.local/hub").fetch("tf/tf:1")


def test_a_mirror_that_lets_nobody_in_keeps_no_image_from_a_job(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answers("image-inspect", code=1)
    assert images(tmp_path, mirror=f"{ECR}/hub").fetch("tf/tf:1").name == "tf/tf:1"


def test_a_start_after_an_adoption_finds_the_image_by_the_name_that_it_came_by(
    docker: FakeDocker, trainer: Trainer
) -> None:
    trainer.images.mirror = "mirror.local/hub"
    docker.answers("image-inspect", out=inspected("mirror.local/hub/tf/tf"))
    docker.answers("inspect", error="No such container", code=1)
    trainer.start(a_spec(image="tf/tf:1"))
    (line,) = [asked for asked in docker.asked if asked.startswith("run")]
    assert " mirror.local/hub/tf/tf:1 -c" in line


def test_an_image_that_is_gone_is_a_start_that_failed(docker: FakeDocker, trainer: Trainer) -> None:
    docker.answers("image-inspect", code=1)
    docker.answers("pull", error="no route to host", code=1)
    with pytest.raises(NotStarted, match="no route"):
        trainer.start(a_spec(image="tf/tf:1"))


# -- who owns what


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_the_trainer_writes_to_is_its_own_and_a_link_leads_nowhere(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.write_text("x")
    (mine / "sub").mkdir()
    (mine / "sub" / "file").touch()
    (mine / "link").symlink_to(theirs)
    who.hand_over([mine], 10001, 10001)
    owned = [mine, mine / "sub", mine / "sub" / "file", mine / "link"]
    assert {path.lstat().st_uid for path in owned} == {10001}
    assert theirs.stat().st_uid == 0
    assert stat.S_ISLNK((mine / "link").lstat().st_mode)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
