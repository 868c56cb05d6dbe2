"""The daemon that works in the lab, if there is one, as the lab's clock needs it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import requests
import structlog

from spotrunner.lab.paths import LabPaths

_ROUND_TIMEOUT_S = 60.0
_STATUS_TIMEOUT_S = 10.0
_log = structlog.get_logger()


class ControlHost:
    """Over the daemon's own API."""

    def __init__(self, paths: LabPaths) -> None:
        self._paths = paths

    def make_round(self) -> bool:
        """Have it make a round begun after the call; False where there is no daemon."""
        try:
            self._ask("POST", "/v1/round", _ROUND_TIMEOUT_S)
        except FileNotFoundError:
            return False  # nobody has started a daemon in this lab
        except requests.RequestException as error:
            _log.warning("the daemon made no round", why=str(error))
            return False
        return True

    def old_prices(self, before: dt.datetime) -> tuple[str, ...]:
        """The regions whose prices it read before this time, and can read."""
        try:
            regions = self._ask("GET", "/v1/status", _STATUS_TIMEOUT_S)["prices"]
        except (FileNotFoundError, requests.RequestException):
            return ()
        return tuple(
            name
            for name, region in regions.items()
            if region["read_at"] is not None
            and region["trouble"] is None
            and dt.datetime.fromisoformat(region["read_at"].replace("Z", "+00:00")) < before
        )

    def _ask(self, method: str, path: str, timeout_s: float) -> Any:
        api = json.loads(self._paths.api_file.read_text())
        token = Path(api["token_file"]).read_text().strip()
        answer = requests.request(
            method,
            f"{api['url']}{path}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_s,
        )
        answer.raise_for_status()
        return answer.json()
