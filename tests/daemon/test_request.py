"""The one request of an attempt, and where there can be none."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from spotrunner.adapters.memory import MemoryObjects
from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.core.baked import Need
from spotrunner.core.catalogue import Architecture
from spotrunner.core.model import Attempt, LaunchRequest, Limits, Market, Refused
from spotrunner.core.states import AttemptState
from spotrunner.daemon.request import AgentArchive, RequestMaker
from spotrunner.ports import Image, LaunchRefused, Misconfigured, Site
from spotrunner.sim.cloud import SimSites, VirtualClock
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.world import World
from tests.build import a_job, a_spec, an_attempt, an_offer

START = dt.datetime(2026, 11, 1, 12, 0, tzinfo=dt.timezone.utc)


AMAZON_LINUX = Image(id="ami-a0000000000000000", root_device="/dev/xvda")
BAKED = Image(id="ami-b0000000000000000", root_device="/dev/sda1", baked=True)
BAKED_NEED = Need(container="busybox:1.36", disk_gib=30)


class Sites(SimSites):
    """Without a subnet in us-east-1b, and with an image of Amazon Linux."""

    def image(
        self,
        region: str,
        instance_type: str,
        named: str | None = None,
        need: Need | None = None,
    ) -> Image:
        if named == AMAZON_LINUX.id:
            return AMAZON_LINUX
        if need == BAKED_NEED:
            return BAKED
        return super().image(region, instance_type, named, need)

    def site(self, region: str) -> Site:
        site = super().site(region)
        subnets = {zone: id_ for zone, id_ in site.subnets.items() if zone != "us-east-1b"}
        return dataclasses.replace(site, subnets=subnets)


def request(attempt: Attempt, objects: MemoryObjects | None = None, **spec: Any) -> LaunchRequest:
    store = MemoryStore()
    store.add_job(a_job(spec=a_spec(**spec)), [])
    maker = RequestMaker(
        store=store,
        sites=Sites(World(plain_setup(START), 1)),
        objects=objects or MemoryObjects(VirtualClock(START)),
        installation="i1",
        bucket="home",
        home_region="us-east-1",
        archives={Architecture.X86_64: AgentArchive(key="agent/archive.tar.gz", sha256="0" * 64)},
        endpoint_url=None,
        image_mirrors={"us-east-1": "mirror.local/hub"},
    )
    return maker(attempt)


def pending(zone: str, kind: str = "g4dn.xlarge") -> Attempt:
    return an_attempt(state=AttemptState.PENDING, offer=an_offer(zone, kind))


def test_a_request_is_complete() -> None:
    made = request(pending("us-east-1a"), disk_gib=30)
    assert made.client_token == "i1.digits-7f3a.1"
    assert (made.subnet_id, made.disk_gib) == ("subnet-" + "0" * 17, 30)
    assert (made.image_id, made.root_device) == ("ami-00000000000000000", "/dev/sda1")
    assert made.user_data.startswith("#!/")
    assert dict(made.tags) == {
        "Name": "spotrunner digits-7f3a.1",
        "spotrunner:installation": "i1",
        "spotrunner:job": "digits-7f3a",
        "spotrunner:attempt": "digits-7f3a.1",
        "spotrunner:home": "home/us-east-1",
    }


def test_the_archives_url_outlives_a_launch_that_is_sent_again_and_the_slowest_boot() -> None:
    asked: list[tuple[str, int]] = []

    class Asked(MemoryObjects):
        def presigned(self, key: str, lifetime_s: int) -> str:
            asked.append((key, lifetime_s))
            return super().presigned(key, lifetime_s)

    request(pending("us-east-1a"), objects=Asked(VirtualClock(START)))
    ((key, lifetime_s),) = asked
    assert key == "agent/archive.tar.gz"
    assert lifetime_s >= Limits().intent_s + Limits().first_report_s


def test_an_image_that_the_job_names_brings_the_name_of_its_root_disk() -> None:
    """Amazon Linux has it at another place than Ubuntu."""
    amis = (("us-east-1", AMAZON_LINUX.id),)
    made = request(pending("us-east-1d", "p3.2xlarge"), amis=amis)
    assert (made.image_id, made.root_device) == (AMAZON_LINUX.id, "/dev/xvda")


def test_a_baked_image_is_taken_for_the_container_and_the_disk_of_the_job() -> None:
    made = request(pending("us-east-1a"), image="busybox:1.36", disk_gib=30)
    assert (made.image_id, made.baked) == (BAKED.id, True)
    other = request(pending("us-east-1a"), image="busybox:1.36", disk_gib=40)
    assert (other.image_id, other.baked) == ("ami-00000000000000000", False)


def test_the_agent_is_told_of_its_regions_mirror() -> None:
    assert '"image_mirror": "mirror.local/hub"' in request(pending("us-east-1a")).user_data
    assert '"image_mirror": null' in request(pending("eu-west-1a")).user_data


def test_a_zone_without_a_subnet_closes_no_other_zone() -> None:
    """As a fault of the set-up it would keep the type out of the whole region."""
    with pytest.raises(LaunchRefused) as caught:
        request(pending("us-east-1b"))
    assert caught.value.meaning is Refused.OFFERING
    assert str(caught.value) == "there is no subnet in us-east-1b: add one"


def test_a_type_without_an_image_is_the_regions_matter() -> None:
    with pytest.raises(Misconfigured):
        request(pending("us-east-1d", "p3.2xlarge"))


def test_a_bid_goes_with_spot_and_never_with_on_demand() -> None:
    spot, on_demand = pending("us-east-1a"), pending("us-east-1a")
    dear = dataclasses.replace(on_demand.offer, market=Market.ON_DEMAND)
    bid: dict[str, Any] = {"max_price_usd_micros": 300_000}
    assert request(spot, **bid).max_price_usd_micros == 300_000
    assert request(dataclasses.replace(on_demand, offer=dear), **bid).max_price_usd_micros is None
    assert request(spot).max_price_usd_micros is None
