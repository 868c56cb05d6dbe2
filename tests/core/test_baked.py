"""Baked images: what their tags say, and which one a launch takes."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from spotrunner.core.baked import (
    BakedImage,
    Driver,
    Label,
    Need,
    Recipe,
    choose,
    label_of,
    repository,
    superseded,
    tags_of,
)
from spotrunner.core.catalogue import TYPES, Architecture
from spotrunner.core.ids import bake_id, is_bake

TF = "tensorflow/tensorflow:2.17.0-gpu"
DIGEST = "sha256:" + "ab" * 32
AT = dt.datetime(2026, 11, 1, tzinfo=dt.timezone.utc)
RECIPE = Recipe(
    container=TF,
    base="us-east-1/ami-0",
    driver=Driver.OPEN,
    architecture=Architecture.X86_64,
    agent_sha256="0" * 64,
)
LABEL = Label(installation="i1", bake="bake:7f3a", recipe=RECIPE, digest=DIGEST)


def an_image(
    id_: str = "ami-1", *, days: int = 0, recipe: Any = None, **changes: Any
) -> BakedImage:
    image = BakedImage(
        id=id_,
        region="us-east-1",
        label=dataclasses.replace(LABEL, recipe=dataclasses.replace(RECIPE, **(recipe or {}))),
        state="available",
        made_at=AT + dt.timedelta(days=days),
        root_device="/dev/sda1",
        disk_gib=80,
    )
    return dataclasses.replace(image, **changes)


def chosen(*images: BakedImage, kind: str = "g4dn.xlarge", **need: Any) -> str | None:
    wanted = Need(**{"container": TF, "disk_gib": 100, **need})
    found = choose(images, TYPES[kind], wanted)
    return found.id if found else None


def test_tags_say_all_of_a_label() -> None:
    assert label_of(dict(tags_of(LABEL))) == LABEL
    assert all(len(value) <= 256 for _, value in tags_of(LABEL))


@pytest.mark.parametrize("missing", [key for key, _ in tags_of(LABEL)])
def test_what_has_not_all_tags_is_none_of_ours(missing: str) -> None:
    assert label_of({key: value for key, value in tags_of(LABEL) if key != missing}) is None


def test_a_driver_of_another_version_is_none_of_ours() -> None:
    assert label_of({**dict(tags_of(LABEL)), "spotrunner:driver": "nouveau"}) is None


def test_the_newest_that_fits_is_taken() -> None:
    images = [an_image("ami-1"), an_image("ami-3", days=2), an_image("ami-2", days=1)]
    assert chosen(*images) == "ami-3"
    assert chosen() is None


@pytest.mark.parametrize(
    ("image", "need"),
    [
        ({"state": "pending"}, {}),
        ({"state": "failed"}, {}),
        ({"recipe": {"container": "tensorflow/tensorflow:2.16.1-gpu"}}, {}),
        ({"recipe": {"driver": Driver.PROPRIETARY}}, {}),
        ({"recipe": {"architecture": Architecture.ARM64}}, {}),
        ({"disk_gib": 101}, {}),
        ({}, {"container": "none"}),  # a job without a container
        ({}, {"container": f"other/tensorflow@{DIGEST}"}),
        ({}, {"container": "tensorflow/tensorflow@sha256:" + "cd" * 32}),
    ],
)
def test_what_does_not_fit_is_not_taken(image: dict[str, Any], need: dict[str, Any]) -> None:
    assert chosen(an_image(**image), **need) is None


@pytest.mark.parametrize(
    "container",
    [TF, f"tensorflow/tensorflow@{DIGEST}", f"{TF}@{DIGEST}"],
)
def test_a_digest_is_as_good_as_the_name(container: str) -> None:
    assert chosen(an_image(), container=container) == "ami-1"


def test_a_v100_takes_only_what_has_its_driver() -> None:
    own = an_image("ami-2", recipe={"driver": Driver.PROPRIETARY})
    assert chosen(an_image(), own, kind="p3.2xlarge") == "ami-2"
    assert chosen(an_image(), kind="p3.2xlarge") is None


@pytest.mark.parametrize(
    ("container", "name"),
    [
        (TF, "tensorflow/tensorflow"),
        ("localhost:5000/a/b", "localhost:5000/a/b"),
        ("localhost:5000/a/b:1.2@sha256:ab", "localhost:5000/a/b"),
        ("busybox:1.36", "busybox"),
    ],
)
def test_a_repository_is_a_name_without_tag_and_digest(container: str, name: str) -> None:
    assert repository(container) == name


def test_superseded_are_the_older_ones_of_a_region_and_what_failed() -> None:
    images = [
        an_image("ami-1"),
        an_image("ami-2", days=1),
        an_image("ami-3", days=2, state="pending"),
        an_image("ami-4", days=2, state="failed"),
        an_image("ami-5", region="us-west-2"),
        an_image("ami-6", recipe={"container": "busybox:1.36"}),
        an_image("ami-7", recipe={"driver": Driver.PROPRIETARY}),
    ]
    assert {image.id for image in superseded(images)} == {"ami-1", "ami-4"}


def test_a_bake_is_no_attempt() -> None:
    assert is_bake(bake_id("7f3a"))
    assert not is_bake("bake-7f3a.1")
    assert not is_bake(None)
