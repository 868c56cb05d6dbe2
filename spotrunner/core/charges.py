"""What AWS charges beside the instance: its disk, its public address, and bytes between regions.

Sources: AWS, "Amazon EBS pricing" (gp3 by the second, 60 seconds the least, a month of 30 days in
its own example), "Amazon VPC pricing" (0.005 USD an hour for each public IPv4 address since
2024-02-01), "Amazon EC2 on-demand pricing", data transfer (0.02 USD a GB from one region to
another; to and from a few regions it is dearer). S3's own requests are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping

_GB = 1_000_000_000
_MONTH_H = 30 * 24

ADDRESS_USD_MICROS_HOUR = 5_000
TRANSFER_USD_MICROS_GB = 20_000

# gp3, a GB and month. A region that is not listed here counts as the dearest: we never reckon with
# too little.
_DISK_USD_MICROS: Mapping[str, int] = {
    "us-east-1": 80_000,
    "us-east-2": 80_000,
    "us-west-1": 96_000,
    "us-west-2": 80_000,
    "ca-central-1": 88_000,
    "eu-west-1": 88_000,
    "eu-west-2": 92_800,
    "eu-west-3": 92_800,
    "eu-central-1": 95_200,
    "eu-north-1": 83_600,
    "ap-south-1": 91_200,
    "ap-northeast-1": 96_000,
    "ap-northeast-2": 91_200,
    "ap-southeast-1": 96_000,
    "ap-southeast-2": 96_000,
    "sa-east-1": 152_000,
}
_DEAREST_DISK_USD_MICROS = max(_DISK_USD_MICROS.values())


def extras_usd_micros_hour(region: str, disk_gib: int) -> int:
    """The disk and the public address of one instance, an hour; rounded up."""
    month = _DISK_USD_MICROS.get(region, _DEAREST_DISK_USD_MICROS) * disk_gib
    return ADDRESS_USD_MICROS_HOUR + -(-month // _MONTH_H)


def transfer_usd_micros(moved_bytes: int) -> int:
    """So many bytes between two regions; rounded up."""
    return -(-moved_bytes * TRANSFER_USD_MICROS_GB // _GB)
