"""A metadata service in trouble, over HTTP: no answer of it is taken for a notice, or for the lack
of one, and a whole agent lives through all of them."""

from __future__ import annotations

import datetime as dt
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from spotrunner.agent import words as w
from spotrunner.agent.imds import Imds
from spotrunner.agent.main import NoticeWatch
from spotrunner.core.model import Phase
from tests.agent.imds_server import INSTANCE_ACTION, ImdsServer, Script
from tests.agent.rented import SEED_STEP, Account
from tests.agent.told import T0, Told, a_head

pytestmark = pytest.mark.slow

AT = dt.datetime(2026, 11, 2, 8, 22, tzinfo=dt.timezone.utc)
NOTICE = b'{"action": "terminate", "time": "2026-11-02T08:22:00Z"}'


# -- the answers


def garbage(body: bytes) -> Callable[[Script], None]:
    return lambda script: script.items.update({INSTANCE_ACTION: body})


def refuses(path: str, status: int) -> Callable[[Script], None]:
    return lambda script: script.fails.update({path: status})


def hangs(path: str) -> Callable[[Script], None]:
    return lambda script: script.hangs.add(path)


TROUBLES: dict[str, Callable[[Script], None]] = {
    "the token has run out": lambda script: setattr(script, "token", "token-2"),
    "401 again and again": refuses(INSTANCE_ACTION, 401),
    "403": refuses(INSTANCE_ACTION, 403),
    "no tokens: 403": refuses("api/token", 403),
    "no tokens: 404": refuses("api/token", 404),
    "500": refuses(INSTANCE_ACTION, 500),
    "throttled": refuses(INSTANCE_ACTION, 503),
    "a time-out": hangs(INSTANCE_ACTION),
    "a time-out of the token": hangs("api/token"),
    "not JSON": garbage(b"<html>terminate</html>"),
    "half of it": garbage(NOTICE[:30]),
    "nothing": garbage(b""),
    "another time than any": garbage(b'{"time": "2026-13-45T99:99:99Z"}'),
    "the beginning of time": garbage(b'{"time": "0001-01-01T00:00:00Z"}'),
    "the end of time": garbage(b'{"time": "9999-12-31T23:59:59-12:00"}'),
    "long before there were instances": garbage(b'{"time": "1970-01-01T00:00:00Z"}'),
}
every_trouble = pytest.mark.parametrize("trouble", TROUBLES)


def well_again(script: Script) -> None:
    script.fails.clear()
    script.hangs.clear()
    script.released.set()
    script.items[INSTANCE_ACTION] = NOTICE


@every_trouble
def test_no_trouble_is_a_notice_and_none_hides_one(imds_server: ImdsServer, trouble: str) -> None:
    script = imds_server.script
    watch = NoticeWatch(Imds(imds_server.url, timeout_s=0.3))
    assert watch.poll() is None
    TROUBLES[trouble](script)
    assert [watch.poll() for _ in range(3)] == [None] * 3
    well_again(script)
    assert watch.poll() == AT


@every_trouble
def test_a_notice_that_was_told_stays_told_in_every_trouble(
    imds_server: ImdsServer, trouble: str
) -> None:
    script = imds_server.script
    script.items[INSTANCE_ACTION] = NOTICE
    watch = NoticeWatch(Imds(imds_server.url, timeout_s=0.3))
    assert watch.poll() == AT
    TROUBLES[trouble](script)
    assert [watch.poll() for _ in range(3)] == [None] * 3
    well_again(script)
    assert watch.poll() is None, "it is no news"


@contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """A server that says the same to everybody, HTTP or not; its address."""

    class Says(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Says) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff" * 100,
        b"HTTP/1.1 OK fine\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + NOTICE,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 7\r\n\r\n" + NOTICE,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=x-none\r\n\r\n\xff\xfe",
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=range(11),
)
def test_what_is_not_even_http_is_unknown(answer: bytes) -> None:
    with saying(answer) as url:
        watch = NoticeWatch(Imds(url, timeout_s=0.5))
        assert [watch.poll() for _ in range(2)] == [None] * 2


# -- a notice that moves, or vanishes


@pytest.fixture
def told() -> Told:
    told = Told()
    told.trains()
    told.measures(save_s=2, commit_s=3, step=50)
    told.now = told.at(4000)
    told.notice(in_s=120)
    return told


def stopped_at_s(told: Told) -> float:
    while w.Sig.STOP not in told.signals():
        told.wait_until((told.machine.next_deadline() - T0).total_seconds())
    return (told.now - T0).total_seconds() - 4000


def test_a_notice_that_moves_later_leaves_that_much_more_time(told: Told) -> None:
    told.now = told.at(4010)
    told.notice(in_s=290)
    assert stopped_at_s(told) == 300 - 3 * 5 - 20
    assert told.signals() == [w.Sig.SAVE, w.Sig.STOP], "one save is enough"


@pytest.mark.parametrize(("in_s", "stop_s"), [(50, 25), (30, 10), (1, 10), (-60, 10)])
def test_a_notice_that_moves_earlier_is_in_time_or_at_once(
    told: Told, in_s: float, stop_s: float
) -> None:
    told.now = told.at(4010)
    told.notice(in_s=in_s)
    assert stopped_at_s(told) == stop_s


@pytest.mark.parametrize("in_s", [30, 400])
def test_a_notice_that_moves_while_it_hands_over_changes_nothing_of_that(
    told: Told, in_s: float
) -> None:
    told.orders(replacement_ready=True)
    told.on(w.Saved(step=80))
    told.notice(in_s=in_s)
    told.on(w.TrainerExited(code=75))
    told.on(w.Committed(head=a_head(80)))
    told.on(w.Committed(head=a_head(80, final=True)))
    told.on(w.LogsKept())
    told.on(w.Posted())
    assert told.machine.off
    assert [c.step for c in told.said if isinstance(c, w.Commit)] == [50, 80]


def test_a_notice_that_vanishes_is_believed_all_the_same(told: Told) -> None:
    """It is told no more, and EC2 has never taken one back: the work is safe either way."""
    assert stopped_at_s(told) == 120 - 3 * 5 - 20


def test_a_metadata_service_that_is_dead_for_minutes_delays_the_start_and_no_more() -> None:
    told = Told()
    told.on(w.Started())
    told.orders()
    while told.now < told.at(300):
        asked = told.count(w.Identify)
        told.on(w.Undone(task=w.Identify(), why="the metadata service gives no answer"))
        while told.count(w.Identify) == asked:
            told.wait_until((told.machine.next_deadline() - T0).total_seconds())
    assert 10 < told.count(w.Identify) < 40, "again and again, but not without a pause"
    assert told.count(w.Fetch) == 0
    told.on(w.Identified(launched_at=T0))
    assert told.count(w.Fetch) == 1


# -- the whole agent


def test_an_agent_lives_through_every_trouble_and_sees_the_notice_after_it(
    account: Account,
) -> None:
    account.submit("9000 0.02")
    machine = account.rent()
    script = machine.imds.script
    machine.start()
    machine.until_phase(Phase.TRAIN)
    for name, trouble in TROUBLES.items():
        trouble(script)
        script.seen.clear()
        machine.until(lambda: len(script.seen) > 1)
        script.fails.clear()
        script.hangs.clear()
        script.released.set()
        script.released = threading.Event()
        report = machine.report
        assert report is not None, name
        assert (report.phase, report.notice) == (Phase.TRAIN, None), name
    committed = account.head.step
    machine.notice()
    seen = machine.until_report(lambda report: report.notice)
    assert seen.notice is not None
    machine.until(lambda: account.head.step > committed)
    moved = machine.notice(in_s=10)
    machine.until_phase(Phase.IDLE)
    head = account.holds()
    assert head.final
    assert head.step > SEED_STEP
    last = machine.report
    assert last is not None
    assert last.notice is not None
    assert last.notice.at == moved
    assert last.notice.seen_at == seen.notice.seen_at


@pytest.mark.parametrize("path", ["api/token", "meta-data/iam/security-credentials/"])
def test_an_instance_whose_metadata_service_comes_late_trains_all_the_same(
    account: Account, path: str
) -> None:
    account.submit("40 0.02")
    machine = account.rent()
    machine.imds.script.fails[path] = 503
    machine.start()
    machine.until(lambda: [p for _, p, _ in machine.imds.script.seen].count(path) > 3)
    machine.imds.script.fails.clear()
    machine.until_phase(Phase.DONE)
    assert account.holds().done is not None
