"""Everything that may happen to an installation, as rules: EC2's weather, machines and networks
that fail, daemons that die, stores that are restored, clocks, prices, users and time."""

from __future__ import annotations

import dataclasses
import datetime as dt

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from spotrunner.core.model import Attempt, CommandVerb, Market, Pause, Refused
from spotrunner.core.money import START_S, dearest_usd_micros_hour
from spotrunner.sim.agents import SimAgent
from spotrunner.sim.faults import Lose, refusal
from spotrunner.sim.values import LIGHT
from tests.daemon.fickle import Fickle
from tests.daemon.tale import JOB, Tale

# What a g4dn.xlarge may cost in a storm: below and above any limit, and as much as on-demand.
PRICES = (150_000, 195_000, 205_000, 300_000, 587_000)
USUAL_USD_MICROS = 160_000


def thoroughly(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


class Storm(RuleBasedStateMachine):
    """Whoever inherits has an `initialize` that sets these."""

    tale: Tale
    policy: Fickle
    jobs: tuple[str, ...] = (JOB,)

    # -- time ----------------------------------------------------------------------------------

    @rule(seconds=st.integers(1, 900))
    def time_passes(self, seconds: int) -> None:
        self.tale.run(seconds)

    @rule(hours=st.sampled_from([0.5, 1, 3]))
    def the_daemon_is_away_for_hours(self, hours: float) -> None:
        self.tale.kill_daemon()
        self.tale.run(hours * 3600)
        self.tale.start_daemon()

    @rule(skew_s=st.integers(-300, 300))
    def the_daemon_starts_on_a_host_with_a_wrong_clock(self, skew_s: int) -> None:
        self.tale.daemon_clock.skew = dt.timedelta(seconds=skew_s)
        self.tale.start_daemon()

    # -- EC2 -----------------------------------------------------------------------------------

    @precondition(lambda self: bool(self.tale.fleet.agents))
    @rule(which=st.integers(0, 9), notice=st.booleans())
    def ec2_interrupts(self, which: int, notice: bool) -> None:
        record = self._agent(which).record
        if record.id in self._running() and record.market is Market.SPOT:
            self.tale.world.interrupt(self.tale.clock.now(), record.id, notice=notice)

    @precondition(lambda self: bool(self.tale.fleet.agents))
    @rule(which=st.integers(0, 9))
    def a_machine_dies(self, which: int) -> None:
        record = self._agent(which).record
        if record.id in self._running():
            self.tale.world.fail(self.tale.clock.now(), record.id)

    @precondition(lambda self: bool(self.tale.fleet.agents))
    @rule(which=st.integers(0, 9), mute=st.booleans())
    def the_network_of_an_agent_changes(self, which: int, mute: bool) -> None:
        self._agent(which).mute = mute

    @precondition(lambda self: bool(self.tale.fleet.agents))
    @rule(which=st.integers(0, 9), done=st.booleans())
    def an_agent_is_killed(self, which: int, done: bool) -> None:
        self._agent(which).kill(self.tale.clock.now(), done=done)

    @precondition(lambda self: bool(self.tale.fleet.agents))
    @rule(which=st.integers(0, 9))
    def a_trainer_stalls(self, which: int) -> None:
        trainer = self._agent(which).trainer
        if trainer is not None:
            trainer.stall(self.tale.clock.now())

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

    @rule(usd_micros=st.sampled_from(PRICES), number=st.integers(0, 9))
    def the_price_moves(self, usd_micros: int, number: int) -> None:
        """In one zone, or in all of them."""
        zones = ("us-east-1a", "us-east-1b", "eu-west-1a")
        self.tale.price(usd_micros, zones[number : number + 1])

    # -- S3 and the store ----------------------------------------------------------------------

    @rule()
    def the_mail_fails_once(self) -> None:
        self.tale.break_mail()

    @rule(retried=st.booleans(), number=st.integers(0, 1))
    def the_answer_of_a_swap_is_lost(self, retried: bool, number: int) -> None:
        job_id = self.jobs[number % len(self.jobs)]
        self.tale.objects.drop_answer_of_next_put(
            f"jobs/{job_id}/checkpoints/HEAD", retried=retried
        )

    @rule()
    def a_receipt_is_not_written(self) -> None:
        self.tale.break_receipts()

    @rule()
    def the_store_is_backed_up(self) -> None:
        self.tale.back_up()

    @rule()
    def the_store_is_restored(self) -> None:
        self.tale.restore_backup()

    # -- the daemon ----------------------------------------------------------------------------

    @rule()
    def the_daemon_dies(self) -> None:
        self.tale.kill_daemon()

    @rule()
    def the_daemon_starts(self) -> None:
        self.tale.start_daemon()

    @rule(wish=st.sampled_from(["spot", "on-demand", "wait"]))
    def the_policy_changes_its_mind(self, wish: str) -> None:
        self.policy.wish = wish

    # -- users ---------------------------------------------------------------------------------

    @rule(
        number=st.integers(0, 1),
        verb=st.sampled_from([CommandVerb.CHECKPOINT, CommandVerb.PAUSE, CommandVerb.RESUME]),
    )
    def the_user_commands(self, number: int, verb: CommandVerb) -> None:
        self._tell(number, verb)

    @rule(number=st.integers(0, 1), budget=st.sampled_from([50_000, 700_000, 1_500_000, 3_000_000]))
    def the_user_sets_another_budget(self, number: int, budget: int) -> None:
        self._tell(number, CommandVerb.EXTEND, budget)

    @rule(number=st.integers(0, 1), dice=st.integers(0, 4))
    def the_user_may_cancel(self, number: int, dice: int) -> None:
        if dice == 4:
            self._tell(number, CommandVerb.CANCEL)

    @rule(minutes=st.sampled_from([None, 5, 60]))
    def the_installation_is_held(self, minutes: int | None) -> None:
        until = dt.timedelta(minutes=minutes or 0)
        self.tale.store.hold(self.tale.clock.now() + until if minutes else None)

    # -- the weather clears --------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "tale"):
            return
        tale = self.tale
        tale.world.faults.clear()
        tale.world.faults.manners = dataclasses.replace(LIGHT)
        for agent in tale.fleet.agents.values():
            agent.mute = False
        tale.price(USUAL_USD_MICROS)
        tale.daemon_clock.skew = dt.timedelta()
        tale.store.hold(None)
        self.policy.wish = "spot"
        for job in tale.store.jobs():
            tale.command(job.id, CommandVerb.RESUME)
        tale.start_daemon()
        tale.until(self._is_quiet, 12 * 3600)
        assert tale.alive() == []
        self._ledger_is_right_or_estimated()

    def _is_quiet(self) -> bool:
        """Every job is over, or paused for a reason that it names, and nothing of any is left."""
        jobs = self.tale.store.jobs()
        if any(attempt.state.live for attempt in self.tale.all_attempts()):
            return False
        paused = [job for job in jobs if not job.state.over]
        return all(job.pause not in (None, Pause.USER) and job.reason for job in paused)

    def _ledger_is_right_or_estimated(self) -> None:
        """EC2 tells of ends some seconds late, and a minute late where an instance powered itself
        off; in doubt the dearer is booked."""
        for attempt in self.tale.all_attempts():
            booked = attempt.cost_usd_micros or 0
            billed = self.tale.billed_usd_micros_of(attempt.id)
            two_minutes = dearest_usd_micros_hour(attempt) // 30
            assert billed <= booked, f"{billed} of {booked} micro-dollars: {attempt}"
            in_doubt = attempt.estimated or self._price_moved_at_a_start(attempt)
            assert in_doubt or booked <= billed + two_minutes, f"{billed}: {attempt}"

    def _price_moved_at_a_start(self, attempt: Attempt) -> bool:
        """Of an instance-hour: EC2 does not tell to the second when one begins."""
        begin, pools = attempt.launched_at or attempt.intent_at, self.tale.world.pools
        starts = [begin + dt.timedelta(hours=n) for n in range(len(attempt.hour_prices_usd_micros))]
        minute = dt.timedelta(seconds=START_S)
        pool = attempt.offer.pool
        return any(pools.spot(pool, at) != pools.spot(pool, at + minute) for at in starts)

    # -- inside --------------------------------------------------------------------------------

    def _agent(self, which: int) -> SimAgent:
        agents = list(self.tale.fleet.agents.values())
        return agents[which % len(agents)]

    def _tell(self, number: int, verb: CommandVerb, budget: int | None = None) -> None:
        job_id = self.jobs[number % len(self.jobs)]
        if self.tale.store.job(job_id) is not None:
            self.tale.command(job_id, verb, budget_usd_micros=budget)

    def _running(self) -> set[str]:
        truth = self.tale.world.truth(self.tale.clock.now())
        return {record.id for record in truth if record.stage.value == "running"}
