"""What ports.Receipts promises."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given

from spotrunner.adapters import codec
from spotrunner.adapters.memory import MemoryObjects
from spotrunner.adapters.receipts import ObjectReceipts
from spotrunner.core.model import Attempt
from spotrunner.core.states import AttemptState
from spotrunner.ports import Objects, Receipts, Unavailable
from tests.build import an_attempt, an_order, at
from tests.contracts.conftest import Bench, StandingClock
from tests.contracts.values import any_of

JOB = "digits-7f3a"
KEY = f"ledger/{JOB}/{JOB}.4.json"


@pytest.fixture
def objects(bench: Bench) -> Objects:
    return bench.objects


@pytest.fixture
def receipts(objects: Objects) -> Receipts:
    return ObjectReceipts(objects)


def paid(generation: int = 4, until_s: float = 1800, **changes: Any) -> Attempt:
    return an_attempt(generation, job=JOB, paid_until_s=until_s, **changes)


def lean(attempt: Attempt) -> Attempt:
    return dataclasses.replace(attempt, request=None, order=None, order_posted_n=0)


def test_at_first_there_is_none(receipts: Receipts) -> None:
    assert receipts.names() == frozenset()
    assert receipts.read(f"{JOB}.4") is None


def test_a_receipt_says_what_the_record_says_but_for_request_and_order(
    objects: Objects, receipts: Receipts
) -> None:
    attempt = paid()
    attempt = dataclasses.replace(attempt, order=an_order(attempt, n=3), order_posted_n=3)
    assert attempt.request is not None
    receipts.put(attempt)
    assert receipts.names() == {attempt.id}
    assert receipts.read(attempt.id) == lean(attempt)
    written = json.loads(objects.get(KEY).body)
    assert written["request"] is None
    assert written["sent_at"] is not None
    assert written["paid_until"] == "2026-11-01T12:30:00.000000Z"


def test_the_last_one_counts(receipts: Receipts) -> None:
    receipts.put(paid(until_s=1800))
    receipts.put(paid(until_s=3600))
    found = receipts.read(f"{JOB}.4")
    assert found is not None
    assert found.paid_until == at(3600)
    receipts.put(paid(state=AttemptState.ENDED, cost_usd_micros=70_000))
    found = receipts.read(f"{JOB}.4")
    assert found is not None
    assert found.cost_usd_micros == 70_000


def test_names_are_those_of_receipts_of_all_jobs(objects: Objects, receipts: Receipts) -> None:
    receipts.put(paid(1))
    receipts.put(paid(2))
    receipts.put(an_attempt(7, job="letters-2b.x"))
    for key in ("ledger/README", f"ledger/{JOB}/notes.json", f"ledger/other/{JOB}.9.json"):
        objects.put(key, b"{}")
    objects.put(f"jobs/{JOB}/ledger/{JOB}/{JOB}.9.json", b"{}")
    assert receipts.names() == {f"{JOB}.1", f"{JOB}.2", "letters-2b.x.7"}
    assert receipts.read("letters-2b.x.7") is not None


@pytest.mark.parametrize(
    "body",
    [
        b"not JSON",
        b"[]",
        b'{"id": "digits-7f3a.4"}',
        # somebody else's, put there by hand
        codec.to_json(lean(paid(5))),
        codec.to_json(dataclasses.replace(lean(paid(4)), job_id="letters")),
    ],
)
def test_what_cannot_be_read_as_a_receipt_is_none(
    objects: Objects, receipts: Receipts, body: bytes
) -> None:
    objects.put(KEY, body)
    receipts.put(paid(6))
    assert receipts.names() == {f"{JOB}.4", f"{JOB}.6"}
    assert receipts.read(f"{JOB}.4") is None
    assert receipts.read(f"{JOB}.6") is not None
    receipts.put(paid(4))
    assert receipts.read(f"{JOB}.4") == lean(paid(4))


def test_a_receipt_of_a_newer_daemon_is_read(objects: Objects, receipts: Receipts) -> None:
    objects.put(KEY, codec.to_json(lean(paid()))[:-1] + b',"mood":"calm"}')
    assert receipts.read(f"{JOB}.4") == lean(paid())


def test_a_lost_answer_is_no_success(bench: Bench, receipts: Receipts) -> None:
    bench.lose_answer(False)
    with pytest.raises(Unavailable):
        receipts.put(paid())
    receipts.put(paid(until_s=3600))
    found = receipts.read(f"{JOB}.4")
    assert found is not None
    assert found.paid_until == at(3600)


@pytest.mark.parametrize("operation", ["get", "list"])
def test_s3_that_is_away_is_not_an_empty_ledger(operation: str) -> None:
    objects = MemoryObjects(StandingClock())
    receipts = ObjectReceipts(objects)
    receipts.put(paid())
    objects.fail_next(operation, Unavailable("no answer"), prefix="ledger/")
    with pytest.raises(Unavailable):
        receipts.read(f"{JOB}.4") if operation == "get" else receipts.names()


@given(any_of(Attempt, id=f"{JOB}.4", job_id=JOB))
def test_every_attempt_comes_back(attempt: Attempt) -> None:
    receipts = ObjectReceipts(MemoryObjects(StandingClock()))
    receipts.put(attempt)
    assert receipts.read(attempt.id) == lean(attempt)
