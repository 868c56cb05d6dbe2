"""The trainer of one attempt, in a container or without one: started, adopted, signalled, read.

Its first process is looked at directly and not through docker or systemd, so that a daemon of
theirs that is dead or hangs delays neither a signal nor the news of the end. They are asked once
it is gone, for the exit code; and where they give none, what the trainer's shell wrote down counts
(inside.sh). One that left no word at all was ended from outside: a fault of the machine.
"""

from __future__ import annotations

import contextlib
import enum
import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from spotrunner.agent.bare import Bare
from spotrunner.agent.container import Container
from spotrunner.agent.docker import Docker
from spotrunner.agent.first import First, oom_kills
from spotrunner.agent.folders import Folders
from spotrunner.agent.images import Image, Images, NoImage, PullFailed
from spotrunner.agent.runs import Launch, NotStarted, Runs, State, Unanswered
from spotrunner.agent.secrets import has_files
from spotrunner.agent.who import hand_over, ids
from spotrunner.agent.words import Sig
from spotrunner.core.model import NO_IMAGE, JobSpec
from spotrunner.ports import PortError

# How long an end that docker or systemd does not tell is waited for.
GONE_S = 10.0
_KILLED = 137
_MEANT = (0, 75)
# docker's init keeps SIGABRT to itself; the shell inside knows what is meant.
_ON_THE_WIRE = {Sig.ABORT: "SIGUSR2"}
# What ends a shell that does not listen yet, and is not meant to.
_NEEDS_LISTENER = (Sig.SAVE, Sig.ABORT)


class Kind(str, enum.Enum):
    CONTAINER = "container"
    BARE = "bare"


@dataclass(frozen=True, kw_only=True)
class Exit:
    """`code` as a shell has it: 128 + n for signal n. `lost`: why nobody can have meant it."""

    code: int
    oom_killed: bool = False
    lost: str = ""


@dataclass(frozen=True, kw_only=True)
class Word:
    """What the shell inside wrote of its end; `stopped`: somebody had sent SIGTERM."""

    code: int
    stopped: bool


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What the next agent has to know: how it was started, how often this machine had killed for
    want of memory by then, and what it was told. `first` is not known yet while it starts."""

    kind: Kind
    oom_kills: int
    told: frozenset[Sig] = frozenset()
    first: First | None = None


@dataclass(kw_only=True)
class Trainer:
    """One start a life, or an adoption: then `signal` and `poll`. Safe from two threads."""

    attempt: str
    job_id: str
    folders: Folders
    # what a payload may import of ours: the folder that holds the package `spotrunner.train`
    library_source: Path
    docker: Docker
    images: Images
    rank: int = 0
    nodes: int = 1
    # whether the trainer is given GPUs: as agent/gpus finds before the training
    gpus: bool = False
    # how often this machine has killed for want of memory since its boot
    oom_kills: Callable[[], int] = oom_kills
    # by which we have told it to end
    told: set[Sig] = field(default_factory=set, init=False)
    _image: str = field(default="", init=False)
    _kind: Kind = field(default=Kind.CONTAINER, init=False)
    _runs: Runs | None = field(default=None, init=False)
    _first: First | None = field(default=None, init=False)
    _oom_kills: int = field(default=0, init=False)
    _gone_s: float | None = field(default=None, init=False)
    _exit: Exit | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def name(self) -> str:
        return f"spotrunner-{self.attempt}"

    # -- the way up ----------------------------------------------------------------------------

    def prepare(self, spec: JobSpec) -> Image:
        """The image, where the job has one, and our library. Raises what Images.fetch raises."""
        self.lay_library()
        image = Image(name="", digest="", baked=False)
        if spec.image != NO_IMAGE:
            image = self.images.fetch(spec.image)
        self._image = image.name
        return image

    def lay_library(self) -> None:
        """Put our training library where the trainer sees it, and nothing else of ours."""
        package = self.folders.library / "spotrunner"
        shutil.rmtree(package, ignore_errors=True)
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(self.library_source, package / "train", ignore=ignored)

    def start(self, spec: JobSpec, secrets: Mapping[str, str] | None = None) -> None:
        """`secrets` are variables that nobody may list. Raises NotStarted, Unstartable, OSError."""
        kind = Kind.BARE if spec.image == NO_IMAGE else Kind.CONTAINER
        self._forget()
        self._kind, self._runs = kind, self._of(kind)
        for mark in (self._listening, self._exited):
            mark.unlink(missing_ok=True)
        self._hand_over(spec)
        # Before the start: the next agent has to know that there may be one.
        self._note()
        launch = Launch(
            spec=spec,
            image=self._image or self._there(spec),
            environment=self.environment(spec),
            secrets=secrets or {},
            gpus=self.gpus,
            gang=self.nodes > 1,
        )
        self._runs.start(launch)
        self._find_first()
        self._note()

    def _there(self, spec: JobSpec) -> str:
        """Of an agent that has adopted the first trainer, and starts the second: the image is there
        under the name that an earlier agent got it by."""
        if spec.image == NO_IMAGE:
            return ""
        try:
            return self.images.fetch(spec.image).name
        except (NoImage, PullFailed, PortError) as error:
            raise NotStarted(str(error)) from None

    def found(self) -> bool:
        """Whether an earlier agent of this attempt has started a trainer here that runs, or ended
        by itself. Nobody is asked where no agent has."""
        noted = self._noted()
        if noted is None:
            return False
        if (noted.first is not None and noted.first.lives) or self._exited.exists():
            return True
        with contextlib.suppress(Unanswered):
            state = self._of(noted.kind).state()
            return state is not None and (state.pid is not None or state.oom_killed)
        return False

    def adopt(self) -> None:
        """Take over what `found` has found."""
        noted = self._noted()
        assert noted is not None, "nothing is adopted that was not found"
        self._forget()
        self._kind, self._runs = noted.kind, self._of(noted.kind)
        self.told |= noted.told
        self._oom_kills = noted.oom_kills
        self._first = noted.first
        if self._first is None:
            self._find_first()

    # -- while it runs -------------------------------------------------------------------------

    @property
    def exited(self) -> bool:
        """As far as we know already: asks nobody."""
        return self._exit is not None

    def signal(self, sig: Sig) -> bool:
        """True when it is on its way; False while there is no trainer, or none that listens."""
        if sig in _NEEDS_LISTENER and not self._listening.exists():
            return False
        if self._runs is None and self._noted() is not None:
            self.adopt()
        if self._runs is None:
            return False
        if sig is not Sig.SAVE and sig not in self.told:
            self.told.add(sig)
            self._note()
        name = _ON_THE_WIRE.get(sig, sig.value)
        direct = self._first is not None and self._first.signal(name)
        if direct and (sig is not Sig.KILL or self._runs.ends_with_first):
            return True
        return self._runs.signal(name) or direct

    def poll(self) -> Exit | None:
        """None while it runs. May take as long as docker may, once it is gone."""
        with self._lock:
            if self._exit is None and not (self._first is not None and self._first.lives):
                self._exit = self._settle()
                if self._exit is not None:
                    self._close()
            return self._exit

    def environment(self, spec: JobSpec) -> dict[str, str]:
        """The user's variables and, where they clash, ours; our library precedes their paths."""
        envs = dict(spec.envs)
        paths = [str(self.folders.library), *filter(None, [envs.get("PYTHONPATH")])]
        with_secrets = has_files(spec.secrets)
        return {
            "PYTHONUNBUFFERED": "1",
            # What a stalled one prints on SIGABRT, and a crashed one by itself.
            "PYTHONFAULTHANDLER": "1",
            **({} if spec.as_root else self._home()),
            **envs,
            "PYTHONPATH": ":".join(paths),
            "SPOTRUNNER_CHECKPOINT_DIR": str(self.folders.checkpoints),
            "SPOTRUNNER_DATA_DIR": str(self.folders.data),
            "SPOTRUNNER_OUTPUT_DIR": str(self.folders.outputs),
            "SPOTRUNNER_LOG_DIR": str(self.folders.logs),
            "SPOTRUNNER_JOB": self.job_id,
            "SPOTRUNNER_ATTEMPT": self.attempt,
            "SPOTRUNNER_RANK": str(self.rank),
            "SPOTRUNNER_NODES": str(self.nodes),
            **({"SPOTRUNNER_SECRETS_DIR": str(self.folders.secrets)} if with_secrets else {}),
        }

    def _home(self) -> dict[str, str]:
        """What Python asks for about a user that the image does not know."""
        home = str(self.folders.home)
        return {"HOME": home, "USER": "trainer", "LOGNAME": "trainer"}

    # -- the end -------------------------------------------------------------------------------

    def _settle(self) -> Exit | None:
        """The first process is gone, or was never seen: what do the others say?"""
        assert self._runs is not None, "nothing was started"
        state: State | None = None
        answered = True
        try:
            state = self._runs.state()
        except Unanswered:
            answered = False
        if state is not None and state.code is not None:
            return self._exit_of(state)
        if state is not None and state.pid is not None and self._first is None:
            self._first = First.of(state.pid)
            return None
        if answered and state is None:
            return self._written("somebody removed it")
        return self._waited_out()

    def _exit_of(self, state: State) -> Exit:
        """What docker or systemd tells, in the light of what the shell inside wrote."""
        assert state.code is not None
        word = self._word()
        oom_killed = state.oom_killed or self._was_short_of_memory(state.code)
        if (oom_killed and state.code == _KILLED) or Sig.KILL in self.told:
            return Exit(code=state.code, oom_killed=oom_killed)
        if word is None and state.code == _KILLED:
            return Exit(code=state.code, lost="something outside of the job killed it")
        return replace(self._judged(state.code, word), oom_killed=oom_killed)

    def _was_short_of_memory(self, code: int) -> bool:
        """The kernel may have taken a worker of it, whose loss it tells in words of its own."""
        meant = code in _MEANT or (bool(self.told) and code != _KILLED)
        return not meant and self.oom_kills() > self._oom_kills

    def _waited_out(self) -> Exit | None:
        """It says that it runs, or says nothing, and no process of it is there."""
        now_s = time.monotonic()
        self._gone_s = now_s if self._gone_s is None else self._gone_s
        if now_s - self._gone_s < GONE_S:
            return None
        return self._written("its end was not told")

    def _written(self, why: str) -> Exit:
        """By the shell inside, which may have been killed first."""
        word = self._word()
        if word is None:
            return Exit(code=_KILLED, lost="" if Sig.KILL in self.told else why)
        return self._judged(word.code, word)

    def _judged(self, code: int, word: Word | None) -> Exit:
        """A docker daemon that is started again stops what it finds."""
        unasked = word is not None and word.stopped and Sig.STOP not in self.told
        return Exit(code=code, lost="something outside of the job stopped it" if unasked else "")

    def _word(self) -> Word | None:
        try:
            code, _, stopped = self._exited.read_text().strip().partition(" ")
            return Word(code=int(code), stopped=bool(stopped))
        except (OSError, ValueError):
            return None

    def _close(self) -> None:
        assert self._runs is not None
        words = self._runs.last_words()
        if words.strip():
            with contextlib.suppress(OSError), self.folders.trainer_log.open("a") as log:
                log.write(words)
        self._runs.remove()

    # -- what is kept --------------------------------------------------------------------------

    @property
    def _listening(self) -> Path:
        """Appears when a SIGUSR1 would no longer end the trainer's first shell (inside.sh)."""
        return self.folders.marks / "listening"

    @property
    def _exited(self) -> Path:
        """Appears when that shell has ended by itself, with its exit code."""
        return self.folders.marks / "exited"

    @property
    def _kept(self) -> Path:
        return self.folders.root / "trainer.json"

    def _of(self, kind: Kind) -> Runs:
        if kind is Kind.BARE:
            return Bare(name=self.name, folders=self.folders)
        return Container(name=self.name, folders=self.folders, docker=self.docker)

    def _forget(self) -> None:
        self.told.clear()
        self._first = self._exit = self._gone_s = None
        self._oom_kills = self.oom_kills()

    def _find_first(self) -> None:
        """Where it has ended already, or is not told, `poll` finds out."""
        assert self._runs is not None
        with contextlib.suppress(Unanswered):
            state = self._runs.state()
            if state is not None and state.pid is not None:
                self._first = First.of(state.pid)

    def _hand_over(self, spec: JobSpec) -> None:
        folders = self.folders
        folders.home.mkdir(exist_ok=True)
        folders.marks.mkdir(exist_ok=True)
        folders.trainer_log.touch()
        hand_over(folders.written, *ids(as_root=spec.as_root))

    def _note(self) -> None:
        """A full disk must not keep a signal from the trainer."""
        first = self._first
        fields: dict[str, object] = {"kind": self._kind.value, "oom_kills": self._oom_kills}
        fields["told"] = sorted(sig.value for sig in self.told)
        if first is not None:
            fields |= {"pid": first.pid, "since": first.since}
        part = self._kept.with_suffix(".part")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(fields))
            part.replace(self._kept)

    def _noted(self) -> Noted | None:
        """None where nothing was ever started here."""
        try:
            fields = json.loads(self._kept.read_text())
            pid, since = fields.get("pid"), fields.get("since")
            return Noted(
                kind=Kind(fields["kind"]),
                oom_kills=int(fields["oom_kills"]),
                told=frozenset(map(Sig, fields["told"])),
                first=None if pid is None else First(pid=int(pid), since=int(since)),
            )
        except (OSError, ValueError, LookupError):
            return None
