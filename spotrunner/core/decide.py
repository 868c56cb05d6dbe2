"""One round: everything we know in, everything we do out. Pure.

    settle   follow the facts: what EC2 lists, what agents report, what HEAD says, what users asked
    pause    let jobs stand still, and go on: the user's word, the window, the price
    retire   end what is over: finished, cancelled, superseded, silent or unpaid attempts
    reap     find instances of ours that nobody owns
    keep     pay on for the attempts that prove that they work
    place    give a place to the jobs that wait for one, or another to those that should move
    orders   tell each agent what all this means for it
    alerts   tell people what they would want to know now

Each phase is a file beside this one, and each sees what the phases before it decided.
"""

from __future__ import annotations

from spotrunner.core.alerts import alerts
from spotrunner.core.draft import Draft
from spotrunner.core.keep import keep
from spotrunner.core.model import Snapshot
from spotrunner.core.orders import orders
from spotrunner.core.pause import pause
from spotrunner.core.place import place
from spotrunner.core.plan import Plan
from spotrunner.core.policy import Policies
from spotrunner.core.reap import reap
from spotrunner.core.retire import retire
from spotrunner.core.settle import settle


def decide(snapshot: Snapshot, policies: Policies) -> Plan:
    draft = Draft(snapshot)
    settle(draft)
    pause(draft)
    retire(draft)
    reap(draft)
    keep(draft)
    place(draft, policies)
    orders(draft)
    alerts(draft)
    return draft.plan()
