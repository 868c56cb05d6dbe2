"""Which time counts as training, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest

from spotrunner.agent.steady import ENOUGH_S, WINDOW_S, Steady
from spotrunner.agent.words import Progressed


class Trainer:
    """Tells a line every `every_s`, with a look at the GPUs before each."""

    def __init__(self, every_s: float = 10.0) -> None:
        self.steady = Steady()
        self.step = 0
        self.at_s = 0.0
        self._every_s = every_s

    def trains(self, lines: int, busy_share: float = 0.9, **told: Any) -> None:
        for _ in range(lines):
            self.steady.looked(busy_share)
            self.step += 50
            self.at_s += self._every_s
            self.steady.progressed(Progressed(step=self.step, **told), self.at_s)

    def does_something_else(self, span_s: float) -> None:
        """And tells the same step again when it is over, as after a validation."""
        for _ in range(int(span_s / 10)):
            self.steady.looked(0.0)
        self.at_s += span_s
        self.steady.progressed(Progressed(step=self.step), self.at_s)


def test_two_minutes_of_steps_are_needed() -> None:
    trainer = Trainer()
    trainer.does_something_else(300)  # boot and restore
    trainer.trains(1, busy_share=0.1)  # the compilation
    trainer.trains(int(ENOUGH_S / 10) - 1)
    assert trainer.steady.busy_share is None
    assert trainer.steady.step_s is None
    trainer.trains(1)
    assert trainer.steady.busy_share == 0.9
    assert trainer.steady.step_s == 0.2


def test_what_is_no_training_does_not_count() -> None:
    trainer = Trainer()
    trainer.trains(10)
    trainer.does_something_else(600)
    trainer.trains(10)
    assert trainer.steady.busy_share == 0.9
    assert trainer.steady.step_s == 0.2


def test_a_new_trainer_compiles_anew() -> None:
    trainer = Trainer()
    trainer.trains(20)
    trainer.steady.restarted()
    trainer.step = 100  # from its checkpoint
    trainer.trains(1, busy_share=0.0)
    trainer.trains(1, busy_share=0.0)
    trainer.trains(3)
    assert trainer.steady.busy_share == 0.9


def test_only_the_last_minutes_count() -> None:
    trainer = Trainer()
    trainer.trains(100, busy_share=0.1, input_wait_share=0.8)
    trainer.trains(int(WINDOW_S / 10), busy_share=0.7, input_wait_share=0.1)
    assert trainer.steady.busy_share == 0.7
    assert trainer.steady.input_wait_share == 0.1


def test_shares_are_weighted_by_their_time() -> None:
    trainer = Trainer()
    trainer.trains(12, input_wait_share=0.2, gradient_sync_share=0.5)
    trainer.at_s += 90  # a line that took ten times as long
    trainer.trains(1, input_wait_share=0.8)
    assert trainer.steady.input_wait_share == pytest.approx(0.5)
    assert trainer.steady.gradient_sync_share == 0.5


def test_a_line_an_hour_is_enough_of_its_own() -> None:
    trainer = Trainer(every_s=3600)
    trainer.trains(3)
    assert trainer.steady.busy_share == 0.9
    assert trainer.steady.step_s == 72


def test_the_trainer_knows_its_step_better_than_its_lines_do() -> None:
    trainer = Trainer()
    trainer.trains(20, step_s=0.123456)
    assert trainer.steady.step_s == 0.1235


def test_without_looks_and_shares_nothing_is_told_of_them() -> None:
    steady = Steady()
    for line in range(50):
        steady.progressed(Progressed(step=line), 10.0 * line)
    assert steady.step_s == 10
    assert steady.busy_share is None
    assert steady.input_wait_share is None
