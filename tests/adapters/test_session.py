"""Clients that end in time, and keys that are renewed by the server's time."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import (
    ATTEMPTS,
    CONNECT_TIMEOUT_S,
    LAUNCH_TIMEOUT_S,
    Aws,
    InstanceRole,
)
from spotrunner.lab.imds import Imds
from spotrunner.lab.keys import LIFE
from spotrunner.lab.metadata import items
from spotrunner.ports import NotAuthorized, NotFound, Unavailable
from spotrunner.sim.cloud import SimSites, run_request
from tests.adapters.conftest import Lab
from tests.contracts.clouds import a_template
from tests.contracts.conftest import set_keys

REGION = "us-east-1"


# -- clients -----------------------------------------------------------------------------------


def attempts(client: Any) -> int:
    return int(client.meta.config.retries["total_max_attempts"])


def test_every_client_is_bounded_and_says_who_asks() -> None:
    aws = Aws()
    for client in (aws.ec2(REGION), aws.s3(REGION), aws.ssm(REGION), aws.pricing()):
        config: Any = client.meta.config
        assert config.connect_timeout == CONNECT_TIMEOUT_S
        assert config.read_timeout <= LAUNCH_TIMEOUT_S
        assert config.retries["mode"] == "standard"
        assert config.retries["total_max_attempts"] <= 3
        assert "spotrunner" in config.user_agent
    assert attempts(aws.ec2(REGION)) == ATTEMPTS
    assert attempts(aws.launcher(REGION)) == 1
    assert aws.pricing().meta.region_name == "us-east-1"
    aws.close()


def signed_at(client: Any, ask: Callable[[Any], object]) -> str:
    """The time that a request of this client carries, which goes nowhere."""
    sent: list[str] = []

    def caught(request: Any, **_: object) -> AWSResponse:
        sent.append(request.headers["X-Amz-Date"].decode())
        return AWSResponse("http://nowhere", 404, {}, _Nothing())  # type: ignore[arg-type]

    client.meta.events.register("before-send", caught)
    with contextlib.suppress(ClientError):
        ask(client)
    return sent[0]


class _Nothing:
    def stream(self) -> Iterator[bytes]:
        return iter((b"",))


@pytest.mark.parametrize(
    ("service", "ask"),
    [
        ("s3", lambda client: client.get_object(Bucket="b", Key="k")),
        ("ssm", lambda client: client.get_parameter(Name="/p")),
    ],
)
def test_requests_are_signed_by_the_time_of_s3_once_it_was_heard(
    monkeypatch: pytest.MonkeyPatch, service: str, ask: Callable[[Any], object]
) -> None:
    """A machine whose clock is years off is refused once, and understood from then on."""
    set_keys(monkeypatch)
    clock = ServerClock()
    aws = Aws(clock=clock)
    client = getattr(aws, service)(REGION)
    assert not signed_at(client, ask).startswith("2041")
    clock.learn("Sat, 02 Nov 2041 09:00:00 GMT", time.monotonic(), time.monotonic())
    assert signed_at(getattr(aws, service)(REGION), ask)[:11] == "20411102T09"
    aws.close()


def test_a_client_is_made_once() -> None:
    aws = Aws()
    assert aws.s3(REGION) is aws.s3(REGION)
    assert aws.s3(REGION) is not aws.s3("eu-west-1")
    assert aws.ec2(REGION) is not aws.launcher(REGION)
    aws.close()


@pytest.mark.parametrize(
    ("region", "bucket", "begins"),
    [
        ("eu-west-1", "home", "https://home.s3.eu-west-1.amazonaws.com/agent/x.tar.gz?"),
        ("us-east-1", "home", "https://home.s3.amazonaws.com/agent/x.tar.gz?"),
        ("eu-west-1", "my.home", "https://s3.eu-west-1.amazonaws.com/my.home/agent/x.tar.gz?"),
    ],
)
def test_a_url_leads_to_the_buckets_own_region(region: str, bucket: str, begins: str) -> None:
    aws = Aws()
    url = S3Objects(aws.s3(region), bucket).presigned("agent/x.tar.gz", 7200)
    assert url.startswith(begins)
    assert "X-Amz-Expires=7200" in url
    aws.close()


def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        aws = Aws(endpoint_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Unavailable):
            S3Objects(aws.s3(REGION), "home").get("x")
        aws.close()


def test_no_keys_is_not_authorized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws = Aws(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(NotAuthorized, match="credentials"):
        S3Objects(aws.s3(REGION), "home").get("x")
    aws.close()


# -- the server's time -------------------------------------------------------------------------


def off_s(lab: Lab) -> float:
    return abs((lab.server_clock.now() - lab.clock.now()).total_seconds())


def test_every_s3_answer_sets_the_clock(lab: Lab) -> None:
    lab.aws.s3(REGION).create_bucket(Bucket="home")
    objects = S3Objects(lab.aws.s3(REGION), "home")
    assert off_s(lab) < 5
    lab.clock.advance(8 * 3600)
    objects.put("x", b"")
    assert off_s(lab) < 5
    lab.clock.advance(8 * 3600)
    with pytest.raises(NotFound):  # a refusal has a date as well
        objects.get("y")
    assert off_s(lab) < 5


def test_an_answer_of_another_service_does_not(lab: Lab) -> None:
    lab.aws.ec2(REGION).describe_regions()
    assert off_s(lab) > 5


# -- keys of an instance's role ----------------------------------------------------------------


class Machine:
    """An instance in the lab with its metadata service and clients that have no other keys."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        request = run_request(a_template(SimSites(lab.world)))
        (record,) = lab.world.run_instances(lab.clock.now(), request)
        self.id = record.id
        lab.clock.advance(60)
        self.dumb = False
        self.imds = Imds(read=self._items, now=lab.clock.now, control=lambda *_: {})
        self.imds.start()
        self.clock = ServerClock()
        self.aws = Aws(
            clock=self.clock,
            endpoint_url=lab.endpoint.url,
            instance_role=InstanceRole(self.clock, self.imds.url),
        )
        self.objects = S3Objects(self.aws.s3(REGION), "home")

    def _items(self) -> dict[str, str] | None:
        now = self.lab.clock.now()
        view = self.lab.world.imds(now, self.id)
        if view is None or self.dumb:
            return None
        return items(view, self.lab.endpoint.keys.of(self.id, now), "123456789012")

    @property
    def keys_taken(self) -> int:
        return self.lab.endpoint.keys.issued(self.id)

    def close(self) -> None:
        self.aws.close()
        self.imds.close()


@pytest.fixture
def machine(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    lab.aws.s3(REGION).create_bucket(Bucket="home")
    for name in ("AWS_EC2_METADATA_DISABLED", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    machine = Machine(lab)
    yield machine
    machine.close()


def test_keys_are_taken_when_they_are_needed_and_kept(machine: Machine) -> None:
    assert machine.keys_taken == 0
    for _ in range(3):
        machine.objects.put("x", b"")
    assert machine.keys_taken == 1


def test_keys_are_renewed_by_the_servers_time(machine: Machine) -> None:
    """The machine's own clock stands still meanwhile, as far as hours go."""
    for _ in range(20):
        machine.objects.put("x", b"")
        machine.lab.clock.advance(600)
    assert machine.keys_taken == 4  # 200 minutes; keys live for 60 and are renewed before


def test_a_leap_past_the_end_of_the_keys_costs_one_call(machine: Machine) -> None:
    machine.objects.put("x", b"")
    machine.lab.clock.advance(2 * LIFE.total_seconds())
    with pytest.raises(NotAuthorized):
        machine.objects.put("x", b"")
    machine.objects.put("x", b"")
    assert machine.keys_taken == 2


def test_a_silent_metadata_service_is_unavailable_until_it_speaks(machine: Machine) -> None:
    machine.dumb = True
    with pytest.raises(Unavailable):
        machine.objects.put("x", b"")
    machine.dumb = False
    machine.objects.put("x", b"")


def test_keys_outlive_a_silent_metadata_service_to_their_end(machine: Machine) -> None:
    machine.objects.put("x", b"")
    machine.dumb = True
    machine.lab.clock.advance(LIFE.total_seconds() - 720)
    for _ in range(2):  # the first answer tells the time, the second call wants new keys
        machine.objects.put("x", b"")


def test_keys_at_their_end_are_used_on_and_asked_for_later(machine: Machine) -> None:
    """Through an outage AWS honours old keys; so does everybody who has no others."""
    clock = ServerClock()
    keys = InstanceRole(clock, machine.imds.url).load()
    at = format_datetime(machine.lab.clock.now() + 3 * LIFE, usegmt=True)
    clock.learn(at, time.monotonic(), time.monotonic())
    assert keys.get_frozen_credentials().access_key
    assert not keys.refresh_needed()


@pytest.mark.parametrize("wrong", [-10 * LIFE, 10 * LIFE])
def test_a_machine_with_a_wrong_clock_gets_its_keys_and_the_time(
    machine: Machine, wrong: dt.timedelta
) -> None:
    clock = ServerClock(wall=lambda: (machine.lab.clock.now() + wrong).timestamp())
    role = InstanceRole(clock, machine.imds.url)
    aws = Aws(clock=clock, endpoint_url=machine.lab.endpoint.url, instance_role=role)
    for _ in range(20):
        S3Objects(aws.s3(REGION), "home").put("x", b"")
        assert abs(clock.now() - machine.lab.clock.now()) < dt.timedelta(seconds=5)
        machine.lab.clock.advance(600)
    aws.close()
