from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.catalogue import REGIONS
from spotrunner.core.charges import (
    extras_usd_micros_hour,
    snapshot_usd_micros_month,
    transfer_usd_micros,
)


@pytest.mark.parametrize(
    ("region", "disk_gib", "usd_micros_hour"),
    [
        ("us-east-1", 0, 5_000),  # the address alone: 0.005 USD
        ("us-east-1", 9, 5_000 + 1_000),  # 9 GiB at 0.08 USD in 720 hours
        ("us-east-1", 100, 5_000 + 11_112),  # 11,111.1
        ("eu-west-1", 100, 5_000 + 12_223),  # 12,222.2 at 0.088 USD
        ("eu-central-1", 720, 5_000 + 95_200),
    ],
)
def test_a_disk_and_an_address_cost_by_the_hour(
    region: str, disk_gib: int, usd_micros_hour: int
) -> None:
    assert extras_usd_micros_hour(region, disk_gib) == usd_micros_hour


def test_a_region_that_nobody_knows_is_as_dear_as_the_dearest() -> None:
    known = max(extras_usd_micros_hour(region, 100) for region in REGIONS)
    assert extras_usd_micros_hour("xx-north-9", 100) >= known
    assert extras_usd_micros_hour("xx-north-9", 100) == extras_usd_micros_hour("sa-east-1", 100)


@pytest.mark.parametrize(
    ("moved_bytes", "senders", "usd_micros"),
    [
        (0, ["us-east-1"], 0),
        (1, ["us-east-1"], 1),
        (50_000, ["us-east-1"], 1),
        (50_001, ["us-east-1"], 2),
        (10**9, ["eu-west-1"], 20_000),
        (40 * 10**9, ["us-west-2"], 800_000),
        # by the region that sends; both ways, by the dearer of the two
        (10**9, ["ap-northeast-1"], 90_000),
        (10**9, ["us-east-1", "ap-southeast-2"], 98_000),
        # of a region that nobody knows, the dearest
        (10**9, ["us-east-1", "xx-north-9"], 147_000),
    ],
)
def test_bytes_between_regions_cost_by_the_region_that_sends(
    moved_bytes: int, senders: list[str], usd_micros: int
) -> None:
    assert transfer_usd_micros(moved_bytes, *senders) == usd_micros


@given(gib=st.integers(1, 20_000), more=st.integers(1, 1_000))
def test_a_larger_disk_is_never_cheaper(gib: int, more: int) -> None:
    assert extras_usd_micros_hour("us-east-1", gib + more) > extras_usd_micros_hour(
        "us-east-1", gib
    )


def test_a_snapshot_costs_by_what_it_holds() -> None:
    assert snapshot_usd_micros_month("us-east-1", 40 * 10**9) == 2_000_000
    assert snapshot_usd_micros_month("sa-east-1", 40 * 10**9) == 2_720_000
    assert snapshot_usd_micros_month("us-east-1", 1) == 1, "rounded up"
