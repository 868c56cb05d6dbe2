"""A folder of recorded prices: one row for each that EC2's DescribeSpotPriceHistory told.

Files `*.csv` and `*.csv.gz` with the columns timestamp_utc, region, az, instance_type, product and
price_usd; `ondemand.csv`, if it is there, has instance_type, region and ondemand_usd.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from spotrunner.core.model import Pool
from spotrunner.core.money import usd
from spotrunner.sim.history import (
    BadHistory,
    History,
    Row,
    from_rows,
    usd_micros,
    with_dear_prices,
)

COLUMNS = ("timestamp_utc", "region", "az", "instance_type", "product", "price_usd")
ON_DEMAND_COLUMNS = ("instance_type", "region", "ondemand_usd")
ON_DEMAND_FILE = "ondemand.csv"
_PRODUCT = "Linux/UNIX"


def read_folder(
    folder: Path,
    types: Collection[str],
    regions: Collection[str],
    on_demand: Mapping[str, int],
) -> History:
    """The pools of these types in these regions. `on_demand` is by type, micro-dollars an hour,
    and wins over the folder's own. Raises BadHistory."""
    if not folder.is_dir():
        raise BadHistory(f"{folder} is no folder: name one with files of recorded prices")
    files = sorted(
        path
        for path in folder.iterdir()
        if path.name.endswith((".csv", ".csv.gz")) and path.name != ON_DEMAND_FILE
    )
    if not files:
        raise BadHistory(f"{folder} has no *.csv and no *.csv.gz: name a folder of recorded prices")
    rows = [row for file in files for row in _rows(file, set(types), set(regions))]
    known = _on_demand(folder / ON_DEMAND_FILE)
    known.update({(region, name): price for region in regions for name, price in on_demand.items()})
    found = from_rows(rows, known, f"the folder {folder.name}")
    told = "--on-demand" if set(types) <= set(on_demand) else f"--on-demand or {ON_DEMAND_FILE}"
    return with_dear_prices(found, told if on_demand else ON_DEMAND_FILE)


def _rows(file: Path, types: Collection[str], regions: Collection[str]) -> Iterator[Row]:
    for line, cells in _lines(file, COLUMNS):
        at, region, zone, kind, product, price = cells
        if kind in types and region in regions and product == _PRODUCT:
            place = f"{file.name}:{line}"
            pool = Pool(region=region, zone=zone, instance_type=kind)
            yield Row(
                pool=pool,
                at=_time(at, place),
                price_usd_micros_hour=usd_micros(price, f"{place}: {pool}"),
                place=place,
            )


def _on_demand(file: Path) -> dict[tuple[str, str], int]:
    if not file.exists():
        return {}
    found: dict[tuple[str, str], int] = {}
    places: dict[tuple[str, str], int] = {}
    for line, (kind, region, price) in _lines(file, ON_DEMAND_COLUMNS):
        micros = usd_micros(price, f"{file.name}:{line}: {kind} in {region}")
        before = found.setdefault((region, kind), micros)
        first = places.setdefault((region, kind), line)
        if before != micros:
            raise BadHistory(
                f"{file.name}:{line}: {kind} in {region} costs {usd(micros)} an hour here and"
                f" {usd(before)} in line {first}: leave one of them"
            )
    return found


def _lines(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The line's number and its cells in the order of `columns`; empty lines are left out."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as raw:
            reader = csv.reader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
            header = next(reader, [])
            missing = [name for name in columns if name not in header]
            if missing:
                raise BadHistory(
                    f"{file.name}: has no column {', '.join(missing)}; expected"
                    f" {', '.join(columns)}"
                )
            places = [header.index(name) for name in columns]
            for cells in reader:
                if cells and len(cells) <= max(places):
                    raise BadHistory(
                        f"{file.name}:{reader.line_num}: expected {len(header)} cells, found"
                        f" {len(cells)}"
                    )
                if cells:
                    yield reader.line_num, [cells[place] for place in places]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise BadHistory(f"{file.name} cannot be read: {error}") from None


def _time(text: str, place: str) -> dt.datetime:
    """UTC, with or without a `Z`: the column's name says so."""
    try:
        at = dt.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        at = at.astimezone(dt.timezone.utc) if at.tzinfo else at.replace(tzinfo=dt.timezone.utc)
    except (ValueError, OverflowError):
        raise BadHistory(
            f"{place}: expected a time such as 2026-11-01T12:00:00Z, found {text!r}"
        ) from None
    return at
