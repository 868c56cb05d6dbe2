"""Alerts over real connections: what arrives, what is said when nothing does, and what never is."""

from __future__ import annotations

import dataclasses
import io
import logging
import socket
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import apprise
import apprise.decorators
import pytest
import structlog

from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.notify.channels import Channels, channels
from spotrunner.adapters.notify.services import ServiceChannel
from spotrunner.adapters.notify.topics import TopicChannel
from spotrunner.app import logs
from spotrunner.core.alert import AlertKind
from spotrunner.ports import Misconfigured, Undeliverable
from tests.adapters.conftest import Lab
from tests.contracts.test_notifier import ALERT
from tests.sinks import TOKEN, HookSink, MailSink, TopicSink

REGION = "us-east-1"
TIMEOUT_S = 0.3


@pytest.fixture
def hook() -> Iterator[HookSink]:
    with HookSink() as sink:
        yield sink


@pytest.fixture
def everything_said() -> Iterator[io.StringIO]:
    """What all loggers of all libraries say down to DEBUG, as a handler of the root hears it."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    # As the programs have it: what it says of every request is nobody's business.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    yield said
    root.removeHandler(handler)
    root.setLevel(level)


def told(caught: pytest.ExceptionInfo[Undeliverable]) -> str:
    """All that a log, a debugger or a person could see of an exception."""
    error = caught.value
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# -- what arrives ------------------------------------------------------------------------------


def test_a_hook_gets_what_happened_and_the_rest(hook: HookSink) -> None:
    ServiceChannel(hook.url).send(ALERT)
    (message,) = hook.received
    assert message.title == ALERT.title
    assert message.body.splitlines() == [ALERT.why, ALERT.cost, ALERT.command]


def test_what_has_only_a_title_is_sent_as_its_text(hook: HookSink) -> None:
    bare = dataclasses.replace(ALERT, kind=AlertKind.TEST, why="", cost="", command="")
    ServiceChannel(hook.url).send(bare)
    (message,) = hook.received
    assert (message.title, message.body) == ("", ALERT.title)


def test_an_e_mail_keeps_its_lines_and_its_letters() -> None:
    alert = dataclasses.replace(ALERT, title="digits 完成 done", why="prix: 2 € <b>")
    with MailSink() as sink:
        ServiceChannel(sink.url).send(alert)
        (message,) = sink.received
    assert message.title == alert.title
    assert message.body.splitlines() == [alert.why, alert.cost, alert.command]


def test_a_trainers_log_arrives_short_and_in_its_lines(hook: HookSink) -> None:
    log = [f"Epoch {n}/50: loss: 0.{n:02}" for n in range(50)]
    alert = dataclasses.replace(ALERT, why="\n".join(["exit code 1", *log]))
    with MailSink() as sink:
        for url in (hook.url, sink.url):
            ServiceChannel(url).send(alert)
        messages = (*hook.received, *sink.received)
    for message in messages:
        told = ["exit code 1", "…", *log[-5:], alert.cost, alert.command]
        assert message.body.splitlines() == told


def test_what_is_too_long_for_a_service_goes_in_pieces(
    hook: HookSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = "apprise.plugins.custom_json.NotifyJSON"
    monkeypatch.setattr(f"{service}.body_maxlen", 160)
    monkeypatch.setattr(f"{service}.request_rate_per_sec", 0)
    why = " ".join(f"word{n}" for n in range(60))
    ServiceChannel(hook.url).send(dataclasses.replace(ALERT, why=why))
    assert len(hook.received) > 1
    assert all(len(message.body) <= 160 for message in hook.received)
    told = " ".join(message.body for message in hook.received)
    assert told.split() == f"{why} {ALERT.cost} {ALERT.command}".split()


def test_a_subject_of_sns_is_short_and_plain(lab: Lab) -> None:
    sink = TopicSink(lab.aws, lab.endpoint.url, REGION)
    alert = dataclasses.replace(ALERT, title="digits 完成\n" + "x" * 120)
    TopicChannel(lab.aws, sink.arn).send(alert)
    (message,) = sink.received
    assert message.title == "digits ?? " + "x" * 90
    assert message.body.splitlines()[0] == "digits 完成 " + "x" * 120
    sink.close()


def test_a_topic_is_asked_for_in_its_own_region(lab: Lab) -> None:
    sink = TopicSink(lab.aws, lab.endpoint.url, "eu-west-1")
    channels({}, {"ops": sink.arn}, lab.aws).send("ops", ALERT)
    assert len(sink.received) == 1
    sink.close()


# -- what is said when nothing does ------------------------------------------------------------


def test_an_address_that_nobody_knows_is_refused_without_being_shown() -> None:
    with pytest.raises(Misconfigured) as caught:
        ServiceChannel(f"jsn://127.0.0.1/{TOKEN}")
    assert str(caught.value) == "this is no address that Apprise knows"


def test_a_hook_that_fails_is_told_by_its_answer(
    hook: HookSink, everything_said: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    hook.status = 500
    with pytest.raises(Undeliverable, match=r"^ops: .*error=500$") as caught:
        channels({"ops": hook.url}, {}, Aws()).send("ops", ALERT)
    assert_secret_is_kept(told(caught), everything_said, capfd)


def test_an_address_cannot_ask_for_failures_to_be_hidden(hook: HookSink) -> None:
    hook.status = 500
    channel = ServiceChannel(f"{hook.url}?optional=yes&retry=5&wait=9")
    with pytest.raises(Undeliverable, match="error=500"):
        channel.send(ALERT)


def test_a_hook_that_is_not_there_is_told(
    everything_said: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"json://alice:{TOKEN}@127.0.0.1:{free_port()}/{TOKEN}?-key={TOKEN}"
    with pytest.raises(Undeliverable, match="the connection was refused") as caught:
        channels({"ops": url}, {}, Aws()).send("ops", ALERT)
    assert_secret_is_kept(told(caught), everything_said, capfd)


def test_a_hook_that_hangs_is_left_in_time(
    hook: HookSink, everything_said: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    hook.hold()
    channel = ServiceChannel(f"{hook.url}?rto=600", timeout_s=TIMEOUT_S)
    with pytest.raises(Undeliverable, match="no answer in time") as caught:
        Channels({"ops": channel}).send("ops", ALERT)
    assert_secret_is_kept(told(caught), everything_said, capfd)


@pytest.mark.parametrize("accepts", [True, False])
def test_a_mail_server_that_hangs_or_is_not_there_is_left_in_time(
    accepts: bool, everything_said: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if accepts else free_port()
        url = f"mailto://robot:{TOKEN}@127.0.0.1:{port}?smtp=127.0.0.1&mode=insecure"
        channel = ServiceChannel(f"{url}&from=a@b.org&to=c@d.org", timeout_s=TIMEOUT_S)
        why = "no answer in time" if accepts else "the connection was refused"
        with pytest.raises(Undeliverable, match=why) as caught:
            Channels({"ops": channel}).send("ops", ALERT)
    assert_secret_is_kept(told(caught), everything_said, capfd)


def test_a_topic_that_is_gone_is_told(lab: Lab) -> None:
    sink = TopicSink(lab.aws, lab.endpoint.url, REGION)
    sink.close()
    with pytest.raises(Undeliverable, match=r"^ops: .*NotFound"):
        channels({}, {"ops": sink.arn}, lab.aws).send("ops", ALERT)


def test_a_region_that_does_not_answer_is_told() -> None:
    nowhere = Aws(endpoint_url=f"http://127.0.0.1:{free_port()}")
    arn = f"arn:aws:sns:{REGION}:123456789012:alerts"
    with pytest.raises(Undeliverable, match=r"^ops: .*[Cc]ould not connect"):
        channels({}, {"ops": arn}, nowhere).send("ops", ALERT)


# -- what never is -----------------------------------------------------------------------------


def test_nothing_is_said_of_what_was_sent_well(
    hook: HookSink, everything_said: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    notifier = channels({"ops": hook.url}, {}, Aws())
    notifier.send("ops", ALERT)
    assert_secret_is_kept(f"{notifier!r} {vars(notifier)}", everything_said, capfd)


def test_a_service_that_tells_its_address_is_not_quoted(
    everything_said: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    @apprise.decorators.notify(on="blab", name="Blab")  # type: ignore[untyped-decorator, no-untyped-call]
    def send(*_: Any, meta: Mapping[str, Any], **__: Any) -> bool:
        logging.getLogger("apprise").warning("%s did not take it", meta["url"])
        logging.getLogger("apprise").debug("Socket Exception: timed out at %s", meta["url"])
        return False

    with pytest.raises(Undeliverable) as caught:
        Channels({"ops": ServiceChannel(f"blab://{TOKEN}")}).send("ops", ALERT)
    assert str(caught.value).startswith("ops: *** did not take it; no answer in time")
    assert_secret_is_kept(told(caught), everything_said, capfd)


def test_what_a_service_is_wrong_about_is_masked_in_the_programs_logs(hook: HookSink) -> None:
    # The body of its answer has the token; somebody logs such a text by hand.
    out = io.StringIO()
    logs.configure(out, as_json=True)
    logs.redacting([hook.url])
    structlog.get_logger().info(f"POST http://127.0.0.1:{hook.port}/{TOKEN}", url=hook.url)
    assert TOKEN not in out.getvalue()
    assert "***" in out.getvalue()


def assert_secret_is_kept(
    said: str, logged: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    captured = capfd.readouterr()
    for each in (said, logged.getvalue(), captured.out, captured.err):
        assert TOKEN not in each
        assert "json://" not in each
        assert "mailto://" not in each
