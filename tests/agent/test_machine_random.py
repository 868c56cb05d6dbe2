"""Whatever happens in whatever order: the promises of the machine hold."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spotrunner.agent import words as w
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
    st.builds(w.Progressed, step=steps),
    st.builds(w.SaveTook, save_s=st.floats(0, 40)),
    st.builds(w.Saved, step=steps),
    st.builds(w.TrainerExited, code=st.sampled_from([0, 1, 75, 137, 143])),
    st.just(w.Fenced()),
    st.just(w.ShuttingDown()),
)
orders = st.fixed_dictionaries(
    {
        "n": st.integers(1, 30),
        "epoch": st.integers(1, 2),
        "verb": st.sampled_from([Verb.RUN, Verb.RUN, Verb.RUN, Verb.STOP]),
        "paid_until_s": st.integers(60, 1500),
        "replacement_ready": st.sampled_from([False, False, True]),
        "checkpoints_asked": st.integers(0, 3),
        "take_over": st.sampled_from(
            [None, TakeOver(attempt=OLD), TakeOver(attempt=OLD, now=True)]
        ),
    }
)
# One thing that happens: weather, an order, an answer to the task (kind of), or time passing.
happenings = st.one_of(
    st.tuples(st.just("weather"), weather),
    st.tuples(st.just("order"), orders),
    st.tuples(st.just("notice"), st.integers(-20, 130)),
    st.tuples(st.just("answer"), st.sampled_from(["good", "good", "good", "undone", "bad"])),
    st.tuples(st.just("wait"), st.integers(0, 400)),
)


class World:
    """Answers the machine's tasks as a world might that keeps HEAD for it."""

    def __init__(self) -> None:
        self.told = Told()
        self.head = a_head()

    def task(self) -> w.Task | None:
        return self.told.machine._lane.task

    def answer(self, kind: str) -> None:
        task = self.task()
        if task is None:
            return
        if kind == "good":
            self.told.on(self._good(task))
        elif kind == "bad" and isinstance(task, w.Restore):
            self.told.on(w.Damaged(why="torn"))
        elif kind == "bad" and isinstance(task, w.Commit | w.TakeHead | w.Finalize):
            self.told.on(w.Fenced(why="raced"))
        else:
            self.told.on(w.Undone(task=task, why="no answer", hopeless=kind == "bad"))

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
            self.head = a_head()
        answers: dict[type[w.Task], w.Event] = {
            w.Identify: w.Identified(launched_at=T0),
            w.Fetch: w.Fetched(),
            w.TakeHead: w.HeadTaken(head=self.head),
            w.Restore: w.Restored(step=self.head.step),
            w.FallBack: w.HeadTaken(head=self.head),
            w.KeepLogs: w.LogsKept(),
            w.Farewell: w.Posted(),
        }
        return answers.get(type(task), w.Committed(head=self.head, commit_s=0.5))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), st.lists(happenings, max_size=40))
@example(False, [("weather", w.SaveTook(save_s=0.0)), ("weather", w.Saved(step=1))])
def test_promises(trains: bool, happened: list[tuple[str, object]]) -> None:
    world = World()
    told = world.told
    if trains:
        told.trains()
    else:
        told.on(w.Started())
    for kind, what in happened:
        if kind == "weather":
            told.on(what)  # type: ignore[arg-type]
        elif kind == "order":
            told.orders(**what)  # type: ignore[arg-type]
        elif kind == "notice":
            assert isinstance(what, int)
            told.notice(in_s=what)
        elif kind == "answer":
            world.answer(str(what))
        else:
            assert isinstance(what, int)
            told.wait_until((told.now - T0).total_seconds() + what)
        _check(told)
    _run_out(world)
    _check(told)
    assert told.machine.off, "it never ended"
    assert told.now <= told.at(7200), "it ran past the longest time it was ever paid for"


def _run_out(world: World) -> None:
    """The weather clears: tasks are answered, signals obeyed, and time passes."""
    told = world.told
    told.on(w.OrderSeen(order=told.order))
    for _ in range(4000):
        if told.machine.off:
            return
        if {w.Sig.STOP, w.Sig.KILL} & set(told.signals()):
            told.on(w.TrainerExited(code=75))
        if world.task() is not None:
            world.answer("good")
        # An answer may be the last thing that it waited for: no time passes for who is off.
        if told.machine.off:
            return
        before = told.now
        told.now = max(told.machine.next_deadline(), told.now)
        told.on(w.Tick())
        # A deadline that does not move when it is served would spin the agent's loop.
        assert told.now > before or world.task() or told.machine.next_deadline() > before
    raise AssertionError("it does not end\n" + "\n".join(told.machine.story))


def _check(told: Told) -> None:
    assert told.signals().count(w.Sig.STOP) <= 1
    assert told.signals().count(w.Sig.KILL) <= 1
    assert told.count(w.StartTrainer) <= 1
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
        assert not any(isinstance(one, w.StartTrainer) for one in said)


def _says(one: w.Instruction, phase: Phase) -> bool:
    return isinstance(one, w.Post | w.Farewell) and one.report.phase is phase
