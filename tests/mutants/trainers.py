"""Mistakes with trainers that stall, outlive their agents, and are asked for checkpoints."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

TRAINERS = (
    # -- a stall ---------------------------------------------------------------------------------
    Mutant(
        "a stalled trainer is started again for ever",
        "agent/machine.py",
        "_RESTARTS = 1\n",
        "_RESTARTS = 1_000\n",
        "agent/test_machine_trainer.py::test_a_second_stall_ends_the_attempt_as_a_fault_of_its_place",
    ),
    Mutant(
        "a notice does not keep anybody from aborting",
        "agent/machine.py",
        "            if self._record.notice is None:\n                self._abort_when_stalled()\n",
        "            self._abort_when_stalled()\n",
        "agent/test_machine_trainer.py::test_with_a_notice_nobody_is_aborted_any_more",
    ),
    Mutant(
        "who tells a line an epoch is taken for stalled",
        "agent/pulse.py",
        "max(config.stall_least_s, by_steps_s, config.stall_silences * self._longest_s)",
        "max(config.stall_least_s, by_steps_s)",
        "agent/test_machine_trainer.py::test_who_tells_a_line_an_epoch_is_silent_in_between",
    ),
    Mutant(
        "a clock that jumps is a silence",
        "agent/machine.py",
        "            self._reins.pulse.jumped(now - before)\n",
        "",
        "agent/test_machine_trainer.py::test_a_clock_that_jumps_makes_nobody_silent",
    ),
    Mutant(
        "who was started again may be silent for ever",
        "agent/reins.py",
        "within_s=self.pulse.restart_s if again else None",
        "within_s=None",
        "agent/test_machine_trainer.py::test_one_that_was_started_again_has_as_long_as_the_first_start_took",
    ),
    Mutant(
        "a stalled trainer is paid on",
        "core/keep.py",
        " or report.is_stalled:\n",
        ":\n",
        "core/test_keep.py::test_a_trainer_that_stalls_is_paid_on_when_it_lives_again",
    ),
    # -- an agent that is killed -----------------------------------------------------------------
    Mutant(
        "a trainer that was found is owed no take-over",
        "agent/machine.py",
        "            self._claim.asked = True\n",
        "",
        "agent/test_machine_trainer.py::test_whatever_ends_it_on_the_way_back_commits_what_the_trainer_saves",
    ),
    Mutant(
        "nobody looks for a trainer once it ends",
        "agent/descent.py",
        "        if self.identify_by is not None:\n",
        "        if self.identify_by is not None and self.logs_due:\n",
        "agent/test_machine_trainer.py::test_an_agent_that_ends_before_it_knows_who_it_is_asks_again_first",
    ),
    Mutant(
        "a trainer that lives is started over",
        "agent/machine.py",
        "        elif self._reins.runs:\n            self._go_on()\n",
        "",
        "agent/test_machine_trainer.py::test_a_new_agent_goes_on_with_the_trainer_that_is_there",
    ),
    Mutant(
        "who was told to stop by an agent that died has failed",
        "agent/machine.py",
        "        elif was_stopped and reins.had_left(self._clock):\n",
        "        elif was_stopped and reins.told_at is not None:\n",
        "agent/test_machine_trainer.py::test_one_that_an_earlier_agent_had_stopped_has_not_failed",
    ),
    # -- saves by the clock ----------------------------------------------------------------------
    Mutant(
        "only the saves that were asked for count",
        "agent/reins.py",
        "        times = (self._save_said_at, record.newest_at)\n",
        "        times = (self._save_said_at,)\n",
        "agent/test_machine_trainer.py::test_whoever_saved_it_counts",
    ),
    Mutant(
        "what is saved is saved again",
        "agent/reins.py",
        " or not self._may_save_more(record):\n",
        ":\n",
        "agent/test_machine_trainer.py::test_nothing_new_is_not_saved_again",
    ),
    Mutant(
        "every wobble of the interval is a letter",
        "core/interval.py",
        "    if before is not None and abs(best_s - before) <= _HELD * before:\n",
        "    if before is not None and best_s == before:\n",
        "core/test_interval.py::test_a_figure_is_held_until_it_is_off_by_a_fifth",
    ),
    Mutant(
        "the way up of a later agent is the attempt's",
        "core/milestones.py",
        "getattr(known, name) or getattr(told, name)",
        "getattr(told, name) or getattr(known, name)",
        "core/test_follow.py::test_a_new_agent_adds_what_it_reaches_and_puts_nothing_back",
    ),
)
