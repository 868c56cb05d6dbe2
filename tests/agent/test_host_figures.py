"""The kernel's texts, as a g4dn.xlarge-like machine has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from spotrunner.agent.host_figures import (
    HostFigures,
    Space,
    parse_diskstats,
    parse_meminfo,
    parse_net,
    parse_route,
    parse_stat,
)

STAT = """\
cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0
cpu0 1393280 32966 572056 13343292 6130 0 17875 0 23933 0
intr 1462898
btime 1795270000
"""
MEMINFO = """\
MemTotal:       16093360 kB
MemFree:          623148 kB
MemAvailable:   12007424 kB
Buffers:          202204 kB
HugePages_Total:       0
"""
# The root disk, its partition, the instance store with a mapper on it, a loop device.
DISKSTATS = """\
   7       0 loop0 11 0 28 0 0 0 0 0 0 4 0 0 0 0 0 0 0
 259       0 nvme0n1 572913 60220 28674498 462740 429472 531772 42950568 298862 0 128928 811302
 259       1 nvme0n1p1 572813 60220 28670000 462700 429400 531772 42950000 298800 0 128900 811300
 259       2 nvme1n1 10 0 800 1 20 0 1600 2 0 3 3 0 0 0 0 0 0
 253       0 dm-0 10 0 800 1 20 0 1600 2 0 3 3 0 0 0 0 0 0
"""
ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
ens6\t00000000\t01001FAC\t0003\t0\t0\t200\t00000000\t0\t0\t0
ens5\t00000000\t01001FAC\t0003\t0\t0\t100\t00000000\t0\t0\t0
"""
NET = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo: 3660747111 2842074    0    0    0     0          0         0 3660747111 2842074    0    0
  ens5:709170963   19084    0    0    0     0          0         0  1412318   11417    0    0
"""


def test_waiting_and_idling_is_no_work() -> None:
    busy = 10132153 + 290696 + 3084719 + 25195
    assert parse_stat(STAT) == (busy, busy + 46828483 + 16683)


def test_caches_are_free_memory() -> None:
    assert parse_meminfo(MEMINFO) == Space(total_bytes=16093360 * 1024, free_bytes=12007424 * 1024)


def test_every_byte_of_a_disk_counts_once() -> None:
    read, written = parse_diskstats(DISKSTATS, frozenset({"nvme0n1", "nvme1n1"}))
    assert read == (28674498 + 800) * 512
    assert written == (42950568 + 1600) * 512


def test_the_interface_is_that_of_the_route_that_is_taken() -> None:
    assert parse_route(ROUTE) == "ens5"
    assert parse_net(NET, "ens5") == (709170963, 1412318)
    assert parse_net(NET, "ens6") is None


@pytest.mark.parametrize("text", ["", "\n", "cpu 1 2\n", "cpu a b c d e\n", "MemTotal: 1 kB\n"])
def test_a_text_that_says_nothing(text: str) -> None:
    assert parse_stat(text) is None
    assert parse_meminfo(text) is None
    assert parse_diskstats(text, frozenset({"b"})) == (0, 0)
    assert parse_route(text) is None
    assert parse_net(text, "ens5") is None


@pytest.fixture
def machine(tmp_path: Path) -> HostFigures:
    proc, blocks = tmp_path / "proc", tmp_path / "block"
    (proc / "net").mkdir(parents=True)
    for name, text in {
        "stat": STAT,
        "meminfo": MEMINFO,
        "diskstats": DISKSTATS,
        "net/route": ROUTE,
        "net/dev": NET,
    }.items():
        (proc / name).write_text(text)
    for name in ("nvme0n1", "nvme1n1"):
        (blocks / name / "device").mkdir(parents=True)
    for name in ("loop0", "dm-0"):
        (blocks / name).mkdir()
    return HostFigures(folder=tmp_path / "not/yet/there", proc=proc, blocks=blocks)


def test_a_machine_as_its_kernel_tells_it(machine: HostFigures) -> None:
    counters = machine.counters()
    assert counters.read_bytes == (28674498 + 800) * 512
    assert (counters.received_bytes, counters.sent_bytes) == (709170963, 1412318)
    assert counters.cpu_busy == 10132153 + 290696 + 3084719 + 25195
    memory = machine.memory()
    assert memory is not None
    assert memory.free_bytes == 12007424 * 1024
    disk = machine.disk()
    assert disk is not None
    assert 0 < disk.free_bytes <= disk.total_bytes


def test_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    silent = HostFigures(folder=tmp_path, proc=tmp_path, blocks=tmp_path / "none")
    assert silent.counters().cpu_all is None
    assert silent.counters().received_bytes is None
    assert silent.memory() is None


def test_this_machine() -> None:
    here = HostFigures(folder=Path("/tmp"))
    assert here.counters().cpu_all
    assert here.memory()
    assert here.disk()
