"""HEAD of a job as one attempt may change it: by compare-and-swap, settled by reading."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from spotrunner.core.head import (
    MAX_SWAPS,
    Verdict,
    committed,
    fallen_back,
    finalized,
    finished,
    judge,
    may_write,
    taken_over,
)
from spotrunner.core.model import CheckpointRef, Head
from spotrunner.ports import Heads, PreconditionFailed, Unavailable


class FencedOff(Exception):
    """A later generation holds HEAD: this attempt writes nothing more."""


class NothingLeft(Exception):
    """No checkpoint that HEAD knows of can be used. It still names the last one of them."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Every method returns HEAD as it stands afterwards, does nothing where HEAD says it already,
    and raises FencedOff or Unavailable (then nobody knows, and it may be called again)."""

    heads: Heads
    job_id: str
    attempt: str
    generation: int
    nonce: Callable[[], str]

    def take(self) -> Head:
        """Become the holder. HEAD that is ours already stays as it is, and so does a `done` one."""

        def change(seen: Head | None, nonce: str) -> Head | None:
            if seen is not None and (self._is_ours(seen) or seen.done is not None):
                return None
            return taken_over(seen, attempt=self.attempt, generation=self.generation, nonce=nonce)

        return self._swap(change)

    def commit(self, ref: CheckpointRef, *, final: bool) -> Head:
        def change(seen: Head, nonce: str) -> Head | None:
            if seen.manifest == ref and (seen.final or not final):
                return None
            return committed(seen, ref, final=final, nonce=nonce)

        return self._swap_held(change)

    def finalize(self) -> Head:
        return self._swap_held(
            lambda seen, nonce: None if seen.final else finalized(seen, nonce=nonce)
        )

    def finish(self, outputs: str) -> Head:
        """`outputs` is the key of the outputs' manifest."""
        return self._swap_held(
            lambda seen, nonce: (
                None if seen.done is not None else finished(seen, outputs=outputs, nonce=nonce)
            )
        )

    def fall_back(self, damaged: CheckpointRef) -> Head:
        """To the checkpoint before. Raises NothingLeft where there is none: to begin anew is for
        people to decide, and meanwhile HEAD goes on naming what may yet be mended."""

        def change(seen: Head, nonce: str) -> Head | None:
            if seen.manifest != damaged:
                return None
            if seen.previous is None:
                raise NothingLeft(_nothing_left(damaged, seen.damaged))
            return fallen_back(seen, nonce=nonce)

        return self._swap_held(change)

    def _swap_held(self, change: Callable[[Head, str], Head | None]) -> Head:
        """A change of a HEAD that we hold. Should somebody have put an older one back, it is
        taken over again in the same swap."""

        def held(seen: Head | None, nonce: str) -> Head | None:
            if seen is None or not self._is_ours(seen):
                retaken = taken_over(
                    seen, attempt=self.attempt, generation=self.generation, nonce=nonce
                )
                seen = dataclasses.replace(retaken, seq=retaken.seq - 1)
            return change(seen, nonce)

        return self._swap(held)

    def _swap(self, change: Callable[[Head | None, str], Head | None]) -> Head:
        for _ in range(MAX_SWAPS):
            stored = self.heads.read(self.job_id)
            self._check(stored.head)
            nonce = self.nonce()
            new = change(stored.head, nonce)
            if new is None:
                assert stored.head is not None
                return stored.head
            try:
                self.heads.swap(self.job_id, new, stored.etag)
            except (PreconditionFailed, Unavailable):
                # A retry below us may have met our own success: only HEAD itself knows.
                if self._settle(nonce) is Verdict.AGAIN:
                    continue
            return new
        raise Unavailable(f"HEAD of {self.job_id} changed under {MAX_SWAPS} swaps in a row")

    def _settle(self, nonce: str) -> Verdict:
        seen = self.heads.read(self.job_id).head
        verdict = judge(seen, attempt=self.attempt, generation=self.generation, nonce=nonce)
        if verdict is Verdict.FENCED:
            self._check(seen)
        return verdict

    def _check(self, seen: Head | None) -> None:
        if not may_write(seen, attempt=self.attempt, generation=self.generation):
            assert seen is not None
            raise FencedOff(f"{seen.attempt} holds HEAD with generation {seen.generation}")

    def _is_ours(self, seen: Head) -> bool:
        return seen.attempt == self.attempt and seen.generation == self.generation


def _nothing_left(damaged: CheckpointRef, before: CheckpointRef | None) -> str:
    named = " and ".join(ref.folder for ref in (before, damaged) if ref is not None)
    return (
        f"no checkpoint can be restored: {named} cannot be read as committed, and HEAD knows no"
        " earlier one. Nothing was removed, and a job does not begin at step 0 by itself: submit"
        " the job anew for that, or look for an older one below its checkpoints/ in the bucket"
    )
