"""Which checkpoints in the bucket nobody needs any more.

A folder that is removed by mistake is work that is lost, so what is known for sure decides. The
holder of generation g may judge by a HEAD that is already old: whoever took over since then names
only what that HEAD names, and what was made under a higher generation. So it is safe to remove
what HEAD does not name and no higher generation has made.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spotrunner.core.model import Head
from spotrunner.core.saving import Saving

# What has no manifest may be an upload under way; after this long without a new file it is not.
TORN_AFTER = dt.timedelta(hours=1)
_NAME = re.compile(r"(\d+)-(\d+)-\w+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class StoredCheckpoint:
    """A folder below `checkpoints/` as a listing shows it; its key ends with a slash. `complete`:
    its manifest is there. `newest_at`: when its last object was written."""

    folder: str
    step: int
    generation: int
    complete: bool
    newest_at: dt.datetime


def folder_name(step: int, generation: int, nonce: str) -> str:
    """Says who made it, for those who have to judge it later; `nonce` is of letters and digits."""
    return f"{step:08d}-{generation}-{nonce}"


def maker_of(name: str) -> tuple[int, int] | None:
    """Step and generation; None for a name that is none of ours."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None


def spent(
    stored: Iterable[StoredCheckpoint],
    head: Head,
    saving: Saving,
    *,
    generation: int,
    now: dt.datetime,
) -> list[StoredCheckpoint]:
    """What the holder with `generation`, who has read `head`, may remove; the oldest first."""
    if head.generation != generation:
        return []
    known = list(stored)
    older = [each for each in known if each.complete and each.step <= head.step]
    kept = set(_named(head)) | {each.folder for each in _newest(older, saving.keep_last)}
    if saving.keep_every_steps is not None:
        kept |= {each.folder for each in _milestones(older, saving.keep_every_steps)}
    gone = [each for each in older if each.generation <= generation]
    gone += [each for each in known if _is_torn(each, head, generation, now)]
    return sorted((each for each in gone if each.folder not in kept), key=_age)


def _named(head: Head) -> Iterator[str]:
    """Also what was found damaged in the last swap: somebody may want to look at it."""
    for ref in (head.manifest, head.previous, head.damaged):
        if ref is not None:
            yield ref.folder


def _newest(complete: list[StoredCheckpoint], count: int) -> list[StoredCheckpoint]:
    return sorted(complete, key=_age, reverse=True)[:count]


def _milestones(complete: list[StoredCheckpoint], every_steps: int) -> list[StoredCheckpoint]:
    """The first at or after each multiple. Of two at the same step the later one counts: the job
    was there again because the other one was not good."""
    first: dict[int, StoredCheckpoint] = {}
    for each in sorted(complete, key=lambda one: (-one.step, one.generation, one.newest_at)):
        first[each.step // every_steps] = each
    return [each for multiple, each in first.items() if multiple > 0]


def _is_torn(each: StoredCheckpoint, head: Head, generation: int, now: dt.datetime) -> bool:
    """Nobody can complete it, and commit it, any more: it is a fenced one's, or one of our own
    that HEAD has passed."""
    if each.complete or now - each.newest_at < TORN_AFTER:
        return False
    return each.generation < generation or (each.generation == generation and each.step < head.step)


def _age(each: StoredCheckpoint) -> tuple[int, int, dt.datetime]:
    return each.step, each.generation, each.newest_at
