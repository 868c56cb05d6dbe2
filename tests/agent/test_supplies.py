"""Image and data of a job come side by side, and neither waits for what the other cannot have."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from spotrunner.agent import words as w
from spotrunner.agent.images import Image, NoImage, PullFailed
from spotrunner.agent.supplies import Supplies
from spotrunner.core.model import JobSpec
from spotrunner.ports import GaveWay, Misconfigured
from tests.agent.world import a_spec

PATIENCE_S = 20.0
IMAGE = Image(name="tf:1", digest="sha256:ab", baked=False)


class Sources:
    """An image that comes after its `failures`, and data; each when it may."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.data_fails: Exception | None = None
        self.image_may, self.data_may = threading.Event(), threading.Event()
        self.pulls = 0
        self.copies = False
        self.told: list[w.Event] = []

    def image(self, _: JobSpec) -> Image:
        assert self.image_may.wait(PATIENCE_S)
        self.pulls += 1
        if self.failures:
            raise self.failures.pop(0)
        return IMAGE

    def data(self, _: JobSpec, may_go_on: Callable[[], bool]) -> None:
        self.copies = True
        try:
            while not self.data_may.wait(0.01):
                if not may_go_on():
                    raise GaveWay("not needed")
            if self.data_fails is not None:
                raise self.data_fails
        finally:
            self.copies = False

    def fetch(self) -> None:
        Supplies(image=self.image, data=self.data, put=self.put, pull_again_s=0.01).fetch(a_spec())

    def put(self, event: w.Event) -> None:
        """Whoever is there first lets the other one come."""
        self.told.append(event)
        self.image_may.set()
        self.data_may.set()


@pytest.fixture
def sources() -> Sources:
    return Sources()


@pytest.mark.parametrize("first", ["image", "data"])
def test_whichever_is_there_first_is_told_first(sources: Sources, first: str) -> None:
    (sources.image_may if first == "image" else sources.data_may).set()
    sources.fetch()
    there = [w.ImageThere(digest="sha256:ab", baked=False), w.DataThere()]
    assert sources.told == (there if first == "image" else there[::-1])


def test_an_image_that_nobody_has_ends_the_copy(sources: Sources) -> None:
    sources.image_may.set()
    sources.failures = [NoImage("manifest unknown")]
    with pytest.raises(NoImage):
        sources.fetch()
    assert not sources.copies, "it would race with the next one"
    assert sources.told == []


def test_data_that_nobody_can_have_waits_for_no_image(sources: Sources) -> None:
    sources.data_may.set()
    sources.data_fails = Misconfigured("there is no bucket")
    with pytest.raises(Misconfigured):
        sources.fetch()
    assert sources.pulls == 0
    sources.image_may.set()


def test_a_pull_that_fails_in_passing_is_tried_again_beside_the_copy(sources: Sources) -> None:
    sources.image_may.set()
    sources.failures = [PullFailed("docker pull: no answer")] * 3
    sources.fetch()
    assert sources.pulls == 4


def test_once_the_copy_is_done_the_way_up_tells_what_is_missing(sources: Sources) -> None:
    sources.data_may.set()
    sources.image_may.set()
    sources.failures = [PullFailed("toomanyrequests")] * 1000
    with pytest.raises(PullFailed):
        sources.fetch()
    assert sources.told == [w.DataThere()]
