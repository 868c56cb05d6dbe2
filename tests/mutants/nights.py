"""Mistakes with caps that are shared, days, windows, prices, holds and alerts."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

NIGHTS = (
    # -- caps that are shared, and days ---------------------------------------------------------
    Mutant(
        "a day that is not over hinders nobody",
        "core/purse.py",
        "or payment.begin >= next_midnight:\n",
        "or payment.begin <= next_midnight:\n",
        "core/test_purse.py::test_a_payment_over_midnight_is_bounded_by_both_days",
    ),
    Mutant(
        "only today's cap counts for what is paid over midnight",
        "core/purse.py",
        "            for day, begin, end in days(self._caps.tz, since, until):\n",
        "            for day, begin, end in days(self._caps.tz, since, self._now):\n",
        "core/test_purse.py::test_a_payment_over_midnight_is_under_the_caps_of_both_days",
    ),
    Mutant(
        "a launch near midnight is today's, however late it is",
        "core/purse.py",
        "        if late and cap.begin is not None and",
        "        if late and cap.begin is None and",
        "core/test_purse.py::test_a_launch_that_ec2_has_not_confirmed_may_be_either_days",
    ),
    Mutant(
        "a launch near midnight is paid for as if it were never late",
        "core/market.py",
        "        late_s=start_late_s(limits),\n",
        "",
        "core/test_place.py"
        "::test_a_start_before_midnight_may_be_late_and_so_be_paid_for_by_the_next_day",
    ),
    Mutant(
        "a day into which only lateness reaches is not asked",
        "core/draft.py",
        "ahead_s + 2 * self.limits.boot_slack_s",
        "ahead_s + self.limits.boot_slack_s",
        "core/test_place.py::test_the_next_day_is_asked_though_only_its_lateness_reaches_into_it",
    ),
    Mutant(
        "EC2's clock tells the time as ours does",
        "core/purse.py",
        "            since = self._now - dt.timedelta(seconds=self._limits.clock_s)\n",
        "            since = self._now\n",
        "core/test_place.py::test_seconds_after_midnight_a_launch_may_still_be_the_day_befores",
    ),
    Mutant(
        "a launch seconds before midnight is charged seconds today",
        "core/purse.py",
        "    if payment.late_s and pays_s < MINIMUM_S:\n        pays_s = 0\n",
        "",
        "core/test_purse.py::test_a_launch_seconds_before_midnight_is_charged_a_minute_today",
    ),
    Mutant(
        "nothing is kept back for roundings",
        "core/purse.py",
        "    left = balance.left_usd_micros - ROUNDED_USD_MICROS - payment.moved_usd_micros\n",
        "    left = balance.left_usd_micros - payment.moved_usd_micros\n",
        "core/test_purse.py::test_a_cap_pays_whole_seconds",
    ),
    Mutant(
        "bytes are every day's",
        "core/purse.py",
        "    if midnight - late <= payment.launched_at < next_midnight:\n",
        "    if payment.launched_at < next_midnight:\n",
        "core/test_purse.py::test_bytes_are_the_launchs_days",
    ),
    Mutant(
        "a change is added to what was there before it",
        "core/purse.py",
        "                    self._add(sums, cap, old, -1)\n",
        "                    pass\n",
        "core/test_purse.py::test_books_that_are_kept_up_are_those_that_are_made_anew",
    ),
    Mutant(
        "what was booked of an open job is counted twice",
        "core/purse.py",
        "        for attempt in self._ended:\n",
        "        for attempt in ():\n",
        "core/test_purse.py::test_what_was_spent_and_what_may_still_be_count_under_every_cap",
    ),
    Mutant(
        "an absence is spent",
        "core/purse.py",
        "        until = min(self._now, end)\n",
        "        until = self._now\n",
        "core/test_purse.py::test_after_an_absence_nothing_is_spent_beyond_what_was_paid_for",
    ),
    Mutant(
        "the begun second of a later start is nobody's",
        "core/place.py",
        "    more_s = seconds_between(attempt.paid_until, until)\n",
        "    more_s = int((until - attempt.paid_until).total_seconds())\n",
        "core/test_place.py::test_a_begun_second_of_the_later_start_is_paid_too",
    ),
    Mutant(
        "disk and address are not reserved",
        "core/money.py",
        "    return instance + extras + attempt.transfer_usd_micros + traffic\n",
        "    return instance + attempt.transfer_usd_micros + traffic\n",
        "core/test_money.py::test_disk_address_and_bytes_are_reserved_with_it",
    ),
    Mutant(
        "the free hour forgives the disk",
        "core/money.py",
        "    if attempt.launched_at is None or attempt.extras_usd_micros_hour == 0:\n",
        "    if attempt.launched_at is None or attempt.free:\n",
        "core/test_ledger.py"
        "::test_taken_by_ec2_in_its_first_hour_the_instance_is_free_and_nothing_else",
    ),
    Mutant(
        "an unattended start is paid for hours ahead of any proof",
        "core/place.py",
        "draft.now, limits.step_s, limits)\n",
        "draft.now, draft.step_s(job), limits)\n",
        "core/test_place.py::test_an_unattended_job_starts_with_a_usual_step",
    ),
    Mutant(
        "an orphan that was paid for hours ahead reserves a step",
        "core/reap.py",
        "        first_paid_s=age_s + draft.step_s(job),\n",
        "        first_paid_s=age_s + draft.limits.step_s,\n",
        "core/test_reap.py::test_one_that_is_paid_far_ahead_reserves_as_far",
    ),
    # -- nights ----------------------------------------------------------------------------------
    Mutant(
        "an extension reaches beyond the window",
        "core/keep.py",
        "    return until if closes is None else min(until, closes + _s(draft.limits.stop_s))\n",
        "    return until\n",
        "core/test_keep.py::test_the_end_of_the_window_bounds_what_is_paid",
    ),
    Mutant(
        "what is paused is placed again",
        "core/place.py",
        "        if not job.state.over and not stands_still(job):\n",
        "        if not job.state.over:\n",
        "core/test_pause.py::test_what_the_user_paused_stands_still_until_the_user_says_so",
    ),
    Mutant(
        "what is paused is cut off before it has saved",
        "core/retire.py",
        "        EndReason.PAUSED,\n        EndReason.BUDGET,\n",
        "        EndReason.BUDGET,\n",
        "core/test_pause.py::test_pause_stops_with_a_checkpoint_and_resume_starts_again",
    ),
    Mutant(
        "a price at its limit stops and starts a job again and again",
        "core/pause.py",
        "draft.now, draft.limits, waits\n",
        "draft.now, draft.limits, False\n",
        "core/test_pause.py::test_the_story_of_a_price_without_flapping",
    ),
    Mutant(
        "a price above the limit stops a job at once",
        "core/pause.py",
        "    return since is not None and draft.now >=",
        "    return since is not None or draft.now >=",
        "core/test_pause.py::test_above_the_limit_for_long_enough_it_pauses",
    ),
    Mutant(
        "a job pauses although another place is below its limit",
        "core/pause.py",
        "    if any(each.left_out is None for each in offered):\n        return None\n",
        "",
        "core/test_pause.py::test_another_pool_below_the_limit_is_taken_first",
    ),
    Mutant(
        "a hold launches",
        "core/place.py",
        "    if draft.is_held:\n        if not serving:\n",
        "    if draft.snapshot.brake is not None:\n        if not serving:\n",
        "core/test_place.py::test_a_hold_launches_nothing_and_says_until_when",
    ),
    Mutant(
        "a hold waits for half time",
        "core/keep.py",
        "    if held_until is not None and attempt.paid_until < held_until:\n        return True\n",
        "",
        "core/test_keep.py::test_what_is_held_is_paid_on_at_once_and_beyond_the_hold",
    ),
    # -- alerts ----------------------------------------------------------------------------------
    Mutant(
        "a cap that was raised is told no more",
        "core/alerts.py",
        "{cap.day or 'all'}/{cap.usd_micros}/{percent}\"\n",
        "{cap.day or 'all'}/{percent}\"\n",
        "core/test_alerts.py::test_a_cap_that_was_raised_is_another_one",
    ),
    Mutant(
        "the shares of a cap are told downwards too",
        "core/alerts.py",
        "crossed[-1] > max(told, default=0) else None\n",
        "crossed[-1] not in told else None\n",
        "core/test_alerts.py::test_the_shares_are_told_upwards_only",
    ),
    Mutant(
        "what is paused is told to wait for capacity",
        "core/alerts.py",
        "    waits = not has_one and job.state is not JobState.PAUSED and not draft.is_held\n",
        "    waits = not has_one and not draft.is_held\n",
        "core/test_alerts_watch.py::test_what_should_not_run_waits_for_nothing",
    ),
)
