from __future__ import annotations

import pytest

from spotrunner.core import catalogue
from spotrunner.core.catalogue import TYPES, USABLE, Architecture, Quota


def test_figures_are_those_of_ec2() -> None:
    figures = {
        name: (kind.gpu.name, kind.gpus, kind.gpu.memory_gib, kind.vcpus, kind.memory_gib)
        for name, kind in TYPES.items()
    }
    assert figures["g4dn.xlarge"] == ("T4", 1, 16, 4, 16)
    assert figures["g5.48xlarge"] == ("A10G", 8, 24, 192, 768)
    assert figures["p3.2xlarge"] == ("V100", 1, 16, 8, 61)
    assert figures["p3dn.24xlarge"] == ("V100-32GB", 8, 32, 96, 768)
    assert figures["p4de.24xlarge"] == ("A100-80GB", 8, 80, 96, 1152)
    assert figures["p5.48xlarge"] == ("H100", 8, 80, 192, 2048)


@pytest.mark.parametrize(
    ("name", "quota"),
    [("g4dn.xlarge", Quota.G), ("g6e.xlarge", Quota.G), ("p3.2xlarge", Quota.P)],
)
def test_a_type_counts_against_the_quota_of_its_letter(name: str, quota: Quota) -> None:
    assert TYPES[name].quota is quota


def test_only_what_cuda_runs_on_x86_is_usable() -> None:
    assert set(USABLE) < set(TYPES)
    for name in USABLE:
        kind = TYPES[name]
        assert kind.gpu.nvidia
        assert kind.architecture is Architecture.X86_64
    assert catalogue.DEFAULT in USABLE


def test_p3_is_legacy_and_needs_an_image_of_its_own() -> None:
    old = {kind.family for kind in TYPES.values() if kind.legacy}
    assert old == {kind.family for kind in TYPES.values() if kind.needs_own_image} == {"p3", "p3dn"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("g4ad.xlarge", ["g4ad.xlarge cannot be used", "AMD", "nearest is g4dn.xlarge"]),
        ("g5g.2xlarge", ["arm64", "nearest is g4dn.2xlarge"]),
        ("p2.xlarge", ["K80", "too old"]),
        ("trn1.2xlarge", ["Trainium"]),
        ("g4dn.xlrage", ["not a GPU instance type that is known here", "nearest: g4dn.xlarge"]),
        ("G4DN.XLARGE", ["nearest: g4dn.xlarge"]),
        ("banana", ["known families: g4dn, g5, g6, g6e, p3", "to start with: g4dn.xlarge"]),
    ],
)
def test_a_refused_type_says_why_and_what_instead(name: str, words: list[str]) -> None:
    problem = catalogue.type_problem(name)
    assert problem is not None
    for word in words:
        assert word in problem


@pytest.mark.parametrize("name", USABLE)
def test_a_usable_type_has_no_problem(name: str) -> None:
    assert catalogue.type_problem(name) is None


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("us-east-9", "us-east-9 is not an AWS region; nearest: us-east-"),
        ("us-east-1a", "us-east-1a is a zone, not a region; its region is us-east-1"),
        ("mars", "mars is not an AWS region"),
    ],
)
def test_an_unknown_region_names_the_nearest(region: str, words: str) -> None:
    problem = catalogue.region_problem(region)
    assert problem is not None
    assert problem.startswith(words)


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("cn-north-1", "AWS China"),
        ("cn-northwest-1", "AWS China"),
        ("us-gov-east-1", "AWS GovCloud"),
        ("us-gov-west-1", "AWS GovCloud"),
    ],
)
def test_a_region_whose_prices_never_come_is_refused(region: str, partition: str) -> None:
    assert catalogue.region_problem(region) == (
        f"{region} cannot be used: it belongs to {partition}, for which AWS's price list has no"
        " prices, so that no budget could be kept there"
    )


def test_every_region_is_one() -> None:
    assert not any(catalogue.region_problem(region) for region in catalogue.REGIONS)


@pytest.mark.parametrize(
    ("wanted", "offered", "answer"),
    [
        ("p3.2xlarge", ["g4dn.xlarge", "g5.xlarge"], "g5.xlarge"),
        ("p3.2xlarge", ["g4dn.xlarge"], "g4dn.xlarge"),
        ("p3.8xlarge", ["g4dn.xlarge", "g4dn.12xlarge", "p4d.24xlarge"], "g4dn.12xlarge"),
        ("p3.16xlarge", ["g5.48xlarge", "g5.xlarge", "p4d.24xlarge"], "g5.48xlarge"),
        ("g4dn.xlarge", ["g4dn.2xlarge", "g5.xlarge"], "g4dn.2xlarge"),
        ("p4de.24xlarge", ["p4d.24xlarge", "p5.48xlarge"], "p5.48xlarge"),
        ("p3.2xlarge", ["g4ad.xlarge"], None),
        ("p3.2xlarge", [], None),
        ("unknown.type", ["g4dn.xlarge", "p5.48xlarge"], "g4dn.xlarge"),
    ],
)
def test_nearest_offered_type(wanted: str, offered: list[str], answer: str | None) -> None:
    assert catalogue.nearest(wanted, offered) == answer


@pytest.mark.parametrize("name", USABLE)
def test_a_type_is_its_own_nearest(name: str) -> None:
    assert catalogue.nearest(name, USABLE) == name
