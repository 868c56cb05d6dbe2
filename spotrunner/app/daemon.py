"""The daemon, put together: AWS's adapters, the SQL store, the round, the API. Runs until SIGTERM.

The order of the start matters: what is wrong is found before anything can cost money, the lead is
taken before the first round, and the API answers only when there is a round to wake.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog
import uvicorn

from spotrunner.adapters import codec
from spotrunner.adapters.advisor import SpotAdvisor
from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.cloud import Ec2Cloud
from spotrunner.adapters.aws.objects import S3Buckets, S3Objects
from spotrunner.adapters.aws.prices import AwsPrices
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import AwsSites
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.adapters.notify.channels import channels
from spotrunner.adapters.receipts import ObjectReceipts
from spotrunner.adapters.store.sqlite import open_store
from spotrunner.app import archive, logs
from spotrunner.app.installation import claim
from spotrunner.app.shelf import shelve
from spotrunner.core.alert import Alert, AlertKind
from spotrunner.core.catalogue import TYPES, USABLE, Architecture
from spotrunner.core.model import AlertRules
from spotrunner.core.policy.named import policies
from spotrunner.daemon.act import Actor
from spotrunner.daemon.board import Board
from spotrunner.daemon.fitting import refit
from spotrunner.daemon.forget import Forgetter
from spotrunner.daemon.herald import Herald
from spotrunner.daemon.hints import Hints
from spotrunner.daemon.lookout import FittedHazards, Lookout
from spotrunner.daemon.loops import Ticker
from spotrunner.daemon.memos import read_spans
from spotrunner.daemon.observe import Observer
from spotrunner.daemon.reconcile import Reconciler
from spotrunner.daemon.recover import recover
from spotrunner.daemon.request import AgentArchive, RequestMaker
from spotrunner.daemon.settings import Settings, read_settings
from spotrunner.daemon.tables import TablesInBackground
from spotrunner.ports import Misconfigured, Objects
from spotrunner.web.app import Deps, create_app
from spotrunner.web.prices import region_view, source_view

log = structlog.get_logger(__name__)

# Reads and acts at a time. A region needs two in a round, and S3 answers are short.
WORKERS = 16
# Prices and hints have threads of their own: their sources may be slow for minutes, and mail, HEADs
# and listings, which a round needs, must not queue behind them.
MARKET_WORKERS = 6


def run(config: Path, *, log_json: bool = False) -> None:
    """Raises located.BadFile (settings), Misconfigured, NotAuthorized and Unavailable (AWS) before
    the first round; afterwards only a signal, or another daemon that leads, ends it."""
    logs.configure(as_json=log_json)
    logs.without_core_dumps()
    settings = read_settings(config)
    logs.redacting(settings.alerts.urls.values())
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with (
        _alone(settings.state_dir),
        ThreadPoolExecutor(WORKERS, "io") as executor,
        ThreadPoolExecutor(MARKET_WORKERS, "market") as market,
        # A table takes the processor for a second: one at a time, and no read waits for it.
        ThreadPoolExecutor(1, "plans") as planner,
    ):
        daemon = _Daemon(settings, executor, market, planner, stopped)
        try:
            daemon.start()
            stopped.wait()
        finally:
            daemon.stop()


@contextlib.contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """Hold the state for this process; it is let go with the process, however that ends. Raises
    Misconfigured with the process that holds it."""
    with (state_dir / "daemon.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip()
            raise Misconfigured(
                f"a daemon works with {state_dir} already (process {holder}): stop that one first"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


class _Daemon:
    """What lives as long as the process."""

    def __init__(
        self,
        settings: Settings,
        executor: ThreadPoolExecutor,
        market: ThreadPoolExecutor,
        planner: ThreadPoolExecutor,
        stopped: threading.Event,
    ) -> None:
        self._settings = settings
        self._policies = policies(TablesInBackground(planner))
        self._socket = socket.create_server((settings.api.host, settings.api.port))
        self._clock = ServerClock()
        aws = Aws(clock=self._clock, endpoint_url=settings.endpoint_url)
        self._objects = S3Objects(aws.s3(settings.home.region), settings.home.bucket)
        self._store = open_store(settings.database)
        self._installation = claim(self._objects, self._store)
        prices = AwsPrices(aws)
        self._lookout = self._new_lookout(prices, market)
        self._sites = AwsSites(
            aws,
            instance_profile=settings.instance_profile,
            security_groups=settings.security_groups,
            amis=settings.amis,
            installation=self._installation,
        )
        self._buckets = S3Buckets(aws, settings.home.region)
        self._mailbox = ObjectMailbox(self._objects)
        self._receipts = ObjectReceipts(self._objects)
        self._channels = channels(settings.alerts.urls, settings.alerts.topics, aws)
        self._herald = Herald(outbox=self._store, notifier=self._channels, clock=self._clock)
        self._heads = ObjectHeads(self._objects)
        reconciler = self._reconciler(Ec2Cloud(aws), executor)
        self._reconcile = reconciler
        self._ticker = Ticker(self._round, settings.tick_s, on_stale=stopped.set)
        self._token = _token(settings.api.token_file)
        self._server = self._api()
        self._web = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="api", daemon=True
        )

    def start(self) -> None:
        self._ticker.start()
        self._web.start()
        _write_address(self._settings, self._socket)
        log.info(
            "started",
            installation=self._installation,
            regions=list(self._settings.regions),
            api=_url(self._socket),
        )

    def stop(self) -> None:
        """Instances go on by themselves: they live by their `paid_until`."""
        self._server.should_exit = True
        if self._web.ident is not None:
            self._web.join()
        self._ticker.stop()
        self._herald.stop()
        self._settings.address_file.unlink(missing_ok=True)
        self._store.close()
        log.info("stopped")

    def _round(self) -> bool:
        again = self._reconcile.run_once().again
        # Beside the rounds: a channel that is down delays none.
        self._herald.look(self._clock.now())
        return again

    # -- parts ---------------------------------------------------------------------------------

    def _new_lookout(self, prices: AwsPrices, executor: ThreadPoolExecutor) -> Lookout:
        settings, market = self._settings, self._store.market
        return Lookout(
            store=self._store,
            board=Board(
                prices,
                self._clock,
                executor,
                settings.prices_every_s,
                market=market,
                types=settings.types,
            ),
            hints=Hints(
                prices=prices,
                advisor=SpotAdvisor(settings.advisor_url) if settings.advisor_url else None,
                market=market,
                clock=self._clock,
                executor=executor,
                regions=settings.regions,
                types=settings.types,
                scores_every_s=settings.scores_every_s,
            ),
            hazards=FittedHazards(market),
            clock=self._clock,
            limits=settings.limits,
        )

    def _reconciler(self, cloud: Ec2Cloud, executor: ThreadPoolExecutor) -> Reconciler:
        settings = self._settings
        observer = Observer(
            store=self._store,
            cloud=cloud,
            mailbox=self._mailbox,
            heads=self._heads,
            lookout=self._lookout,
            clock=self._clock,
            executor=executor,
            regions=settings.regions,
            installation=self._installation,
            limits=settings.limits,
            caps=settings.caps,
            alert_rules=AlertRules(
                percents=settings.alerts.percents, summary_min=settings.alerts.summary_min
            ),
            home_region=settings.home.region,
        )
        actor = Actor(
            store=self._store,
            cloud=cloud,
            mailbox=self._mailbox,
            receipts=self._receipts,
            request_for=self._request_maker(),
            clock=self._clock,
            executor=executor,
        )
        epoch = self._lead()
        forgetter = Forgetter(
            store=self._store, objects=self._objects, executor=executor, epoch=epoch
        )
        return Reconciler(
            store=self._store,
            observer=observer,
            actor=actor,
            policies=self._policies,
            epoch=epoch,
            channels_of=settings.alerts.channels_of,
            afterwards=forgetter.look,
        )

    def _lead(self) -> int:
        """Become the leader, and learn from the bucket what a store that was restored from a
        backup does not know."""
        self._store.cut_days_in(self._settings.caps.tz)
        holder = f"{socket.gethostname()}:{os.getpid()}"
        epoch = self._store.lead(holder, above=self._mailbox.highest_epoch())
        recover(
            store=self._store,
            receipts=self._receipts,
            objects=self._objects,
            epoch=epoch,
            now=self._clock.now(),
            channels_of=self._settings.alerts.channels_of,
        )
        return epoch

    def _request_maker(self) -> RequestMaker:
        return RequestMaker(
            store=self._store,
            sites=self._sites,
            objects=self._objects,
            installation=self._installation,
            bucket=self._settings.home.bucket,
            home_region=self._settings.home.region,
            archives=_upload_archives(self._objects, self._settings),
            endpoint_url=self._settings.endpoint_url,
            image_mirrors=self._settings.image_mirrors,
        )

    def _api(self) -> uvicorn.Server:
        app = create_app(
            Deps(
                store=self._store,
                objects=self._objects,
                buckets=self._buckets,
                heads=self._heads,
                mailbox=self._mailbox,
                outlook=self._lookout.outlook,
                offered=self._lookout.board.offered,
                policies=self._policies,
                sites=self._sites,
                regions=self._settings.regions,
                limits=self._settings.limits,
                wake=self._ticker.wake,
                round=self._ticker.round,
                clock=self._clock,
                token=self._token,
                encode=codec.to_json,
                status=self._status,
                market=self._store.market,
                types=self._settings.types,
                tracked=self._lookout.board.look,
                known=partial(read_spans, self._store.market),
                sync=self._lookout.board.sync,
                refit=partial(refit, self._store, self._store.market, self._clock),
                caps=self._settings.caps,
                channels=self._channels.channels,
                test_alert=self._test_alert,
                data_feed=self._settings.data_feed.url if self._settings.data_feed else None,
                kms_key=self._settings.kms_key,
            )
        )
        return uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))

    def _test_alert(self, named: Sequence[str]) -> Mapping[str, str]:
        """Sent now: by channel, empty or why it was not taken."""
        now = self._clock.now()
        alert = Alert(
            key=f"test/{now.isoformat()}",
            at=now,
            kind=AlertKind.TEST,
            job_id=None,
            owner="",
            channels=tuple(named),
            title="a test: this channel works",
            why=f"somebody asked the installation {self._installation} for it",
            cost="",
            command="",
        )
        return self._herald.test(named or sorted(self._channels.channels), alert)

    def _status(self) -> Mapping[str, object]:
        """What a person who looks after the daemon asks first."""
        markets, hints = self._lookout.board.markets(), self._lookout.hints
        return {
            "installation": self._installation,
            "regions": list(self._settings.regions),
            "last_error": self._ticker.last_error,
            "prices": {region: region_view(market) for region, market in markets.items()},
            "hints": {
                name: source_view(source)
                for name, source in (hints.sources() if hints else {}).items()
            },
        }


def _upload_archives(objects: Objects, settings: Settings) -> Mapping[Architecture, AgentArchive]:
    """The agent's archive for the CPUs of all types, in the bucket. Instances that the lab emulates
    are processes of this host: all of them have its CPU."""
    wanted = {TYPES[name].architecture for name in (*USABLE, *settings.types)}
    if settings.endpoint_url is None:
        return {each: shelve(objects, settings.state_dir, each) for each in wanted}
    return dict.fromkeys(wanted, shelve(objects, settings.state_dir, archive.here()))


def _token(file: Path) -> str:
    """The API's token: made at every start, readable by this user alone."""
    token = secrets.token_urlsafe(32)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
        out.write(token + "\n")
    return token


def _write_address(settings: Settings, listener: socket.socket) -> None:
    """Where the command line finds the API; complete, or not there."""
    address = {"url": _url(listener), "token_file": str(settings.api.token_file)}
    part = settings.address_file.with_suffix(".part")
    part.write_text(json.dumps(address) + "\n")
    part.replace(settings.address_file)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
