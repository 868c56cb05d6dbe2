"""What ports.Notifier promises: in memory, over a web hook, over e-mail, over SNS."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.notify.channels import channels
from spotrunner.adapters.notify.memory import MemoryNotifier
from spotrunner.core.alert import Alert, AlertKind, text
from spotrunner.ports import Notifier, Undeliverable
from tests.contracts.conftest import START
from tests.contracts.s3 import REGION, MotoServer
from tests.sinks import HookSink, MailSink, TopicSink

ALERT = Alert(
    key="cap/digits-7f3a/80",
    at=START,
    kind=AlertKind.CAP,
    job_id="digits-7f3a",
    owner="alice",
    channels=(),
    title="digits-7f3a has spent 80 % of its cap",
    why="it was moved to g5.xlarge, which costs 0.41 USD/h <and> & more",
    cost="2.40 of 3.00 USD",
    command="spotrunner extend digits-7f3a --budget 5",
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One notifier with the channel `me`. `received` gives what came, as (title, whole text)."""

    notifier: Notifier
    received: Callable[[], list[tuple[str, str]]]
    break_it: Callable[[], None]
    mend_it: Callable[[], None]


@pytest.fixture(params=["memory", "hook", "mail", "topic"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # Seconds between two e-mails.
    monkeypatch.setattr("apprise.plugins.email.NotifyEmail.request_rate_per_sec", 0)
    kinds = {"memory": _memory, "hook": _hook, "mail": _mail, "topic": _topic}
    aws, moto = request.getfixturevalue("aws"), request.getfixturevalue("moto")
    with contextlib.contextmanager(kinds[request.param])(aws, moto) as bench:
        yield bench


def _memory(aws: Aws, moto: MotoServer) -> Iterator[Bench]:
    notifier = MemoryNotifier(["me"])

    def received() -> list[tuple[str, str]]:
        return [(alert.title, text(alert)) for _, alert in notifier.sent]

    yield Bench(
        notifier=notifier,
        received=received,
        break_it=lambda: notifier.down.add("me"),
        mend_it=lambda: notifier.down.remove("me"),
    )


def _hook(aws: Aws, moto: MotoServer) -> Iterator[Bench]:
    with HookSink() as sink:

        def answer(status: int) -> Callable[[], None]:
            return lambda: setattr(sink, "status", status)

        yield Bench(
            notifier=channels({"me": sink.url}, {}, aws),
            received=lambda: [(it.title, f"{it.title}\n{it.body}") for it in sink.received],
            break_it=answer(500),
            mend_it=answer(200),
        )


def _mail(aws: Aws, moto: MotoServer) -> Iterator[Bench]:
    with MailSink() as sink:

        def be_open(is_open: bool) -> Callable[[], None]:
            return lambda: setattr(sink, "is_open", is_open)

        yield Bench(
            notifier=channels({"me": sink.url}, {}, aws),
            received=lambda: [(it.title, f"{it.title}\n{it.body}") for it in sink.received],
            break_it=be_open(False),
            mend_it=be_open(True),
        )


def _topic(aws: Aws, moto: MotoServer) -> Iterator[Bench]:
    sink = TopicSink(aws, moto.url, REGION)
    yield Bench(
        notifier=channels({}, {"me": sink.arn}, aws),
        received=lambda: [(it.title, it.body) for it in sink.received],
        break_it=sink.close,
        mend_it=sink.open,
    )
    sink.close()


def test_what_is_sent_arrives_once_with_all_its_lines(bench: Bench) -> None:
    assert bench.notifier.channels == {"me"}
    bench.notifier.send("me", ALERT)
    assert bench.received() == [(ALERT.title, text(ALERT))]


def test_a_channel_that_takes_nothing_says_so_and_takes_it_later(bench: Bench) -> None:
    bench.break_it()
    with pytest.raises(Undeliverable, match=r"^me: ."):
        bench.notifier.send("me", ALERT)
    assert bench.received() == []
    bench.mend_it()
    bench.notifier.send("me", ALERT)
    assert bench.received() == [(ALERT.title, text(ALERT))]


def test_a_name_that_no_channel_has_is_undeliverable(bench: Bench) -> None:
    with pytest.raises(Undeliverable, match=r"^mee: the settings have no such channel"):
        bench.notifier.send("mee", ALERT)
    assert bench.received() == []
