"""What ports.Mailbox promises."""

from __future__ import annotations

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from spotrunner.adapters import codec
from spotrunner.adapters.mail import Brake, ObjectMailbox
from spotrunner.adapters.memory import MemoryObjects
from spotrunner.app.letters import Letters
from spotrunner.core.model import Order, Phase, Report, Verb
from spotrunner.ports import Mailbox, Objects, StaleEpoch, Unavailable
from tests.contracts.conftest import START, Bench, StandingClock

BOX = "digits-7f3a.4"


@pytest.fixture
def objects(bench: Bench) -> Objects:
    return bench.objects


@pytest.fixture
def daemon(objects: Objects) -> Mailbox:
    return ObjectMailbox(objects)


@pytest.fixture
def agent(objects: Objects) -> Mailbox:
    return ObjectMailbox(objects)


def an_order(n: int = 1, epoch: int = 1, **changes: Any) -> Order:
    order = Order(
        box=BOX,
        epoch=epoch,
        n=n,
        attempt=BOX,
        generation=4,
        verb=Verb.RUN,
        paid_until=START,
    )
    return dataclasses.replace(order, **changes)


def a_report(step: int | None = None, box: str = BOX, rank: int = 0) -> Report:
    return Report(attempt=box, box=box, at=START, phase=Phase.TRAIN, step=step, rank=rank)


# -- orders ------------------------------------------------------------------------------------


def test_the_highest_epoch_of_all_orders(daemon: Mailbox) -> None:
    assert daemon.highest_epoch() == 0
    daemon.post_order(an_order(epoch=3))
    daemon.post_order(an_order(epoch=2, box="digits-7f3a.5"))
    assert daemon.highest_epoch() == 3


def test_an_order_arrives_once(daemon: Mailbox, agent: Mailbox) -> None:
    assert agent.order(BOX, None) is None
    daemon.post_order(an_order(1))
    first = agent.order(BOX, None)
    assert first == an_order(1)
    assert agent.order(BOX, first) is None
    daemon.post_order(an_order(2, why="paid on"))
    assert agent.order(BOX, first) == an_order(2, why="paid on")


def test_an_agent_that_forgot_gets_the_order_again(daemon: Mailbox, agent: Mailbox) -> None:
    daemon.post_order(an_order(3))
    assert agent.order(BOX, None) == an_order(3)
    assert agent.order(BOX, None) == an_order(3)
    assert agent.order("digits-7f3a.5", None) is None


def test_an_order_of_a_lower_number_stays_unseen(daemon: Mailbox, agent: Mailbox) -> None:
    daemon.post_order(an_order(1, epoch=2))
    assert agent.order(BOX, an_order(9, epoch=1)) == an_order(1, epoch=2)
    assert agent.order(BOX, an_order(1, epoch=2)) is None
    assert agent.order(BOX, an_order(0, epoch=3)) is None


def test_an_order_never_replaces_a_later_one(daemon: Mailbox, agent: Mailbox) -> None:
    daemon.post_order(an_order(5))
    daemon.post_order(an_order(4, why="late"))
    assert agent.order(BOX, None) == an_order(5)
    daemon.post_order(an_order(1, epoch=2))
    assert agent.order(BOX, None) == an_order(1, epoch=2)


def test_a_deposed_daemon_is_told(daemon: Mailbox, agent: Mailbox) -> None:
    daemon.post_order(an_order(1, epoch=2))
    with pytest.raises(StaleEpoch):
        daemon.post_order(an_order(9, epoch=1))
    assert agent.order(BOX, None) == an_order(1, epoch=2)


@pytest.mark.parametrize("retried", [False, True])
def test_an_order_whose_answer_was_lost_is_posted_again(
    bench: Bench, daemon: Mailbox, agent: Mailbox, retried: bool
) -> None:
    bench.lose_answer(retried)
    if retried:
        daemon.post_order(an_order(1))
    else:
        with pytest.raises(Unavailable):
            daemon.post_order(an_order(1))
        daemon.post_order(an_order(1))
    assert agent.order(BOX, None) == an_order(1)
    daemon.post_order(an_order(2))
    assert agent.order(BOX, None) == an_order(2)


def test_an_order_that_cannot_be_read_is_none(
    objects: Objects, daemon: Mailbox, agent: Mailbox
) -> None:
    objects.put(f"mail/orders/{BOX}.json", b'{"verb": "dance"}')
    assert agent.order(BOX, None) is None
    daemon.post_order(an_order(1))
    assert agent.order(BOX, None) == an_order(1)


def test_an_order_of_a_newer_daemon_is_read(objects: Objects, agent: Mailbox) -> None:
    objects.put(f"mail/orders/{BOX}.json", codec.to_json(an_order(1))[:-1] + b',"mood":"calm"}')
    assert agent.order(BOX, None) == an_order(1)


# -- reports -----------------------------------------------------------------------------------


def test_the_latest_report_counts(daemon: Mailbox, agent: Mailbox) -> None:
    assert daemon.reports() == {}
    agent.post_report(a_report(1))
    daemon.boxes()
    assert daemon.reports() == {BOX: a_report(1)}
    agent.post_report(a_report(2))
    assert daemon.reports() == {BOX: a_report(1)}
    daemon.boxes()
    assert daemon.reports() == {BOX: a_report(2)}


def test_only_rank_0_speaks_for_an_attempt(daemon: Mailbox, agent: Mailbox) -> None:
    agent.post_report(a_report(7, rank=1))
    assert daemon.boxes() == {BOX}
    assert daemon.reports() == {}
    agent.post_report(a_report(8))
    daemon.boxes()
    assert daemon.reports() == {BOX: a_report(8)}


def test_boxes_are_those_with_an_order_or_a_report(
    objects: Objects, daemon: Mailbox, agent: Mailbox
) -> None:
    assert daemon.boxes() == frozenset()
    daemon.post_order(an_order(1, box="a.1"))
    agent.post_report(a_report(box="b.1"))
    agent.post_report(a_report(box="b.2"))
    objects.put("mail/README", b"")
    objects.put("jobs/c/mail/orders/c.1.json", codec.to_json(an_order(1, box="c.1")))
    assert daemon.boxes() == {"a.1", "b.1", "b.2"}


def test_a_report_that_cannot_be_read_hides_no_other(
    objects: Objects, daemon: Mailbox, agent: Mailbox
) -> None:
    agent.post_report(a_report(1, box="a.1"))
    objects.put("mail/reports/b.1/0.json", b"not JSON")
    assert daemon.boxes() == {"a.1", "b.1"}
    assert daemon.reports() == {"a.1": a_report(1, box="a.1")}
    agent.post_report(a_report(2, box="b.1"))
    daemon.boxes()
    assert set(daemon.reports()) == {"a.1", "b.1"}


def test_only_what_changed_is_read() -> None:
    objects = MemoryObjects(StandingClock())
    daemon, agent = ObjectMailbox(objects), ObjectMailbox(objects)
    agent.post_report(a_report(1))
    daemon.boxes()
    objects.fail_next("get", Unavailable("no answer"), prefix="mail/reports/")
    daemon.boxes()
    agent.post_report(a_report(2))
    with pytest.raises(Unavailable):
        daemon.boxes()
    assert daemon.reports() == {BOX: a_report(1)}
    daemon.boxes()
    assert daemon.reports() == {BOX: a_report(2)}


# -- the brake ---------------------------------------------------------------------------------

PULLED = Brake(at=START, by="alice@laptop", why="spotrunner panic")


def test_a_brake_holds_until_it_is_released(objects: Objects, daemon: Mailbox) -> None:
    daemon.boxes()
    assert daemon.brake() is None
    Letters(objects=objects).brake(PULLED)
    assert daemon.brake() is None, "as of the last listing"
    assert daemon.boxes() == frozenset()
    assert daemon.brake() == "spotrunner panic, by alice@laptop at 2026-11-02 09:00 UTC"
    daemon.release_brake()
    assert daemon.brake() is None
    assert list(objects.list("mail/")) == []
    daemon.boxes()
    assert daemon.brake() is None
    daemon.release_brake()


def test_a_brake_that_somebody_else_released_is_none(objects: Objects, daemon: Mailbox) -> None:
    Letters(objects=objects).brake(PULLED)
    daemon.boxes()
    ObjectMailbox(objects).release_brake()
    daemon.boxes()
    assert daemon.brake() is None


def test_a_brake_that_is_pulled_again_has_the_new_words(objects: Objects, daemon: Mailbox) -> None:
    Letters(objects=objects).brake(PULLED)
    daemon.boxes()
    Letters(objects=objects).brake(dataclasses.replace(PULLED, by="bob@desk"))
    daemon.boxes()
    assert "bob@desk" in (daemon.brake() or "")


def test_a_brake_that_cannot_be_read_holds_all_the_same(objects: Objects, daemon: Mailbox) -> None:
    objects.put("mail/brake.json", b"stop!")
    daemon.boxes()
    assert daemon.brake() == "mail/brake.json lies in the bucket and cannot be read"
    daemon.boxes()
    assert daemon.brake() is not None


def test_a_brake_is_read_once_and_holds_meanwhile() -> None:
    objects = MemoryObjects(StandingClock())
    daemon = ObjectMailbox(objects)
    Letters(objects=objects).brake(PULLED)
    objects.fail_next("get", Unavailable("no answer"), prefix="mail/brake")
    with pytest.raises(Unavailable):
        daemon.boxes()
    assert daemon.brake() is not None
    daemon.boxes()
    assert "alice" in (daemon.brake() or "")
    objects.fail_next("get", Unavailable("no answer"), prefix="mail/brake")
    daemon.boxes()
    assert "alice" in (daemon.brake() or "")


def test_a_listing_that_fails_lets_no_brake_go() -> None:
    objects = MemoryObjects(StandingClock())
    daemon = ObjectMailbox(objects)
    Letters(objects=objects).brake(PULLED)
    daemon.boxes()
    objects.fail_next("list", Unavailable("no answer"), prefix="mail/")
    with pytest.raises(Unavailable):
        daemon.boxes()
    assert daemon.brake() is not None


# -- archive -----------------------------------------------------------------------------------


def test_the_letters_of_an_ended_box_go_to_its_job(
    objects: Objects, daemon: Mailbox, agent: Mailbox
) -> None:
    daemon.post_order(an_order(1))
    agent.post_report(a_report(1))
    agent.post_report(a_report(1, rank=1))
    agent.post_report(a_report(1, box="digits-7f3a.40"))
    daemon.archive(BOX, "digits-7f3a")
    assert daemon.boxes() == {"digits-7f3a.40"}
    assert set(daemon.reports()) == {"digits-7f3a.40"}
    assert [found.key for found in objects.list("jobs/")] == [
        f"jobs/digits-7f3a/mail/orders/{BOX}.json",
        f"jobs/digits-7f3a/mail/reports/{BOX}/0.json",
        f"jobs/digits-7f3a/mail/reports/{BOX}/1.json",
    ]
    assert agent.order(BOX, None) is None


def test_an_archive_again_takes_what_came_late(
    objects: Objects, daemon: Mailbox, agent: Mailbox
) -> None:
    daemon.archive(BOX, "digits-7f3a")
    agent.post_report(a_report(1))
    daemon.archive(BOX, "digits-7f3a")
    agent.post_report(a_report(2))
    daemon.archive(BOX, "digits-7f3a")
    daemon.archive(BOX, "digits-7f3a")
    assert daemon.boxes() == frozenset()
    kept = objects.get(f"jobs/digits-7f3a/mail/reports/{BOX}/0.json").body
    assert codec.from_json(Report, kept) == a_report(2)


def test_reports_are_asked_for_while_new_ones_are_read() -> None:
    """As the API's threads do beside the round."""
    daemon = ObjectMailbox(MemoryObjects(StandingClock()))
    for number in range(300):
        daemon.post_report(a_report(box=f"digits-7f3a.{number}"))
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as executor:
            round_ = executor.submit(daemon.boxes)
            while not round_.done():
                daemon.reports()
    finally:
        sys.setswitchinterval(interval_s)
    assert len(daemon.reports()) == len(round_.result()) == 300
