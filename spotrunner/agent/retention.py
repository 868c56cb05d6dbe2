"""Removes the checkpoints from the bucket that nobody needs any more: core/retention says which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from spotrunner.agent.folders import MANIFEST, Keys
from spotrunner.core.retention import StoredCheckpoint, maker_of, spent
from spotrunner.core.saving import Saving
from spotrunner.ports import Clock, Heads, ObjectInfo, Objects

# After one commit; what is left waits for the next one.
MOST_AT_ONCE = 20


@dataclass(kw_only=True)
class _Folder:
    """What a listing shows below one folder."""

    objects: list[ObjectInfo] = field(default_factory=list)

    def stored(self, folder: str, step: int, generation: int) -> StoredCheckpoint:
        return StoredCheckpoint(
            folder=folder,
            step=step,
            generation=generation,
            complete=any(info.key == folder + MANIFEST for info in self.objects),
            newest_at=max(info.modified_at for info in self.objects),
        )


@dataclass(frozen=True, kw_only=True)
class Retention:
    objects: Objects
    heads: Heads
    keys: Keys
    clock: Clock

    def tidy(self, saving: Saving, may_go_on: Callable[[], bool]) -> int:
        """How many were removed. Only for the rank that commits, and only while it holds HEAD.
        Raises what the ports raise; what was not removed then is the next time's."""
        head = self.heads.read(self.keys.job_id).head
        if head is None or head.attempt != self.keys.attempt or self.keys.rank != 0:
            return 0
        folders = self._folders()
        stored = [
            folder.stored(key, *maker)
            for key, folder in folders.items()
            if (maker := maker_of(key.removeprefix(self.keys.checkpoints).rstrip("/")))
        ]
        gone = spent(stored, head, saving, generation=self.keys.generation, now=self.clock.now())
        removed = 0
        for each in gone[:MOST_AT_ONCE]:
            if not may_go_on():
                break
            self._remove(each.folder, folders[each.folder])
            removed += 1
        return removed

    def _folders(self) -> dict[str, _Folder]:
        """By key with a slash; HEAD lies beside them."""
        prefix = self.keys.checkpoints
        folders: dict[str, _Folder] = {}
        for info in self.objects.list(prefix):
            name, slash, _ = info.key.removeprefix(prefix).partition("/")
            if slash:
                folders.setdefault(f"{prefix}{name}/", _Folder()).objects.append(info)
        return folders

    def _remove(self, folder: str, found: _Folder) -> None:
        """The manifest first: nobody sees one whose files are gone."""
        self.objects.delete([folder + MANIFEST])
        self.objects.delete([info.key for info in found.objects])
