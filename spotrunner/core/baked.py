"""Machine images that already hold a container's image and the agent: what their tags say, and
which one a launch takes."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from spotrunner.core.catalogue import Architecture, InstanceType
from spotrunner.core.ids import TAG_INSTALLATION

TAG_BAKE = "spotrunner:bake"
_TAG_CONTAINER = "spotrunner:container"
_TAG_DIGEST = "spotrunner:container-digest"
_TAG_BASE = "spotrunner:base"
_TAG_DRIVER = "spotrunner:driver"
_TAG_ARCHITECTURE = "spotrunner:architecture"
_TAG_AGENT = "spotrunner:agent"
# EC2's limit for the value of a tag: a name that is longer cannot be remembered.
VALUE_LENGTH = 256
# The instance that an image is made on powers off so long after its start, whatever becomes of it.
LONGEST_S = 3600
# EC2's words for the states of an image: complete, and not yet.
AVAILABLE, PENDING = "available", "pending"


class Driver(str, enum.Enum):
    """NVIDIA's kernel modules: the open ones drive Turing and later, the proprietary V100 too."""

    OPEN = "open"
    PROPRIETARY = "proprietary"


def driver_of(kind: InstanceType) -> Driver:
    return Driver.PROPRIETARY if kind.needs_own_image else Driver.OPEN


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What an image is baked from: two of the same recipe are as good as each other. `base` is the
    machine image that was added to, with its region: `us-east-1/ami-…`."""

    container: str
    base: str
    driver: Driver
    architecture: Architecture
    agent_sha256: str


@dataclass(frozen=True, kw_only=True)
class Label:
    """What the tags of an image, and of the instance that it is made on, say. `digest` is what the
    container's image surely is; unknown ("") before it was pulled."""

    installation: str
    bake: str
    recipe: Recipe
    digest: str = ""

    def pulled(self, digest: str) -> Label:
        return replace(self, digest=digest)


@dataclass(frozen=True, kw_only=True)
class BakedImage:
    """`state` is EC2's word, with its reason where it failed."""

    id: str
    region: str
    label: Label
    state: str
    made_at: dt.datetime
    root_device: str
    disk_gib: int
    snapshot_ids: tuple[str, ...] = ()
    trouble: str = ""


def tags_of(label: Label) -> tuple[tuple[str, str], ...]:
    recipe = label.recipe
    return (
        (TAG_INSTALLATION, label.installation),
        (TAG_BAKE, label.bake),
        (_TAG_CONTAINER, recipe.container),
        (_TAG_DIGEST, label.digest),
        (_TAG_BASE, recipe.base),
        (_TAG_DRIVER, recipe.driver.value),
        (_TAG_ARCHITECTURE, recipe.architecture.value),
        (_TAG_AGENT, recipe.agent_sha256),
    )


def label_of(tags: Mapping[str, str]) -> Label | None:
    """None where they are not all there: it is none of ours, or of a version that we do not know.
    The installation is as good as any other tag: whoever may set it, may set all."""
    try:
        return Label(
            installation=tags[TAG_INSTALLATION],
            bake=tags[TAG_BAKE],
            digest=tags[_TAG_DIGEST],
            recipe=Recipe(
                container=tags[_TAG_CONTAINER],
                base=tags[_TAG_BASE],
                driver=Driver(tags[_TAG_DRIVER]),
                architecture=Architecture(tags[_TAG_ARCHITECTURE]),
                agent_sha256=tags[_TAG_AGENT],
            ),
        )
    except (KeyError, ValueError):
        return None


# -- choosing ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a job needs of a machine image: its container's image, on a disk no larger than this.
    A job without a container names the image `none`, which no bake takes."""

    container: str
    disk_gib: int


def choose(images: Iterable[BakedImage], kind: InstanceType, need: Need) -> BakedImage | None:
    """The newest that fits. EC2 starts none on a disk smaller than the image's own. An older agent
    on it is no fault: the one that fits the daemon is fetched then."""
    fitting = [
        image
        for image in images
        if image.state == AVAILABLE
        and image.label.recipe.driver is driver_of(kind)
        and image.label.recipe.architecture is kind.architecture
        and image.disk_gib <= need.disk_gib
        and holds(image.label, need.container)
    ]
    return max(fitting, key=lambda image: (image.made_at, image.id), default=None)


def holds(label: Label, container: str) -> bool:
    """Whether the container's image is on it: the same name, or the same digest of the same
    repository."""
    if container == label.recipe.container:
        return True
    digest = container.partition("@")[2]
    return (
        bool(digest)
        and digest == label.digest
        and (repository(container) == repository(label.recipe.container))
    )


def repository(container: str) -> str:
    """Without tag and digest; a colon before the last slash belongs to a port."""
    path, slash, last = container.partition("@")[0].rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


def superseded(images: Iterable[BakedImage]) -> tuple[BakedImage, ...]:
    """Those that a newer one stands in for, in their region, and those that never came to be."""
    kept: dict[tuple[str, str, Driver, Architecture], BakedImage] = {}
    old: list[BakedImage] = []
    for image in sorted(images, key=lambda it: (it.made_at, it.id)):
        if image.state == PENDING:
            continue
        if image.state != AVAILABLE:
            old.append(image)
            continue
        recipe = image.label.recipe
        key = (image.region, recipe.container, recipe.driver, recipe.architecture)
        if key in kept:
            old.append(kept[key])
        kept[key] = image
    return tuple(old)
