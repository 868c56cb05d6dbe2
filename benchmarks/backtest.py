"""How fast a back-test runs: the daemon's own decisions over a synthetic month.

    python benchmarks/backtest.py [--runs N] [--policy NAME] [-o json] [--check]

An 8-hour job with 9 pools in three regions. `--check` exits with 1 when one core simulates less
than 100,000 seconds a second, or two take more than 60 s for 200 runs. Run it on an idle machine;
how fast it is by the CPU time of the one core, which others hardly disturb, is told beside it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import sys
import time

from spotrunner.core.model import JobSpec, Pool
from spotrunner.core.policy.named import policies
from spotrunner.sim import backtest
from spotrunner.sim.backtest import Setting, summary
from spotrunner.sim.history import History, PoolHistory
from spotrunner.sim.weather import Climate, spot_prices

TIMES_REAL_TIME = 100_000
MOST_S, MOST_S_RUNS = 60.0, 200
START = dt.datetime(2026, 10, 1, tzinfo=dt.timezone.utc)
DAYS = 30
KIND, ON_DEMAND = "g5.xlarge", 1_006_000
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
WORK_S, DEADLINE_S = 8 * 3600, 12 * 3600
# Runs on one core are few: they are the same ones.
ONE_CORE_RUNS = 20


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures the back-test.")
    parser.add_argument("--runs", type=int, default=MOST_S_RUNS)
    parser.add_argument("--policy", choices=sorted(policies()), default="deadline")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    setting = _setting(asked.policy, asked.runs)
    speed, cpu_speed = _speed(_setting(asked.policy, min(asked.runs, ONE_CORE_RUNS)))
    begun = time.perf_counter()
    test = backtest.run(setting, processes=2)
    seconds = time.perf_counter() - begun
    found = {
        "benchmark": "backtest",
        "policy": asked.policy,
        "pools": len(setting.history.pools),
        "times_real_time_one_core": round(speed),
        "times_real_time_cpu": round(cpu_speed),
        "times_real_time_limit": TIMES_REAL_TIME,
        "runs": asked.runs,
        "seconds_two_cores": round(seconds, 2),
        "limit_s": MOST_S * asked.runs / MOST_S_RUNS,
        "missed": summary(test, asked.policy).missed,
        "python": sys.version.split()[0],
    }
    if asked.output == "json":
        print(json.dumps(found, indent=2))
    else:
        print(
            f"{asked.policy}: {speed:,.0f} times real time on one core"
            f" ({cpu_speed:,.0f} by its CPU time);"
            f" {asked.runs} runs of 8 h with 9 pools in {seconds:.1f} s on two"
        )
    wrong = _wrong(speed, seconds, MOST_S * asked.runs / MOST_S_RUNS)
    if asked.check and wrong:
        print("\n".join(wrong), file=sys.stderr)
    return int(asked.check and bool(wrong))


def _speed(setting: Setting) -> tuple[float, float]:
    """Simulated seconds a second, and a second of CPU time, of runs alone and with everything that
    belongs to them."""
    begun, cpu_begun = time.perf_counter(), time.process_time()
    test = backtest.run(setting, processes=1)
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
    simulated_s = sum(run.finish_s or 0.0 for run in test.of(setting.names[0]))
    return simulated_s / seconds, simulated_s / cpu_s


def _wrong(speed: float, seconds: float, limit_s: float) -> list[str]:
    wrong = []
    if speed < TIMES_REAL_TIME:
        wrong.append(f"{speed:,.0f} times real time: the limit is {TIMES_REAL_TIME:,}")
    if seconds > limit_s:
        wrong.append(f"{seconds:.1f} s on two cores: the limit is {limit_s:g} s")
    return wrong


def _setting(policy: str, runs: int) -> Setting:
    end = START + dt.timedelta(days=DAYS)
    climates = [
        Climate(
            pool=Pool(region=region, zone=f"{region}{letter}", instance_type=KIND),
            on_demand_usd_micros=ON_DEMAND,
            quality=0.5,
        )
        for region in REGIONS
        for letter in "abc"
    ]
    prices = spot_prices(random.Random(1), climates, START, end)
    pools = tuple(
        PoolHistory(
            pool=climate.pool,
            on_demand_usd_micros_hour=ON_DEMAND,
            prices=prices[climate.pool],
            first_at=START,
        )
        for climate in climates
    )
    spec = JobSpec(
        name="benchmark",
        run="true",
        image="tensorflow/tensorflow:2.17.0-gpu",
        instance_types=(KIND,),
        regions=REGIONS,
        work_s=WORK_S,
    )
    return Setting(
        spec=spec,
        history=History(start=START, end=end, pools=pools, source="synthetic weather"),
        names=(policy,),
        deadline_s=DEADLINE_S,
        runs=runs,
    )


if __name__ == "__main__":
    sys.exit(main())
