"""Ready-made worlds: the lab's, with weather, and a plain one for stories, without."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Mapping

from spotrunner.core.catalogue import TYPES
from spotrunner.core.model import Market, Pool
from spotrunner.sim.steps import Steps
from spotrunner.sim.values import LIGHT, Image, Manners, Region, Setup, TypeFacts, Zone
from spotrunner.sim.weather import Climate, capacity, spot_prices

G4DN, G5, P3, T3 = "g4dn.xlarge", "g5.xlarge", "p3.2xlarge", "t3.micro"
# Without a GPU, for what only needs a machine; in every zone, at a price that stands still.
STEADY = "t3.large"


def _gpu_type(name: str) -> TypeFacts:
    known = TYPES[name]
    return TypeFacts(
        name=name,
        vcpus=known.vcpus,
        memory_mib=known.memory_gib * 1024,
        family=known.quota.value,
        gpu=known.gpu.name,
        gpus=known.gpus,
        gpu_memory_mib=known.gpu.memory_gib * 1024,
    )


SOLD = (
    *(_gpu_type(name) for name in (G4DN, G5, P3)),
    TypeFacts(name=T3, vcpus=2, memory_mib=1024, family="Standard"),
    TypeFacts(name=STEADY, vcpus=2, memory_mib=8192, family="Standard"),
)

# AWS's public on-demand prices, Linux, of July 2026: micro-dollars an hour.
ON_DEMAND_USD_MICROS: Mapping[tuple[str, str], int] = {
    ("us-east-1", G4DN): 526_000,
    ("us-west-2", G4DN): 526_000,
    ("eu-west-1", G4DN): 587_000,
    ("us-east-1", G5): 1_006_000,
    ("us-west-2", G5): 1_006_000,
    ("eu-west-1", G5): 1_123_000,
    ("us-east-1", P3): 3_060_000,
    ("us-west-2", P3): 3_060_000,
    ("eu-west-1", P3): 3_305_000,
    ("us-east-1", T3): 10_400,
    ("us-west-2", T3): 10_400,
    ("eu-west-1", T3): 11_400,
    ("us-east-1", STEADY): 83_200,
    ("us-west-2", STEADY): 83_200,
    ("eu-west-1", STEADY): 91_200,
}

_ZONES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "us-east-1": (
        ("us-east-1a", "use1-az4"),
        ("us-east-1b", "use1-az6"),
        ("us-east-1d", "use1-az2"),
    ),
    "us-west-2": (("us-west-2a", "usw2-az1"), ("us-west-2b", "usw2-az2")),
    "eu-west-1": (("eu-west-1a", "euw1-az3"), ("eu-west-1b", "euw1-az1")),
}

# What is offered where. p3 is nearly gone, as in life: one region has it, and its price table
# still lists it elsewhere.
_OFFERED: Mapping[str, tuple[str, ...]] = {
    "us-east-1a": (G4DN, G5, T3),
    "us-east-1b": (G4DN, P3, T3),
    "us-east-1d": (G4DN, G5, P3, T3),
    "us-west-2a": (G4DN, G5, T3),
    "us-west-2b": (G4DN, G5, T3),
    "eu-west-1a": (G4DN, G5, T3),
    "eu-west-1b": (G4DN, T3),
}

_EVER_FROM = dt.datetime.min.replace(tzinfo=dt.timezone.utc)
_EVER_TO = dt.datetime.max.replace(tzinfo=dt.timezone.utc)

# How good a zone is for a type, from the worst to the best measured (weather.Climate.quality).
_QUALITY: Mapping[str, tuple[float, float]] = {
    G4DN: (0.45, 1.0),
    G5: (0.3, 0.9),
    P3: (0.0, 0.2),
    T3: (1.0, 1.0),
}


def lab_setup(
    seed: int,
    start: dt.datetime,
    *,
    days_before: int = 30,
    days_after: int = 30,
    manners: Manners = LIGHT,
    reclaims: bool = False,
) -> Setup:
    """Three regions with synthetic weather of the days before and after `start`: prices, and
    capacity that comes and goes. With `reclaims` a pool that loses its capacity takes its
    instances; without, it only refuses launches. One g4dn pool in each of two regions never dries
    up, so that whoever waits in front of the lab gets an instance with every seed."""
    regions = tuple(_region(name) for name in _ZONES)
    dice = random.Random(f"{seed}/weather")
    climates = [
        Climate(
            pool=pool,
            on_demand_usd_micros=ON_DEMAND_USD_MICROS[pool.region, pool.instance_type],
            quality=dice.uniform(*_QUALITY[pool.instance_type]),
        )
        for pool in _pools(regions)
    ]
    begin = start - dt.timedelta(days=days_before)
    end = start + dt.timedelta(days=days_after)
    open_pools = capacity(dice, climates, start, end)
    # Dice of its own: what was before `start` changes nothing of what comes.
    past = capacity(random.Random(f"{seed}/past"), climates, begin, start)
    open_pools = {pool: _joined(past[pool], steps, start) for pool, steps in open_pools.items()}
    for pool in _always_open(dice, regions):
        open_pools[pool] = Steps([(start, True)])
    return Setup(
        start=start,
        regions=regions,
        types=SOLD,
        on_demand_usd_micros=ON_DEMAND_USD_MICROS,
        prices={**spot_prices(dice, climates, begin, end), **_steady(regions, begin)},
        capacity={
            **open_pools,
            **{pool: Steps([(start, True)]) for pool in _steady(regions, begin)},
        },
        quotas=_quotas(regions),
        manners=manners,
        reclaims=reclaims,
    )


def plain_setup(
    start: dt.datetime,
    *,
    manners: Manners = Manners(),  # noqa: B008 - frozen
    regions: Iterable[str] = ("us-east-1", "eu-west-1"),
) -> Setup:
    """The same regions and types without weather: every pool is open, every price stands still.
    A g4dn.xlarge costs 150,000 micro-dollars in the first zone and 10,000 more in each next one,
    so that a story knows which pool is the cheapest."""
    chosen = tuple(_region(name) for name in regions)
    long_ago = start - dt.timedelta(days=30)
    prices = {}
    for number, zone in enumerate(zone for region in chosen for zone in region.zones):
        for kind in _OFFERED[zone.name]:
            pool = Pool(region=zone.name[:-1], zone=zone.name, instance_type=kind)
            on_demand = ON_DEMAND_USD_MICROS[pool.region, kind]
            at_first = 150_000 if kind == G4DN else on_demand // 3
            prices[pool] = Steps([(long_ago, min(at_first + 10_000 * number, on_demand))])
    prices |= _steady(chosen, long_ago)
    return Setup(
        start=start,
        regions=chosen,
        types=SOLD,
        on_demand_usd_micros=ON_DEMAND_USD_MICROS,
        prices=prices,
        capacity={pool: Steps([(start, True)]) for pool in prices},
        quotas=_quotas(chosen),
        manners=manners,
    )


def _steady(regions: Iterable[Region], since: dt.datetime) -> dict[Pool, Steps[int]]:
    return {
        Pool(region=region.name, zone=zone.name, instance_type=STEADY): Steps(
            [(since, ON_DEMAND_USD_MICROS[region.name, STEADY] * 2 // 5)]
        )
        for region in regions
        for zone in region.zones
    }


def _region(name: str) -> Region:
    number = list(_ZONES).index(name)
    zones = tuple(
        Zone(name=zone, id=id_, subnet_id=f"subnet-{number:08x}{index:09x}")
        for index, (zone, id_) in enumerate(_ZONES[name])
    )
    image = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 20261101"
    return Region(
        name=name,
        zones=zones,
        images=(Image(id=f"ami-{number:017x}", name=image),),
        vpc_id=f"vpc-{number:017x}",
        security_group_ids=(f"sg-{number:017x}",),
    )


def _pools(regions: Iterable[Region]) -> list[Pool]:
    return [
        Pool(region=region.name, zone=zone.name, instance_type=kind)
        for region in regions
        for zone in region.zones
        for kind in _OFFERED[zone.name]
    ]


def _joined(past: Steps[bool], future: Steps[bool], start: dt.datetime) -> Steps[bool]:
    before = [(at, up) for at, up in past.since(_EVER_FROM, start) if at < start]
    return Steps([*before, *future.since(start, _EVER_TO)])


def _always_open(dice: random.Random, regions: tuple[Region, ...]) -> list[Pool]:
    chosen = dice.sample(regions, 2)
    zones = [dice.choice(region.zones) for region in chosen]
    return [
        Pool(region=region.name, zone=zone.name, instance_type=G4DN)
        for region, zone in zip(chosen, zones, strict=True)
    ]


def _quotas(regions: Iterable[Region]) -> dict[tuple[str, str, Market], int]:
    vcpus = {"G and VT": 64, "P": 16, "Standard": 64}
    return {
        (region.name, family, market): count
        for region in regions
        for family, count in vcpus.items()
        for market in Market
    }
