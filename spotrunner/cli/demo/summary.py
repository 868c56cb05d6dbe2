"""The demo's result, printed for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from spotrunner.cli import words
from spotrunner.cli.output import pairs, table

# Where no terminal sets it.
WIDTH = 160


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
    out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    out.print("", table(headers, rows, right=("$/H", "COST")), "", pairs(_lines(found)), sep="\n")


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
