"""IMDSv2 against a real HTTP server: what it does not say for sure is unknown, never "no"."""

from __future__ import annotations

import datetime as dt

import pytest

from spotrunner.agent.imds import Imds, ImdsUnknown
from spotrunner.agent.main import NoticeWatch
from tests.agent.imds_server import ATTEMPT, DOCUMENT, INSTANCE_ACTION, ImdsServer

NOTICE = b'{"action": "terminate", "time": "2026-11-02T08:22:00Z"}'
AT = dt.datetime(2026, 11, 2, 8, 22, tzinfo=dt.timezone.utc)


@pytest.fixture
def imds(imds_server: ImdsServer) -> Imds:
    return Imds(imds_server.url, timeout_s=0.3)


def test_no_notice_is_a_404(imds: Imds) -> None:
    assert imds.notice() is None


def test_a_notice_names_its_time(imds: Imds, imds_server: ImdsServer) -> None:
    imds_server.script.items[INSTANCE_ACTION] = NOTICE
    assert imds.notice() == AT


def test_identity(imds: Imds, imds_server: ImdsServer) -> None:
    imds_server.script.items[ATTEMPT] = b"digits-7f3a.4"
    imds_server.script.items[DOCUMENT] = b'{"pendingTime": "2026-11-02T08:00:00Z"}'
    identity = imds.identity()
    assert identity.instance_id == "i-0abc"
    assert identity.attempt == "digits-7f3a.4"
    assert identity.launched_at == dt.datetime(2026, 11, 2, 8, tzinfo=dt.timezone.utc)


def test_an_instance_without_tags_and_document_has_an_identity(imds: Imds) -> None:
    identity = imds.identity()
    assert identity.attempt is None
    assert identity.launched_at is None


def test_one_token_serves_many_requests_and_stands_once_in_each(
    imds: Imds, imds_server: ImdsServer
) -> None:
    for _ in range(3):
        imds.notice()
    assert imds_server.script.tokens_given == 1
    assert all(tokens == ("token-1",) for verb, _, tokens in imds_server.script.seen[1:])


def test_an_expired_token_is_renewed_once_and_the_request_made_again(
    imds: Imds, imds_server: ImdsServer
) -> None:
    imds.notice()
    imds_server.script.token = "token-2"
    imds_server.script.items[INSTANCE_ACTION] = NOTICE
    assert imds.notice() == AT
    assert imds_server.script.tokens_given == 2


def test_a_401_that_stays_is_unknown(imds: Imds, imds_server: ImdsServer) -> None:
    imds_server.script.fails[INSTANCE_ACTION] = 401
    with pytest.raises(ImdsUnknown):
        imds.notice()


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_a_refusal_is_unknown_not_none(imds: Imds, imds_server: ImdsServer, status: int) -> None:
    for path in (INSTANCE_ACTION, ATTEMPT):
        imds_server.script.fails[path] = status
    with pytest.raises(ImdsUnknown):
        imds.notice()
    with pytest.raises(ImdsUnknown):
        imds.attempt()


@pytest.mark.parametrize("path", ["api/token", INSTANCE_ACTION])
def test_a_time_out_is_unknown_not_none(imds: Imds, imds_server: ImdsServer, path: str) -> None:
    imds_server.script.hangs.add(path)
    with pytest.raises(ImdsUnknown):
        imds.notice()


def test_a_server_that_is_not_there_is_unknown() -> None:
    with ImdsServer() as gone:
        url = gone.url
    with pytest.raises(ImdsUnknown):
        Imds(url, timeout_s=0.3).notice()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"terminate",
        b"[]",
        b"null",
        b'"2026-11-02T08:22:00Z"',
        b"{}",
        b'{"action": "terminate", "time": "soon"}',
        b'{"action": "terminate", "time": null}',
        b'{"time": {"a": 1}}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_garbage_is_unknown(imds: Imds, imds_server: ImdsServer, body: bytes) -> None:
    imds_server.script.items[INSTANCE_ACTION] = body
    with pytest.raises(ImdsUnknown):
        imds.notice()


def test_the_watch_tells_each_time_once_and_never_raises(
    imds: Imds, imds_server: ImdsServer
) -> None:
    watch, script = NoticeWatch(imds), imds_server.script
    assert watch.poll() is None
    script.fails[INSTANCE_ACTION] = 503
    assert watch.poll() is None
    del script.fails[INSTANCE_ACTION]
    script.items[INSTANCE_ACTION] = NOTICE
    assert watch.poll() == AT
    assert watch.poll() is None
    script.items[INSTANCE_ACTION] = b"garbage"
    assert watch.poll() is None
    script.items[INSTANCE_ACTION] = NOTICE.replace(b"08:22", b"08:23")
    assert watch.poll() == AT + dt.timedelta(minutes=1)
