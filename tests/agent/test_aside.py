"""What is done beside the training: never beside what is urgent, and never the end of anything."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spotrunner.agent.aside import Aside
from spotrunner.agent.imds import ImdsUnknown
from spotrunner.agent.outputs import Outputs
from spotrunner.core.saving import Saving
from spotrunner.ports import Unavailable
from tests.agent.told import JOB
from tests.agent.world import Bucket, save

EVENTS = f"jobs/{JOB}/outputs/4/logs/events"
CHECKPOINTS = f"jobs/{JOB}/checkpoints/"


@pytest.fixture
def bucket() -> Bucket:
    bucket = Bucket()
    bucket.holder(4).take()
    return bucket


@pytest.fixture
def outputs(bucket: Bucket, tmp_path: Path) -> Outputs:
    outputs = bucket.outputs(4, tmp_path)
    (outputs.folders.logs / "events").write_text("points")
    return outputs


def no_notice() -> bool:
    return False


def a_notice() -> bool:
    return True


def nobody_knows() -> bool:
    raise ImdsUnknown("HTTP 503")


def test_a_calm_moment_is_used(bucket: Bucket, outputs: Outputs) -> None:
    aside = bucket.aside(4, outputs)
    assert aside.is_calm()
    aside.look(send=True)
    assert bucket.listed(EVENTS) == [EVENTS]


@pytest.mark.parametrize("has_notice", [a_notice, nobody_knows])
def test_from_a_notice_on_nothing_begins(
    bucket: Bucket, outputs: Outputs, has_notice: Callable[[], bool]
) -> None:
    assert not bucket.aside(4, outputs, has_notice).is_calm()


def test_a_commit_has_the_line_for_itself(bucket: Bucket, outputs: Outputs) -> None:
    aside = bucket.aside(4, outputs)
    with aside.urgent():
        assert not aside.is_calm()
        aside.look(send=True)
    assert bucket.listed(EVENTS) == []
    assert aside.is_calm()


@pytest.mark.parametrize("what", ["signalled", "end"])
def test_a_signal_and_the_end_stop_it(bucket: Bucket, outputs: Outputs, what: str) -> None:
    aside = bucket.aside(4, outputs)
    getattr(aside, what)()
    assert not aside.is_calm()
    aside.look(send=True)
    assert bucket.listed(EVENTS) == []


def test_after_a_commit_what_is_too_old_goes(
    bucket: Bucket, outputs: Outputs, tmp_path: Path
) -> None:
    aside = bucket.aside(4, outputs)
    aside.saving = Saving(keep_last=2)
    checkpoints, holder = bucket.checkpoints(4, tmp_path), bucket.holder(4)
    for step in (10, 20, 30):
        save(tmp_path, step)
        holder.commit(checkpoints.store(step), final=False)
    aside.look(send=False)
    assert any("00000010" in key for key in bucket.listed(CHECKPOINTS)), "nobody has committed"
    aside.committed()
    aside.look(send=False)
    assert not any("00000010" in key for key in bucket.listed(CHECKPOINTS))


def test_while_nobody_knows_what_a_job_keeps_nothing_goes(
    bucket: Bucket, outputs: Outputs, tmp_path: Path
) -> None:
    """An agent that has to stop a trainer before it could read its job's spec."""
    aside = bucket.aside(4, outputs)
    checkpoints, holder = bucket.checkpoints(4, tmp_path), bucket.holder(4)
    for step in (10, 20, 30, 40, 50):
        save(tmp_path, step)
        holder.commit(checkpoints.store(step), final=False)
    aside.committed()
    aside.look(send=False)
    assert any("00000010" in key for key in bucket.listed(CHECKPOINTS))
    aside.saving = Saving()
    aside.look(send=False)
    assert not any("00000010" in key for key in bucket.listed(CHECKPOINTS))


def test_what_fails_is_tried_again_and_hurts_nobody(bucket: Bucket, outputs: Outputs) -> None:
    aside = bucket.aside(4, outputs)
    bucket.objects.fail_next("put", Unavailable("503"), prefix=EVENTS)
    aside.look(send=True)
    assert bucket.listed(EVENTS) == []
    aside.look(send=True)
    assert bucket.listed(EVENTS) == [EVENTS]


def test_a_bug_of_ours_is_not_the_end_of_it(bucket: Bucket, outputs: Outputs) -> None:
    aside = bucket.aside(4, outputs)
    bucket.objects.fail_next("put", KeyError("a bug"), prefix=EVENTS)  # type: ignore[arg-type]
    aside.look(send=True)
    aside.look(send=True)
    assert bucket.listed(EVENTS) == [EVENTS]


def test_it_runs_from_the_start_of_a_trainer_to_the_way_down(
    bucket: Bucket, outputs: Outputs
) -> None:
    sent = threading.Event()

    class Telling(Outputs):
        def send_changed(self, may_go_on: Callable[[], bool] = lambda: True) -> None:
            super().send_changed(may_go_on)
            sent.set()

    fields = {name: getattr(outputs, name) for name in outputs.__dataclass_fields__}
    aside = Aside(
        outputs=Telling(**fields),
        retention=bucket.retention(4),
        has_notice=no_notice,
        look_every_s=0.01,
        send_every_s=0.01,
    )
    assert not sent.is_set()
    aside.start()
    assert sent.wait(20)
    aside.start()
    sent.clear()
    assert sent.wait(20), "a trainer that was started again has one, too"
    aside.end()
    assert bucket.listed(EVENTS) == [EVENTS]
