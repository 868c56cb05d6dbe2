"""The endpoint through boto3: every action, its pages, filters, refusals and its time."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from spotrunner.lab.endpoint.advisor import PATH
from spotrunner.lab.endpoint.ec2 import SMOOTH, Awkwardness
from spotrunner.lab.endpoint.object_faults import ObjectFault
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.values import LIGHT
from spotrunner.sim.world import World
from tests.lab.clients import START, HandClock, client

Lab = tuple[LabEndpoint, World, HandClock]
HALVES = Awkwardness(halves=True, throttled_share=0.0)


@pytest.fixture
def lab() -> Iterator[Lab]:
    clock, world = HandClock(), World(plain_setup(START, manners=LIGHT), seed=5)
    with LabEndpoint(world, clock, awkwardness=HALVES, console=lambda _: b"boot\n") as endpoint:
        yield endpoint, world, clock


def launch(ec2: Any, **changes: Any) -> Any:
    asked: dict[str, Any] = {
        "ImageId": f"ami-{0:017x}",
        "InstanceType": "g4dn.xlarge",
        "MinCount": 1,
        "MaxCount": 1,
        "SubnetId": f"subnet-{0:08x}{0:09x}",
        "ClientToken": "token-1",
        "UserData": "#!/bin/bash\necho hello\n",
        "IamInstanceProfile": {"Name": "spotrunner-agent"},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "InstanceMarketOptions": {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
            },
        },
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "HttpEndpoint": "enabled",
            "InstanceMetadataTags": "enabled",
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/sda1",
                "Ebs": {"VolumeSize": 100, "VolumeType": "gp3", "DeleteOnTermination": True},
            }
        ],
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": [{"Key": "spotrunner:job", "Value": "digits"}]}
            for kind in ("instance", "volume", "network-interface", "spot-instances-request")
        ],
    }
    return ec2.run_instances(**{**asked, **changes})["Instances"][0]


def test_an_instance_from_launch_to_end(lab: Lab) -> None:
    endpoint, world, clock = lab
    ec2 = client(endpoint.url, "ec2")
    launched = launch(ec2)
    id_, request_id = launched["InstanceId"], launched["SpotInstanceRequestId"]
    assert launched["State"]["Name"] == "pending"
    assert launch(ec2)["InstanceId"] == id_, "the token stands for the instance"
    clock.pass_s(10)
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[{"Name": "tag:spotrunner:job", "Values": ["dig*"]}]
    )
    listed = [i for page in pages for r in page["Reservations"] for i in r["Instances"]]
    assert [i["InstanceId"] for i in listed] == [id_]
    assert listed[0]["LaunchTime"] == START
    assert listed[0]["State"] == {"Code": 16, "Name": "running"}
    assert {"Key": "spotrunner:job", "Value": "digits"} in listed[0]["Tags"]
    status = ec2.describe_instance_status(InstanceIds=[id_])["InstanceStatuses"]
    assert status[0]["InstanceStatus"]["Status"] == "ok"
    spot = ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[request_id])
    assert spot["SpotInstanceRequests"][0]["Status"]["Code"] == "fulfilled"
    assert ec2.get_console_output(InstanceId=id_)["Output"] == "boot\n"
    ec2.create_tags(Resources=[id_], Tags=[{"Key": "more", "Value": ""}])
    cancelled = ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[request_id])
    assert cancelled["CancelledSpotInstanceRequests"][0]["State"] == "cancelled"
    change = ec2.terminate_instances(InstanceIds=[id_])["TerminatingInstances"][0]
    assert change["CurrentState"]["Name"] == "shutting-down"
    clock.pass_s(30)
    gone = ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"][0]
    assert gone["State"]["Name"] == "terminated"
    assert gone["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert "SubnetId" not in gone
    assert world.truth(clock.now())[0].request.user_data.startswith("#!/bin/bash")


def test_places(lab: Lab) -> None:
    ec2 = client(lab[0].url, "ec2")

    def all_of(operation: str, member: str, **asked: Any) -> list[Any]:
        pages = list(ec2.get_paginator(operation).paginate(**asked))
        assert len(pages) == 2, "every listing comes in two pages at least"
        return [item for page in pages for item in page[member]]

    regions = ec2.describe_regions()["Regions"]
    assert {region["RegionName"] for region in regions} == {"us-east-1", "eu-west-1"}
    zones = ec2.describe_availability_zones(ZoneNames=["us-east-1b"])["AvailabilityZones"]
    assert [zone["ZoneId"] for zone in zones] == ["use1-az6"]
    subnets = all_of("describe_subnets", "Subnets")
    assert [s["AvailabilityZone"] for s in subnets] == ["us-east-1a", "us-east-1b", "us-east-1d"]
    default = [{"Name": "is-default", "Values": ["true"]}]
    assert all_of("describe_vpcs", "Vpcs", Filters=default)[0]["VpcId"] == subnets[0]["VpcId"]
    by_name = [{"Name": "group-name", "Values": ["default"]}]
    tagged = [{"Name": "tag-key", "Values": ["*"]}]
    assert ec2.describe_subnets(Filters=tagged)["Subnets"] == []
    assert len(all_of("describe_security_groups", "SecurityGroups", Filters=by_name)) == 1
    assert len(all_of("describe_images", "Images", Owners=["amazon"])) == 1
    types = all_of("describe_instance_types", "InstanceTypes", InstanceTypes=["g5.xlarge"])
    assert types[0]["GpuInfo"]["Gpus"][0]["Name"] == "A10G"
    offerings = all_of(
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": ["p3.2xlarge"]}],
    )
    assert [each["Location"] for each in offerings] == ["us-east-1b", "us-east-1d"]


def test_prices_and_quotas(lab: Lab) -> None:
    endpoint, world, _ = lab
    pool = sorted(world.pools.offered("us-east-1"))[0]
    for minute in range(40):
        world.set_price(START - dt.timedelta(minutes=40 - minute), pool, 150_000 + 100 * minute)
    ec2 = client(endpoint.url, "ec2")
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=[pool.instance_type],
        AvailabilityZone=pool.zone,
        ProductDescriptions=["Linux/UNIX"],
        StartTime=START - dt.timedelta(minutes=10),
        PaginationConfig={"PageSize": 3},
    )
    rows = [row for page in pages for row in page["SpotPriceHistory"]]
    assert rows == sorted(rows, key=lambda row: row["Timestamp"], reverse=True)
    assert rows[0]["AvailabilityZoneId"] == "use1-az4"
    assert rows[-1]["Timestamp"] <= START - dt.timedelta(minutes=10)
    pricing = client(endpoint.url, "pricing")
    asked = {"instanceType": "g4dn.xlarge", "regionCode": "eu-west-1", "operatingSystem": "Linux"}
    products = pricing.get_paginator("get_products").paginate(
        ServiceCode="AmazonEC2",
        Filters=[{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in asked.items()],
    )
    (product,) = [json.loads(text) for page in products for text in page["PriceList"]]
    (term,) = product["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    assert float(dimension["pricePerUnit"]["USD"]) == 0.587
    quotas = client(endpoint.url, "service-quotas")
    quota = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-3819A6DF")["Quota"]
    assert quota["Value"] == 64.0
    listed = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="ec2")
    assert len([q for page in listed for q in page["Quotas"]]) == 6


GPUS = ["g4dn.xlarge", "g5.xlarge", "p3.2xlarge"]


def test_placement_scores_come_in_pages_for_single_zones(lab: Lab) -> None:
    ec2 = client(lab[0].url, "ec2")
    pages = list(
        ec2.get_paginator("get_spot_placement_scores").paginate(
            InstanceTypes=GPUS,
            TargetCapacity=1,
            SingleAvailabilityZone=True,
            RegionNames=["eu-west-1"],
            PaginationConfig={"PageSize": 10},
        )
    )
    assert len(pages) == 2, "every listing comes in two pages at least"
    scores = [score for page in pages for score in page["SpotPlacementScores"]]
    assert scores == [
        {"Region": "eu-west-1", "AvailabilityZoneId": id_, "Score": 10}
        for id_ in ("euw1-az1", "euw1-az3")
    ]
    asked = {"TargetCapacity": 1, "SingleAvailabilityZone": True}
    everywhere = ec2.get_paginator("get_spot_placement_scores").paginate(
        InstanceTypes=GPUS[:2], **asked
    )
    few = [score for page in everywhere for score in page["SpotPlacementScores"]]
    assert {score["Region"] for score in few} == {"us-east-1", "eu-west-1"}
    assert {score["Score"] for score in few} == {3}, "of two types every score is low"


def test_a_bid_is_understood_and_told(lab: Lab) -> None:
    endpoint, world, clock = lab
    ec2, market = client(endpoint.url, "ec2"), {"MarketType": "spot"}
    for text, code in [("0.1", "SpotMaxPriceTooLow"), ("0.001", "InvalidParameterValue")]:
        with pytest.raises(ClientError, match=code):
            launch(ec2, InstanceMarketOptions={**market, "SpotOptions": {"MaxPrice": text}})
    for text in ("inf", "nan", "much"):
        with pytest.raises(ClientError, match="spotPrice"):
            launch(ec2, InstanceMarketOptions={**market, "SpotOptions": {"MaxPrice": text}})
    launched = launch(
        ec2, InstanceMarketOptions={**market, "SpotOptions": {"MaxPrice": "0.200000"}}
    )
    clock.pass_s(10)
    pool = world.truth(clock.now())[0].pool
    world.set_price(clock.now(), pool, 200_001)
    by_instance = [{"Name": "instance-id", "Values": [launched["InstanceId"]]}]
    pages = ec2.get_paginator("describe_spot_instance_requests").paginate(Filters=by_instance)
    (request,) = [each for page in pages for each in page["SpotInstanceRequests"]]
    assert request["SpotPrice"] == "0.200000"
    assert request["Status"]["Code"] == "instance-terminated-by-price"
    clock.pass_s(200)
    gone = ec2.describe_instances(InstanceIds=[launched["InstanceId"]])
    (instance,) = gone["Reservations"][0]["Instances"]
    assert instance["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_the_spot_advisors_file_needs_no_key_and_has_an_etag(lab: Lab) -> None:
    url = lab[0].url + PATH
    first = requests.get(url, timeout=5)
    assert (first.status_code, first.headers["Content-Type"]) == (200, "application/json")
    assert first.headers["Date"] == "Mon, 02 Nov 2026 09:00:00 GMT"
    body = first.json()
    assert body["spot_advisor"]["us-east-1"]["Linux"]["g4dn.xlarge"] == {"s": 70, "r": 0}
    assert body["instance_types"]["g5.xlarge"]["cores"] == 4
    assert [each["index"] for each in body["ranges"]] == [0, 1, 2, 3, 4]
    known = {"If-None-Match": first.headers["ETag"]}
    again = requests.get(url, headers=known, timeout=5)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]


def test_the_deep_learning_ami_is_a_public_parameter_and_others_are_motos(lab: Lab) -> None:
    ssm = client(lab[0].url, "ssm")
    name = "base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
    path = f"/aws/service/deeplearning/ami/x86_64/{name}"
    assert ssm.get_parameter(Name=path)["Parameter"]["Value"] == f"ami-{0:017x}"
    with pytest.raises(ClientError, match="ParameterNotFound"):
        ssm.get_parameter(Name=path + "-of-tomorrow")
    ssm.put_parameter(Name="/mine", Value="1", Type="String")
    assert ssm.get_parameter(Name="/mine")["Parameter"]["Value"] == "1"


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda ec2: ec2.describe_key_pairs(), "InvalidAction"),
        (lambda ec2: ec2.describe_instances(MaxResults=2), "InvalidParameterValue"),
        (
            lambda ec2: ec2.describe_instances(InstanceIds=["i-0"], MaxResults=10),
            "InvalidParameterCombination",
        ),
        (lambda ec2: ec2.describe_instances(NextToken="none"), "InvalidParameterValue"),
        (
            lambda ec2: ec2.describe_instances(Filters=[{"Name": "colour", "Values": ["red"]}]),
            "InvalidParameterValue",
        ),
        (
            lambda ec2: ec2.describe_subnets(Filters=[{"Name": "colour", "Values": ["red"]}]),
            "InvalidParameterValue",
        ),
        (lambda ec2: ec2.describe_instances(InstanceIds=["i-0"]), "InvalidInstanceID.NotFound"),
        (
            lambda ec2: ec2.get_spot_placement_scores(InstanceTypes=GPUS, TargetCapacity=1),
            "UnsupportedOperation",
        ),
        (
            lambda ec2: ec2.get_spot_placement_scores(
                InstanceTypes=GPUS, TargetCapacity=9, SingleAvailabilityZone=True
            ),
            "UnsupportedOperation",
        ),
        (
            lambda ec2: ec2.get_spot_placement_scores(
                InstanceTypes=GPUS,
                TargetCapacity=1,
                SingleAvailabilityZone=True,
                RegionNames=["mars-1"],
            ),
            "InvalidParameterValue",
        ),
        (lambda ec2: ec2.describe_images(ImageIds=["ami-1"]), "InvalidAMIID.NotFound"),
        (lambda ec2: ec2.describe_instances(DryRun=True), "DryRunOperation"),
        (lambda ec2: launch(ec2, KernelId="aki-1"), "UnknownParameter"),
        (lambda ec2: launch(ec2, InstanceType="p2.xlarge"), "InvalidParameterValue"),
        (lambda ec2: launch(ec2, SubnetId="subnet-1"), "InvalidSubnetID.NotFound"),
        (lambda ec2: launch(ec2, UserData="x" * 17_000), "InvalidUserData.Malformed"),
        (lambda ec2: ec2.terminate_instances(InstanceIds=["i-1"]), "InvalidInstanceID.NotFound"),
        (
            lambda ec2: ec2.create_tags(Resources=["vol-1"], Tags=[{"Key": "a", "Value": "b"}]),
            "InvalidID",
        ),
    ],
)
def test_refusals_carry_awss_codes(lab: Lab, ask: Callable[[Any], Any], code: str) -> None:
    with pytest.raises(ClientError) as refused:
        ask(client(lab[0].url, "ec2"))
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 412)


def test_a_parameter_that_ec2_does_not_know_is_refused(lab: Lab) -> None:
    signed = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=A/20261102/us-east-1/ec2/aws4_request, x=y"
    }
    body = {"Action": "DescribeInstances", "Version": "2016-11-15", "Colour.1": "red"}
    answer = requests.post(lab[0].url, data=body, headers=signed, timeout=5)
    assert answer.status_code == 400
    assert "<Code>UnknownParameter</Code>" in answer.text


def test_a_lost_answer_is_a_broken_connection_and_the_launch_has_happened(lab: Lab) -> None:
    endpoint, world, clock = lab
    world.script(Fault(action="RunInstances", lose=Lose.AFTER))
    with pytest.raises((ConnectionError, HTTPClientError)):
        launch(client(endpoint.url, "ec2"))
    assert len(world.truth(clock.now())) == 1
    assert launch(client(endpoint.url, "ec2"))["InstanceId"] == world.truth(clock.now())[0].id


def test_reads_are_throttled_now_and_then() -> None:
    world = World(plain_setup(START, manners=LIGHT), seed=5)
    often = Awkwardness(throttled_share=0.5)
    with LabEndpoint(world, HandClock(), awkwardness=often) as endpoint:
        ec2 = client(endpoint.url, "ec2")
        codes = set()
        for _ in range(20):
            try:
                ec2.describe_regions()
                codes.add("")
            except ClientError as error:
                codes.add(error.response["Error"]["Code"])
    assert codes == {"", "RequestLimitExceeded"}


def test_every_answer_carries_lab_time(lab: Lab) -> None:
    endpoint, _, clock = lab
    s3 = client(endpoint.url, "s3")
    s3.create_bucket(Bucket="home")
    clock.pass_s(8 * 3600)
    for answer in (
        s3.put_object(Bucket="home", Key="a", Body=b"1"),
        client(endpoint.url, "ec2").describe_regions(),
        client(endpoint.url, "sts").get_caller_identity(),
    ):
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert headers["date"] == "Mon, 02 Nov 2026 17:00:00 GMT"


def test_conditional_writes_have_one_winner(lab: Lab) -> None:
    s3 = client(lab[0].url, "s3")
    s3.create_bucket(Bucket="home")
    first = s3.put_object(Bucket="home", Key="HEAD.json", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="home", Key="HEAD.json", Body=b"2", IfNoneMatch="*")
    s3.put_object(Bucket="home", Key="HEAD.json", Body=b"3", IfMatch=first["ETag"])
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="home", Key="HEAD.json", Body=b"4", IfMatch=first["ETag"])
    assert s3.get_object(Bucket="home", Key="HEAD.json")["Body"].read() == b"3"


def test_a_lost_answer_of_s3_is_a_write_that_happened(lab: Lab) -> None:
    endpoint = lab[0]
    s3 = client(endpoint.url, "s3")
    s3.create_bucket(Bucket="home")
    endpoint.object_faults.script(
        ObjectFault(method="PUT", path="/home/*/HEAD.json", lose=Lose.AFTER)
    )
    with pytest.raises((ConnectionError, HTTPClientError)):
        s3.put_object(Bucket="home", Key="a/HEAD.json", Body=b"1", IfNoneMatch="*")
    assert s3.get_object(Bucket="home", Key="a/HEAD.json")["Body"].read() == b"1"
    endpoint.object_faults.script(
        ObjectFault(method="PUT", path="/home/b/HEAD.json", lose=Lose.BEFORE)
    )
    with pytest.raises((ConnectionError, HTTPClientError)):
        s3.put_object(Bucket="home", Key="b/HEAD.json", Body=b"1")
    assert s3.list_objects_v2(Bucket="home")["KeyCount"] == 1


def test_a_late_answer_of_s3_is_an_answer(lab: Lab) -> None:
    endpoint = lab[0]
    s3 = client(endpoint.url, "s3")
    s3.create_bucket(Bucket="home")
    endpoint.object_faults.script(ObjectFault(method="PUT", path="/home/a", late_s=0.2))
    began_s = time.monotonic()
    s3.put_object(Bucket="home", Key="a", Body=b"1")
    assert time.monotonic() - began_s >= 0.2
    assert s3.get_object(Bucket="home", Key="a")["Body"].read() == b"1"


def test_a_presigned_url_needs_no_key(lab: Lab) -> None:
    s3 = client(lab[0].url, "s3")
    s3.create_bucket(Bucket="home")
    s3.put_object(Bucket="home", Key="agent.tar.gz", Body=b"archive")
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": "home", "Key": "agent.tar.gz"}, ExpiresIn=600
    )
    assert requests.get(url, timeout=5).content == b"archive"
    old = f"{url.split('?')[0]}?AWSAccessKeyId=A&Signature=S&Expires=1"
    assert "Please use AWS4-HMAC-SHA256" in requests.get(old, timeout=5).text
    bare = requests.get(url.split("?")[0], timeout=5)
    assert (bare.status_code, "AccessDenied" in bare.text) == (403, True)


def test_role_keys_expire(lab: Lab) -> None:
    endpoint, _, clock = lab
    key = endpoint.keys.of("i-1", clock.now())
    role: dict[str, Any] = {
        "aws_access_key_id": key.access_key,
        "aws_secret_access_key": key.secret_key,
        "aws_session_token": key.token,
    }
    client(endpoint.url, "s3", **role).list_buckets()
    clock.pass_s(45 * 60)
    newer = endpoint.keys.of("i-1", clock.now())
    assert newer.access_key != key.access_key
    client(endpoint.url, "s3", **role).list_buckets()
    clock.pass_s(16 * 60)
    expected = [
        ("s3", "list_buckets", "ExpiredToken"),
        ("ec2", "describe_regions", "RequestExpired"),
    ]
    for service, operation, code in expected:
        with pytest.raises(ClientError) as refused:
            getattr(client(endpoint.url, service, **role), operation)()
        assert refused.value.response["Error"]["Code"] == code
    stolen = {**role, "aws_session_token": "other"}
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client(endpoint.url, "s3", **stolen).list_buckets()


def test_the_gate_holds_the_control_hosts_calls_and_no_agents(lab: Lab) -> None:
    endpoint, _, clock = lab
    key = endpoint.keys.of("i-1", clock.now())
    endpoint.gate.close()
    client(
        endpoint.url,
        "s3",
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
        aws_session_token=key.token,
    ).list_buckets()
    with pytest.raises(ClientError, match="Unavailable"):
        client(endpoint.url, "ec2").describe_regions()
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        client(endpoint.url, "s3").list_buckets()
    endpoint.gate.open()
    client(endpoint.url, "ec2").describe_regions()


def test_smooth_listings_come_whole() -> None:
    world = World(plain_setup(START, manners=LIGHT), seed=5)
    with LabEndpoint(world, HandClock(), awkwardness=SMOOTH) as endpoint:
        answer = client(endpoint.url, "ec2").describe_subnets()
        assert len(answer["Subnets"]) == 3
        assert "NextToken" not in answer
