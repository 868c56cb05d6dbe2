"""What outside sources said last, as JSON in the store: written when they speak, read when the
daemon starts while they are silent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

import structlog
from pydantic import (
    AwareDatetime,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from spotrunner.core.hazard import Hazards
from spotrunner.core.history import Span
from spotrunner.core.tracked import Said
from spotrunner.ports import MarketStore, Memo

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Kind(Generic[T]):
    """The memos of one kind, `<name>/<of>`, each a JSON of the same form."""

    def __init__(self, name: str, form: Any) -> None:
        self._name = name
        self._form: TypeAdapter[T] = TypeAdapter(form)

    def key(self, *of: str) -> str:
        return "/".join((self._name, *of))

    def read(self, store: MarketStore, *of: str) -> Said[T] | None:
        """None where there is none, or where it cannot be read: what it held is then asked for as
        if for the first time. Raises Unavailable."""
        memo = store.memo(self.key(*of))
        return None if memo is None else self.parse(memo)

    def etag(self, store: MarketStore, *of: str) -> str | None:
        """Raises Unavailable."""
        memo = store.memo(self.key(*of))
        return memo.etag if memo else None

    def parse(self, memo: Memo) -> Said[T] | None:
        try:
            return Said(at=memo.at, value=self._form.validate_json(memo.body, strict=True))
        except ValidationError as error:
            what = "; ".join(each["msg"] for each in error.errors(include_url=False)[:3])
            log.warning("a memo is damaged and left aside", key=memo.key, error=what)
            return None

    def write(
        self,
        store: MarketStore,
        value: T,
        at: dt.datetime,
        *of: str,
        etag: str | None = None,
    ) -> None:
        """Raises Unavailable."""
        body = self._form.dump_json(value).decode()
        store.remember(Memo(key=self.key(*of), at=at, body=body, etag=etag))


# By region: its zones, name -> id.
ZONES: Kind[Mapping[str, str]] = Kind("zones", dict[str, str])
# By region and type: the names of the zones that offer it.
OFFERED: Kind[list[str]] = Kind("offered", list[str])
# By region and type: micro-dollars an hour, or that AWS lists no price.
ON_DEMAND: Kind[int | None] = Kind("on-demand", PositiveInt | None)
# By region and type: the times of which the store has every spot price.
SPANS: Kind[list[tuple[dt.datetime, dt.datetime]]] = Kind(
    "prices", list[tuple[AwareDatetime, AwareDatetime]]
)
# By GPU: region, zone id, score.
SCORES: Kind[list[tuple[str, str, int]]] = Kind(
    "scores", list[tuple[str, str, Annotated[int, Field(ge=1, le=10)]]]
)
# Region, type, the fraction saved, the band.
ADVICE: Kind[list[tuple[str, str, float, int]]] = Kind(
    "advisor", list[tuple[str, str, float, Annotated[int, Field(ge=0, le=4)]]]
)
# What `policy fit` made of our own launches.
HAZARDS: Kind[Hazards] = Kind("hazards", Hazards)


def read_spans(store: MarketStore, region: str, instance_type: str) -> tuple[Span, ...]:
    """Of which times the store has every spot price of a type in a region, oldest first. Raises
    Unavailable."""
    said = SPANS.read(store, region, instance_type)
    return tuple(Span(begin=begin, end=end) for begin, end in said.value) if said else ()


def write_spans(
    store: MarketStore, spans: tuple[Span, ...], now: dt.datetime, region: str, instance_type: str
) -> None:
    """Raises Unavailable."""
    pairs = [(span.begin, span.end) for span in spans]
    SPANS.write(store, pairs, now, region, instance_type)
