"""Packs a workdir for upload: what git would take, in one archive whose digest names it.

The same files give the same bytes: sorted names, no times, no owners, two modes. So the digest says
what was trained, also across jobs; each job gets a copy of its own and can be deleted alone.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pathspec

# Anything larger is data, and belongs into `data:` (read from S3) or into the image.
LIMIT_BYTES = 256 * 1024 * 1024
LIMIT_FILES = 20_000
IGNORE_FILES = (".gitignore", ".spotrunnerignore")
ALWAYS_IGNORED = frozenset({".git", ".venv"})


class Unpackable(Exception):
    """The workdir cannot be sent; `problems` has a sentence for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file or link of the workdir, by its path below it. Folders come with what they hold, as
    in git: an empty one is nothing to train with."""

    name: str
    path: Path
    mode: int
    bytes: int = 0
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What will be sent. `left_out` are sockets and the like, which no archive can hold."""

    folder: Path
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...] = ()

    @property
    def files(self) -> int:
        return len(self.entries)

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The finished archive."""

    sha256: str
    bytes: int
    files: int


def listed(folder: Path, limit_bytes: int = LIMIT_BYTES, limit_files: int = LIMIT_FILES) -> Listing:
    """What of `folder` is sent: everything but what .gitignore and .spotrunnerignore name (in any
    folder, as git reads them), .git and .venv. Raises Unpackable: links that leave the folder, too
    much, nothing at all, files that cannot be read."""
    walk = _Walk(folder)
    walk.visit(folder, "", ())
    found = Listing(
        folder=folder,
        entries=tuple(sorted(walk.entries, key=lambda entry: entry.name)),
        left_out=tuple(walk.left_out),
    )
    problems = walk.problems + _too_much(found, limit_bytes, limit_files)
    if not found.files and not problems:
        problems = [f"{folder} has no file that is not ignored"]
    if problems:
        raise Unpackable(problems)
    return found


def pack(found: Listing, into: IO[bytes]) -> Packed:
    """Write the .tar.gz. Raises Unpackable when a file cannot be read or changes meanwhile."""
    digesting = _Digesting(into)
    with (
        gzip.GzipFile(fileobj=digesting, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for entry in found.entries:
            _add(archive, entry)
    return Packed(sha256=digesting.sha256.hexdigest(), bytes=digesting.bytes, files=found.files)


# -- the walk ----------------------------------------------------------------------------------

# The ignore rules of a folder and of those around it, the innermost last.
_Rules = tuple[tuple[str, pathspec.GitIgnoreSpec], ...]


class _Walk:
    """Goes through the folders and gathers."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self.entries: list[Entry] = []
        self.left_out: list[str] = []
        self.problems: list[str] = []

    def visit(self, folder: Path, prefix: str, rules: _Rules) -> None:
        """`prefix` is the folder's path below the root, with a slash at its end, or empty."""
        try:
            names = sorted(os.listdir(folder))
            rules = _with_own_rules(folder, prefix, rules, names)
        except OSError as error:
            self.problems.append(f"{prefix or folder}: {error.strerror}")
            return
        for name in names:
            if name not in ALWAYS_IGNORED:
                self._entry(folder / name, prefix + name, rules)

    def _entry(self, path: Path, name: str, rules: _Rules) -> None:
        kind = path.lstat().st_mode
        if _ignored(name + "/" if stat.S_ISDIR(kind) else name, rules):
            return
        if stat.S_ISLNK(kind):
            self._link(path, name)
        elif stat.S_ISDIR(kind):
            self.visit(path, name + "/", rules)
        elif stat.S_ISREG(kind):
            self._file(path, name, kind)
        else:
            self.left_out.append(name)

    def _file(self, path: Path, name: str, kind: int) -> None:
        if not os.access(path, os.R_OK):
            self.problems.append(f"{name} cannot be read: give read permission or ignore it")
            return
        mode = 0o755 if kind & stat.S_IXUSR else 0o644
        self.entries.append(Entry(name=name, path=path, mode=mode, bytes=path.stat().st_size))

    def _link(self, path: Path, name: str) -> None:
        target = os.path.realpath(path)
        if os.path.commonpath([self._root, target]) != self._root:
            self.problems.append(
                f"{name} is a link that leaves the folder (to {os.readlink(path)}):"
                " copy what it points to, or name it in .spotrunnerignore"
            )
            return
        # Relative, so that it also holds where the archive is unpacked.
        link = os.path.relpath(
            os.path.join(os.path.realpath(path.parent), os.readlink(path)),
            os.path.realpath(path.parent),
        )
        self.entries.append(Entry(name=name, path=path, mode=0o777, link=link))


def _with_own_rules(folder: Path, prefix: str, rules: _Rules, names: list[str]) -> _Rules:
    lines: list[str] = []
    for ignore_file in IGNORE_FILES:
        if ignore_file in names and (folder / ignore_file).is_file():
            text = (folder / ignore_file).read_text(encoding="utf-8", errors="replace")
            lines += text.splitlines()
    return (*rules, (prefix, pathspec.GitIgnoreSpec.from_lines(lines))) if lines else rules


def _ignored(name: str, rules: _Rules) -> bool:
    """The innermost file that has a rule for it decides, as in git."""
    for prefix, spec in reversed(rules):
        verdict = spec.check_file(name[len(prefix) :]).include
        if verdict is not None:
            return verdict
    return False


def _too_much(found: Listing, limit_bytes: int, limit_files: int) -> list[str]:
    problems = []
    if found.files > limit_files:
        problems.append(f"{found.files} files are more than the limit of {limit_files}")
    if found.bytes > limit_bytes:
        problems.append(
            f"{_mib(found.bytes)} are more than the limit of {_mib(limit_bytes)}; largest: "
            + ", ".join(_largest(found))
        )
    return [
        f"{problem}; name what training does not need in .spotrunnerignore,"
        " and read data sets from S3 with `data:`"
        for problem in problems
    ]


def _largest(found: Listing) -> Iterator[str]:
    by_size = sorted(found.entries, key=lambda entry: (-entry.bytes, entry.name))
    return (f"{entry.name} ({_mib(entry.bytes)})" for entry in by_size[:3])


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"


# -- the archive -------------------------------------------------------------------------------


class _Digesting:
    """A file to write to that knows the digest and the length of what went through."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, block: bytes) -> int:
        self.sha256.update(block)
        self.bytes += len(block)
        return self._file.write(block)

    def flush(self) -> None:
        self._file.flush()


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.name)
    info.mode = entry.mode
    if entry.link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
        archive.addfile(info)
    else:
        info.size = entry.bytes
        try:
            with entry.path.open("rb") as file:
                archive.addfile(info, file)
        except OSError as error:
            # tarfile says so itself when a file has become shorter than it was listed.
            raise Unpackable([f"{entry.name} changed while it was read ({error})"]) from None
