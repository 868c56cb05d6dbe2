"""`spotrunner bake` against the emulated AWS, in virtual time, with an instance that does as its
user-data says, or not."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spotrunner.adapters.aws.images import AwsImages
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.app import bake as over_aws
from spotrunner.app.bake import Patience
from spotrunner.core.baked import LONGEST_S
from spotrunner.daemon.request import AgentArchive
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.sim.cloud import VirtualClock
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import STEADY
from spotrunner.sim.values import LIGHT, ApiError
from spotrunner.sim.world import World
from tests.cli.conftest import Run
from tests.contracts.clouds import START, a_setup
from tests.contracts.conftest import set_keys

HOME, HERE, THERE = "home-bucket", "us-east-1", "eu-west-1"
UBUNTU = "ami-00000000000000000"
TF = "tensorflow/tensorflow:2.17.0-gpu"
DIGEST = "sha256:" + "ab" * 32
DENIED = ApiError("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
SETTINGS = f"""\
home: {{{{bucket: {HOME}, region: {HERE}}}}}
regions: [{HERE}, {THERE}]
endpoint_url: {{url}}
state_dir: state
"""
# Whatever was scripted here happens until the end of the test.
ALWAYS = 10_000


@dataclass(kw_only=True)
class Account:
    """An account of an installation. Time passes where the command waits; the instance is ready
    when its next pause begins."""

    endpoint: LabEndpoint
    world: World
    clock: VirtualClock
    aws: Aws
    folder: Path
    says: dict[str, str] | None = field(default_factory=lambda: {"digest": DIGEST})
    meanwhile: list[Callable[[], object]] = field(default_factory=list)
    patience: Patience = field(default_factory=lambda: Patience(poll_s=2))

    @property
    def home(self) -> S3Objects:
        return S3Objects(self.aws.s3(HERE), HOME)

    @property
    def images(self) -> AwsImages:
        return AwsImages(self.aws)

    @property
    def config(self) -> Path:
        path = self.folder / "daemon.yaml"
        path.write_text(SETTINGS.format(url=self.endpoint.url))
        return path

    def benches(self) -> list[Any]:
        return list(self.endpoint.world.ask(World.truth))

    def living(self) -> list[str]:
        return [it.id for it in self.benches() if it.stage.value in ("pending", "running")]

    def pause(self, seconds: float) -> None:
        if self.meanwhile:
            self.meanwhile.pop(0)()
        self.clock.advance(seconds)
        for bench in self.benches():
            bake = dict(bench.tags)["spotrunner:attempt"]
            if bench.stage.value == "running" and self.says is not None:
                key = f"bake/{bake.removeprefix('bake:')}.json"
                self.home.put(key, json.dumps(self.says).encode())

    def unprice(self, kind: str) -> None:
        """AWS's price list has no such type anywhere."""
        setup = self.endpoint.world.setup
        prices = {at: it for at, it in setup.on_demand_usd_micros.items() if at[1] != kind}
        self.endpoint.world.setup = dataclasses.replace(setup, on_demand_usd_micros=prices)

    def script(self, **fault: Any) -> None:
        self.world.script(Fault(**{"times": ALWAYS, **fault}))


def shelve(_objects: object, _folder: Path, _architecture: object) -> AgentArchive:
    """What is in the agent's archive is another test's."""
    return AgentArchive(key="agent/it.tar.gz", sha256="ab" * 32)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Account]:
    set_keys(monkeypatch)
    clock = VirtualClock(START)
    world = World(a_setup(dataclasses.replace(LIGHT, throttled=False)), seed=7)
    wire = Awkwardness(halves=True, throttled_share=0.0)
    with LabEndpoint(world, clock, awkwardness=wire) as endpoint:
        aws = Aws(endpoint_url=endpoint.url)
        aws.s3(HERE).create_bucket(Bucket=HOME)
        made = Account(endpoint=endpoint, world=world, clock=clock, aws=aws, folder=tmp_path)
        made.home.put("installation.json", b'{"id": "i1"}')
        over_ec2 = partial(over_aws.bakery, pause=made.pause, shelve=shelve)
        monkeypatch.setattr(over_aws, "bakery", lambda *it: over_ec2(*it, patience=made.patience))
        yield made
        aws.close()


Bake = Callable[..., dict[str, Any]]


@pytest.fixture
def bake(account: Account, run: Run) -> Bake:
    """Run it with --yes: what it prints with -o json, its exit code as `code`, its words `err`."""

    def run_it(*arguments: str) -> dict[str, Any]:
        where = ["--config", str(account.config)]
        if arguments and arguments[0] in ("ls", "rm"):
            verb, rest = [arguments[0]], list(arguments[1:])
        else:
            verb, rest = [], list(arguments)
        yes = [] if verb == ["ls"] else ["--yes"]
        said = run("bake", *verb, *rest, *where, *yes, "-o", "json")
        told = json.loads(said.out) if said.out else {}
        return {**told, "code": said.code, "err": said.err}

    return run_it


# -- the rule ----------------------------------------------------------------------------------


def test_an_image_in_every_region_and_no_instance_left(account: Account, bake: Bake) -> None:
    told = bake()
    assert told["code"] == 0, told["err"]
    assert [(it["region"], it["state"]) for it in told["images"]] == [
        (HERE, "available"),
        (THERE, "available"),
    ]
    assert {(it["container"], it["digest"], it["base"]) for it in told["images"]} == {
        (TF, DIGEST, f"{HERE}/{UBUNTU}")
    }
    assert account.living() == []
    (image,) = account.images.baked(HERE, "i1")
    assert (image.disk_gib, image.label.recipe.agent_sha256) == (65, "ab" * 32)
    assert [info.key for info in account.home.list("bake/")] == []


def test_the_instance_is_small_tagged_and_ends_itself(account: Account, bake: Bake) -> None:
    bake()
    (bench,) = account.benches()
    tags = dict(bench.tags)
    assert (bench.pool.instance_type, bench.market.value) == (STEADY, "on-demand")
    assert (tags["spotrunner:installation"], tags["spotrunner:container"]) == ("i1", TF)
    assert tags["spotrunner:attempt"].startswith("bake:")
    assert "spotrunner:job" not in tags
    assert bench.request.shutdown_behavior == "terminate"
    assert f"first_step_minutes={LONGEST_S // 60}\n" in bench.request.user_data
    assert bench.request.client_token == f"i1.{tags['spotrunner:attempt']}"


def test_it_says_what_it_costs_before(bake: Bake) -> None:
    said = bake()["err"]
    assert "an on-demand t3.large in us-east-1, terminated when done: $0.0954 at the most" in said
    assert "copies in eu-west-1: $1.40 at the most" in said
    assert "snapshots: $6.98 a month at the most" in said
    assert "none of it counts against a budget" in said


def test_it_says_which_jobs_can_start_from_it(bake: Bake) -> None:
    said = bake()["err"]
    assert "only jobs with a disk_gib of at least 65 can start from it" in said
    assert "name another image" not in said


def test_a_price_that_is_not_known_is_not_nothing(account: Account, run: Run) -> None:
    account.unprice(STEADY)
    said = run("bake", "--config", account.config, "--dry-run")
    assert (
        "an on-demand t3.large in us-east-1, terminated when done: what it costs is unknown"
        " (AWS lists no price of it there), for an hour at the most"
    ) in said.out
    told = json.loads(run("bake", "--config", account.config, "--dry-run", "-o", "json").out)
    assert told["plan"]["instance_usd"] is None


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(account: Account, run: Run) -> None:
    said = run("bake", "--config", account.config, "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert "an on-demand t3.large in us-east-1, terminated when done: $0.0954" in said.out
    assert "snapshots: $6.98 a month at the most" in said.out
    assert account.benches() == []
    told = json.loads(run("bake", "--config", account.config, "--dry-run", "-o", "json").out)
    assert (told["plan"]["done"], told["plan"]["copies_to"]) == (False, [THERE])


def test_a_dry_run_where_there_is_nothing_to_do(account: Account, bake: Bake, run: Run) -> None:
    bake()
    said = run("bake", "--config", account.config, "--dry-run")
    assert (said.code, "there is one already" in said.out) == (0, True)


@pytest.mark.parametrize("named", ["g4dn", "g4dn.xlarge"])
def test_an_image_that_would_not_be_taken_is_told_before(
    account: Account, run: Run, named: str
) -> None:
    with account.config.open("a") as config:
        config.write(f"amis: {{{THERE}: {{{named}: {UBUNTU}}}}}\n")
    said = run("bake", "--config", account.folder / "daemon.yaml", "--yes", "-o", "json")
    assert f"amis of the settings name another image in {THERE}, and that one is taken" in said.err


def test_again_there_is_nothing_to_do(account: Account, bake: Bake) -> None:
    first = bake()["images"]
    told = bake()
    assert told["images"] == first
    assert "there is one already" in told["err"]
    assert len(account.benches()) == 1


def test_another_region_is_a_copy(account: Account, bake: Bake) -> None:
    bake("--regions", HERE)
    assert account.images.baked(THERE, "i1") == ()
    told = bake()
    assert [it["region"] for it in told["images"]] == [HERE, THERE]
    assert len(account.benches()) == 1


def test_a_base_and_a_kind_of_ones_own(account: Account, bake: Bake) -> None:
    amazon = "ami-a0000000000000001"
    told = bake("--for", "p3", "--ami", f"{THERE}={amazon}", "--image", "busybox:1.36")
    assert [it["region"] for it in told["images"]] == [THERE, HERE]
    assert {(it["base"], it["driver"], it["container"]) for it in told["images"]} == {
        (f"{THERE}/{amazon}", "proprietary", "busybox:1.36")
    }
    assert account.living() == []


# -- when things break -------------------------------------------------------------------------


def test_what_the_instance_says_is_the_reason(account: Account, bake: Bake) -> None:
    account.says = {"failed": "docker pull: manifest unknown"}
    told = bake()
    assert (told["code"], told["err"].splitlines()[-1]) == (
        1,
        "spotrunner: docker pull: manifest unknown",
    )
    assert account.living() == []
    assert account.images.baked(HERE, "i1") == ()


def test_an_instance_that_dies_is_told_with_its_last_words(account: Account, bake: Bake) -> None:
    account.says = None
    account.meanwhile = [
        lambda: None,
        lambda: account.endpoint.world.ask(World.fail, account.living()[0]),
    ]
    told = bake()
    assert told["code"] == 1
    assert "ended before it was ready" in told["err"]


def test_one_that_never_says_anything_is_ended_in_time(account: Account, bake: Bake) -> None:
    account.says = None
    account.patience = Patience(poll_s=240)
    told = bake()
    assert told["code"] == 1
    assert "is not ready in time" in told["err"]
    assert account.living() == []
    assert account.clock.now() - START <= dt.timedelta(seconds=LONGEST_S + 300)


def test_ctrl_c_ends_the_instance(account: Account, bake: Bake) -> None:
    account.says = None

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    account.meanwhile = [lambda: None, lambda: None, ctrl_c]
    told = bake()
    assert told["code"] == 1
    assert "the same command goes on with what is there" in told["err"]
    assert account.living() == []


def test_ctrl_c_during_the_launch_ends_what_it_launched(account: Account, bake: Bake) -> None:
    account.script(action="RunInstances", lose=Lose.AFTER)

    def ctrl_c() -> None:
        account.clock.advance(60)
        raise KeyboardInterrupt

    account.meanwhile = [ctrl_c]
    told = bake()
    assert told["code"] == 1
    (bench,) = account.benches()
    assert f"{bench.id} is terminated" in told["err"]
    assert account.living() == []


def test_ctrl_c_during_a_launch_that_ec2_does_not_list_says_when_it_ends(
    account: Account, bake: Bake
) -> None:
    account.script(action="RunInstances", lose=Lose.BEFORE)

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    account.meanwhile = [ctrl_c]
    told = bake()
    assert told["code"] == 1
    assert "what was launched ends itself within 60m" in told["err"]


def test_what_was_killed_goes_on_with_the_same_instance(
    account: Account, bake: Bake, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.says = None

    def kill() -> None:
        account.script(action="TerminateInstances", error=DENIED)
        raise KeyboardInterrupt

    account.meanwhile = [lambda: None, lambda: None, kill]
    told = bake()
    assert "ends itself by" in told["err"]
    (bench,) = account.living()
    account.endpoint.world.ask(lambda world, _: world.faults.clear())
    account.clock.advance(60)
    account.says = {"digest": DIGEST}
    told = bake()
    assert told["code"] == 0, told["err"]
    assert f"going on with {bench}" in told["err"]
    assert len(account.benches()) == 1
    assert account.living() == []


def test_an_image_that_was_begun_is_waited_for(account: Account, bake: Bake) -> None:
    def kill() -> None:
        account.script(action="TerminateInstances", error=DENIED)
        raise KeyboardInterrupt

    waits_for_image = 3
    account.meanwhile = [*[lambda: None] * waits_for_image, kill]
    bake()
    assert len(account.living()) == 1
    account.endpoint.world.ask(lambda world, _: world.faults.clear())
    account.clock.advance(60)
    told = bake()
    assert told["code"] == 0, told["err"]
    assert len(account.benches()) == 1
    assert len(account.images.baked(HERE, "i1")) == 1
    assert account.living() == []


@pytest.mark.parametrize("action", ["RunInstances", "CreateImage", "CopyImage"])
@pytest.mark.parametrize("lose", list(Lose))
def test_a_lost_answer_makes_nothing_twice(
    account: Account, bake: Bake, action: str, lose: Lose
) -> None:
    account.script(action=action, lose=lose, times=1)
    told = bake()
    assert told["code"] == 0, told["err"]
    assert len(account.benches()) == 1
    assert [len(account.images.baked(region, "i1")) for region in (HERE, THERE)] == [1, 1]


def test_a_zone_without_capacity_leaves_the_others(account: Account, bake: Bake) -> None:
    full = ApiError("InsufficientInstanceCapacity", "We currently do not have sufficient", 500)
    account.script(action="RunInstances", zone="us-east-1a", error=full)
    told = bake()
    assert told["code"] == 0, told["err"]
    assert account.benches()[0].pool.zone == "us-east-1b"


def test_without_capacity_anywhere_it_says_so(account: Account, bake: Bake) -> None:
    full = ApiError("InsufficientInstanceCapacity", "We currently do not have sufficient", 500)
    account.script(action="RunInstances", error=full)
    told = bake()
    assert told["code"] == 1
    assert "no zone of us-east-1 gives a t3.large now: try later" in told["err"]


def test_an_image_that_fails_is_told_with_how_to_remove_it(account: Account, bake: Bake) -> None:
    def fail() -> None:
        (image,) = account.endpoint.world.ask(lambda world, now: world.images.listed(now, HERE))
        account.world.images.fail(image.id, "the volume was deleted")

    account.meanwhile = [*[lambda: None] * 3, fail]
    told = bake()
    assert told["code"] == 1
    assert "is failed: the volume was deleted; spotrunner bake rm ami-" in told["err"]
    assert account.living() == []
    account.clock.advance(60)
    assert len(bake("rm", "--old")["removed"]) == 1


def test_a_copy_that_failed_is_removed_and_made_anew(account: Account, bake: Bake) -> None:
    bake("--regions", HERE)

    def fail() -> None:
        (copy,) = account.endpoint.world.ask(lambda world, now: world.images.listed(now, THERE))
        account.world.images.fail(copy.id, "the copy broke off")

    account.meanwhile = [fail]
    told = bake()
    assert (told["code"], "is failed: the copy broke off" in told["err"]) == (1, True)
    account.clock.advance(60)
    told = bake()
    assert (told["code"], "is failed: the copy broke off" in told["err"]) == (1, True)
    bake("rm", "--old")
    told = bake()
    assert told["code"] == 0, told["err"]
    assert [(it["region"], it["state"]) for it in told["images"]] == [
        (HERE, "available"),
        (THERE, "available"),
    ]


@pytest.mark.parametrize("action", ["CreateImage", "CopyImage", "RunInstances"])
def test_what_is_not_allowed_is_named(account: Account, bake: Bake, action: str) -> None:
    account.script(action=action, error=DENIED)
    told = bake()
    assert told["code"] == 1
    assert "allow it in the policy of these credentials" in told["err"]
    assert account.living() == []


# -- what is wrong before anything is made -----------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--regions", "us-est-1"], "--regions: us-est-1 is not an AWS region; nearest: us-east-1"),
        (["--regions", ","], "--regions: name at least one"),
        (["--image", "none"], "--image: expected a container image"),
        (["--image", "tensorflow/tensorflow"], "--image: an image without a tag is another image"),
        (
            ["--for", "g4dm"],
            "--for: g4dm is no GPU instance type or family that is known here; nearest: g4dn",
        ),
        (["--for", "g5g"], "--for: g5g.xlarge cannot be used: its CPU is arm64"),
        (["--ami", "ami-01234567"], "--ami: expected REGION=ami-…"),
        (["--ami", "us-est-1=ami-01234567"], "--ami: us-est-1 is not an AWS region"),
        (["rm"], "name images (spotrunner bake ls shows them), or say --old"),
        (["rm", "ami-01234567", "--old"], "name images (spotrunner bake ls shows them), or say"),
    ],
)
def test_bad_input_asks_nobody(run: Run, tmp_path: Path, arguments: list[str], words: str) -> None:
    config = tmp_path / "daemon.yaml"
    config.write_text(SETTINGS.format(url="http://127.0.0.1:9"))
    said = run("bake", *arguments, "--config", config, "--yes")
    assert said.code == 2
    assert f"spotrunner: {words}" in said.err


def test_an_image_that_is_none_of_ours_is_not_removed(bake: Bake) -> None:
    told = bake("rm", "ami-01234567")
    assert told["code"] == 2
    assert "no image ami-01234567 of ours there: see spotrunner bake ls" in told["err"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--for", "p3"], "p3.2xlarge needs an image of your own"),
        (["--ami", "us-east-1=ami-01234567"], "there is no image ami-01234567 in us-east-1"),
        (["--image", "a" * 250 + ":1.2.3.4.5"], "longer than the 256 characters"),
        (["--regions", "us-west-2"], "us-west-2"),
    ],
)
def test_what_cannot_be_made(
    account: Account, bake: Bake, arguments: list[str], words: str
) -> None:
    told = bake(*arguments)
    assert told["code"] == 1
    assert words in told["err"]
    assert account.benches() == []


def test_settings_are_needed(run: Run, tmp_path: Path) -> None:
    said = run("bake", "--yes")
    assert (said.code, "--config FILE" in said.err) == (2, True)
    said = run("bake", "ls", "--config", tmp_path / "none.yaml")
    assert (said.code, "No such file" in said.err) == (2, True)


def test_nobody_to_ask(account: Account, run: Run) -> None:
    for verb in ([], ["rm", "--old"]):
        said = run("bake", *verb, "--config", account.config)
        assert (said.code, "add --yes" in said.err) == (2, True)
        assert ("at the most, in an hour" in said.err) == (not verb), "what it would have made"
    assert account.benches() == []


def test_a_bucket_that_no_daemon_knows(account: Account, bake: Bake) -> None:
    account.home.delete(["installation.json"])
    told = bake()
    assert (told["code"], "start it once" in told["err"]) == (1, True)


# -- looking and removing ----------------------------------------------------------------------


def test_ls_tells_what_each_costs(account: Account, bake: Bake, run: Run) -> None:
    bake()
    account.clock.advance(60)
    listed = bake("ls")["images"]
    assert [it["region"] for it in listed] == [THERE, HERE]
    assert {it["disk_gib"] for it in listed} == {65}
    assert all(0 < it["used_bytes"] <= 65 * 2**30 for it in listed)
    assert all(1 < it["usd_month"] < 4 for it in listed)
    said = run("bake", "ls", "--config", account.config)
    assert all(word in said.out for word in (TF, UBUNTU, "available", "39 GiB", "x86_64 open"))
    assert len(bake("ls", "--regions", THERE)["images"]) == 1


def test_ls_of_nothing(account: Account, run: Run) -> None:
    said = run("bake", "ls", "--config", account.config)
    assert (said.code, said.out) == (0, "")
    assert "nothing is baked in us-east-1, eu-west-1: spotrunner bake" in said.err


def test_rm_takes_the_snapshots_along(account: Account, bake: Bake) -> None:
    made = bake()["images"]
    account.clock.advance(60)
    removed = bake("rm", made[0]["image"])["removed"]
    assert [it["image"] for it in removed] == [made[0]["image"]]
    assert [it["image"] for it in bake("ls")["images"]] == [made[1]["image"]]
    assert account.aws.ec2(HERE).describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_rm_old_leaves_the_newest(account: Account, bake: Bake) -> None:
    bake()
    base = f"{HERE}=ami-a0000000000000000"
    newer = {it["image"] for it in bake("--ami", base)["images"]}
    account.clock.advance(60)
    assert len(bake("rm", "--old")["removed"]) == 2
    assert {it["image"] for it in bake("ls")["images"]} == newer
    told = bake("rm", "--old")
    assert (told["code"], "there is no old one" in told["err"]) == (0, True)


def test_who_says_no_removes_nothing(
    account: Account, bake: Bake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image, _) = bake()["images"]
    account.clock.advance(60)
    monkeypatch.setattr("sys.stdin", NoTyper())
    said = run("bake", "rm", image["image"], "--config", account.config)
    assert said.code == 1
    assert "nothing was removed" in said.err
    assert len(bake("ls")["images"]) == 2


class NoTyper:
    """Somebody at a terminal, who says no."""

    def isatty(self) -> bool:
        return True

    def readline(self, _size: int = -1) -> str:
        return "n\n"
