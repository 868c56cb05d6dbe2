"""Fetches what a job consists of: its spec and its workdir."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field

from spotrunner.agent.carry import Carried
from spotrunner.agent.folders import Folders, Keys
from spotrunner.core.model import JobSpec
from spotrunner.ports import Misconfigured, Objects


@dataclass(frozen=True, kw_only=True)
class Courier:
    """All methods block; they raise what the ports raise, and OSError for the disk."""

    objects: Objects
    folders: Folders
    keys: Keys
    decode_spec: Callable[[bytes], JobSpec]
    carried: Carried = field(default_factory=Carried)

    def spec(self) -> JobSpec:
        return self.decode_spec(self.objects.get(self.keys.spec).body)

    def fetch_workdir(self, sha256: str) -> None:
        """Unpack the workdir in place of what lies there. Raises Misconfigured where the stored
        archive is not the one that its name says."""
        archive = self.folders.root / "workdir.tar.gz"
        archive.unlink(missing_ok=True)
        content = self.objects.download(self.keys.workdir(sha256), archive)
        self.carried.add(content.bytes)
        if content.sha256 != sha256:
            raise Misconfigured(f"the stored workdir is not {sha256}")
        shutil.rmtree(self.folders.workdir, ignore_errors=True)
        self.folders.workdir.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            # "data" refuses links and names that lead out of the folder.
            tar.extractall(self.folders.workdir, filter="data")
        archive.unlink()
