"""The client against a server that answers what it is told to: errors in words, and the token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from spotrunner.cli.api import NoSuchJob, Refused, default_api_file, find
from spotrunner.cli.failure import Exit, Failure, NoDaemon


class _Answering(ThreadingHTTPServer):
    status: int = 200
    body: bytes = b"{}"
    seen: list[tuple[str, str, dict[str, str]]]


class _Requests(BaseHTTPRequestHandler):
    server: _Answering

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Answering]:
    with _Answering(("127.0.0.1", 0), _Requests) as served:
        served.seen = []
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def api_file(server: _Answering, tmp_path: Path) -> Path:
    return _written(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")


def _written(folder: Path, url: str) -> Path:
    token = folder / "token"
    token.write_text("s3cret\n")
    token.chmod(0o600)
    file = folder / "api.json"
    file.write_text(json.dumps({"url": url, "token_file": str(token)}))
    return file


def test_the_token_goes_along(server: _Answering, api_file: Path) -> None:
    server.body = b'{"a": 1}'
    assert find(api_file).get("/v1/jobs", after=3) == {"a": 1}
    method, path, headers = server.seen[0]
    assert (method, path) == ("GET", "/v1/jobs?after=3")
    assert headers["Authorization"] == "Bearer s3cret"


def test_no_proxy_sees_the_token(
    server: _Answering, api_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert find(api_file).get("/v1/status") == {}


def test_no_api_file_means_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon) as caught:
        find(tmp_path / "api.json")
    assert caught.value.code is Exit.NO_DAEMON
    assert str(caught.value) == (
        f"the daemon is not running (there is no {tmp_path / 'api.json'});"
        " start it: spotrunner daemon --config FILE"
    )


def test_a_port_that_nobody_listens_on_means_no_daemon(
    server: _Answering, api_file: Path, tmp_path: Path
) -> None:
    server.server_close()
    with pytest.raises(NoDaemon, match=r"nobody answers at http://127\.0\.0\.1:"):
        find(api_file).get("/v1/jobs")


def test_a_token_that_others_can_read_is_refused(api_file: Path, tmp_path: Path) -> None:
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(Failure) as caught:
        find(api_file)
    assert caught.value.code is Exit.FAILED
    assert "can be used by others (mode 0640)" in str(caught.value)


def test_a_token_goes_to_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="a token is sent to loopback only"):
        find(_written(tmp_path, "http://10.0.0.1:7420"))


@pytest.mark.parametrize("text", ["", "[]", '{"url": "http://127.0.0.1:1"}', '"x"'])
def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "api.json").write_text(text)
    with pytest.raises(Failure, match=r"api\.json was not written by a daemon"):
        find(tmp_path / "api.json")


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, '{"errors": [{"message": "no"}]}', Failure, "refuses the token"),
        (404, '{"errors": [{"message": "no job x"}]}', NoSuchJob, "no job x"),
        (404, "", Failure, "the daemon failed (404)"),
        (403, '{"errors": [{"message": "AccessDenied"}]}', Failure, "AccessDenied"),
        (409, '{"errors": [{"message": "it is over"}]}', Failure, "it is over"),
        (424, '{"errors": [{"message": "NoSuchBucket"}]}', Failure, "NoSuchBucket"),
        (503, '{"errors": [{"message": "away", "hint": "try again"}]}', Failure, "away; try again"),
        (422, '{"errors": [{"message": "wrong", "key": "a.b"}]}', Refused, "a.b: wrong"),
        (500, '{"errors": [{"message": "disk full"}]}', Failure, "the daemon failed (500: disk"),
        (200, "not json", Failure, "the daemon failed (200)"),
        (307, "", Failure, "the daemon failed (307)"),
    ],
)
def test_an_error_says_whose_fault_it_is(
    server: _Answering, api_file: Path, status: int, body: str, kind: type[Failure], words: str
) -> None:
    server.status, server.body = status, body.encode()
    with pytest.raises(Failure) as caught:
        find(api_file).get("/v1/jobs")
    assert type(caught.value) is kind
    assert words in str(caught.value)


def test_the_problems_of_a_refusal_keep_their_keys(server: _Answering, api_file: Path) -> None:
    server.status = 422
    server.body = b'{"errors": [{"key": "budget", "message": "no", "hint": "more", "line": null}]}'
    with pytest.raises(Refused) as caught:
        find(api_file).post("/v1/offers", {})
    assert [(it.key, it.message, it.hint) for it in caught.value.problems] == [
        ("budget", "no", "more")
    ]
    assert caught.value.code is Exit.BAD_INPUT


def test_the_address_follows_the_state_folder_of_the_desktop_standard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_api_file() == Path("/somewhere/spotrunner/api.json")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_api_file() == Path("/home/me/.local/state/spotrunner/api.json")
