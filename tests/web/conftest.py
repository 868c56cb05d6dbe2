"""The API over a store, buckets and a market in memory."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from starlette.testclient import TestClient

from spotrunner.adapters import codec
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.adapters.memory import MemoryBuckets, MemoryObjects
from spotrunner.adapters.store.market_memory import MemoryMarket
from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.core.caps import UNCAPPED, Caps
from spotrunner.core.model import Attempt, Job, Limits
from spotrunner.core.policy.named import policies
from spotrunner.daemon.board import Board
from spotrunner.daemon.fitting import refit
from spotrunner.daemon.lookout import FittedHazards, Lookout
from spotrunner.daemon.memos import read_spans
from spotrunner.ports import PortError, Site
from spotrunner.sim.cloud import SimPrices, SimSites, VirtualClock
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.stage import Inline
from spotrunner.sim.world import World
from spotrunner.web.app import Deps, create_app

# Figures of these tests are reckoned by hand, with five minutes from a launch to its first step.
LIMITS = Limits(changeover_s=300)

START = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.timezone.utc)
TOKEN = "a-token-of-the-tests"
REGIONS = ("us-east-1", "eu-west-1")
MAX_WORKDIR_BYTES = 100_000


class Sites(SimSites):
    """An account in which something may be missing: `wrong` by region, and zones in `bare` have no
    subnet."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.wrong: dict[str, PortError] = {}
        self.bare: set[str] = set()

    def site(self, region: str) -> Site:
        if region in self.wrong:
            raise self.wrong[region]
        site = super().site(region)
        subnets = {zone: id_ for zone, id_ in site.subnets.items() if zone not in self.bare}
        return dataclasses.replace(site, subnets=subnets)


class Store(MemoryStore):
    """Notes the largest readings of jobs, and of attempts by how many jobs they were asked of."""

    def __init__(self) -> None:
        super().__init__()
        self.most_jobs = 0
        self.most_attempts_asked = 0

    def jobs(self, newest: int | None = None) -> tuple[Job, ...]:
        found = super().jobs(newest)
        self.most_jobs = max(self.most_jobs, len(found))
        return found

    def attempts(self, job_ids: Sequence[str]) -> tuple[Attempt, ...]:
        self.most_attempts_asked = max(self.most_attempts_asked, len(job_ids))
        return super().attempts(job_ids)


@dataclass(kw_only=True)
class Api:
    """A client with the token, and what lies behind."""

    client: TestClient
    store: Store
    home: MemoryObjects
    data: MemoryObjects
    buckets: MemoryBuckets
    clock: VirtualClock
    mailbox: ObjectMailbox
    world: World
    sites: Sites
    board: Board
    market: MemoryMarket
    wakes: list[None] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    round_ends: bool = True
    # what a channel answers to a test; nothing: it was taken
    channels: dict[str, str] = field(default_factory=dict)
    tested: list[tuple[str, ...]] = field(default_factory=list)

    def get(self, path: str, **query: Any) -> Any:
        return _good(self.client.get(path, params=query))

    def post(self, path: str, body: Any = None) -> Any:
        return _good(self.client.post(path, json=body))

    def submit(self, fields: dict[str, Any], workdir: bytes | None = None, **more: str) -> Any:
        files: dict[str, Any] = {"job": (None, json.dumps(fields))}
        files.update({name: (None, value) for name, value in more.items()})
        if workdir is not None:
            files["workdir"] = ("workdir.tar.gz", workdir, "application/gzip")
        return self.client.post("/v1/jobs", files=files)

    def submitted(self, fields: dict[str, Any], workdir: bytes | None = None) -> str:
        job: dict[str, Any] = _good(self.submit(fields, workdir))
        return str(job["id"])

    def test_alert(self, names: Sequence[str]) -> dict[str, str]:
        self.tested.append(tuple(names))
        return {name: self.channels.get(name, "") for name in names}

    def round(self, timeout_s: float) -> bool:
        self.rounds.append(timeout_s)
        return self.round_ends

    @property
    def stored_keys(self) -> list[str]:
        return [info.key for info in self.home.list("")]


def _good(response: Any) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def caps() -> Caps:
    """A module that is about caps has its own."""
    return UNCAPPED


@pytest.fixture
def channels() -> frozenset[str]:
    return frozenset()


@pytest.fixture
def data_feed() -> str | None:
    return None


@pytest.fixture
def api(caps: Caps, channels: frozenset[str], data_feed: str | None) -> Iterator[Api]:
    clock = VirtualClock(START)
    world = World(plain_setup(START), 1)
    buckets = MemoryBuckets(clock, ["data-bucket"])
    home, store, sites = MemoryObjects(clock), Store(), Sites(world)
    market = MemoryMarket()
    mailbox = ObjectMailbox(home)
    buckets.objects("data-bucket").put("digits/shard-0", b"x")
    board = Board(SimPrices(world, clock), clock, Inline(), 600, market=market)
    lookout = Lookout(
        store=store,
        board=board,
        hints=None,
        hazards=FittedHazards(market),
        clock=clock,
        limits=LIMITS,
    )
    made: list[Api] = []
    deps = Deps(
        store=store,
        objects=home,
        buckets=buckets,
        heads=ObjectHeads(home),
        mailbox=mailbox,
        outlook=lookout.outlook,
        offered=board.offered,
        policies=policies(),
        sites=sites,
        regions=REGIONS,
        limits=LIMITS,
        wake=lambda: made[0].wakes.append(None),
        round=lambda timeout_s: made[0].round(timeout_s),
        clock=clock,
        token=TOKEN,
        encode=codec.to_json,
        status=lambda: {"installation": "test"},
        market=market,
        types=("g4dn.xlarge",),
        tracked=board.look,
        known=partial(read_spans, market),
        sync=board.sync,
        refit=partial(refit, store, market, clock),
        max_workdir_bytes=MAX_WORKDIR_BYTES,
        caps=caps,
        channels=channels,
        test_alert=lambda names: made[0].test_alert(names),
        data_feed=data_feed,
    )
    with TestClient(create_app(deps), headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        made.append(
            Api(
                client=client,
                store=store,
                home=home,
                data=buckets.objects("data-bucket"),
                buckets=buckets,
                clock=clock,
                mailbox=mailbox,
                world=world,
                sites=sites,
                board=board,
                market=market,
            )
        )
        yield made[0]


def a_job(**changes: Any) -> dict[str, Any]:
    """The fields of a job file; `changes` replace them, None leaves one out."""
    fields: dict[str, Any] = {
        "name": "digits",
        "resources": {"instance_types": ["g4dn.xlarge", "g5.xlarge"], "regions": ["us-east-1"]},
        "image": "tensorflow/tensorflow:2.17.0-gpu",
        "run": "python train.py",
        "envs": {"BUCKET": "data-bucket"},
        "data": [{"source": "s3://${BUCKET}/digits/", "target": "digits"}],
        "budget": "2.00",
    }
    fields.update(changes)
    return {name: value for name, value in fields.items() if value is not None}


def a_workdir(text: bytes = b"print('hello')\n") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("train.py")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return packed.getvalue()
