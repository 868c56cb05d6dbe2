"""Mistakes that would cost a checkpoint."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

CHECKPOINTS = (
    Mutant(
        "what a later attempt has made is old as well",
        "core/retention.py",
        "    gone = [each for each in older if each.generation <= generation]\n",
        "    gone = list(older)\n",
        "core/test_retention.py::test_what_a_later_attempt_has_made_is_not_ours_to_judge",
    ),
    Mutant(
        "only the newest checkpoint of HEAD is needed",
        "core/retention.py",
        "    for ref in (head.manifest, head.previous, head.damaged):\n",
        "    for ref in (head.manifest,):\n",
        "core/test_retention.py::test_what_head_names_stays_wherever_it_is",
    ),
    Mutant(
        "whoever has read HEAD once may remove",
        "core/retention.py",
        "    if head.generation != generation:\n        return []\n",
        "",
        "core/test_retention.py::test_a_head_that_is_no_longer_ours_removes_nothing",
    ),
    Mutant(
        "a torn folder is nobody's",
        "core/retention.py",
        "    if each.complete or now - each.newest_at < TORN_AFTER:\n",
        "    if each.complete:\n",
        "core/test_retention.py::test_a_torn_folder_goes_when_nobody_can_complete_it",
    ),
    Mutant(
        "the files go before their manifest",
        "agent/retention.py",
        "        self.objects.delete([folder + MANIFEST])\n",
        "",
        "agent/test_retention.py::test_the_manifest_goes_first",
    ),
    Mutant(
        "a refused write was ours",
        "agent/checkpoints.py",
        "            if not any(info.key == key and info.bytes == size for info in"
        " self.objects.list(key)):\n                raise\n",
        "",
        "agent/test_checkpoints.py"
        "::test_a_refusal_for_somebody_elses_write_that_came_to_nothing_is_no_success",
    ),
    Mutant(
        "what arrives is what was committed",
        "agent/checkpoints.py",
        "            if content == committed:\n                return\n",
        "            return\n",
        "agent/test_checkpoints.py::test_a_damaged_checkpoint_is_never_put_before_the_trainer",
    ),
    Mutant(
        "without a checkpoint before it the job begins anew",
        "agent/holder.py",
        "            if seen.previous is None:\n"
        "                raise NothingLeft(_nothing_left(damaged, seen.damaged))\n",
        "",
        "agent/test_holder.py::test_without_a_checkpoint_before_it_head_stays_as_it_is",
    ),
)
