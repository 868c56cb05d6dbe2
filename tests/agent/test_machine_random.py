"""Whatever happens in whatever order: the promises of the machine hold."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spotrunner.agent import words as w
from spotrunner.agent.machine import Machine
from spotrunner.core.model import Phase, TakeOver, Verb
from tests.agent.told import OLD, T0, Told, a_head, only

WRITES = (
    w.TakeHead,
    w.FallBack,
    w.Commit,
    w.Finalize,
    w.CommitOutputs,
    w.KeepLogs,
    w.ShipLogs,
)
TASKS = (w.Identify, w.Fetch, w.Restore, w.Farewell, *WRITES[:-1])

steps = st.integers(min_value=1, max_value=9)
heads = st.builds(
    a_head,
    st.none() | steps,
    attempt=st.just(OLD),
    generation=st.sampled_from([3, 5]),
    final=st.booleans(),
    done=st.sampled_from([None, None, None, "jobs/x/MANIFEST.json"]),
)
# What can happen by itself, at any time.
weather = st.one_of(
    st.builds(w.HeadSeen, head=st.none() | heads),
    st.builds(w.SaveTook, save_s=st.floats(0, 40)),
    st.just(w.Fenced()),
    st.just(w.ShuttingDown()),
)
# What the trainer does, as long as there is one.
trained = st.one_of(
    st.builds(w.Progressed, step=steps),
    st.builds(w.Saved, step=steps),
    st.builds(w.TrainerExited, code=st.sampled_from([0, 1, 75, 134, 137, 143])),
)
orders = st.fixed_dictionaries(
    {
        "n": st.integers(1, 30),
        "epoch": st.integers(1, 2),
        "verb": st.sampled_from([Verb.RUN, Verb.RUN, Verb.RUN, Verb.STOP]),
        "paid_until_s": st.integers(60, 1500),
        "replacement_ready": st.sampled_from([False, False, True]),
        "checkpoints_asked": st.integers(0, 3),
        "save_every_s": st.sampled_from([None, 120, 300]),
        "take_over": st.sampled_from(
            [None, TakeOver(attempt=OLD), TakeOver(attempt=OLD, now=True)]
        ),
    }
)
# One thing that happens: weather, the trainer's work, an order, an answer to the task (kind of),
# time passing, or the agent's death, with the task under way done or not.
happenings = st.one_of(
    st.tuples(st.just("weather"), weather),
    st.tuples(st.just("trained"), trained),
    st.tuples(st.just("order"), orders),
    st.tuples(st.just("notice"), st.integers(-20, 130)),
    st.tuples(st.just("answer"), st.sampled_from(["good", "good", "good", "undone", "bad"])),
    st.tuples(st.just("wait"), st.integers(0, 700)),
    st.tuples(st.just("killed"), st.booleans()),
)


class World:
    """Answers the machine's tasks as a world might that keeps HEAD for it, and its trainer, which
    outlives the agent."""

    def __init__(self) -> None:
        self.told = Told()
        self.head = a_head()
        self.started = False  # a trainer, by whichever agent
        self.code: int | None = None  # of the last one that has exited
        self.saved = 0  # the newest complete checkpoint on the disk
        self.watched = False

    # -- the agent -----------------------------------------------------------------------------

    def on(self, event: w.Event) -> None:
        self._follow(self.told.on(event))

    def wait(self, seconds: float) -> None:
        self._follow(self.told.wait_until((self.told.now - T0).total_seconds() + seconds))

    def orders(self, **what: Any) -> None:
        self._follow(self.told.orders(**what))

    def notice(self, in_s: int) -> None:
        self._follow(self.told.notice(in_s=in_s))

    def trains(self) -> None:
        self.told.trains()
        self._follow(self.told.said)

    def dies(self, *, done: bool) -> None:
        """The agent, and a new one starts: it has only what IMDS, HEAD and the mail say."""
        task = self.task()
        if self.told.machine.off:
            return
        if done and task is not None:
            self._good(task)
        self.told.machine, self.told.said = Machine(self.told.machine.config), []
        self.watched = False
        self.on(w.Started())
        self.on(w.OrderSeen(order=self.told.order))

    def task(self) -> w.Task | None:
        return self.told.machine._lane.task

    def answer(self, kind: str) -> None:
        task = self.task()
        # Who is off hears no answer: its task would stay, to be done again.
        if task is None or self.told.machine.off:
            return
        if kind == "good":
            self.on(self._good(task))
        elif kind == "bad" and isinstance(task, w.Restore):
            self.on(w.Damaged(why="torn"))
        elif kind == "bad" and isinstance(task, w.Commit | w.TakeHead | w.Finalize):
            self.on(w.Fenced(why="raced"))
        else:
            self.on(w.Undone(task=task, why="no answer", hopeless=kind == "bad"))

    # -- the trainer ---------------------------------------------------------------------------

    @property
    def lives(self) -> bool:
        return self.started and self.code is None

    def work(self, event: w.Event) -> None:
        """What the trainer does is heard by who watches it, and lies on the disk all the same."""
        if not self.lives:
            return
        if isinstance(event, w.Saved):
            self.saved = max(self.saved, event.step)
        if isinstance(event, w.TrainerExited):
            self.code = event.code
        if self.watched:
            self.on(event)

    def obey(self) -> None:
        if {w.Sig.STOP, w.Sig.ABORT, w.Sig.KILL} & set(self.told.signals()):
            self.work(w.TrainerExited(code=75))

    def _follow(self, said: list[w.Instruction]) -> None:
        for one in list(said):
            if isinstance(one, w.StartTrainer):
                assert not self.lives, "two trainers at once"
                self.started, self.code, self.watched = True, None, True
            elif isinstance(one, w.Adopt):
                self._adopted()

    def _adopted(self) -> None:
        assert self.started, "there is nothing to adopt"
        self.watched = True
        if self.saved:
            self.on(w.Saved(step=self.saved))
        if self.code is not None:
            self.on(w.TrainerExited(code=self.code))

    # -- HEAD ----------------------------------------------------------------------------------

    def _good(self, task: w.Task) -> w.Event:
        step = self.head.step or None
        if isinstance(task, w.Commit):
            assert task.step > self.head.step, "a step was uploaded twice"
            self.head = a_head(task.step, previous=step, final=task.final)
        elif isinstance(task, w.Finalize):
            self.head = a_head(step, final=True)
        elif isinstance(task, w.CommitOutputs):
            self.head = a_head(step, final=True, done="jobs/x/MANIFEST.json")
        elif isinstance(task, w.FallBack):
            before = self.head.previous
            self.head = a_head(before.step if before is not None else None)
        answers: dict[type[w.Task], w.Event] = {
            w.Identify: w.Identified(launched_at=T0, has_trainer=self.started),
            w.Fetch: w.Fetched(),
            w.TakeHead: w.HeadTaken(head=self.head),
            w.Restore: w.Restored(step=self.head.step),
            w.FallBack: w.HeadTaken(head=self.head),
            w.KeepLogs: w.LogsKept(),
            w.Farewell: w.Posted(),
        }
        return answers.get(type(task), w.Committed(head=self.head, commit_s=0.5))


def _happen(world: World, kind: str, what: Any) -> None:
    if kind == "weather":
        world.on(what)
    elif kind == "trained":
        world.work(what)
    elif kind == "order":
        world.orders(**what)
    elif kind == "notice":
        world.notice(what)
    elif kind == "answer":
        world.answer(what)
    elif kind == "wait":
        world.wait(what)
    else:
        world.dies(done=what)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), st.lists(happenings, max_size=40))
@example(
    True, [("notice", 0), ("trained", w.Saved(step=1)), ("wait", 300), *[("answer", "good")] * 2]
)
@example(False, [("weather", w.SaveTook(save_s=0.0)), ("trained", w.Saved(step=1))])
@example(True, [("killed", False), ("order", {"n": 9, "save_every_s": 120}), ("answer", "good")])
def test_promises(trains: bool, happened: list[tuple[str, Any]]) -> None:
    world = World()
    told = world.told
    if trains:
        world.trains()
    else:
        world.on(w.Started())
    for kind, what in happened:
        _happen(world, kind, what)
        _check(told)
    run_out(world)
    _check(told)
    assert told.machine.off, "it never ended"
    assert told.now <= told.at(7200), "it ran past the longest time it was ever paid for"


# A story without weather: whatever its agent is worth, nothing that was saved may be lost.
calm = st.one_of(
    st.tuples(st.just("trained"), st.builds(w.Progressed, step=steps)),
    st.tuples(st.just("trained"), st.builds(w.Saved, step=steps)),
    st.tuples(st.just("answer"), st.sampled_from(["good", "undone"])),
    st.tuples(st.just("wait"), st.integers(0, 5)),
    st.tuples(st.just("killed"), st.booleans()),
)
ends = st.sampled_from(["stop", "notice", "replaced", "unpaid", "goes down", "exits"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(calm, max_size=25), ends, st.lists(calm, max_size=6))
def test_an_agent_that_is_killed_at_any_moment_loses_nothing_that_was_saved(
    before: list[tuple[str, Any]], end: str, after: list[tuple[str, Any]]
) -> None:
    world = World()
    world.trains()
    for kind, what in before:
        _happen(world, kind, what)
    _begin_end(world, end)
    for kind, what in after:
        _happen(world, kind, what)
    run_out(world)
    assert world.head.step == world.saved
    assert world.head.final
    assert not world.lives


def _begin_end(world: World, end: str) -> None:
    if end == "notice":
        world.notice(120)
    elif end == "goes down":
        world.on(w.ShuttingDown())
    elif end == "exits":
        world.work(w.TrainerExited(code=75))
    else:
        now_s = int((world.told.now - T0).total_seconds())
        world.orders(
            verb=Verb.STOP if end == "stop" else Verb.RUN,
            replacement_ready=end == "replaced",
            paid_until_s=now_s + 300 if end == "unpaid" else 7200,
        )


def run_out(world: World) -> None:
    """The weather clears: tasks are answered, signals obeyed, and time passes."""
    told = world.told
    world.on(w.OrderSeen(order=told.order))
    for _ in range(4000):
        if told.machine.off:
            return
        world.obey()
        if world.task() is not None:
            world.answer("good")
        # An answer may be the last thing that it waited for: no time passes for who is off.
        if told.machine.off:
            return
        before = told.now
        told.now = max(told.machine.next_deadline(), told.now)
        world.on(w.Tick())
        # A deadline that does not move when it is served would spin the agent's loop.
        assert told.now > before or world.task() or told.machine.next_deadline() > before
    raise AssertionError("it does not end\n" + "\n".join(told.machine.story))


def _check(told: Told) -> None:
    """Of one agent's life."""
    starts = max(1, told.count(w.StartTrainer))
    assert starts <= 2, "started again more than once"
    for signal in (w.Sig.STOP, w.Sig.ABORT, w.Sig.KILL):
        assert told.signals().count(signal) <= starts
    assert told.count(w.Adopt) <= 1
    _check_fence(told.said)
    _check_off(told.said)
    for report in (post.report for post in only(told.said, w.Post)):
        _check_commits_before(told.said, report.phase)


def _check_fence(said: list[w.Instruction]) -> None:
    """Nothing is written once it was said that we are fenced."""
    fenced = [n for n, one in enumerate(said) if _says(one, Phase.FENCED)]
    assert not fenced or not any(isinstance(one, WRITES) for one in said[fenced[0] :])


def _check_off(said: list[w.Instruction]) -> None:
    """After the power is off nothing but the same is said."""
    off = [n for n, one in enumerate(said) if isinstance(one, w.PowerOff)]
    assert not off or all(isinstance(one, w.PowerOff) for one in said[off[0] :])


def _check_commits_before(said: list[w.Instruction], phase: Phase) -> None:
    if phase is Phase.DONE and not any(isinstance(one, w.CommitOutputs) for one in said):
        # ... unless HEAD had said so before we came
        assert not any(isinstance(one, w.StartTrainer | w.Adopt) for one in said)


def _says(one: w.Instruction, phase: Phase) -> bool:
    return isinstance(one, w.Post | w.Farewell) and one.report.phase is phase
