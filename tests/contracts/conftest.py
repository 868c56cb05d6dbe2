"""What the contract suites run over."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.memory import MemoryObjects
from spotrunner.adapters.store.market_memory import MemoryMarket
from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.adapters.store.sql import SqlStore
from spotrunner.adapters.store.sqlite import open_store
from spotrunner.ports import MarketStore, Objects
from tests.contracts import clouds
from tests.contracts.s3 import REGION, MotoServer

START = dt.datetime(2026, 11, 2, 9, 0, tzinfo=dt.timezone.utc)

# S3's least size of a part: files above it go up in several.
PART_BYTES = 5 * 1024 * 1024

TEST_KEYS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


REAL_OPTIONS = ("region", "zone", "subnet", "image", "root", "installation")


class StandingClock:
    def now(self) -> dt.datetime:
        return START


@dataclass(frozen=True, kw_only=True)
class Bench:
    """An empty bucket. `lose_answer(retried)` loses the answer of the next put: with `retried` a
    client below us tries again and is answered, without nothing is heard of it."""

    objects: Objects
    lose_answer: Callable[[bool], None]


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def aws(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Clients of S3 as moto plays it."""
    set_keys(monkeypatch)
    clients = Aws(endpoint_url=moto.url)
    yield clients
    clients.close()


def set_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that open nothing, and no way to an account or a metadata service."""
    for name, value in TEST_KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture(params=["memory", "s3"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "memory":
        return _memory()
    return _s3(request.getfixturevalue("moto"), request.getfixturevalue("aws"))


def _memory() -> Bench:
    objects = MemoryObjects(StandingClock())

    def lose_answer(retried: bool) -> None:
        objects.drop_answer_of_next_put(retried=retried)

    return Bench(objects=objects, lose_answer=lose_answer)


def _s3(moto: MotoServer, aws: Aws) -> Bench:
    def lose_answer(retried: bool) -> None:
        # The client sends a put three times before it gives up.
        moto.lose_answers("PUT", 1 if retried else 3)

    objects = S3Objects(aws.s3(REGION), moto.bucket(aws), part_bytes=PART_BYTES)
    return Bench(objects=objects, lose_answer=lose_answer)


# -- stores and markets ------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryStore | SqlStore]:
    """ports.Store, and ports.Outbox beside it."""
    store = MemoryStore() if request.param == "memory" else open_store(tmp_path / "store.sqlite")
    yield store
    store.close()


@pytest.fixture(params=["memory", "sqlite"])
def market(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MarketStore]:
    if request.param == "memory":
        yield MemoryMarket()
        return
    store = open_store(tmp_path / "store.sqlite")
    yield store.market
    store.close()


# -- clouds ------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("a real AWS account; scripts/aws-smoke sets these")
    group.addoption("--cloud", choices=["aws"], help="run the Cloud suite over a real account")
    for name in REAL_OPTIONS:
        group.addoption(f"--aws-{name}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "account" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--cloud", default=None)
        clouds = [chosen] if chosen else ["sim", "lab"]
        metafunc.parametrize("account", clouds, indirect=True)


@pytest.fixture
def account(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[clouds.Account]:
    if request.param == "aws":
        with clouds.real(_chosen(request.config)) as account:
            yield account
        return
    set_keys(monkeypatch)
    with clouds.simulated() if request.param == "sim" else clouds.emulated() as account:
        yield account


def _chosen(config: pytest.Config) -> clouds.RealAccount:
    region, zone, subnet_id, image_id, root_device, installation = (
        str(config.getoption(f"--aws-{name}")) for name in REAL_OPTIONS
    )
    return clouds.RealAccount(
        region=region,
        zone=zone,
        subnet_id=subnet_id,
        image_id=image_id,
        root_device=root_device,
        installation=installation,
    )
