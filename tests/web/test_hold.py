"""Holding everything, and trying the channels."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from tests.web.conftest import START, Api


@pytest.fixture
def channels(request: pytest.FixtureRequest) -> frozenset[str]:
    return frozenset(getattr(request, "param", {"me", "phone"}))


# -- hold --------------------------------------------------------------------------------------


def test_a_hold_is_written_down_and_shown_until_it_is_over(api: Api) -> None:
    assert api.get("/v1/status")["held_until"] is None
    answer = api.post("/v1/hold", {"for_s": 3600})
    assert answer == {"held_until": "2026-11-21T09:00:00.000000Z", "brake": None}
    assert api.store.held_until() == START + dt.timedelta(hours=1)
    assert api.get("/v1/status")["held_until"] == "2026-11-21T09:00:00.000000Z"
    assert len(api.wakes) == 1
    api.clock.advance(3600)
    assert api.get("/v1/status")["held_until"] is None


def test_a_hold_can_be_ended(api: Api) -> None:
    api.post("/v1/hold", {"for_s": 3600})
    response = api.client.delete("/v1/hold")
    assert (response.status_code, response.json()) == (200, {"held_until": None, "brake": None})
    assert api.store.held_until() is None
    assert len(api.wakes) == 2


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
