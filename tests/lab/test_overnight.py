"""A job is left alone for two nights with a cap, a window and a price that it would rather wait at:
on real processes, with alerts that arrive over a real hook and a real mail server."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from spotrunner.cli.demo.stage import Stage, stage
from spotrunner.core.model import Limits
from tests.lab import paced
from tests.lab.followed import Followed
from tests.lab.traces import processes_of
from tests.lab.waiting import until
from tests.sinks import TOKEN, HookSink, MailSink, Message

pytestmark = pytest.mark.slow

BOOT_S = 120.0
TRAIN_S = 300.0
ALERT_S = 30.0

TYPE, REGION = "g5.xlarge", "us-east-1"
# USD an hour: in these nights, and when it is too dear. On-demand, at which each step is reserved,
# is 1.006.
USUAL, TOO_DEAR = "0.90", "1.00"
CAP, MORE = "3.00", "8.00"

# By the clock of the job's zone. Where the budgets' days end, a midnight is between the first two.
BEGINS, MORNING, EVENING = dt.time(4, 30), dt.time(7, 10), dt.time(22, 1)
BEGINS_IN_BUDGETS = dt.time(22, 30)
WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# Each is 46 steps, so this is 207 s at the least (paced.py). The nights take about 130 of them.
EPOCHS = "45"


class Nights:
    """The lab and its clock, the job, and where people are told of it."""

    def __init__(self, ground: Stage, hook: HookSink, mail: MailSink) -> None:
        self.ground = ground
        self.hook = hook
        self.mail = mail
        now = lab_time(ground)
        self.zone = zone_where_it_is(BEGINS, now)
        self._write_settings(zone_where_it_is(BEGINS_IN_BUDGETS, now))
        for zone in "abd":
            where = {"region": REGION, "zone": REGION + zone, "instance_type": TYPE}
            ground.lab.post("capacity", {**where, "up": True})
        self.rested = 0  # attempts when it last had no instance
        self.price(USUAL)
        self._skip_to(BEGINS)
        self.job = Followed(ground, self._job_file(), EPOCHS=EPOCHS)

    def _write_settings(self, budgets_tz: str) -> None:
        """As somebody does who edits them, and restarts the daemon."""
        file = self.ground.lab.paths.settings
        hook_file = self.ground.folder / "hook.url"
        hook_file.write_text(self.hook.url)
        settings = yaml.safe_load(file.read_text())
        settings["alerts"] = {
            "channels": {"hook": {"url_file": str(hook_file)}, "mail": {"url": self.mail.url}},
            "default": ["mail"],
            "owners": {"alice": ["hook", "mail"]},
        }
        settings["budgets"] = {
            "tz": budgets_tz,
            "total": 100,
            "owners": {"alice": {"total": 20, "day": 10}},
        }
        self.ground.daemon.stop()
        file.write_text(yaml.safe_dump(settings))
        self.ground.daemon.start()

    def _job_file(self) -> Path:
        """Of the night that it is in, and the next one."""
        today = self._now().weekday()
        days = f"{WEEK[today - 1]}, {WEEK[today]}"
        payload = self.ground.folder / "payload"
        shutil.copytree(self.ground.payload, payload)
        shutil.copy(paced.__file__, payload)
        file = self.ground.folder / "job.yaml"
        file.write_text(f"""
name: overnight
resources: {{instance_types: [{TYPE}], regions: [{REGION}]}}
image: tensorflow/tensorflow:2.17.0-gpu
workdir: payload
envs: {{BUCKET: null, EPOCHS: null, PROGRESS_EVERY: null}}
data: [{{source: "s3://${{BUCKET}}/datasets/digits/", target: digits}}]
run: python paced.py --epochs "$EPOCHS" --width 16 --progress-every-steps "$PROGRESS_EVERY"
owner: alice
budget: {CAP}
window: {{start: "22:00", stop: "07:00", tz: {self.zone}, days: [{days}]}}
pause_above: 0.95
pause_after: 10m
""")
        return file

    # -- what is done --------------------------------------------------------------------------

    def spotrunner(self, *command: str) -> Any:
        return json.loads(self.ground.spotrunner(*command, "-o", "json"))

    def price(self, usd: str) -> None:
        self.spotrunner("lab", "price", TYPE, usd, "--dir", str(self.ground.folder))

    def skip_to(self, clock: dt.time) -> None:
        self._skip_to(clock)
        self.look()

    def _skip_to(self, clock: dt.time) -> None:
        self.ground.lab.skip(seconds_to(clock, self._now()))

    def skip_until(self, condition: Callable[[], object]) -> None:
        """Ten minutes at a time, as often as a night has them."""
        for _ in range(54):
            self.look()
            if condition():
                return
            self.ground.lab.skip(600)
        raise AssertionError("not in a night")

    # -- what is seen --------------------------------------------------------------------------

    def _now(self) -> dt.datetime:
        return lab_time(self.ground).astimezone(ZoneInfo(self.zone))

    def look(self) -> None:
        """Whenever anybody looks, each cap pays for what is spent and for what may be."""
        for cap in self.ground.api.get("/v1/budget")["caps"]:
            assert cap["accrued_usd"] + cap["reserved_usd"] <= cap["cap_usd"], cap

    @property
    def state(self) -> str:
        job = self.job.detail["job"]
        return f"paused ({job['pause']})" if job["pause"] else str(job["state"])

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Of each attempt that trained: the step that it went on from, and its last one. One may
        have been launched by a price that its region had not told anew yet, and never train."""
        numbers = range(1, len(self.job.attempts) + 1)
        return [self.job.span(number) for number in numbers if self.job.trains(number)]

    def trains_as(self, number: int) -> bool:
        return len(self.job.attempts) == number and self.job.trains(number)

    def rests(self) -> None:
        """Without an instance, and with its last step committed."""
        until(self.job.nothing_left, BOOT_S)
        head, spans = self.job.head(), self.spans
        assert (head.final, head.done) == (True, None)
        assert head.step == spans[-1][1] > 0
        self.rested = len(self.job.attempts)

    def goes_on(self) -> None:
        """With another attempt, from the step at which the last one stopped."""
        self.skip_until(lambda: len(self.job.attempts) > self.rested)
        until(lambda: self.job.trains(len(self.job.attempts)), BOOT_S)
        assert self.spans[-1][0] == self.spans[-2][1]


def lab_time(ground: Stage) -> dt.datetime:
    return dt.datetime.fromisoformat(ground.lab.status()["now"])


def seconds_to(clock: dt.time, now: dt.datetime) -> float:
    """From `now` to the next such time of its day or the next one; in zones without summers."""
    then = now.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return (then - now).total_seconds() % 86_400


def zone_where_it_is(clock: dt.time, now: dt.datetime) -> str:
    """Where it is that time within the next hour."""
    zones = (f"Etc/GMT{hours:+d}" for hours in range(-12, 13))
    return next(name for name in zones if seconds_to(clock, now.astimezone(ZoneInfo(name))) < 3600)


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    with HookSink() as hook, MailSink() as mail:
        with stage(3, tmp_path, print) as ground:
            made = Nights(ground, hook, mail)
            yield made
            made.job.close()
        assert processes_of(tmp_path) == []


def test_a_job_is_left_alone_for_two_nights(nights: Nights) -> None:
    until(lambda: nights.trains_as(1), BOOT_S)
    while_it_is_too_dear_it_waits(nights)
    by_day_it_rests(nights)
    its_cap_stops_it(nights)
    with_more_it_finishes(nights)
    each_view_of_its_cost_is_the_same(nights)
    its_owner_was_told_of_each_thing_once(nights)
    nobody_was_told_the_address_of_a_hook(nights)


def while_it_is_too_dear_it_waits(nights: Nights) -> None:
    nights.price(TOO_DEAR)
    nights.skip_until(lambda: nights.state == "paused (price)")
    nights.rests()
    nights.price(USUAL)
    nights.goes_on()


def by_day_it_rests(nights: Nights) -> None:
    nights.skip_to(MORNING)
    assert nights.state == "paused (window)"
    nights.rests()
    nights.skip_to(EVENING)
    nights.goes_on()


def its_cap_stops_it(nights: Nights) -> None:
    nights.skip_until(lambda: nights.state == "paused (budget)")
    nights.rests()
    shown = nights.spotrunner("show", nights.job.id)
    bill_usd = nights.ground.lab.bill()["usd"]
    assert 0.8 * float(CAP) < bill_usd < shown["cost_usd"] <= float(CAP)
    # Ends that nobody saw are booked as if they came when the paid time ended.
    unseen_usd = float(USUAL) * Limits().silent_s / 3600 * len(nights.spans)
    assert bill_usd <= shown["instance_usd"] < bill_usd + unseen_usd
    assert f"spotrunner extend {nights.job.id} --budget" in shown["goes_on"]


def with_more_it_finishes(nights: Nights) -> None:
    committed = nights.job.head().step
    nights.spotrunner("extend", nights.job.id, "--budget", MORE)
    until(lambda: nights.state == "succeeded", BOOT_S + TRAIN_S)
    until(nights.job.nothing_left, BOOT_S)
    until(lambda: all(each["to"] for each in nights.job.attempts), BOOT_S)
    assert nights.job.head().done is not None
    assert nights.job.result()["steps"] == nights.spans[-1][1] == 46 * int(EPOCHS)
    stops, starts = [last for _, last in nights.spans[:-1]], [first for first, _ in nights.spans]
    assert starts == [0, *stops], "nothing that was trained was lost"
    assert starts[-1] == committed


def each_view_of_its_cost_is_the_same(nights: Nights) -> None:
    shown = nights.spotrunner("show", nights.job.id)
    by_day = nights.spotrunner("report", "--by", "day")
    assert len(by_day["rows"]) == 2, "midnight was in the first night"
    assert sum(row["cost_usd"] for row in by_day["rows"]) == pytest.approx(shown["cost_usd"])
    (mine,) = nights.spotrunner("report", "--by", "owner")["rows"]
    assert (mine["key"], mine["cost_usd"]) == ("alice", pytest.approx(shown["cost_usd"]))
    caps = {cap["words"]: cap for cap in nights.spotrunner("budget")["caps"]}
    spent = caps["alice's budget of 20.00 USD"]
    assert (spent["accrued_usd"], spent["reserved_usd"]) == (pytest.approx(shown["cost_usd"]), 0)
    assert not shown["estimated"]


def its_owner_was_told_of_each_thing_once(nights: Nights) -> None:
    until(lambda: "NAME is done" in [it.title for it in told(nights, nights.hook)], ALERT_S)
    by_hook = told(nights, nights.hook)
    until(lambda: Counter(told(nights, nights.mail)) == Counter(by_hook), ALERT_S)
    assert set(Counter(by_hook).values()) == {1}
    counted = Counter(it.title for it in by_hook)
    assert counted.pop("NAME stops: its cap is reached") >= 1
    # Whether it is in time depends on how fast this machine trains.
    assert sum(counted.pop(each) for each in list(counted) if "will reach its cap" in each) <= 1
    assert counted == {
        "NAME is paused": 3,
        "NAME goes on": 3,
        f"NAME: 50 % of the budget of {CAP} USD is spent": 1,
        f"NAME: 80 % of the budget of {CAP} USD is spent": 1,
        "NAME is done": 1,
    }
    price, window, budget = (it.body for it in by_hook if it.title == "NAME is paused")
    assert price.startswith("the cheapest offer is us-east-1")
    assert window.startswith("its window is closed (22:00-07:00")
    assert budget.startswith(f"the budget of {CAP} USD has ")
    assert budget.endswith("\nspotrunner extend NAME --budget USD")
    assert all(it.body.splitlines()[-1].startswith("spotrunner ") for it in by_hook)


def told(nights: Nights, sink: HookSink | MailSink) -> list[Message]:
    """Of the job. It has a new name in every run."""
    id_ = nights.job.id
    return [
        Message(title=it.title.replace(id_, "NAME"), body=it.body.replace(id_, "NAME"))
        for it in sink.received
        if id_ in it.title
    ]


def nobody_was_told_the_address_of_a_hook(nights: Nights) -> None:
    said = [it.title + it.body for it in (*nights.hook.received, *nights.mail.received)]
    said += [
        nights.ground.spotrunner(each, nights.job.id, "-o", "json") for each in ("show", "explain")
    ]
    said.append((nights.ground.folder / "daemon.log").read_text())
    assert not [text for text in said if TOKEN in text]
