"""One round's working copy: the snapshot's jobs and attempts as the phases change them.

The phases share it instead of returning partial plans, so that each sees what the one before it
decided. It is made for one `decide` and never leaves it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from spotrunner.core.alert import Alert
from spotrunner.core.look import Outlook, Progress
from spotrunner.core.model import (
    Attempt,
    EndReason,
    Event,
    Head,
    Instance,
    Job,
    Refusal,
    Report,
    Snapshot,
)
from spotrunner.core.plan import Archive, Launch, Plan, PostOrder, Terminate
from spotrunner.core.purse import Books, Purse
from spotrunner.core.states import AttemptState, advance

Datum = str | int | float | None


class Draft:
    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.now = snapshot.now
        self.limits = snapshot.limits
        self.jobs = {job.id: job for job in snapshot.jobs}
        self.attempts = {attempt.id: attempt for attempt in snapshot.attempts}
        self.refusals = list(snapshot.refusals)
        # instances that nobody owns and no job can be charged with
        self.strays: list[Instance] = []
        self._known: dict[str, Job | Attempt] = {**self.jobs, **self.attempts}
        self._events: list[Event] = []
        self._commands_done: list[int] = []
        self._orders: list[PostOrder] = []
        self._terminations: dict[str, Terminate] = {}
        self._launches: list[Launch] = []
        self._archives: list[Archive] = []
        self._alerts: dict[str, Alert] = {}
        self._listed = self._index_instances()
        self._books = Books(
            caps=snapshot.caps,
            spent=snapshot.spent,
            jobs=snapshot.jobs,
            attempts=snapshot.attempts,
            seen_at=self._seen_at,
            limits=snapshot.limits,
            now=snapshot.now,
        )

    # -- what is known -------------------------------------------------------------------------

    def live(self, job_id: str | None = None) -> list[Attempt]:
        """Attempts whose instance may exist, oldest generation first."""
        return [
            attempt
            for attempt in self.attempts.values()
            if attempt.state.live and job_id in (None, attempt.job_id)
        ]

    def of(self, job_id: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts.values() if attempt.job_id == job_id]

    def instance(self, attempt: Attempt) -> Instance | None:
        """The attempt's instance, if any region lists it: by its id, and while that is not known
        by tag or token. A second instance with its tag says nothing of the first."""
        if attempt.instance_id is not None:
            return self._listed.get(attempt.instance_id)
        return self._listed.get(attempt.id) or self._listed.get(self._token(attempt))

    def report(self, attempt: Attempt) -> Report | None:
        return self.snapshot.reports.get(attempt.id)

    def head(self, job_id: str) -> Head | None:
        """The job's HEAD as far as known; `head_known` tells None from not read."""
        return self.snapshot.heads.get(job_id)

    def head_known(self, job_id: str) -> bool:
        return job_id in self.snapshot.heads

    @property
    def mail_known(self) -> bool:
        """Whether the mail could be read in this round."""
        return self.snapshot.mail_at is None or self.snapshot.mail_at >= self.now

    def head_step(self, job_id: str) -> int:
        head = self.head(job_id)
        return head.step if head else 0

    def purse(self, job: Job, ahead_s: int | None = None) -> Purse:
        """What the job's caps leave beyond everything accrued and reserved, for payments of the
        next `ahead_s` seconds (of its next step, unless told). Both a launch and its timer may
        be late."""
        ahead_s = self.step_s(job) if ahead_s is None else ahead_s
        until = self.now + dt.timedelta(seconds=ahead_s + 2 * self.limits.boot_slack_s)
        return self._books.purse(job, until)

    @property
    def books(self) -> Books:
        return self._books

    def step_s(self, job: Job) -> int:
        """How far ahead the job is paid for."""
        return max(self.limits.step_s, job.spec.unattended_s or 0)

    @property
    def is_held(self) -> bool:
        """Nothing new may be launched: somebody holds the installation, or pulled the brake."""
        held_until = self.snapshot.held_until
        return self.snapshot.brake is not None or (held_until is not None and self.now < held_until)

    @property
    def outlook(self) -> Outlook:
        """The market, with what this round has learned of it."""
        known = self.snapshot
        return Outlook(
            now=self.now,
            limits=self.limits,
            offers=known.offers,
            refusals=self.refusals,
            sights=known.sights,
            scores=known.scores,
            bands=known.bands,
            hazards=known.hazards,
        )

    def progress(self, job: Job) -> Progress:
        return Progress(
            attempts=self.of(job.id),
            reports=self.snapshot.reports,
            step=self.head_step(job.id),
            purse=self.purse(job),
        )

    def all_instances(self) -> Iterator[Instance]:
        for listed in self.snapshot.instances.values():
            yield from listed or ()

    # -- what is decided -----------------------------------------------------------------------

    def update(self, value: Job | Attempt) -> None:
        """A change that is no news."""
        if isinstance(value, Job):
            self.jobs[value.id] = value
        else:
            self.attempts[value.id] = value
        self._books.change(value)

    def mark(self, value: Job | Attempt, kind: str, why: str, **data: Datum) -> None:
        """A change that belongs to the job's story."""
        self.update(value)
        job_id = value.id if isinstance(value, Job) else value.job_id
        self.note(job_id, value.id, kind, why, **data)

    def note(self, job_id: str, subject: str, kind: str, why: str, **data: Datum) -> None:
        """A line of the story without a change."""
        self._events.append(
            Event(at=self.now, job_id=job_id, subject=subject, kind=kind, why=why, data=data)
        )

    def wind_down(self, attempt: Attempt, ending: EndReason, why: str, detail: str = "") -> None:
        """Want the attempt ended: its agent is told to stop and gets its time for it."""
        changed = advance(
            attempt,
            AttemptState.TERMINATING,
            ending=ending,
            ending_at=self.now,
            end_detail=detail,
            # An attempt that was given up and turns up again is open again, its bill too.
            ended_at=None,
            end_reason=None,
            cost_usd_micros=None,
            free=False,
            estimated=False,
            step_after=None,
        )
        self.mark(changed, "winding-down", why, reason=ending.value)

    def alert(self, alert: Alert) -> None:
        """Once: those that were raised before are known by their keys."""
        if alert.key not in self.snapshot.alerted:
            self._alerts.setdefault(alert.key, alert)

    def refuse(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def done(self, command_id: int) -> None:
        self._commands_done.append(command_id)

    def post(self, order: PostOrder) -> None:
        self._orders.append(order)

    def terminate(self, region: str, instance_id: str, why: str) -> None:
        self._terminations[instance_id] = Terminate(region=region, instance_id=instance_id, why=why)

    def launch(self, attempt: Attempt, why: str) -> None:
        self._launches.append(Launch(attempt=attempt, why=why))

    def archive(self, box: str, job_id: str) -> None:
        self._archives.append(Archive(box=box, job_id=job_id))

    @property
    def events(self) -> tuple[Event, ...]:
        """Of this round so far."""
        return tuple(self._events)

    @property
    def launches(self) -> int:
        return len(self._launches)

    def plan(self) -> Plan:
        values: tuple[Job | Attempt, ...] = (*self.jobs.values(), *self.attempts.values())
        changed = [value for value in values if self._known.get(value.id) != value]
        return Plan(
            jobs=tuple(value for value in changed if isinstance(value, Job)),
            attempts=tuple(value for value in changed if isinstance(value, Attempt)),
            events=tuple(self._events),
            refusals=tuple(self.refusals[len(self.snapshot.refusals) :]),
            commands_done=tuple(self._commands_done),
            orders=tuple(self._orders),
            terminations=tuple(self._terminations.values()),
            # A later phase may have changed the attempt (its order): send what is written down.
            launches=tuple(
                Launch(attempt=self.attempts[launch.attempt.id], why=launch.why)
                for launch in self._launches
            ),
            archives=tuple(self._archives),
            alerts=tuple(self._alerts.values()),
        )

    # -- inside --------------------------------------------------------------------------------

    def _seen_at(self, attempt: Attempt) -> dt.datetime | None:
        """When EC2 last showed its instance alive: now, or in no listing of this round."""
        found = self.instance(attempt)
        return self.now if found is not None and found.billed else None

    def _index_instances(self) -> dict[str, Instance]:
        """By id, tag and token. Where two share a tag, the one that costs money stands for it."""
        index: dict[str, Instance] = {}
        for instance in sorted(self.all_instances(), key=lambda each: each.billed):
            for key in (instance.id, instance.attempt_id, instance.client_token):
                if key is not None:
                    index[key] = instance
        return index

    @staticmethod
    def _token(attempt: Attempt) -> str:
        return attempt.request.client_token if attempt.request else ""
