"""`spotrunner policy fit`, against the real API."""

from __future__ import annotations

import json

import pytest

from spotrunner.core.hazard import AGES_S, MEASURED
from spotrunner.core.model import EndReason
from spotrunner.core.states import AttemptState
from spotrunner.daemon import memos
from spotrunner.ports import Changes
from tests.build import a_job, a_notice, a_refusal, an_attempt, at
from tests.cli.conftest import Behind, Run

pytestmark = pytest.mark.usefixtures("here")

TOLD = """\
RUNS LOST AT AGE  HOURS SEEN  EVENTS  AN HOUR BEFORE  AN HOUR NOW
0s to 5m                 0.1       0           0.125        0.125
5m to 10m                0.1       0           2.341        2.211
10m to 15m               0.0       1           0.995        1.309
"""


@pytest.fixture
def seen(behind: Behind) -> Behind:
    """A run of which EC2 said in its thirteenth minute that it takes it, and a refusal."""
    behind.store.add_job(a_job(), [])
    run = an_attempt(
        1,
        AttemptState.ENDED,
        launched_s=0,
        end_reason=EndReason.INTERRUPTED,
        ended_at=at(1000),
        notice=a_notice(880),
    )
    changes = Changes(attempts=(run,), refusals=(a_refusal("us-east-1b", at_s=50),))
    behind.store.write(behind.store.lead("a test"), changes)
    behind.clock.advance(3600)
    return behind


def test_the_evidence_and_what_it_made_of_the_rates(seen: Behind, run: Run) -> None:
    said = run("policy", "fit")
    assert said.code == 0
    assert said.out[: len(TOLD)] == TOLD
    assert "OUTAGES OVER AT AGE  HOURS SEEN" in said.out
    assert len(said.out.splitlines()) == 2 * (1 + len(AGES_S))
    assert said.err == "the policies weigh with these rates from the next round on\n"
    kept = memos.HAZARDS.read(seen.market)
    assert kept is not None
    assert kept.value.lost_an_hour[2] > MEASURED.lost_an_hour[2]
    assert kept.value.regained_an_hour == MEASURED.regained_an_hour
    assert kept.at == seen.clock.now()


@pytest.mark.usefixtures("seen")
def test_nothing_counts_twice(run: Run) -> None:
    first = json.loads(run("policy", "fit", "-o", "json").out)
    again = json.loads(run("policy", "fit", "-o", "json").out)
    assert first == again
    assert list(first) == ["changed", "evidence", "hazards"]
    assert first["changed"] is True
    assert first["evidence"][2] == {
        "what": "lost",
        "from_s": 600,
        "to_s": 900,
        "hours": pytest.approx(160 / 3600),
        "events": 1,
        "old_an_hour": 0.995,
        "new_an_hour": first["hazards"]["lost_an_hour"][2],
    }


def test_before_anything_was_seen_nothing_changes(behind: Behind, run: Run) -> None:
    said = run("policy", "fit")
    assert (said.code, said.out) == (0, "")
    assert said.err == ("nothing was seen yet: no spot launch, no refusal; nothing was changed\n")
    assert behind.market.memo(memos.HAZARDS.key()) is None


def test_reset_goes_back_to_what_was_measured(seen: Behind, run: Run) -> None:
    run("policy", "fit")
    said = run("policy", "fit", "--reset")
    assert (said.code, said.out) == (0, "")
    assert said.err == "the policies weigh with the measured rates again\n"
    kept = memos.HAZARDS.read(seen.market)
    assert kept is not None
    assert kept.value == MEASURED
    assert json.loads(run("policy", "fit", "--reset", "-o", "json").out)["evidence"] == []


def test_a_wrong_call(run: Run) -> None:
    assert run("policy", "fit", "--nonsense").code == 2
    assert run("policy", "--help").code == 0
