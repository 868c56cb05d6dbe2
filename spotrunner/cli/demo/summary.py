"""The demo's result, printed for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spotrunner.cli import words
from spotrunner.cli.output import display, pairs, table


def summary(found: Mapping[str, Any]) -> None:
    headers = ["ATTEMPT", "POOL", "MARKET", "$/H", "FROM", "TO", "ENDED", "COST"]
    rows = [
        [
            attempt["id"],
            attempt["pool"],
            attempt["market"],
            words.usd_hour(attempt["price_usd_hour"]),
            words.clock(attempt["from"]),
            words.clock(attempt["to"]),
            attempt["ended"],
            words.usd(attempt["cost_usd"]),
        ]
        for attempt in found["attempts"]
    ]
    attempts = table(headers, rows, right=("$/H", "COST"), whole=("ATTEMPT", "POOL"))
    display("", attempts, "", pairs(_lines(found)))


def _lines(found: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    same = found["weights_sha256"] == found["reference_sha256"]
    verdict = f"yes (sha256 {found['weights_sha256'][:16]}…)" if same else "NO"
    redone = ", ".join(f"{n} after {name}" for name, n in found["steps_redone_by_attempt"].items())
    accuracy = found["metrics"].get("val_accuracy")
    left = found["leftover_instances"]
    return [
        ("job", f"{found['job']} {found['state']}, {found['steps_total']} steps"),
        ("accuracy", None if accuracy is None else f"{accuracy:.4f} on the test images"),
        (
            "cost",
            f"{words.usd(found['cost_usd'])}; on demand {words.usd(found['ondemand_usd'])},"
            f" saved {words.percent(found['saved_fraction'])}",
        ),
        ("interruptions", f"{found['interruptions']}; steps made twice: {redone}"),
        ("notice to commit", f"{found['notice_to_commit_s']} s"),
        ("notice to next step", f"{found['notice_to_next_step_s']} s, on another instance"),
        ("left over", ", ".join(left) if left else "nothing, in any region"),
        ("final weights equal an uninterrupted run", verdict),
    ]
