"""What is made of the rows of the spot price history, good and bad, whatever their pages are."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from structlog.testing import capture_logs

from spotrunner.adapters.aws.prices import AwsPrices, price_usd_micros
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.model import Pool, Quote
from spotrunner.lab.endpoint.server import HttpServer
from spotrunner.ports import Unavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REGION, KIND = "us-east-1", "g4dn.xlarge"
NOON = dt.datetime(2026, 11, 3, 12, tzinfo=dt.timezone.utc)


def row(price: str, minute: int = 0, zone: str = "us-east-1a") -> str:
    at = NOON + dt.timedelta(minutes=minute)
    return (
        f"<item><instanceType>{KIND}</instanceType>"
        "<productDescription>Linux/UNIX</productDescription>"
        f"<spotPrice>{price}</spotPrice><timestamp>{at:%Y-%m-%dT%H:%M:%S}.000Z</timestamp>"
        f"<availabilityZone>{zone}</availabilityZone></item>"
    )


def quote(price_usd_micros: int, minute: int = 0, zone: str = "us-east-1a") -> Quote:
    return Quote(
        pool=Pool(region=REGION, zone=zone, instance_type=KIND),
        at=NOON + dt.timedelta(minutes=minute),
        price_usd_micros_hour=price_usd_micros,
    )


class Pages:
    """Answers DescribeSpotPriceHistory with these pages of rows, one a call, and keeps the
    questions."""

    def __init__(self, pages: Sequence[Sequence[str]]) -> None:
        self._pages = pages
        self.asked: list[dict[str, str]] = []

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
        self.asked.append({name: values[0] for name, values in parse_qs(body).items()})
        number = int(self.asked[-1].get("NextToken", "0"))
        more = number + 1 < len(self._pages)
        text = (
            '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
            f"<spotPriceHistorySet>{''.join(self._pages[number])}</spotPriceHistorySet>"
            f"<nextToken>{number + 1 if more else ''}</nextToken>"
            "</DescribeSpotPriceHistoryResponse>"
        )
        start("200 OK", [("Content-Type", "text/xml")])
        return [text.encode()]


@contextmanager
def asked(*pages: Sequence[str]) -> Iterator[tuple[Pages, tuple[Quote, ...]]]:
    """What a price history of these pages is read as."""
    app = Pages(pages)
    server = HttpServer(app)
    server.start()
    aws = Aws(endpoint_url=server.url)
    try:
        yield app, AwsPrices(aws).quotes(REGION, [KIND], NOON)
    finally:
        aws.close()
        server.close()


def test_every_page_is_read_and_an_empty_one_is_not_the_end() -> None:
    pages: tuple[Any, ...] = (
        [row("0.3", 30)],
        [],
        [row("0.2", 20), row("0.1", 10)],
        [],
        [row("0.05", -60)],
    )
    with asked(*pages) as (app, quotes):
        assert quotes == (
            quote(50_000, -60),
            quote(100_000, 10),
            quote(200_000, 20),
            quote(300_000, 30),
        )
        assert len(app.asked) == 5


def test_only_linux_is_asked_for_and_from_the_time_on_that_is_wanted() -> None:
    with asked([]) as (app, quotes):
        assert quotes == ()
        (question,) = app.asked
    assert question["ProductDescription.1"] == "Linux/UNIX"
    assert "ProductDescription.2" not in question
    assert question["InstanceType.1"] == KIND
    assert question["StartTime"].startswith("2026-11-03T12:00:00")
    assert question["MaxResults"] == "1000"


def test_rows_out_of_order_and_twice_are_put_right() -> None:
    first, second = row("0.1", 1), row("0.2", 2)
    with asked([first, second], [first, row("0.3", 0), second]) as (_, quotes):
        assert quotes == (quote(300_000, 0), quote(100_000, 1), quote(200_000, 2))


@pytest.mark.parametrize(
    "price",
    ["0", "0.0000000", "-0.1", "NaN", "sNaN", "Infinity", "-Infinity", "1e999999", "", "free"],
)
def test_a_row_whose_price_is_none_is_left_out_and_logged(price: str) -> None:
    with (
        capture_logs() as logged,
        asked([row("0.1"), row(price, 5, "us-east-1b")], [row("0.2", 7)]) as (_, quotes),
    ):
        assert quotes == (quote(100_000), quote(200_000, 7))
    (line,) = logged
    assert line["log_level"] == "warning"
    assert (line["region"], line["zone"], line["instance_type"], line["value"]) == (
        REGION,
        "us-east-1b",
        KIND,
        price,
    )


@pytest.mark.parametrize(
    ("usd", "micros"),
    [
        ("0.526", 526_000),
        ("0.1578000000", 157_800),
        ("0.0000001", 1),
        ("3", 3_000_000),
        ("0.15780001", 157_801),
        ("1e-3", 1_000),
        ("999999", 999_999_000_000),
        ("1000000", None),
        ("0", None),
        ("-1", None),
        ("NaN", None),
        ("1.2.3", None),
    ],
)
def test_dollars_in_decimals_are_micro_dollars(usd: str, micros: int | None) -> None:
    assert price_usd_micros(usd) == micros


# -- answers of another form -------------------------------------------------------------------


def answering(body: str, content_type: str) -> Any:
    def app(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
        start("200 OK", [("Content-Type", content_type)])
        return [body.encode()]

    return app


@contextmanager
def prices_that_say(body: str, content_type: str = "text/xml") -> Iterator[AwsPrices]:
    server = HttpServer(answering(body, content_type))
    server.start()
    aws = Aws(endpoint_url=server.url)
    try:
        yield AwsPrices(aws)
    finally:
        aws.close()
        server.close()


def a_product(dimension: object) -> str:
    return json.dumps({"terms": {"OnDemand": {"offer": {"priceDimensions": {"rate": dimension}}}}})


@pytest.mark.parametrize(
    "product",
    [
        "",
        "not json",
        "[]",
        '{"terms": []}',
        '{"terms": {"OnDemand": {"offer": {}}}}',
        a_product({}),
        a_product({"unit": "Hrs", "pricePerUnit": None}),
        a_product({"unit": "Hrs", "pricePerUnit": {"USD": None}}),
        a_product({"pricePerUnit": {"USD": "0.5"}}),
    ],
)
def test_a_product_of_another_form_is_an_answer_that_did_not_come(product: str) -> None:
    with (
        prices_that_say(json.dumps({"PriceList": [product]}), "application/x-amz-json-1.1") as told,
        pytest.raises(Unavailable, match="cannot be read"),
    ):
        told.on_demand(REGION, [KIND])


def test_an_answer_that_lacks_its_parts_is_one_that_did_not_come() -> None:
    """As of a proxy that answers in AWS's place."""
    with prices_that_say("<Welcome><please/></Welcome>") as told:
        for ask in (
            lambda: told.zones(REGION),
            lambda: told.offered(REGION, [KIND]),
            lambda: told.quotes(REGION, [KIND], NOON),
            lambda: told.scores([REGION], [KIND, "g5.xlarge", "p3.2xlarge"]),
        ):
            with pytest.raises(Unavailable, match="cannot be read"):
                ask()


def test_a_row_that_lacks_its_zone_is_an_answer_that_did_not_come() -> None:
    whole = row("0.1", zone="")
    with (
        pytest.raises(Unavailable, match="cannot be read"),
        asked([whole.replace("<availabilityZone></availabilityZone>", "")]),
    ):
        pass
