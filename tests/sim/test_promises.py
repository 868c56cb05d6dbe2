"""The promises, under weather harsher than EC2's: any order of interruptions, deaths, lost answers,
cut-off and killed agents, trainers that stall, daemons that die, stores that are restored, policies
that change their mind, prices, nights, commands and time. Every second of it `Tale.step` checks the
money, HEAD and the intents; and when the weather clears, the job ends or is paused for a named
reason, and nothing is left.
"""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from spotrunner.core.model import PriceLimit
from spotrunner.core.saving import ASKED_FOR, Saving
from spotrunner.core.windows import Window
from spotrunner.sim.trainer import Training
from spotrunner.sim.values import HARSH
from tests.daemon.fickle import Fickle
from tests.daemon.tale import Tale
from tests.sim.storm import Storm, thoroughly

BUDGET_USD_MICROS = 1_500_000

LIMIT = PriceLimit(after_s=600, pause_usd_micros=200_000, resume_usd_micros=190_000)
EVERY_DAY = tuple(range(7))
# The stories begin at noon, UTC.
WINDOWS = (
    Window(start_min=10 * 60, stop_min=14 * 60, tz="UTC", days=EVERY_DAY),
    Window(start_min=22 * 60, stop_min=21 * 60, tz="Asia/Shanghai", days=EVERY_DAY),
)


class Weather(Storm):
    @initialize(
        seed=st.integers(0, 2**16),
        window=st.sampled_from([None, None, *WINDOWS]),
        limit=st.sampled_from([None, LIMIT]),
        unattended_s=st.sampled_from([None, None, 7200]),
        stalls_at_step=st.sampled_from([None, None, None, 7_000]),
        saving=st.sampled_from([ASKED_FOR, Saving(auto=True)]),
    )
    def submit(
        self,
        seed: int,
        window: Window | None,
        limit: PriceLimit | None,
        unattended_s: int | None,
        stalls_at_step: int | None,
        saving: Saving,
    ) -> None:
        self.policy = Fickle()
        self.policy.wish = "spot"
        self.tale = Tale(
            manners=HARSH,
            seed=seed,
            training=Training(total_steps=20_000, stalls_at_step=stalls_at_step),
            policies={"fickle": self.policy},
            policy="fickle",
            budget_usd_micros=BUDGET_USD_MICROS,
            window=window,
            price_limit=limit,
            unattended_s=unattended_s,
            saving=saving,
        )


TestWeather = pytest.mark.slow(Weather.TestCase)
TestWeather.settings = thoroughly(60, 30)
