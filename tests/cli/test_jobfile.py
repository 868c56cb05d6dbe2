"""The exact words for everything that can be wrong with a job file, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from spotrunner.cli.failure import BadInput
from spotrunner.cli.jobfile import Submission, given_envs, read_job
from spotrunner.core.located import BadFile, Problem

GOOD = """\
name: digits
resources:
  instance_types: [g4dn.xlarge, g5.xlarge]
  regions: [us-east-1]
image: tensorflow/tensorflow:2.17.0-gpu
run: python train.py
"""

BAD = """\
name: My Job
resource:
  instance_types: [g4dn.xlarge]
resources:
  instance_type: [g4dn.xlarge]
  instance_types: [g4ad.xlarge, g4dn.xlrage, t3.micro]
  regions: [us-est-1, us-east-1a]
  disk_gib: big
image: tensorflow/tensorflow:latest-gpu
workdir: nowhere
envs:
  BUCKET: null
  RATE: 0.10
  N: [1]
data:
  - {source: "s3://${BUCKET}/x/", target: ../up}
  - {source: "s3://${OTHER}/x/", target: b}
run:
budget: -3
retries: 1.5
banana: 1
"""

BAD_WORDS = """\
F:1: name: expected 1 to 32 of a-z 0-9 -, starting with a letter, found 'My Job'; nearest: my-job
F:2: resource: unknown key; did you mean resources?
F:5: resources.instance_type: unknown key; did you mean instance_types?
F:6: resources.instance_types.0: g4ad.xlarge cannot be used: its GPU is AMD's, and TensorFlow's \
builds here need CUDA; the nearest is g4dn.xlarge
F:6: resources.instance_types.1: g4dn.xlrage is not a GPU instance type that is known here; \
nearest: g4dn.xlarge
F:6: resources.instance_types.2: t3.micro is not a GPU instance type that is known here; \
known families: g4dn, g5, g6, g6e, p3, p3dn, p4d, p4de, p5, p5en (to start with: g4dn.xlarge)
F:7: resources.regions.0: us-est-1 is not an AWS region; nearest: us-east-1
F:7: resources.regions.1: us-east-1a is a zone, not a region; its region is us-east-1
F:8: resources.disk_gib: expected a whole number, found 'big'
F:9: image: the tag latest-gpu is another image from one day to the next, so that a resumed run \
could go on with another TensorFlow; pin it: tensorflow/tensorflow:2.17.0-gpu
F:10: workdir: nowhere does not exist; it was looked for in DIR
F:12: envs.BUCKET: has no value; give it there or with --env BUCKET=VALUE
F:14: envs.N: expected text, found a list
F:16: data.0.target: expected a folder below the data directory, found '../up'
F:17: data.1.source: ${OTHER} is no key of envs; add it there, or give --env OTHER=VALUE
F:18: run: expected text, found nothing
F:19: budget: expected more than 0 USD, found -3
F:20: retries: expected a whole number, found 1.5
F:21: banana: unknown key; known keys here: name, resources, image, run, setup, workdir, data, \
envs, secrets, budget, retries, save_signal, as_root, checkpoint, stall_after, amis, work, speeds, \
deadline, policy, max_price, owner, sweep, tz, window, pause_above, pause_after, resume_below, \
unattended, alerts, on_conflict"""


def _read(folder: Path, text: str, **given: str) -> Submission:
    file = folder / "job.yaml"
    file.write_text(text)
    return read_job(file, given)


def _words(folder: Path, text: str, **given: str) -> str:
    with pytest.raises(BadFile) as caught:
        _read(folder, text, **given)
    return str(caught.value).replace(str(folder / "job.yaml"), "F").replace(str(folder), "DIR")


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    assert _words(tmp_path, BAD) == BAD_WORDS


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("image: tensorflow/tensorflow:2.17.0-gpu\n", "", "F:1: image: missing"),
        ("[us-east-1]", "[]", "F:4: resources.regions: expected at least one"),
        ("[us-east-1]", "us-east-1", "F:4: resources.regions: expected a list, found 'us-east-1'"),
        ("name: digits", "name: 12", "F:1: name: expected text, found 12; put it in quotes"),
        ("run: python", "budget: 0\nrun: python", "F:6: budget: expected more than 0 USD, found 0"),
        (
            "run: python",
            "budget: 5 USD\nrun: python",
            "F:6: budget: expected a number, found '5 USD'",
        ),
        (
            "run: python",
            "run: a\nrun: python",
            "F:7: run: the key is there twice (first in line 6)",
        ),
    ],
)
def test_one_thing_that_is_wrong(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert _words(tmp_path, GOOD.replace(old, new)) == words


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"none\.yaml: No such file or directory"):
        read_job(tmp_path / "none.yaml", {})


def test_envs_keep_their_words_and_the_command_line_wins(tmp_path: Path) -> None:
    text = GOOD + "envs: {RATE: 0.10, DEBUG: yes, N: 007, EMPTY: '', OLD: a}\n"
    assert _read(tmp_path, text, OLD="b", NEW="c").fields["envs"] == {
        "RATE": "0.10",
        "DEBUG": "yes",
        "N": "007",
        "EMPTY": "",
        "OLD": "b",
        "NEW": "c",
    }


def test_envs_fill_the_sources_of_data(tmp_path: Path) -> None:
    text = GOOD + "envs: {BUCKET: null}\ndata: [{source: 's3://${BUCKET}/x/', target: x}]\n"
    assert _read(tmp_path, text, BUCKET="my-bucket").fields["data"] == [
        {"source": "s3://my-bucket/x/", "target": "x"}
    ]


def test_the_workdir_is_listed_from_the_files_folder_and_its_path_stays_here(
    tmp_path: Path,
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("")
    submission = _read(tmp_path, GOOD + "workdir: src\n")
    assert submission.workdir is not None
    assert [entry.name for entry in submission.workdir.entries] == ["train.py"]
    assert "workdir" not in submission.fields


def test_what_cannot_be_packed_is_a_problem_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "key").symlink_to("/etc/passwd")
    assert _words(tmp_path, GOOD + "workdir: src\n") == (
        "F:7: workdir: key is a link that leaves the folder (to /etc/passwd):"
        " copy what it points to, or name it in .spotrunnerignore"
    )
    assert _words(tmp_path, GOOD + "workdir: job.yaml\n") == (
        "F:7: workdir: job.yaml is no folder; it was looked for in DIR"
    )


def test_what_the_daemon_finds_wrong_gets_its_line(tmp_path: Path) -> None:
    submission = _read(tmp_path, GOOD)
    found = submission.bad(
        [
            Problem(key="resources.instance_types.1", message="not offered", hint="take another"),
            Problem(key="", message="in general"),
        ]
    )
    assert str(found).replace(str(tmp_path / "job.yaml"), "F") == (
        "F: in general\nF:3: resources.instance_types.1: not offered; take another"
    )


def test_an_image_that_finds_no_gpu_is_warned_of(tmp_path: Path) -> None:
    submission = _read(tmp_path, GOOD.replace("2.17.0", "2.19.0"))
    (line,) = submission.lines(submission.job.warnings)
    assert line.replace(str(tmp_path / "job.yaml"), "F") == (
        "F:5: image: tensorflow/tensorflow:2.19.0-gpu finds no GPU: it has cuDNN 8, and its"
        " TensorFlow needs 9; take tensorflow/tensorflow:2.17.0-gpu"
    )


@pytest.mark.parametrize(
    ("login", "owner"),
    [("alice", "alice"), ("Bob.Smith", "bob-smith"), ("_www", "www"), ("1000", "nobody")],
)
def test_a_job_belongs_to_whoever_submits_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: str, owner: str
) -> None:
    monkeypatch.setenv("LOGNAME", login)
    assert _read(tmp_path, GOOD).fields["owner"] == owner
    assert _read(tmp_path, GOOD + "owner: carol\n").fields["owner"] == "carol"


def test_a_user_without_a_name_is_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    assert _read(tmp_path, GOOD).fields["owner"] == "nobody"


def test_env_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "from the shell")
    assert given_envs(["A=1", "B=x=y", "C=", "HERE"]) == {
        "A": "1",
        "B": "x=y",
        "C": "",
        "HERE": "from the shell",
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("=1", "--env =1: expected NAME=VALUE, or NAME to take it from your shell"),
        ("NOT_THERE", "--env NOT_THERE: your shell has no NOT_THERE; give --env NOT_THERE=VALUE"),
    ],
)
def test_wrong_env_options(word: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        given_envs([word])
    assert str(caught.value) == message


def test_a_region_without_prices_is_refused_in_a_job_too(tmp_path: Path) -> None:
    text = BAD.replace("us-est-1, us-east-1a", "cn-north-1, us-gov-east-1")
    said = _words(tmp_path, text).splitlines()
    assert [line for line in said if line.startswith("F:7:")] == [
        f"F:7: resources.regions.{n}: {region} cannot be used: it belongs to {partition}, for which"
        " AWS's price list has no prices, so that no budget could be kept there"
        for n, region, partition in (
            (0, "cn-north-1", "AWS China"),
            (1, "us-gov-east-1", "AWS GovCloud"),
        )
    ]
