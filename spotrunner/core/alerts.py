"""Tell people what they would want to know now: each thing once, with why, what it costs and what
to type.

What has just happened is read from the round's events; what holds (a share of a cap, a forecast,
old prices) is looked at every round, and its key says that it was told.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from dataclasses import dataclass
from functools import partial

from spotrunner.core.alert import Alert, AlertKind, cut
from spotrunner.core.draft import Draft
from spotrunner.core.forecast import Forecast, forecast
from spotrunner.core.ledger import entries
from spotrunner.core.look import look
from spotrunner.core.model import AlertRules, Attempt, EndReason, Event, Job, Pause
from spotrunner.core.money import accrued, usd
from spotrunner.core.purse import Balance, Cap, Scope
from spotrunner.core.retire import serves
from spotrunner.core.states import JobState
from spotrunner.core.windows import NEVER, local_day, midnight, next_clock

_DAY = dt.timedelta(days=1)
# A pace that was measured over less than this tells nothing of the night.
_PACED = dt.timedelta(minutes=10)
# Letters of what EC2 says when it does not answer.
_LONGEST_TROUBLE = 200


def alerts(draft: Draft) -> None:
    if draft.snapshot.alert_rules is not None:
        _alerts(draft, draft.snapshot.alert_rules)


def _alerts(draft: Draft, rules: AlertRules) -> None:
    for event in draft.events:
        _of_event(draft, event)
    for job in list(draft.jobs.values()):
        if not job.state.over:
            _of_waiting(draft, job)
            _of_forecast(draft, job)
    _of_caps(draft, rules)
    _of_strays(draft)
    _of_prices(draft)
    _of_day(draft, rules)


# -- what has happened -------------------------------------------------------------------------


def _of_event(draft: Draft, event: Event) -> None:
    job = draft.jobs.get(event.job_id)
    if job is None:
        return
    kind, title = _told(draft, job, event)
    if kind is not None:
        stamp = "" if job.state.over else f"/{event.at.isoformat()}"
        _tell(draft, job, kind, f"{event.subject}/{event.kind}{stamp}", title, event.why)


def _told(draft: Draft, job: Job, event: Event) -> tuple[AlertKind | None, str]:
    """What of the story people are told; None: nothing."""
    told = {
        "notice": (AlertKind.INTERRUPTED, f"{event.subject} is being interrupted"),
        "paused": (AlertKind.PAUSED, f"{job.id} is paused"),
        "resumed": (AlertKind.RESUMED, f"{job.id} goes on"),
        "failed": (AlertKind.FAILED, f"{job.id} has failed"),
        "succeeded": (AlertKind.SUCCEEDED, f"{job.id} is done"),
        "adopted": (AlertKind.ORPHAN, f"an instance of {job.id} had no owner: it is being ended"),
    }
    attempt = draft.attempts.get(event.subject)
    if event.kind == "ended" and attempt is not None and _is_sudden(attempt):
        return AlertKind.INTERRUPTED, f"EC2 took {attempt.id} without a notice"
    if event.kind == "winding-down" and event.data.get("reason") == EndReason.ORPHANED.value:
        return AlertKind.ORPHAN, f"an instance of {job.id} had no owner: it is being ended"
    return told.get(event.kind, (None, ""))


def _is_sudden(attempt: Attempt) -> bool:
    return attempt.end_reason is EndReason.INTERRUPTED and attempt.notice is None


# -- what holds --------------------------------------------------------------------------------


def _of_waiting(draft: Draft, job: Job) -> None:
    """Since when it has had no instance is kept with the job, for the next daemon too."""
    has_one = any(it.launched_at is not None and serves(draft, it) for it in draft.live(job.id))
    waits = not has_one and job.state is not JobState.PAUSED and not draft.is_held
    since = (job.waits_since or draft.now) if waits else None
    if since != job.waits_since:
        draft.update(dataclasses.replace(job, waits_since=since))
    if since is None or draft.now < since + _s(draft.limits.no_capacity_alert_s):
        return
    minutes = int((draft.now - since).total_seconds()) // 60
    title = f"{job.id} has had no instance for {minutes} minutes"
    why = job.reason or "every launch was refused"
    command = f"spotrunner explain {job.id}"
    key = f"{job.id}/capacity/{since.isoformat()}"
    _tell(draft, job, AlertKind.CAPACITY, key, title, why, command)


def _of_caps(draft: Draft, rules: AlertRules) -> None:
    """Of all jobs that this round began with: what one has cost that ends in it is news, too."""
    caps = (it.cap for job in draft.jobs.values() for it in draft.purse(job).balances)
    for cap in dict.fromkeys(caps):
        if cap.begin is None or cap.begin <= draft.now:
            for reader in _readers(draft, cap):
                _of_share(draft, draft.books.balance(cap), reader, rules)
    # A cap is never spent to the last cent: what it stops is 100 percent.
    if 100 in rules.percents:
        for event in draft.events:
            if event.kind == "last-step":
                _of_last_step(draft, draft.jobs[event.job_id], event)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Whom an alert is for: a job's people, an owner, or those who look after the installation."""

    job_id: str | None = None
    owner: str = ""
    channels: tuple[str, ...] = ()


def _reader(job: Job) -> _Reader:
    return _Reader(job_id=job.id, owner=job.spec.owner, channels=job.spec.alerts)


def _readers(draft: Draft, cap: Cap) -> list[_Reader]:
    """A cap that jobs share is the business of none of them alone."""
    if cap.scope is Scope.JOB:
        return [_reader(draft.jobs[cap.name])]
    if cap.scope is Scope.SWEEP:
        specs = [job.spec for job in draft.jobs.values()]
        owners = sorted({spec.owner for spec in specs if spec.sweep == cap.name})
        return [_Reader(owner=owner) for owner in owners]
    return [_Reader(owner=cap.name)]


def _of_share(draft: Draft, balance: Balance, reader: _Reader, rules: AlertRules) -> None:
    percent = _crossed(draft, balance, reader, rules)
    if percent is None:
        return
    cap = balance.cap
    title = f"{percent} % of {cap} is spent"
    if reader.job_id is not None:
        title = f"{reader.job_id}: {title}"
    key = _cap_key(cap, reader, percent)
    command = _cap_command(draft, cap)
    _send(draft, reader, AlertKind.CAP, key, title, "", command, _left(balance))


def _crossed(draft: Draft, balance: Balance, reader: _Reader, rules: AlertRules) -> int | None:
    """The highest share that is spent, unless it or a higher one was told."""
    spent, cap = balance.accrued_usd_micros, balance.cap
    crossed = [percent for percent in rules.percents if 100 * spent >= percent * cap.usd_micros]
    told = [p for p in rules.percents if _cap_key(cap, reader, p) in draft.snapshot.alerted]
    return crossed[-1] if crossed and crossed[-1] > max(told, default=0) else None


def _cap_key(cap: Cap, reader: _Reader, percent: int | str) -> str:
    whose = f"{cap.name}/{reader.owner}" if cap.scope is Scope.SWEEP else cap.name
    return f"cap/{cap.scope.value}/{whose}/{cap.day or 'all'}/{cap.usd_micros}/{percent}"


def _of_last_step(draft: Draft, job: Job, event: Event) -> None:
    """Once for a figure (and day), however often jobs are launched under what is left of it."""
    balance = _stopped_by(draft, job, event)
    if balance is None:
        key = f"{job.id}/last-step/{local_day(draft.snapshot.caps.tz, draft.now)}"
        _tell(draft, job, AlertKind.CAP, key, f"{job.id} stops: it cannot be paid", event.why)
        return
    cap, command = balance.cap, _cap_command(draft, balance.cap)
    title = f"{cap} is reached: {job.id} stops"
    if cap.scope is Scope.JOB:
        title = f"{job.id} stops: its cap is reached"
    for reader in _readers(draft, cap):
        key = _cap_key(cap, reader, "last-step")
        _send(draft, reader, AlertKind.CAP, key, title, event.why, command, _left(balance))


def _stopped_by(draft: Draft, job: Job, event: Event) -> Balance | None:
    """None where it was no cap, but a price that nobody knows."""
    purse, scope = draft.purse(job), event.data.get("scope")
    found = [it for it in purse.balances if purse.priced and it.cap.scope.value == scope]
    return min(found, key=lambda it: it.left_usd_micros, default=None)


def _of_forecast(draft: Draft, job: Job) -> None:
    found = forecast_of(draft, job)
    if found is None:
        return
    clock = partial(_clock, tz=job.spec.tz, now=draft.now)
    if found.cap is not None and found.cap_at is not None:
        title = f"{job.id} will reach its cap at {clock(found.cap_at)}"
        why = f"{found.cap} ends with {100 * (found.cap_progress or 0):.0f} % done"
        command = _cap_command(draft, found.cap)
        day = found.cap.day or "all"
        key = f"{job.id}/forecast/{found.cap.scope.value}/{day}/{found.cap.usd_micros}"
        _tell(draft, job, AlertKind.FORECAST, key, title, why, command)
    deadline_at = job.spec.deadline_at
    if deadline_at is not None and found.done_at > deadline_at:
        title = f"{job.id} will miss its deadline, {clock(deadline_at)}"
        why = "at its pace it will never be done"
        if found.done_at < NEVER:
            why = f"at its pace it will be done at {clock(found.done_at)}"
        command = f"spotrunner extend {job.id} --deadline TIME"
        key = f"{job.id}/late/{deadline_at.isoformat()}"
        _tell(draft, job, AlertKind.DEADLINE, key, title, why, command)


def forecast_of(draft: Draft, job: Job) -> Forecast | None:
    """Of a job that has trained long enough to have a pace."""
    serving = [it for it in draft.live(job.id) if serves(draft, it)]
    paced = [it for it in serving if it.first_step_at and draft.now >= it.first_step_at + _PACED]
    if not paced:
        return None
    situation = look(job, draft.progress(job), draft.outlook, paced[-1])
    return forecast(situation, job.spec, draft.purse(job).balances, draft.now, draft.limits)


def _of_strays(draft: Draft) -> None:
    """Of no job that we know: in nobody's ledger."""
    for instance in draft.strays:
        lived_s = int((draft.now - instance.launched_at).total_seconds())
        where, minutes = f"{instance.id} in {instance.pool}", lived_s // 60
        _announce(
            draft,
            AlertKind.ORPHAN,
            f"orphan/{instance.id}",
            f"{where} had no owner: it is being ended",
            f"it bears our tag, and no attempt that we know launched it, {minutes} minutes ago",
            "spotrunner reconcile",
        )


def _of_prices(draft: Draft) -> None:
    tz = draft.snapshot.caps.tz
    for region, since in sorted(draft.snapshot.prices_at.items()):
        if draft.now < since + _s(draft.limits.old_prices_alert_s):
            continue
        minutes = int((draft.now - since).total_seconds()) // 60
        trouble = cut(draft.snapshot.prices_trouble.get(region, ""), _LONGEST_TROUBLE)
        _announce(
            draft,
            AlertKind.PRICES,
            f"prices/{region}/{since.isoformat()}",
            f"no spot prices of {region} for {minutes} minutes",
            f"EC2 has not told them since {_clock(since, tz, draft.now)}: {trouble}",
            "spotrunner prices",
        )


def _of_day(draft: Draft, rules: AlertRules) -> None:
    """Yesterday, once a day; of a day on which nothing was spent nobody hears."""
    tz, minute = draft.snapshot.caps.tz, rules.summary_min
    today = local_day(tz, draft.now)
    day = today - _DAY
    if minute is None:
        return
    # By the clock: where it changes on this day, minutes since midnight tell another time.
    if draft.now < next_clock(minute, tz, midnight(tz, today) - dt.timedelta(seconds=1)):
        return
    spent, on_demand = _spent_on(draft, day)
    if spent == 0:
        return
    states = [job.state for job in draft.jobs.values()]
    open_ = ", ".join(
        f"{states.count(state)} {state.value}" for state in JobState if state in states
    )
    _announce(
        draft,
        AlertKind.SUMMARY,
        f"summary/{day}",
        f"{day}: {usd(spent)} spent",
        f"jobs now: {open_ or 'none'}",
        f"spotrunner report --since {day}",
        f"on demand it would have been {usd(on_demand)}",
    )


def _spent_on(draft: Draft, day: dt.date) -> tuple[int, int]:
    spent = draft.snapshot.spent
    live = [
        entry
        for attempt in draft.snapshot.attempts
        if attempt.state.live
        for entry in entries(draft.attempts[attempt.id], draft.snapshot.caps.tz, draft.now)
        if entry.day == day
    ]
    return (
        spent.by_day.get(day, 0) + sum(entry.cost_usd_micros for entry in live),
        spent.on_demand_by_day.get(day, 0) + sum(entry.on_demand_usd_micros for entry in live),
    )


# -- telling -----------------------------------------------------------------------------------


def _tell(
    draft: Draft,
    job: Job,
    kind: AlertKind,
    key: str,
    title: str,
    why: str,
    command: str = "",
) -> None:
    command = command or _command(draft, job)
    _send(draft, _reader(job), kind, key, title, why, command, _cost(draft, job))


def _announce(
    draft: Draft, kind: AlertKind, key: str, title: str, why: str, command: str, cost: str = ""
) -> None:
    """What is of no job: for whoever looks after the installation."""
    _send(draft, _Reader(), kind, key, title, why, command, cost)


def _send(
    draft: Draft,
    reader: _Reader,
    kind: AlertKind,
    key: str,
    title: str,
    why: str,
    command: str,
    cost: str,
) -> None:
    draft.alert(
        Alert(
            key=key,
            at=draft.now,
            kind=kind,
            job_id=reader.job_id,
            owner=reader.owner,
            channels=reader.channels,
            title=title,
            why=why,
            cost=cost,
            command=command,
        )
    )


def _cost(draft: Draft, job: Job) -> str:
    spent = usd(sum(accrued(attempt, draft.now) for attempt in draft.of(job.id)))
    budget = job.spec.budget_usd_micros
    return f"{spent} so far" + (f" of {usd(budget)}" if budget is not None else "")


def _left(balance: Balance) -> str:
    return (
        f"{usd(balance.accrued_usd_micros)} spent, {usd(balance.reserved_usd_micros)} reserved,"
        f" {usd(max(0, balance.left_usd_micros))} left"
    )


def _cap_command(draft: Draft, cap: Cap) -> str:
    """What bounds other jobs too is not raised with one of them."""
    if cap.scope is not Scope.JOB:
        return "spotrunner budget"
    is_over = draft.jobs[cap.name].state.over
    return (
        f"spotrunner show {cap.name}" if is_over else f"spotrunner extend {cap.name} --budget USD"
    )


def _command(draft: Draft, job: Job) -> str:
    if job.state is JobState.PAUSED and job.pause is Pause.BUDGET:
        tightest = draft.purse(job).tightest
        return _cap_command(draft, tightest.cap) if tightest else "spotrunner budget"
    if job.state is JobState.PAUSED and job.pause is Pause.USER:
        return f"spotrunner resume {job.id}"
    if job.state is JobState.FAILED:
        return f"spotrunner logs {job.id}"
    return f"spotrunner show {job.id}" if job.state.over else f"spotrunner explain {job.id}"


def _clock(at: dt.datetime, tz: str, now: dt.datetime) -> str:
    """As its reader's clock shows it; the date where it is another than now."""
    zone = zoneinfo.ZoneInfo(tz)
    local = at.astimezone(zone)
    day = "" if local.date() == now.astimezone(zone).date() else f"{local:%Y-%m-%d} "
    return f"{day}{local:%H:%M} " + ("UTC" if tz == "UTC" else f"({tz})")


def _s(seconds: int) -> dt.timedelta:
    return dt.timedelta(seconds=seconds)
