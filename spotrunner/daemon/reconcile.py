"""One round: observe, decide, write down, act, write down."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from spotrunner.core.alert import Alert
from spotrunner.core.decide import decide
from spotrunner.core.model import Snapshot
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


# Long before any alert.
_EVER = dt.datetime.min.replace(tzinfo=dt.timezone.utc)


def to_nobody(_: Alert) -> tuple[str, ...]:
    return ()


def nothing(_: Snapshot) -> None:
    pass


class Reconciler:
    """Runs rounds for one epoch. One thread only; StaleEpoch ends it. `channels_of` says over
    which channels an alert goes; `afterwards` is what each round does last."""

    def __init__(
        self,
        *,
        store: Store,
        observer: Observer,
        actor: Actor,
        policies: Policies,
        epoch: int,
        channels_of: Callable[[Alert], tuple[str, ...]] = to_nobody,
        afterwards: Callable[[Snapshot], None] = nothing,
    ) -> None:
        self._store = store
        self._observer = observer
        self._actor = actor
        self._policies = policies
        self._epoch = epoch
        self._channels_of = channels_of
        self._afterwards = afterwards
        self._mail_at: dt.datetime | None = None
        # Nobody else raises any while this epoch leads.
        self._alerted = store.alert_keys(_EVER)

    def run_once(self) -> RoundResult:
        snapshot = self._observer.snapshot(self._epoch, self._mail_at, self._alerted)
        self._mail_at = snapshot.mail_at
        plan = decide(snapshot, self._policies)
        changes = Changes(
            jobs=plan.jobs,
            attempts=plan.attempts,
            events=plan.events,
            refusals=plan.refusals,
            commands_done=plan.commands_done,
            alerts=tuple((alert, self._channels_of(alert)) for alert in plan.alerts),
        )
        if changes:
            self._store.write(self._epoch, changes)
        self._alerted |= {alert.key for alert in plan.alerts}
        for event in plan.events:
            log.info(event.kind, subject=event.subject, why=event.why, **event.data)
        for alert in plan.alerts:
            log.info("alert", alert=alert.key, title=alert.title)
        again = self._actor.act(plan, snapshot, self._epoch)
        self._afterwards(snapshot)
        return RoundResult(plan=plan, again=again)
