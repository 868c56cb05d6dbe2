"""HEAD under races and lost answers: settled by reading it, never by a status."""

from __future__ import annotations

import dataclasses

import pytest

from spotrunner.adapters.heads import ObjectHeads
from spotrunner.agent.holder import FencedOff, Holder, NothingLeft
from spotrunner.core.model import Head
from spotrunner.ports import Heads, NotAuthorized, StoredHead, Unavailable
from tests.agent.told import JOB, a_ref
from tests.agent.world import Bucket


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


class Raced:
    """Heads in which somebody acts between our read and our swap, a few times."""

    def __init__(self, heads: ObjectHeads, *others: Holder, act: str) -> None:
        self._heads = heads
        self._others = list(others)
        self._act = act

    def __getattr__(self, name: str) -> object:
        return getattr(self._heads, name)

    def read(self, job_id: str) -> StoredHead:
        return self._heads.read(job_id)

    def swap(self, job_id: str, head: Head, etag: str | None) -> None:
        if self._others:
            getattr(self._others.pop(0), self._act)()
        self._heads.swap(job_id, head, etag)


def raced(holder: Holder, bucket: Bucket, *others: Holder, act: str) -> Holder:
    heads: Heads = Raced(bucket.heads, *others, act=act)  # type: ignore[assignment]
    return dataclasses.replace(holder, heads=heads)


def test_the_first_attempt_makes_head(bucket: Bucket) -> None:
    head = bucket.holder(1).take()
    assert bucket.head == head
    assert (head.seq, head.generation, head.manifest) == (1, 1, None)


def test_every_swap_raises_the_sequence_by_one(bucket: Bucket) -> None:
    holder = bucket.holder(1)
    seqs = [
        holder.take().seq,
        holder.commit(a_ref(50), final=False).seq,
        holder.commit(a_ref(100), final=False).seq,
        holder.finalize().seq,
        bucket.holder(2).take().seq,
        bucket.holder(2).finish("jobs/x/MANIFEST.json").seq,
    ]
    assert seqs == [1, 2, 3, 4, 5, 6]
    assert bucket.head.previous == a_ref(50)


@pytest.mark.parametrize("retried", [False, True], ids=["time-out", "boto3 sees its own 412"])
def test_a_stored_swap_with_a_lost_answer_is_a_success(bucket: Bucket, retried: bool) -> None:
    holder = bucket.holder(1)
    bucket.objects.drop_answer_of_next_put(bucket.head_key, retried=retried)
    assert holder.take().nonce == bucket.head.nonce
    bucket.objects.drop_answer_of_next_put(bucket.head_key, retried=retried)
    head = holder.commit(a_ref(50), final=True)
    assert head == bucket.head
    assert (head.seq, head.step, head.final) == (2, 50, True)


def test_a_swap_that_never_arrived_is_made_again(bucket: Bucket) -> None:
    bucket.objects.fail_next("put", Unavailable("reset"), prefix=bucket.head_key)
    assert bucket.holder(1).take() == bucket.head


def test_where_not_even_reading_is_possible_nobody_knows_and_a_second_call_finds_out(
    bucket: Bucket,
) -> None:
    holder = bucket.holder(1)
    holder.take()
    bucket.objects.drop_answer_of_next_put(bucket.head_key)

    class BlindAfterSwap(Raced):
        def swap(self, job_id: str, head: Head, etag: str | None) -> None:
            try:
                super().swap(job_id, head, etag)
            finally:
                bucket.objects.fail_next("get", Unavailable("down"), prefix=bucket.head_key)

    heads: Heads = BlindAfterSwap(bucket.heads, act="")  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        dataclasses.replace(holder, heads=heads).commit(a_ref(50), final=False)
    assert holder.commit(a_ref(50), final=False) == bucket.head
    assert bucket.head.seq == 2, "the stored swap was not made twice"


def test_attempt_3_boots_after_attempt_4_took_over(bucket: Bucket) -> None:
    bucket.holder(4).take()
    before = bucket.head
    with pytest.raises(FencedOff, match=r"digits-7f3a\.4"):
        bucket.holder(3).take()
    assert bucket.head == before


def test_an_equal_generation_of_somebody_else_is_as_foreign(bucket: Bucket) -> None:
    bucket.holder(4).take()
    other = dataclasses.replace(bucket.holder(4), attempt="digits-7f3a.4b")
    with pytest.raises(FencedOff):
        other.take()


def test_the_old_attempts_final_commit_races_the_take_over_and_wins(bucket: Bucket) -> None:
    """It lands between the new one's read and swap: the new one reads again and resumes from it."""
    old = bucket.holder(3)
    old.take()
    old.commit(a_ref(50), final=False)
    finals = raced(bucket.holder(4), bucket, FinalCommit(old, 70), act="now")  # type: ignore[arg-type]
    head = finals.take()
    assert (head.generation, head.step, head.final) == (4, 70, False)


def test_the_old_attempts_final_commit_races_the_take_over_and_loses(bucket: Bucket) -> None:
    old = bucket.holder(3)
    old.take()
    old.commit(a_ref(50), final=False)
    late = raced(old, bucket, bucket.holder(4), act="take")
    with pytest.raises(FencedOff):
        late.commit(a_ref(70), final=True)
    assert (bucket.head.generation, bucket.head.step) == (4, 50)


def test_two_attempts_before_any_checkpoint(bucket: Bucket) -> None:
    """Both want the first HEAD: the higher generation has it in the end, whoever was first."""
    first = raced(bucket.holder(1), bucket, bucket.holder(2), act="take")
    with pytest.raises(FencedOff):
        first.take()
    assert bucket.head.attempt == f"{JOB}.2"

    other = Bucket()
    second = raced(other.holder(2), other, other.holder(1), act="take")
    assert second.take().generation == 2
    with pytest.raises(FencedOff):
        other.holder(1).commit(a_ref(50), final=False)


def test_an_agent_started_again_is_still_the_holder(bucket: Bucket) -> None:
    bucket.holder(4).take()
    before = bucket.holder(4).commit(a_ref(50), final=False)
    assert bucket.holder(4, "again-").take() == before


def test_a_save_at_the_step_that_head_bears_only_sets_final(bucket: Bucket) -> None:
    holder = bucket.holder(4)
    holder.take()
    holder.commit(a_ref(50), final=False)
    assert holder.commit(a_ref(50), final=False).seq == 2
    assert holder.finalize().final
    assert holder.finalize().seq == 3, "final again changes nothing"


def test_the_step_falls_only_with_the_damage_on_record(bucket: Bucket) -> None:
    holder = bucket.holder(4)
    holder.take()
    holder.commit(a_ref(50), final=False)
    holder.commit(a_ref(100), final=False)
    head = holder.fall_back(a_ref(100))
    assert (head.step, head.damaged) == (50, a_ref(100))
    assert holder.fall_back(a_ref(100)) == head, "once is enough"


def test_without_a_checkpoint_before_it_head_stays_as_it_is(bucket: Bucket) -> None:
    holder = bucket.holder(4)
    holder.take()
    holder.commit(a_ref(50), final=False)
    holder.commit(a_ref(100), final=False)
    before = holder.fall_back(a_ref(100))
    with pytest.raises(NothingLeft) as told:
        holder.fall_back(a_ref(50))
    assert a_ref(50).folder in str(told.value)
    assert a_ref(100).folder in str(told.value)
    assert bucket.head == before, "nothing is lost"
    assert holder.commit(a_ref(60), final=False).step == 60, "should somebody have mended it"


def test_a_head_put_back_from_a_backup_is_taken_over_again(bucket: Bucket) -> None:
    holder = bucket.holder(4)
    old = bucket.holder(3).take()
    holder.take()
    bucket.heads.swap(JOB, old, bucket.heads.read(JOB).etag)
    head = holder.commit(a_ref(50), final=False)
    assert (head.attempt, head.generation, head.step) == (f"{JOB}.4", 4, 50)
    assert head.seq == old.seq + 1


def test_a_race_that_never_ends_is_no_race(bucket: Bucket) -> None:
    holder = bucket.holder(9)
    others = [bucket.holder(n) for n in range(1, 8)]
    with pytest.raises(Unavailable, match="5 swaps"):
        raced(holder, bucket, *others, act="take").take()


def test_missing_permissions_are_not_taken_for_a_race(bucket: Bucket) -> None:
    bucket.objects.fail_next("put", NotAuthorized("s3:PutObject"), prefix=bucket.head_key)
    with pytest.raises(NotAuthorized):
        bucket.holder(1).take()


class FinalCommit:
    """The old attempt's last commit, as something that can be done at a moment."""

    def __init__(self, holder: Holder, step: int) -> None:
        self._holder = holder
        self._step = step

    def now(self) -> None:
        self._holder.commit(a_ref(self._step), final=True)
