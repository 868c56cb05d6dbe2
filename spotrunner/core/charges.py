"""What AWS charges beside the instance: its disk, its public address, and bytes between regions.

Sources: AWS, "Amazon EBS pricing" (gp3 by the second, 60 seconds the least, a month of 30 days in
its own example), "Amazon VPC pricing" (0.005 USD an hour for each public IPv4 address since
2024-02-01), "Amazon EC2 on-demand pricing", data transfer out to other regions, by the region that
sends. S3's own requests are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping

_GB = 1_000_000_000
_MONTH_H = 30 * 24

ADDRESS_USD_MICROS_HOUR = 5_000

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

# A GB to any other region; to a neighbour it may be half of that.
_TRANSFER_USD_MICROS: Mapping[str, int] = {
    "us-east-1": 20_000,
    "us-east-2": 20_000,
    "us-west-1": 20_000,
    "us-west-2": 20_000,
    "ca-central-1": 20_000,
    "eu-west-1": 20_000,
    "eu-west-2": 20_000,
    "eu-west-3": 20_000,
    "eu-central-1": 20_000,
    "eu-north-1": 20_000,
    "ap-south-1": 86_000,
    "ap-northeast-1": 90_000,
    "ap-northeast-2": 80_000,
    "ap-southeast-1": 90_000,
    "ap-southeast-2": 98_000,
    "sa-east-1": 138_000,
}
_DEAREST_TRANSFER_USD_MICROS = 147_000  # af-south-1


# Snapshots, a GB and month, of what they hold. The same in most regions; where it is not listed it
# counts as the dearest.
_SNAPSHOT_USD_MICROS: Mapping[str, int] = dict.fromkeys(
    ("us-east-1", "us-east-2", "us-west-2", "eu-west-1"), 50_000
)
_DEAREST_SNAPSHOT_USD_MICROS = 68_000


def snapshot_usd_micros_month(region: str, used_bytes: int) -> int:
    """Rounded up."""
    price = _SNAPSHOT_USD_MICROS.get(region, _DEAREST_SNAPSHOT_USD_MICROS)
    return -(-used_bytes * price // _GB)


def extras_usd_micros_hour(region: str, disk_gib: int) -> int:
    """The disk and the public address of one instance, an hour; rounded up."""
    month = _DISK_USD_MICROS.get(region, _DEAREST_DISK_USD_MICROS) * disk_gib
    return ADDRESS_USD_MICROS_HOUR + -(-month // _MONTH_H)


def transfer_usd_micros(moved_bytes: int, *senders: str) -> int:
    """So many bytes from one region to another; rounded up. Where they went both ways, the dearer
    of the `senders` counts."""
    dearest = max(_TRANSFER_USD_MICROS.get(it, _DEAREST_TRANSFER_USD_MICROS) for it in senders)
    return -(-moved_bytes * dearest // _GB)
