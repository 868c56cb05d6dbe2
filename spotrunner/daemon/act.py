"""Do what was decided, and write down what came of it.

The intent of each act is in the store before the act. Orders (the payments of running jobs) go
first, then terminations, then launches; a round acts for a bounded time, and what it did not reach
is decided again in the next one. Calls run in a bounded pool; only the round's thread changes
states and writes.

What is paid for is on record beside the store too, before anybody can use it: an order whose
paid time has no receipt is not posted, and nothing is launched without its order.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from spotrunner.core.model import (
    Attempt,
    EndReason,
    Event,
    LaunchRequest,
    Order,
    Refusal,
    Refused,
    Snapshot,
    Verb,
)
from spotrunner.core.plan import Archive, Plan, PostOrder, Terminate
from spotrunner.core.states import AttemptState, advance
from spotrunner.ports import (
    Changes,
    Clock,
    Cloud,
    Launched,
    LaunchRefused,
    Mailbox,
    Misconfigured,
    NotAuthorized,
    PortError,
    Receipts,
    StaleEpoch,
    Store,
    Throttled,
)

log = structlog.get_logger(__name__)
T = TypeVar("T")
R = TypeVar("R")

ROUND_S = 10.0
# Fewer than the pool has workers: reads of the API's threads go on meanwhile.
CALLS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Actor:
    """`request_for` makes the request of an attempt that is launched for the first time; it may
    raise Unavailable (later), Misconfigured and NotAuthorized (this region cannot be used), and
    LaunchRefused (this pool cannot)."""

    store: Store
    cloud: Cloud
    mailbox: Mailbox
    receipts: Receipts
    request_for: Callable[[Attempt], LaunchRequest]
    clock: Clock
    executor: Executor
    round_s: float = ROUND_S
    # By attempt, until when the receipt that we wrote says it is paid. It starts empty: the first
    # order of each attempt writes one, whatever was written before us.
    _receipted: dict[str, dt.datetime] = field(default_factory=dict, init=False, repr=False)

    def act(self, plan: Plan, snapshot: Snapshot, epoch: int) -> bool:
        """True when a launch was refused, so that another pool should be tried at once."""
        round_ = _Round(self, plan, snapshot, epoch)
        round_.post(plan.orders)
        round_.terminate(plan.terminations)
        refused = round_.launch([launch.attempt.id for launch in plan.launches])
        round_.receipt(snapshot.attempts)
        round_.archive(plan.archives)
        return refused

    def is_receipted(self, order: Order) -> bool:
        paid_until = self._receipted.get(order.attempt)
        return paid_until is not None and paid_until >= order.paid_until

    def write_receipt(self, attempt: Attempt) -> None:
        """Raises PortError."""
        self.receipts.put(attempt)
        if attempt.state.live:
            self._receipted[attempt.id] = attempt.paid_until
        else:
            self._receipted.pop(attempt.id, None)


class _Round:
    """The acts of one round, with the attempts as they are after each."""

    def __init__(self, actor: Actor, plan: Plan, snapshot: Snapshot, epoch: int) -> None:
        self._actor = actor
        self._epoch = epoch
        self._attempts = {a.id: a for a in (*snapshot.attempts, *plan.attempts)}
        self._deadline = time.monotonic() + actor.round_s

    # -- the kinds of acts ---------------------------------------------------------------------

    def post(self, orders: Sequence[PostOrder]) -> None:
        def post_one(act: PostOrder) -> None:
            self._receipt_first(act.order)
            self._actor.mailbox.post_order(act.order)

        posted = []
        for act, error in self._each(post_one, orders):
            if error is None:
                attempt = self._attempts[act.order.attempt]
                posted.append(dataclasses.replace(attempt, order_posted_n=act.order.n))
            elif isinstance(error, StaleEpoch):
                raise error
            else:
                log.warning("order not posted", box=act.order.box, error=str(error))
        self._write(posted)

    def terminate(self, acts: Sequence[Terminate]) -> None:
        def terminate_one(act: Terminate) -> None:
            self._actor.cloud.terminate(act.region, [act.instance_id])

        for act, error in self._each(terminate_one, acts):
            if error is None:
                log.info("terminated", instance=act.instance_id, why=act.why)
            else:
                log.warning("not terminated", instance=act.instance_id, error=str(error))

    def launch(self, attempt_ids: Sequence[str]) -> bool:
        ordered = [
            self._attempts[attempt_id]
            for attempt_id in attempt_ids
            if self._has_its_order(self._attempts[attempt_id])
        ]
        resent = {attempt.id for attempt in ordered if attempt.sent_at is not None}
        ready, refused = self._with_requests(ordered)
        # From here on the outcome may be unknown: the store says so before EC2 is asked.
        sent_at = self._actor.clock.now()
        ready = [dataclasses.replace(attempt, sent_at=sent_at) for attempt in ready]
        self._write(ready)
        launched: dict[str, Launched] = {}

        def send(attempt: Attempt) -> None:
            assert attempt.request is not None
            launched[attempt.id] = self._actor.cloud.launch(attempt.request)

        for attempt, error in self._each(send, ready):
            if error is None:
                self._launched(attempt, launched[attempt.id])
            elif attempt.id in resent and isinstance(error, (NotAuthorized, Misconfigured)):
                # What keeps us from asking now says nothing of what the first sending did.
                self._write([], self._event(attempt, "launch-unknown", str(error)))
            else:
                refused = self._not_launched(attempt, error) or refused
        return refused

    def receipt(self, before: Sequence[Attempt]) -> None:
        """Say beside the store what has ended. It may fail: then whoever has to recover from the
        receipts books the dearer case."""
        known = {attempt.id: attempt for attempt in before}
        ended = (attempt for attempt in self._attempts.values() if not attempt.state.live)
        news = [attempt for attempt in ended if attempt != known.get(attempt.id)]
        for attempt, error in self._each(self._actor.write_receipt, news):
            if error is not None:
                log.warning("receipt not written", attempt=attempt.id, error=str(error))

    def archive(self, acts: Sequence[Archive]) -> None:
        def archive_one(act: Archive) -> None:
            self._actor.mailbox.archive(act.box, act.job_id)

        for act, error in self._each(archive_one, acts):
            if error is not None:
                log.warning("letters not moved", box=act.box, error=str(error))

    # -- payments ------------------------------------------------------------------------------

    def _receipt_first(self, order: Order) -> None:
        """Raises PortError: the order must not be posted. One to stop buys nothing new as a rule,
        and is better heard than on record."""
        if self._actor.is_receipted(order):
            return
        try:
            self._actor.write_receipt(self._attempts[order.attempt])
        except PortError as error:
            if order.verb is not Verb.STOP:
                raise
            log.warning("receipt not written", attempt=order.attempt, error=str(error))

    # -- launches ------------------------------------------------------------------------------

    def _has_its_order(self, attempt: Attempt) -> bool:
        """An instance must find how long it is paid for before it can exist."""
        return attempt.order is not None and attempt.order_posted_n >= attempt.order.n

    def _with_requests(self, attempts: Sequence[Attempt]) -> tuple[list[Attempt], bool]:
        """The attempts with a request to send; those that cannot have one are refused."""
        requests: dict[str, LaunchRequest] = {}
        fresh = [attempt for attempt in attempts if attempt.request is None]

        def make(attempt: Attempt) -> None:
            requests[attempt.id] = self._actor.request_for(attempt)

        refused = False
        for attempt, error in self._each(make, fresh):
            if error is not None and _refusal_of(attempt, error, self._actor) is None:
                log.warning("request not made", attempt=attempt.id, error=str(error))
            elif error is not None:
                refused = self._not_launched(attempt, error) or refused
        ready = [
            dataclasses.replace(attempt, request=requests.get(attempt.id, attempt.request))
            for attempt in attempts
        ]
        return [attempt for attempt in ready if attempt.request is not None], refused

    def _launched(self, attempt: Attempt, launched: Launched) -> None:
        requested = advance(
            attempt,
            AttemptState.REQUESTED,
            instance_id=launched.instance_id,
            launched_at=launched.at,
        )
        why = f"EC2 gave {launched.instance_id} in {attempt.offer.pool}{_from_baked(attempt)}"
        self._write([requested], self._event(requested, "launched", why))

    def _not_launched(self, attempt: Attempt, error: PortError) -> bool:
        """True when it is over with this attempt; else the outcome is unknown or a later round
        asks again, with the same bytes."""
        refusal = _refusal_of(attempt, error, self._actor)
        if refusal is None:
            kind = "throttled" if isinstance(error, Throttled) else "launch-unknown"
            self._write([], self._event(attempt, kind, str(error)))
            return False
        ended = advance(
            attempt,
            AttemptState.ENDED,
            ended_at=refusal.at,
            end_reason=EndReason.REFUSED,
            end_detail=str(error),
            cost_usd_micros=0,
        )
        why = f"{refusal.meaning.value}: {error}"
        self._write([ended], self._event(ended, "refused", why), [refusal])
        return True

    # -- inside --------------------------------------------------------------------------------

    def _each(
        self, call: Callable[[T], None], values: Iterable[T]
    ) -> Iterator[tuple[T, PortError | None]]:
        """Call for each value in the pool while the round has time, and say how each one ended. A
        call that does not answer in time is as good as not made: the next round decides anew."""
        waiting = collections.deque(values)
        asked: dict[Future[PortError | None], T] = {}
        while (waiting or asked) and (left_s := self._deadline - time.monotonic()) > 0:
            while waiting and len(asked) < CALLS_AT_ONCE:
                value = waiting.popleft()
                asked[self._actor.executor.submit(_outcome, call, value)] = value
            answered, _ = wait(asked, timeout=left_s, return_when=FIRST_COMPLETED)
            for future in answered:
                yield asked.pop(future), future.result()

    def _event(self, attempt: Attempt, kind: str, why: str) -> Event:
        pool = attempt.offer.pool
        return Event(
            at=self._actor.clock.now(),
            job_id=attempt.job_id,
            subject=attempt.id,
            kind=kind,
            why=why,
            data={"pool": str(pool), "instance": attempt.instance_id},
        )

    def _write(
        self,
        attempts: Sequence[Attempt],
        event: Event | None = None,
        refusals: Sequence[Refusal] = (),
    ) -> None:
        for attempt in attempts:
            self._attempts[attempt.id] = attempt
        changes = Changes(
            attempts=tuple(attempts),
            events=(event,) if event else (),
            refusals=tuple(refusals),
        )
        if changes:
            self._actor.store.write(self._epoch, changes)
        if event is not None:
            log.info(event.kind, subject=event.subject, why=event.why, **event.data)


def _outcome(call: Callable[[T], None], value: T) -> PortError | None:
    try:
        call(value)
    except PortError as error:
        return error
    return None


def _from_baked(attempt: Attempt) -> str:
    request = attempt.request
    return f", from the baked image {request.image_id}" if request and request.baked else ""


def _refusal_of(attempt: Attempt, error: PortError, actor: Actor) -> Refusal | None:
    """What the error means for the pool; None when it says nothing of the launch's fate."""
    if isinstance(error, LaunchRefused):
        meaning, hints = error.meaning, error.hint_zones
    elif isinstance(error, NotAuthorized):
        meaning, hints = Refused.PERMISSION, ()
    elif isinstance(error, Misconfigured):
        meaning, hints = Refused.CONFIG, ()
    else:
        return None
    return Refusal(
        pool=attempt.offer.pool,
        market=attempt.offer.market,
        at=actor.clock.now(),
        meaning=meaning,
        message=str(error),
        hint_zones=hints,
    )
