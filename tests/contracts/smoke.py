"""`scripts/aws-smoke`: the Cloud suite over a real AWS account, by hand and never in CI.

It says what it will do and what that costs, and asks. Whatever happens, what it launched is
terminated: at the end of each test, at the end of the run, and by the instance itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Sequence

import boto3
import pytest

from spotrunner.adapters.aws.cloud import Ec2Cloud
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import AwsSites
from tests.contracts.clouds import RealAccount, sweep

OPT_IN = "SPOTRUNNER_AWS_SMOKE"
SUITE = "tests/contracts/test_cloud.py"

# Canonical's plain image: no GPU, no driver.
IMAGE_PARAMETER = (
    "/aws/service/canonical/ubuntu/server/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id"
)


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 when the suite passed and nothing is left."""
    options = _parser().parse_args(arguments)
    if os.environ.get(OPT_IN) != "1":
        print(f"This launches real instances: set {OPT_IN}=1 to allow it.", file=sys.stderr)
        return 2
    aws = Aws()
    chosen = _choose(aws, options.region, options.subnet)
    print(_plan(chosen))
    if input("Type yes to go on: ") != "yes":
        return 1
    try:
        failed = pytest.main([SUITE, "-v", "-p", "no:cacheprovider", *_options(chosen)])
    finally:
        left = _sweep(aws, chosen)
    return 1 if failed or left else 0


def _sweep(aws: Aws, chosen: RealAccount) -> bool:
    print("Looking for what may be left; this takes a minute or more.")
    left = sweep(Ec2Cloud(aws), chosen)
    aws.close()
    if left:
        print(f"End these by hand, they cost money: {' '.join(left)}", file=sys.stderr)
    else:
        print(f"Nothing of {chosen.installation} lives.")
    return bool(left)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/aws-smoke", description=__doc__)
    parser.add_argument("--region", required=True)
    parser.add_argument("--subnet", required=True, help="a public subnet, such as subnet-0123abcd")
    return parser


def _choose(aws: Aws, region: str, subnet_id: str) -> RealAccount:
    (subnet,) = aws.ec2(region).describe_subnets(SubnetIds=[subnet_id])["Subnets"]
    parameter = aws.ssm(region).get_parameter(Name=IMAGE_PARAMETER)["Parameter"]
    image = AwsSites(aws).image(region, "t3.micro", named=parameter["Value"])
    return RealAccount(
        region=region,
        zone=subnet["AvailabilityZone"],
        subnet_id=subnet_id,
        image_id=image.id,
        root_device=image.root_device,
        installation=f"smoke-{uuid.uuid4().hex[:8]}",
    )


def _plan(chosen: RealAccount) -> str:
    account = boto3.client("sts", region_name=chosen.region).get_caller_identity()["Account"]
    return (
        f"Account {account}, {chosen.zone}, {chosen.subnet_id}, image {chosen.image_id}:\n"
        "launches five t3.micro spot instances, one after the other, each with 8 GiB of gp3 and a\n"
        f"public IPv4 address, all with the tag spotrunner:installation={chosen.installation};\n"
        "each is terminated after some minutes, and would end itself after 20.\n"
        "That costs less than 0.02 USD and takes about 15 minutes."
    )


def _options(chosen: RealAccount) -> list[str]:
    return [
        "--cloud=aws",
        f"--aws-region={chosen.region}",
        f"--aws-zone={chosen.zone}",
        f"--aws-subnet={chosen.subnet_id}",
        f"--aws-image={chosen.image_id}",
        f"--aws-root={chosen.root_device}",
        f"--aws-installation={chosen.installation}",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
