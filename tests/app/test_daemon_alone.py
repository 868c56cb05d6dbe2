"""One daemon a state folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spotrunner.app.daemon import _alone
from spotrunner.ports import Misconfigured


def test_a_second_daemon_is_told_who_is_there_and_disturbs_nothing(tmp_path: Path) -> None:
    with _alone(tmp_path):
        with pytest.raises(Misconfigured, match=f"process {os.getpid()}"), _alone(tmp_path):
            pass
        with pytest.raises(Misconfigured, match=f"process {os.getpid()}"), _alone(tmp_path):
            pass
    with _alone(tmp_path):
        assert (tmp_path / "daemon.lock").read_text() == f"{os.getpid()}\n"
