"""The optional keys of a line of progress, and when the machine came to its user-data."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from spotrunner.agent import words as w
from spotrunner.agent.machine import Machine
from spotrunner.agent.watch import parse_progress
from tests.agent.told import T0


@pytest.mark.parametrize(
    ("told", "step_s", "input_wait_share", "gradient_sync_share"),
    [
        ({}, None, None, None),
        (
            {"step_s": 0.016, "input_wait_share": 0.04, "gradient_sync_share": 1},
            0.016,
            0.04,
            1.0,
        ),
        # shares are of 1, so this is not one; and what is no number at all
        ({"input_wait_share": 40, "gradient_sync_share": -0.1}, None, None, None),
        (
            {"step_s": "0.1", "input_wait_share": True, "gradient_sync_share": None},
            None,
            None,
            None,
        ),
    ],
)
def test_a_line_may_tell_of_its_steps(
    told: dict[str, object],
    step_s: float | None,
    input_wait_share: float | None,
    gradient_sync_share: float | None,
) -> None:
    line = parse_progress(json.dumps({"step": 7, **told}).encode())
    assert line == w.Progressed(
        step=7,
        step_s=step_s,
        input_wait_share=input_wait_share,
        gradient_sync_share=gradient_sync_share,
    )


@pytest.mark.parametrize("booted_at", [T0 - dt.timedelta(seconds=5), None])
def test_a_report_tells_when_the_user_data_ran(booted_at: dt.datetime | None) -> None:
    machine = Machine(w.Config(attempt="j.1", box="j.1", generation=1))
    told = machine.on(w.Started(booted_at=booted_at), T0)
    (report,) = (it.report for it in told if isinstance(it, w.Post))
    assert report.milestones.booted_at == booted_at
    assert report.milestones.agent_at == T0
