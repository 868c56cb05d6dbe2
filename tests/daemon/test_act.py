"""Acts in a bounded time: a call that hangs holds up nothing else. And nothing is paid for that
has no receipt."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from spotrunner.adapters.mail import ObjectMailbox
from spotrunner.adapters.memory import MemoryObjects
from spotrunner.adapters.receipts import ObjectReceipts
from spotrunner.adapters.store.memory import MemoryStore
from spotrunner.core.catalogue import Architecture
from spotrunner.core.model import Attempt, LaunchRequest, Refused, Verb
from spotrunner.core.plan import Launch, Plan, PostOrder, Terminate
from spotrunner.core.states import AttemptState
from spotrunner.daemon.act import Actor
from spotrunner.daemon.request import AgentArchive, RequestMaker
from spotrunner.ports import Changes, Unavailable
from spotrunner.sim.cloud import SimCloud, SimSites, VirtualClock
from spotrunner.sim.faults import refusal
from spotrunner.sim.setups import plain_setup
from spotrunner.sim.stage import Inline
from spotrunner.sim.world import World
from tests.build import (
    INSTALLATION,
    JOB,
    T0,
    a_job,
    a_snapshot,
    an_attempt,
    an_offer,
    an_order,
    at,
)


class HangingCloud(SimCloud):
    """Ends nothing in one region: calls there wait until the test is over."""

    def __init__(self, world: World, clock: VirtualClock) -> None:
        super().__init__(world, clock)
        self.over = threading.Event()
        self.asked: list[str] = []

    def terminate(self, region: str, instance_ids: Sequence[str]) -> None:
        self.asked += instance_ids
        if region == "eu-west-1":
            self.over.wait(60)


@pytest.fixture
def cloud() -> Iterator[HangingCloud]:
    cloud = HangingCloud(World(plain_setup(T0), 0), VirtualClock(T0))
    yield cloud
    cloud.over.set()


def no_request(attempt: Attempt) -> LaunchRequest:
    raise AssertionError(f"nothing is launched here, {attempt.id} neither")


def test_a_region_that_hangs_costs_a_round_its_time_and_no_more(cloud: HangingCloud) -> None:
    clock = VirtualClock(T0)
    acts = [
        Terminate(region="eu-west-1", instance_id=f"i-{number:017x}", why="over")
        for number in range(40)
    ]
    acts.insert(0, Terminate(region="us-east-1", instance_id="i-00000000000000aaa", why="over"))
    objects = MemoryObjects(clock)
    with ThreadPoolExecutor(16) as executor:
        actor = Actor(
            store=MemoryStore(),
            cloud=cloud,
            mailbox=ObjectMailbox(objects),
            receipts=ObjectReceipts(objects),
            request_for=no_request,
            clock=clock,
            executor=executor,
            round_s=0.3,
        )
        # It returns although no call to the region ever does, and has left workers to others.
        assert actor.act(Plan(terminations=tuple(acts)), a_snapshot(), epoch=1) is False
        assert "i-00000000000000aaa" in cloud.asked
        assert len(cloud.asked) < 16
        assert executor.submit(lambda: "free").result(10) == "free"
        cloud.over.set()


# -- receipts ----------------------------------------------------------------------------------


class Bucket(MemoryObjects):
    """Remembers what was written, in its order."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.written: list[str] = []

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False
    ) -> str:
        etag = super().put(key, body, if_match=if_match, if_absent=if_absent)
        self.written.append(key)
        return etag


class Bench:
    """A daemon that leads, with one job on record."""

    def __init__(self) -> None:
        self.clock = VirtualClock(T0)
        self.objects = Bucket(self.clock)
        self.world = World(plain_setup(T0), 0)
        self.receipts = ObjectReceipts(self.objects)
        self.mailbox = ObjectMailbox(self.objects)
        self.store = MemoryStore()
        self.store.set_installation(INSTALLATION)
        self.store.add_job(a_job(), ())
        self.restart()

    def restart(self) -> None:
        self.epoch = self.store.lead("bench")
        self.actor = Actor(
            store=self.store,
            cloud=SimCloud(self.world, self.clock),
            mailbox=self.mailbox,
            receipts=self.receipts,
            request_for=RequestMaker(
                store=self.store,
                sites=SimSites(self.world),
                objects=self.objects,
                installation=INSTALLATION,
                bucket="home",
                home_region="us-east-1",
                archives={
                    Architecture.X86_64: AgentArchive(key="agent/archive.tar.gz", sha256="0" * 64)
                },
                endpoint_url=None,
            ),
            clock=self.clock,
            executor=Inline(),
        )

    def round(self, attempt: Attempt, *, launch: bool = False) -> None:
        """As the reconciler does: what is decided of the attempt is on record, then it is acted
        on. An order that was not posted is due again."""
        before = self.store.attempts([JOB])
        self.store.write(self.epoch, Changes(attempts=(attempt,)))
        order = attempt.order
        due = order is not None and attempt.state.live and order.n > attempt.order_posted_n
        plan = Plan(
            attempts=(attempt,),
            orders=(PostOrder(order=order),) if order is not None and due else (),
            launches=(Launch(attempt=attempt, why="wanted"),) if launch else (),
        )
        self.actor.act(plan, a_snapshot(attempts=before), self.epoch)

    def stored(self) -> Attempt:
        (attempt,) = self.store.attempts([JOB])
        return attempt

    def receipt(self) -> Attempt:
        receipt = self.receipts.read(f"{JOB}.1")
        assert receipt is not None
        return receipt

    def written(self) -> list[str]:
        """Since the last look."""
        found, self.objects.written = self.objects.written, []
        return found

    def refuse_receipts(self) -> None:
        self.objects.fail_next("put", Unavailable("a bad day"), prefix="ledger/")


RECEIPT, ORDER = f"ledger/{JOB}/{JOB}.1.json", f"mail/orders/{JOB}.1.json"


def ordered(attempt: Attempt, n: int, verb: Verb = Verb.RUN) -> Attempt:
    order = an_order(attempt, n=n, verb=verb)
    return dataclasses.replace(attempt, order=order, order_posted_n=n - 1)


def wanted() -> Attempt:
    """Placed in this round; where it is sold, it is launched."""
    offer = an_offer("us-east-1a")
    return ordered(an_attempt(1, AttemptState.PENDING, offer=offer, sent_s=None), 1)


def running(until_s: float = 1800, n: int = 1, verb: Verb = Verb.RUN) -> Attempt:
    return ordered(an_attempt(paid_until_s=until_s), n, verb)


def ending(until_s: float, n: int) -> Attempt:
    state = AttemptState.TERMINATING
    return ordered(an_attempt(1, state, paid_until_s=until_s), n, Verb.STOP)


def over(step_after: int | None = None) -> Attempt:
    return an_attempt(
        1,
        AttemptState.ENDED,
        paid_until_s=1800,
        cost_usd_micros=70_000,
        step_after=step_after,
    )


def test_a_launch_has_its_receipt_before_its_order_and_both_before_ec2_is_asked() -> None:
    bench = Bench()
    bench.round(wanted(), launch=True)
    assert bench.written() == [RECEIPT, ORDER]
    assert bench.receipt().state is AttemptState.PENDING
    assert bench.receipt().paid_until == at(1800)
    assert bench.stored().state is AttemptState.REQUESTED
    assert len(bench.world.truth(bench.clock.now())) == 1


def test_without_a_receipt_nothing_is_launched() -> None:
    bench = Bench()
    bench.refuse_receipts()
    bench.round(wanted(), launch=True)
    assert bench.written() == []
    assert bench.world.truth(bench.clock.now()) == ()
    assert bench.stored().sent_at is None
    bench.round(bench.stored(), launch=True)  # the next round
    assert bench.written() == [RECEIPT, ORDER]
    assert len(bench.world.truth(bench.clock.now())) == 1


def test_without_a_receipt_nothing_is_paid_on() -> None:
    bench = Bench()
    bench.round(running(1800, 1))
    bench.written()
    bench.refuse_receipts()
    bench.round(running(2700, 2))
    assert bench.written() == []
    order = bench.mailbox.order(f"{JOB}.1", None)
    assert order is not None
    assert order.paid_until == at(1800)
    # The store has it already, so that nothing looks new: it is written all the same.
    bench.round(bench.stored())
    assert bench.written() == [RECEIPT, ORDER]
    assert bench.receipt().paid_until == at(2700)


def test_a_step_costs_one_receipt_and_other_orders_none() -> None:
    bench = Bench()
    for n, until_s in enumerate([1800, 1800, 2700, 2700, 2700, 3600], start=1):
        bench.round(running(until_s, n))
    assert bench.written().count(RECEIPT) == 3
    assert bench.receipt().paid_until == at(3600)


def test_a_daemon_that_starts_trusts_no_receipt_that_it_did_not_write() -> None:
    bench = Bench()
    bench.round(running(1800, 1))
    bench.restart()
    bench.refuse_receipts()
    bench.round(running(1800, 2))
    assert bench.written() == [RECEIPT, ORDER], "those of the first daemon"
    bench.round(bench.stored())
    assert bench.written() == [RECEIPT, ORDER]


@pytest.mark.parametrize("until_s", [1800, 2700])
def test_an_order_to_stop_waits_for_no_receipt(until_s: float) -> None:
    bench = Bench()
    bench.round(running(1800, 1))
    bench.refuse_receipts()
    bench.round(ending(until_s, 2))
    order = bench.mailbox.order(f"{JOB}.1", None)
    assert order is not None
    assert order.verb is Verb.STOP


def test_an_end_is_told_once() -> None:
    bench = Bench()
    bench.round(running(1800, 1))
    bench.round(over())
    assert bench.written() == [RECEIPT, ORDER, RECEIPT]
    assert bench.receipt().cost_usd_micros == 70_000
    bench.round(over())
    assert bench.written() == []
    bench.round(over(step_after=300))  # HEAD could be read only now
    assert bench.written() == [RECEIPT]


def test_an_end_that_cannot_be_told_is_no_trouble() -> None:
    bench = Bench()
    bench.round(running(1800, 1))
    bench.refuse_receipts()
    bench.round(over())
    assert bench.receipt().state is AttemptState.RUNNING
    assert bench.stored().state is AttemptState.ENDED


def test_what_is_open_again_is_told_too() -> None:
    bench = Bench()
    bench.round(running(1800, 1))
    bench.round(over())
    bench.round(ending(1800, 2))
    assert bench.receipt().state is AttemptState.TERMINATING
    assert bench.receipt().cost_usd_micros is None


def test_a_refused_launch_has_cost_nothing_by_its_receipt_too() -> None:
    bench = Bench()
    attempt = wanted()
    bench.world.faults.script(refusal(attempt.offer.pool, attempt.offer.market, Refused.CAPACITY))
    bench.round(attempt, launch=True)
    assert bench.stored().state is AttemptState.ENDED
    assert bench.receipt().state is AttemptState.ENDED
    assert bench.receipt().cost_usd_micros == 0
    assert bench.written() == [RECEIPT, ORDER, RECEIPT]
