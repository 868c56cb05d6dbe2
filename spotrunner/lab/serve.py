"""The lab's own process: `python -m spotrunner.lab.serve OPTIONS`, started by lab/process.

OPTIONS is one JSON object: `folder`, the fields of LabOptions, and `watched`: then the lab ends
when its standard input closes, that is with the process that started it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from spotrunner.lab.lab import Lab, LabOptions
from spotrunner.lab.shims.machine import write_json


def main(text: str) -> int:
    options: dict[str, Any] = json.loads(text)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    ending = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if options["watched"]:
        threading.Thread(target=_watch_input, args=(ending,), daemon=True).start()
    lab = Lab(
        Path(options["folder"]),
        LabOptions(
            seed=options["seed"],
            port=options["port"],
            reclaims=options["reclaims"],
            isolated=options["isolated"],
            reach=tuple(options["reach"]),
        ),
    )
    lab.start()
    try:
        _announce(lab)
        ending.wait()
    finally:
        lab.close()
        lab.paths.lab_file.unlink(missing_ok=True)
        lab.paths.token_file.unlink(missing_ok=True)
    return 0


def _watch_input(ending: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    ending.set()


def _announce(lab: Lab) -> None:
    """Last of all, so that whoever reads it finds everything in place."""
    paths = lab.paths
    paths.token_file.touch(mode=0o600)
    paths.token_file.chmod(0o600)
    paths.token_file.write_text(lab.token)
    write_json(
        paths.lab_file,
        {
            "lab": lab.id,
            "url": lab.url,
            "pid": os.getpid(),
            "seed": lab.options.seed,
            "token_file": str(paths.token_file),
        },
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
