"""A two-minute notice, measured: until the trainer hears of it, and until its checkpoint is safe.

    python benchmarks/notice.py [--notices N] [--rounds N] [--sizes GB,GB] [--files N N] [-o json]
                                [--check]

`--check` exits with 1 where a promise is broken: the signal within 1.2 s of the notice in the
metadata service, and the commit within 1.15 times what a bare boto3 upload of the same bytes takes.
Run it on an idle machine; the ratios hold on a busy one too.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from notice_commit import Row, compare
from notice_signal import seconds_to_signal

SIGNAL_LIMIT_S = 1.2
RATIO_LIMIT = 1.15
NOTICE_S = 120.0


def main() -> int:
    asked = _asked()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    signals = sorted(seconds_to_signal(asked.notices, asked.seed))
    sizes = [float(size) for size in asked.sizes.split(",")]
    shapes = [(size, files) for size in sizes for files in asked.files]
    with tempfile.TemporaryDirectory() as folder:
        measured = list(compare(shapes, asked.rounds, Path(folder)))
    rows = [row for row, _ in measured]
    wrong = _broken(signals, rows) if asked.check else []
    found = {
        "benchmark": "notice",
        "notices": len(signals),
        "signal_s": _spread(signals),
        "bare_part_mib_threads": measured[0][1] if measured else None,
        "rounds": asked.rounds,
        "commits": [_as_json(row, signals) for row in rows],
        "failed": wrong,
    }
    print(json.dumps(found, indent=2) if asked.output == "json" else _printed(found))
    for sentence in wrong:
        print(f"FAILED {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures what a notice leads to.")
    parser.add_argument("--notices", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="0.28,1.31,4.03", metavar="GB,GB,…")
    parser.add_argument("--files", type=int, nargs="+", default=[1, 4], metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


def _spread(signals: Sequence[float]) -> Mapping[str, float]:
    """`signals` are sorted."""
    if not signals:
        return {}
    p95 = signals[math.ceil(0.95 * len(signals)) - 1]
    return {
        "p50": round(statistics.median(signals), 3),
        "p95": round(p95, 3),
        "worst": round(signals[-1], 3),
    }


def _as_json(row: Row, signals: Sequence[float]) -> Mapping[str, float]:
    used_s = (signals[-1] if signals else 0.0) + row.save_s + row.commit_s
    rounded = {name: round(value, 3) for name, value in asdict(row).items()}
    return {**rounded, "share_of_notice": round(used_s / NOTICE_S, 3)}


def _broken(signals: Sequence[float], rows: Sequence[Row]) -> list[str]:
    wrong = []
    if signals and signals[-1] > SIGNAL_LIMIT_S:
        wrong.append(f"a signal came {signals[-1]:.2f} s after its notice (at most 1.2 s)")
    wrong += [
        f"{row.size_gb} GB in {row.files} files: {row.ratio:.2f} times a bare upload"
        for row in rows
        if row.ratio > RATIO_LIMIT
    ]
    return wrong


def _printed(found: Mapping[str, object]) -> str:
    lines = [f"notice to signal, s: {found['signal_s']}", ""]
    commits: Sequence[Mapping[str, float]] = found["commits"]  # type: ignore[assignment]
    if commits:
        lines.append("  ".join(f"{name:>15}" for name in commits[0]))
        lines += ["  ".join(f"{value:>15}" for value in row.values()) for row in commits]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
