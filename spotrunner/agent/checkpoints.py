"""Checkpoints between the trainer's folder and the bucket: written once, verified on the way back.

What lies in the bucket counts only once HEAD names it (agent/holder).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spotrunner.agent.carry import Carried, inside, sha256_of, side_by_side
from spotrunner.agent.folders import (
    PARTIAL_PREFIX,
    Folders,
    Keys,
    complete_steps,
    files_below,
)
from spotrunner.core.model import CheckpointRef, Manifest, ManifestFile
from spotrunner.ports import (
    Content,
    Heads,
    Misconfigured,
    NotFound,
    Objects,
    PreconditionFailed,
    Unavailable,
)

# A file that arrives with a wrong digest is fetched this often: S3 keeps bytes well, and lines and
# memory do so less.
FETCHES = 2
_MB = 1_000_000


class DamagedCheckpoint(Exception):
    """What the bucket holds is not what its manifest says."""


@dataclass(kw_only=True)
class Upload:
    """A checkpoint on its way up: what was stored stays stored if the rest has to be tried
    again."""

    folder: str
    files: dict[str, ManifestFile] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """All methods block; they raise what the ports raise, and OSError for the disk."""

    objects: Objects
    heads: Heads
    folders: Folders
    keys: Keys
    nonce: Callable[[], str]
    carried: Carried
    _uploads: dict[int, Upload] = field(default_factory=dict)

    # -- up ------------------------------------------------------------------------------------

    def store(self, step: int) -> CheckpointRef:
        """Upload the complete checkpoint of `step`, its manifest last, every key written once.
        HEAD does not know of it yet. Called again after an error it sends only what is missing.
        Raises Misconfigured for what could not come back as it was."""
        there = complete_steps(self.folders.checkpoints).get(step)
        if there is None:
            raise FileNotFoundError(f"the checkpoint of step {step} is no longer on the disk")
        _check_storable(step, there)
        paths = dict(files_below(there))
        upload = self._upload(step)

        def send(name: str) -> None:
            content = self._put_once(paths[name], upload.folder + name)
            upload.files[name] = ManifestFile(name=name, bytes=content.bytes, sha256=content.sha256)

        # The largest first: the others fit in beside it.
        waiting = [name for name in paths if name not in upload.files]
        side_by_side(send, sorted(waiting, key=lambda name: -paths[name].stat().st_size))
        files = tuple(upload.files[name] for name in paths)
        manifest = Manifest(step=step, attempt=self.keys.attempt, files=files)
        digest = self.heads.write_manifest(upload.folder, manifest)
        return CheckpointRef(folder=upload.folder, step=step, manifest_sha256=digest)

    def _upload(self, step: int) -> Upload:
        if step not in self._uploads:
            self._uploads[step] = Upload(folder=self.keys.checkpoint(step, self.nonce()))
        return self._uploads[step]

    def _put_once(self, path: Path, key: str) -> Content:
        try:
            content = self.objects.upload(path, key, if_absent=True)
        except (PreconditionFailed, Unavailable):
            # The answer may have been lost and not the object; and a refusal may also be about
            # somebody else's attempt at the key, which came to nothing. Nobody else knows our
            # nonce, and a complete folder does not change: what lies there is ours.
            size = path.stat().st_size
            if not any(info.key == key and info.bytes == size for info in self.objects.list(key)):
                raise
            content = Content(bytes=size, sha256=sha256_of(path))
        self.carried.add(content.bytes)
        return content

    def prune(self, committed_step: int) -> None:
        """Remove the checkpoints that a newer commit has made useless on this disk."""
        for step, path in complete_steps(self.folders.checkpoints).items():
            if step < committed_step:
                shutil.rmtree(path, ignore_errors=True)
        for step in [step for step in self._uploads if step <= committed_step]:
            del self._uploads[step]

    # -- down ----------------------------------------------------------------------------------

    def restore(self, ref: CheckpointRef) -> None:
        """Make the committed checkpoint the only one in the trainer's folder.

        Every digest is verified before the folder gets its name. Raises DamagedCheckpoint.
        """
        manifest = self._manifest(ref)
        self.clear()
        partial = self.folders.checkpoints / f"{PARTIAL_PREFIX}restore"
        try:
            partial.mkdir()
            self._check_room(manifest)
            paths = [self._place(ref.folder, file, partial) for file in manifest.files]
            side_by_side(
                lambda pair: self._fetch(ref.folder, *pair),
                zip(manifest.files, paths, strict=True),
            )
            partial.rename(self.folders.checkpoints / f"{ref.step:08d}")
        except NotFound as missing:
            raise DamagedCheckpoint(f"{ref.folder} is not complete: {missing}") from missing
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def clear(self) -> None:
        """What an earlier agent left here is not what HEAD says."""
        shutil.rmtree(self.folders.checkpoints, ignore_errors=True)
        self.folders.make()

    def _manifest(self, ref: CheckpointRef) -> Manifest:
        try:
            manifest, digest = self.heads.read_manifest(ref.folder)
        except NotFound as missing:
            raise DamagedCheckpoint(f"{ref.folder} has no manifest: {missing}") from missing
        if digest != ref.manifest_sha256 or manifest.step != ref.step:
            raise DamagedCheckpoint(f"the manifest of {ref.folder} is not the committed one")
        return manifest

    def _check_room(self, manifest: Manifest) -> None:
        needed = sum(file.bytes for file in manifest.files)
        free = shutil.disk_usage(self.folders.checkpoints).free
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"the checkpoint of step {manifest.step} needs {needed / _MB:,.0f} MB and the disk"
                f" has {free / _MB:,.0f} MB left",
            )

    def _place(self, folder: str, file: ManifestFile, partial: Path) -> Path:
        path = inside(partial, file.name)
        if path is None:
            raise DamagedCheckpoint(f"a name in {folder} leads out of it: {file.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _fetch(self, folder: str, file: ManifestFile, path: Path) -> None:
        committed = Content(bytes=file.bytes, sha256=file.sha256)
        for _ in range(FETCHES):
            content = self.objects.download(folder + file.name, path)
            self.carried.add(content.bytes)
            if content == committed:
                return
        raise DamagedCheckpoint(f"{folder}{file.name} is not what was committed")


def _check_storable(step: int, folder: Path) -> None:
    """An object is no link, and its name is UTF-8: better no checkpoint than one with a hole."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if path.is_symlink():
            raise Misconfigured(
                f"the checkpoint of step {step} is not stored: {shown} is a link, and a restore"
                " would lack it: save the file itself"
            )
        if shown.encode() != os.fsencode(name):
            raise Misconfigured(
                f"the checkpoint of step {step} is not stored: the name {shown} is no UTF-8, and"
                " no object can have it: save under another name"
            )
