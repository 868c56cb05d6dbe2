"""All policies, by the names that job files give."""

from __future__ import annotations

from spotrunner.core.policy import Policies, Policy
from spotrunner.core.policy.cheapest import Cheapest
from spotrunner.core.policy.on_demand import OnDemand


def policies() -> Policies:
    every: tuple[Policy, ...] = (Cheapest(), OnDemand())
    return {policy.name: policy for policy in every}
