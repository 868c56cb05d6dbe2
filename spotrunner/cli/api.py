"""The client of the daemon's API: where it is, the token, time-outs, and errors in words."""

from __future__ import annotations

import ipaddress
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from spotrunner.cli.failure import BadInput, Failure, NoDaemon
from spotrunner.core.located import Problem, lines

CONNECT_S = 3
ANSWER_S = 30
UPLOAD_S = 300


class Refused(BadInput):
    """The daemon found the request wrong; `problems` name the keys of what was sent."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(lines("the daemon", problems)))
        self.problems = problems


class NoSuchJob(BadInput):
    """The daemon knows no job of this name."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """What a daemon writes into its api.json."""

    url: str
    token: str
    file: Path


def find(api_file: Path | None) -> Api:
    """The client for the daemon of `api_file` (None: this user's). Raises NoDaemon, Failure."""
    return Api(_address(api_file or default_api_file()))


def default_api_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "spotrunner" / "api.json"


class Api:
    """Calls of the API. All raise NoDaemon, Refused, NoSuchJob, Failure."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._session = requests.Session()
        # No proxy and no .netrc of the environment may see a call to loopback or its token.
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {address.token}"

    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", path, params=query, timeout_s=ANSWER_S)

    def post(self, path: str, body: Any = None, timeout_s: float = ANSWER_S) -> Any:
        return self._call("POST", path, json=body, timeout_s=timeout_s)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path, timeout_s=ANSWER_S)

    def upload(self, path: str, fields: Mapping[str, str], files: Mapping[str, Any]) -> Any:
        """A multipart form: `files` maps a field to (name, open file, content type)."""
        parts: dict[str, Any] = {name: (None, text) for name, text in fields.items()}
        return self._call("POST", path, files={**parts, **files}, timeout_s=UPLOAD_S)

    def _call(self, method: str, path: str, *, timeout_s: float, **more: Any) -> Any:
        try:
            response = self._session.request(
                method,
                self._address.url + path,
                timeout=(CONNECT_S, timeout_s),
                allow_redirects=False,
                **more,
            )
        except requests.ConnectionError:
            raise NoDaemon(f"nobody answers at {self._address.url}") from None
        except requests.Timeout:
            raise Failure(
                f"the daemon at {self._address.url} did not answer within {timeout_s:g} s:"
                " it may be busy with AWS; try again, or look at its log"
            ) from None
        return self._answer(response)

    def _answer(self, response: requests.Response) -> Any:
        try:
            body = response.json()
        except requests.JSONDecodeError:
            body = None
        if response.ok and body is not None:
            return body
        problems = _problems(body)
        words = "; ".join(it.message + (f"; {it.hint}" if it.hint else "") for it in problems)
        if response.status_code == 401:
            raise Failure(
                f"the daemon at {self._address.url} refuses the token that"
                f" {self._address.file} names: another daemon took the port; restart yours"
            )
        if response.status_code == 404 and words:
            raise NoSuchJob(words)
        if response.status_code == 422 and problems:
            raise Refused(problems)
        if response.status_code == 413 and words:
            raise BadInput(words)
        if response.status_code == 409 and any(it.key for it in problems):
            raise BadInput(words)  # what was sent can mean several things
        if response.status_code in (403, 409, 424, 503) and words:
            raise Failure(words)
        raise Failure(
            f"the daemon failed ({response.status_code}{': ' + words if words else ''});"
            " this is not your fault: its log says why"
        )


def _problems(body: Any) -> tuple[Problem, ...]:
    return problems_of(body.get("errors", []) if isinstance(body, dict) else [])


def problems_of(found: Iterable[Any]) -> tuple[Problem, ...]:
    """From the API's JSON of them."""
    return tuple(
        Problem(
            message=str(it.get("message", "")),
            key=str(it.get("key") or ""),
            line=it.get("line"),
            hint=str(it.get("hint") or ""),
        )
        for it in found
    )


# -- where the daemon is -----------------------------------------------------------------------


def _address(api_file: Path) -> Address:
    try:
        written = json.loads(api_file.read_text(encoding="utf-8"))
        url, token_file = str(written["url"]).rstrip("/"), Path(written["token_file"])
    except FileNotFoundError:
        raise NoDaemon(f"there is no {api_file}") from None
    except OSError as error:
        raise Failure(f"{api_file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Failure(
            f"{api_file} was not written by a daemon: it needs `url` and `token_file`;"
            " name the right one with --api-file"
        ) from None
    if not _loopback(url):
        raise Failure(f"{api_file} names {url}: a token is sent to loopback only")
    return Address(url=url, token=_token(token_file), file=token_file)


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(file: Path) -> str:
    """Refuses a token that others can read: whoever has it can spend the money."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise Failure(
                f"the token file {file} can be used by others (mode {mode:04o}); make it yours and"
                f" restart the daemon for a new token: rm {file}"
            )
        return file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise NoDaemon(f"its token file {file} is gone") from None
    except OSError as error:
        raise Failure(f"the token file {file}: {error.strerror}") from None
