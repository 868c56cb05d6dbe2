"""The contract of ports.Outbox, over memory and SQLite, and how a store raises alerts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

import pytest

from spotrunner.adapters.store.sqlite import open_store
from spotrunner.core.alert import Alert
from spotrunner.ports import NEVER, Changes, Misconfigured, Outbox, StaleEpoch, Store
from tests.contracts.values import a_job, an_alert, an_attempt, at, led


class AlertStore(Store, Outbox, Protocol):
    """What the daemon takes for both."""


def tell(store: Store, *alerts: Alert, to: tuple[str, ...] = ("me",)) -> None:
    store.write(store.lead("test"), Changes(alerts=tuple((alert, to) for alert in alerts)))


def due(store: Outbox, seconds: float = 0) -> list[tuple[str, str, int]]:
    return [(it.alert.key, it.channel, it.tries) for it in store.due(at(seconds))]


# -- raising -----------------------------------------------------------------------------------


def test_a_new_alert_is_due_at_once_on_each_of_its_channels(store: AlertStore) -> None:
    alert = an_alert("a", at=at(10.5))
    tell(store, alert, to=("ops", "me", "ops"))
    assert due(store, 10) == []
    assert due(store, 10.5) == [("a", "me", 0), ("a", "ops", 0)]
    assert [it.alert for it in store.due(at(99))] == [alert, alert]


@pytest.mark.parametrize("sent", [True, False])
def test_an_alert_whose_key_is_known_changes_nothing(store: AlertStore, sent: bool) -> None:
    first = an_alert("a")
    tell(store, first)
    if sent:
        store.delivered("a", "me", at(1))
    tell(store, an_alert("a", title="again", at=at(2)), an_alert("b"), to=("me", "ops"))
    assert due(store, 99) == ([] if sent else [("a", "me", 0)]) + [("b", "me", 0), ("b", "ops", 0)]
    assert all(it.alert in (first, an_alert("b")) for it in store.due(at(99)))
    assert store.alert_keys(at(1)) == frozenset()


def test_of_two_alerts_with_one_key_the_first_is_raised(store: AlertStore) -> None:
    tell(store, an_alert("a", title="the first"), an_alert("a", title="the second"))
    assert [it.alert.title for it in store.due(at(0))] == ["the first"]


def test_an_alert_without_a_channel_is_only_remembered(store: AlertStore) -> None:
    tell(store, an_alert("a"), to=())
    assert due(store, 99) == []
    assert store.alert_keys(at(0)) == {"a"}
    tell(store, an_alert("a"))
    assert due(store, 99) == []


def test_keys_are_asked_for_since_a_time(store: AlertStore) -> None:
    tell(store, *(an_alert(f"{n:04}", at=at(n)) for n in range(1200)))
    assert store.alert_keys(at(0)) == {f"{n:04}" for n in range(1200)}
    assert store.alert_keys(at(1198.5)) == {"1199"}
    # More of them than a statement takes.
    tell(store, *(an_alert(f"{n:04}", at=at(n)) for n in range(1201)), to=("ops",))
    assert [it.alert.key for it in store.due(at(9999)) if it.channel == "ops"] == []
    assert store.alert_keys(at(1200)) == {"1200"}


def test_of_a_write_that_is_refused_no_alert_is_raised(store: AlertStore) -> None:
    epoch = led(store, a_job())
    raised = ((an_alert("a"), ("me",)),)
    with pytest.raises(Misconfigured):
        store.write(epoch, Changes(alerts=raised, attempts=(an_attempt("nobody"),)))
    with pytest.raises(StaleEpoch):
        store.write(epoch - 1, Changes(alerts=raised))
    assert due(store, 99) == []
    assert store.alert_keys(at(0)) == frozenset()


def test_an_alert_needs_no_job_and_may_say_anything(store: AlertStore) -> None:
    alert = an_alert("summary 2026-11-01", job_id=None, why="\0 \ud800 'x'; --", title="ж" * 1000)
    tell(store, alert)
    assert [it.alert for it in store.due(at(0))] == [alert]


# -- delivering --------------------------------------------------------------------------------


def test_what_was_delivered_is_never_due_again(store: AlertStore) -> None:
    tell(store, an_alert("a"), an_alert("b"), to=("me", "ops"))
    store.delivered("a", "me", at(1))
    left = [("a", "ops", 0), ("b", "me", 0), ("b", "ops", 0)]
    assert due(store, 99) == left
    # Whoever was late with the news of a try that failed.
    store.failed("a", "me", at(2), at(3), "a bad day")
    store.delivered("a", "me", at(4))
    assert due(store, 99) == left


def test_what_has_failed_is_due_again_when_it_was_said(store: AlertStore) -> None:
    tell(store, an_alert("a"), to=("me", "ops"))
    store.failed("a", "me", at(1), at(31), "a bad day")
    assert due(store, 30.9) == [("a", "ops", 0)]
    assert due(store, 31) == [("a", "me", 1), ("a", "ops", 0)]
    store.failed("a", "me", at(31), at(91), "\0 \ud800 'x'; --")
    assert due(store, 90) == [("a", "ops", 0)]
    assert due(store, 91) == [("a", "me", 2), ("a", "ops", 0)]
    store.delivered("a", "me", at(92))
    assert due(store, 999) == [("a", "ops", 0)]


def test_what_was_given_up_is_due_no_more(store: AlertStore) -> None:
    tell(store, an_alert("a"))
    store.failed("a", "me", at(1), NEVER, "no such channel")
    assert due(store, 10**9) == []


def test_the_oldest_alerts_come_first_and_fifty_at_most(store: AlertStore) -> None:
    alerts = [an_alert(f"{n:03}", at=at(100 - n)) for n in range(60)]
    tell(store, *alerts)
    wanted = [(f"{n:03}", "me", 0) for n in reversed(range(60))]
    assert due(store, 100) == wanted[:50]
    # An old alert stays old, also when its next try is later than that of others.
    store.failed("059", "me", at(100), at(100), "a bad day")
    assert due(store, 100)[0] == ("059", "me", 1)
    for key, channel, _ in wanted[:50]:
        store.delivered(key, channel, at(101))
    assert due(store, 101) == wanted[50:]


def test_news_of_what_was_never_raised_is_no_error(store: AlertStore) -> None:
    tell(store, an_alert("a"))
    store.delivered("b", "me", at(1))
    store.failed("a", "ops", at(1), at(2), "a bad day")
    assert due(store, 99) == [("a", "me", 0)]


def test_deliveries_are_noted_while_the_round_raises_more(store: AlertStore) -> None:
    epoch = led(store)
    over = threading.Event()

    def deliver() -> None:
        while not over.is_set() or store.due(at(999)):
            for it in store.due(at(999)):
                store.delivered(it.alert.key, it.channel, at(999))

    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        for n in range(40):
            store.write(epoch, Changes(alerts=((an_alert(str(n)), ("me", "ops")),)))
    finally:
        over.set()
        thread.join(timeout=60)
    assert not thread.is_alive()
    assert due(store, 999) == []
    assert len(store.alert_keys(at(0))) == 40


def test_the_outbox_outlives_the_process(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    tell(store, an_alert("a"), to=("me", "ops"))
    store.delivered("a", "me", at(1))
    store.failed("a", "ops", at(1), at(31), "a bad day")
    store.close()
    store = open_store(tmp_path / "store.sqlite")
    tell(store, an_alert("a"), to=("me", "ops"))
    assert due(store, 31) == [("a", "ops", 1)]
    store.close()
