from __future__ import annotations

from spotrunner.core.plan import Archive, Launch, Plan, PostOrder, Terminate
from tests.build import JOB, an_attempt, an_order


def test_payments_come_before_everything_that_could_starve_them() -> None:
    attempt = an_attempt()
    plan = Plan(
        archives=(Archive(box=f"{JOB}.0", job_id=JOB),),
        launches=(Launch(attempt=attempt, why=""),),
        terminations=(Terminate(region="us-east-1", instance_id="i-1", why=""),),
        orders=(PostOrder(order=an_order(attempt)),),
    )
    assert [type(act) for act in plan.acts] == [PostOrder, Terminate, Launch, Archive]


def test_an_empty_plan_does_nothing() -> None:
    assert Plan().acts == ()
