"""The call that holds the ledger against AWS's own spot data feed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from fastapi import APIRouter

from spotrunner.core.datafeed import Damage, Page, hour_of, once, read
from spotrunner.core.model import Attempt, Market, Pool, Quote
from spotrunner.core.reconciled import Compared, Reconciliation, compare
from spotrunner.ports import NotAuthorized, NotFound, ObjectInfo, Objects
from spotrunner.web import errors
from spotrunner.web.deps import MIB, Deps
from spotrunner.web.find import past
from spotrunner.web.moments import Json, when
from spotrunner.web.schema import bucket_and_prefix

SINCE_DAYS = 7
# Ten years of hours: a listing is in the order of time, so a cut one lacks the newest.
MOST_LISTED = 100_000
# A hundred days of hours, some minutes of reading; who asked waits for it.
MOST_FILES = 2_400
MOST_BYTES = 64 * MIB  # packed
# Of the whole account: some hundred megabytes, and ten seconds of work, on a small control host.
MOST_ROWS = 500_000
MOST_DAMAGES = 200
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HOUR = dt.timedelta(hours=1)


class ReconcileCalls:
    """`/reconcile`. `data_feed` is the feed of the settings, as `s3://bucket/prefix/`."""

    def __init__(self, deps: Deps, data_feed: str | None = None) -> None:
        self._deps = deps
        self._data_feed = data_feed

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/reconcile", self.reconcile, methods=["POST"])
        return router

    def reconcile(self, since: str = f"{SINCE_DAYS}d", feed: str = "") -> Json:
        """All spot instances that lived at `since` (a time, or how long ago) or later, each with
        its cost in the ledger and in the feed; `feed` is another than that of the settings. Amounts
        are integer micro-dollars."""
        deps, now = self._deps, self._deps.clock.now()
        begin, source = past(since, now), _source(feed or self._data_feed or "")
        attempts = deps.store.recent_attempts(begin)
        launched = [it.launched_at for it in attempts if it.launched_at is not None]
        shelf = _listed(deps.buckets.objects(source.bucket), source, min([begin, *launched]))
        pages, cut_at = _pages(shelf, source)
        rows = once(row for page in pages for row in page.rows)
        found = compare(
            rows.rows,
            attempts,
            now,
            since=begin,
            quotes=_quotes(deps, attempts, now),
            feed_begin=shelf.begin,
            whole_until=cut_at,
        )
        damages = [damage for page in pages for damage in page.damages]
        return {
            "now": when(now),
            "since": when(begin),
            "feed": source.url,
            "files": len(pages),
            "cut_at": when(cut_at),
            **_told(found),
            "damages": list(_damages(damages, rows.contradictions)),
        }


# -- the files of the feed ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Source:
    bucket: str
    prefix: str  # with its slash, or empty

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


def _source(url: str) -> _Source:
    """Raises ApiError."""
    if not url:
        message = (
            "no data feed is known: name it as s3://BUCKET/PREFIX/, or in the daemon's settings as"
            " `data_feed: {bucket: BUCKET, prefix: PREFIX}`; an account that has none yet switches"
            " it on with: aws ec2 create-spot-datafeed-subscription --bucket BUCKET --prefix PREFIX"
        )
        raise errors.one(errors.UNPROCESSABLE, message, "feed")
    bucket, prefix = bucket_and_prefix(url)
    if _BUCKET.fullmatch(bucket) is None:
        message = f"expected s3://BUCKET/PREFIX/, found {url}"
        raise errors.one(errors.UNPROCESSABLE, message, "feed")
    return _Source(bucket=bucket, prefix=prefix.rstrip("/") + "/" if prefix else "")


@dataclass(frozen=True, kw_only=True)
class _Shelf:
    """The files to read, with their hours. The feed has its first one at `begin`; from `cut_at` on
    there are more than are read (None: all are)."""

    objects: Objects
    files: tuple[tuple[dt.datetime, ObjectInfo], ...]
    begin: dt.datetime
    cut_at: dt.datetime | None


def _listed(objects: Objects, source: _Source, since: dt.datetime) -> _Shelf:
    """Raises ApiError where no feed is."""
    try:
        listed = list(islice(objects.list(source.prefix), MOST_LISTED + 1))
    except NotAuthorized as error:
        raise _not_allowed(source, error) from None
    by_hour = sorted(_hours(listed, source), key=lambda pair: (pair[0], pair[1].key))
    if not by_hour:
        message = f"there is no file of a spot data feed at {source.url}"
        hint = (
            "the first comes some hours after a spot instance ran;"
            " aws ec2 describe-spot-datafeed-subscription says where they are put"
        )
        raise errors.one(errors.CONFLICT, message, hint=hint)
    wanted = [(hour, info) for hour, info in by_hour if hour + _HOUR > since]
    count = _affordable([info for _, info in wanted])
    cut_at = wanted[count][0] if count < len(wanted) else None
    if cut_at is None and len(listed) > MOST_LISTED:
        cut_at = by_hour[-1][0]
    return _Shelf(
        objects=objects,
        files=tuple(wanted[:count]),
        begin=by_hour[0][0],
        cut_at=cut_at,
    )


def _hours(
    listed: Iterable[ObjectInfo], source: _Source
) -> Iterator[tuple[dt.datetime, ObjectInfo]]:
    """Other things may lie beside the feed's files."""
    for info in listed:
        hour = hour_of(info.key[len(source.prefix) :])
        if hour is not None:
            yield hour, info


def _affordable(files: Sequence[ObjectInfo]) -> int:
    """How many of them are read."""
    total = 0
    for index, info in enumerate(files[:MOST_FILES]):
        total += info.bytes
        if total > MOST_BYTES:
            return index
    return min(len(files), MOST_FILES)


def _pages(shelf: _Shelf, source: _Source) -> tuple[list[Page], dt.datetime | None]:
    """As many as there is room for, and the hour from which on files were left out."""
    pages: list[Page] = []
    rows = 0
    for hour, info in shelf.files:
        if rows >= MOST_ROWS:
            return pages, hour
        pages.append(_read(shelf.objects, info, source))
        rows += len(pages[-1].rows)
    return pages, shelf.cut_at


def _read(objects: Objects, info: ObjectInfo, source: _Source) -> Page:
    name = info.key[len(source.prefix) :]
    try:
        return read(objects.get(info.key).body, name)
    except NotFound:
        damage = Damage(file=name, message="it was listed, and is gone; it was left out")
        return Page(damages=(damage,))
    except NotAuthorized as error:
        raise _not_allowed(source, error) from None


def _not_allowed(source: _Source, error: NotAuthorized) -> NotAuthorized:
    return NotAuthorized(
        f"{source.url} cannot be read ({error}); the daemon's role needs s3:ListBucket on"
        f" {source.bucket} and s3:GetObject below the prefix"
    )


# -- prices as we read them --------------------------------------------------------------------


def _quotes(
    deps: Deps, attempts: Sequence[Attempt], now: dt.datetime
) -> Mapping[Pool, Sequence[Quote]]:
    """Of the pools of these attempts, where we look at their regions."""
    by_region: dict[str, set[str]] = {}
    for attempt in attempts:
        pool = attempt.offer.pool
        if attempt.offer.market is Market.SPOT and pool.region in deps.regions:
            by_region.setdefault(pool.region, set()).add(pool.instance_type)
    begin = min([now, *(it.launched_at for it in attempts if it.launched_at is not None)])
    found: dict[Pool, list[Quote]] = {}
    for region, types in by_region.items():
        for quote in _quotes_in(deps, region, sorted(types), begin, now):
            found.setdefault(quote.pool, []).append(quote)
    return found


def _quotes_in(
    deps: Deps, region: str, types: Sequence[str], begin: dt.datetime, now: dt.datetime
) -> Iterator[Quote]:
    """The market keeps zones by their ids; attempts have their names."""
    zone_ids = deps.tracked([region], types)[region].zone_ids
    names = {id_: name for name, id_ in zone_ids.items()}
    for row in deps.market.zone_quotes(region, types, begin, now):
        if row.zone_id in names:
            zone = names[row.zone_id]
            yield Quote(
                pool=Pool(region=region, zone=zone, instance_type=row.instance_type),
                at=row.at,
                price_usd_micros_hour=row.price_usd_micros_hour,
            )


# -- what is told ------------------------------------------------------------------------------


def _told(found: Reconciliation) -> Json:
    return {
        "instances": [_instance(each) for each in found.instances],
        "feed_usd_micros": found.feed_usd_micros,
        "ledger_usd_micros": found.ledger_usd_micros,
        "left_out_usd_micros": found.left_out_usd_micros,
        "difference_usd_micros": found.difference_usd_micros,
        "unexplained_usd_micros": found.unexplained_usd_micros,
        "covered_fraction": found.covered_fraction,
        "on_demand_usd_micros": found.on_demand_usd_micros,
        "unseen_usd_micros": found.unseen_usd_micros,
        "readings": {reading.value: count for reading, count in found.readings.items()},
        "findings": list(found.findings),
        "is_right": found.is_right,
    }


def _instance(each: Compared) -> Json:
    told = dataclasses.asdict(each)
    readings = [reading.value for reading in each.readings]
    return {**told, "standing": each.standing.value, "readings": readings}


def _damages(damages: Sequence[Damage], contradictions: Sequence[str]) -> Iterator[str]:
    told = [*map(str, damages), *contradictions]
    yield from told[:MOST_DAMAGES]
    if (more := len(told) - MOST_DAMAGES) > 0:
        yield f"{more} more"
