from __future__ import annotations

import builtins
import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from spotrunner.sim.history_traces import read_traces
from spotrunner.sim.traces import CONSTANT_RATIO, BadTraces, read

np = pytest.importorskip("numpy")

ZONE = {
    "zone": "us-east-1a",
    "region": "us-east-1",
    "instance_type": "p3.2xlarge",
    "od_usd_h": 3.06,
    "ticks": 5,
}
SET = {
    "file": "a.npz",
    "gap_seconds": 600,
    "nodes": 1,
    "set_start_utc": "2023-02-15T22:08",
    "zones": {"a": ZONE},
}
UP = np.array([1, 1, 0, 0, 2], np.uint8)
PRICES = np.array([0.9, 0.9, 0.9, 1.0, 1.0], np.float32)


def a_folder(
    at: Path,
    arrays: dict[str, Any] | None = None,
    zone: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    arrays = {"avail/a": UP, "price/a": PRICES} if arrays is None else arrays
    np.savez(at / "a.npz", **arrays)
    said = {**SET, "zones": {"a": {**ZONE, **(zone or {})}}, **changes}
    (at / "manifest.json").write_text(json.dumps({"A": said}))
    return at


def test_a_set_is_read(tmp_path: Path) -> None:
    (found,) = read(a_folder(tmp_path))
    (zone,) = found.zones
    assert (found.name, found.gap_s, found.nodes) == ("A", 600.0, 1)
    assert found.start == dt.datetime(2023, 2, 15, 22, 8, tzinfo=dt.timezone.utc)
    assert str(zone.pool) == "us-east-1a/p3.2xlarge"
    assert zone.on_demand_usd_micros_hour == 3_060_000
    assert list(zone.up(1)) == [1, 1, 0, 0, 1]
    assert zone.prices() == (900_000, 900_000, 900_000, 1_000_000, 1_000_000)


def test_capacity_and_prices_as_steps(tmp_path: Path) -> None:
    (found,) = read(a_folder(tmp_path))
    (zone,) = found.zones
    ticks = {found.at(tick): tick for tick in range(5)}
    capacity = [(ticks[at], up) for at, up in found.capacity_steps(zone)]
    assert capacity == [(0, True), (2, False), (4, True)]
    prices = [(ticks[at], price) for at, price in found.price_steps(zone)]
    assert prices == [(0, 900_000), (3, 1_000_000)]


def test_a_gang_needs_all_of_its_nodes(tmp_path: Path) -> None:
    (found,) = read(a_folder(tmp_path, nodes=2))
    assert [up for _, up in found.capacity_steps(found.zones[0])] == [False, True]


def test_without_prices_a_constant_share_of_on_demand(tmp_path: Path) -> None:
    (found,) = read(a_folder(tmp_path, {"avail/a": UP}))
    (zone,) = found.zones
    assert zone.prices_usd_micros_hour is None
    assert zone.prices() == (round(3_060_000 * CONSTANT_RATIO),) * 5 == (973_100,) * 5


def test_the_digest_of_the_right_file_is_accepted(tmp_path: Path) -> None:
    a_folder(tmp_path)
    digest = hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    manifest = {"A": {**SET, "sha256": digest}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert read(tmp_path)


def bad_price(price: float) -> dict[str, Any]:
    return {"avail/a": UP, "price/a": np.array([1, 1, 1, price, 1], np.float32)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gap_seconds": 0}, "A: gap_seconds is 0, not between 1 s and a day"),
        ({"gap_seconds": -195}, "gap_seconds is -195"),
        ({"gap_seconds": "195"}, "gap_seconds is '195' in the manifest, not a number"),
        ({"gap_seconds": True}, "gap_seconds is True"),
        (
            {"source_gap_seconds": 32, "downsample": 6},
            "gap_seconds is 600, but 6 ticks of the source are 192 s",
        ),
        ({"nodes": 0}, "nodes is 0"),
        ({"nodes": 1.5}, "nodes is 1.5"),
        ({"set_start_utc": "spring"}, "set_start_utc is 'spring', not a time"),
        ({"file": "b.npz"}, "b.npz cannot be read: No such file"),
        ({"file": None}, "file is None in the manifest"),
        ({"sha256": "00"}, "is not the file of the manifest: its sha256 is"),
        ({"zones": {}}, "the manifest names no zones"),
        ({"zones": ["a"]}, "zones is not an object"),
        ({"zones": {"a": 1}}, "A, a: the manifest should have an object here"),
        ({"zones": {"a": ZONE, "b": ZONE}}, "names b, and the file has no avail/b"),
        ({"zone": {"ticks": 6}}, "avail/a has 5 ticks, the manifest says 6"),
        ({"zone": {"od_usd_h": 0}}, "od_usd_h of a is 0, not a price"),
        ({"zone": {"region": ""}}, "A, a: region is ''"),
        ({"arrays": {"avail/a": UP, "price/a": PRICES[:4]}}, "has 5 ticks and price/a 4"),
        ({"arrays": {"avail/a": UP[:0]}}, "avail/a is not a row of whole numbers"),
        ({"arrays": {"avail/a": PRICES}}, "avail/a is not a row of whole numbers"),
        ({"arrays": {"avail/a": np.array([-1] * 5)}}, "not between 0 and 255"),
        ({"zone": {"od_usd_h": -3.06}}, "od_usd_h of a is -3.06, not a price"),
        ({"zone": {"od_usd_h": 1e6}}, "od_usd_h of a is 1e+06, not a price"),
        ({"zone": {"od_usd_h": float("nan")}}, "A, a: od_usd_h is nan in the manifest, not a"),
        ({"zone": {"od_usd_h": float("inf")}}, "A, a: od_usd_h is inf in the manifest, not a"),
        ({"nodes": float("inf")}, "nodes is inf in the manifest, not a number"),
        ({"nodes": 10**400}, "in the manifest, not a number"),
        ({"source_gap_seconds": "32", "downsample": 6}, "source_gap_seconds is '32'"),
        (
            {"set_start_utc": "9999-12-31T23:55"},
            "set_start_utc is '9999-12-31T23:55', not between 1970 and 2200",
        ),
        ({"set_start_utc": "0001-01-01T00:00+05:00"}, "not between 1970 and 2200"),
        (
            {"arrays": {"avail/a": np.ones(40_000, np.uint8)}, "gap_seconds": 86_400}
            | {"zone": {"ticks": 40_000}},
            "40000 ticks of 86400 s are more than a hundred years",
        ),
        (
            {"arrays": {"avail/a": UP, "price/a": np.array(["1"] * 5)}},
            "A: price/a is not a row of numbers",
        ),
        ({"arrays": {"avail/a": UP, "price/a": np.array(1.0)}}, "price/a is not a row of numbers"),
        ({"arrays": bad_price(0)}, "A: price/a is 0 at tick 3, not a price"),
        ({"arrays": bad_price(-1)}, "price/a is -1 at tick 3"),
        ({"arrays": bad_price(float("nan"))}, "price/a is nan at tick 3"),
        ({"arrays": bad_price(float("inf"))}, "price/a is inf at tick 3"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadTraces) as found:
        read(a_folder(tmp_path, **changes))
    assert words in str(found.value)


def test_zones_of_unequal_length(tmp_path: Path) -> None:
    other = {**ZONE, "zone": "us-east-1b", "ticks": 4}
    arrays = {"avail/a": UP, "avail/b": UP[:4]}
    with pytest.raises(BadTraces, match=r"unequal lengths, \[4, 5\] ticks"):
        read(a_folder(tmp_path, arrays, zones={"a": ZONE, "b": other}))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "has no manifest.json: name a folder of traces"),
        ("{", "is no JSON"),
        ("[]", "names no sets"),
        ("{}", "names no sets"),
        ('{"A": 1}', "A: the manifest should have an object here"),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, manifest: str | None, words: str) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(BadTraces, match=words):
        read(tmp_path)


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    a_folder(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"PK, or so it says")
    with pytest.raises(BadTraces, match="is no npz"):
        read(tmp_path)


def test_an_npz_that_is_cut_short(tmp_path: Path) -> None:
    a_folder(tmp_path)
    whole = (tmp_path / "a.npz").read_bytes()
    for length in (0, 40, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.npz").write_bytes(whole[:length])
        with pytest.raises(BadTraces, match="is no npz"):
            read(tmp_path)
    damaged = bytearray(whole)
    damaged[whole.index(PRICES.tobytes())] ^= 1
    (tmp_path / "a.npz").write_bytes(damaged)
    with pytest.raises(BadTraces, match="is no npz"):
        read(tmp_path)


def test_one_array_alone_is_no_npz(tmp_path: Path) -> None:
    a_folder(tmp_path)
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, UP)
    with pytest.raises(BadTraces, match="is no npz"):
        read(tmp_path)


def test_a_start_with_an_offset_is_told_in_utc(tmp_path: Path) -> None:
    for text in ("2023-02-15T23:08+01:00", "2023-02-15T22:08Z"):
        (found,) = read(a_folder(tmp_path, set_start_utc=text))
        assert found.start.tzinfo is dt.timezone.utc
        assert found.start == dt.datetime(2023, 2, 15, 22, 8, tzinfo=dt.timezone.utc)


def test_spot_above_on_demand_is_asked_about(tmp_path: Path) -> None:
    a_folder(tmp_path, zone={"od_usd_h": 0.95})
    assert read_traces(tmp_path, {"p3.2xlarge"}, {"us-east-1"}).warnings == (
        "1 of 2 prices of us-east-1a/p3.2xlarge are above its on-demand price of 0.9500 USD an"
        " hour: is od_usd_h of the manifest right?",
    )


def test_without_numpy_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_folder(tmp_path)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "numpy":
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadTraces, match=r"pip install 'spotrunner\[planner\]'"):
        read(tmp_path)
