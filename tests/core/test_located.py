from __future__ import annotations

import pytest

from spotrunner.core import located
from spotrunner.core.located import BadFile, Problem

TEXT = """\
name: digits
resources:
  regions: [us-east-1, us-west-2]
  any_of:
    - type: g5.xlarge
envs:
  RATE: 0.10
  A.B: 007
"""


def test_every_key_and_item_has_its_line() -> None:
    document = located.read(TEXT, "job.yaml")
    assert document.lines[("name",)] == 1
    assert document.lines[("resources", "regions", 1)] == 3
    assert document.lines[("resources", "any_of", 0, "type")] == 5
    assert document.line_of(("resources", "regions", 7, "deep")) == 3
    assert document.line_of(("nowhere",)) == 1


def test_a_scalar_keeps_its_words() -> None:
    document = located.read(TEXT, "job.yaml")
    assert document.values["envs"]["RATE"] == 0.1
    assert document.words[("envs", "RATE")] == "0.10"
    assert document.words[("envs", "A.B")] == "007"


def test_a_dotted_key_finds_its_path_or_the_nearest_around_it() -> None:
    document = located.read(TEXT, "job.yaml")
    assert document.path_of("resources.any_of.0.type") == ("resources", "any_of", 0, "type")
    assert document.path_of("envs.A.B") == ("envs", "A.B")
    assert document.path_of("resources.regions.9") == ("resources", "regions")
    assert document.path_of("nonsense") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f:1: expected `key: value` lines, found nothing"),
        ("- a\n", "f:1: expected `key: value` lines, found a list"),
        ("a\n", "f:1: expected `key: value` lines, found text"),
        ("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", None),
        ("a: [1\nb: 2\n", "f:2: not valid YAML: expected ',' or ']', but got ':'"),
        (
            "a:\n\tb: 1\n",
            r"f:2: not valid YAML: found character '\t' that cannot start any token;"
            " YAML indents with spaces",
        ),
        ("a: 1\n---\nb: 2\n", "f:2: not valid YAML: but found another document"),
        ("a: !!python/name:os.system\n", None),
    ],
)
def test_what_is_no_mapping_is_refused(text: str, message: str | None) -> None:
    with pytest.raises(BadFile) as caught:
        located.read(text, "f")
    if message is not None:
        assert str(caught.value) == message


def test_a_key_that_is_there_twice_names_both_lines() -> None:
    with pytest.raises(BadFile) as caught:
        located.read("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "f")
    assert str(caught.value) == (
        "f:4: b.c: the key is there twice (first in line 3)\n"
        "f:5: a: the key is there twice (first in line 1)"
    )


def test_problems_are_told_by_line() -> None:
    error = BadFile(
        "f", [Problem(message="second", line=2, key="b", hint="do"), Problem(message="first")]
    )
    assert str(error) == "f: first\nf:2: b: second; do"
