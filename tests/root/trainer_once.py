"""An agent reduced to one start of a trainer, to be killed by a test: root folder, commands."""

import sys
import threading
from pathlib import Path

from tests.root.trainers import a_trainer, prepared

trainer = a_trainer(Path(sys.argv[1]))
trainer.start(prepared(trainer, sys.argv[2]))
print("started", flush=True)
threading.Event().wait()
