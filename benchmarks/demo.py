"""How long the demo takes, where its time goes, and the figures that it is there to show.

    python benchmarks/demo.py [--seed N] [-o json] [--check SECONDS]

`--check` exits with 1 when all its phases together take longer. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

_FIGURES = ("notice_to_commit_s", "notice_to_next_step_s", "steps_redone", "saved_fraction")


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures `spotrunner demo`.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--check", type=float, metavar="SECONDS")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "facts.json"
        command = [sys.executable, "-m", "spotrunner", "demo", "--seed", str(asked.seed)]
        subprocess.run([*command, "--json", str(file)], check=True, stdout=subprocess.DEVNULL)
        facts = json.loads(file.read_text())
    seconds = round(sum(facts["phases_s"].values()), 1)
    found = {
        "benchmark": "demo",
        "seed": asked.seed,
        "seconds": seconds,
        "limit_s": asked.check,
        **{name: facts[name] for name in _FIGURES},
        "phases_s": facts["phases_s"],
    }
    if asked.output == "json":
        print(json.dumps(found, indent=2))
    else:
        print(f"spotrunner demo --seed {asked.seed}: {seconds} s")
    return int(asked.check is not None and seconds > asked.check)


if __name__ == "__main__":
    sys.exit(main())
