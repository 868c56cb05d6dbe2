"""AWS's Spot Instance data feed: what EC2 itself says that every spot instance-hour cost.

Source: AWS, EC2 user guide, "Track your Spot Instance costs using the Spot Instance data feed".
Files lie in a bucket as `<prefix>/<account>.YYYY-MM-DD-HH.n.<unique>.gz`, with the hour of the
usage in UTC; each line is one instance-hour, its fields apart by tabs. An account has one feed for
all regions, and it tells of spot instances alone: no on-demand, no disks.

What cannot be read is named and left out, never guessed: this is somebody's bill.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby

# EC2 begins another file at 50 MB.
MOST_FILE_BYTES = 64 << 20
# A file that is wrong as a whole says so in its first lines.
MOST_PROBLEMS_A_FILE = 20
_VERSION = "1.0"
_NEEDED = ("Timestamp", "UsageType", "InstanceID", "MarketPrice", "Charge", "Version")
_FIELDS = (*_NEEDED[:2], "Operation", "InstanceID", "MyBidID", "MyMaxPrice", *_NEEDED[3:])
_NAME = re.compile(r"\d{12}\.(\d{4}-\d\d-\d\d-\d\d)\.\d+\.[^./]+\.gz")
_USD = re.compile(r"(\d{1,9})(?:\.(\d{1,12}))? USD")
_USAGE = re.compile(r"(?:[A-Z0-9]+-)?SpotUsage(?::(?P<type>[a-z0-9-]+\.[a-z0-9-]+))?")
_MICRO_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Row:
    """One instance-hour. `at` is the time whose price was charged, `market_usd_micros_hour` the
    spot price at that time, `charge_usd_micros` what was charged. The feed prints charges with as
    few as three decimals: `coarse_usd_micros` is how far the true one may be from it. A later
    delivery of the same hour has a higher `version`."""

    file: str
    line: int
    at: dt.datetime
    instance_id: str
    instance_type: str
    market_usd_micros_hour: int
    charge_usd_micros: int
    coarse_usd_micros: int
    version: int


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What could not be read, and so counts nowhere. Without a line it is the whole file."""

    file: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Page:
    """One file."""

    rows: tuple[Row, ...] = ()
    damages: tuple[Damage, ...] = ()


def hour_of(name: str) -> dt.datetime | None:
    """The hour of usage that a file of this name (without its prefix) tells of; None for what is no
    file of a data feed."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        hour = dt.datetime.strptime(found[1], "%Y-%m-%d-%H")  # noqa: DTZ007 - UTC, by the format
    except ValueError:
        return None
    return hour.replace(tzinfo=dt.timezone.utc)


def read(body: bytes, name: str) -> Page:
    """A file as it lies in the bucket."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            raw = packed.read(MOST_FILE_BYTES + 1)
        if len(raw) > MOST_FILE_BYTES:
            return _unread(name, f"it holds more than {MOST_FILE_BYTES >> 20} MiB")
        return parse(raw.decode("utf-8"), name)
    except (OSError, EOFError, zlib.error) as error:
        return _unread(name, f"it cannot be unpacked ({error})")
    except UnicodeDecodeError:
        return _unread(name, "it is not UTF-8 text")


def _unread(name: str, what: str, line: int | None = None) -> Page:
    return Page(damages=(Damage(file=name, message=f"{what}; it was left out", line=line),))


def parse(text: str, name: str) -> Page:
    """A file's text; `name` is told with what is wrong."""
    columns: Sequence[str] = _FIELDS
    rows: list[Row] = []
    damages: list[Damage] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#Version:") and line[len("#Version:") :].strip() != _VERSION:
            what = f"expected version {_VERSION} of the format, found {line}"
            return _unread(name, what, number)
        if line.startswith("#Fields:"):
            columns = line[len("#Fields:") :].split()
            if missing := [field for field in _NEEDED if field not in columns]:
                return _unread(name, f"the format lacks {', '.join(missing)}", number)
        if line.startswith("#") or not line.strip():
            continue
        try:
            rows.append(_row(_fields(line, columns), name, number))
        except ValueError as error:
            damages.append(Damage(file=name, line=number, message=str(error)))
    return Page(rows=tuple(rows), damages=tuple(_bounded(name, damages)))


def _bounded(name: str, damages: Sequence[Damage]) -> Iterator[Damage]:
    yield from damages[:MOST_PROBLEMS_A_FILE]
    if (more := len(damages) - MOST_PROBLEMS_A_FILE) > 0:
        yield Damage(file=name, message=f"{more} more lines of it cannot be read")


# -- one line ----------------------------------------------------------------------------------


def _fields(line: str, columns: Sequence[str]) -> Mapping[str, str]:
    values = line.split("\t")
    if len(values) != len(columns):
        raise ValueError(f"expected {len(columns)} fields with tabs between, found {len(values)}")
    return dict(zip(columns, (value.strip() for value in values), strict=True))


def _row(fields: Mapping[str, str], file: str, line: int) -> Row:
    """Raises ValueError."""
    charge, coarse = _micros(fields, "Charge")
    return Row(
        file=file,
        line=line,
        at=_at(fields["Timestamp"]),
        instance_id=_matched(fields, "InstanceID", r"i-\S+"),
        instance_type=_type(fields["UsageType"]),
        market_usd_micros_hour=_micros(fields, "MarketPrice")[0],
        charge_usd_micros=charge,
        coarse_usd_micros=coarse,
        version=int(_matched(fields, "Version", r"[0-9]{1,9}")),
    )


def _matched(fields: Mapping[str, str], name: str, pattern: str) -> str:
    value = fields[name]
    if re.fullmatch(pattern, value) is None:
        raise ValueError(f"{value!r} is no {name}")
    return value


def _at(value: str) -> dt.datetime:
    try:
        at = dt.datetime.strptime(value, "%Y-%m-%d %H:%M:%S UTC")  # noqa: DTZ007 - the text says it
    except ValueError:
        raise ValueError(f"{value!r} is no Timestamp such as 2023-12-09 07:13:47 UTC") from None
    return at.replace(tzinfo=dt.timezone.utc)


def _type(usage: str) -> str:
    found = _USAGE.fullmatch(usage)
    if found is None:
        raise ValueError(f"{usage!r} is no UsageType of a spot instance")
    return found["type"] or "m1.small"  # the one type that the feed does not name


def _micros(fields: Mapping[str, str], name: str) -> tuple[int, int]:
    """Micro-dollars, half up, and how far the printed amount may be from the true one."""
    found = _USD.fullmatch(fields[name])
    if found is None:
        raise ValueError(f"{fields[name]!r} is no {name} such as 0.160 USD")
    decimals = found[2] or ""
    micros = Decimal(f"{found[1]}.{decimals or 0}").scaleb(_MICRO_DIGITS)
    last_digit = 10 ** max(0, _MICRO_DIGITS - len(decimals))
    return int(micros.quantize(Decimal(1), ROUND_HALF_UP)), -(-last_digit // 2)


# -- many files --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Each instance-hour once, in the order of time; `contradictions` are rows of one delivery that
    differ in what the same hour cost."""

    rows: tuple[Row, ...] = ()
    contradictions: tuple[str, ...] = ()


def once(rows: Iterable[Row]) -> Rows:
    """The same instance-hour may lie in several files. The highest version of it counts; where that
    one contradicts itself, the dearest row."""
    kept: list[Row] = []
    contradictions: list[str] = []
    ordered = sorted(rows, key=_hour_and_rank)
    for _, group in groupby(ordered, key=lambda row: (row.at, row.instance_id)):
        found = list(group)
        best = found[-1]
        kept.append(best)
        rivals = [row for row in found if row.version == best.version and _says(row) != _says(best)]
        if rivals:
            contradictions.append(
                f"{rivals[0].file}:{rivals[0].line} and {best.file}:{best.line} contradict each"
                f" other about {best.instance_id} at {best.at:%Y-%m-%d %H:%M:%S} UTC: the dearer"
                " counts"
            )
    return Rows(rows=tuple(kept), contradictions=tuple(contradictions))


def _hour_and_rank(row: Row) -> tuple[dt.datetime, str, int, int, int]:
    return row.at, row.instance_id, row.version, row.charge_usd_micros, row.market_usd_micros_hour


def _says(row: Row) -> tuple[int, int]:
    return row.charge_usd_micros, row.market_usd_micros_hour
