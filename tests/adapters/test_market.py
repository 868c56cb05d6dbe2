"""Prices, offerings, subnets and images: the AWS adapters against the same market without a wire,
and the answers that only an account gives."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest

from spotrunner.adapters.aws.cloud import Ec2Cloud
from spotrunner.adapters.aws.prices import AwsPrices, hourly
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import IMAGE_NAME, KEPT_S, AwsSites, choose_subnets
from spotrunner.core.ids import TAG_SUBNET
from spotrunner.core.model import LaunchRequest
from spotrunner.lab.endpoint.server import HttpServer
from spotrunner.ports import Image, Misconfigured, Unavailable
from spotrunner.sim.cloud import SimPrices, SimSites
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import G4DN, G5, P3
from tests.adapters.conftest import Lab
from tests.contracts.clouds import POOL, START, a_template
from tests.contracts.s3 import MotoServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TYPES = (G4DN, G5, P3)


# -- prices ------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_prices_are_those_of_the_market(lab: Lab, region: str) -> None:
    ours, truth = AwsPrices(lab.aws), SimPrices(lab.world, lab.clock)
    assert ours.offered(region, TYPES) == truth.offered(region, TYPES)
    assert ours.on_demand(region, [*TYPES, "g6.xlarge"]) == truth.on_demand(region, TYPES)
    quotes = ours.quotes(region, TYPES, START - dt.timedelta(days=3))
    assert quotes == tuple(
        sorted(
            truth.quotes(region, TYPES, START - dt.timedelta(days=3)),
            key=lambda quote: (quote.at, quote.pool),
        )
    )


def test_quotes_begin_with_the_price_in_force_and_come_oldest_first(lab: Lab) -> None:
    for minute in range(1, 6):
        lab.world.set_price(lab.clock.advance(60), POOL, 150_000 + minute * 1000)
    lab.clock.advance(30)
    since = START + dt.timedelta(seconds=150)
    quotes = AwsPrices(lab.aws).quotes(POOL.region, [G4DN], since)
    ours = [quote for quote in quotes if quote.pool == POOL]
    assert [q.price_usd_micros_hour for q in ours] == [152_000, 153_000, 154_000, 155_000]
    assert ours[0].at <= since < ours[1].at
    assert list(quotes) == sorted(quotes, key=lambda quote: quote.at)


def test_of_no_types_there_is_nothing(lab: Lab) -> None:
    prices = AwsPrices(lab.aws)
    assert prices.offered("us-east-1", []) == frozenset()
    assert prices.quotes("us-east-1", [], START) == ()
    assert prices.on_demand("us-east-1", []) == {}


def test_prices_that_do_not_come_are_unavailable(lab: Lab) -> None:
    prices = AwsPrices(lab.aws)
    lab.world.script(Fault(action="*", lose=Lose.BEFORE, times=2))
    with pytest.raises(Unavailable):
        prices.quotes("us-east-1", TYPES, START)


def test_of_a_product_only_hours_in_dollars_count() -> None:
    def dimension(unit: str, **price: str) -> dict[str, Any]:
        return {"unit": unit, "pricePerUnit": price}

    product = {
        "terms": {
            "OnDemand": {
                "a": {"priceDimensions": {"a1": dimension("Hrs", USD="0.5260000000")}},
                "b": {"priceDimensions": {"b1": dimension("Hrs", USD="0.0000000000")}},
                "c": {"priceDimensions": {"c1": dimension("Hrs", CNY="3.7")}},
                "d": {"priceDimensions": {"d1": dimension("Quantity", USD="9")}},
                "e": {"priceDimensions": {"e1": dimension("Hrs", USD="NaN")}},
            },
            "Reserved": {"f": {"priceDimensions": {"f1": dimension("Hrs", USD="0.3")}}},
        }
    }
    assert list(hourly(product)) == [526_000]
    assert list(hourly({"product": {}})) == []


def test_regions_are_scored_ten_at_a_time() -> None:
    """EC2 takes no more in one question, whatever they are asked for."""
    app = Scores()
    server = HttpServer(app)
    server.start()
    aws = Aws(endpoint_url=server.url)
    regions = [f"xx-north-{number:02}" for number in range(23)]
    scores = AwsPrices(aws).scores([*regions, *regions], TYPES)
    aws.close()
    server.close()
    assert [len(asked) for asked in app.asked] == [10, 10, 3]
    assert [name for asked in app.asked for name in asked] == regions
    assert scores == {(region, "az1"): 7 for region in regions}


class Scores:
    """Answers GetSpotPlacementScores: each region has one zone, and it has 7."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
        asked = dict(parse_qsl(body))
        regions = [text for name, text in asked.items() if name.startswith("RegionName.")]
        self.asked.append(regions)
        assert asked["TargetCapacity"] == "1"
        assert asked["SingleAvailabilityZone"] == "true"
        rows = "".join(
            f"<item><region>{region}</region><availabilityZoneId>az1</availabilityZoneId>"
            "<score>7</score></item>"
            for region in regions
        )
        start("200 OK", [("Content-Type", "text/xml")])
        text = f"<spotPlacementScoreSet>{rows}</spotPlacementScoreSet>"
        return [f"<GetSpotPlacementScoresResponse>{text}</GetSpotPlacementScoresResponse>".encode()]


# -- sites -------------------------------------------------------------------------------------


class Hand:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_a_site_is_the_default_vpc(lab: Lab) -> None:
    site = AwsSites(lab.aws, instance_profile="spotrunner-agent").site("us-east-1")
    assert site == SimSites(lab.world).site("us-east-1")
    assert site.security_group_ids == ()  # EC2 takes the VPC's default group


def test_groups_are_found_by_name_and_by_id(lab: Lab) -> None:
    (default,) = lab.world.pools.region("us-east-1").security_group_ids
    for wanted in (["default"], [default], ["default", default]):
        sites = AwsSites(lab.aws, security_groups=wanted)
        assert sites.site("us-east-1").security_group_ids == (default,)


def test_a_group_that_is_missing_is_named(lab: Lab) -> None:
    with pytest.raises(Misconfigured, match=r"mine, sg-1 in vpc-.* of us-east-1: make it"):
        AwsSites(lab.aws, security_groups=["default", "mine", "sg-1"]).site("us-east-1")


def test_a_site_is_kept_a_while_and_an_error_is_not(lab: Lab) -> None:
    hand = Hand()
    sites = AwsSites(lab.aws, monotonic=hand)
    lose = Fault(action="*", lose=Lose.BEFORE, times=2)
    lab.world.script(lose)
    with pytest.raises(Unavailable):
        sites.site("us-east-1")
    site = sites.site("us-east-1")
    lab.world.script(lose)
    hand.at = KEPT_S - 1
    assert sites.site("us-east-1") == site
    hand.at = KEPT_S + 1
    with pytest.raises(Unavailable):
        sites.site("us-east-1")


def subnet(zone: str, id_: str, vpc: str = "vpc-1", **more: Any) -> Any:
    return {"AvailabilityZone": zone, "SubnetId": id_, "VpcId": vpc, **more}


TAGGED: dict[str, Any] = {"Tags": [{"Key": TAG_SUBNET, "Value": "yes"}]}


def test_tagged_subnets_come_before_the_default_ones() -> None:
    assert choose_subnets(
        "us-east-1",
        [
            subnet("us-east-1a", "subnet-a", DefaultForAz=True),
            subnet("us-east-1b", "subnet-b", vpc="vpc-2", **TAGGED),
        ],
    ) == ("vpc-2", {"us-east-1b": "subnet-b"})


def test_of_two_subnets_in_a_zone_the_emptier_counts() -> None:
    _, subnets = choose_subnets(
        "us-east-1",
        [
            subnet("us-east-1a", "subnet-a", AvailableIpAddressCount=200, **TAGGED),
            subnet("us-east-1a", "subnet-b", AvailableIpAddressCount=9, **TAGGED),
            subnet("us-east-1c", "subnet-c", AvailableIpAddressCount=9),
        ],
    )
    assert subnets == {"us-east-1a": "subnet-a"}


def test_no_subnet_says_what_to_do() -> None:
    with pytest.raises(Misconfigured, match=r"no default VPC.*spotrunner:subnet"):
        choose_subnets("us-east-1", [subnet("us-east-1a", "subnet-a")])


def test_tagged_subnets_of_two_vpcs_are_a_mistake() -> None:
    several = [
        subnet("us-east-1a", "subnet-a", **TAGGED),
        subnet("us-east-1b", "subnet-b", vpc="vpc-2", **TAGGED),
    ]
    with pytest.raises(Misconfigured, match=r"vpc-1, vpc-2"):
        choose_subnets("us-east-1", several)


# -- images ------------------------------------------------------------------------------------


def test_an_image_is_awss_deep_learning_ami(lab: Lab) -> None:
    truth = SimSites(lab.world).image("eu-west-1", G5)
    assert AwsSites(lab.aws).image("eu-west-1", G5) == truth


def test_an_image_of_the_settings_counts_by_type_then_family(lab: Lab) -> None:
    ubuntu, amazon = (image.id for image in lab.world.pools.region("us-east-1").images)
    amis = {"us-east-1": {"p3": amazon, "g5.xlarge": ubuntu, "g5": amazon}}
    sites = AwsSites(lab.aws, amis=amis)
    assert sites.image("us-east-1", P3) == Image(id=amazon, root_device="/dev/xvda")
    assert sites.image("us-east-1", "g5.xlarge") == Image(id=ubuntu, root_device="/dev/sda1")
    assert sites.image("us-east-1", "g5.2xlarge").id == amazon
    assert sites.image("us-east-1", "g5.2xlarge", ubuntu).id == ubuntu
    assert sites.image("eu-west-1", "g5.xlarge").id not in (ubuntu, amazon)


def test_an_image_of_the_settings_that_is_not_there_is_named(lab: Lab) -> None:
    sites = AwsSites(lab.aws, amis={"us-east-1": {"p3": "ami-0123456789abcdef0"}})
    with pytest.raises(Misconfigured, match=r"no image ami-0123456789abcdef0 in us-east-1"):
        sites.image("us-east-1", P3)


def test_an_image_is_described_once_in_a_while(lab: Lab) -> None:
    hand = Hand()
    sites = AwsSites(lab.aws, monotonic=hand)
    image = sites.image("us-east-1", G5)
    lab.world.script(Fault(action="*", lose=Lose.BEFORE, times=2))
    hand.at = KEPT_S - 1
    assert sites.image("us-east-1", G4DN) == image
    hand.at = KEPT_S + 1
    with pytest.raises(Unavailable):
        sites.image("us-east-1", G4DN)


@pytest.mark.parametrize(("number", "root_device"), [(0, "/dev/sda1"), (1, "/dev/xvda")])
def test_an_instance_has_one_disk_and_it_is_the_root(
    lab: Lab, number: int, root_device: str
) -> None:
    """By another name than the image's the root would keep its size, beside a second disk."""
    named = lab.world.pools.region(POOL.region).images[number].id
    image = AwsSites(lab.aws).image(POOL.region, POOL.instance_type, named)
    request = a_template(SimSites(lab.world))
    right = dataclasses.replace(request, image_id=image.id, root_device=image.root_device)
    other = {"/dev/sda1": "/dev/xvda", "/dev/xvda": "/dev/sda1"}[root_device]
    wrong = dataclasses.replace(right, root_device=other, client_token="i1.digits-7f3a.2")
    assert _disks(lab, right) == [root_device]
    assert _disks(lab, wrong) == [root_device, other]


def _disks(lab: Lab, request: LaunchRequest) -> list[str]:
    launched = Ec2Cloud(lab.aws).launch(request)
    lab.clock.advance(60)
    ec2 = lab.aws.ec2(request.pool.region)
    (found,) = ec2.describe_instances(InstanceIds=[launched.instance_id])["Reservations"]
    return [disk["DeviceName"] for disk in found["Instances"][0]["BlockDeviceMappings"]]


@pytest.mark.parametrize("kind", [P3, "p3.16xlarge", "p3dn.24xlarge"])
def test_a_v100_needs_an_image_of_its_owner(lab: Lab, kind: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        AwsSites(lab.aws).image("us-east-1", kind)
    said = str(caught.value)
    assert said.startswith(f"{kind} needs an image of your own: its V100")
    assert "proprietary driver" in said
    assert "amis: {us-east-1: {p3" in said


def test_a_missing_parameter_is_named_with_what_to_set() -> None:
    with MotoServer() as server:
        aws = Aws(endpoint_url=server.url)
        with pytest.raises(Misconfigured) as caught:
            AwsSites(aws).image("us-east-1", G4DN)
        said = str(caught.value)
        for word in (IMAGE_NAME, "us-east-1", "get-parameters-by-path", "amis:", "bake --ami"):
            assert word in said
        aws.close()


def test_an_unknown_type_has_no_image(lab: Lab) -> None:
    with pytest.raises(Misconfigured, match=r"m5\.large"):
        AwsSites(lab.aws).image("us-east-1", "m5.large")
