"""pause, resume, extend, hold and notify, against the real API."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from spotrunner.core.model import CommandVerb, Market, Pause
from spotrunner.core.states import JobState
from spotrunner.ports import Changes
from tests.build import JOB, T0, a_job, a_spec, an_attempt
from tests.cli.conftest import Behind, Run

pytestmark = pytest.mark.usefixtures("here")

OTHER = "other-aaaa"


@pytest.fixture
def channels(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(getattr(request, "param", {"me": "", "phone": "phone: it answered 500"}))


@pytest.fixture
def jobs(behind: Behind) -> Behind:
    """One trains, one stands still because its user wants it."""
    spec = a_spec(market=Market.ON_DEMAND, work_s=3600, policy="deadline")
    behind.store.add_job(a_job(spec=spec), [])
    paused = a_job(
        JobState.PAUSED, id=OTHER, spec=a_spec(name="other"), pause=Pause.USER, submitted_s=1
    )
    behind.store.add_job(paused, [])
    attempt = an_attempt(launched_s=0, paid_until_s=1800)
    behind.store.write(behind.store.lead("a test"), Changes(attempts=(attempt,)))
    behind.clock.advance(900)
    return behind


def _asked(behind: Behind) -> list[tuple[str, CommandVerb]]:
    return [(command.job_id, command.verb) for command in behind.store.commands()]


# -- pause and resume --------------------------------------------------------------------------


def test_pause_says_how_to_go_on(jobs: Behind, run: Run) -> None:
    said = run("pause", JOB, "other")
    assert (said.code, said.out) == (0, "")
    assert said.err == "".join(
        f"{job} saves and stops; to go on: spotrunner resume {job}\n" for job in (JOB, OTHER)
    )
    assert _asked(jobs) == [(JOB, CommandVerb.PAUSE), (OTHER, CommandVerb.PAUSE)]
    assert len(jobs.wakes) == 2


def test_resume(jobs: Behind, run: Run) -> None:
    said = run("resume", "other", "-o", "json")
    assert [it["id"] for it in json.loads(said.out)["asked"]] == [OTHER]
    assert _asked(jobs) == [(OTHER, CommandVerb.RESUME)]


def test_what_is_not_paused_cannot_be_resumed(jobs: Behind, run: Run) -> None:
    said = run("resume", JOB)
    assert said.code == 1
    assert said.err == f"spotrunner: {JOB} is not paused: it is active\n"
    assert _asked(jobs) == []


# -- extend ------------------------------------------------------------------------------------


def test_extend_says_what_holds_now(jobs: Behind, run: Run) -> None:
    said = run("extend", "digits", "--budget", "12.50", "--deadline", "6h")
    assert (said.code, said.out) == (0, "")
    # It is 12:15.
    assert said.err == (
        f"{JOB}: its budget is $12.50, its deadline is 11-01 18:15:00 UTC;"
        f" see: spotrunner show {JOB}\n"
    )
    (command,) = jobs.store.commands()
    assert command.budget_usd_micros == 12_500_000
    assert command.deadline_at == T0 + dt.timedelta(hours=6, minutes=15)


def test_extend_warns_of_what_it_cannot_undo(jobs: Behind, run: Run) -> None:
    said = run("extend", JOB, "--budget", "0.10")
    assert said.code == 0
    assert said.err.splitlines() == [
        f"{JOB}: its budget is $0.1000; see: spotrunner show {JOB}",
        "--budget: 0.0400 USD are spent and 0.2405 USD reserved already, 0.1805 USD more than the"
        " budget: nothing more is paid, and it stops with a checkpoint at the end of what is paid"
        " for, at 12:30 UTC",
    ]
    told = json.loads(run("extend", JOB, "--budget", "0.10", "-o", "json").out)
    assert (told["budget_usd"], told["verb"], len(told["warnings"])) == (0.1, "extend", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing is to be changed: add --budget USD, --deadline WHEN or both"),
        (["--budget", "0"], "--budget: expected more than 0 USD, found 0"),
        (["--budget", "-1"], "--budget: expected more than 0 USD, found -1"),
        (["--budget", "much"], "--budget: expected a number, found 'much'"),
        (["--deadline", "soon"], "--deadline: expected a time with its zone, such as"),
        (["--deadline", "2026-11-01T12:00Z"], "--deadline: 2026-11-01T12:00Z was 15m ago: it is"),
    ],
)
def test_what_extend_refuses(jobs: Behind, run: Run, arguments: list[str], words: str) -> None:
    said = run("extend", JOB, *arguments)
    assert said.code == 2
    assert said.err.startswith(f"spotrunner: {words}")
    assert _asked(jobs) == []


def test_too_little_to_start_again_is_refused_with_the_number_that_would_do(
    behind: Behind, run: Run
) -> None:
    """1020 s at 0.526 + 0.016112 USD."""
    job = a_job(JobState.PAUSED, budget=10_000, pause=Pause.BUDGET)
    behind.store.add_job(job, [])
    said = run("extend", JOB, "--budget", "0.15")
    assert said.code == 2
    assert said.err == (
        "spotrunner: --budget: with 0.1500 USD it does not start again: 0.0000 USD are spent or"
        " reserved, and a first step on us-east-1a/g4dn.xlarge needs 0.1536 USD in reserve; give it"
        " at least 0.1600 USD\n"
    )
    assert run("extend", JOB, "--budget", "0.16").code == 0


def test_nothing_of_a_job_that_is_over_can_be_changed(behind: Behind, run: Run) -> None:
    behind.store.add_job(a_job(JobState.SUCCEEDED), [])
    for arguments in (["pause", JOB], ["resume", JOB], ["extend", JOB, "--budget", "1"]):
        said = run(*arguments)
        assert (said.code, said.err) == (1, f"spotrunner: {JOB} is over: it succeeded\n")


# -- hold --------------------------------------------------------------------------------------


def test_a_hold_says_until_when_and_how_to_end_it(behind: Behind, run: Run) -> None:
    said = run("hold")
    assert said.code == 0
    assert said.err == (
        "nothing is launched until 11-01 13:00:00 UTC; to end that: spotrunner hold --off\n"
    )
    assert json.loads(run("hold", "--for", "2h", "-o", "json").out) == {
        "held_until": "2026-11-01T14:00:00.000000Z",
        "brake": None,
        "round_over": True,
        "paid": [],
        "unpaid": [],
    }
    assert behind.store.held_until() == T0 + dt.timedelta(hours=2)
    assert run("hold", "--off").err == "launches go on\n"
    assert behind.store.held_until() is None


def test_a_hold_names_what_is_not_paid_through_it(jobs: Behind, run: Run) -> None:
    assert run("hold").err.splitlines()[1:] == [
        f"{JOB} is not paid through it, only until 11-01 12:30:00 UTC: its caps pay no more, or it"
        " has not reported lately"
    ]
    # Ten minutes, and the five that a stop takes: to the second.
    assert len(run("hold", "--for", "10m").err.splitlines()) == 1


def test_a_hold_without_a_round_says_so(behind: Behind, run: Run) -> None:
    behind.round_ends = False
    assert run("hold").err.splitlines()[1:] == [
        "no round was over in time, so nothing may be paid ahead yet: the daemon's log says why"
    ]


def test_a_hold_after_a_panic_says_that_more_is_needed(behind: Behind, run: Run) -> None:
    word = {"at": "2026-11-01T11:59:00Z", "by": "alice@host", "why": "spotrunner panic"}
    behind.home.put("mail/brake.json", json.dumps(word).encode())
    behind.mailbox.boxes()
    assert "also afterwards, until spotrunner hold --off: " in run("hold").err
    said = run("hold", "--off")
    assert said.err.startswith("launches go on; what forbade them is gone (")
    assert behind.mailbox.brake() is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--for", "1h", "--off"], "--off ends a hold, and --for begins one: give one of them"),
        (["--for", "30s"], "--for: expected 1m to 24h, such as 30m or 2h, found 30s"),
        (["--for", "2d"], "--for: expected 1m to 24h, such as 30m or 2h, found 2d"),
        (["--for", "long"], "--for: expected 1m to 24h, such as 30m or 2h, found long"),
    ],
)
def test_what_hold_refuses(behind: Behind, run: Run, arguments: list[str], words: str) -> None:
    said = run("hold", *arguments)
    assert (said.code, said.err) == (2, f"spotrunner: {words}\n")
    assert behind.store.held_until() is None


# -- notify test -------------------------------------------------------------------------------


def test_a_channel_that_took_nothing_is_a_failure(run: Run) -> None:
    said = run("notify", "test")
    assert said.code == 1
    assert said.out == "CHANNEL  TOLD\nme       yes\nphone    phone: it answered 500\n"
    assert said.err == (
        "spotrunner: nobody was told over phone: see `alerts` in the daemon's settings\n"
    )


def test_one_channel_can_be_tried(run: Run) -> None:
    said = run("notify", "test", "--channel", "me", "-o", "json")
    assert said.code == 0
    assert json.loads(said.out) == {"channels": [{"channel": "me", "ok": True, "error": ""}]}


def test_a_channel_that_there_is_not(run: Run) -> None:
    said = run("notify", "test", "--channel", "phon")
    assert said.code == 2
    assert said.err == "spotrunner: --channel: there is no channel phon; nearest: phone\n"


@pytest.mark.parametrize("channels", [{}], indirect=True)
def test_without_channels_there_is_nothing_to_try(run: Run) -> None:
    said = run("notify", "test")
    assert said.code == 1
    assert said.err == (
        "spotrunner: alerts have no channel: add `alerts.channels` to the daemon's settings;"
        " and restart it\n"
    )
