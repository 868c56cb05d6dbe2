"""What of a workdir is sent, and that the same files are the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from spotrunner.cli.workdir import Unpackable, listed, pack


def _tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in listed(folder).entries]


def _packed(folder: Path) -> bytes:
    into = io.BytesIO()
    pack(listed(folder), into)
    return into.getvalue()


def test_the_same_files_are_the_same_bytes_whatever_their_times_and_owners(tmp_path: Path) -> None:
    files = {"b.py": "2", "a/c.py": "3", "a.py": "1"}
    first, second = (
        _tree(tmp_path / "x", files),
        _tree(tmp_path / "y", dict(reversed(files.items()))),
    )
    os.utime(second / "a.py", (1, 1))
    (second / "b.py").chmod(0o600)
    assert _packed(first) == _packed(second)


def test_the_digest_is_that_of_the_bytes_and_changes_with_them(tmp_path: Path) -> None:
    folder = _tree(tmp_path, {"a.py": "1"})
    into = io.BytesIO()
    packed = pack(listed(folder), into)
    assert packed.sha256 == hashlib.sha256(into.getvalue()).hexdigest()
    assert packed.bytes == len(into.getvalue())
    assert packed.files == 1
    (folder / "a.py").write_text("2")
    assert pack(listed(folder), io.BytesIO()).sha256 != packed.sha256


def test_what_is_packed_can_be_unpacked(tmp_path: Path) -> None:
    folder = _tree(tmp_path / "in", {"run.sh": "echo", "lib/a.py": "1"})
    (folder / "run.sh").chmod(0o755)
    (folder / "lib" / "b.py").symlink_to("a.py")
    with tarfile.open(fileobj=io.BytesIO(_packed(folder))) as archive:
        assert {m.name: (m.mode, m.mtime, m.uid, m.uname) for m in archive if m.isfile()} == {
            "lib/a.py": (0o644, 0, 0, ""),
            "run.sh": (0o755, 0, 0, ""),
        }
        archive.extractall(tmp_path / "out", filter="data")
    assert (tmp_path / "out" / "lib" / "b.py").read_text() == "1"


def test_ignored_files_stay_at_home_as_with_git(tmp_path: Path) -> None:
    folder = _tree(
        tmp_path,
        {
            ".git/HEAD": "",
            ".venv/bin/python": "",
            "sub/.venv/x": "",
            ".gitignore": "*.log\n!keep.log\n/build/\n# comment\n",
            ".spotrunnerignore": "notes\n",
            "a.log": "",
            "keep.log": "",
            "build/x": "",
            "sub/build/x": "",
            "sub/notes/x": "",
            "sub/.gitignore": "!b.log\nonly-here\n",
            "sub/b.log": "",
            "sub/only-here": "",
            "only-here": "",
            "train.py": "",
        },
    )
    assert _names(folder) == [
        ".gitignore",
        ".spotrunnerignore",
        "keep.log",
        "only-here",
        "sub/.gitignore",
        "sub/b.log",
        "sub/build/x",
        "train.py",
    ]


def test_a_link_inside_is_kept_relative_and_its_folder_not_walked_twice(tmp_path: Path) -> None:
    folder = _tree(tmp_path, {"data/a": "1", "sub/b": "2"})
    (folder / "absolute").symlink_to(folder / "data" / "a")
    (folder / "sub" / "up").symlink_to("../data")
    links = {entry.name: entry.link for entry in listed(folder).entries if entry.link}
    assert links == {"absolute": "data/a", "sub/up": "../data"}
    assert _names(folder) == ["absolute", "data/a", "sub/b", "sub/up"]


def test_links_that_leave_the_folder_are_refused_all_at_once(tmp_path: Path) -> None:
    folder = _tree(tmp_path / "w", {"a.py": ""})
    (folder / "one").symlink_to("../secret")
    (folder / "two").symlink_to("/etc/passwd")
    with pytest.raises(Unpackable) as caught:
        listed(folder)
    assert caught.value.problems == [
        "one is a link that leaves the folder (to ../secret):"
        " copy what it points to, or name it in .spotrunnerignore",
        "two is a link that leaves the folder (to /etc/passwd):"
        " copy what it points to, or name it in .spotrunnerignore",
    ]


def test_a_link_that_leaves_but_is_ignored_is_no_matter(tmp_path: Path) -> None:
    folder = _tree(tmp_path / "w", {"a.py": "", ".spotrunnerignore": "one\n"})
    (folder / "one").symlink_to("../secret")
    assert _names(folder) == [".spotrunnerignore", "a.py"]


def test_too_much_names_the_largest(tmp_path: Path) -> None:
    folder = _tree(tmp_path, {"big": "x" * 3_000_000, "small": "x"})
    with pytest.raises(Unpackable) as caught:
        listed(folder, limit_bytes=2**20, limit_files=1)
    assert caught.value.problems == [
        "2 files are more than the limit of 1; name what training does not need in"
        " .spotrunnerignore, and read data sets from S3 with `data:`",
        "2.9 MiB are more than the limit of 1.0 MiB; largest: big (2.9 MiB), small (0.0 MiB);"
        " name what training does not need in .spotrunnerignore,"
        " and read data sets from S3 with `data:`",
    ]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unpackable, match="has no file that is not ignored"):
        listed(tmp_path)


def test_a_socket_is_left_out_and_named(tmp_path: Path) -> None:
    folder = _tree(tmp_path, {"a.py": ""})
    os.mkfifo(folder / "pipe")
    assert listed(folder).left_out == ("pipe",)
    assert _names(folder) == ["a.py"]


def test_a_file_that_shrinks_meanwhile_is_noticed(tmp_path: Path) -> None:
    folder = _tree(tmp_path, {"a.py": "12345"})
    found = listed(folder)
    (folder / "a.py").write_text("1")
    with pytest.raises(Unpackable, match=r"a\.py changed while it was read"):
        pack(found, io.BytesIO())
