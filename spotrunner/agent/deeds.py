"""Does what the machine says: one blocking method an instruction, its answer an event."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spotrunner.agent import words as w
from spotrunner.agent.aside import Aside
from spotrunner.agent.checkpoints import Checkpoints, DamagedCheckpoint
from spotrunner.agent.courier import Courier
from spotrunner.agent.data import DataSets
from spotrunner.agent.folders import Folders
from spotrunner.agent.gpus import Gpus, NoGpu, driver_version
from spotrunner.agent.holder import FencedOff, Holder, NothingLeft
from spotrunner.agent.images import NoImage, NoRoom, PullFailed
from spotrunner.agent.imds import Imds, ImdsUnknown
from spotrunner.agent.logs import LogShipper
from spotrunner.agent.outputs import Outputs
from spotrunner.agent.power import Power, Refused
from spotrunner.agent.runs import NotStarted, Unstartable
from spotrunner.agent.secrets import JobSecrets, SecretsMissing
from spotrunner.agent.supplies import Supplies
from spotrunner.agent.trainer import Trainer
from spotrunner.agent.watch import TrainerWatch
from spotrunner.agent.who import ids
from spotrunner.core.diagnosis import diagnose
from spotrunner.core.model import Head, JobSpec, Order
from spotrunner.ports import GaveWay, Heads, Mailbox, Misconfigured, NotFound, PortError

# What the world may answer instead of a result; anything else is a bug of ours.
EXPECTED = (
    PortError,
    OSError,
    subprocess.SubprocessError,
    tarfile.TarError,
    ImdsUnknown,
    NothingLeft,
    Refused,
    NoImage,
    PullFailed,
    SecretsMissing,
)
# Of these, what neither another try nor another machine will change.
HOPELESS = (NotFound, Misconfigured, NothingLeft, tarfile.TarError, NoImage, SecretsMissing)
# On the way up a slow disk has until the paid time ends, and a full one some minutes; on the way
# down the last report must not wait for it.
_WAY_UP = (w.Identify, w.Fetch, w.Restore)

# A signal finds no container while docker is still making it. The last try may itself take as long
# as docker may (trainer.COMMAND_TIMEOUT_S).
SIGNAL_S = 20.0
SIGNAL_EVERY_S = 0.25
# What an attempt that is not done leaves of its outputs is worth so much of its last half minute.
LAST_OUTPUTS_S = 15.0


@dataclass(kw_only=True)
class Deeds:
    """Methods may run at the same time in several threads, but tasks one after the other.

    `put` takes the events that come later than a method's return: those of the trainer.
    """

    imds: Imds
    power: Power
    courier: Courier
    data: DataSets
    checkpoints: Checkpoints
    outputs: Outputs
    aside: Aside
    holder: Holder
    heads: Heads
    mailbox: Mailbox
    trainer: Trainer
    gpus: Gpus
    logs: LogShipper
    folders: Folders
    secrets: JobSecrets
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
            hopeless = stuck or isinstance(error, HOPELESS)
            full = _has_no_room(error) and isinstance(task, _WAY_UP)
            if full and self._spec is not None:
                why += f"; give the job a larger disk (disk_gib, now {self._spec.disk_gib})"
            return w.Undone(task=task, why=why, hopeless=hopeless, full=full)
        assert answer is not None, f"{task} has no answer"
        return answer

    # -- tasks ---------------------------------------------------------------------------------

    def _identify(self, _: w.Identify) -> w.Event:
        identity = self.imds.identity()
        self.power.confirm(identity.attempt)
        # Before anybody ships a line of a trainer that is here.
        self.secrets.recall()
        return w.Identified(launched_at=identity.launched_at, has_trainer=self.trainer.found())

    def _fetch(self, task: w.Fetch) -> w.Event:
        self.trainer.gpus = self.gpus.ready()
        spec = self.courier.spec()
        # Before anything large: what nobody can have costs no download.
        self.secrets.fetch(spec.secrets)
        self._spec = spec
        self.aside.saving = spec.saving
        if not task.beside_trainer:
            self._prepare(spec)
        return w.Fetched(
            handles_save_signal=spec.handles_save_signal, stall_after_s=spec.stall_after_s
        )

    def _prepare(self, spec: JobSpec) -> None:
        """What the trainer uses, while there is none."""
        self.folders.make()
        if spec.workdir_sha256 is not None:
            self.courier.fetch_workdir(spec.workdir_sha256)
        Supplies(image=self.trainer.prepare, data=self.data.fetch, put=self.put).fetch(spec)

    def _take_head(self, _: w.TakeHead) -> w.Event:
        return w.HeadTaken(head=self.holder.take())

    def _restore(self, task: w.Restore) -> w.Event:
        self.checkpoints.restore(task.ref)
        return w.Restored(step=task.ref.step, moved_bytes=self.courier.carried.bytes)

    def _fall_back(self, task: w.FallBack) -> w.Event:
        return w.HeadTaken(head=self.holder.fall_back(task.damaged))

    def _commit(self, task: w.Commit) -> w.Event:
        began_s = time.monotonic()
        with self.aside.urgent():
            head = self.holder.commit(self.checkpoints.store(task.step), final=task.final)
        commit_s = time.monotonic() - began_s
        self.checkpoints.prune(task.step)
        self.aside.committed()
        return self._committed(head, commit_s)

    def _finalize(self, _: w.Finalize) -> w.Event:
        return self._committed(self.holder.finalize())

    def _commit_outputs(self, task: w.CommitOutputs) -> w.Event:
        self.aside.end()
        with contextlib.suppress(SecretsMissing):
            self._know_secrets()
        self.logs.ship(last=True)
        return self._committed(self.holder.finish(self.outputs.finish(task.step)))

    def _committed(self, head: Head, commit_s: float | None = None) -> w.Event:
        moved_bytes = self.courier.carried.bytes
        return w.Committed(head=head, commit_s=commit_s, moved_bytes=moved_bytes)

    def _keep_logs(self, _: w.KeepLogs) -> w.Event:
        self.aside.end()
        why = ""
        try:
            self._know_secrets()
        except (PortError, OSError, SecretsMissing) as error:
            # A secret is worth more than the last lines.
            why = f"the rest of the log stays here, since nobody knows its secrets: {error}"
        self.logs.ship(last=True)
        until_s = time.monotonic() + LAST_OUTPUTS_S
        with contextlib.suppress(GaveWay):
            self.outputs.send_changed(lambda: time.monotonic() < until_s)
        return w.LogsKept(why=why)

    def _know_secrets(self) -> None:
        """An ending may come before the Fetch, and after a reboot, which forgets them. Raises what
        JobSecrets.fetch raises."""
        if not self.secrets.are_known:
            self.secrets.fetch(self.courier.spec().secrets)

    def _farewell(self, task: w.Farewell) -> w.Event:
        self.secrets.remove()
        self.mailbox.post_report(task.report)
        self.data.let_go()
        return w.Posted()

    # -- the rest ------------------------------------------------------------------------------

    def _start_trainer(self, instruction: w.StartTrainer) -> None:
        assert self._spec is not None, "the trainer starts after the fetch"
        try:
            if instruction.fresh:
                self.checkpoints.clear()
            self.outputs.clear()
            self.secrets.lay(*ids(as_root=self._spec.as_root))
            # Before the start: what the trainer does at once is news as well.
            watch = self._watch(adopted=False)
            self.trainer.start(self._spec, self.secrets.environment)
        except Unstartable as error:
            self.put(self._unstartable(error))
        except (NotStarted, OSError) as error:
            self.put(w.Unfit(why=f"the trainer did not start: {error}"))
        else:
            self._begin(watch)

    def _unstartable(self, error: Unstartable) -> w.Event:
        said = tuple(str(error).splitlines())
        diagnosis = diagnose(error.code, oom_killed=False, log_tail=said, driver=driver_version())
        return w.TrainerExited(code=error.code, log_tail=said, diagnosis=diagnosis)

    def _adopt(self, _: w.Adopt) -> None:
        self.trainer.adopt()
        self._begin(self._watch(adopted=True))

    def _watch(self, *, adopted: bool) -> TrainerWatch:
        return TrainerWatch(
            self.trainer, self.folders, self.put, self.ship_now, self.logs, adopted=adopted
        )

    def _begin(self, watch: TrainerWatch) -> None:
        threading.Thread(target=watch.run, name="trainer", daemon=True).start()
        self.aside.start()

    def _signal(self, instruction: w.Signal) -> None:
        self.aside.signalled()
        pause = threading.Event()
        until_s = time.monotonic() + SIGNAL_S
        while time.monotonic() < until_s:
            if self.trainer.exited or self.trainer.signal(instruction.signal):
                return
            pause.wait(SIGNAL_EVERY_S)

    def _post(self, instruction: w.Post) -> None:
        self.mailbox.post_report(instruction.report)

    def _poll_order(self, _: w.PollOrder) -> w.Event | None:
        order = self.mailbox.order(self.courier.keys.attempt, self._order)
        if order is None:
            return None
        self._order = order
        self.aside.watched = order.watched
        return w.OrderSeen(order=order)

    def _read_head(self, _: w.ReadHead) -> w.Event:
        return w.HeadSeen(head=self.heads.read(self.courier.keys.job_id).head)

    def _ship_logs(self, _: w.ShipLogs) -> None:
        self.logs.ship()

    def _arm_timer(self, instruction: w.ArmTimer) -> None:
        self.power.arm(instruction.minutes)

    def _power_off(self, _: w.PowerOff) -> None:
        self.power.off()


def _has_no_room(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, NoRoom)


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
    w.Adopt: Deeds._adopt,
    w.Signal: Deeds._signal,
    w.Post: Deeds._post,
    w.PollOrder: Deeds._poll_order,
    w.ReadHead: Deeds._read_head,
    w.ShipLogs: Deeds._ship_logs,
    w.ArmTimer: Deeds._arm_timer,
    w.PowerOff: Deeds._power_off,
}
