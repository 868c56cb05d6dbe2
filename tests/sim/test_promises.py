"""The promises, under weather harsher than EC2's: any order of interruptions, deaths, lost answers,
cut-off agents, daemons that die, policies that change their mind, commands and time. Every second
of it `Tale.step` checks the money, HEAD and the intents; and when the weather clears, the job ends
and nothing is left.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from spotrunner.core.model import CommandVerb, Market, Refused
from spotrunner.core.states import JobState
from spotrunner.sim.faults import Lose, refusal
from spotrunner.sim.trainer import Training
from spotrunner.sim.values import HARSH, LIGHT
from tests.daemon.fickle import Fickle
from tests.daemon.tale import JOB, Tale

BUDGET_USD_MICROS = 1_500_000


class Weather(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**16))
    def submit(self, seed: int) -> None:
        self.policy = Fickle()
        self.policy.wish = "spot"
        self.tale = Tale(
            manners=HARSH,
            seed=seed,
            training=Training(total_steps=20_000),
            policies={"fickle": self.policy},
            policy="fickle",
            budget_usd_micros=BUDGET_USD_MICROS,
        )

    @rule(seconds=st.integers(1, 900))
    def time_passes(self, seconds: int) -> None:
        self.tale.run(seconds)

    @precondition(lambda self: bool(self.tale.fleet.agents))
    @rule(which=st.integers(0, 9), notice=st.booleans())
    def ec2_interrupts(self, which: int, notice: bool) -> None:
        agents = list(self.tale.fleet.agents.values())
        record = agents[which % len(agents)].record
        if record.id in self._running() and record.market is Market.SPOT:
            self.tale.world.interrupt(self.tale.clock.now(), record.id, notice=notice)

    @precondition(lambda self: bool(self.tale.fleet.agents))
    @rule(which=st.integers(0, 9))
    def a_machine_dies(self, which: int) -> None:
        agents = list(self.tale.fleet.agents.values())
        record = agents[which % len(agents)].record
        if record.id in self._running():
            self.tale.world.fail(self.tale.clock.now(), record.id)

    @precondition(lambda self: bool(self.tale.fleet.agents))
    @rule(which=st.integers(0, 9), mute=st.booleans())
    def the_network_of_an_agent_changes(self, which: int, mute: bool) -> None:
        agents = list(self.tale.fleet.agents.values())
        agents[which % len(agents)].mute = mute

    @rule(
        action=st.sampled_from(["RunInstances", "TerminateInstances", "DescribeInstances"]),
        when=st.sampled_from(list(Lose)),
        times=st.integers(1, 5),
    )
    def answers_are_lost(self, action: str, when: Lose, times: int) -> None:
        self.tale.lose(action, when, times)

    @rule(meaning=st.sampled_from(list(Refused)), number=st.integers(0, 9))
    def a_pool_refuses(self, meaning: Refused, number: int) -> None:
        pools = sorted(self.tale.world.pools.offered("us-east-1"))
        market = Market(self.policy.wish) if self.policy.wish != "wait" else Market.SPOT
        self.tale.world.faults.script(refusal(pools[number % len(pools)], market, meaning, times=2))

    @rule(wish=st.sampled_from(["spot", "on-demand", "wait"]))
    def the_policy_changes_its_mind(self, wish: str) -> None:
        self.policy.wish = wish

    @rule()
    def the_mail_fails_once(self) -> None:
        self.tale.break_mail()

    @rule(retried=st.booleans())
    def the_answer_of_a_swap_is_lost(self, retried: bool) -> None:
        self.tale.objects.drop_answer_of_next_put(f"jobs/{JOB}/checkpoints/HEAD", retried=retried)

    @rule()
    def the_daemon_dies(self) -> None:
        self.tale.kill_daemon()

    @rule()
    def the_daemon_starts(self) -> None:
        self.tale.start_daemon()

    @rule()
    def the_user_asks_for_a_checkpoint(self) -> None:
        self.tale.command(JOB, CommandVerb.CHECKPOINT)

    @rule(verb=st.sampled_from([None, None, None, None, CommandVerb.CANCEL]))
    def the_user_may_cancel(self, verb: CommandVerb | None) -> None:
        if verb is not None:
            self.tale.command(JOB, verb)

    def teardown(self) -> None:
        if not hasattr(self, "tale"):
            return
        tale = self.tale
        tale.world.faults.clear()
        tale.world.faults.manners = dataclasses.replace(LIGHT)
        for agent in tale.fleet.agents.values():
            agent.mute = False
        self.policy.wish = "spot"
        tale.start_daemon()
        tale.until(self._is_quiet, 12 * 3600)
        assert tale.alive() == []

    def _is_quiet(self) -> bool:
        tale = self.tale
        stopped = tale.job().state.over or tale.job().state is JobState.PAUSED
        return stopped and not any(attempt.state.live for attempt in tale.attempts())

    def _running(self) -> set[str]:
        truth = self.tale.world.truth(self.tale.clock.now())
        return {record.id for record in truth if record.stage.value == "running"}


TestWeather = pytest.mark.slow(Weather.TestCase)
TestWeather.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
