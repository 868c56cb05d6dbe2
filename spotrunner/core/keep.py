"""Pay on for the attempts that prove that they work: no evidence, no money.

An attempt runs only until `paid_until`; its agent powers off before that. At half time of a step
it gets another one, if it reported lately and if its job's budget pays it at the dearest price.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from spotrunner.core.draft import Draft
from spotrunner.core.model import Attempt, Phase
from spotrunner.core.money import affordable_s, usd
from spotrunner.core.retire import is_superseded
from spotrunner.core.states import AttemptState

_AT_WORK = (Phase.BOOT, Phase.FETCH, Phase.READY, Phase.RESTORE, Phase.TRAIN)


def keep(draft: Draft) -> None:
    for attempt in draft.live():
        if _is_due(draft, attempt) and _has_evidence(draft, attempt):
            _extend(draft, attempt)


def _is_due(draft: Draft, attempt: Attempt) -> bool:
    """Half of the step is used up, and the attempt is one that should go on. An interrupted one
    has its notice's two minutes, which are paid as a rule: `paid_until` wins over idling."""
    if attempt.state not in (AttemptState.STARTING, AttemptState.RUNNING):
        return False
    left_s = (attempt.paid_until - draft.now).total_seconds()
    return 0 < left_s <= draft.limits.step_s / 2 and not is_superseded(draft, attempt)


def _has_evidence(draft: Draft, attempt: Attempt) -> bool:
    """It said lately that it is at work; one that winds down by itself needs no more money."""
    report = draft.report(attempt)
    if report is None or report.phase not in _AT_WORK:
        return False
    return draft.now < report.at + dt.timedelta(seconds=draft.limits.fresh_report_s)


def _extend(draft: Draft, attempt: Attempt) -> None:
    job = draft.jobs[attempt.job_id]
    left = draft.cap_left(job)
    dearest = attempt.offer.dearest_usd_micros_hour
    until = draft.now + dt.timedelta(seconds=draft.limits.step_s)
    wanted_s = int((until - attempt.paid_until).total_seconds())
    pays_s = affordable_s(left, dearest, wanted_s)
    if pays_s < min(wanted_s, draft.limits.boot_allowance_s):
        _say_last_step(draft, attempt, left or 0)
        return
    paid_until = attempt.paid_until + dt.timedelta(seconds=pays_s)
    # Should it have been told that this was the last step, it no longer is.
    extended = dataclasses.replace(attempt, paid_until=paid_until, end_detail="")
    draft.mark(
        extended,
        "extended",
        f"it works, so it is paid until {paid_until:%H:%M:%S}",
        seconds=pays_s,
        cap_left_usd=None if left is None else left / 1_000_000,
    )


def _say_last_step(draft: Draft, attempt: Attempt, left: int) -> None:
    """Said once a figure: `end_detail` remembers it, and is the reason when it ends by it."""
    why = (
        f"the budget leaves {usd(max(0, left))}, which pays no further step:"
        f" it stops with a checkpoint before {attempt.paid_until:%H:%M:%S}"
    )
    if attempt.end_detail != why:
        draft.mark(dataclasses.replace(attempt, end_detail=why), "last-step", why)
