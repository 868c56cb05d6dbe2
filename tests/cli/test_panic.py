"""`spotrunner panic` against the emulated AWS, in virtual time, with agents that do as they do."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from spotrunner.adapters import codec
from spotrunner.adapters.aws.cloud import Ec2Cloud
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import AwsSites
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import BRAKE, Brake, ObjectMailbox
from spotrunner.app import panic as over_aws
from spotrunner.app.letters import Letters
from spotrunner.app.panic import Patience
from spotrunner.core.ids import TAG_HOME, generation_of, home_tag, job_of
from spotrunner.core.model import (
    CheckpointRef,
    Head,
    LaunchRequest,
    Market,
    Order,
    Phase,
    Pool,
    Report,
    Verb,
)
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.object_faults import ObjectFault
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.ports import StaleEpoch
from spotrunner.sim.cloud import VirtualClock
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.values import LIGHT, ApiError
from spotrunner.sim.world import World
from tests.cli.conftest import Run, Said
from tests.contracts.clouds import START, a_setup, a_template
from tests.contracts.conftest import set_keys

HOME = "home-bucket"
EPOCH = 4  # of the daemon that has written the orders
# Whatever was scripted here happens until the end of the test.
ALWAYS = 10_000
DENIED = ApiError("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)


@dataclass(kw_only=True)
class Account:
    """An account with instances. Time passes where panic waits; agents act then."""

    endpoint: LabEndpoint
    world: World
    clock: VirtualClock
    aws: Aws
    template: LaunchRequest
    agents: dict[str, str] = field(default_factory=dict)  # attempt -> instance
    meanwhile: list[Callable[[], object]] = field(default_factory=list)
    waited_s: float = 0.0

    @property
    def home(self) -> S3Objects:
        return S3Objects(self.aws.s3("us-east-1"), HOME)

    def runs(
        self,
        attempt: str,
        *,
        region: str = "us-east-1",
        installation: str = "i1",
        home: str | None = home_tag(HOME, "us-east-1"),
        market: Market = Market.SPOT,
        obeys: bool = True,
    ) -> str:
        """An instance of this attempt, with an order of the daemon in its box."""
        zone = f"{region}a"
        site = AwsSites(self.aws).site(region)
        tags = {**dict(self.template.tags), "spotrunner:installation": installation}
        tags |= {"spotrunner:job": job_of(attempt), "spotrunner:attempt": attempt}
        tags |= {TAG_HOME: home} if home else {}
        request = dataclasses.replace(
            self.template,
            client_token=f"{installation}.{attempt}",
            pool=Pool(region=region, zone=zone, instance_type="g4dn.xlarge"),
            market=market,
            image_id=AwsSites(self.aws).image(region, "g4dn.xlarge").id,
            subnet_id=site.subnets[zone],
            security_group_ids=site.security_group_ids,
            tags=tuple(tags.items()),
        )
        launched = Ec2Cloud(self.aws).launch(request).instance_id
        ObjectMailbox(self.home).post_order(self.an_order(attempt))
        if obeys:
            self.agents[attempt] = launched
        self.clock.advance(60)
        return launched

    def an_order(self, attempt: str, **changes: Any) -> Order:
        order = Order(
            box=attempt,
            epoch=EPOCH,
            n=7,
            attempt=attempt,
            generation=generation_of(attempt) or 0,
            verb=Verb.RUN,
            paid_until=self.clock.now() + dt.timedelta(minutes=30),
        )
        return dataclasses.replace(order, **changes)

    def order(self, attempt: str) -> Order:
        order = ObjectMailbox(self.home).order(attempt, None)
        assert order is not None
        return order

    def script(self, **fault: Any) -> None:
        self.world.script(Fault(times=ALWAYS, **fault))

    def loses(self, method: str, path: str) -> None:
        fault = ObjectFault(method=method, path=path, lose=Lose.BEFORE, times=ALWAYS)
        self.endpoint.object_faults.script(fault)

    def living(self) -> set[str]:
        return {record.id for record in self.endpoint.world.ask(World.truth) if _is_alive(record)}

    def brake(self) -> Brake | None:
        keys = [info.key for info in self.home.list(BRAKE)]
        return codec.from_json(Brake, self.home.get(BRAKE).body) if keys else None

    # -- time ----------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        if self.meanwhile:
            self.meanwhile.pop(0)()
        self.waited_s += seconds
        self.clock.advance(seconds)
        for attempt, instance in list(self.agents.items()):
            if self.order(attempt).verb is Verb.STOP:
                self.save_and_end(attempt, instance)

    def save_and_end(self, attempt: str, instance: str) -> None:
        del self.agents[attempt]
        self.commits(attempt, 1200, final=True)
        self.reports(attempt, Phase.STOPPED)
        self.endpoint.world.ask(World.shutdown_from_inside, instance)

    def commits(self, attempt: str, step: int, *, final: bool) -> None:
        ref = CheckpointRef(folder=f"jobs/x/checkpoints/{step}-n", step=step, manifest_sha256="0")
        generation = generation_of(attempt) or 0
        head = Head(
            seq=step,
            generation=generation,
            attempt=attempt,
            nonce="n",
            manifest=ref,
            final=final,
        )
        heads = ObjectHeads(self.home)
        heads.swap(job_of(attempt), head, heads.read(job_of(attempt)).etag)

    def reports(self, attempt: str, phase: Phase) -> None:
        report = Report(attempt=attempt, box=attempt, at=self.clock.now(), phase=phase)
        ObjectMailbox(self.home).post_report(report)


def _is_alive(record: Any) -> bool:
    return record.stage.value in ("pending", "running", "stopping", "stopped")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    set_keys(monkeypatch)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    clock = VirtualClock(START)
    world = World(a_setup(dataclasses.replace(LIGHT, throttled=False)), seed=7)
    wire = Awkwardness(halves=True, throttled_share=0.0)
    with LabEndpoint(world, clock, awkwardness=wire) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        aws = Aws(endpoint_url=endpoint.url)
        aws.s3("us-east-1").create_bucket(Bucket=HOME)
        made = Account(
            endpoint=endpoint,
            world=world,
            clock=clock,
            aws=aws,
            template=a_template(AwsSites(aws, instance_profile="spotrunner-agent")),
        )
        in_virtual_time = partial(
            over_aws.panic,
            patience=Patience(pauses_s=()),
            monotonic=lambda: clock.now().timestamp(),
            pause=made.pause,
        )
        monkeypatch.setattr(over_aws, "panic", in_virtual_time)
        yield made
        aws.close()


@pytest.fixture
def panic(account: Account, run: Run) -> Callable[..., dict[str, Any]]:
    """Run it with --yes: what it prints with -o json, and its exit code as `code`."""

    def run_it(*arguments: str) -> dict[str, Any]:
        said = run("panic", "--yes", "-o", "json", *arguments)
        return {**json.loads(said.out), "code": said.code, "err": said.err}

    return run_it


Panic = Callable[..., dict[str, Any]]


def hows(told: dict[str, Any]) -> dict[str, str]:
    return {each["attempt"]: each["how"] for each in told["instances"]}


# -- the rule ----------------------------------------------------------------------------------


def test_everything_saves_and_ends_itself(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1")
    account.runs("digits-7f3b.2", region="eu-west-1", market=Market.ON_DEMAND)
    told = panic()
    assert told["code"] == 0
    assert told["done"] is True
    assert hows(told) == dict.fromkeys(("digits-7f3a.1", "digits-7f3b.2"), "saved and ended itself")
    assert [each["checkpoint_step"] for each in told["instances"]] == [1200, 1200]
    assert told["regions"] == ["eu-west-1", "us-east-1"]
    assert told["spot_requests"] == [], "those that have become an instance end with it"
    assert account.living() == set()
    assert "nothing will be launched until: spotrunner hold --off" in told["err"]


def test_the_order_to_stop_fences_the_daemon_that_wrote_the_last(
    account: Account, panic: Panic
) -> None:
    account.runs("digits-7f3a.1")
    before = account.order("digits-7f3a.1")
    panic()
    order = account.order("digits-7f3a.1")
    assert order == dataclasses.replace(
        before, epoch=EPOCH + 1, n=before.n + 1, verb=Verb.STOP, why="spotrunner panic"
    )
    with pytest.raises(StaleEpoch):
        ObjectMailbox(account.home).post_order(account.an_order("digits-7f3a.1", n=99))


def test_the_brake_is_set_before_anything_ends(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1")
    seen: list[tuple[Brake | None, int]] = []
    account.meanwhile = [lambda: seen.append((account.brake(), len(account.living())))]
    panic()
    ((brake, living),) = seen
    assert brake is not None
    assert brake.why == "spotrunner panic"
    assert abs((brake.at - account.clock.now()).total_seconds()) < 600
    assert living == 1
    daemon = ObjectMailbox(account.home)
    assert daemon.boxes() == {"digits-7f3a.1"}
    assert (daemon.brake() or "").startswith("spotrunner panic, by ")


def test_what_saves_too_long_is_terminated(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1", obeys=False)
    account.commits("digits-7f3a.1", 600, final=False)
    account.reports("digits-7f3a.1", Phase.TRAIN)
    told = panic()
    assert hows(told) == {"digits-7f3a.1": "terminated"}
    assert told["instances"][0]["checkpoint_step"] == 600
    assert told["code"] == 0
    assert 300 <= account.waited_s < 320
    assert "saving: 1 of 1 (digits-7f3a.1 was told)\n" in told["err"]
    assert "saving: 1 of 1 (digits-7f3a.1 train)\n" in told["err"]


def test_what_has_said_its_last_word_is_helped_down(account: Account, panic: Panic) -> None:
    """As one that waits for EC2 to take it in its free hour."""
    account.runs("digits-7f3a.1", obeys=False)
    account.meanwhile = [lambda: account.reports("digits-7f3a.1", Phase.IDLE)]
    told = panic()
    assert hows(told) == {"digits-7f3a.1": "saved, then terminated"}
    assert account.waited_s < 80


def test_what_its_predecessor_saved_is_not_its_own(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.2", obeys=False)
    account.commits("digits-7f3a.1", 600, final=True)
    told = panic("--now")
    assert hows(told) == {"digits-7f3a.2": "terminated"}
    assert told["instances"][0]["checkpoint_step"] == 600


def test_what_ec2_takes_meanwhile_has_not_saved(account: Account, panic: Panic) -> None:
    instance = account.runs("digits-7f3a.1", obeys=False)
    account.meanwhile = [
        lambda: account.endpoint.world.ask(World.interrupt, instance, notice=False)
    ]
    assert hows(panic()) == {"digits-7f3a.1": "ended itself"}


def test_an_order_that_a_restarted_daemon_replaced_is_given_again(
    account: Account, panic: Panic
) -> None:
    account.runs("digits-7f3a.1")

    def daemon_restarts() -> None:
        mailbox = ObjectMailbox(account.home)
        order = account.an_order("digits-7f3a.1", epoch=mailbox.highest_epoch() + 1, n=20)
        mailbox.post_order(order)

    account.meanwhile = [daemon_restarts]
    assert hows(panic()) == {"digits-7f3a.1": "saved and ended itself"}
    assert account.order("digits-7f3a.1").epoch == EPOCH + 3


def test_a_box_without_an_order_gets_one_above_all_others(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1")
    account.home.delete(["mail/orders/digits-7f3a.1.json"])
    ObjectMailbox(account.home).post_order(account.an_order("other-11aa.3", epoch=9))
    assert hows(panic()) == {"digits-7f3a.1": "saved and ended itself"}
    order = account.order("digits-7f3a.1")
    assert (order.epoch, order.verb, order.generation) == (10, Verb.STOP, 1)


def test_what_a_round_launches_meanwhile_is_ended_too(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1")
    account.meanwhile = [
        lambda: None,
        lambda: account.runs("digits-7f3a.2", obeys=False, region="eu-west-1"),
    ]
    told = panic("--now")
    assert hows(told) == {"digits-7f3a.1": "terminated", "digits-7f3a.2": "terminated"}
    assert told["instances"][1]["note"] == "it was launched meanwhile"
    assert account.living() == set()


def test_a_home_that_only_a_late_launch_names_gets_its_brake_too(
    account: Account, panic: Panic
) -> None:
    account.runs("digits-7f3b.1", home=None, obeys=False)
    account.meanwhile = [lambda: None, lambda: account.runs("digits-7f3a.2", obeys=False)]
    told = panic("--now")
    assert told["code"] == 0
    assert account.brake() is not None
    assert account.living() == set()


def test_what_names_no_home_leaves_its_daemon_without_a_brake(
    account: Account, panic: Panic
) -> None:
    account.runs("digits-7f3b.1", home=None, obeys=False)
    told = panic("--now")
    assert (told["code"], told["done"]) == (1, False)
    assert told["troubles"] == ["no brake was set: nothing that was seen names a home bucket"]
    assert account.living() == set()


def test_other_regions_are_looked_at_again_however_long_the_saving_takes(
    account: Account, panic: Panic
) -> None:
    account.runs("digits-7f3a.1", obeys=False)
    account.meanwhile = [lambda: account.runs("digits-7f3b.1", obeys=False, region="eu-west-1")]
    assert hows(panic()) == dict.fromkeys(("digits-7f3a.1", "digits-7f3b.1"), "terminated")
    assert account.living() == set()


# -- --now -------------------------------------------------------------------------------------


def test_now_orders_nothing_and_waits_for_nobody(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1")
    account.runs("digits-7f3b.2", region="eu-west-1")
    gone: list[set[str]] = []
    account.meanwhile = [lambda: gone.append(account.living())]
    told = panic("--now")
    assert gone == [set()], "before the first pause"
    assert set(hows(told).values()) == {"terminated"}
    assert account.order("digits-7f3a.1").verb is Verb.RUN
    assert account.brake() is not None
    assert told["code"] == 0


def test_pages_are_read_to_their_end(account: Account, panic: Panic) -> None:
    for number in range(1, 8):
        account.runs(f"digits-7f3a.{number}")
    assert len(hows(panic("--now"))) == 7
    assert account.living() == set()


def test_one_that_ec2_keeps_does_not_keep_the_others(account: Account, panic: Panic) -> None:
    """Termination protection: EC2 refuses the whole call."""
    account.runs("digits-7f3a.1")
    kept = account.runs("digits-7f3a.2")
    protected = ApiError("OperationNotPermitted", f"The instance '{kept}' may not be", 400)
    # The call for both, and one of those for each.
    account.world.script(Fault(action="TerminateInstances", error=protected, times=2))
    told = panic("--now")
    assert sorted(hows(told).values()) == ["still alive", "terminated"]
    assert told["code"] == 1
    assert f"'{kept}' may not be" in told["err"]
    assert "go on with: spotrunner panic --yes --now\n" in told["err"]
    assert len(account.living()) == 1


def test_open_spot_requests_are_cancelled(account: Account, panic: Panic) -> None:
    """The world gives an instance at once; EC2 may take its time."""
    instance = account.runs("digits-7f3a.1")
    machine = account.world._lives.find(instance)
    machine.status(account.clock.now(), "open", "pending-fulfillment", "It is pending.")
    told = panic()
    assert told["spot_requests"] == [
        {"region": "us-east-1", "spot_request": machine.spot_request_id}
    ]
    assert told["code"] == 0
    assert [status.state for status in machine.statuses][-2:] == ["cancelled", "closed"]


# -- where nothing can be saved ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("home", "why"),
    [
        (None, "no tag says where its letters lie"),
        ("nonsense", "no tag says where its letters lie"),
        ("no-such-bucket/us-east-1", "NoSuchBucket"),
    ],
)
def test_what_cannot_be_told_is_terminated_after_a_warning(
    account: Account, panic: Panic, home: str | None, why: str
) -> None:
    account.runs("digits-7f3a.1")
    deaf = account.runs("digits-7f3b.1", home=home, obeys=False)
    told = panic()
    assert hows(told) == {
        "digits-7f3a.1": "saved and ended itself",
        "digits-7f3b.1": "terminated",
    }
    assert f"{deaf} (digits-7f3b.1): no checkpoint possible: {why}" in told["err"]
    assert account.living() == set()
    assert account.waited_s < 100, "nobody waits for what cannot save"


def test_nobody_waits_for_what_can_neither_save_nor_be_terminated(
    account: Account, panic: Panic
) -> None:
    account.runs("digits-7f3a.1", home=None, obeys=False)
    account.script(action="TerminateInstances", error=DENIED)
    told = panic()
    assert hows(told) == {"digits-7f3a.1": "still alive"}
    assert "allow it in the policy" in told["instances"][0]["note"]
    assert account.waited_s < 100


def test_a_brake_that_cannot_be_set_is_named(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1")
    account.loses("PUT", f"/{HOME}/{BRAKE}")
    told = panic()
    assert told["code"] == 1
    assert hows(told) == {"digits-7f3a.1": "saved and ended itself"}
    assert told["brakes"][f"{HOME}/us-east-1"]["set"] is False
    assert "a daemon that runs may launch again, so stop it" in told["err"]


def test_without_s3_everything_is_terminated_all_the_same(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1")
    del account.agents["digits-7f3a.1"]
    for method in ("GET", "PUT"):
        account.loses(method, "/*")
    told = panic()
    assert hows(told) == {"digits-7f3a.1": "terminated"}
    assert told["code"] == 1


# -- regions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"error": DENIED}, "allow it in the policy"),
        ({"lose": Lose.BEFORE}, "Connection was closed"),
    ],
)
def test_a_region_that_does_not_answer_holds_up_no_other(
    account: Account, panic: Panic, fault: dict[str, Any], why: str
) -> None:
    account.runs("digits-7f3a.1")
    hidden = account.runs("digits-7f3b.1", region="eu-west-1")
    account.script(action="DescribeInstances", region="eu-west-1", **fault)
    told = panic()
    assert told["code"] == 1
    assert hows(told) == {"digits-7f3a.1": "saved and ended itself"}
    assert why in told["silent"]["eu-west-1"]
    assert "eu-west-1: not known what is there" in told["err"]
    assert account.living() == {hidden}


@pytest.mark.parametrize("action", ["DescribeInstances", "TerminateInstances"])
def test_what_gets_no_answer_is_asked_for_again(
    account: Account, panic: Panic, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Beyond the client's own two tries."""
    patient = partial(over_aws.panic, patience=Patience(pauses_s=(1.0,)))
    monkeypatch.setattr(over_aws, "panic", patient)
    account.runs("digits-7f3a.1", region="eu-west-1")
    account.world.script(Fault(action=action, region="eu-west-1", lose=Lose.BEFORE, times=2))
    told = panic("--now")
    assert (told["code"], hows(told)) == (0, {"digits-7f3a.1": "terminated"})
    assert account.living() == set()


def test_a_region_where_nothing_may_be_terminated(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1")
    kept = account.runs("digits-7f3b.1", region="eu-west-1")
    account.script(action="TerminateInstances", region="eu-west-1", error=DENIED)
    told = panic("--now")
    assert told["code"] == 1
    assert hows(told) == {"digits-7f3a.1": "terminated", "digits-7f3b.1": "still alive"}
    assert f"still alive: 1 instance ({kept})" in told["err"]


def test_where_the_regions_cannot_be_listed_they_have_to_be_named(
    account: Account, run: Run, panic: Panic
) -> None:
    account.runs("digits-7f3a.1")
    account.script(action="DescribeRegions", error=DENIED)
    said = run("panic", "--yes")
    assert said.code == 1
    assert "the account's regions cannot be listed" in said.err
    assert said.err.endswith("name them: --region REGION\n")
    assert panic("--region", "us-east-1")["code"] == 0
    assert account.living() == set()


def test_only_one_region_leaves_the_others_and_sets_no_brake(
    account: Account, panic: Panic
) -> None:
    account.runs("digits-7f3a.1")
    other = account.runs("digits-7f3b.1", region="eu-west-1")
    told = panic("--region", "us-east-1")
    assert hows(told) == {"digits-7f3a.1": "saved and ended itself"}
    assert account.living() == {other}
    assert account.brake() is None
    assert "no brake was set: a daemon that runs may launch there again" in told["err"]


def test_only_one_installation(account: Account, panic: Panic) -> None:
    account.runs("digits-7f3a.1")
    other = account.runs("digits-7f3b.1", installation="i2", home="elsewhere/us-east-1")
    told = panic("--installation", "i1")
    assert hows(told) == {"digits-7f3a.1": "saved and ended itself"}
    assert account.living() == {other}
    assert list(told["brakes"]) == [f"{HOME}/us-east-1"]


# -- people ------------------------------------------------------------------------------------


class Typed(io.StringIO):
    """A terminal on which this was typed."""

    def isatty(self) -> bool:
        return True


def test_it_shows_what_it_is_about_and_asks(
    account: Account, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = account.runs("digits-7f3a.1")
    account.clock.advance(3600)
    monkeypatch.setattr(sys, "stdin", Typed("n\n"))
    said = run("panic")
    headers, row = said.err.splitlines()[:2]
    assert headers.split() == ["INSTANCE", "REGION", "TYPE", "MARKET", "STATE", "AGE", "ATTEMPT"]
    assert row.split()[:5] == [instance, "us-east-1", "g4dn.xlarge", "spot", "running"]
    assert row.split()[5:] == ["1h", "1m", "digits-7f3a.1"]
    assert "Save and end 1 instance, and what turns up meanwhile? [y/N]:" in said.err
    assert said.err.endswith("nothing was ended\n")
    assert (said.code, said.out.strip()) == (1, "")
    assert account.living() == {instance}
    assert account.brake() is None


def test_yes_ends_them_and_prints_what_it_ended(
    account: Account, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = account.runs("digits-7f3a.1")
    monkeypatch.setattr(sys, "stdin", Typed("y\n"))
    said = run("panic")
    assert said.code == 0
    assert said.out.strip().splitlines() == [  # the prompt leaves a space on stdout
        "REGION     INSTANCE             ATTEMPT        HOW                     CHECKPOINT",
        f"us-east-1  {instance}  digits-7f3a.1  saved and ended itself  step 1200",
    ]
    assert said.err.endswith("nothing will be launched until: spotrunner hold --off\n")


def test_without_a_terminal_it_wants_a_yes(account: Account, run: Run) -> None:
    account.runs("digits-7f3a.1")
    said = run("panic")
    assert said == Said(
        code=2,
        out="",
        err="spotrunner: nobody can be asked (stdin is no terminal): add --yes\n",
    )
    assert len(account.living()) == 1


def test_where_nothing_is_found_no_brake_lies_anywhere(account: Account, run: Run) -> None:
    """A daemon may wait for capacity in this very minute."""
    said = run("panic", "--yes")
    assert (said.code, said.out) == (1, "")
    lines = said.err.splitlines()
    assert lines[0] == "no instance of spotrunner's is alive"
    assert "no brake was set: nothing that was seen names a home bucket" in lines
    assert lines[-1].endswith("a daemon that runs may launch again, so stop it")
    assert account.waited_s == 0


def test_nothing_found_where_no_brake_was_wanted(account: Account, run: Run) -> None:
    said = run("panic", "--yes", "--region", "us-east-1")
    assert (said.code, said.out) == (0, "")
    assert said.err.splitlines()[0] == "no instance of spotrunner's is alive"


def test_a_daemon_whose_instances_have_just_ended_is_braked_too(
    account: Account, panic: Panic
) -> None:
    instance = account.runs("digits-7f3a.1")
    account.endpoint.world.ask(World.shutdown_from_inside, instance)
    account.clock.advance(60)
    told = panic()
    assert (told["code"], told["instances"]) == (0, [])
    assert account.brake() is not None


def test_ctrl_c_ends_nothing_more_and_says_how_to_go_on(account: Account, run: Run) -> None:
    instance = account.runs("digits-7f3a.1", obeys=False)

    def press_ctrl_c() -> None:
        raise KeyboardInterrupt

    account.meanwhile = [lambda: None, press_ctrl_c]
    said = run("panic", "--yes", "--installation", "i1")
    assert said.code == 1
    assert account.living() == {instance}
    assert account.order("digits-7f3a.1").verb is Verb.STOP
    assert said.err.splitlines()[-4:] == [
        f"still alive: 1 instance ({instance})",
        "those that were told to stop go on saving, and end themselves",
        "go on with: spotrunner panic --yes --installation i1",
        "nothing will be launched until: spotrunner hold --off",
    ]


# -- letters -----------------------------------------------------------------------------------


def test_a_report_that_cannot_be_read_says_nothing(account: Account) -> None:
    account.home.put("mail/reports/digits-7f3a.1/0.json", b"not JSON")
    assert Letters(objects=account.home).phase("digits-7f3a.1") is None
    assert Letters(objects=account.home).phase("digits-7f3a.2") is None
