"""Does what the machine says: one blocking method an instruction, its answer an event."""

from __future__ import annotations

import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spotrunner.agent import words as w
from spotrunner.agent.courier import Courier, DamagedCheckpoint
from spotrunner.agent.folders import Folders
from spotrunner.agent.gpus import Gpus, NoGpu
from spotrunner.agent.holder import FencedOff, Holder
from spotrunner.agent.imds import Imds, ImdsUnknown
from spotrunner.agent.logs import LogShipper
from spotrunner.agent.power import Power, Refused
from spotrunner.agent.trainer import NoImage, PullFailed, Trainer
from spotrunner.agent.watch import TrainerWatch
from spotrunner.core.model import Head, JobSpec, Order
from spotrunner.ports import Heads, Mailbox, Misconfigured, NotFound, PortError

# What the world may answer instead of a result; anything else is a bug of ours.
EXPECTED = (
    PortError,
    OSError,
    subprocess.SubprocessError,
    tarfile.TarError,
    ImdsUnknown,
    Refused,
    NoImage,
    PullFailed,
)
# Of these, what neither another try nor another machine will change.
HOPELESS = (NotFound, Misconfigured, tarfile.TarError, NoImage)
# On the way up a full or slow disk has until the paid time ends; on the way down the last report
# must not wait for it.
_WAY_UP = (w.Identify, w.Fetch, w.Restore)

# A signal finds no container while docker is still making it. The last try may itself take as long
# as docker may (trainer.COMMAND_TIMEOUT_S).
SIGNAL_S = 20.0
SIGNAL_EVERY_S = 0.25


@dataclass(kw_only=True)
class Deeds:
    """Methods may run at the same time in several threads, but tasks one after the other.

    `put` takes the events that come later than a method's return: those of the trainer.
    """

    imds: Imds
    power: Power
    courier: Courier
    holder: Holder
    heads: Heads
    mailbox: Mailbox
    trainer: Trainer
    gpus: Gpus
    logs: LogShipper
    folders: Folders
    put: Callable[[w.Event], None]
    ship_now: Callable[[], None]
    _spec: JobSpec | None = field(default=None, init=False)
    _order: Order | None = field(default=None, init=False)

    def do(self, instruction: w.Instruction) -> w.Event | None:
        """The answer, if it has one. Raises one of EXPECTED."""
        deed: Callable[[Deeds, Any], w.Event | None] = _DEEDS[type(instruction)]
        return deed(self, instruction)

    def attempt_task(self, task: w.Task) -> w.Event:
        """A task always has an answer."""
        try:
            answer = self.do(task)
        except FencedOff as fenced:
            return w.Fenced(why=str(fenced))
        except DamagedCheckpoint as damaged:
            return w.Damaged(why=str(damaged))
        except NoGpu as missing:
            return w.Unfit(why=str(missing))
        except EXPECTED as error:
            why = f"{type(task).__name__}: {error}"
            stuck = isinstance(error, OSError) and not isinstance(task, _WAY_UP)
            return w.Undone(task=task, why=why, hopeless=stuck or isinstance(error, HOPELESS))
        assert answer is not None, f"{task} has no answer"
        return answer

    # -- tasks ---------------------------------------------------------------------------------

    def _identify(self, _: w.Identify) -> w.Event:
        identity = self.imds.identity()
        self.power.confirm(identity.attempt)
        return w.Identified(launched_at=identity.launched_at)

    def _fetch(self, _: w.Fetch) -> w.Event:
        self.folders.make()
        self.trainer.gpus = self.gpus.ready()
        spec = self.courier.spec()
        if spec.workdir_sha256 is not None:
            self.courier.fetch_workdir(spec.workdir_sha256)
        self.courier.fetch_data(spec.data)
        self.trainer.lay_library()
        self.trainer.pull(spec.image)
        self._spec = spec
        return w.Fetched(handles_save_signal=spec.handles_save_signal)

    def _take_head(self, _: w.TakeHead) -> w.Event:
        return w.HeadTaken(head=self.holder.take())

    def _restore(self, task: w.Restore) -> w.Event:
        self.courier.restore(task.ref)
        return w.Restored(step=task.ref.step, moved_bytes=self.courier.carried.bytes)

    def _fall_back(self, task: w.FallBack) -> w.Event:
        return w.HeadTaken(head=self.holder.fall_back(task.damaged))

    def _commit(self, task: w.Commit) -> w.Event:
        began_s = time.monotonic()
        head = self.holder.commit(self.courier.store(task.step), final=task.final)
        commit_s = time.monotonic() - began_s
        self.courier.prune(task.step)
        return self._committed(head, commit_s)

    def _finalize(self, _: w.Finalize) -> w.Event:
        return self._committed(self.holder.finalize())

    def _commit_outputs(self, task: w.CommitOutputs) -> w.Event:
        return self._committed(self.holder.finish(self.courier.store_outputs(task.step)))

    def _committed(self, head: Head, commit_s: float | None = None) -> w.Event:
        moved_bytes = self.courier.carried.bytes
        return w.Committed(head=head, commit_s=commit_s, moved_bytes=moved_bytes)

    def _keep_logs(self, _: w.KeepLogs) -> w.Event:
        self.logs.ship(last=True)
        self.courier.keep_logs()
        return w.LogsKept()

    def _farewell(self, task: w.Farewell) -> w.Event:
        self.mailbox.post_report(task.report)
        return w.Posted()

    # -- the rest ------------------------------------------------------------------------------

    def _start_trainer(self, instruction: w.StartTrainer) -> None:
        assert self._spec is not None, "the trainer starts after the fetch"
        try:
            self.courier.clear(fresh=instruction.fresh)
            watch = TrainerWatch(self.trainer, self.folders, self.put, self.ship_now, self.logs)
            self.trainer.start(self._spec)
        except OSError as error:
            self.put(w.Unfit(why=f"the trainer did not start: {error}"))
            return
        threading.Thread(target=watch.run, name="trainer", daemon=True).start()

    def _signal(self, instruction: w.Signal) -> None:
        pause = threading.Event()
        until_s = time.monotonic() + SIGNAL_S
        while time.monotonic() < until_s:
            if self.trainer.poll() is not None or self.trainer.signal(instruction.signal):
                return
            pause.wait(SIGNAL_EVERY_S)

    def _post(self, instruction: w.Post) -> None:
        self.mailbox.post_report(instruction.report)

    def _poll_order(self, _: w.PollOrder) -> w.Event | None:
        order = self.mailbox.order(self.courier.keys.attempt, self._order)
        if order is None:
            return None
        self._order = order
        return w.OrderSeen(order=order)

    def _read_head(self, _: w.ReadHead) -> w.Event:
        return w.HeadSeen(head=self.heads.read(self.courier.keys.job_id).head)

    def _ship_logs(self, _: w.ShipLogs) -> None:
        self.logs.ship()

    def _arm_timer(self, instruction: w.ArmTimer) -> None:
        self.power.arm(instruction.minutes)

    def _power_off(self, _: w.PowerOff) -> None:
        self.power.off()


_DEEDS: dict[type[Any], Callable[[Deeds, Any], w.Event | None]] = {
    w.Identify: Deeds._identify,
    w.Fetch: Deeds._fetch,
    w.TakeHead: Deeds._take_head,
    w.Restore: Deeds._restore,
    w.FallBack: Deeds._fall_back,
    w.Commit: Deeds._commit,
    w.Finalize: Deeds._finalize,
    w.CommitOutputs: Deeds._commit_outputs,
    w.KeepLogs: Deeds._keep_logs,
    w.Farewell: Deeds._farewell,
    w.StartTrainer: Deeds._start_trainer,
    w.Signal: Deeds._signal,
    w.Post: Deeds._post,
    w.PollOrder: Deeds._poll_order,
    w.ReadHead: Deeds._read_head,
    w.ShipLogs: Deeds._ship_logs,
    w.ArmTimer: Deeds._arm_timer,
    w.PowerOff: Deeds._power_off,
}
