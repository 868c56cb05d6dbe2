"""Which job, which attempts and which time the words of a call mean."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from spotrunner.core.catalogue import closest_name
from spotrunner.core.model import Attempt, Job
from spotrunner.ports import Store
from spotrunner.web import errors, moments

_SHOWN = 5
# Whoever mistypes an id means a job of late.
_REMEMBERED = 200


def find_job(store: Store, word: str) -> Job:
    """By id; by name where only one job has it, or only one of those that are not over.
    Raises ApiError."""
    job = store.job(word)
    if job is not None:
        return job
    meant = store.jobs_named(word)
    running = [job for job in meant if not job.state.over]
    if len(running) == 1 or len(meant) == 1:
        return (running or meant)[0]
    if meant:
        raise _several(word, meant)
    close = closest_name(word, [job.id for job in store.jobs(newest=_REMEMBERED)])
    hint = f"did you mean {close}?" if close else ""
    raise errors.one(errors.NOT_FOUND, f"there is no job {word}", hint=hint)


def _several(word: str, meant: Sequence[Job]) -> errors.ApiError:
    """The open ones first, of each kind the newest first."""
    newest = sorted(meant[::-1], key=lambda job: job.state.over)
    ids = [f"{job.id} ({job.state.value})" for job in newest[:_SHOWN]]
    more = [f"and {len(newest) - _SHOWN} more"] if len(newest) > _SHOWN else []
    message = f"{word} can mean several jobs: {', '.join([*ids, *more])}"
    return errors.one(errors.CONFLICT, message, "job", "name one by its id")


def find_attempts(attempts: Sequence[Attempt], word: str) -> Sequence[Attempt]:
    """All for an empty word; else the one with this id or generation. Raises ApiError."""
    if not word:
        return attempts
    found = [each for each in attempts if word in (each.id, str(each.generation))]
    if not found:
        there = ", ".join(each.id for each in attempts) or "none yet"
        raise errors.one(errors.NOT_FOUND, f"there is no attempt {word}; there is {there}")
    return found


def past(text: str, now: dt.datetime) -> dt.datetime:
    """How long ago, or since which time, a query wants to know. Raises ApiError."""
    ago_s = moments.seconds(text)
    try:
        if ago_s is not None:
            return now - dt.timedelta(seconds=ago_s)
        since = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
        since = since if since.tzinfo else since.replace(tzinfo=dt.timezone.utc)
        since = since.astimezone(dt.timezone.utc)
    except (ValueError, OverflowError):
        message = f"expected how long ago (30d, 12h) or a day (2026-10-01, in UTC), found {text}"
        raise errors.one(errors.UNPROCESSABLE, message, "since") from None
    if since >= now:
        message = f"{text} is not past yet: it is {now:%Y-%m-%d %H:%M} UTC"
        raise errors.one(errors.UNPROCESSABLE, message, "since")
    return since
