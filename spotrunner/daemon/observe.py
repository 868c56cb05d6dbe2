"""Read everything that a round decides on: bounded, in parallel by region, each failure its own.

A region, a mailbox or a HEAD that does not answer is *unknown* in the snapshot; what was known of
it before is not made up again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from spotrunner.core.caps import UNCAPPED, Caps
from spotrunner.core.model import (
    USUAL_ALERTS,
    AlertRules,
    Attempt,
    Head,
    Instance,
    Job,
    Limits,
    Report,
    Snapshot,
)
from spotrunner.core.states import AttemptState
from spotrunner.core.tracked import Quotes, Source
from spotrunner.core.windows import local_day
from spotrunner.daemon.lookout import Lookout
from spotrunner.ports import Clock, Cloud, Heads, Mailbox, NotFound, PortError, Store

log = structlog.get_logger(__name__)
T = TypeVar("T")

# What does not answer for so long is unknown in this round, so that it delays nobody else.
PATIENCE_S = 10.0
# A daemon that could not read the mail since it started has not listened to anybody yet.
NEVER = dt.datetime.min.replace(tzinfo=dt.timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Observer:
    store: Store
    cloud: Cloud
    mailbox: Mailbox
    heads: Heads
    lookout: Lookout
    clock: Clock
    executor: Executor
    regions: tuple[str, ...]
    installation: str
    limits: Limits
    caps: Caps = UNCAPPED
    alert_rules: AlertRules = USUAL_ALERTS
    home_region: str = ""
    patience_s: float = PATIENCE_S
    # by region: since when its prices could not be read
    _trouble_since: dict[str, dt.datetime] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def snapshot(
        self,
        epoch: int,
        mail_at: dt.datetime | None = None,
        alerted: frozenset[str] = frozenset(),
    ) -> Snapshot:
        """`mail_at` is when the mail was last read, for when it cannot be now; `alerted` are the
        keys of the alerts that were raised before."""
        now = self.clock.now()
        jobs = {job.id: job for job in self.store.open_jobs()}
        attempts = self.store.attempts(list(jobs))
        live = [attempt for attempt in attempts if attempt.state.live]
        regions = {*self.regions, *self.store.regions()}
        listings = {region: self.executor.submit(self._listing, region) for region in regions}
        mail = self.executor.submit(self._mail)
        types = {name for job in jobs.values() for name in job.spec.instance_types}
        if self.lookout.hints is not None:
            self.lookout.hints.look(types)
        outlook = self.lookout.outlook(self.regions, types, now)
        missing = self._prices_missing(now)
        wait(listings.values(), timeout=self.patience_s)
        wait([mail], timeout=self.patience_s)
        instances = {region: _answer(listing) for region, listing in listings.items()}
        instances = self._with_lookups(instances, live)
        boxes = _answer(mail)
        jobs.update(self._jobs_of_strangers(instances, jobs))
        strangers = [job_id for job_id in jobs if job_id not in {a.job_id for a in attempts}]
        return Snapshot(
            now=now,
            epoch=epoch,
            installation=self.installation,
            limits=self.limits,
            jobs=tuple(jobs.values()),
            attempts=(*attempts, *self.store.attempts(strangers)),
            commands=self.store.commands(),
            instances=instances,
            not_found=self._not_found(instances, live, now),
            reports=self._reports(live),
            read_at=self.clock.now(),
            mail_at=now if boxes is not None else mail_at or NEVER,
            heads=self._heads(jobs.values()),
            boxes=boxes if boxes is not None else frozenset(),
            offers=tuple(outlook.offers),
            quotes=self.lookout.board.quotes(),
            refusals=tuple(outlook.refusals),
            sights=outlook.sights,
            scores=outlook.scores,
            bands=outlook.bands,
            hazards=outlook.hazards,
            caps=self.caps,
            spent=self.store.spent(local_day(self.caps.tz, now) - dt.timedelta(days=1)),
            home_region=self.home_region,
            held_until=self.store.held_until(),
            brake=self.mailbox.brake(),
            alert_rules=self.alert_rules,
            alerted=alerted,
            prices_at={
                region: self._missing_since(region, of, now) for region, of in missing.items()
            },
            prices_trouble={region: of.trouble for region, of in missing.items()},
        )

    # -- prices --------------------------------------------------------------------------------

    def _prices_missing(self, now: dt.datetime) -> Mapping[str, Source[Quotes]]:
        """Of the regions that do not tell them. Old ones alone say nothing of EC2: nobody may have
        asked, for want of a daemon or of a job."""
        markets = self.lookout.board.markets()
        sources = {region: markets[region].prices for region in self.regions if region in markets}
        for region in self._trouble_since.keys() - {it for it in sources if sources[it].trouble}:
            del self._trouble_since[region]
        asked_since = now - dt.timedelta(seconds=self.limits.old_prices_alert_s)
        return {
            region: source
            for region, source in sources.items()
            if source.trouble and source.tried_at is not None and source.tried_at > asked_since
        }

    def _missing_since(self, region: str, source: Source[Quotes], now: dt.datetime) -> dt.datetime:
        """Since the last answer; where there never was any, since we saw that."""
        seen_at = self._trouble_since.setdefault(region, now)
        answers = [source.said[name].at for name in source.tried if name in source.said]
        return min(answers, default=seen_at)

    # -- reads, each with its own "unknown" ----------------------------------------------------

    def _listing(self, region: str) -> tuple[Instance, ...] | None:
        return _known("instances", lambda: self.cloud.instances(region, self.installation), region)

    def _mail(self) -> frozenset[str] | None:
        return _known("mail", self.mailbox.boxes)

    def _reports(self, live: Iterable[Attempt]) -> Mapping[str, Report]:
        """The last ones that were read; an old one looks old by its own time."""
        reports = _known("reports", self.mailbox.reports) or {}
        return {a.id: reports[a.id] for a in live if a.id in reports}

    def _heads(self, jobs: Iterable[Job]) -> Mapping[str, Head | None]:
        reads: dict[str, Future[tuple[Head | None] | None]] = {
            job.id: self.executor.submit(self._head, job.id) for job in jobs
        }
        wait(reads.values(), timeout=self.patience_s)
        answers = {job_id: _answer(read) for job_id, read in reads.items()}
        return {job_id: answer[0] for job_id, answer in answers.items() if answer is not None}

    def _head(self, job_id: str) -> tuple[Head | None] | None:
        return _known("head", lambda: (self.heads.read(job_id).head,), job_id)

    def _with_lookups(
        self, instances: Mapping[str, tuple[Instance, ...] | None], live: Iterable[Attempt]
    ) -> dict[str, tuple[Instance, ...] | None]:
        """Listings by tag lag: a launch whose outcome is unknown is asked for by its token too."""
        found = dict(instances)
        for attempt in live:
            region = attempt.offer.pool.region
            listed = found.get(region)
            if attempt.state is not AttemptState.PENDING or attempt.request is None:
                continue
            if listed is None or any(i.attempt_id == attempt.id for i in listed):
                continue
            token = attempt.request.client_token
            found[region] = (*listed, *self._by_token(region, token))
        return found

    def _by_token(self, region: str, token: str) -> tuple[Instance, ...]:
        return _known("by token", lambda: self.cloud.by_token(region, token), region) or ()

    def _not_found(
        self,
        instances: Mapping[str, tuple[Instance, ...] | None],
        live: Iterable[Attempt],
        now: dt.datetime,
    ) -> frozenset[str]:
        """Ids that EC2 denies by describe-by-id, asked only of those that a listing should show."""
        missing = []
        for attempt in live:
            listed = instances.get(attempt.offer.pool.region)
            if attempt.instance_id is None or listed is None:
                continue
            since = attempt.launched_at or attempt.intent_at
            if now < since + dt.timedelta(seconds=self.limits.lost_s):
                continue
            if all(instance.id != attempt.instance_id for instance in listed):
                missing.append((attempt.offer.pool.region, attempt.instance_id))
        return frozenset(id for region, id in missing if self._is_denied(region, id))

    def _is_denied(self, region: str, instance_id: str) -> bool:
        try:
            self.cloud.by_id(region, instance_id)
        except NotFound:
            return True
        except PortError as error:
            log.warning("not read", what="by id", subject=instance_id, error=str(error))
        return False

    def _jobs_of_strangers(
        self, instances: Mapping[str, tuple[Instance, ...] | None], jobs: Mapping[str, Job]
    ) -> dict[str, Job]:
        """Jobs that are over but whose tag an instance still bears: the reaper needs them."""
        named = {
            instance.job_id
            for listed in instances.values()
            for instance in listed or ()
            if instance.ended_at is None and instance.job_id not in (None, *jobs)
        }
        found = [self.store.job(job_id) for job_id in named if job_id is not None]
        return {job.id: job for job in found if job is not None}


def _answer(read: Future[T | None]) -> T | None:
    """What a read brought; None, which is "unknown", from one that is still under way."""
    return read.result() if read.done() else None


def _known(what: str, read: Callable[[], T], subject: str = "") -> T | None:
    """What `read` returns; None, and a line in the log, when it is not to be had now."""
    try:
        return read()
    except PortError as error:
        log.warning("not read", what=what, subject=subject, error=str(error))
        return None
