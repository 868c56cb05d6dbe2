"""How long steps take and wait, by a clock that the test moves."""

from __future__ import annotations

from spotrunner.train.times import EVERY, StepTimes, Taken


class Run:
    """A trainer whose steps take `works_s`, after a batch that comes `late_s` after it is asked."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.times = StepTimes(lambda: self.now_s)
        self.times.starts()
        self._step = 0

    def steps(self, count: int, *, works_s: float, late_s: float, of_each: int = 1) -> None:
        for _ in range(count):
            step, self._step = self._step, self._step + of_each
            is_looked_at = step % EVERY == 0
            if is_looked_at and late_s <= 0:
                self.times.made(step)
            self.times.begins(step)
            self.now_s += max(0.0, late_s)
            if is_looked_at and late_s > 0:
                self.times.made(step)
            self.now_s += works_s
            self.times.ends(of_each)


def test_a_batch_that_lies_ready_is_not_waited_for() -> None:
    run = Run()
    run.steps(50, works_s=0.25, late_s=0)
    assert run.times.take() == Taken(step_s=0.25, input_wait_share=0)


def test_a_batch_that_is_late_is_waited_for() -> None:
    run = Run()
    run.steps(50, works_s=0.25, late_s=0.75)
    assert run.times.take() == Taken(step_s=1.0, input_wait_share=0.75)


def test_each_time_tells_of_the_steps_since_the_last() -> None:
    run = Run()
    run.steps(50, works_s=0.5, late_s=0.5)
    assert run.times.take() == Taken(step_s=1.0, input_wait_share=0.5)
    assert run.times.take() is None
    run.steps(14, works_s=0.5, late_s=0)
    assert run.times.take() == Taken(step_s=0.5, input_wait_share=0)


def test_the_first_step_of_a_fit_tells_nothing() -> None:
    """It compiles, and its batch cannot be there yet."""
    run = Run()
    run.steps(1, works_s=30.0, late_s=30.0)
    assert run.times.take() is None
    run.steps(7, works_s=0.5, late_s=0)
    assert run.times.take() == Taken(step_s=0.5, input_wait_share=0)
    run.times.starts()
    run.steps(1, works_s=30.0, late_s=30.0)
    assert run.times.take() is None


def test_between_steps_the_time_is_not_theirs() -> None:
    """Saves and validations."""
    run = Run()
    run.steps(5, works_s=0.5, late_s=0)
    run.now_s += 100
    run.steps(5, works_s=0.5, late_s=0)
    taken = run.times.take()
    assert taken is not None
    assert taken.step_s == 0.5


def test_few_steps_of_which_none_was_looked_at() -> None:
    run = Run()
    run.steps(2, works_s=0.5, late_s=0)
    assert run.times.take() == Taken(step_s=0.5, input_wait_share=None)


def test_several_steps_at_once() -> None:
    run = Run()
    run.steps(20, works_s=2.0, late_s=0, of_each=4)
    taken = run.times.take()
    assert taken is not None
    assert taken.step_s == 0.5
