"""A job that is taken in, and every way in which one is not: nothing is stored or uploaded then."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from spotrunner.adapters import codec
from spotrunner.core.model import JobSpec, Market, Pool, Refusal, Refused
from spotrunner.core.states import JobState
from spotrunner.ports import (
    Changes,
    Misconfigured,
    NotAuthorized,
    PortError,
    PreconditionFailed,
    Unavailable,
)
from spotrunner.sim.faults import Fault, Lose
from spotrunner.sim.values import ApiError
from tests.web.conftest import MAX_WORKDIR_BYTES, START, Api, a_job, a_workdir


def test_a_job_is_stored_with_its_workdir_and_wakes_the_daemon(api: Api) -> None:
    packed = a_workdir()
    sha256 = hashlib.sha256(packed).hexdigest()
    response = api.submit(a_job(), packed, workdir_sha256=sha256)
    assert response.status_code == 200, response.text
    (job,) = api.store.jobs()
    assert response.json()["id"] == job.id
    assert job.id.startswith("digits-")
    assert len(job.id) == len("digits-xxxx")
    assert job.state is JobState.QUEUED
    assert job.submitted_at == START
    assert job.spec.budget_usd_micros == 2_000_000
    assert job.spec.workdir_sha256 == sha256
    assert job.spec.data[0].source == "s3://data-bucket/digits/"
    assert api.home.get(f"jobs/{job.id}/workdir/{sha256}.tar.gz").body == packed
    spec = codec.from_json(JobSpec, api.home.get(f"jobs/{job.id}/spec.json").body)
    assert spec == job.spec
    assert [event.kind for _, event in api.store.events(job.id)] == ["submitted"]
    assert api.wakes


def test_a_job_without_a_workdir_has_none(api: Api) -> None:
    job = api.store.job(api.submitted(a_job(resources=_resources(use_spot=False))))
    assert job is not None
    assert job.spec.workdir_sha256 is None
    assert job.spec.market is Market.ON_DEMAND
    assert api.stored_keys == [f"jobs/{job.id}/spec.json"]


def test_two_jobs_of_one_name_have_two_ids(api: Api) -> None:
    assert api.submitted(a_job()) != api.submitted(a_job())


# -- what is wrong -----------------------------------------------------------------------------


def _resources(**changes: Any) -> dict[str, Any]:
    return {"instance_types": ["g4dn.xlarge"], "regions": ["us-east-1"], **changes}


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"nmae": "x"}, "nmae", "unknown key; did you mean name?"),
    ({"run": None}, "run", "missing"),
    ({"name": "My Job"}, "name", "nearest: my-job"),
    ({"image": "tensorflow/tensorflow:latest-gpu"}, "image", "tensorflow/tensorflow:2.17.0-gpu"),
    ({"image": "tensorflow/tensorflow"}, "image", "without a tag"),
    ({"budget": 0}, "budget", "expected more than 0 USD, found 0"),
    ({"budget": "0.01"}, "budget", "0.0100 USD does not pay a start: the first 1020 s on"),
    ({"budget": "0.1234567"}, "budget", "at most 6 decimals"),
    ({"retries": -1}, "retries", "expected at least 0, found -1"),
    ({"envs": {"BUCKET": None}}, "envs.BUCKET", "has no value"),
    ({"envs": {}}, "data.0.source", "${BUCKET} is no key of envs with a value"),
    (
        {"data": [{"source": "s3://data-bucket/digitz/", "target": "d"}]},
        "data.0.source",
        "there is nothing in s3://data-bucket/digitz/",
    ),
    (
        {"data": [{"source": "s3://other-bucket/digits/", "target": "d"}]},
        "data.0.source",
        "s3://other-bucket/digits/ cannot be read: there is no bucket other-bucket",
    ),
    (
        {"resources": _resources(regions=["us-west-2"])},
        "resources.regions.0",
        "the daemon does not use us-west-2; it uses us-east-1, eu-west-1",
    ),
    (
        {"resources": _resources(regions=["us-east-7"])},
        "resources.regions.0",
        "us-east-7 is not an AWS region; nearest: us-east-1",
    ),
    (
        {"resources": _resources(instance_types=["g4ad.xlarge"])},
        "resources.instance_types.0",
        "its GPU is AMD's",
    ),
    (
        {"resources": _resources(instance_types=["g5g.xlarge"])},
        "resources.instance_types.0",
        "its CPU is arm64",
    ),
    (
        {"resources": _resources(instance_types=["t3.micro"])},
        "resources.instance_types.0",
        "not a GPU instance type",
    ),
    (
        {"resources": _resources(instance_types=["p3.2xlarge"], regions=["eu-west-1"])},
        "resources.instance_types.0",
        "p3.2xlarge is not offered in eu-west-1; the nearest type offered there is g5.xlarge",
    ),
    (
        {"resources": _resources(instance_types=["p3.2xlarge"])},
        "resources.instance_types.0",
        "p3.2xlarge needs an image of your own; or name it in the job file, amis: {us-east-1: ami",
    ),
]


@pytest.mark.parametrize(("changes", "key", "words"), WRONG, ids=[words for _, _, words in WRONG])
def test_a_wrong_job_leaves_nothing_behind(
    api: Api, changes: dict[str, Any], key: str, words: str
) -> None:
    for response in (
        api.client.post("/v1/offers", json=a_job(**changes)),
        api.submit(a_job(**changes), a_workdir()),
    ):
        assert response.status_code == 422
        (error,) = response.json()["errors"]
        assert error["key"] == key
        assert words in f"{error['message']}; {error['hint']}"
    assert api.store.jobs() == ()
    assert api.stored_keys == []
    assert not api.wakes


def test_everything_that_only_the_daemon_knows_is_said_at_once(api: Api) -> None:
    response = api.submit(
        a_job(
            resources=_resources(
                instance_types=["g6.xlarge", "g4dn.xlarge"], regions=["us-east-1", "us-west-2"]
            ),
            data=[{"source": "s3://data-bucket/nothing/", "target": "d"}],
            budget="0.001",
        )
    )
    assert [error["key"] for error in response.json()["errors"]] == [
        "resources.regions.1",
        "resources.instance_types.0",
        "data.0.source",
        "budget",
    ]


def test_the_budget_that_is_named_is_enough(api: Api) -> None:
    message = api.submit(a_job(budget="0.01")).json()["errors"][0]["message"]
    needed = message.split()[-4]
    assert message.endswith(f"{needed} USD in reserve")
    assert api.submit(a_job(budget=needed)).status_code == 200


def test_p3_with_an_image_is_taken(api: Api) -> None:
    resources = _resources(instance_types=["p3.2xlarge"])
    api.submitted(a_job(resources=resources, amis={"us-east-1": "ami-00000000000000000"}))


def test_an_image_that_is_named_and_not_there_is_said_once(api: Api) -> None:
    amis = {"us-east-1": "ami-0123456789abcdef0"}
    response = api.submit(a_job(amis=amis))
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["key"] == "amis.us-east-1"
    assert error["message"] == "there is no image ami-0123456789abcdef0 in us-east-1"


NO_VPC = "us-east-1 has no default VPC and no subnet with the tag spotrunner:subnet: tag one a zone"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Misconfigured(NO_VPC), NO_VPC),
        (
            Misconfigured("no security group mine in vpc-1 of us-east-1: make it there"),
            "no security group mine in vpc-1 of us-east-1: make it there",
        ),
        (
            NotAuthorized("DescribeSubnets: UnauthorizedOperation: no"),
            "AWS does not allow the daemon to use us-east-1: DescribeSubnets:"
            " UnauthorizedOperation: no",
        ),
    ],
    ids=["no vpc", "no group", "not allowed"],
)
def test_a_region_that_is_not_set_up_is_said_before_anything_is_launched(
    api: Api, error: PortError, message: str
) -> None:
    api.sites.wrong["us-east-1"] = error
    regions = ["eu-west-1", "us-east-1"]
    response = api.submit(a_job(resources=_resources(regions=regions)))
    assert response.status_code == 422
    assert response.json()["errors"] == [
        {
            "line": None,
            "key": "resources.regions.1",
            "message": message,
            "hint": "or leave the region out",
        }
    ]


def test_a_region_without_a_subnet_where_the_types_are_is_refused(api: Api) -> None:
    """P3 is in us-east-1b and us-east-1d only."""
    api.sites.bare |= {"us-east-1b", "us-east-1d"}
    amis = {"us-east-1": "ami-00000000000000000"}
    resources = _resources(instance_types=["p3.2xlarge"])
    response = api.submit(a_job(resources=resources, amis=amis))
    assert response.status_code == 422
    problem = {
        "line": None,
        "key": "resources.regions.0",
        "message": "no subnet in any zone of us-east-1 that offers p3.2xlarge"
        " (us-east-1b, us-east-1d)",
        "hint": "add one there, with the tag spotrunner:subnet where others have it,"
        " or leave it out",
    }
    assert response.json()["errors"] == [problem]
    # Where the other types can be launched, one less is no reason to refuse.
    resources = _resources(instance_types=["p3.2xlarge", "g4dn.xlarge"])
    response = api.submit(a_job(resources=resources, amis=amis))
    assert response.status_code == 200
    legacy = response.json()["warnings"][0]
    assert legacy["message"] == "p3.2xlarge is a type that AWS retires: few zones still have it"
    assert response.json()["warnings"][1:] == [problem]


def test_a_zone_without_a_subnet_is_one_zone_less(api: Api) -> None:
    api.sites.bare.add("us-east-1a")
    assert api.submit(a_job()).json()["warnings"] == []


def test_a_set_up_that_cannot_be_read_is_a_warning(api: Api) -> None:
    api.sites.wrong["us-east-1"] = Unavailable("no route")
    answer = api.submit(a_job(resources=_resources(regions=["eu-west-1", "us-east-1"]))).json()
    assert [(it["key"], it["message"]) for it in answer["warnings"]] == [
        (
            "resources.regions.1",
            "us-east-1 did not answer, so what it has could not be checked: no route",
        )
    ]


# -- what is not known ---------------------------------------------------------------------------

OFFERINGS = "DescribeInstanceTypeOfferings"


def _silent(api: Api, region: str, action: str = OFFERINGS) -> None:
    api.world.script(Fault(action=action, region=region, lose=Lose.BEFORE, times=100))


def test_a_region_that_does_not_answer_is_a_warning_and_no_refusal(api: Api) -> None:
    _silent(api, "eu-west-1")
    resources = _resources(
        instance_types=["g4dn.xlarge", "g6.xlarge"], regions=["us-east-1", "eu-west-1"]
    )
    warnings = api.post("/v1/offers", a_job(resources=resources))["warnings"]
    (warning,) = warnings
    assert warning["key"] == "resources.regions.1"
    assert warning["message"].startswith(
        "eu-west-1 did not answer, so what it has could not be checked: "
    )
    taken = api.submit(a_job(resources=resources))
    assert taken.status_code == 200
    assert taken.json()["warnings"] == warnings
    assert len(api.store.jobs()) == 1


def test_what_a_silent_region_may_offer_more_cheaply_is_no_reason_to_refuse_a_budget(
    api: Api,
) -> None:
    _silent(api, "eu-west-1")
    resources = _resources(
        instance_types=["g4dn.xlarge", "g6.xlarge"], regions=["us-east-1", "eu-west-1"]
    )
    assert api.submit(a_job(resources=resources, budget="0.01")).status_code == 200


def test_where_no_region_answers_nothing_can_be_checked(api: Api) -> None:
    for region in ("us-east-1", "eu-west-1"):
        _silent(api, region)
    fields = a_job(resources=_resources(regions=["us-east-1", "eu-west-1"]))
    for response in (api.client.post("/v1/offers", json=fields), api.submit(fields)):
        assert response.status_code == 503
        (error,) = response.json()["errors"]
        message = "the job cannot be checked now, since no region answers (us-east-1: "
        assert error["message"].startswith(message)
        assert "; eu-west-1: " in error["message"]
        assert error["hint"] == "try again"
    assert api.store.jobs() == ()
    assert api.stored_keys == []


def test_what_is_surely_wrong_is_said_although_no_region_answers(api: Api) -> None:
    _silent(api, "us-east-1")
    data = [{"source": "s3://data-bucket/nothing/", "target": "d"}]
    response = api.submit(a_job(resources=_resources(), data=data))
    assert response.status_code == 422
    assert [error["key"] for error in response.json()["errors"]] == ["data.0.source"]


def test_what_was_known_of_a_silent_region_is_enough(api: Api) -> None:
    fields = a_job(resources=_resources())
    api.post("/v1/offers", fields)
    api.clock.advance(601)
    _silent(api, "us-east-1")
    assert api.post("/v1/offers", fields)["warnings"] == []


def test_a_type_without_a_known_price_is_offered_all_the_same(api: Api) -> None:
    _silent(api, "us-east-1", action="GetProducts")
    answer = api.post("/v1/offers", a_job(resources=_resources()))
    assert {row["left_out"] for row in answer["offers"]} == {"its on-demand price is not known"}
    assert answer["why"] == "no pool of the job's types and regions has a known price"
    assert answer["warnings"] == [
        {
            "line": None,
            "key": "resources.instance_types.0",
            "message": "g4dn.xlarge is offered in us-east-1, but its price there is not known now:"
            " it is taken once it is",
            "hint": "",
        }
    ]


def test_a_region_that_the_daemon_may_not_ask_is_named_with_the_reason(api: Api) -> None:
    no = ApiError("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
    api.world.script(Fault(action=OFFERINGS, region="us-east-1", error=no, times=100))
    response = api.submit(a_job(resources=_resources()))
    assert response.status_code == 422
    assert response.json()["errors"] == [
        {
            "line": None,
            "key": "resources.regions.0",
            "message": "AWS does not allow the daemon to use us-east-1:"
            " DescribeInstanceTypeOfferings: UnauthorizedOperation: You are not authorized to"
            " perform this operation: allow it in the policy of these credentials",
            "hint": "or leave the region out",
        }
    ]


def test_to_name_the_nearest_type_no_prices_are_read(api: Api) -> None:
    wanted = ["g6.xlarge", "g4dn.xlarge"]
    response = api.submit(a_job(resources=_resources(instance_types=wanted)))
    (error,) = response.json()["errors"]
    assert error["message"] == "g6.xlarge is not offered in us-east-1"
    assert error["hint"] == "the nearest type offered there is g5.xlarge"
    assert api.board.markets()["us-east-1"].types == set(wanted)


@pytest.mark.parametrize(
    ("packed", "more", "status", "words"),
    [
        (b"no archive", {}, 422, "it is no .tar.gz archive"),
        (b"", {}, 422, "it is no .tar.gz archive"),
        (a_workdir(), {"workdir_sha256": "0" * 64}, 422, "its sha256 is another"),
        (b"x" * (MAX_WORKDIR_BYTES + 1), {}, 413, "the packed workdir is larger than"),
        (b"x" * (MAX_WORKDIR_BYTES + (2 << 20)), {}, 413, "MiB are not taken"),
    ],
    ids=["no archive", "empty", "other digest", "too large", "far too large"],
)
def test_a_wrong_workdir_leaves_nothing_behind(
    api: Api, packed: bytes, more: dict[str, str], status: int, words: str
) -> None:
    response = api.submit(a_job(), packed, **more)
    assert response.status_code == status
    assert words in response.json()["errors"][0]["message"]
    assert api.store.jobs() == ()
    assert api.stored_keys == []


def test_a_body_that_hides_its_length_is_bounded_too(api: Api) -> None:
    def endless() -> Any:
        for _ in range(10_000):
            yield b" " * 1024

    response = api.client.post("/v1/offers", content=endless())
    assert response.status_code == 413


@pytest.mark.parametrize("body", ["", "{", "[" * 100_000, '"text"', "[]"])
def test_what_is_no_job_is_said(api: Api, body: str) -> None:
    response = api.client.post("/v1/offers", content=body)
    assert response.status_code == 422
    assert response.json()["errors"]


@pytest.mark.parametrize(
    "form", [{}, {"job": (None, "{}"), "workdir": (None, "text")}], ids=["empty", "text"]
)
def test_a_form_that_is_none_of_ours_is_refused(api: Api, form: dict[str, Any]) -> None:
    response = api.client.post("/v1/jobs", files=form)
    assert response.status_code == 422
    assert response.json()["errors"]


def test_no_job_is_stored_when_s3_does_not_answer(api: Api) -> None:
    api.home.fail_next("put", Unavailable("S3 is away"))
    response = api.submit(a_job(), a_workdir())
    assert response.status_code == 503
    assert response.json()["errors"][0]["message"] == "S3 is away"
    assert api.store.jobs() == ()


@pytest.mark.parametrize(
    ("error", "status", "message", "hint"),
    [
        (Unavailable("S3 is away"), 503, "S3 is away", "try again"),
        (
            NotAuthorized("PutObject: AccessDenied: no: allow it in the policy of the bucket"),
            403,
            "AWS does not allow it to the daemon: PutObject: AccessDenied: no: allow it in the"
            " policy of the bucket",
            "mend that first: trying again does not help",
        ),
        (
            Misconfigured("NoSuchBucket: check the bucket's name"),
            424,
            "the daemon cannot do it as it is set up: NoSuchBucket: check the bucket's name",
            "mend that first: trying again does not help",
        ),
        (PreconditionFailed("412"), 500, "PreconditionFailed in /v1/jobs", ""),
    ],
    ids=["unavailable", "not authorized", "misconfigured", "a bug"],
)
def test_what_aws_says_no_to_has_its_words_and_nobody_is_told_to_try_again(
    api: Api, error: PortError, status: int, message: str, hint: str
) -> None:
    api.home.fail_next("put", error)
    response = api.submit(a_job())
    assert response.status_code == status
    assert response.json()["errors"] == [
        {"line": None, "key": "", "message": message, "hint": hint}
    ]
    assert api.store.jobs() == ()


# -- offers ------------------------------------------------------------------------------------


def test_the_offers_name_the_one_that_place_would_choose(api: Api) -> None:
    answer = api.post("/v1/offers", a_job())
    rows = answer["offers"]
    assert [row["chosen"] for row in rows] == [True] + [False] * (len(rows) - 1)
    place = {
        "region": "us-east-1",
        "zone": "us-east-1a",
        "instance_type": "g4dn.xlarge",
        "market": "spot",
        "price_usd_hour": 0.15,
        "ondemand_usd_hour": 0.526,
        "chosen": True,
        "left_out": None,
    }
    assert {key: rows[0][key] for key in place} == place
    assert {row["instance_type"] for row in rows} == {"g4dn.xlarge", "g5.xlarge"}
    assert {row["market"] for row in rows} == {"spot", "on-demand"}
    assert answer["errors"] == answer["warnings"] == []


def test_a_pool_that_refused_a_launch_is_left_out_with_its_reason(api: Api) -> None:
    pool = Pool(region="us-east-1", zone="us-east-1a", instance_type="g4dn.xlarge")
    refusal = Refusal(
        pool=pool, market=Market.SPOT, at=START, meaning=Refused.CAPACITY, message="no capacity"
    )
    api.store.write(api.store.lead("a test"), Changes(refusals=(refusal,)))
    first, second, *_ = api.post("/v1/offers", a_job())["offers"]
    assert first["left_out"] == "cooling down until 08:10:00: no capacity"
    assert not first["chosen"]
    assert second["chosen"]


def test_an_offer_that_the_budget_does_not_start_is_left_out(api: Api) -> None:
    rows = api.post("/v1/offers", a_job(budget="0.20"))["offers"]
    left_out = {row["instance_type"]: row["left_out"] for row in rows}
    assert left_out == {
        "g4dn.xlarge": None,
        "g5.xlarge": "the budget does not pay a first step of it",
    }


def test_an_image_without_a_gpu_is_a_warning(api: Api) -> None:
    answer = api.post("/v1/offers", a_job(image="tensorflow/tensorflow:2.20.0-gpu"))
    (warning,) = answer["warnings"]
    assert warning["key"] == "image"
    assert "finds no GPU" in warning["message"]
