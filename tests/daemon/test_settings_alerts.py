"""The settings' section `alerts`: what it means, and what is said of it without its secrets."""

from __future__ import annotations

import dataclasses
import io
import logging
import sys
import traceback
from pathlib import Path

import pytest

from spotrunner.adapters.notify.services import ServiceChannel
from spotrunner.core.alert import Alert, AlertKind
from spotrunner.core.located import BadFile
from spotrunner.daemon.settings import parse_settings
from spotrunner.daemon.settings_alerts import Alerts, Channel
from tests.build import T0

LEAST = """\
home: {bucket: my-spotrunner, region: us-east-1}
regions: [us-east-1]
state_dir: state
"""
SECRET = "s3cret0f5ome1"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:spot_alerts-1"

FULL = f"""\
alerts:
  channels:
    me: {{url_file: secrets/me.url}}
    alice-phone: {{url: "json://127.0.0.1/{SECRET}"}}
    ops: {{sns: "{TOPIC}"}}
  default: [me, ops]
  owners: {{alice: [alice-phone]}}
  at: [50, 90, 100]
  summary: "21:30"
  without: [resumed, summary]
"""

BAD = f"""\
alerts:
  channels:
    Me: {{url: "json://127.0.0.1/{SECRET}"}}
    none: {{}}
    both: {{url: "json://127.0.0.1/{SECRET}", sns: "{TOPIC}"}}
    bare: slack://{SECRET}
    unknown: {{url: "slak://{SECRET}"}}
    file: {{url_file: none.url}}
    empty: {{url_file: empty.url}}
    two: {{url_file: two.url}}
    wrong: {{url_file: wrong.url}}
    fifo: {{sns: "{TOPIC}.fifo"}}
    short: {{sns: "arn:aws:sns:eu-west-1:1234:x"}}
    typo: {{ulr: "json://127.0.0.1/{SECRET}"}}
    "json://127.0.0.1/{SECRET}": {{sns: "{TOPIC}"}}
  default: slack://{SECRET}
  at: [50, 0, 101, half]
  summary: 8:60
  without: [resumd, 5]
  owner: {{}}
"""

BAD_WORDS = """\
daemon.yaml:6: alerts.channels.Me: expected a name of at most 40 of a-z 0-9 . _ -, found 'Me'
daemon.yaml:7: alerts.channels.none: expected one of url, url_file and sns
daemon.yaml:8: alerts.channels.both: expected one of url, url_file and sns
daemon.yaml:9: alerts.channels.bare: expected `key: value` lines, found 'slack://***
daemon.yaml:10: alerts.channels.unknown.url: this is no address that Apprise knows \
(it is not shown: it is a secret); one begins for example with slack, dingtalk, feishu, wecombot, \
mailto or json, and ://
daemon.yaml:11: alerts.channels.file.url_file: FOLDER/none.url cannot be read: \
No such file or directory
daemon.yaml:12: alerts.channels.empty.url_file: expected one address, alone on one line, \
in FOLDER/empty.url
daemon.yaml:13: alerts.channels.two.url_file: expected one address, alone on one line, \
in FOLDER/two.url
daemon.yaml:14: alerts.channels.wrong.url_file: this is no address that Apprise knows \
(it is not shown: it is a secret); one begins for example with slack, dingtalk, feishu, wecombot, \
mailto or json, and ://
daemon.yaml:15: alerts.channels.fifo.sns: alerts need a standard topic: \
a FIFO topic has no e-mail, SMS or HTTP
daemon.yaml:16: alerts.channels.short.sns: expected arn:aws:sns:REGION:ACCOUNT:TOPIC, \
found 'arn:aws:sns:eu-west-1:1234:x'
daemon.yaml:17: alerts.channels.typo.ulr: unknown key
daemon.yaml:18: alerts.channels.json://***: expected a name of at most 40 of a-z 0-9 . _ -, \
found 'json://***
daemon.yaml:19: alerts.default: expected a list, found 'slack://***
daemon.yaml:20: alerts.at.1: expected at least 1, found 0
daemon.yaml:20: alerts.at.2: expected at most 100, found 101
daemon.yaml:20: alerts.at.3: expected a whole number, found 'half'
daemon.yaml:21: alerts.summary: "8:60" is no time of day: \
write hours and minutes, from "00:00" to "23:59"
daemon.yaml:22: alerts.without.0: no kind of alert is called resumd; nearest: resumed
daemon.yaml:22: alerts.without.1: no kind of alert is called 5; there are: cap, forecast, \
deadline, interrupted, paused, resumed, failed, succeeded, orphan, capacity, prices, summary, test
daemon.yaml:23: alerts.owner: unknown key; did you mean owners?"""


def parse(section: str, folder: Path) -> Alerts:
    return parse_settings(LEAST + section, "daemon.yaml", folder).alerts


def refused(section: str, folder: Path) -> str:
    """What is said of it; neither that nor the traceback has the secret."""
    with pytest.raises(BadFile) as caught:
        parse(section, folder)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def an_alert(*channels: str, owner: str = "", kind: AlertKind = AlertKind.CAP) -> Alert:
    return Alert(
        key="cap/digits-7f3a/50",
        at=T0,
        kind=kind,
        job_id="digits-7f3a",
        owner=owner,
        channels=channels,
        title="digits-7f3a has spent 50 % of its cap",
        why="",
        cost="",
        command="",
    )


@pytest.fixture
def full(tmp_path: Path) -> Alerts:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "me.url").write_text(f"slack://{SECRET}/A1BRTD4JD/TIiajkd/#general\n")
    return parse(FULL, tmp_path)


# -- what it means -----------------------------------------------------------------------------


def test_without_the_section_nobody_is_told(tmp_path: Path) -> None:
    alerts = parse("", tmp_path)
    assert alerts == Alerts()
    assert (alerts.percents, alerts.summary_min) == ((50, 80, 100), 480)
    assert alerts.channels_of(an_alert("me", owner="alice")) == ()


def test_every_key_is_taken(full: Alerts) -> None:
    assert full == Alerts(
        channels={
            "me": Channel(url=f"slack://{SECRET}/A1BRTD4JD/TIiajkd/#general"),
            "alice-phone": Channel(url=f"json://127.0.0.1/{SECRET}"),
            "ops": Channel(topic=TOPIC),
        },
        default=("me", "ops"),
        owners={"alice": ("alice-phone",)},
        percents=(50, 90, 100),
        summary_min=21 * 60 + 30,
        without=frozenset({AlertKind.RESUMED, AlertKind.SUMMARY}),
    )
    assert full.urls.keys() == {"me", "alice-phone"}
    assert full.topics == {"ops": TOPIC}
    assert SECRET not in repr(full)


@pytest.mark.parametrize(
    ("alert", "channels"),
    [
        (an_alert(), ("me", "ops")),
        (an_alert(owner="bob"), ("me", "ops")),
        (an_alert(owner="alice"), ("alice-phone",)),
        (an_alert("ops", owner="alice"), ("ops",)),
        (an_alert("ops", "me", "ops"), ("ops", "me")),
        (an_alert("gone", "ops"), ("ops",)),
        (an_alert("gone", owner="alice"), ("alice-phone",)),
        (an_alert("ops", kind=AlertKind.RESUMED), ()),
    ],
)
def test_an_alert_goes_to_its_own_channels_its_owners_or_the_default(
    full: Alerts, alert: Alert, channels: tuple[str, ...]
) -> None:
    assert full.channels_of(alert) == channels


def test_an_owner_may_want_none(full: Alerts) -> None:
    quiet = dataclasses.replace(full, owners={"alice": ()})
    assert quiet.channels_of(an_alert(owner="alice")) == ()


@pytest.mark.parametrize("off", ["off", '"off"', "no"])
def test_no_summary(tmp_path: Path, off: str) -> None:
    assert parse(f"alerts: {{summary: {off}}}", tmp_path).summary_min is None


@pytest.mark.parametrize(
    "url",
    [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
        "slack://xoxb-1234-1234-4ddbc191d40ee098cbaae6f3523ada2d/#general",
        "dingtalk://4bcd8976aef04bcd8976aef0",
        "dingtalk://SECabcdef0123@4bcd8976aef0/13800000000",
        "feishu://0123456789abcdef0123456789abcdef",
        "lark://0123456789abcdef0123456789abcdef",
        "wecombot://693a7aoc-4bc4-97a0-0ec2-aa5aaa693a7a",
        "mailtos://robot:password@example.org?smtp=mail.example.org&to=alice@example.org",
        "tgram://123456789:AAGcAbCdEfGhIjKlMnOpQrStUvWxYz01234/98765",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
        "ntfys://spot-alerts",
        "jsons://hooks.example.org/path",
    ],
)
def test_addresses_of_services_are_known(tmp_path: Path, url: str) -> None:
    section = f"alerts: {{channels: {{me: {{url: '{url}'}}}}, default: [me]}}"
    assert parse(section, tmp_path).urls == {"me": url}
    ServiceChannel(url)


# -- what is said of it ------------------------------------------------------------------------


def test_all_that_is_wrong_is_said_at_once_and_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # As in a process that has sent nothing yet, with a log.
    monkeypatch.setattr(logging.getLogger("apprise"), "propagate", True)
    said = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(said)])
    for name, text in (
        ("empty.url", " \n"),
        ("two.url", f"json://h/{SECRET}\njson://h/{SECRET}\n"),
        ("wrong.url", SECRET),
    ):
        (tmp_path / name).write_text(text)
    words = refused(BAD, tmp_path)
    assert words.replace(str(tmp_path), "FOLDER") == BAD_WORDS
    assert (said.getvalue(), *capfd.readouterr()) == ("", "", "")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("default: [mee]", "6: alerts.default.0: no channel is called mee; nearest: me"),
        ("default: [xyz]", "6: alerts.default.0: no channel is called xyz; there are: me"),
        (
            "default: [me]\n  owners: {al: [me, mee]}",
            "7: alerts.owners.al.1: no channel is called mee; nearest: me",
        ),
        (
            f"default: [json://{SECRET}]",
            "6: alerts.default.0: no channel is called json://***",
        ),
        (
            "at: [100, 50]\n  default: []",
            "6: alerts.at: expected each once, in ascending order, found [100, 50]",
        ),
        (
            "at: [50, 50]\n  default: []",
            "6: alerts.at: expected each once, in ascending order, found [50, 50]",
        ),
        (
            "summary: 21:30\n  default: []",
            "6: alerts.summary: expected text, found 1290; put it in quotes",
        ),
        (
            "summary: '24:00'\n  default: []",
            '6: alerts.summary: "24:00" is a time to stop at: write "00:00"',
        ),
        (
            "owners: {}",
            "4: alerts: say where the alerts go whose owner has no channels: default: [me]",
        ),
    ],
)
def test_the_words_for_one_thing(tmp_path: Path, section: str, words: str) -> None:
    channels = f"alerts:\n  channels: {{me: {{url: 'json://h.org/{SECRET}'}}}}\n  "
    assert refused(channels + section, tmp_path) == f"daemon.yaml:{words}"


def test_without_channels_there_are_no_names(tmp_path: Path) -> None:
    words = refused("alerts: {default: [me]}", tmp_path)
    assert words == "daemon.yaml:4: alerts.default.0: no channel is called me"


def test_an_address_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # what an import meets that is not there
    said = refused(f"alerts: {{channels: {{me: {{url: 'json://127.0.0.1/{SECRET}'}}}}}}", tmp_path)
    assert "pip install 'spotrunner[alerts]'" in said
    assert SECRET not in said
    topic = parse(f"alerts: {{channels: {{ops: {{sns: '{TOPIC}'}}}}, default: [ops]}}", tmp_path)
    assert topic.topics == {"ops": TOPIC}
