"""S3 in trouble, over HTTP: whatever breaks and wherever, a commit that was made stays made, HEAD
never names what cannot be restored, and never an older step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spotrunner.adapters.aws.objects import S3Objects
from spotrunner.adapters.aws.session import Aws
from spotrunner.adapters.heads import ObjectHeads
from spotrunner.agent.carry import Carried
from spotrunner.agent.checkpoints import Checkpoints, DamagedCheckpoint
from spotrunner.agent.folders import Folders, complete_steps, files_below
from spotrunner.agent.holder import Holder
from spotrunner.core.model import Head
from spotrunner.ports import Heads, PortError
from tests.agent.faulty_s3 import ANSWERS, REGION, Fault, FaultyS3
from tests.agent.told import JOB
from tests.agent.world import keys_of, nonces
from tests.contracts.conftest import set_keys

pytestmark = pytest.mark.slow

PART_BYTES = 5 * 1024 * 1024
# So often the machine tries before this test loses patience; the machine itself does not.
TRIES = 6

CHECKPOINT = "*/checkpoints/000*"
WEIGHTS, STATE, MANIFEST = (f"{CHECKPOINT}{name}" for name in ("data", "state.json", "MANIFEST*"))
HEAD = "*/HEAD.json"


@pytest.fixture(scope="module")
def s3() -> Iterator[FaultyS3]:
    with FaultyS3() as server:
        yield server


@pytest.fixture
def aws(s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    set_keys(monkeypatch)
    clients = Aws(endpoint_url=s3.url)
    yield clients
    clients.close()


class Attempts:
    """Attempts of one job in one bucket, each with a disk of its own."""

    def __init__(self, s3: FaultyS3, aws: Aws, root: Path) -> None:
        self.s3 = s3
        self.root = root
        self.objects = S3Objects(
            aws.s3(REGION), s3.bucket(aws), part_bytes=PART_BYTES, part_pauses_s=(0,)
        )
        self.heads: Heads = ObjectHeads(self.objects)
        self.nonce = nonces("n")

    @property
    def head(self) -> Head:
        head = self.heads.read(JOB).head
        assert head is not None
        return head

    def holder(self, generation: int) -> Holder:
        return Holder(
            heads=self.heads,
            job_id=JOB,
            attempt=f"{JOB}.{generation}",
            generation=generation,
            nonce=self.nonce,
        )

    def checkpoints(self, generation: int) -> Checkpoints:
        folders = Folders(root=self.root / str(generation))
        folders.make()
        return Checkpoints(
            objects=self.objects,
            heads=self.heads,
            folders=folders,
            keys=keys_of(generation),
            nonce=self.nonce,
            carried=Carried(),
        )

    def save(self, generation: int, step: int) -> None:
        """As TensorFlow does: a file in two parts, and small ones."""
        folder = self.root / str(generation) / "checkpoints" / f"{step:08d}"
        folder.mkdir(parents=True)
        (folder / "data").write_bytes(random.Random(step).randbytes(PART_BYTES + 7))
        (folder / "index").write_text("index")
        (folder / "state.json").write_text(f'{{"step": {step}}}')

    def restores(self, generation: int) -> int:
        """What another machine gets from HEAD, byte by byte as it was saved."""
        fresh = self.checkpoints(generation)
        assert self.head.manifest is not None
        fresh.restore(self.head.manifest)
        (step,) = complete_steps(fresh.folders.checkpoints)
        folder = fresh.folders.checkpoints / f"{step:08d}"
        assert (folder / "data").read_bytes() == random.Random(step).randbytes(PART_BYTES + 7)
        assert {name for name, _ in files_below(folder)} == {"data", "index", "state.json"}
        return step


@pytest.fixture
def attempts(s3: FaultyS3, aws: Aws, tmp_path: Path) -> Attempts:
    """Attempt 1 has committed step 10, and has step 20 on its disk."""
    s3.script()
    made = Attempts(s3, aws, tmp_path)
    made.holder(1).take()
    made.save(1, 10)
    made.holder(1).commit(made.checkpoints(1).store(10), final=False)
    made.save(1, 20)
    return made


def until_done(deed: Callable[[], object], look: Callable[[], object], tries: int = TRIES) -> bool:
    """Tries as the machine does; `look` after each."""
    for _ in range(tries):
        try:
            deed()
        except (PortError, OSError):
            look()
        else:
            return True
    return False


def commits(attempts: Attempts, step: int) -> Callable[[], object]:
    checkpoints, holder = attempts.checkpoints(1), attempts.holder(1)
    return lambda: holder.commit(checkpoints.store(step), final=False)


@pytest.mark.parametrize("kind", [*ANSWERS, "lost", "cut", "slow"])
@pytest.mark.parametrize(
    ("method", "path", "times"),
    [("PUT", WEIGHTS, 4), ("POST", WEIGHTS, 3), ("PUT", STATE, 4), ("PUT", MANIFEST, 4)],
    ids=["parts", "completion", "whole", "manifest"],
)
def test_a_commit_is_made_in_the_end_and_until_then_the_old_one_stands(
    attempts: Attempts, kind: str, method: str, path: str, times: int
) -> None:
    attempts.s3.script(Fault(kind=kind, method=method, path=path, times=times))

    def still_stands() -> None:
        assert attempts.head.step == 10

    assert until_done(commits(attempts, 20), still_stands)
    assert attempts.s3.met
    assert (attempts.head.step, attempts.restores(2)) == (20, 20)
    assert attempts.head.previous is not None
    assert attempts.head.previous.step == 10


@pytest.mark.parametrize("kind", [*ANSWERS, "lost", "cut"])
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_swap_is_settled_whatever_becomes_of_its_answer(
    attempts: Attempts, kind: str, method: str
) -> None:
    seq = attempts.head.seq
    attempts.s3.script(Fault(kind=kind, method=method, path=HEAD, times=3))

    def old_or_new() -> None:
        attempts.s3.script()
        assert attempts.head.step in (10, 20)

    assert until_done(commits(attempts, 20), old_or_new)
    assert (attempts.head.step, attempts.head.seq) == (20, seq + 1), "swapped once"
    assert attempts.restores(2) == 20


@pytest.mark.parametrize("kind", ["500", "503", "skewed", "lost", "cut", "slow"])
@pytest.mark.parametrize("path", [WEIGHTS, MANIFEST], ids=["weights", "manifest"])
def test_a_restore_waits_for_s3_and_takes_nothing_for_damage(
    attempts: Attempts, kind: str, path: str
) -> None:
    attempts.s3.script(Fault(kind=kind, method="GET", path=path, times=4))
    fresh = attempts.checkpoints(2)
    ref = attempts.head.manifest
    assert ref is not None

    def nothing_to_see() -> None:
        assert complete_steps(fresh.folders.checkpoints) == {}

    assert until_done(lambda: fresh.restore(ref), nothing_to_see)
    assert list(complete_steps(fresh.folders.checkpoints)) == [10]
    assert attempts.restores(3) == 10


def test_s3_that_is_gone_for_good_costs_only_what_was_not_committed(attempts: Attempts) -> None:
    attempts.s3.script(Fault(kind="503", method="PUT", path=CHECKPOINT, times=10_000))
    assert not until_done(commits(attempts, 20), lambda: None, tries=2)
    attempts.s3.script()
    assert attempts.head.step == 10
    assert attempts.restores(2) == 10


@pytest.mark.parametrize("harm", ["no manifest", "a file is gone", "another step's manifest"])
def test_a_torn_checkpoint_in_head_leads_to_the_one_before(attempts: Attempts, harm: str) -> None:
    commits(attempts, 20)()
    torn, before = attempts.head.manifest, attempts.head.previous
    assert torn is not None
    assert before is not None
    manifest = f"{torn.folder}MANIFEST.json"
    if harm == "no manifest":
        attempts.objects.delete([manifest])
    elif harm == "a file is gone":
        attempts.objects.delete([f"{torn.folder}index"])
    else:
        attempts.objects.put(manifest, attempts.objects.get(f"{before.folder}MANIFEST.json").body)
    fresh, holder = attempts.checkpoints(2), attempts.holder(2)
    holder.take()
    with pytest.raises(DamagedCheckpoint):
        fresh.restore(torn)
    head = holder.fall_back(torn)
    assert (head.step, head.damaged) == (10, torn)
    assert attempts.restores(3) == 10


@pytest.mark.parametrize("seed", range(5))
def test_in_a_storm_nothing_that_was_committed_is_lost(attempts: Attempts, seed: int) -> None:
    """Faults of all kinds in all places; two attempts, the second after the first."""
    dice = random.Random(seed)
    for step in (30, 40):
        attempts.save(1, step)
    reached = 10

    def storm() -> None:
        kinds = [*ANSWERS, "lost", "cut"]
        places = [("PUT", CHECKPOINT), ("POST", CHECKPOINT), ("GET", CHECKPOINT)]
        places += [("PUT", HEAD), ("GET", HEAD)]
        drawn = [(dice.choice(kinds), *dice.choice(places), dice.randint(1, 5)) for _ in range(4)]
        attempts.s3.script(
            *(Fault(kind=kind, method=how, path=at, times=n) for kind, how, at, n in drawn)
        )

    for step in (20, 30, 40):
        storm()
        done = until_done(commits(attempts, step), lambda: None)
        attempts.s3.script()
        head = attempts.head
        assert head.step >= (step if done else reached), f"seed {seed}"
        assert head.damaged is None
        reached = head.step
    storm()
    taken = until_done(lambda: attempts.holder(2).take(), lambda: None)
    attempts.s3.script()
    assert attempts.head.generation == (2 if taken else attempts.head.generation)
    assert attempts.restores(2) == reached, f"seed {seed}"
