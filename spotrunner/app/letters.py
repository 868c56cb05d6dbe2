"""What can be told to instances and daemons through a home bucket alone, without a daemon."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass

from spotrunner.adapters import codec
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.adapters.mail import BRAKE, REPORTS, ObjectMailbox
from spotrunner.adapters.mail import Brake as Brake  # who writes one needs no other module
from spotrunner.core.ids import generation_of
from spotrunner.core.model import Head, Order, Phase, Report, Verb
from spotrunner.ports import NotFound, Objects, StaleEpoch

# A daemon that starts meanwhile takes a higher epoch, but not again and again.
MAX_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Letters:
    """Of one home bucket. Safe to use from several threads. All raise PortError."""

    objects: Objects

    def brake(self, brake: Brake) -> None:
        """A daemon that finds it launches nothing."""
        self.objects.put(BRAKE, codec.to_json(brake))

    def stop(self, box: str, why: str, paid_until: dt.datetime) -> None:
        """See that an order to stop lies in the box. Its epoch is above that of any daemon which
        has written to it, so that such a daemon learns at its next letter that it no longer leads.
        `paid_until` is for a box without an order."""
        for _ in range(MAX_TRIES):
            # One each: a mailbox is for one thread.
            mailbox = ObjectMailbox(self.objects)
            lying = mailbox.order(box, None)
            if lying is not None and lying.verb is Verb.STOP:
                return
            try:
                mailbox.post_order(_stopped(lying, why) or _first(mailbox, box, why, paid_until))
            except StaleEpoch:
                continue
            return
        raise StaleEpoch(f"daemons have written to {box} {MAX_TRIES} times meanwhile")

    def phase(self, box: str) -> Phase | None:
        """Where the agent says it is; None where it says nothing that can be read."""
        try:
            body = self.objects.get(f"{REPORTS}{box}/0.json").body
            return codec.from_json(Report, body).phase
        except (NotFound, codec.Malformed):
            return None

    def head(self, job_id: str) -> Head | None:
        return ObjectHeads(self.objects).read(job_id).head


def _stopped(lying: Order | None, why: str) -> Order | None:
    """What it was paid for stays: an order to stop costs nothing more."""
    if lying is None:
        return None
    return dataclasses.replace(lying, epoch=lying.epoch + 1, n=lying.n + 1, verb=Verb.STOP, why=why)


def _first(mailbox: ObjectMailbox, box: str, why: str, paid_until: dt.datetime) -> Order:
    """Where none can be read, its agent may have read one of any daemon that wrote to others."""
    return Order(
        box=box,
        epoch=mailbox.highest_epoch() + 1,
        n=1,
        attempt=box,
        generation=generation_of(box) or 0,
        verb=Verb.STOP,
        paid_until=paid_until,
        why=why,
    )
