"""Holding everything, and trying the channels."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from spotrunner.core.model import Attempt, Pause
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window
from spotrunner.ports import Changes
from tests.build import T0, a_job, a_spec, an_attempt
from tests.web.conftest import START, Api


@pytest.fixture
def channels(request: pytest.FixtureRequest) -> frozenset[str]:
    return frozenset(getattr(request, "param", {"me", "phone"}))


# -- hold --------------------------------------------------------------------------------------


def test_a_hold_is_written_down_and_shown_until_it_is_over(api: Api) -> None:
    assert api.get("/v1/status")["held_until"] is None
    answer = api.post("/v1/hold", {"for_s": 3600})
    assert answer == {
        "held_until": "2026-11-21T09:00:00.000000Z",
        "brake": None,
        "round_over": True,
        "paid": [],
        "unpaid": [],
    }
    assert api.store.held_until() == START + dt.timedelta(hours=1)
    assert api.get("/v1/status")["held_until"] == "2026-11-21T09:00:00.000000Z"
    assert api.rounds == [120.0]
    api.clock.advance(3600)
    assert api.get("/v1/status")["held_until"] is None


def test_a_hold_can_be_ended(api: Api) -> None:
    api.post("/v1/hold", {"for_s": 3600})
    response = api.client.delete("/v1/hold")
    assert (response.status_code, response.json()) == (200, {"held_until": None, "brake": None})
    assert api.store.held_until() is None
    assert len(api.wakes) == 1


def test_what_a_panic_forbade_is_shown_and_allowed_again(api: Api) -> None:
    word = {"at": "2026-11-21T07:59:00Z", "by": "alice@host", "why": "spotrunner panic by alice"}
    api.home.put("mail/brake.json", json.dumps(word).encode())
    api.mailbox.boxes()
    brake = api.get("/v1/status")["brake"]
    assert "spotrunner panic by alice" in brake
    assert api.post("/v1/hold", {"for_s": 60})["brake"] == brake
    assert api.client.delete("/v1/hold").json()["brake"] == brake
    assert "mail/brake.json" not in api.stored_keys
    api.mailbox.boxes()
    assert api.get("/v1/status")["brake"] is None


@pytest.mark.parametrize("body", [{}, {"for_s": 59}, {"for_s": 86_401}, {"for_s": "1h"}])
def test_a_hold_has_an_end_within_a_day(api: Api, body: dict[str, Any]) -> None:
    response = api.client.post("/v1/hold", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["key"] == "for_s"
    assert api.store.held_until() is None


def _put(api: Api, id: str, *attempts: Attempt, **job: Any) -> None:
    spec = a_spec(name=id.partition("-")[0], window=job.pop("window", None))
    api.store.add_job(a_job(job.pop("state", JobState.ACTIVE), id=id, spec=spec, **job), [])
    api.store.write(api.store.lead("a test"), Changes(attempts=attempts))


def _paid(id: str, minutes: int, generation: int = 1, **changes: Any) -> Attempt:
    """It runs, and is paid for so long from now on."""
    until_s = (START - T0).total_seconds() + 60 * minutes
    return an_attempt(generation, job=id, paid_until_s=until_s, **changes)


def _held(api: Api) -> tuple[list[str], dict[str, str]]:
    """For an hour: who is paid through it, and why others are not."""
    answer = api.post("/v1/hold", {"for_s": 3600})
    return [it["id"] for it in answer["paid"]], {it["id"]: it["why"] for it in answer["unpaid"]}


def test_it_is_told_who_is_paid_through_the_hold(api: Api) -> None:
    """What is paid on is to have the five minutes of a stop beyond it, so that it need not."""
    _put(api, "long-aaaa", _paid("long-aaaa", 65))
    _put(api, "short-aaaa", _paid("short-aaaa", 64))
    answer = api.post("/v1/hold", {"for_s": 3600})
    assert answer["paid"] == [{"id": "long-aaaa", "paid_until": "2026-11-21T09:05:00.000000Z"}]
    assert answer["unpaid"] == [
        {
            "id": "short-aaaa",
            "paid_until": "2026-11-21T09:04:00.000000Z",
            "why": "its caps pay no more, or it has not reported lately",
        }
    ]


WHY = "the job's budget leaves 0.0100 USD, which pays no further step"
# 08:00 to 08:30.
SHORT = Window(start_min=480, stop_min=510, tz="UTC", days=tuple(range(7)))


@pytest.mark.parametrize(
    ("attempt", "window", "why"),
    [
        ({"end_detail": WHY}, None, WHY),
        ({}, SHORT, "its window closes at 08:30 UTC"),
        (
            {"state": AttemptState.REQUESTED},
            None,
            "its instance has not reported yet, and only what reports is paid on",
        ),
        (
            {"state": AttemptState.INTERRUPTED, "minutes": 120},
            None,
            "its instance ends (interrupted), and no other is launched",
        ),
    ],
)
def test_why_it_is_not_paid_through_it(
    api: Api, attempt: dict[str, Any], window: Window | None, why: str
) -> None:
    _put(api, "a-aaaa", _paid("a-aaaa", **{"minutes": 35, **attempt}), window=window)
    assert _held(api) == ([], {"a-aaaa": why})


def test_of_two_instances_the_one_that_works_on_counts(api: Api) -> None:
    old = _paid("a-aaaa", 120, state=AttemptState.INTERRUPTED)
    _put(api, "a-aaaa", old, _paid("a-aaaa", 90, generation=2))
    assert _held(api) == (["a-aaaa"], {})


def test_what_is_to_stop_or_does_not_run_is_not_named(api: Api) -> None:
    _put(api, "a-aaaa", _paid("a-aaaa", 5), state=JobState.PAUSED, pause=Pause.USER)
    _put(api, "b-aaaa", _paid("b-aaaa", 5), state=JobState.SUCCEEDED)
    _put(api, "c-aaaa", state=JobState.QUEUED)
    assert _held(api) == ([], {})


def test_what_the_round_has_paid_counts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hold lies in the store before the round begins."""
    _put(api, "a-aaaa", _paid("a-aaaa", 20))

    def pay(_timeout_s: float) -> bool:
        assert api.store.held_until() == START + dt.timedelta(hours=1)
        api.store.write(api.store.lead("a test"), Changes(attempts=(_paid("a-aaaa", 90),)))
        return True

    monkeypatch.setattr(api, "round", pay)
    assert _held(api) == (["a-aaaa"], {})


def test_a_hold_lies_there_though_no_round_ends(api: Api) -> None:
    api.round_ends = False
    _put(api, "a-aaaa", _paid("a-aaaa", 20))
    answer = api.post("/v1/hold", {"for_s": 3600})
    assert (answer["round_over"], [it["id"] for it in answer["unpaid"]]) == (False, ["a-aaaa"])
    assert api.store.held_until() is not None


# -- notify test -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "tried"),
    [
        ({}, ("me", "phone")),
        ({"channels": ["phone"]}, ("phone",)),
        ({"channels": ["phone", "me", "phone"]}, ("phone", "me")),
    ],
)
def test_each_channel_says_whether_it_took_the_message(
    api: Api, body: dict[str, Any], tried: tuple[str, ...]
) -> None:
    api.channels["phone"] = "phone: it answered 500"
    answer = api.post("/v1/notify/test", body)
    assert api.tested == [tried]
    told = {it["channel"]: (it["ok"], it["error"]) for it in answer["channels"]}
    assert set(told) == set(tried)
    assert told["phone"] == (False, "phone: it answered 500")
    assert told.get("me", (True, "")) == (True, "")


def test_a_channel_that_nobody_named_in_the_settings_is_refused(api: Api) -> None:
    response = api.client.post("/v1/notify/test", json={"channels": ["phon", "x"]})
    assert response.status_code == 422
    assert [it["message"] for it in response.json()["errors"]] == [
        "there is no channel phon; nearest: phone",
        "there is no channel x; there are me, phone",
    ]
    assert api.tested == []


@pytest.mark.parametrize("channels", [()], indirect=True)
def test_without_a_channel_it_says_where_to_add_one(api: Api) -> None:
    response = api.client.post("/v1/notify/test", json={})
    assert response.status_code == 409
    (problem,) = response.json()["errors"]
    assert "`alerts.channels`" in problem["message"]
