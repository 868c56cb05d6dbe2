"""Recorded spot capacity and prices, from a folder: `manifest.json` and one `.npz` for each set.

The manifest is by set: `file`, `gap_seconds` (of its ticks), `nodes` (how many instances a job
needs at once), `set_start_utc`, `sha256` of the file if given, and `zones`. A zone has `zone`,
`region`, `instance_type`, `od_usd_h` and `ticks`; its arrays are `avail/<key>`, how many instances
could be had at the tick, and `price/<key>`, USD an hour, where known.

The format is that of the traces of "Can't Be Late" (NSDI'24) as the benchmark uses them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import itertools
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotrunner.core.model import Pool

# A zone without prices is taken to cost this share of on-demand: what p3.2xlarge cost on average
# in the windows for which prices are known.
CONSTANT_RATIO = 0.9731 / 3.06
MANIFEST = "manifest.json"
_GAP_S = (1.0, 86_400.0)
# A run may have a deadline some years after the last tick: far from where time itself ends.
_YEARS = range(1970, 2200)
_LONGEST_S = 100 * 365 * 86_400.0
_MOST_USD_HOUR = 100_000.0
_MOST = 1e15


class BadTraces(Exception):
    """The folder cannot be used; the message says what is wrong, and where."""


@dataclass(frozen=True, kw_only=True)
class ZoneTrace:
    """Capacity and prices of one pool, one value a tick. `capacity` is how many instances there
    were; `prices_usd_micros_hour` is None where nobody recorded any."""

    key: str
    pool: Pool
    on_demand_usd_micros_hour: int
    capacity: bytes
    prices_usd_micros_hour: tuple[int, ...] | None

    def up(self, nodes: int) -> bytes:
        """1 for each tick at which `nodes` instances could be had, else 0."""
        return bytes(there >= nodes for there in self.capacity)

    def prices(self) -> tuple[int, ...]:
        """Micro-dollars an hour at each tick: the constant ratio where none were recorded."""
        if self.prices_usd_micros_hour is not None:
            return self.prices_usd_micros_hour
        return (round(self.on_demand_usd_micros_hour * CONSTANT_RATIO),) * len(self.capacity)


@dataclass(frozen=True, kw_only=True)
class TraceSet:
    """Zones that were watched together. Tick `k` is from `start` + k * gap_s on."""

    name: str
    start: dt.datetime
    gap_s: float
    nodes: int
    zones: tuple[ZoneTrace, ...]

    def at(self, tick: int) -> dt.datetime:
        return self.start + dt.timedelta(seconds=tick * self.gap_s)

    def capacity_steps(self, zone: ZoneTrace) -> tuple[tuple[dt.datetime, bool], ...]:
        """When the zone's capacity for the set's nodes came and went, the first tick first."""
        return tuple((self.at(tick), bool(up)) for tick, up in _changes(zone.up(self.nodes)))

    def price_steps(self, zone: ZoneTrace) -> tuple[tuple[dt.datetime, int], ...]:
        """When the zone's price changed, micro-dollars an hour, the first tick first."""
        return tuple((self.at(tick), price) for tick, price in _changes(zone.prices()))


def _changes(values: bytes | tuple[int, ...]) -> list[tuple[int, int]]:
    found, tick = [], 0
    for value, run in itertools.groupby(values):
        found.append((tick, value))
        tick += sum(1 for _ in run)
    return found


# -- reading -----------------------------------------------------------------------------------


def read(folder: Path) -> tuple[TraceSet, ...]:
    """All sets of a folder, in the manifest's order. Raises BadTraces."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise BadTraces(f"{folder} has no {MANIFEST}: name a folder of traces") from None
    except OSError as error:
        raise BadTraces(f"{folder / MANIFEST} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadTraces(f"{folder / MANIFEST} is no JSON: {error}") from None
    if not isinstance(manifest, dict) or not manifest:
        raise BadTraces(f"{folder / MANIFEST} names no sets: it should be an object by set")
    return tuple(_read_set(folder, name, said) for name, said in manifest.items())


def _read_set(folder: Path, name: str, said: Any) -> TraceSet:
    said = _Said(name, said)
    gap_s = said.number("gap_seconds")
    if not _GAP_S[0] <= gap_s <= _GAP_S[1]:
        raise BadTraces(f"{name}: gap_seconds is {gap_s:g}, not between 1 s and a day")
    nodes = said.number("nodes")
    if nodes < 1 or nodes != int(nodes):
        raise BadTraces(f"{name}: nodes is {nodes:g}, not a number of instances")
    start = _start(name, said.text("set_start_utc"))
    arrays = _arrays(folder, name, said)
    zones = said.mapping("zones")
    if not zones:
        raise BadTraces(f"{name}: the manifest names no zones")
    found = tuple(
        _zone(name, key, _Said(f"{name}, {key}", it), arrays) for key, it in zones.items()
    )
    lengths = {len(zone.capacity) for zone in found}
    if len(lengths) > 1:
        raise BadTraces(f"{name}: its zones have unequal lengths, {sorted(lengths)} ticks")
    _check_length(name, max(lengths), gap_s)
    _check_gap(name, said, gap_s)
    return TraceSet(name=name, start=start, gap_s=gap_s, nodes=int(nodes), zones=found)


def _arrays(folder: Path, name: str, said: _Said) -> Mapping[str, Any]:
    try:
        import numpy as np
    except ModuleNotFoundError:
        raise BadTraces("reading traces needs numpy: pip install 'spotrunner[planner]'") from None
    path = folder / said.text("file")
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise BadTraces(f"{name}: {path} cannot be read: {error.strerror}") from None
    wanted, got = said.said.get("sha256"), hashlib.sha256(packed).hexdigest()
    if wanted is not None and wanted != got:
        raise BadTraces(f"{name}: {path} is not the file of the manifest: its sha256 is {got}")
    try:
        if not zipfile.is_zipfile(io.BytesIO(packed)):
            raise ValueError("it is another file, or cut short")
        with np.load(io.BytesIO(packed), allow_pickle=False) as loaded:
            return {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadTraces(f"{name}: {path} is no npz: {error}") from None


def _zone(name: str, key: str, said: _Said, arrays: Mapping[str, Any]) -> ZoneTrace:
    if f"avail/{key}" not in arrays:
        raise BadTraces(f"{name}: the manifest names {key}, and the file has no avail/{key}")
    capacity = arrays[f"avail/{key}"]
    if capacity.ndim != 1 or capacity.dtype.kind not in "bui" or not len(capacity):
        raise BadTraces(f"{name}: avail/{key} is not a row of whole numbers")
    if capacity.min() < 0 or capacity.max() > 255:
        raise BadTraces(f"{name}: avail/{key} is not between 0 and 255")
    prices = arrays.get(f"price/{key}")
    if prices is not None and (prices.ndim != 1 or prices.dtype.kind not in "uif"):
        raise BadTraces(f"{name}: price/{key} is not a row of numbers")
    if prices is not None and prices.shape != capacity.shape:
        raise BadTraces(
            f"{name}: avail/{key} has {len(capacity)} ticks and price/{key} {len(prices)}"
        )
    on_demand = said.number("od_usd_h")
    if not 1e-6 <= on_demand <= _MOST_USD_HOUR:
        raise BadTraces(f"{name}: od_usd_h of {key} is {on_demand:g}, not a price")
    ticks = said.said.get("ticks", len(capacity))
    if ticks != len(capacity):
        raise BadTraces(f"{name}: avail/{key} has {len(capacity)} ticks, the manifest says {ticks}")
    pool = Pool(
        region=said.text("region"),
        zone=said.text("zone"),
        instance_type=said.text("instance_type"),
    )
    return ZoneTrace(
        key=key,
        pool=pool,
        on_demand_usd_micros_hour=round(on_demand * 1_000_000),
        capacity=capacity.astype("uint8").tobytes(),
        prices_usd_micros_hour=None if prices is None else _micros(name, key, prices.tolist()),
    )


def _micros(name: str, key: str, prices_usd: list[float]) -> tuple[int, ...]:
    for tick, price in enumerate(prices_usd):
        if not math.isfinite(price) or price <= 0:
            raise BadTraces(f"{name}: price/{key} is {price:g} at tick {tick}, not a price")
    return tuple(round(price * 1_000_000) for price in prices_usd)


def _start(name: str, text: str) -> dt.datetime:
    try:
        at = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise BadTraces(f"{name}: set_start_utc is {text!r}, not a time") from None
    if at.year not in _YEARS:
        raise BadTraces(
            f"{name}: set_start_utc is {text!r}, not between {_YEARS.start} and {_YEARS.stop}"
        )
    # The field's name says UTC; an offset says otherwise, and is believed.
    return at.astimezone(dt.timezone.utc) if at.tzinfo else at.replace(tzinfo=dt.timezone.utc)


def _check_length(name: str, ticks: int, gap_s: float) -> None:
    if ticks * gap_s > _LONGEST_S:
        raise BadTraces(f"{name}: {ticks} ticks of {gap_s:g} s are more than a hundred years")


def _check_gap(name: str, said: _Said, gap_s: float) -> None:
    """A source that was thinned out says so: its gap and ours have to agree."""
    fields = ("source_gap_seconds", "downsample")
    if any(said.said.get(field) is None for field in fields):
        return
    source_s, thinned = (said.number(field) for field in fields)
    if abs(source_s * thinned - gap_s) > 1e-6:
        raise BadTraces(
            f"{name}: gap_seconds is {gap_s:g}, but {thinned:g} ticks of the source are"
            f" {source_s * thinned:g} s"
        )


@dataclass(frozen=True)
class _Said:
    """What the manifest says in one place; a field that is missing or odd is named with it."""

    where: str
    said: Any

    def __post_init__(self) -> None:
        if not isinstance(self.said, dict):
            raise BadTraces(f"{self.where}: the manifest should have an object here")

    def number(self, field: str) -> float:
        value = self.said.get(field)
        # JSON has no NaN and no Infinity, and what reads it takes them all the same.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) < _MOST:
            raise BadTraces(f"{self.where}: {field} is {value!r} in the manifest, not a number")
        return float(value)

    def text(self, field: str) -> str:
        value = self.said.get(field)
        if not isinstance(value, str) or not value:
            raise BadTraces(f"{self.where}: {field} is {value!r} in the manifest, not a text")
        return value

    def mapping(self, field: str) -> Mapping[str, Any]:
        value = self.said.get(field)
        if not isinstance(value, dict):
            raise BadTraces(f"{self.where}: {field} is not an object in the manifest")
        return value
