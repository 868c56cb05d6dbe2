"""Mistakes that would cost money, work or control, and the test that must see each.

A mutant is one plausible slip: a comparison the wrong way round, a term forgotten, a rule of the
obvious kind ("not listed, so it has ended"). It was one of these that ran two paid instances for
one job before the rules were what they are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`old` occurs once in `file`; with `new` in its place, `test` must fail. `file` is below
    `spotrunner/`, `test` is a node id below `tests/`."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    # -- evidence --------------------------------------------------------------------------------
    Mutant(
        "not listed, so it has ended",
        "core/settle.py",
        "    elif attempt.instance_id in draft.snapshot.not_found:\n",
        "    else:\n",
        "core/test_settle.py::test_not_listed_is_not_ended",
    ),
    Mutant(
        "a region that does not answer is empty",
        "core/settle.py",
        "    if draft.snapshot.instances.get(attempt.offer.pool.region) is None:\n        return\n",
        "",
        "core/test_settle.py::test_a_region_that_does_not_answer_loses_nobody",
    ),
    Mutant(
        "a lost answer is a refusal",
        "core/settle.py",
        "    if attempt.instance_id is None and attempt.sent_at is None and report is None:\n",
        "    if attempt.instance_id is None and report is None:\n",
        "core/test_settle.py::test_no_trace_of_a_launch_is_lost_after_the_timeout_since_it_was_last_sent",
    ),
    Mutant(
        "a denied id ends a launch at once",
        "core/settle.py",
        "    if draft.now < sign + _s(draft.limits.lost_s):\n        return\n",
        "",
        "core/test_settle.py::test_an_id_that_ec2_denies_ends_it_only_after_the_lost_timeout",
    ),
    Mutant(
        "the lost-timeout runs although the agent reports",
        "core/settle.py",
        "        sign = max(sign, report.at)\n",
        "        sign = min(sign, report.at)\n",
        "core/test_settle.py::test_an_agent_that_speaks_is_alive_whatever_ec2_says",
    ),
    Mutant(
        "any instance with the attempt's tag speaks for it",
        "core/draft.py",
        "return self._listed.get(attempt.instance_id)\n",
        "return self._listed.get(attempt.instance_id) or self._listed.get(attempt.id)\n",
        "core/test_settle.py::test_the_end_of_another_instance_with_our_tag_is_not_ours",
    ),
    Mutant(
        "an outage of our mail makes the agents silent",
        "core/retire.py",
        "    return draft.snapshot.mail_at or draft.now\n",
        "    return draft.now\n",
        "core/test_retire.py::test_an_outage_of_the_mail_is_no_silence_of_the_agents",
    ),
    Mutant(
        "success is read from a report",
        "core/settle.py",
        "    if head is not None and head.done:\n",
        "    if any(report.phase is Phase.DONE for report in draft.snapshot.reports.values()):\n"
        "        head = head or Head(seq=0, generation=0, attempt='', nonce='')\n",
        "core/test_settle.py::test_a_report_alone_is_no_success",
    ),
    Mutant(
        "a HEAD that was not read counts as no progress",
        "core/settle.py",
        "    if draft.head_known(job.id):\n        _note_steps(draft, job)\n",
        "    _note_steps(draft, job)\n",
        "core/test_settle.py::test_an_end_while_head_cannot_be_read_is_judged_when_it_can",
    ),
    Mutant(
        "refusals and lost launches count as attempts without progress",
        "core/settle.py",
        "    if attempt.launched_at is None:\n        return False\n",
        "",
        "core/test_settle.py::test_who_had_no_chance_counts_neither_way",
    ),
    Mutant(
        "one retry more than allowed",
        "core/settle.py",
        "    if len(failures) > job.spec.retries:\n",
        "    if len(failures) > job.spec.retries + 1:\n",
        "core/test_settle.py::test_retries_bound_the_failures",
    ),
    Mutant(
        "progress long ago excuses for ever",
        "core/settle.py",
        "            break\n        fruitless += 1\n",
        "            continue\n        fruitless += 1\n",
        "core/test_settle.py::test_they_have_to_be_the_last_three",
    ),
    # -- launches --------------------------------------------------------------------------------
    Mutant(
        "a launch is sent again for ever",
        "core/place.py",
        "    if draft.now >= attempt.intent_at + dt.timedelta(seconds=draft.limits.intent_s):\n"
        "        return\n",
        "",
        "core/test_place.py::test_an_unconfirmed_launch_is_sent_again_for_ten_minutes",
    ),
    Mutant(
        "a launch is sent again with the money of the first time",
        "core/place.py",
        "    renewed = dataclasses.replace(attempt, paid_until=until)\n",
        "    renewed = attempt\n",
        "core/test_place.py::test_it_is_sent_with_the_stored_bytes_and_fresh_money",
    ),
    Mutant(
        "a launch is sent again without a look at the cap",
        "core/place.py",
        "dearest_usd_micros_hour, more_s) < more_s:\n",
        "dearest_usd_micros_hour, more_s) < 0:\n",
        "core/test_place.py::test_it_is_not_sent_again_when_the_cap_does_not_pay_the_later_start",
    ),
    Mutant(
        "a confirmed launch is sent again",
        "core/place.py",
        "            if attempt.state is AttemptState.PENDING:\n",
        "            if attempt.state is not AttemptState.RUNNING:\n",
        "core/test_place.py::test_what_ec2_confirmed_is_never_sent_again",
    ),
    Mutant(
        "the generation comes from the store only",
        "core/place.py",
        "        seen.append(head.generation)\n",
        "        pass\n",
        "core/test_place.py::test_a_generation_is_one_more_than_any_that_was_handed_out",
    ),
    Mutant(
        "the generation ignores the mail",
        "core/place.py",
        "[*draft.snapshot.boxes, *",
        "[*",
        "core/test_place.py::test_a_generation_is_one_more_than_any_that_was_handed_out",
    ),
    Mutant(
        "a launch without a look at HEAD",
        "core/place.py",
        "    return draft.head_known(job.id) and draft.mail_known\n",
        "    return draft.mail_known\n",
        "core/test_place.py::test_nothing_starts_while_head_cannot_be_read",
    ),
    Mutant(
        "a launch while the mail is out",
        "core/place.py",
        "    return draft.head_known(job.id) and draft.mail_known\n",
        "    return draft.head_known(job.id)\n",
        "core/test_place.py::test_nothing_starts_while_the_mail_cannot_be_read",
    ),
    Mutant(
        "a job waits for the end of the interrupted before it starts a replacement",
        "core/retire.py",
        "    AttemptState.RUNNING,\n)\n",
        "    AttemptState.RUNNING,\n    AttemptState.INTERRUPTED,\n)\n",
        "core/test_decide.py::test_a_notice_starts_the_replacement_in_the_same_round_in_another_pool",
    ),
    Mutant(
        "the replacement goes where the notice came from",
        "core/settle.py",
        '    _avoid(draft, attempt, "EC2 interrupted an attempt here")\n',
        "",
        "core/test_decide.py::test_a_notice_starts_the_replacement_in_the_same_round_in_another_pool",
    ),
    # -- money -----------------------------------------------------------------------------------
    Mutant(
        "a reservation without the lateness of the timer",
        "core/money.py",
        " + dt.timedelta(seconds=limits.boot_slack_s)\n",
        "\n",
        "core/test_money.py::test_a_launch_reserves_its_step_and_the_start_of_its_timer_at_the_dearest_price",
    ),
    Mutant(
        "the timer of the first step is forgotten once the launch is known",
        "core/money.py",
        "    return max(attempt.paid_until, timer) +",
        "    return attempt.paid_until +",
        "core/test_money.py::test_the_late_timer_stays_reserved_when_the_launch_is_known",
    ),
    Mutant(
        "a reservation at the spot price",
        "core/money.py",
        "    dearest = attempt.offer.dearest_usd_micros_hour\n",
        "    dearest = attempt.offer.price_usd_micros_hour\n",
        "core/test_decide.py::test_whatever_happens_the_promises_hold",
    ),
    Mutant(
        "an extension at the spot price",
        "core/keep.py",
        "    dearest = attempt.offer.dearest_usd_micros_hour\n",
        "    dearest = attempt.offer.price_usd_micros_hour\n",
        "core/test_keep.py::test_the_cap_is_checked_with_the_dearest_price",
    ),
    Mutant(
        "a first step at the spot price",
        "core/money.py",
        "offer.dearest_usd_micros_hour, wanted_s) - slack_s\n",
        "offer.price_usd_micros_hour, wanted_s) - slack_s\n",
        "core/test_place.py::test_a_launch_the_cap_cannot_pay_the_boot_of_is_refused_with_the_number",
    ),
    Mutant(
        "a launch that the cap pays no boot of",
        "core/market.py",
        " or pays_s >= limits.boot_allowance_s:\n",
        " or pays_s > 0:\n",
        "core/test_place.py::test_a_launch_the_cap_cannot_pay_the_boot_of_is_refused_with_the_number",
    ),
    Mutant(
        "an extension shorter than a boot",
        "core/keep.py",
        "    if pays_s < min(wanted_s, draft.limits.boot_allowance_s):\n",
        "    if pays_s <= 0:\n",
        "core/test_keep.py::test_but_never_shorter_than_the_boot_allowance",
    ),
    Mutant(
        "an extension without a fresh report",
        "core/keep.py",
        "    return draft.now < report.at + dt.timedelta(seconds=draft.limits.fresh_report_s)\n",
        "    return True\n",
        "core/test_keep.py::test_no_evidence_no_money",
    ),
    Mutant(
        "an extension for an attempt that somebody has superseded",
        "core/keep.py",
        " and not is_superseded(draft, attempt)\n",
        "\n",
        "core/test_keep.py::test_the_superseded_are_not_paid_on",
    ),
    Mutant(
        "an extension at once, not at half time",
        "core/keep.py",
        "<= draft.limits.step_s / 2 and",
        "<= draft.limits.step_s and",
        "core/test_keep.py::test_at_half_time_it_is_paid_a_step_ahead",
    ),
    Mutant(
        "the living attempts of a job do not count against its cap",
        "core/money.py",
        "seen_at.get(attempt.id)) for attempt in attempts\n",
        "seen_at.get(attempt.id)) for attempt in attempts if not attempt.state.live\n",
        "core/test_decide.py::test_whatever_happens_the_promises_hold",
    ),
    Mutant(
        "the free hour is a second too long",
        "core/money.py",
        "and lived_s < HOUR_S",
        "and lived_s <= HOUR_S",
        "core/test_money.py::test_only_what_ec2_takes_of_spot_in_its_first_hour_is_free",
    ),
    Mutant(
        "the first hour is free whoever ends it",
        "core/money.py",
        "    return market is Market.SPOT and is_taken and",
        "    return market is Market.SPOT and",
        "core/test_settle.py::test_what_it_cost",
    ),
    Mutant(
        "no minimum of a minute",
        "core/money.py",
        "    left, total = max(seconds, MINIMUM_S), 0\n",
        "    left, total = seconds, 0\n",
        "core/test_money.py::test_the_bill_is_by_the_second_with_each_hours_price",
    ),
    Mutant(
        "bills are rounded down",
        "core/money.py",
        "    return -(-(total + left * then) // HOUR_S)\n",
        "    return (total + left * then) // HOUR_S\n",
        "core/test_money.py::test_the_bill_is_by_the_second_with_each_hours_price",
    ),
    Mutant(
        "an hour's price is trusted before the hour is over",
        "core/settle.py",
        "    if instance.state is InstanceState.ENDED:\n        hours += 1\n",
        "    hours += 1\n",
        "core/test_settle.py::test_prices_are_noted_when_an_hour_is_over_and_not_before",
    ),
    Mutant(
        "the reservation of a lost launch is let go at once",
        "core/settle.py",
        "    elif draft.now >= bill_end(attempt, draft.limits):\n",
        "    else:\n",
        "core/test_settle.py::test_a_lost_launch_keeps_its_reservation_to_the_end_of_its_first_paid_time",
    ),
    Mutant(
        "a launch that nobody looked for in time cost nothing",
        "core/settle.py",
        "cost = 0 if _would_have_shown(draft, attempt) else exposure(attempt, draft.limits)\n",
        "cost = 0\n",
        "core/test_settle.py::test_a_launch_that_nobody_looked_for_in_time_is_booked_at_the_dearest",
    ),
    # -- ends ------------------------------------------------------------------------------------
    Mutant(
        "terminate at once instead of waiting for the free hour",
        "core/retire.py",
        "    if waits_for_free(draft, attempt):\n        return\n    assert",
        "    assert",
        "core/test_retire.py::test_nobody_ends_what_waits_to_be_taken_for_free",
    ),
    Mutant(
        "the free hour ends at sixty minutes sharp",
        "core/retire.py",
        "_s(draft.limits.first_hour_notice_s)",
        "_s(draft.limits.first_hour_s)",
        "core/test_retire.py::test_ec2_is_left_to_take_for_free_what_it_announced_in_the_first_hour",
    ),
    Mutant(
        "idling wins over the end of the paid time",
        "core/retire.py",
        "draft.now <= min(patience, attempt.paid_until)\n",
        "draft.now <= patience\n",
        "core/test_retire.py::test_ec2_is_left_to_take_for_free_what_it_announced_in_the_first_hour",
    ),
    Mutant(
        "a stop has its grace although its paid time is over",
        "core/retire.py",
        "if draft.now >= min(graceful, attempt.paid_until + _s(draft.limits.unpaid_grace_s)):\n",
        "if draft.now >= graceful:\n",
        "core/test_retire.py::test_no_grace_outlasts_the_paid_time",
    ),
    Mutant(
        "terminate is asked for once the listing shows it only",
        "core/retire.py",
        "    instance_id = instance.id if instance else attempt.instance_id\n",
        "    instance_id = instance.id if instance else None\n",
        "core/test_retire.py::test_what_no_listing_shows_is_terminated_by_its_id",
    ),
    Mutant(
        "the silent are ended before HEAD is taken over",
        "core/retire.py",
        "    return head is not None and head.generation > attempt.generation\n",
        "    return is_silent(draft, attempt)\n",
        "core/test_retire.py::test_the_silent_are_ended_when_head_is_taken_over_and_not_before",
    ),
    Mutant(
        "the reaper takes what was launched a moment ago",
        "core/reap.py",
        "    if age_s < draft.limits.orphan_min_age_s:\n        return False\n",
        "",
        "core/test_reap.py::test_what_is_younger_than_thirty_seconds_is_left_alone",
    ),
    Mutant(
        "the reaper takes what belongs to somebody else",
        "core/reap.py",
        "    if instance.installation != draft.snapshot.installation:\n        return False\n",
        "",
        "core/test_reap.py::test_other_installations_are_none_of_our_business",
    ),
    Mutant(
        "an orphan is terminated without a chance to save",
        "core/reap.py",
        "    elif attempt is None and job is not None and instance.attempt_id is not None:\n",
        "    elif False:\n",
        "core/test_reap.py::test_an_orphan_of_a_known_job_is_adopted_and_told_to_stop_first",
    ),
    # -- fencing ---------------------------------------------------------------------------------
    Mutant(
        "take-over without final, while the old one is still saving",
        "core/orders.py",
        "or is_silent(draft, old) or _is_spent(draft, old):\n",
        "or old.notice is not None:\n",
        "core/test_orders.py::test_from_an_interrupted_one_when_its_time_is_over",
    ),
    Mutant(
        "take-over at the announced time, not after the grace",
        "core/orders.py",
        "    by = old.notice.at + dt.timedelta(seconds=draft.limits.notice_grace_s)\n",
        "    by = old.notice.at\n",
        "core/test_orders.py::test_from_an_interrupted_one_when_its_time_is_over",
    ),
    Mutant(
        "who cannot be heard has nothing to save",
        "core/orders.py",
        "    return draft.mail_known and old.first_step_at is None and old.notice is None\n",
        "    return True\n",
        "core/test_orders.py::test_from_one_whose_report_cannot_be_read_only_when_its_time_is_over",
    ),
    Mutant(
        "an order changes under its number",
        "core/orders.py",
        "        n=(attempt.order.n if attempt.order else 0) + 1,\n",
        "        n=attempt.order.n if attempt.order else 1,\n",
        "core/test_orders.py::test_each_change_raises_the_number",
    ),
    Mutant(
        "an order that was not posted is forgotten",
        "core/orders.py",
        "        if attempt.order.n > attempt.order_posted_n:\n",
        "        if attempt.order_posted_n == 0:\n",
        "core/test_orders.py::test_what_was_not_posted_is_posted_until_it_is",
    ),
    Mutant(
        "an equal generation of somebody else may write",
        "core/head.py",
        "    return seen.generation == generation and seen.attempt == attempt\n",
        "    return seen.generation == generation\n",
        "core/test_head.py::test_who_may_write",
    ),
    Mutant(
        "a later generation may be overwritten",
        "core/head.py",
        "    if seen is None or seen.generation < generation:\n",
        "    if seen is None or seen.generation != generation:\n",
        "core/test_head.py::test_who_may_write",
    ),
    Mutant(
        "a refused swap is a fence, whatever HEAD says",
        "core/head.py",
        "    if seen is not None and seen.nonce == nonce:\n        return Verdict.OURS\n",
        "",
        "core/test_head.py::test_what_became_of_a_swap",
    ),
    Mutant(
        "a late commit sets the step back",
        "core/head.py",
        "    newer = seen.manifest is None or ref.step > seen.manifest.step\n",
        "    newer = True\n",
        "core/test_head.py::test_a_commit_never_lowers_the_step",
    ),
    # -- the market ------------------------------------------------------------------------------
    Mutant(
        "a bid is asked of EC2 above itself",
        "core/market.py",
        "offer.price_usd_micros_hour > bid:\n",
        "offer.price_usd_micros_hour > 2 * bid:\n",
        "core/test_market.py::test_what_costs_more_than_the_bid_is_left_out",
    ),
    Mutant(
        "one zone that refuses twice empties its region",
        "core/market.py",
        "if len(names) >= 2)\n",
        "if len(names) >= 1)\n",
        "core/test_market.py::test_after_two_zones_the_next_try_is_another_region",
    ),
    Mutant(
        "a short region is left out though there is no other",
        "core/market.py",
        "        if each.left_out is None and is_short(each) and each.offer.market in others\n",
        "        if each.left_out is None and is_short(each)\n",
        "core/test_market.py::test_with_one_region_only_its_third_zone_is_tried",
    ),
    Mutant(
        "a slow type costs what it says an hour",
        "core/market.py",
        "    return (price + (own + lost) / run_h) / speed\n",
        "    return price + (own + lost) / run_h\n",
        "core/test_market.py::test_twice_the_speed_is_half_the_price",
    ),
    Mutant(
        "work is counted from the last step, which may be lost",
        "core/look.py",
        "max(0, total - progress.step) / speed",
        "0 / speed",
        "core/test_look.py::test_measured_progress_is_believed_before_the_estimate",
    ),
    Mutant(
        "the deadline rests on the mean changeover",
        "core/look.py",
        "    return max(seen[-CHANGEOVERS:], default",
        "    return min(seen[-CHANGEOVERS:], default",
        "core/test_look.py::test_the_changeover_is_the_longest_of_the_last_five",
    ),
    Mutant(
        "a refusal of on-demand is one of spot",
        "core/sight.py",
        "        if refusal.market is Market.SPOT and refusal.meaning is Refused.CAPACITY:\n",
        "        if refusal.meaning is Refused.CAPACITY:\n",
        "core/test_sight.py::test_on_demand_and_other_refusals_say_nothing_of_spot",
    ),
    Mutant(
        "a move breaks before it makes",
        "core/orders.py",
        "    if serves(draft, old):\n        return TakeOver(attempt=old.id)\n",
        "    if serves(draft, old):\n        return TakeOver(attempt=old.id, now=True)\n",
        "core/test_moves.py::test_nobody_takes_head_from_one_that_trains_but_by_its_final_commit",
    ),
    Mutant(
        "a job moves twice at once",
        "core/place.py",
        "        elif len(serving) == 1 and serving[0]",
        "        elif serving[0]",
        "core/test_moves.py::test_one_move_at_a_time",
    ),
    Mutant(
        "a job moves to where it is",
        "core/place.py",
        "    elif not is_same_place(choice.take.offer, attempt.offer):\n",
        "    else:\n",
        "core/test_moves.py::test_where_it_is_already_is_no_move_at_whatever_price",
    ),
    Mutant(
        "what stops for a wish is cut off before it has saved",
        "core/retire.py",
        "(EndReason.CANCELLED, EndReason.MOVED)",
        "(EndReason.CANCELLED,)",
        "core/test_moves.py::test_a_stop_for_a_wish_has_the_time_of_a_cancelled_one",
    ),
    Mutant(
        "an end by price says nothing of the price",
        "core/settle.py",
        "    if by is EndedBy.PRICE:\n        message",
        "    if False:\n        message",
        "core/test_settle.py::test_an_end_by_price_is_an_interruption_with_a_cool_down_of_its_own",
    ),
    Mutant(
        "the archive's URL is dead before the instance asks",
        "daemon/request.py",
        "URL_LIFETIME_S = 7200\n",
        "URL_LIFETIME_S = 1\n",
        "daemon/test_request.py"
        "::test_the_archives_url_outlives_a_launch_that_is_sent_again_and_the_slowest_boot",
    ),
)
