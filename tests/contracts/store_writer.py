"""A process that leads a store and writes until it is killed: `python -m … FILE`.

Write n is a job, an attempt and two events that all bear n; its number is printed when it is done.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from spotrunner.adapters.store.sqlite import open_store
from spotrunner.ports import Changes, StaleEpoch
from tests.contracts.values import a_job, an_attempt, an_event


def main(path: Path) -> None:
    store = open_store(path)
    epoch = store.lead("the writer")
    for n in itertools.count(1):
        changes = Changes(
            jobs=(a_job(checkpoints_asked=n),),
            attempts=(an_attempt(step_before=n),),
            events=(an_event(data={"n": n}),) * 2,
        )
        try:
            store.write(epoch, changes)
        except StaleEpoch:
            print("stale", flush=True)
            return
        print(n, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
