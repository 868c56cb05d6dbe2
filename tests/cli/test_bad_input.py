"""Each mistake of a user's has its own sentence, in full, as the command line prints it: before
anything is launched, uploaded or written down. The daemon's part is asked of AWS's adapters over
the lab's wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.aws.sites import AwsSites
from spotrunner.adapters.store.market_memory import MemoryMarket
from spotrunner.core.model import Offer
from spotrunner.daemon.board import Board
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.endpoint.server import LabEndpoint
from spotrunner.ports import Sites
from spotrunner.sim.cloud import SimPrices, VirtualClock
from spotrunner.sim.setups import G4DN, G5, P3, plain_setup
from spotrunner.sim.stage import Inline
from spotrunner.sim.values import Manners
from spotrunner.sim.world import World
from tests.build import T0
from tests.cli.conftest import Behind, Run, written
from tests.cli.secret_mistakes import SECRET_MISTAKES
from tests.contracts.conftest import set_keys

JOB = """\
name: digits
resources:
  instance_types: [g4dn.xlarge]
  regions: [us-east-1]
image: tensorflow/tensorflow:2.17.0-gpu
workdir: src
data:
  - {source: "s3://data-bucket/digits/", target: digits}
run: python train.py
budget: 2.00
"""

TYPES, REGIONS = "[g4dn.xlarge]", "[us-east-1]"
IMAGE = "image: tensorflow/tensorflow:2.17.0-gpu"
FLOATS = (
    "is another image from one day to the next, so that a resumed run could go on with another"
    " TensorFlow; pin it:"
)

# (what the user did, the text in the file, what stands there instead, the line that is printed);
# F is the job file, DIR its folder.
MISTAKES = [
    ("unknown key", "budget:", "budgte:", "F:10: budgte: unknown key; did you mean budget?"),
    ("missing key", "run: python train.py\n", "", "F:1: run: missing"),
    (
        "wrong kind of value",
        "budget: 2.00",
        "retries: many",
        "F:10: retries: expected a whole number, found 'many'",
    ),
    (
        "floating tag",
        IMAGE,
        "image: tensorflow/tensorflow:latest-gpu",
        f"F:5: image: the tag latest-gpu {FLOATS} tensorflow/tensorflow:2.17.0-gpu",
    ),
    (
        "nightly tag",
        IMAGE,
        "image: tensorflow/tensorflow:nightly-gpu",
        f"F:5: image: the tag nightly-gpu {FLOATS} tensorflow/tensorflow:2.17.0-gpu",
    ),
    (
        "no tag",
        IMAGE,
        "image: my/image",
        f"F:5: image: an image without a tag {FLOATS} my/image:VERSION or"
        " my/image@sha256:DIGEST, or take tensorflow/tensorflow:2.17.0-gpu",
    ),
    (
        "mistyped type",
        TYPES,
        "[g4dn.xlrage]",
        "F:3: resources.instance_types.0: g4dn.xlrage is not a GPU instance type that is known"
        " here; nearest: g4dn.xlarge",
    ),
    (
        "unknown type",
        TYPES,
        "[t3.micro]",
        "F:3: resources.instance_types.0: t3.micro is not a GPU instance type that is known here;"
        " known families: g4dn, g5, g6, g6e, p3, p3dn, p4d, p4de, p5, p5en (to start with:"
        " g4dn.xlarge)",
    ),
    (
        "AMD type",
        TYPES,
        "[g4ad.xlarge]",
        "F:3: resources.instance_types.0: g4ad.xlarge cannot be used: its GPU is AMD's, and"
        " TensorFlow's builds here need CUDA; the nearest is g4dn.xlarge",
    ),
    (
        "type offered in none of the regions",
        f"{TYPES}\n  regions: {REGIONS}",
        "[p3.2xlarge]\n  regions: [eu-west-1]",
        "F:3: resources.instance_types.0: p3.2xlarge is not offered in eu-west-1; the nearest type"
        " offered there is g5.xlarge",
    ),
    (
        "p3 without an image",
        TYPES,
        "[p3.2xlarge]",
        "F:3: resources.instance_types.0: p3.2xlarge needs an image of your own: its V100 GPU needs"
        " NVIDIA's proprietary driver, which no current Deep Learning AMI has (the last was Base"
        " Proprietary (Amazon Linux 2) 71.6 of January 2026); name one in the settings, amis:"
        " {us-east-1: {p3: ami-…}}, or bake one (spotrunner bake --for p3 --ami us-east-1=ami-…);"
        " or name it in the job file, amis: {us-east-1: ami-…}",
    ),
    (
        "an image that is not there",
        "budget: 2.00",
        "amis: {us-east-1: ami-0123456789abcdef0}",
        "F:10: amis.us-east-1: there is no image ami-0123456789abcdef0 in us-east-1 that this"
        " account may use: each region has image ids of its own, and a private image has to be"
        " shared",
    ),
    (
        "missing workdir",
        "workdir: src",
        "workdir: scr",
        "F:6: workdir: scr does not exist; it was looked for in DIR",
    ),
    (
        "prefix that is not there",
        "/digits/",
        "/digitz/",
        "F:8: data.0.source: there is nothing in s3://data-bucket/digitz/",
    ),
    (
        "bucket that is not there",
        "data-bucket",
        "date-bucket",
        "F:8: data.0.source: s3://date-bucket/digits/ cannot be read: there is no bucket"
        " date-bucket",
    ),
    ("no budget", "2.00", "0", "F:10: budget: expected more than 0 USD, found 0"),
    ("negative budget", "2.00", "-3", "F:10: budget: expected more than 0 USD, found -3"),
    (
        "budget below a start",
        "2.00",
        "0.01",
        "F:10: budget: 0.0100 USD does not pay a start: the first 1020 s on us-east-1a/g4dn.xlarge,"
        " with its disk and its address, need 0.16 USD in reserve",
    ),
    (
        "mistyped region",
        REGIONS,
        "[us-est-1]",
        "F:4: resources.regions.0: us-est-1 is not an AWS region; nearest: us-east-1",
    ),
    (
        "zone for a region",
        REGIONS,
        "[us-east-1a]",
        "F:4: resources.regions.0: us-east-1a is a zone, not a region; its region is us-east-1",
    ),
    (
        "deadline without a zone",
        "budget: 2.00",
        "work: 8h\ndeadline: 2026-11-02T18:00",
        "F:11: deadline: 2026-11-02T18:00 has no time zone: write 2026-11-02T18:00Z if it is UTC,"
        " or its distance from UTC, as in 2026-11-02T18:00+01:00",
    ),
    (
        "deadline that YAML takes for a time",
        "budget: 2.00",
        "work: 8h\ndeadline: 2026-11-02 18:00:00",
        "F:11: deadline: 2026-11-02T18:00:00 has no time zone: write 2026-11-02T18:00:00Z if it is"
        " UTC, or its distance from UTC, as in 2026-11-02T18:00:00+01:00",
    ),
    (
        "deadline that is no time",
        "budget: 2.00",
        "work: 8h\ndeadline: monday",
        "F:11: deadline: expected a time with its zone, such as 2026-11-22T18:00Z, a time of day in"
        ' quotes, such as "07:00", or how long from the submission on, such as 12h or 1h30m, found'
        " 'monday'",
    ),
    (
        "deadline without quotes",
        "budget: 2.00",
        "work: 8h\ndeadline: 22:00",
        "F:11: deadline: without quotes YAML makes 1320 of a time of day: put it in quotes,"
        ' "22:00"',
    ),
    (
        "deadline that the window leaves no time for",
        "budget: 2.00",
        'work: 8h\ndeadline: 12h\nwindow: {start: "20:00", stop: "23:00"}',
        "F:11: deadline: even on-demand it would be 5h 5m late: 8h of work on g4dn.xlarge, the"
        " fastest that it may take, and 5m to start, in 3h that its window is open until then; give"
        " it until 2026-11-03T22:06Z, name a faster type, or add --allow-late",
    ),
    (
        "window without quotes",
        "budget: 2.00",
        'window: {start: 22:00, stop: "07:00"}',
        "F:10: window.start: without quotes YAML makes 1320 of a time of day: put it in quotes,"
        ' "22:00"',
    ),
    (
        "window of no time",
        "budget: 2.00",
        'window: {start: "07:00", stop: "7:00"}',
        "F:10: window.stop: it starts and stops at 7:00: leave the window out for all day, or write"
        ' "00:00" to "24:00" for whole days',
    ),
    (
        "window of no day",
        "budget: 2.00",
        'window: {start: "22:00", stop: "07:00", days: [mon-fry]}',
        'F:10: window.days: "fry" is no day of the week: write mon, tue, wed, thu, fri, sat, sun,'
        " or two with a dash; did you mean fri?",
    ),
    (
        "window in no zone",
        "budget: 2.00",
        'window: {start: "22:00", stop: "07:00", tz: Shanghai}',
        'F:10: window.tz: "Shanghai" is no time zone that is known here: did you mean'
        " Asia/Shanghai?",
    ),
    (
        "distance for a zone",
        "budget: 2.00",
        "tz: UTC+8",
        'F:10: tz: "UTC+8" is no time zone that is known here: write one such as Europe/Berlin or'
        " Asia/Shanghai",
    ),
    (
        "owner of other letters",
        "budget: 2.00",
        "owner: Alice B",
        "F:10: owner: expected 1 to 32 of a-z 0-9 -, starting with a letter, found 'Alice B';"
        " nearest: alice-b",
    ),
    (
        "sweep without a name",
        "budget: 2.00",
        "sweep: {budget: 50}",
        "F:10: sweep.name: missing",
    ),
    (
        "sweep below a start",
        "budget: 2.00",
        "sweep: {name: lr, budget: 0.05}",
        "F:10: sweep.budget: the budget of the sweep lr of 0.0500 USD does not pay a start: the"
        " first 1020 s on us-east-1a/g4dn.xlarge, with its disk and its address, need 0.16 USD in"
        " reserve; 0.16 would do: sweep: {name: lr, budget: 0.16}",
    ),
    (
        "price to wait at that is no price",
        "budget: 2.00",
        "pause_above: cheap",
        "F:10: pause_above: expected USD an hour, such as 0.60, or a share of the on-demand price,"
        " such as \"40%\", found 'cheap'",
    ),
    (
        "resuming above the price to wait at",
        "budget: 2.00",
        "pause_above: 0.6\nresume_below: 0.7",
        "F:11: resume_below: expected at most pause_above, which is 0.6, found 0.7",
    ),
    (
        "resuming in another unit",
        "budget: 2.00",
        "pause_above: 0.6\nresume_below: 40%",
        "F:11: resume_below: expected the unit of pause_above, which is 0.6, found 40%",
    ),
    (
        "resuming without pausing",
        "budget: 2.00",
        "resume_below: 0.5",
        "F:10: resume_below: it says when a job goes on that pause_above has stopped: add"
        " pause_above: 0.60",
    ),
    (
        "waiting without a price",
        "budget: 2.00",
        "pause_after: 5m",
        "F:10: pause_after: it says how long the price is above pause_above: add that as well",
    ),
    (
        "on-demand that would never run",
        "  regions: [us-east-1]\n",
        "  regions: [us-east-1]\n  use_spot: false\npause_above: 0.5\n",
        "F:6: pause_above: the job would never run: on-demand prices do not change, and the least"
        " is 0.5260 USD/h on us-east-1a/g4dn.xlarge; leave it out, or take spot (use_spot: true)",
    ),
    (
        "unattended for days",
        "budget: 2.00",
        "unattended: 2d",
        "F:10: unattended: expected 30m to 24h, found 2d",
    ),
    (
        "channel of no daemon",
        "budget: 2.00",
        "alerts: [me]",
        "F:10: alerts.0: the daemon has no channel me; its settings name none",
    ),
    (
        "third way out of a conflict",
        "budget: 2.00",
        "on_conflict: both",
        "F:10: on_conflict: expected 'cap' or 'deadline', found 'both'",
    ),
    (
        "deadline in the past",
        "budget: 2.00",
        "work: 8h\ndeadline: 2026-11-01T09:55Z",
        "F:11: deadline: 2026-11-01T09:55Z was 2h 5m ago: it is 2026-11-01T12:00Z now",
    ),
    (
        "deadline that even on-demand cannot meet",
        "budget: 2.00",
        "work: 8h\ndeadline: 6h",
        "F:11: deadline: even on-demand it would be 2h 5m late: 8h of work on g4dn.xlarge, the"
        " fastest that it may take, and 5m to start, in 6h; give it 8h6m (until 2026-11-01T20:06Z),"
        " name a faster type, or add --allow-late",
    ),
    (
        "deadline without work",
        "budget: 2.00",
        "deadline: 12h",
        "F:10: deadline: a deadline needs `work`, how long the training takes on g4dn.xlarge; a"
        " rough guess is enough, since measured progress replaces it: add work: 8h",
    ),
    (
        "work without a unit",
        "budget: 2.00",
        "work: 8",
        "F:10: work: expected a duration such as 8h, 90m or 1h30m, found 8",
    ),
    (
        "mistyped policy",
        "budget: 2.00",
        "policy: cheapset",
        "F:10: policy: there is no policy 'cheapset'; nearest: cheapest",
    ),
    (
        "policy that needs a deadline",
        "budget: 2.00",
        "policy: deadline",
        "F:10: policy: the policy deadline needs a deadline: add deadline: 12h, or take cheapest",
    ),
    (
        "speed of nothing",
        "budget: 2.00",
        "speeds: {g4dn.xlarge: 0}",
        "F:10: speeds.g4dn.xlarge: expected a number above 0, such as 2.5, found 0",
    ),
    (
        "speed of another type",
        "budget: 2.00",
        "speeds: {g5.xlarge: 2}",
        "F:10: speeds: g5.xlarge is no type of this job, which has g4dn.xlarge",
    ),
    (
        "bid that EC2 does not take",
        "budget: 2.00",
        "max_price: 0.001",
        "F:10: max_price: expected more than 0.001 USD, found 0.001",
    ),
    (
        "bid below every price",
        "budget: 2.00",
        "max_price: 0.12",
        "F:10: max_price: 0.1200 USD/h is below every spot price now: the least is 0.1500 USD/h on"
        " us-east-1a/g4dn.xlarge; bid that at least, or leave it out, which is better: EC2 charges"
        " the spot price, never the bid",
    ),
    (
        "bid for on-demand",
        "  regions: [us-east-1]\n",
        "  regions: [us-east-1]\n  use_spot: false\nmax_price: 0.5\n",
        "F:6: max_price: it is a bid for spot, and use_spot is false: leave one of them out",
    ),
    (
        "region of no daemon",
        REGIONS,
        "[us-east-1, us-west-2]",
        "F:4: resources.regions.1: the daemon does not use us-west-2; it uses us-east-1, eu-west-1;"
        " nearest: us-east-1",
    ),
    *SECRET_MISTAKES,
]


@dataclass(frozen=True, kw_only=True)
class Account:
    sites: Sites
    offers: tuple[Offer, ...]


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """The plain market as the lab plays it. Nothing here changes it."""
    clock = VirtualClock(T0)
    world = World(plain_setup(T0, manners=Manners(throttled=False)), 1)
    board = Board(SimPrices(world, clock), clock, Inline(), 600, market=MemoryMarket())
    offers = board.offers(["us-east-1", "eu-west-1"], [G4DN, G5, P3])
    wire = Awkwardness(throttled_share=0.0)
    with (
        pytest.MonkeyPatch.context() as patch,
        LabEndpoint(world, clock, awkwardness=wire) as endpoint,
    ):
        set_keys(patch)
        aws = Aws(endpoint_url=endpoint.url)
        yield Account(sites=AwsSites(aws), offers=offers)
        aws.close()


@pytest.fixture
def behind(behind: Behind, account: Account) -> Behind:
    behind.sites, behind.offers = account.sites, list(account.offers)
    return behind


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("x")
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    return file


def _shown(text: str, job_file: Path) -> str:
    return text.replace(str(job_file), "F").replace(str(job_file.parent), "DIR")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("old", "new", "line"),
    [mistake[1:] for mistake in MISTAKES],
    ids=[mistake[0] for mistake in MISTAKES],
)
def test_a_mistake_has_its_line_and_leaves_nothing_behind(
    behind: Behind, run: Run, job_file: Path, old: str, new: str, line: str
) -> None:
    assert JOB.count(old) == 1
    job_file.write_text(JOB.replace(old, new))
    said = run("submit", job_file, "-y")
    assert (said.code, said.out, _shown(said.err, job_file)) == (2, "", f"{line}\n")
    assert "hunter2" not in said.err, "what may be a secret is not shown"
    assert not behind.store.jobs()
    assert not list(behind.home.list(""))
    assert not behind.wakes


@pytest.mark.usefixtures("here")
def test_without_a_mistake_it_is_submitted(behind: Behind, run: Run, job_file: Path) -> None:
    assert run("submit", job_file, "-y").code == 0
    assert len(behind.store.jobs()) == 1


@pytest.mark.usefixtures("here")
def test_all_mistakes_of_a_file_are_said_at_once(run: Run, job_file: Path) -> None:
    together = ("floating tag", "AMD type", "missing workdir", "negative budget", "mistyped region")
    chosen = [mistake for mistake in MISTAKES if mistake[0] in together]
    text = JOB
    for _, old, new, _ in chosen:
        text = text.replace(old, new)
    job_file.write_text(text)
    said = run("submit", job_file, "-y")
    lines = sorted((line for *_, line in chosen), key=lambda line: int(line.split(":")[1]))
    assert _shown(said.err, job_file).splitlines() == lines


@pytest.mark.usefixtures("here")
def test_and_so_are_those_that_only_the_daemon_finds(run: Run, job_file: Path) -> None:
    together = (
        "type offered in none of the regions",
        "prefix that is not there",
    )
    chosen = [mistake for mistake in MISTAKES if mistake[0] in together]
    text = JOB
    for _, old, new, _ in chosen:
        text = text.replace(old, new)
    job_file.write_text(text)
    said = run("submit", job_file, "-y")
    assert _shown(said.err, job_file).splitlines() == [line for *_, line in chosen]


# -- no daemon ---------------------------------------------------------------------------------

START_IT = "; start it: spotrunner daemon --config FILE\n"
COMMANDS = [
    ("ls",),
    ("show", "digits"),
    ("logs", "digits"),
    ("explain", "digits"),
    ("cancel", "digits"),
    ("checkpoint", "digits"),
    ("submit", "F", "-y"),
    ("offers", "F"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_without_a_daemon_one_line_says_how_to_start_it(
    run: Run, job_file: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    words = [str(job_file) if word == "F" else word for word in command]
    missing = tmp_path / "none.json"
    said = run(*words, "--api-file", missing)
    why = f"the daemon is not running (there is no {missing})"
    assert (said.code, said.out, said.err) == (3, "", f"spotrunner: {why}{START_IT}")
    said = run(*words, "--api-file", written(tmp_path, "http://127.0.0.1:9"))
    why = "the daemon is not running (nobody answers at http://127.0.0.1:9)"
    assert (said.code, said.out, said.err) == (3, "", f"spotrunner: {why}{START_IT}")
