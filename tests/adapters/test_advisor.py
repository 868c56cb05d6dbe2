"""The Spot Advisor's file over a real connection: what is read, and what is refused with words."""

from __future__ import annotations

import datetime as dt
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from spotrunner.adapters.advisor import URL, SpotAdvisor, parse_advice
from spotrunner.lab.endpoint.advisor import PATH
from spotrunner.lab.endpoint.server import HttpServer
from spotrunner.ports import Advice, AdvisorPage, Unavailable
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.refusals import server_error
from spotrunner.sim.setups import G4DN, G5, P3
from tests.adapters.conftest import Lab

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FILE = {
    "global_rate": "<10%",
    "ranges": [{"index": 0, "label": "<5%", "dots": 0, "max": 5}],
    "instance_types": {G4DN: {"cores": 4, "ram_gb": 16.0, "emr": True}},
    "spot_advisor": {
        "us-east-1": {
            "Linux": {G4DN: {"s": 71, "r": 3}, P3: {"s": -62, "r": 4}},
            "Windows": {G4DN: {"s": 50, "r": 1}},
        },
        "eu-west-1": {"Linux": {G4DN: {"s": 60.5, "r": 0}}},
        "mx-central-1": {"Windows": {}},
    },
}
ADVICE = {
    ("us-east-1", G4DN): Advice(saved_fraction=0.71, band=3),
    ("us-east-1", P3): Advice(saved_fraction=-0.62, band=4),
    ("eu-west-1", G4DN): Advice(saved_fraction=0.605, band=0),
}


class Site:
    """Serves one file, and keeps the etags that it was asked about."""

    def __init__(self) -> None:
        self.body = json.dumps(FILE).encode()
        self.etag: str | None = '"v1"'
        self.statuses: list[int] = []  # of the next answers, instead of what is there
        self.headers: list[tuple[str, str]] = []
        self.asked: list[str | None] = []

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        given = environ.get("HTTP_IF_NONE_MATCH")
        self.asked.append(given)
        headers = [*self.headers, *([("ETag", self.etag)] if self.etag else [])]
        status = HTTPStatus(self.statuses.pop(0)) if self.statuses else HTTPStatus.OK
        if given is not None and given == self.etag and status is HTTPStatus.OK:
            status = HTTPStatus.NOT_MODIFIED
        start(f"{status.value} {status.phrase}", headers)
        return [self.body] if status is HTTPStatus.OK else []


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    server = HttpServer(site)
    server.start()
    yield f"{server.url}/spot-advisor-data.json"
    server.close()


def test_the_file_is_read_by_region_and_type(url: str) -> None:
    assert SpotAdvisor(url=url).read(None) == AdvisorPage(etag='"v1"', advice=ADVICE)


def test_a_file_that_is_known_is_not_sent_again(url: str, site: Site) -> None:
    advisor = SpotAdvisor(url=url)
    page = advisor.read(None)
    assert page is not None
    assert advisor.read(page.etag) is None
    site.etag = '"v2"'
    newer = advisor.read(page.etag)
    assert newer is not None
    assert newer.etag == '"v2"'
    assert site.asked == [None, '"v1"', '"v1"']


def test_a_file_without_an_etag_is_known_by_its_content(url: str, site: Site) -> None:
    site.etag = None
    advisor = SpotAdvisor(url=url)
    page = advisor.read(None)
    assert page is not None
    assert advisor.read(page.etag) is None
    site.body = site.body.replace(b"71", b"72")
    assert advisor.read(page.etag) is not None


def test_one_error_of_the_server_is_not_noticed(url: str, site: Site) -> None:
    site.statuses = [503]
    page = SpotAdvisor(url=url).read(None)
    assert page is not None
    assert page.advice == ADVICE


@pytest.mark.parametrize("status", [301, 400, 403, 404, 500, 503])
def test_an_error_says_which(url: str, site: Site, status: int) -> None:
    site.statuses = [status] * 10
    site.headers = [("Retry-After", "3600"), ("Location", "/elsewhere")]
    with pytest.raises(Unavailable, match=rf"{url} cannot be used: the answer was {status}"):
        SpotAdvisor(url=url).read('"v1"')
    assert len(site.asked) <= 2


def test_not_modified_of_nothing_is_no_answer(url: str, site: Site) -> None:
    site.statuses = [304]
    with pytest.raises(Unavailable, match="304"):
        SpotAdvisor(url=url).read(None)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is no JSON"),
        (b"<html>Access Denied</html>", "it is no JSON"),
        (b"\xff\xfe{}", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[]", "the file is missing or no table"),
        (b"{}", "spot_advisor is missing or no table"),
        (b'{"spot_advisor": {}}', "spot_advisor names no region"),
        (b'{"spot_advisor": {"us-east-1": []}}', "us-east-1 is missing or no table"),
        (b'{"spot_advisor": {"us-east-1": {"Linux": 1}}}', "us-east-1, Linux is missing or no"),
        (b'{"spot_advisor": {"us-east-1": {"Linux": {"g5.xlarge": 1}}}}', "g5.xlarge in us-east-1"),
    ],
)
def test_what_is_not_the_file_says_what_is_wrong(
    url: str, site: Site, body: bytes, why: str
) -> None:
    site.body = body
    with pytest.raises(Unavailable, match=rf"cannot be used: {why}"):
        SpotAdvisor(url=url).read(None)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({}, "s is None, no percentage"),
        ({"s": 70}, "r is None, none of 0 to 4"),
        ({"r": 1}, "s is None, no percentage"),
        ({"s": "70", "r": 1}, "s is '70', no percentage"),
        ({"s": True, "r": 1}, "s is True, no percentage"),
        ({"s": float("nan"), "r": 1}, "s is nan, no percentage"),
        ({"s": 101, "r": 1}, "s is 101, no percentage"),
        ({"s": 70, "r": 5}, "r is 5, none of 0 to 4"),
        ({"s": 70, "r": -1}, "r is -1, none of 0 to 4"),
        ({"s": 70, "r": 1.0}, "r is 1.0, none of 0 to 4"),
        ({"s": 70, "r": False}, "r is False, none of 0 to 4"),
    ],
)
def test_a_row_that_cannot_be_names_itself(row: dict[str, Any], why: str) -> None:
    body = json.dumps({"spot_advisor": {"us-east-1": {"Linux": {G5: row}}}}).encode()
    with pytest.raises(ValueError, match=rf"{G5} in us-east-1: {why}"):
        dict(parse_advice(body))


def test_a_file_that_is_far_too_large_is_not_read(url: str, site: Site) -> None:
    site.body = b" " * 3_000_000
    with pytest.raises(Unavailable, match="larger than 1000000 bytes"):
        SpotAdvisor(url=url, most_bytes=1_000_000).read(None)


def test_nobody_there(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match=f"http://127.0.0.1:{port}"):
        SpotAdvisor(url=f"http://127.0.0.1:{port}/a.json").read(None)


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Unavailable, match="timed out"):
            SpotAdvisor(url=f"http://127.0.0.1:{port}/a.json", read_timeout_s=0.05).read(None)


def test_a_server_that_drips_is_not_waited_for() -> None:
    """Each byte comes in time; the file never would."""
    ended = threading.Event()

    def drip(environ: WSGIEnvironment, start: StartResponse) -> Iterator[bytes]:
        start("200 OK", [("Content-Length", "1000000")])
        while not ended.wait(0.01):
            yield b" " * 65_536

    server = HttpServer(drip)
    server.start()
    try:
        with pytest.raises(Unavailable, match=r"did not come within 0\.05 s"):
            SpotAdvisor(url=f"{server.url}/a.json", whole_timeout_s=0.05).read(None)
    finally:
        ended.set()
        server.close()


def test_awss_own_file_is_the_default() -> None:
    assert URL == "https://spot-bid-advisor.s3.amazonaws.com/spot-advisor-data.json"


# -- the lab's ---------------------------------------------------------------------------------


def test_the_lab_serves_a_file_of_its_own_weather(lab: Lab) -> None:
    advisor = SpotAdvisor(url=lab.endpoint.url + PATH)
    page = advisor.read(None)
    assert page is not None
    assert {region for region, _ in page.advice} == {"us-east-1", "eu-west-1"}
    # 150,000 and more of 526,000, in three zones that never dried up
    assert page.advice["us-east-1", G4DN] == Advice(saved_fraction=0.7, band=0)
    assert ("eu-west-1", P3) not in page.advice
    assert advisor.read(page.etag) is None
    lab.clock.advance(3600)
    assert advisor.read(page.etag) is None, "a file a day"


def test_a_day_later_the_lab_has_another_file(lab: Lab) -> None:
    advisor = SpotAdvisor(url=lab.endpoint.url + PATH)
    page = advisor.read(None)
    assert page is not None
    for pool in lab.world.pools.offered("us-east-1"):
        lab.world.set_price(lab.clock.now(), pool, lab.world.pools.on_demand(pool))
    lab.clock.advance(dt.timedelta(days=1).total_seconds())
    newer = advisor.read(page.etag)
    assert newer is not None
    assert newer.advice["us-east-1", G4DN].saved_fraction == 0


def test_the_labs_file_can_be_down(lab: Lab) -> None:
    advisor = SpotAdvisor(url=lab.endpoint.url + PATH)
    lab.world.script(Fault(action="SpotAdvisor", error=server_error(), times=2))
    with pytest.raises(Unavailable, match="500"):
        advisor.read(None)
    lab.world.script(Fault(action="SpotAdvisor", lose=Lose.BEFORE, times=2))
    with pytest.raises(Unavailable):
        advisor.read(None)
    assert advisor.read(None) is not None
