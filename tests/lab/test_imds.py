"""The metadata service, request by request."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator

import pytest
import requests

from spotrunner.core.model import Market
from spotrunner.lab.imds import Imds, error_page
from spotrunner.lab.keys import RoleKeys
from spotrunner.lab.metadata import items
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.values import LIGHT, RunRequest
from spotrunner.sim.world import World
from tests.lab.clients import START, HandClock

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


class Machine:
    """A running spot instance in a world, with its metadata service."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.world = World(plain_setup(START, manners=LIGHT), seed=3)
        self.keys = RoleKeys()
        request = RunRequest(
            region="us-east-1",
            instance_type="g4dn.xlarge",
            image_id=f"ami-{0:017x}",
            market=Market.SPOT,
            user_data="#!/bin/bash\ntrue\n",
            tags=(("spotrunner:attempt", "digits-7f3a.1"), ("a/b", "c")),
            instance_profile="spotrunner-agent",
            http_tokens="required",
            instance_metadata_tags=True,
        )
        (record,) = self.world.run_instances(START, request)
        self.id = record.id
        self.clock.pass_s(10)
        self.asked: list[tuple[str, object]] = []
        self.imds = Imds(read=self._items, now=self.clock.now, control=self._control)
        self.imds.start()

    def _items(self) -> dict[str, str] | None:
        view = self.world.imds(self.clock.now(), self.id)
        key = self.keys.of(self.id, self.clock.now())
        return None if view is None else items(view, key, "123456789012")

    def _control(self, path: str, body: object) -> dict[str, object]:
        self.asked.append((path, body))
        return {"at": "then"}

    def put(self, path: str = "/latest/api/token", **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.put(self.imds.url + path, headers=named, timeout=5)

    def token(self, ttl_s: int = 21_600) -> str:
        return self.put(**{TTL: str(ttl_s)}).text

    def get(self, path: str, token: str | None = None) -> requests.Response:
        headers = {TOKEN: self.token() if token is None else token}
        return requests.get(f"{self.imds.url}/latest/{path}", headers=headers, timeout=5)


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.imds.close()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/latest/api/token", {TTL: "21600"}, 200),
        ("/latest/api/token", {TTL: "1"}, 200),
        ("/latest/api/token", {}, 400),
        ("/latest/api/token", {TTL: "0"}, 400),
        ("/latest/api/token", {TTL: "21601"}, 400),
        ("/latest/api/token", {TTL: "soon"}, 400),
        ("/2021-03-23/api/token", {TTL: "60"}, 403),
        ("/latest/api/token", {TTL: "60", "X-Forwarded-For": "10.0.0.1"}, 403),
        ("/latest/meta-data", {TTL: "60"}, 404),
    ],
)
def test_tokens(machine: Machine, path: str, headers: dict[str, str], status: int) -> None:
    answer = machine.put(path, **headers)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers.get(TTL) == (headers[TTL] if status == 200 else None)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("meta-data/instance-type", "g4dn.xlarge"),
        ("meta-data/instance-life-cycle", "spot"),
        ("meta-data/ami-launch-index", "0"),
        ("meta-data/placement/region", "us-east-1"),
        ("meta-data/placement/availability-zone", "us-east-1a"),
        ("meta-data/placement/availability-zone-id", "use1-az4"),
        ("meta-data/tags/instance/spotrunner:attempt", "digits-7f3a.1"),
        ("meta-data/tags/instance", "a/b\nspotrunner:attempt"),
        ("meta-data/placement/", "availability-zone\navailability-zone-id\nregion"),
        ("meta-data/iam/security-credentials/", "spotrunner-agent"),
        ("user-data", "#!/bin/bash\ntrue\n"),
        ("", "dynamic/\nmeta-data/\nuser-data"),
    ],
)
def test_items(machine: Machine, path: str, text: str) -> None:
    answer = machine.get(path)
    assert (answer.status_code, answer.text) == (200, text)
    assert answer.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize(
    "path",
    [
        "meta-data/spot",
        "meta-data/spot/instance-action",
        "meta-data/spot/termination-time",
        "meta-data/events/recommendations/rebalance",
        "meta-data/tags/instance/colour",
        "meta-data/nothing",
    ],
)
def test_what_is_not_there_is_ec2s_own_404(machine: Machine, path: str) -> None:
    answer = machine.get(path)
    assert (answer.status_code, answer.text) == (404, error_page(404))
    assert 'encoding="iso-8859-1"' in answer.text


def test_without_a_good_token_there_is_nothing(machine: Machine) -> None:
    token = machine.token(ttl_s=60)
    assert machine.get("meta-data/instance-id", token).text == machine.id
    machine.clock.pass_s(61)
    for bad in (token, "made-up", ""):
        answer = machine.get("meta-data/instance-id", bad)
        assert (answer.status_code, answer.text) == (401, error_page(401))
    bare = requests.get(f"{machine.imds.url}/latest/meta-data/instance-id", timeout=5)
    assert bare.status_code == 401


def test_a_notice_names_one_time_and_keeps_it(machine: Machine) -> None:
    machine.world.recommend_rebalance(machine.clock.now(), machine.id)
    machine.world.interrupt(machine.clock.now(), machine.id)
    announced = machine.clock.now() + dt.timedelta(seconds=120)
    for _ in range(2):
        action = json.loads(machine.get("meta-data/spot/instance-action").text)
        assert action == {"action": "terminate", "time": f"{announced:%Y-%m-%dT%H:%M:%SZ}"}
        machine.clock.pass_s(30)
    assert machine.get("meta-data/spot/termination-time").text == action["time"]
    rebalance = json.loads(machine.get("meta-data/events/recommendations/rebalance").text)
    assert rebalance == {"noticeTime": "2026-11-02T09:00:10Z"}


def test_our_own_termination_takes_the_notice_back(machine: Machine) -> None:
    machine.world.interrupt(machine.clock.now(), machine.id)
    machine.world.terminate(machine.clock.now(), "us-east-1", [machine.id])
    assert machine.get("meta-data/spot/instance-action").status_code == 404


def test_the_identity_document(machine: Machine) -> None:
    document = json.loads(machine.get("dynamic/instance-identity/document").text)
    assert document["instanceId"] == machine.id
    assert document["pendingTime"] == "2026-11-02T09:00:00Z"


def test_role_keys_rotate_before_they_expire(machine: Machine) -> None:
    path = "meta-data/iam/security-credentials/spotrunner-agent"
    first = json.loads(machine.get(path).text)
    assert first["Expiration"] == "2026-11-02T10:00:10Z"
    machine.clock.pass_s(30 * 60)
    assert json.loads(machine.get(path).text) == first
    machine.clock.pass_s(11 * 60)
    second = json.loads(machine.get(path).text)
    assert second["AccessKeyId"] != first["AccessKeyId"]
    assert machine.keys.issued(machine.id) == 2


def test_stand_ins_reach_the_hypervisor_and_nothing_else_does(machine: Machine) -> None:
    answer = requests.post(
        machine.imds.url + "/lab/power", data=json.dumps({"in_minutes": 5}), timeout=5
    )
    assert answer.json() == {"at": "then"}
    assert machine.asked == [("/power", {"in_minutes": 5})]
    assert requests.post(machine.imds.url + "/latest/user-data", timeout=5).status_code == 405


def test_lab_time_is_in_every_answer(machine: Machine) -> None:
    assert machine.get("user-data").headers["Date"] == "Mon, 02 Nov 2026 09:00:10 GMT"


def test_head_has_no_body(machine: Machine) -> None:
    url = f"{machine.imds.url}/latest/meta-data/instance-id"
    answer = requests.head(url, headers={TOKEN: machine.token()}, timeout=5)
    assert (answer.status_code, answer.text) == (200, "")
