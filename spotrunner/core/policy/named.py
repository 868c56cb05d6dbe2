"""All policies, by the names that job files give."""

from __future__ import annotations

from spotrunner.core.policy import Policies, Policy
from spotrunner.core.policy.cheapest import Cheapest
from spotrunner.core.policy.deadline import Deadline
from spotrunner.core.policy.greedy import Greedy
from spotrunner.core.policy.on_demand import OnDemand
from spotrunner.core.policy.planner import Planner
from spotrunner.core.policy.tables import NO_TABLES, Tables
from spotrunner.core.policy.uniform_progress import UniformProgress


def policies(tables: Tables = NO_TABLES) -> Policies:
    """`tables` are the planner's; without them it decides as `deadline` does."""
    every: tuple[Policy, ...] = (
        Cheapest(),
        Deadline(),
        Greedy(),
        OnDemand(),
        Planner(tables),
        UniformProgress(),
    )
    return {policy.name: policy for policy in every}
