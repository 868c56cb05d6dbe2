"""What a job file may say, beyond what tests/web/test_submit sends."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from spotrunner.core import located
from spotrunner.core.model import JobSpec, Market
from spotrunner.web.schema import JobFile, bucket_and_prefix, to_spec
from tests.web.conftest import a_job

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.timezone.utc)
REPOSITORY = Path(__file__).parents[2]


def _said(text: str) -> list[str]:
    document = located.read(text, "job.yaml")
    with pytest.raises(ValidationError) as caught:
        JobFile.model_validate(document.values)
    return located.lines("job.yaml", located.located(caught.value.errors(), document, JobFile))


def test_everything_wrong_is_said_with_its_line() -> None:
    assert _said(
        "name: 7up\n"
        "resources:\n"
        "  instance_types: [g4dn.xlarg]\n"
        "  regions: [us-east-1a]\n"
        "  use_spott: true\n"
        "image: tensorflow/tensorflow:latest\n"
        "rum: python train.py\n"
        "budget: -1\n"
    ) == [
        "job.yaml:1: name: expected 1 to 32 of a-z 0-9 -, starting with a letter, found '7up';"
        " nearest: up",
        "job.yaml:3: resources.instance_types.0: g4dn.xlarg is not a GPU instance type that is"
        " known here; nearest: g4dn.xlarge",
        "job.yaml:4: resources.regions.0: us-east-1a is a zone, not a region; its region is"
        " us-east-1",
        "job.yaml:5: resources.use_spott: unknown key; did you mean use_spot?",
        "job.yaml:6: image: the tag latest is another image from one day to the next, so that a"
        " resumed run could go on with another TensorFlow; pin it:"
        " tensorflow/tensorflow:2.17.0-gpu",
        "job.yaml:1: run: missing",
        "job.yaml:8: budget: expected more than 0 USD, found -1",
        "job.yaml:7: rum: unknown key; did you mean run?",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resources": {"instance_types": [], "regions": ["us-east-1"]}}, "at least one"),
        (
            {"resources": {"instance_types": ["g5.xlarge"], "regions": ["us-east-1"] * 2}},
            "named twice: us-east-1",
        ),
        ({"resources": 3}, "expected `key: value` lines, found 3"),
        ({"image": "no image"}, "expected a container image"),
        ({"data": [{"source": "s3://data-bucket/a", "target": "a"}]}, "s3://data-bucket/a/"),
        ({"data": [{"source": "https://a/b/", "target": "a"}]}, "expected s3://BUCKET/PREFIX/"),
        ({"data": [{"source": "s3://data-bucket/", "target": "a"}]}, "s3://BUCKET/PREFIX/"),
        ({"data": [{"source": "s3://data-bucket/a/", "target": "../a"}]}, "below the data"),
        ({"data": [{"source": "s3://data-bucket/a/", "target": "/a"}]}, "below the data"),
        (
            {"data": [{"source": "s3://data-bucket/a/", "target": "a", "mode": "link"}]},
            "expected 'copy' or 'mount'",
        ),
        (
            {
                "data": [
                    {"source": "s3://data-bucket/a/", "target": "a/b"},
                    {"source": "s3://data-bucket/b/", "target": "a/"},
                ]
            },
            "two sources fill one folder: the targets a and a/b",
        ),
        ({"envs": {"1A": "x"}}, "a variable's name"),
        ({"envs": {"SPOTRUNNER_JOB": "x"}}, "is set by spotrunner itself"),
        ({"envs": {"A": "a\0b"}}, "NUL"),
        ({"run": "  "}, "expected some text, found none"),
        ({"budget": True}, "expected a number, found true"),
        ({"budget": "NaN"}, "expected a number"),
        ({"budget": "1e12"}, "at most 1000000000 USD"),
        ({"save_signal": "yes"}, "expected true or false, found 'yes'"),
        ({"retries": 1.5}, "expected a whole number"),
        ({"amis": {"us-east-1": "i-1"}}, "ami-0123456789abcdef0"),
    ],
)
def test_a_wrong_value_has_its_sentence(changes: dict[str, Any], words: str) -> None:
    fields = {**a_job(data=None), **changes}
    with pytest.raises(ValidationError) as caught:
        JobFile.model_validate(fields)
    document = located.Document(values=fields)
    (problem,) = located.located(caught.value.errors(), document, JobFile)
    assert words in problem.message


@pytest.mark.parametrize(
    ("image", "what", "pinned"),
    [
        *(
            (f"tensorflow/tensorflow:{tag}", f"the tag {tag}", "tensorflow/tensorflow:2.17.0-gpu")
            for tag in (
                "latest",
                "latest-gpu",
                "latest-gpu-jupyter",
                "nightly",
                "nightly-gpu",
                "nightly-gpu-jupyter",
                "devel",
                "devel-gpu",
            )
        ),
        ("tensorflow/tensorflow", "an image without a tag", "tensorflow/tensorflow:2.17.0-gpu"),
        (
            "docker.io/tensorflow/tensorflow:Latest",
            "the tag Latest",
            "tensorflow/tensorflow:2.17.0-gpu",
        ),
        *(
            (
                f"localhost:5000/mine{tag and ':'}{tag}",
                f"the tag {tag}" if tag else "an image without a tag",
                "localhost:5000/mine:VERSION or localhost:5000/mine@sha256:DIGEST, or take"
                " tensorflow/tensorflow:2.17.0-gpu",
            )
            for tag in ("", "2-latest", "tf-nightly", "nightly2026")
        ),
    ],
)
def test_an_image_that_floats_is_refused_with_the_pinned_one(
    image: str, what: str, pinned: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        JobFile.model_validate(a_job(image=image))
    assert str(caught.value.errors()[0]["ctx"]["error"]) == (
        f"{what} is another image from one day to the next, so that a resumed run could go on with"
        f" another TensorFlow; pin it: {pinned}"
    )


@pytest.mark.parametrize(
    "image",
    [
        "my-registry.example:5000/team/tf:2.17",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/tf:v1",
        "tensorflow/tensorflow@sha256:" + "0" * 64,
        "tensorflow/tensorflow:latest-gpu@sha256:" + "0" * 64,
        "tensorflow/tensorflow:2.17.0-gpu-jupyter",
        "nvidia/cuda:12.3.0-devel-ubuntu22.04",
        "mine:latestish",
    ],
)
def test_a_pinned_image_is_taken(image: str) -> None:
    file = JobFile.model_validate(a_job(image=image))
    assert file.image == image
    assert file.warnings == ()


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        *(
            (tag, "it has cuDNN 8, and its TensorFlow needs 9")
            for tag in (
                "2.18.0-gpu",
                "2.19.0-gpu",
                "2.20.0-gpu",
                "2.21.0-gpu",
                "2.19.1-gpu-jupyter",
                "2.20.0-gpu@sha256:" + "0" * 64,
            )
        ),
        ("2.17.0", "it is the build without CUDA"),
        ("2.19.0-jupyter", "it is the build without CUDA"),
    ],
)
def test_stock_images_that_find_no_gpu_are_warned_of(tag: str, why: str) -> None:
    image = f"tensorflow/tensorflow:{tag}"
    (warning,) = JobFile.model_validate(a_job(image=image)).warnings
    assert warning.message == f"{image} finds no GPU: {why}"
    assert warning.hint == "take tensorflow/tensorflow:2.17.0-gpu"


def test_the_spec_has_what_the_file_says() -> None:
    file = JobFile.model_validate(
        a_job(
            setup="pip install x",
            budget=Decimal("0.000001"),
            retries=2,
            save_signal=False,
            amis={"us-east-1": "ami-0123456789abcdef0"},
        )
    )
    spec = to_spec(file, "0" * 64, NOW)
    assert spec == JobSpec(
        name="digits",
        run="python train.py",
        image="tensorflow/tensorflow:2.17.0-gpu",
        instance_types=("g4dn.xlarge", "g5.xlarge"),
        regions=("us-east-1",),
        setup="pip install x",
        workdir_sha256="0" * 64,
        data=spec.data,
        envs=(("BUCKET", "data-bucket"),),
        market=Market.SPOT,
        budget_usd_micros=1,
        retries=2,
        handles_save_signal=False,
        disk_gib=100,
        amis=(("us-east-1", "ami-0123456789abcdef0"),),
        owner="nobody",
    )
    assert bucket_and_prefix(spec.data[0].source) == ("data-bucket", "digits/")


def test_what_is_sent_means_what_was_read() -> None:
    file = JobFile.model_validate(a_job(budget=0.1))
    sent = file.model_dump(mode="json", exclude_unset=True)
    again = JobFile.model_validate(sent)
    assert to_spec(again, None, NOW) == to_spec(file, None, NOW)
    assert to_spec(again, None, NOW).budget_usd_micros == 100_000


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("payloads/digits", "digits"),
        ("examples/overnight", "overnight"),
        ("examples/bert-p3", "bert-p3"),
    ],
)
def test_the_job_files_that_come_along_are_right(path: str, name: str) -> None:
    text = (REPOSITORY / path / "job.yaml").read_text()
    values = located.read(text, "job.yaml").values
    values.setdefault("envs", {})["BUCKET"] = "my-bucket"
    assert to_spec(JobFile.model_validate(values), None, NOW).name == name
