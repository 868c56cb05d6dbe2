"""The keys of a job file that say in what its trainer runs, and as whom."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from spotrunner.core import located
from spotrunner.core.model import JobSpec
from spotrunner.web.schema import JobFile, image_problem, to_spec
from tests.web.test_schema_saving import NOW

JOB = """\
name: digits
resources: {instance_types: [g4dn.xlarge], regions: [us-east-1]}
run: python train.py
"""


def _spec(text: str) -> JobSpec:
    file = JobFile.model_validate(located.read(JOB + text, "F").values)
    sent = file.model_dump(mode="json", exclude_unset=True)
    return to_spec(JobFile.model_validate(sent), None, NOW)


def _said(text: str) -> list[str]:
    """What is wrong with these lines at the end of a job file; they begin in line 4."""
    document = located.read(JOB + text, "F")
    with pytest.raises(ValidationError) as caught:
        JobFile.model_validate(document.values)
    return located.lines("F", located.located(caught.value.errors(), document, JobFile))


@pytest.mark.parametrize("written", ["none", "None", "NONE"])
def test_a_job_may_do_without_a_container(written: str) -> None:
    assert _spec(f"image: {written}\n").image == "none"
    assert image_problem(written) is not None, "but no image can be made of it"


def test_a_trainer_is_root_only_where_its_job_says_so() -> None:
    image = "image: tensorflow/tensorflow:2.17.0-gpu\n"
    assert not _spec(image).as_root
    assert _spec(f"{image}as_root: true\n").as_root


def test_root_without_a_container_would_be_root_of_the_machine() -> None:
    assert _said("image: none\nas_root: true\n") == [
        "F:5: as_root: without a container (image: none) root would be root of the machine, with"
        " the instance's own credentials: leave as_root out, or name an image"
    ]


def test_as_root_is_a_yes_or_no() -> None:
    (said,) = _said("image: none\nas_root: maybe\n")
    assert said.startswith("F:5: as_root: ")
