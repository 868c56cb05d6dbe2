"""The commands about jobs that are there, against the real API: one job in the middle of its
story, after an interruption."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import pytest

from spotrunner.core.milestones import Milestones
from spotrunner.core.model import Command, CommandVerb, EndReason, Event
from spotrunner.core.states import AttemptState, JobState
from spotrunner.ports import Changes, Unavailable
from tests.build import JOB, OFFERS, a_job, a_notice, a_report, a_spec, an_attempt, at
from tests.cli.conftest import Behind, Run, Serve, written

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def story(behind: Behind) -> Behind:
    """20 minutes in: one attempt was interrupted, the second trains."""
    first = an_attempt(
        1,
        AttemptState.ENDED,
        end_reason=EndReason.INTERRUPTED,
        ended_at=at(900),
        step_after=150,
        cost_usd_micros=40_000,
        notice=a_notice(880),
    )
    second = an_attempt(
        2,
        intent_s=800,
        sent_s=801,
        launched_s=810,
        first_step_s=900,
        offer=OFFERS[1],
        step_before=150,
    )
    spec = a_spec(envs=(("API_KEY", "s3cr3t"),), budget_usd_micros=2_000_000)
    placed = Event(
        at=at(1),
        job_id=JOB,
        subject=first.id,
        kind="placed",
        why="the cheapest of 3 offers",
        data={"pool": "us-east-1a/g4dn.xlarge", "region": "us-east-1", "of": 3, "none": None},
    )
    submitted = Event(at=at(0), job_id=JOB, subject=JOB, kind="submitted", why="you want it")
    behind.store.add_job(a_job(JobState.ACTIVE, spec=spec), [submitted])
    epoch = behind.store.lead("a test")
    behind.store.write(epoch, Changes(attempts=(first, second), events=(placed,)))
    behind.mailbox.post_report(
        a_report(
            second.id,
            1195,
            step=300,
            total_steps=2300,
            steps_per_s=3.2,
            metrics=(("loss", 0.41),),
            committed_step=250,
            committed_s=1150,
        )
    )
    behind.mailbox.boxes()
    behind.clock.advance(1200)
    return behind


TF = "tensorflow/tensorflow:2.17.0-gpu"
LS = """\
JOB          STATE           STEP               COST  SAVED  RECOVERIES  LAST CHECKPOINT    AGE
digits-7f3a  active (train)  300/2300 (13%)  $0.0584    69%           1  step 250, 50s ago  20m
"""

SHOW = """\
job          digits-7f3a
state        active (train)
submitted    11-01 12:00:00 UTC
image        tensorflow/tensorflow:2.17.0-gpu
asks for     spot: g4dn.xlarge
in           us-east-1, eu-west-1
run          python train.py
envs         API_KEY
step         300/2300 (13%), 3.2 a second, done in 10m
metrics      loss 0.41
checkpoint   step 250, 50s ago
last report  5s ago, from digits-7f3a.2
policy       cheapest
work left    about 10m on g4dn.xlarge
changeover   1m 49s on average, 1m 59s the longest of 2; with 1m the rest would cost $0.0027 less
cost         $0.0584 (on-demand $0.1878, saved 69%)
budget       $2.00: $0.2621 reserved, $1.68 left
forecast     will be done at 12:30 UTC for about 0.0331 USD more

#  POOL                    MARKET     $/H  STATE                FROM            FOR  \
STEPS        COST
1  us-east-1a/g4dn.xlarge  spot    0.1600  ended (interrupted)  11-01 12:00:05  14m  \
0 to 150  $0.0400
2  us-east-1b/g4dn.xlarge  spot    0.1700  running (train)      11-01 12:13:30  6m   \
from 150  $0.0184
"""

EXPLAIN = """\
TIME (UTC)      WHO            WHAT       WHY
11-01 12:00:00  digits-7f3a    submitted  you want it
11-01 12:00:01  digits-7f3a.1  placed     the cheapest of 3 offers (pool us-east-1a/g4dn.xlarge)
"""


def test_ls_of_nothing_says_how_to_begin(run: Run) -> None:
    said = run("ls")
    assert (said.code, said.out) == (0, "")
    assert said.err == "no jobs yet; submit one: spotrunner submit FILE\n"
    assert json.loads(run("ls", "-o", "json").out)["jobs"] == []


@pytest.mark.usefixtures("story")
def test_ls(run: Run) -> None:
    assert run("ls").out == LS


def test_ls_open_leaves_out_what_is_over(story: Behind, run: Run) -> None:
    story.store.add_job(a_job(JobState.SUCCEEDED, id="old-aaaa"), [])
    assert len(run("ls").out.splitlines()) == 3
    assert run("ls", "--open").out == LS
    ids = [job["id"] for job in json.loads(run("ls", "--open", "-o", "json").out)["jobs"]]
    assert ids == [JOB]


def test_ls_says_that_there_are_more(behind: Behind, run: Run) -> None:
    for number in range(201):
        state = JobState.ACTIVE if number < 2 else JobState.SUCCEEDED
        behind.store.add_job(a_job(state, id=f"digits-{number:04}", submitted_s=number), [])
    said = run("ls")
    lines = said.out.splitlines()
    assert (len(lines), lines[1].split()[0]) == (201, "digits-0200")
    assert (
        said.err
        == "the newest 200 of 201 jobs; all of them: --all; those that are not over: --open\n"
    )
    assert len(run("ls", "--all").out.splitlines()) == 202
    assert run("ls", "--all").err == run("ls", "--open").err == ""
    assert [line.split()[0] for line in run("ls", "--open").out.splitlines()[1:]] == [
        "digits-0001",
        "digits-0000",
    ]
    told = json.loads(run("ls", "-o", "json").out)
    assert (len(told["jobs"]), told["total"]) == (200, 201)


@pytest.mark.usefixtures("story")
def test_show(run: Run) -> None:
    assert run("show", "digits").out == SHOW


@pytest.mark.usefixtures("story")
def test_no_command_tells_a_secret(run: Run) -> None:
    for command in ("ls", "show", "explain"):
        arguments = [command] if command == "ls" else [command, JOB]
        for output in ("table", "json"):
            said = run(*arguments, "-o", output)
            assert said.code == 0
            assert "s3cr3t" not in said.out + said.err


def test_show_without_an_answer_of_s3_shows_what_the_store_knows(story: Behind, run: Run) -> None:
    story.home.fail_next("get", Unavailable("no route"), prefix=f"jobs/{JOB}/checkpoints/HEAD")
    said = run("show", JOB)
    assert said.code == 0
    assert said.err == "S3 does not answer, so this is not all: no route\n"
    assert said.out.startswith(f"job          {JOB}\n")


def test_looking_at_a_job_makes_its_reports_come_faster(story: Behind, run: Run) -> None:
    run("show", JOB)
    job = story.store.job(JOB)
    assert job is not None
    assert job.watched_until is not None


@pytest.mark.usefixtures("story")
def test_explain(run: Run) -> None:
    said = run("explain", JOB)
    assert said.out == EXPLAIN
    assert said.err == "it is not over yet\n"
    told = json.loads(run("explain", JOB, "-o", "json").out)
    assert [event["kind"] for event in told["events"]] == ["submitted", "placed"]
    assert told["over"] is False


@pytest.mark.parametrize("verb", [CommandVerb.CANCEL, CommandVerb.CHECKPOINT, CommandVerb.PAUSE])
def test_a_wish_is_written_down_and_wakes_the_daemon(
    story: Behind, run: Run, verb: CommandVerb
) -> None:
    said = run(verb.value, "digits")
    assert said.code == 0
    assert JOB in said.err
    assert story.store.commands() == (Command(id=1, at=story.clock.now(), job_id=JOB, verb=verb),)
    assert story.wakes


def test_one_wrong_name_of_several_changes_nothing(story: Behind, run: Run) -> None:
    said = run("cancel", JOB, "digits-7f3b")
    assert said.code == 2
    assert said.err == "spotrunner: there is no job digits-7f3b; did you mean digits-7f3a?\n"
    assert not story.store.commands()


@pytest.mark.parametrize("command", ["show", "logs", "explain", "cancel", "checkpoint"])
def test_a_name_of_several_jobs_says_which_ids_there_are(
    story: Behind, run: Run, command: str
) -> None:
    story.store.add_job(a_job(JobState.QUEUED, id="digits-aaaa", submitted_s=60), [])
    said = run(command, "digits")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"spotrunner: digits can mean several jobs: digits-aaaa (queued), {JOB} (active);"
        " name one by its id\n"
    )
    assert not story.store.commands()
    assert run("show", "digits-aaaa").code == 0


def test_what_is_over_cannot_be_cancelled(behind: Behind, run: Run) -> None:
    behind.store.add_job(a_job(JobState.SUCCEEDED), [])
    said = run("cancel", JOB)
    assert said.code == 1
    assert said.err == f"spotrunner: {JOB} is over: it succeeded\n"


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(
    "command", ["show", "logs", "explain", "cancel", "checkpoint", "pause", "resume"]
)
def test_an_unknown_job_is_bad_input(run: Run, command: str) -> None:
    said = run(command, "no/such job")
    assert said.code == 2
    assert said.err.startswith("spotrunner: ")


# -- logs --------------------------------------------------------------------------------------

LOGS = f"""\
==> {JOB}.1 <==
epoch 1
half a line
==> {JOB}.2 <==
resumed from 150
step 200
"""


def test_logs_say_whose_they_are(story: Behind, run: Run) -> None:
    story.log(f"{JOB}.1", 1, "epoch 1\nhalf")
    story.log(f"{JOB}.1", 2, " a line")
    story.log(f"{JOB}.2", 1, "resumed from 150\nstep 200\n")
    assert run("logs", JOB).out == LOGS
    assert run("logs", JOB, "-a", "2").out == LOGS[LOGS.index(f"==> {JOB}.2") :]
    told = [json.loads(line) for line in run("logs", JOB, "-o", "json").out.splitlines()]
    assert [chunk["attempt"] for chunk in told] == [f"{JOB}.1", f"{JOB}.2"]


@pytest.mark.usefixtures("story")
def test_logs_of_nobody_are_said_to_be_none(run: Run) -> None:
    said = run("logs", JOB)
    assert (said.code, said.out) == (0, "")
    assert said.err == "it has written nothing yet; wait for it: add -f\n"


@pytest.mark.usefixtures("story")
def test_logs_of_an_unknown_attempt(run: Run) -> None:
    said = run("logs", JOB, "-a", "7")
    assert said.code == 2
    assert said.err == f"spotrunner: there is no attempt 7; there is {JOB}.1, {JOB}.2\n"


def test_following_ends_with_the_job(behind: Behind, run: Run) -> None:
    done = an_attempt(1, AttemptState.ENDED, end_reason=EndReason.DONE, ended_at=at(900))
    behind.store.add_job(a_job(JobState.SUCCEEDED), [])
    behind.store.write(behind.store.lead("a test"), Changes(attempts=(done,)))
    behind.log(done.id, 1, "step 1\n")
    assert run("logs", "-f", JOB).out == f"==> {done.id} <==\nstep 1\n"


def test_following_shows_what_comes_and_ends_with_the_job(behind: Behind, run: Run) -> None:
    """Its first call says that somebody looks; then comes more, and the end."""
    trains, store = an_attempt(1), behind.store
    store.add_job(a_job(JobState.ACTIVE), [])
    epoch = store.lead("a test")
    store.write(epoch, Changes(attempts=(trains,)))
    behind.log(trains.id, 1, "step 1\n")

    def finish() -> None:
        seen = False
        for _ in range(1000):
            job = store.job(JOB)
            seen = job is not None and job.watched_until is not None
            if seen:
                break
            threading.Event().wait(0.01)
        behind.log(trains.id, 2, "step 2\n")
        over = dataclasses.replace(a_job(JobState.SUCCEEDED), ended_at=at(900))
        done = an_attempt(1, AttemptState.ENDED, end_reason=EndReason.DONE, ended_at=at(900))
        store.write(epoch, Changes(jobs=(over,), attempts=(done,)))

    finishing = threading.Thread(target=finish)
    finishing.start()
    said = run("logs", "-f", JOB)
    finishing.join()
    assert said.out == f"==> {trains.id} <==\nstep 1\nstep 2\n"
    assert said.code == 0


def test_following_outlives_a_restart_of_the_daemon(
    behind: Behind, run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The new one has another port; api.json says which."""
    trains, store = an_attempt(1), behind.store
    store.add_job(a_job(JobState.ACTIVE), [])
    epoch = store.lead("a test")
    store.write(epoch, Changes(attempts=(trains,)))
    behind.log(trains.id, 1, "step 1\n")
    first = serve()
    api_file = written(tmp_path, first.url)
    monkeypatch.setenv("SPOTRUNNER_API_FILE", str(api_file))

    def restart() -> None:
        for _ in range(1000):
            job = store.job(JOB)
            if job is not None and job.watched_until is not None:
                break
            threading.Event().wait(0.01)
        first.stop()
        done = an_attempt(1, AttemptState.ENDED, end_reason=EndReason.DONE, ended_at=at(900))
        store.write(epoch, Changes(jobs=(a_job(JobState.SUCCEEDED),), attempts=(done,)))
        behind.log(trains.id, 2, "step 2\n")
        written(tmp_path, serve().url)

    restarting = threading.Thread(target=restart)
    restarting.start()
    said = run("logs", "-f", JOB)
    restarting.join()
    assert said.out == f"==> {trains.id} <==\nstep 1\nstep 2\n"
    assert said.code == 0


@pytest.mark.usefixtures("story")
def test_the_documentation_names_every_key(run: Run) -> None:
    words = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    shown = json.loads(run("show", JOB, "-o", "json").out)
    listed = json.loads(run("ls", "-o", "json").out)
    told = json.loads(run("explain", JOB, "-o", "json").out)
    objects = (shown, shown["attempts"][0], listed, listed["jobs"][0], told, told["events"][0])
    missing = {key for it in objects for key in it if f"`{key}" not in words}
    assert not missing


# -- deadlines ---------------------------------------------------------------------------------


def _shown(said: str) -> dict[str, str]:
    """The lines of `show`, by their names."""
    facts = (line.split("  ", 1) for line in said.split("\n\n")[0].splitlines())
    return {fact[0]: fact[1].strip() for fact in facts if len(fact) == 2}


def test_show_says_how_a_job_stands_against_its_deadline(behind: Behind, run: Run) -> None:
    spec = a_spec(
        policy="deadline", work_s=8 * 3600, deadline_at=at(12 * 3600), max_price_usd_micros=250_000
    )
    behind.store.add_job(a_job(JobState.QUEUED, spec=spec), [])
    shown = _shown(run("show", JOB).out)
    assert shown["policy"] == "deadline, at most $0.2500 an hour"
    assert shown["deadline"] == "11-02 00:00:00 UTC, in 12h"
    # 12 hours less 8 of work and the 5 minutes that a start is taken for.
    assert shown["work left"] == "about 8h on g4dn.xlarge: 3h 55m of slack"
    assert "changeover" not in shown
    behind.clock.advance(5 * 3600)
    assert _shown(run("show", JOB).out)["work left"] == (
        "about 8h on g4dn.xlarge: 1h 5m too late, even on-demand"
    )
    behind.clock.advance(8 * 3600)
    assert _shown(run("show", JOB).out)["deadline"] == "11-02 00:00:00 UTC, 1h ago"


@pytest.mark.parametrize(
    ("ended_s", "words"), [(2 * 3600, "1h before it"), (3 * 3600 + 300, "5m late")]
)
def test_show_says_whether_a_job_was_in_time(
    behind: Behind, run: Run, ended_s: int, words: str
) -> None:
    spec = a_spec(policy="deadline", work_s=3600, deadline_at=at(3 * 3600))
    done = an_attempt(
        1, AttemptState.ENDED, first_step_s=361, end_reason=EndReason.DONE, ended_at=at(ended_s)
    )
    job = a_job(JobState.SUCCEEDED, spec=spec, ended_at=at(ended_s))
    behind.store.add_job(job, [])
    behind.store.write(behind.store.lead("a test"), Changes(attempts=(done,)))
    shown = _shown(run("show", JOB).out)
    assert shown["deadline"] == f"11-01 15:00:00 UTC, {words}"
    # 300 s at 0.16 USD/h
    assert shown["changeover"] == "6m; with 1m it would have cost $0.0133 less: spotrunner bake"
    assert "work left" not in shown


@pytest.mark.parametrize(
    ("baked", "image", "first_step_s", "how"),
    [
        (False, TF, 361, ": spotrunner bake"),
        (True, TF, 361, ""),
        (False, "none", 361, ""),
        (False, TF, 201, ""),  # it saves less than a cent
    ],
)
def test_show_names_the_bake_where_it_is_worth_it(
    behind: Behind, run: Run, baked: bool, image: str, first_step_s: int, how: str
) -> None:
    way = Milestones(booted_at=at(31), agent_at=at(36), image_at=at(60), baked=baked)
    done = an_attempt(
        1,
        AttemptState.ENDED,
        first_step_s=first_step_s,
        milestones=way,
        end_reason=EndReason.DONE,
        ended_at=at(7200),
    )
    job = a_job(JobState.SUCCEEDED, spec=a_spec(image=image), ended_at=at(7200))
    behind.store.add_job(job, [])
    behind.store.write(behind.store.lead("a test"), Changes(attempts=(done,)))
    changeover = _shown(run("show", JOB).out)["changeover"]
    assert changeover.partition(" less")[2] == how


def test_what_was_cancelled_was_neither_in_time_nor_late(behind: Behind, run: Run) -> None:
    spec = a_spec(policy="deadline", work_s=3600, deadline_at=at(3 * 3600))
    behind.store.add_job(a_job(JobState.CANCELLED, spec=spec, ended_at=at(60)), [])
    assert _shown(run("show", JOB).out)["deadline"] == "11-01 15:00:00 UTC"


def test_explain_tells_a_move_with_both_places(behind: Behind, run: Run) -> None:
    moved = Event(
        at=at(300),
        job_id=JOB,
        subject=f"{JOB}.2",
        kind="placed",
        why="spot in us-east-1a at 0.16 USD/h has been up for 40 min",
        data={"pool": "us-east-1a/g4dn.xlarge", "market": "spot", "replaces": f"{JOB}.1"},
    )
    ended = Event(
        at=at(420),
        job_id=JOB,
        subject=f"{JOB}.1",
        kind="ended",
        why="the instance powered itself off; cost 0.0592 USD",
        data={"reason": "moved"},
    )
    behind.store.add_job(a_job(JobState.ACTIVE), [moved, ended])
    assert run("explain", JOB).out.splitlines()[1:] == [
        "11-01 12:05:00  digits-7f3a.2  placed  spot in us-east-1a at 0.16 USD/h has been up for 40"
        " min (pool us-east-1a/g4dn.xlarge, takes over from digits-7f3a.1)",
        "11-01 12:07:00  digits-7f3a.1  ended   the instance powered itself off; cost 0.0592 USD"
        " (reason moved)",
    ]
