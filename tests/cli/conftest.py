"""The real API, served on loopback over a store, buckets and a market in memory, and the command
line run against it."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from spotrunner.adapters import codec
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.adapters.memory import MemoryBuckets, MemoryObjects
from spotrunner.adapters.store.market_memory import MemoryMarket
from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.cli.main import main
from spotrunner.core.caps import UNCAPPED, Caps
from spotrunner.core.look import Outlook
from spotrunner.core.model import Limits, Offer, Pool
from spotrunner.core.policy.named import policies
from spotrunner.core.sight import FORGOTTEN_AFTER, sights
from spotrunner.daemon.board import Board
from spotrunner.daemon.fitting import refit
from spotrunner.daemon.memos import read_spans
from spotrunner.ports import PortError, Sites
from spotrunner.sim.cloud import SimPrices, SimSites, VirtualClock
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.stage import Inline
from spotrunner.sim.world import World
from spotrunner.web.app import Deps, create_app
from tests.build import OFFERS, T0, an_offer

# Figures of these tests are reckoned by hand, with five minutes from a launch to its first step.
LIMITS = Limits(changeover_s=300)

TOKEN = "a-token-of-the-tests"
START_S = 10.0


@dataclass(kw_only=True)
class Behind:
    """What lies behind the API."""

    store: MemoryStore
    home: MemoryObjects
    buckets: MemoryBuckets
    clock: VirtualClock
    mailbox: ObjectMailbox
    sites: Sites
    world: World
    market: MemoryMarket = field(default_factory=MemoryMarket)
    offers: list[Offer] = field(default_factory=list)
    scores: dict[Pool, int] = field(default_factory=dict)
    bands: dict[Pool, int] = field(default_factory=dict)
    silent: dict[str, PortError] = field(default_factory=dict)
    wakes: list[None] = field(default_factory=list)
    round_ends: bool = True
    caps: Caps = UNCAPPED
    # by name: what it answers to a test; nothing: it was taken
    channels: dict[str, str] = field(default_factory=dict)

    def log(self, attempt: str, n: int, text: str) -> None:
        job = attempt.partition(".")[0]
        key = f"jobs/{job}/logs/{attempt}/0/{n:06d}.gz"
        self.home.put(key, gzip.compress(text.encode()))


@pytest.fixture
def caps() -> Caps:
    """A module that is about caps has its own."""
    return UNCAPPED


@pytest.fixture
def channels() -> dict[str, str]:
    return {}


@pytest.fixture
def behind(caps: Caps, channels: dict[str, str]) -> Behind:
    clock = VirtualClock(T0)
    buckets, home = MemoryBuckets(clock, ["data-bucket"]), MemoryObjects(clock)
    world = World(plain_setup(T0), 1)
    buckets.objects("data-bucket").put("digits/shard-0", b"x")
    return Behind(
        store=MemoryStore(),
        home=home,
        buckets=buckets,
        clock=clock,
        mailbox=ObjectMailbox(home),
        sites=SimSites(world),
        world=world,
        offers=[*OFFERS, an_offer("eu-west-1a", "p3.2xlarge", price=900_000, dearest=3_300_000)],
        caps=caps,
        channels=channels,
    )


class Served:
    """The API in a thread."""

    def __init__(self, behind: Behind) -> None:
        config = uvicorn.Config(_app(behind), port=0, log_config=None, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        pause = threading.Event()
        for _ in range(int(START_S / 0.01)):
            if self._server.started:
                break
            pause.wait(0.01)
        assert self._server.started
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


Serve = Callable[[], Served]


@pytest.fixture
def serve(behind: Behind) -> Iterator[Serve]:
    """Start the API, as often as wanted; each is stopped at the end."""
    started: list[Served] = []

    def start() -> Served:
        started.append(Served(behind))
        return started[-1]

    yield start
    for served in started:
        served.stop()


@pytest.fixture
def api_file(serve: Serve, tmp_path: Path) -> Path:
    """Of a daemon whose API is served while the test runs."""
    return written(tmp_path, serve().url)


def written(folder: Path, url: str) -> Path:
    """An api.json, and its token, as a daemon writes them."""
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    file = folder / "api.json"
    file.write_text(json.dumps({"url": url, "token_file": str(token)}))
    return file


def _app(behind: Behind) -> FastAPI:
    def offers(regions: Iterable[str], types: Iterable[str]) -> tuple[Offer, ...]:
        where, what = set(regions), set(types)
        return tuple(
            offer
            for offer in behind.offers
            if offer.pool.region in where and offer.pool.instance_type in what
        )

    def outlook(regions: Iterable[str], types: Iterable[str]) -> Outlook:
        now = behind.clock.now()
        board.look(regions, types)
        refusals = behind.store.refusals(now - FORGOTTEN_AFTER)
        return Outlook(
            now=now,
            limits=LIMITS,
            offers=offers(regions, types),
            refusals=refusals,
            sights=sights(
                behind.store.recent_attempts(now - FORGOTTEN_AFTER),
                refusals,
                now,
                Limits().capacity_cooldown_s,
            ),
            scores=behind.scores,
            bands=behind.bands,
        )

    def offered(
        regions: Iterable[str], types: Iterable[str]
    ) -> dict[str, frozenset[Pool] | PortError]:
        sold = {region: {offer.pool for offer in offers([region], types)} for region in regions}
        return {region: behind.silent.get(region, frozenset(sold[region])) for region in sold}

    prices = SimPrices(behind.world, behind.clock)
    board = Board(prices, behind.clock, Inline(), 600, market=behind.market)
    return create_app(
        Deps(
            store=behind.store,
            objects=behind.home,
            buckets=behind.buckets,
            heads=ObjectHeads(behind.home),
            mailbox=behind.mailbox,
            outlook=outlook,
            offered=offered,
            policies=policies(),
            sites=behind.sites,
            regions=("us-east-1", "eu-west-1"),
            limits=LIMITS,
            wake=lambda: behind.wakes.append(None),
            round=lambda _timeout_s: behind.round_ends,
            clock=behind.clock,
            token=TOKEN,
            encode=codec.to_json,
            status=lambda: {"installation": "test"},
            market=behind.market,
            types=("g4dn.xlarge",),
            tracked=board.look,
            known=partial(read_spans, behind.market),
            sync=board.sync,
            refit=partial(refit, behind.store, behind.market, behind.clock),
            caps=behind.caps,
            channels=frozenset(behind.channels),
            test_alert=lambda names: {name: behind.channels[name] for name in names},
        )
    )


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run_it(*arguments: str | Path) -> Said:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        code = ended.value.code
        return Said(code=code if isinstance(code, int) else 0, out=printed.out, err=printed.err)

    return run_it


@pytest.fixture
def here(api_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line finds the API by the environment."""
    monkeypatch.setenv("SPOTRUNNER_API_FILE", str(api_file))
