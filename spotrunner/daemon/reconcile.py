"""One round: observe, decide, write down, act, write down."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import structlog

from spotrunner.core.decide import decide
from spotrunner.core.plan import Plan
from spotrunner.core.policy import Policies
from spotrunner.daemon.act import Actor
from spotrunner.daemon.observe import Observer
from spotrunner.ports import Changes, Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """`again` asks for another round at once: a refused launch has another pool to try."""

    plan: Plan
    again: bool


class Reconciler:
    """Runs rounds for one epoch. One thread only; StaleEpoch ends it."""

    def __init__(
        self, *, store: Store, observer: Observer, actor: Actor, policies: Policies, epoch: int
    ) -> None:
        self._store = store
        self._observer = observer
        self._actor = actor
        self._policies = policies
        self._epoch = epoch
        self._mail_at: dt.datetime | None = None

    def run_once(self) -> RoundResult:
        snapshot = self._observer.snapshot(self._epoch, self._mail_at)
        self._mail_at = snapshot.mail_at
        plan = decide(snapshot, self._policies)
        changes = Changes(
            jobs=plan.jobs,
            attempts=plan.attempts,
            events=plan.events,
            refusals=plan.refusals,
            commands_done=plan.commands_done,
        )
        if changes:
            self._store.write(self._epoch, changes)
        for event in plan.events:
            log.info(event.kind, subject=event.subject, why=event.why, **event.data)
        again = self._actor.act(plan, snapshot, self._epoch)
        return RoundResult(plan=plan, again=again)
