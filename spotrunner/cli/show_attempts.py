"""The table of a job's attempts."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

# Of zones that refused one after the other.
SHOWN_ZONES = 2
HEADERS = ("#", "POOL", "MARKET", "$/H", "STATE", "FROM", "FOR", "STEPS", "COST")


def runs(attempts: list[Json]) -> list[list[Json]]:
    """Attempts one by one, but those that EC2 refused one after the other together: in a bad night
    there are hundreds."""
    runs: list[list[Json]] = []
    for attempt in attempts:
        if runs and _is_refused(attempt) and _is_refused(runs[-1][-1]):
            runs[-1].append(attempt)
        else:
            runs.append([attempt])
    return runs


def _is_refused(attempt: Json) -> bool:
    return bool(attempt["end_reason"] == "refused")


def row(run: list[Json], now: str) -> list[str | None]:
    return _attempt(run[0], now) if len(run) == 1 else _refused(run)


def _refused(run: list[Json]) -> list[str | None]:
    from spotrunner.cli import words

    zones = list(dict.fromkeys(attempt["zone"] for attempt in run))
    where = ", ".join(zones[:SHOWN_ZONES]) + (" …" if len(zones) > SHOWN_ZONES else "")
    markets = dict.fromkeys(attempt["market"] for attempt in run)
    return [
        f"{run[0]['generation']}-{run[-1]['generation']}",
        where,
        ", ".join(markets),
        None,
        f"{len(run)} refused",
        f"last {words.clock(run[-1]['intent_at'])}",
        None,
        None,
        words.usd(sum(attempt["cost_usd"] for attempt in run)),
    ]


def _attempt(attempt: Json, now: str) -> list[str | None]:
    from spotrunner.cli import words

    what = attempt["end_reason"] or attempt["ending"] or attempt["phase"]
    return [
        str(attempt["generation"]),
        attempt["pool"],
        attempt["market"],
        words.usd_hour(attempt["price_usd_hour"]),
        words.state(attempt["state"], what),
        words.clock(attempt["from"]),
        words.since(attempt["from"], attempt["to"] or now),
        _steps(attempt),
        words.about(words.usd(attempt["cost_usd"]), attempt["estimated"]),
    ]


def _steps(attempt: Json) -> str | None:
    """From HEAD's step at its start to HEAD's at its end; None where it never trained."""
    if attempt["first_step_at"] is None:
        return None
    before, after = attempt["step_before"], attempt["step_after"]
    return f"from {before}" if after is None else f"{before} to {after}"
