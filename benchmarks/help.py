"""How long `spotrunner --help` takes, from the start of Python to its end.

    python benchmarks/help.py [--runs N] [-o json] [--check SECONDS]

`--check` exits with 1 when the median is above. Each run is a process of its own; the first, which
may read modules from a cold disk, is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures `spotrunner --help`.")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--check", type=float, metavar="SECONDS")
    asked = parser.parse_args()
    seconds = [_one_run() for _ in range(asked.runs + 1)][1:]
    found = {
        "benchmark": "help",
        "runs": asked.runs,
        "median_s": round(statistics.median(seconds), 4),
        "best_s": round(min(seconds), 4),
        "worst_s": round(max(seconds), 4),
        "limit_s": asked.check,
        "python": sys.version.split()[0],
    }
    if asked.output == "json":
        print(json.dumps(found, indent=2))
    else:
        print(f"spotrunner --help: median {found['median_s']} s of {asked.runs} runs")
    return int(asked.check is not None and statistics.median(seconds) > asked.check)


def _one_run() -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "spotrunner", "--help"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
