"""Every bound that a decision knows, in one commented block."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every limit that a decision uses, in one place. Defaults are production's."""

    # -- money: an attempt runs only until `paid_until`, extended step by step
    step_s: int = 1800
    # the smallest step: a boot has to fit into it, or the money buys nothing
    boot_allowance_s: int = 900
    # user-data starts its timer a little after EC2 starts the bill: reserved on top of a launch
    boot_slack_s: int = 120
    # what a launch far from the home bucket reserves for its restore and its first checkpoints,
    # while nobody has seen how large they are
    far_bytes: int = 4_000_000_000
    # how far our clock may be ahead of EC2's, which tells the time of a launch in whole seconds
    clock_s: int = 5
    # -- evidence: what we must have heard before we pay on or believe a death
    fresh_report_s: int = 120
    silent_s: int = 300
    # from launch to the first report, and to the first step of training
    first_report_s: int = 600
    first_step_s: int = 3600
    # -- policies
    # until a job's own is measured: from the request of a launch to its first step. What a boot may
    # take at most and be worth its money: a deadline that rests on a hope is missed
    changeover_s: int = 900
    # a policy plans as if it were asked again only after so long: rounds can be late
    look_s: int = 60
    # -- launches
    intent_s: int = 600  # a launch with an unknown outcome is sent again only this long
    lost_s: int = 900  # ... and given up when nothing of it was seen for this long
    listed_s: int = 3000  # EC2 lists an ended instance about an hour: a later look proves nothing
    launches_a_round: int = 8
    capacity_cooldown_s: int = 600
    price_cooldown_s: int = 600
    quota_cooldown_s: int = 3600
    offering_cooldown_s: int = 86_400
    config_cooldown_s: int = 3600
    # -- interruptions
    notice_grace_s: int = 15  # past the announced time before a replacement takes HEAD unasked
    free_idle_s: int = 300  # past the announced time, for EC2 to take what it interrupts for free
    first_hour_s: int = 3600
    # an announced time up to here is in the free first hour; the minute is EC2's rounding
    first_hour_notice_s: int = 3660
    # -- checkpoints by the clock (core/interval): what a hazard or a save's cost may lead to
    least_save_every_s: int = 120
    most_save_every_s: int = 3600
    # -- orphans
    orphan_min_age_s: int = 30
    orphan_stop_s: int = 300
    # what was ordered to stop, and what has finished, gets this long to end itself
    stop_s: int = 300
    done_s: int = 60
    archives_a_round: int = 20
    # -- failures
    fruitless_attempts: int = 3
    # past `paid_until` before we end what should have ended itself
    unpaid_grace_s: int = 60
    # -- alerts
    # a job without a place for so long, and prices that are older, are worth a message
    no_capacity_alert_s: int = 1800
    old_prices_alert_s: int = 3600
