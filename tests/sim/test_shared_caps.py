"""Two jobs under caps that they share, per day and in total, in any weather: accrued + reserved
<= cap at every second, and EC2's own bill too, also over midnight and over restarts that bring
other caps (`Tale.step`, tests/daemon/auditor.py)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from spotrunner.core.caps import Bound, Caps
from spotrunner.sim.trainer import Training
from spotrunner.sim.values import HARSH
from tests.daemon.fickle import Fickle
from tests.daemon.tale import JOB, T0, Tale, a_spec
from tests.sim.storm import Storm, thoroughly

OTHER = "job-bbbb"
SOME = st.sampled_from([400_000, 800_000, 2_000_000])
BOUNDS = st.builds(
    Bound,
    total_usd_micros=st.none() | SOME,
    day_usd_micros=SOME,
)
CAPS = st.builds(
    Caps,
    tz=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
    installation=BOUNDS,
    owners=st.just({}) | st.fixed_dictionaries({"alice": BOUNDS}),
    each_owner=st.just(Bound()) | BOUNDS,
)


class SharedCaps(Storm):
    jobs = (JOB, OTHER)

    @initialize(
        seed=st.integers(0, 2**16),
        caps=CAPS,
        owner=st.sampled_from(["alice", "bob"]),
        budget=st.none() | SOME,
        sweep_budget=st.none() | SOME,
        # shortly before a midnight of one of the zones, or at noon
        start=st.sampled_from(
            [T0.replace(hour=h, minute=m) for h, m in ((12, 0), (17, 40), (23, 10))]
        ),
    )
    def submit(
        self,
        seed: int,
        caps: Caps,
        owner: str,
        budget: int | None,
        sweep_budget: int | None,
        start: dt.datetime,
    ) -> None:
        self.policy = Fickle()
        self.policy.wish = "spot"
        sweep: dict[str, Any] = {"sweep": "lr", "sweep_budget_usd_micros": sweep_budget}
        self.tale = Tale(
            manners=HARSH,
            seed=seed,
            start=start,
            caps=caps,
            training=Training(total_steps=20_000),
            policies={"fickle": self.policy},
            policy="fickle",
            owner="alice",
            budget_usd_micros=budget,
            **sweep,
        )
        other = a_spec(policy="fickle", owner=owner, budget_usd_micros=None, **sweep)
        self.tale.submit(other, OTHER)
        self.tale.back_up()

    @rule(caps=CAPS)
    def the_daemon_starts_with_other_caps(self, caps: Caps) -> None:
        """In the same zone: another one cuts the days anew."""
        tz = self.tale.caps.tz
        self.tale.caps = Caps(
            tz=tz,
            installation=caps.installation,
            owners=caps.owners,
            each_owner=caps.each_owner,
        )
        self.tale.start_daemon()


TestSharedCaps = pytest.mark.slow(SharedCaps.TestCase)
TestSharedCaps.settings = thoroughly(40, 25)
