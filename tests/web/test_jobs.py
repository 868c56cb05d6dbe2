"""What the API says of jobs, and what users ask of them."""

from __future__ import annotations

from typing import Any

import pytest

from spotrunner.adapters import codec
from spotrunner.core.model import CommandVerb, EndReason, Event, Limits, Notice, Phase
from spotrunner.core.money import exposure
from spotrunner.core.states import AttemptState, JobState
from spotrunner.ports import Changes, Unavailable
from tests.build import JOB, T0, a_head, a_job, a_report, a_spec, an_attempt, an_offer, at
from tests.web.conftest import Api


def _interrupted() -> Any:
    """An attempt of an hour, ended by EC2 after a notice."""
    return an_attempt(
        1,
        AttemptState.ENDED,
        launched_s=0,
        notice=Notice(at=at(3720), seen_at=at(3600)),
        safe_at=at(3606.5),
        ended_at=at(3720),
        end_reason=EndReason.INTERRUPTED,
        cost_usd_micros=165_334,
        step_after=400,
    )


@pytest.fixture
def told(api: Api) -> Api:
    """A job whose second attempt trains, an hour after the first one was launched."""
    second = an_attempt(
        2,
        offer=an_offer("eu-west-1a", price=180_000, dearest=587_000),
        intent_s=3600,
        launched_s=3605,
        first_step_s=3660,
        paid_until_s=5400,
        replaces=f"{JOB}.1",
        step_before=400,
    )
    job = a_job()
    api.store.add_job(job, [Event(at=T0, job_id=JOB, subject=JOB, kind="submitted", why="asked")])
    placed = Event(at=at(1), job_id=JOB, subject=f"{JOB}.1", kind="placed", why="cheapest")
    changes = Changes(attempts=(_interrupted(), second), events=(placed,))
    api.store.write(api.store.lead("a test"), changes)
    report = a_report(
        f"{JOB}.2",
        4195,
        step=450,
        total_steps=1000,
        metrics=(("loss", 0.5), ("accuracy", float("nan"))),
        committed_step=430,
        committed_s=4100,
    )
    api.mailbox.post_report(report)
    api.mailbox.boxes()
    head = codec.to_json(a_head(430, attempt=f"{JOB}.2", generation=2))
    api.home.put(f"jobs/{JOB}/checkpoints/HEAD.json", head)
    return api


# -- reading -----------------------------------------------------------------------------------


def test_a_job_in_full(told: Api) -> None:
    answer = told.get(f"/v1/jobs/{JOB}")
    assert answer["job"]["id"] == JOB
    assert answer["job"]["state"] == "active"
    assert (answer["job"]["step"], answer["job"]["total_steps"]) == (450, 1000)
    assert answer["job"]["committed_step"] == 430
    assert (answer["job"]["recoveries"], answer["job"]["interruptions"]) == (1, 1)
    assert answer["head"]["step"] == 430
    assert answer["report"]["metrics"] == {"loss": 0.5, "accuracy": "nan"}
    first, second = answer["attempts"]
    assert first["pool"] == "us-east-1a/g4dn.xlarge"
    assert first["end_reason"] == "interrupted"
    assert first["notice_to_commit_s"] == 6.5
    assert first["notice_to_next_step_s"] == 60.0
    assert first["cost_usd"] == 0.165334
    assert (first["from"], first["to"]) == (
        "2026-11-01T12:00:00.000000Z",
        "2026-11-01T13:02:00.000000Z",
    )
    assert second["state"] == "running"
    assert second["replaces"] == f"{JOB}.1"
    assert second["to"] is None


def test_the_money_of_a_job(told: Api) -> None:
    now = told.clock.now()
    lived_s = int((now - at(3605)).total_seconds())
    answer = told.get(f"/v1/jobs/{JOB}")
    cost = 0.165334 + lived_s * 0.18 / 3600
    assert answer["cost_usd"] == pytest.approx(cost, abs=2e-6)
    on_demand = 3720 * 0.526 / 3600 + lived_s * 0.587 / 3600
    assert answer["ondemand_usd"] == pytest.approx(on_demand, abs=2e-6)
    assert answer["saved_fraction"] == pytest.approx(1 - cost / on_demand, abs=1e-4)
    assert answer["budget_usd"] == 5.0
    assert answer["reserved_usd"] >= 0


def test_what_a_running_attempt_may_still_cost_is_reserved(api: Api) -> None:
    now_s = (api.clock.now() - T0).total_seconds()
    running = an_attempt(launched_s=now_s - 900, paid_until_s=now_s + 900)
    api.store.add_job(a_job(), [])
    api.store.write(api.store.lead("a test"), Changes(attempts=(running,)))
    answer = api.get(f"/v1/jobs/{JOB}")
    assert answer["cost_usd"] == 0.04
    held = exposure(running, Limits(), api.clock.now())
    assert held > 0.526 / 2 * 1_000_000  # half an hour at the dearest price
    assert answer["reserved_usd"] == (held - 40_000) / 1_000_000


def test_a_list_has_a_line_for_each_job(told: Api) -> None:
    told.store.add_job(a_job(JobState.QUEUED, id="other-aaaa", spec=a_spec(name="other")), [])
    answer = told.get("/v1/jobs")
    assert answer["now"] == "2026-11-21T08:00:00.000000Z"
    assert [job["id"] for job in answer["jobs"]] == ["other-aaaa", JOB]
    assert [job["step"] for job in answer["jobs"]] == [0, 450]
    assert answer["jobs"][0]["saved_fraction"] is None
    assert answer["jobs"][0]["phase"] is None
    assert answer["total"] == 2


def test_a_list_is_the_newest_first_and_ends_somewhere(api: Api) -> None:
    for number in range(250):
        state = JobState.ACTIVE if number < 3 else JobState.SUCCEEDED
        api.store.add_job(a_job(state, id=f"digits-{number:04}", submitted_s=number), [])

    def listed(**query: Any) -> tuple[list[int], int]:
        answer = api.get("/v1/jobs", **query)
        return [int(job["id"][-4:]) for job in answer["jobs"]], answer["total"]

    assert listed() == (list(range(249, 49, -1)), 250)
    assert listed(limit=2) == ([249, 248], 250)
    assert listed(all=True) == (list(range(249, -1, -1)), 250)
    assert listed(open=True) == ([2, 1, 0], 3)
    assert listed(open=True, limit=1) == ([2], 3)
    for limit in (0, -1, 10_001, "x"):
        response = api.client.get("/v1/jobs", params={"limit": limit})
        assert response.status_code == 422
        assert response.json()["errors"][0]["key"] == "limit"


def test_of_many_jobs_no_more_is_read_than_is_listed(api: Api) -> None:
    """After years there are tens of thousands of them."""
    for number in range(300):
        api.store.add_job(
            a_job(JobState.SUCCEEDED, id=f"digits-{number:04}", submitted_s=number), []
        )
    api.get("/v1/jobs")
    api.get("/v1/status")
    assert api.client.get("/v1/jobs/digits-03O0").status_code == 404
    assert api.store.most_jobs == 200
    assert api.store.most_attempts_asked == 200


def test_values_of_the_environment_are_never_shown(api: Api) -> None:
    api.store.add_job(a_job(spec=a_spec(envs=(("KEY", "s3cret"),))), [])
    answer = api.client.get(f"/v1/jobs/{JOB}")
    assert answer.json()["job"]["envs"] == ["KEY"]
    assert "s3cret" not in answer.text


def test_a_job_that_is_over_shows_its_archived_report(api: Api) -> None:
    api.store.add_job(a_job(JobState.SUCCEEDED), [])
    done = an_attempt(1, AttemptState.ENDED, end_reason=EndReason.DONE, step_after=1000)
    api.store.write(api.store.lead("a test"), Changes(attempts=(done,)))
    report = a_report(phase=Phase.DONE, step=1000, total_steps=1000)
    api.mailbox.post_report(report)
    api.mailbox.archive(f"{JOB}.1", JOB)
    api.mailbox.boxes()
    answer = api.get(f"/v1/jobs/{JOB}")
    assert answer["report"]["phase"] == "done"
    assert (answer["job"]["step"], answer["job"]["total_steps"]) == (1000, 1000)
    assert answer["head"] is None


def test_a_damaged_archived_report_is_no_error(api: Api) -> None:
    api.store.add_job(a_job(JobState.SUCCEEDED), [])
    done = an_attempt(1, AttemptState.ENDED)
    api.store.write(api.store.lead("a test"), Changes(attempts=(done,)))
    api.home.put(f"jobs/{JOB}/mail/reports/{JOB}.1/0.json", b"{")
    assert api.get(f"/v1/jobs/{JOB}")["report"] is None


def test_a_job_is_shown_while_s3_does_not_answer(told: Api) -> None:
    told.home.fail_next("get", Unavailable("S3 is away"), prefix="jobs/")
    answer = told.get(f"/v1/jobs/{JOB}")
    assert answer["head"] is None
    assert answer["trouble"] == "S3 is away"
    assert answer["job"]["step"] == 450


def test_the_story_comes_page_by_page(told: Api) -> None:
    story = told.get(f"/v1/jobs/{JOB}/events")
    assert [event["kind"] for event in story["events"]] == ["submitted", "placed"]
    assert story["events"][1]["subject"] == f"{JOB}.1"
    assert not story["more"]
    assert not story["over"]
    first = story["events"][0]["n"]
    assert [e["n"] for e in told.get(f"/v1/jobs/{JOB}/events", after=first)["events"]] == [
        story["after"]
    ]
    again = told.get(f"/v1/jobs/{JOB}/events", after=story["after"])
    assert again["events"] == []
    assert again["after"] == story["after"]


# -- names -------------------------------------------------------------------------------------


def test_a_job_is_found_by_its_name(told: Api) -> None:
    assert told.get("/v1/jobs/digits")["job"]["id"] == JOB


def test_of_two_jobs_of_one_name_the_running_one_is_meant(told: Api) -> None:
    told.store.add_job(a_job(JobState.FAILED, id="digits-aaaa"), [])
    assert told.get("/v1/jobs/digits")["job"]["id"] == JOB


def test_a_name_that_can_mean_two_jobs_is_refused(told: Api) -> None:
    told.store.add_job(a_job(JobState.FAILED, id="digits-aaaa", submitted_s=2), [])
    told.store.add_job(a_job(JobState.QUEUED, id="digits-bbbb", submitted_s=1), [])
    for call in ("get", "post"):
        path = "/v1/jobs/digits" if call == "get" else "/v1/jobs/digits/cancel"
        response = told.client.request(call, path)
        assert response.status_code == 409
        assert response.json()["errors"] == [
            {
                "line": None,
                "key": "job",
                "message": "digits can mean several jobs: digits-bbbb (queued),"
                f" {JOB} (active), digits-aaaa (failed)",
                "hint": "name one by its id",
            }
        ]
    assert not told.store.commands()
    assert told.get("/v1/jobs/digits-bbbb")["job"]["id"] == "digits-bbbb"


def test_of_many_jobs_of_one_name_the_first_five_are_told(told: Api) -> None:
    for number in range(7):
        told.store.add_job(a_job(id=f"digits-aaa{number}", submitted_s=number + 1), [])
    message = told.client.get("/v1/jobs/digits").json()["errors"][0]["message"]
    assert message.endswith("digits-aaa2 (active), and 3 more")


@pytest.mark.parametrize("call", ["", "/events", "/logs"])
def test_a_job_that_is_not_there_is_404(told: Api, call: str) -> None:
    response = told.client.get(f"/v1/jobs/digits-7f3b{call}")
    assert response.status_code == 404
    assert response.json()["errors"] == [
        {
            "line": None,
            "key": "",
            "message": "there is no job digits-7f3b",
            "hint": f"did you mean {JOB}?",
        }
    ]


# -- asking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [CommandVerb.CANCEL, CommandVerb.CHECKPOINT, CommandVerb.PAUSE])
def test_a_command_is_written_down_and_wakes_the_daemon(told: Api, verb: CommandVerb) -> None:
    answer = told.post(f"/v1/jobs/digits/{verb.value}")
    assert answer["id"] == JOB
    (command,) = told.store.commands()
    assert (command.job_id, command.verb, command.at) == (JOB, verb, told.clock.now())
    assert len(told.wakes) == 1
    job = told.store.job(JOB)
    assert job is not None
    assert job.state is JobState.ACTIVE


def test_nothing_can_be_asked_of_a_job_that_is_over(api: Api) -> None:
    api.store.add_job(a_job(JobState.CANCELLED), [])
    for verb in CommandVerb:
        response = api.client.post(f"/v1/jobs/{JOB}/{verb.value}")
        assert response.status_code == 409
        assert response.json()["errors"][0]["message"] == f"{JOB} is over: it was cancelled"
    assert api.store.commands() == ()


@pytest.mark.parametrize("call", ["", "/events", "/logs"])
def test_who_looks_on_is_remembered_for_a_minute(told: Api, call: str) -> None:
    told.get(f"/v1/jobs/{JOB}{call}")
    job = told.store.job(JOB)
    assert job is not None
    assert job.watched_until is None
    for _ in range(2):
        told.get(f"/v1/jobs/{JOB}{call}", watch=1)
    job = told.store.job(JOB)
    assert job is not None
    assert job.watched_until is not None
    assert (job.watched_until - told.clock.now()).total_seconds() == 60
    # Its agent hears of it in a round; once is enough.
    assert len(told.wakes) == 1


def test_a_round_is_waited_for(api: Api) -> None:
    api.post("/v1/round")
    assert api.rounds == [120.0]
    api.round_ends = False
    response = api.client.post("/v1/round")
    assert response.status_code == 503
    assert response.json()["errors"][0]["message"] == "no round was over within 120 s"


def test_the_status_counts_the_jobs(told: Api) -> None:
    told.store.add_job(a_job(JobState.QUEUED, id="digits-aaaa"), [])
    status = told.get("/v1/status")
    assert status["jobs"] == {"active": 1, "queued": 1}
    assert status["installation"] == "test"


# -- who may ask -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", "Basic a-token-of-the-tests", "Bearer ä"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("POST", "/v1/round"), ("GET", "/nowhere")],
)
def test_without_the_token_nothing_is_told(
    told: Api, method: str, path: str, authorization: str | None
) -> None:
    told.client.headers.pop("Authorization")
    headers = {} if authorization is None else {b"Authorization": authorization.encode()}
    response = told.client.request(method, path, headers=headers)
    assert response.status_code == 401
    assert response.json()["errors"][0]["message"] == "the token is missing or wrong"
    assert not told.rounds


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nowhere", 404),
        ("GET", "/openapi.json", 404),
        ("DELETE", "/v1/jobs", 405),
        ("GET", f"/v1/jobs/{JOB}/events?after=x", 422),
        ("GET", f"/v1/jobs/{JOB}/logs?after=x", 422),
        ("GET", f"/v1/jobs/{JOB}/logs?attempt=9", 404),
    ],
)
def test_every_error_has_one_format(told: Api, method: str, path: str, status: int) -> None:
    response = told.client.request(method, path)
    assert response.status_code == status
    (error,) = response.json()["errors"]
    assert sorted(error) == ["hint", "key", "line", "message"]
    assert error["message"]
