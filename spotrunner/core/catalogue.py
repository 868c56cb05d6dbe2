"""The GPU instance types that the product knows, those it refuses and why, and AWS's regions.

Figures: EC2's own tables (`aws ec2 describe-instance-types`, mid 2026); compute capability and
memory bandwidth: NVIDIA's data sheets. A row here says what a type *is*; whether a region offers
it is asked of EC2 each time, since a price or a row is no availability.
"""

from __future__ import annotations

import difflib
import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass


class Architecture(str, enum.Enum):
    """Of the CPU, in EC2's words."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


class Quota(str, enum.Enum):
    """The vCPU quotas of EC2 that a type counts against; spot and on-demand have one each."""

    G = "G and VT"
    P = "P"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One device. `compute_capability` is None where CUDA does not run."""

    name: str
    memory_gib: int
    bandwidth_gb_s: int
    compute_capability: tuple[int, int] | None
    # NVIDIA's open kernel modules do not drive it: it needs an image with the proprietary driver.
    proprietary_driver: bool = False

    @property
    def nvidia(self) -> bool:
        return self.compute_capability is not None


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    name: str
    gpu: Gpu
    gpus: int
    vcpus: int
    memory_gib: int
    architecture: Architecture = Architecture.X86_64
    # AWS retires it: price tables still show it where no zone offers it any more.
    legacy: bool = False
    # why no job may use it
    refused: str | None = None

    @property
    def family(self) -> str:
        return family_of(self.name)

    @property
    def quota(self) -> Quota:
        return Quota.P if self.name.startswith("p") else Quota.G

    @property
    def needs_own_image(self) -> bool:
        """True where no current public image has its driver, so that the user names one."""
        return self.gpu.proprietary_driver


# -- the data ----------------------------------------------------------------------------------

T4 = Gpu(name="T4", memory_gib=16, bandwidth_gb_s=320, compute_capability=(7, 5))
T4G = Gpu(name="T4G", memory_gib=16, bandwidth_gb_s=320, compute_capability=(7, 5))
A10G = Gpu(name="A10G", memory_gib=24, bandwidth_gb_s=600, compute_capability=(8, 6))
L4 = Gpu(name="L4", memory_gib=24, bandwidth_gb_s=300, compute_capability=(8, 9))
L40S = Gpu(name="L40S", memory_gib=48, bandwidth_gb_s=864, compute_capability=(8, 9))
V100 = Gpu(
    name="V100",
    memory_gib=16,
    bandwidth_gb_s=900,
    compute_capability=(7, 0),
    proprietary_driver=True,
)
V100_32 = Gpu(
    name="V100-32GB",
    memory_gib=32,
    bandwidth_gb_s=900,
    compute_capability=(7, 0),
    proprietary_driver=True,
)
A100_40 = Gpu(name="A100-40GB", memory_gib=40, bandwidth_gb_s=1555, compute_capability=(8, 0))
A100_80 = Gpu(name="A100-80GB", memory_gib=80, bandwidth_gb_s=2039, compute_capability=(8, 0))
H100 = Gpu(name="H100", memory_gib=80, bandwidth_gb_s=3350, compute_capability=(9, 0))
H200 = Gpu(name="H200", memory_gib=141, bandwidth_gb_s=4800, compute_capability=(9, 0))
RADEON = Gpu(name="Radeon Pro V520", memory_gib=8, bandwidth_gb_s=512, compute_capability=None)

_AMD = "its GPU is AMD's, and TensorFlow's builds here need CUDA"
_ARM = "its CPU is arm64, for which there is no TensorFlow build with CUDA"

# family: the GPU, and of each size (GPUs, vCPUs, memory in GiB)
_SIZES: dict[str, tuple[Gpu, dict[str, tuple[int, int, int]]]] = {
    "g4dn": (
        T4,
        {
            "xlarge": (1, 4, 16),
            "2xlarge": (1, 8, 32),
            "4xlarge": (1, 16, 64),
            "8xlarge": (1, 32, 128),
            "12xlarge": (4, 48, 192),
            "16xlarge": (1, 64, 256),
            "metal": (8, 96, 384),
        },
    ),
    "g5": (
        A10G,
        {
            "xlarge": (1, 4, 16),
            "2xlarge": (1, 8, 32),
            "4xlarge": (1, 16, 64),
            "8xlarge": (1, 32, 128),
            "12xlarge": (4, 48, 192),
            "16xlarge": (1, 64, 256),
            "24xlarge": (4, 96, 384),
            "48xlarge": (8, 192, 768),
        },
    ),
    "g6": (
        L4,
        {
            "xlarge": (1, 4, 16),
            "2xlarge": (1, 8, 32),
            "4xlarge": (1, 16, 64),
            "8xlarge": (1, 32, 128),
            "12xlarge": (4, 48, 192),
            "16xlarge": (1, 64, 256),
            "24xlarge": (4, 96, 384),
            "48xlarge": (8, 192, 768),
        },
    ),
    "g6e": (
        L40S,
        {
            "xlarge": (1, 4, 32),
            "2xlarge": (1, 8, 64),
            "4xlarge": (1, 16, 128),
            "8xlarge": (1, 32, 256),
            "12xlarge": (4, 48, 384),
            "16xlarge": (1, 64, 512),
            "24xlarge": (4, 96, 768),
            "48xlarge": (8, 192, 1536),
        },
    ),
    "p3": (V100, {"2xlarge": (1, 8, 61), "8xlarge": (4, 32, 244), "16xlarge": (8, 64, 488)}),
    "p3dn": (V100_32, {"24xlarge": (8, 96, 768)}),
    "p4d": (A100_40, {"24xlarge": (8, 96, 1152)}),
    "p4de": (A100_80, {"24xlarge": (8, 96, 1152)}),
    "p5": (H100, {"4xlarge": (1, 16, 256), "48xlarge": (8, 192, 2048)}),
    "p5en": (H200, {"48xlarge": (8, 192, 2048)}),
    "g4ad": (
        RADEON,
        {
            "xlarge": (1, 4, 16),
            "2xlarge": (1, 8, 32),
            "4xlarge": (1, 16, 64),
            "8xlarge": (2, 32, 128),
            "16xlarge": (4, 64, 256),
        },
    ),
    "g5g": (
        T4G,
        {
            "xlarge": (1, 4, 8),
            "2xlarge": (1, 8, 16),
            "4xlarge": (1, 16, 32),
            "8xlarge": (1, 32, 64),
            "16xlarge": (2, 64, 128),
            "metal": (2, 64, 128),
        },
    ),
}
_REFUSED = {"g4ad": _AMD, "g5g": _ARM}
_LEGACY = frozenset({"p3", "p3dn"})

# Families without a row that people do ask for.
_REFUSED_FAMILIES = {
    "g2": "its GPU is too old for TensorFlow's builds",
    "g3": "its GPU (M60) is too old for TensorFlow's builds",
    "g3s": "its GPU (M60) is too old for TensorFlow's builds",
    "p2": "its GPU (K80) is too old for TensorFlow's builds",
    "g6f": "it has only a fraction of a GPU",
    "gr6f": "it has only a fraction of a GPU",
    "inf1": "it has no GPU but AWS's Inferentia",
    "inf2": "it has no GPU but AWS's Inferentia",
    "trn1": "it has no GPU but AWS's Trainium",
    "trn1n": "it has no GPU but AWS's Trainium",
    "trn2": "it has no GPU but AWS's Trainium",
}

TYPES: dict[str, InstanceType] = {
    f"{family}.{size}": InstanceType(
        name=f"{family}.{size}",
        gpu=gpu,
        gpus=gpus,
        vcpus=vcpus,
        memory_gib=memory_gib,
        architecture=Architecture.ARM64 if family == "g5g" else Architecture.X86_64,
        legacy=family in _LEGACY,
        refused=_REFUSED.get(family),
    )
    for family, (gpu, sizes) in _SIZES.items()
    for size, (gpus, vcpus, memory_gib) in sizes.items()
}

# The types that a job may name, and the one to start with: the cheapest that trains.
USABLE: tuple[str, ...] = tuple(name for name, kind in TYPES.items() if kind.refused is None)
DEFAULT = "g4dn.xlarge"

# Of AWS's main partition; China and GovCloud have accounts and endpoints of their own.
REGIONS: tuple[str, ...] = (
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
)
_OTHER_PARTITIONS = {"cn-": "AWS China", "us-gov-": "AWS GovCloud"}


# -- questions ---------------------------------------------------------------------------------


def family_of(instance_type: str) -> str:
    """`g4dn` of `g4dn.xlarge`."""
    return instance_type.partition(".")[0]


def closest_name(word: str, names: Iterable[str]) -> str | None:
    """The name that a mistyped `word` most likely meant; None when nothing resembles it."""
    scores = {
        name: difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio() for name in names
    }
    likely = max(scores, key=lambda name: scores[name], default=None)
    return likely if likely is not None and scores[likely] >= 0.6 else None


def type_problem(instance_type: str) -> str | None:
    """Why a job may not ask for this type, with the nearest one that it may; None if it may."""
    known = TYPES.get(instance_type)
    if known is not None and known.refused is None:
        return None
    reason = known.refused if known else _REFUSED_FAMILIES.get(family_of(instance_type))
    if reason is not None:
        return f"{instance_type} cannot be used: {reason}; the nearest is {_stand_in(known)}"
    likely = closest_name(instance_type, USABLE)
    if likely is not None:
        return f"{instance_type} is not a GPU instance type that is known here; nearest: {likely}"
    families = ", ".join(dict.fromkeys(TYPES[name].family for name in USABLE))
    return (
        f"{instance_type} is not a GPU instance type that is known here; known families: {families}"
        f" (to start with: {DEFAULT})"
    )


def region_problem(region: str) -> str | None:
    """Why no job may run in this region, with the nearest where one may; None if it may."""
    if region in REGIONS:
        return None
    for prefix, partition in _OTHER_PARTITIONS.items():
        if region.startswith(prefix):
            return (
                f"{region} cannot be used: it belongs to {partition}, for which AWS's price list"
                " has no prices, so that no budget could be kept there"
            )
    likely = closest_name(region, REGIONS)
    if region[:-1] in REGIONS:
        return f"{region} is a zone, not a region; its region is {region[:-1]}"
    return f"{region} is not an AWS region" + (f"; nearest: {likely}" if likely else "")


def nearest(instance_type: str, offered: Iterable[str]) -> str | None:
    """Of the types in `offered`, the usable one that stands in best for `instance_type`; None
    when none of them is usable. An unknown type is taken as the default one."""
    wanted = TYPES.get(instance_type, TYPES[DEFAULT])
    usable = sorted(name for name in set(offered) if name in USABLE)
    return min(usable, key=lambda name: _distance(wanted, TYPES[name]), default=None)


def _stand_in(known: InstanceType | None) -> str:
    return nearest(known.name, USABLE) or DEFAULT if known else DEFAULT


def _distance(wanted: InstanceType, other: InstanceType) -> float:
    """How badly `other` stands in: ratios, where too little hurts more than too much.

    Memory bandwidth stands for speed, since training steps mostly wait for memory: T4 to V100 is
    2.8 by bandwidth and 3.0 measured (ResNet-50, fp32), while peak FLOPS put an L4 near a V100.
    """
    return (
        4 * _short(wanted.gpus, other.gpus)
        + 2 * _short(wanted.gpu.memory_gib, other.gpu.memory_gib)
        + 1 * _short(wanted.gpu.bandwidth_gb_s, other.gpu.bandwidth_gb_s)
        + 0.2 * _short(wanted.vcpus, other.vcpus)
        + 0.2 * _short(wanted.memory_gib, other.memory_gib)
        + 0.1 * (wanted.family != other.family)
    )


def _short(wanted: float, other: float) -> float:
    ratio = math.log2(other / wanted)
    return ratio if ratio > 0 else -2 * ratio
