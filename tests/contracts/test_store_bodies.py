"""Values as a store keeps them: all of a job and of an attempt comes back, and what the version
before there was money to account for has written is still read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest

from spotrunner.adapters import codec
from spotrunner.core.diagnosis import Diagnosis
from spotrunner.core.milestones import Milestones
from spotrunner.core.model import (
    Attempt,
    DataMode,
    DataSource,
    EndReason,
    Job,
    JobSpec,
    LaunchRequest,
    Market,
    Notice,
    Order,
    PriceLimit,
    TakeOver,
    Verb,
)
from spotrunner.core.saving import Saving
from spotrunner.core.secret_ref import SecretForm, SecretRef
from spotrunner.core.states import AttemptState, JobState
from spotrunner.core.windows import Window
from spotrunner.ports import Changes, Store
from tests.contracts.values import POOL, a_job, a_spec, an_attempt, an_offer, at, led

SPEC = JobSpec(
    name="digits",
    run="python train.py",
    image="tensorflow/tensorflow:2.17.0-gpu",
    instance_types=("g4dn.xlarge", "g5.xlarge"),
    regions=("us-east-1", "eu-west-1"),
    setup="pip install -r requirements.txt",
    workdir_sha256="5f" * 32,
    data=(
        DataSource(
            source="s3://sets/d/",
            target="d",
            mode=DataMode.MOUNT,
            bytes=5 * 10**9,
            region="eu-west-1",
        ),
    ),
    envs=(("SEED", "7"),),
    market=Market.ON_DEMAND,
    budget_usd_micros=12_000_000,
    retries=2,
    handles_save_signal=False,
    disk_gib=200,
    amis=(("us-east-1", "ami-1"),),
    policy="deadline",
    deadline_at=at(9 * 3600),
    work_s=7200,
    speeds=(("g4dn.xlarge", 1.0), ("g5.xlarge", 1.8)),
    max_price_usd_micros=600_000,
    owner="alice",
    sweep="night",
    sweep_budget_usd_micros=50_000_000,
    home_region="us-east-1",
    lump_bytes=3_000_000,
    window=Window(start_min=1320, stop_min=420, tz="Asia/Shanghai", days=(0, 1, 2, 3, 4)),
    price_limit=PriceLimit(
        after_s=600,
        pause_usd_micros=600_000,
        resume_usd_micros=570_000,
        pause_share=0.4,
        resume_share=0.38,
    ),
    unattended_s=4 * 3600,
    tz="Asia/Shanghai",
    alerts=("me", "ops"),
    secrets=(SecretRef(name="TOKEN", source="ssm:/team/token", form=SecretForm.FILE),),
    saving=Saving(auto=True, every_s=600, keep_last=5, keep_every_steps=1000),
    stall_after_s=1800,
    as_root=True,
)

ATTEMPT = Attempt(
    id="digits-aaaa.2",
    job_id="digits-aaaa",
    generation=2,
    state=AttemptState.TERMINATING,
    offer=an_offer(),
    intent_at=at(0),
    paid_until=at(1800),
    first_paid_s=1800,
    step_before=10,
    step_after=20,
    replaces="digits-aaaa.1",
    request=LaunchRequest(
        client_token="5170c4fe.digits-aaaa.2",
        pool=POOL,
        market=Market.SPOT,
        image_id="ami-1",
        root_device="/dev/sda1",
        subnet_id="subnet-1",
        user_data="#!/bin/bash",
        disk_gib=100,
        tags=(("spotrunner:job", "digits-aaaa"),),
    ),
    sent_at=at(1),
    instance_id="i-1",
    launched_at=at(2),
    first_step_at=at(200),
    steps_per_s=1.5,
    total_steps=100,
    notice=Notice(at=at(900), seen_at=at(780)),
    safe_at=at(800),
    hour_prices_usd_micros=(200_000, 210_000),
    running_price_usd_micros=205_000,
    extras_usd_micros_hour=16_000,
    transfer_usd_micros=100_000,
    moved_bytes=7_000_000,
    traffic_usd_micros=4_000,
    traffic_reserved_usd_micros=9_000,
    order=Order(
        box="digits-aaaa.2",
        epoch=3,
        n=4,
        attempt="digits-aaaa.2",
        generation=2,
        verb=Verb.STOP,
        paid_until=at(1800),
        why="the price",
        take_over=TakeOver(attempt="digits-aaaa.1", by=at(60)),
        save_every_s=380,
    ),
    order_posted_n=4,
    ending=EndReason.PAUSED,
    ending_at=at(850),
    ended_at=at(900),
    end_reason=EndReason.INTERRUPTED,
    end_detail="BidEvictedEvent",
    cost_usd_micros=116_000,
    free=True,
    estimated=True,
    milestones=Milestones(
        agent_at=at(40),
        image_at=at(60),
        data_at=at(90),
        head_at=at(95),
        restored_at=at(100),
        baked=True,
    ),
    image_digest="sha256:" + "ab" * 32,
    diagnosis=Diagnosis(
        what="the GPU's memory was not enough",
        why="the batch is too large",
        change="halve it",
    ),
    stalled_at=at(700),
    restarts=1,
    handles_save_signal=False,
)


@pytest.mark.parametrize("value", [SPEC, ATTEMPT], ids=["spec", "attempt"])
def test_every_field_is_in_what_is_tried_here(value: Any) -> None:
    fields = dataclasses.fields(value)
    assert [it.name for it in fields if getattr(value, it.name) == it.default] == []


def test_a_full_job_and_a_full_attempt_come_back(store: Store) -> None:
    job = a_job(spec=SPEC, state=JobState.PAUSED, waits_since=at(5))
    epoch = led(store, a_job())
    store.write(epoch, Changes(jobs=(job,), attempts=(ATTEMPT,)))
    # By repr, since an enum with a text mixin equals its bare value.
    assert repr(store.jobs()) == repr((job,))
    assert repr(store.attempts([job.id])) == repr((ATTEMPT,))
    for value in (SPEC, ATTEMPT):
        assert repr(codec.from_json(type(value), codec.to_json(value))) == repr(value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"start_min": 1440}, "no minute of a day: 1440"),
        ({"days": []}, "never opens"),
        ({"days": [7]}, "no days of a week"),
        ({"tz": None}, "expected a text"),
    ],
)
def test_a_window_that_is_none_is_told(change: dict[str, Any], says: str) -> None:
    plain = json.loads(codec.to_json(SPEC))
    plain["window"] |= change
    with pytest.raises(codec.Malformed, match=says):
        codec.from_plain(JobSpec, plain)


# -- the version before ------------------------------------------------------------------------

OLD_JOB = """{"id":"digits-aaaa","spec":{"name":"digits","run":"python train.py",
"image":"tensorflow/tensorflow:2.17.0-gpu","instance_types":["g4dn.xlarge"],
"regions":["us-east-1"],"setup":null,"workdir_sha256":null,"data":[],"envs":[],"market":"spot",
"budget_usd_micros":null,"retries":0,"handles_save_signal":true,"disk_gib":100,"amis":[],
"policy":"deadline","deadline_at":"2026-11-01T13:00:00.000000Z","work_s":null,
"speeds":[["g4dn.xlarge",1.0]],"max_price_usd_micros":null},"state":"queued",
"submitted_at":"2026-11-01T12:00:00.000000Z","pause":null,"reason":"","ended_at":null,
"checkpoints_asked":0,"watched_until":null}"""

OLD_ATTEMPT = """{"id":"digits-aaaa.1","job_id":"digits-aaaa","generation":1,"state":"ended",
"offer":{"pool":{"region":"us-east-1","zone":"us-east-1a","instance_type":"g4dn.xlarge"},
"market":"spot","price_usd_micros_hour":200000,"dearest_usd_micros_hour":526000},
"intent_at":"2026-11-01T12:00:00.000000Z","paid_until":"2026-11-01T12:30:00.000000Z",
"first_paid_s":1800,"step_before":0,"step_after":null,"replaces":null,"request":null,
"sent_at":null,"instance_id":null,"launched_at":"2026-11-01T12:00:00.000000Z",
"first_step_at":null,"steps_per_s":null,"total_steps":null,"notice":null,"safe_at":null,
"hour_prices_usd_micros":[200000,200000],"order":null,"order_posted_n":0,"ending":null,
"ending_at":null,"ended_at":"2026-11-01T14:00:00.000000Z","end_reason":"done","end_detail":"",
"cost_usd_micros":400000}"""


def test_what_the_version_before_wrote_is_read() -> None:
    spec = a_spec(policy="deadline", deadline_at=at(3600), speeds=(("g4dn.xlarge", 1.0),))
    assert codec.from_json(Job, OLD_JOB.encode()) == a_job(spec=spec)
    attempt = codec.from_json(Attempt, OLD_ATTEMPT.encode())
    assert attempt == an_attempt(
        state=AttemptState.ENDED,
        launched_at=at(0),
        ended_at=at(7200),
        hour_prices_usd_micros=(200_000, 200_000),
        end_reason=EndReason.DONE,
        cost_usd_micros=400_000,
    )
    assert attempt.offer.pool == POOL


def test_what_the_version_before_ended_is_booked(store: Store) -> None:
    """As its receipt in the bucket tells of it, after the store was lost."""
    epoch = led(store, a_job())
    store.write(epoch, Changes(attempts=(codec.from_json(Attempt, OLD_ATTEMPT.encode()),)))
    (line,) = store.booked()
    assert (line.entry.day, line.entry.cost_usd_micros) == (dt.date(2026, 11, 1), 400_000)
    assert (line.owner, line.sweep) == ("", "")
