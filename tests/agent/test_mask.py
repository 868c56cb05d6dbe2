"""What a trainer prints of its secrets nobody sees, wherever the text is cut into chunks."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.adapters.memory import MemoryObjects
from spotrunner.agent.folders import Keys
from spotrunner.agent.logs import CHUNK_BYTES, LogShipper, tail
from spotrunner.agent.mask import Mask
from tests.contracts.conftest import StandingClock

KEY = "wandb-7f3a9c"
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ==\n-----END KEY-----\n"


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        (KEY, f"key={KEY}.", "key=***."),
        (KEY, f"{KEY}{KEY}", "******"),
        (KEY, "wandb-7f3a9", "wandb-7f3a9"),
        ("p/ss word+1", "https://me:p%2Fss%20word%2B1@host/", "https://me:***@host/"),
        ('say "hello"', r'{"key": "say \"hello\""}', '{"key": "***"}'),
        ("schlüssel", "schlüssel", "***"),
        ("schlüssel", r"{'schl\u00fcssel'}", "{'***'}"),
        (PEM, f"<{PEM}>", "<***\n>"),
        (PEM, "line: MIIEvQIBADANBg", "line: ***"),
        ("  padded-value\n", "[padded-value]", "[***]"),
        ("true", "true", "true"),
        ("", "nothing", "nothing"),
    ],
)
def test_a_value_is_taken_out_in_each_of_its_forms(secret: str, text: str, shown: str) -> None:
    assert Mask([secret])(text.encode()).decode() == shown


def test_a_text_that_breaks_off_within_a_value_ends_before_it() -> None:
    mask = Mask([KEY])
    assert mask.taken(b"so far wand") == len("so far ")
    assert mask.taken(b"so far") == len("so far")
    assert mask.last(b"so far wandb-7f3") == b"so far ***"
    assert mask.last(b"so far w") == b"so far w", "a letter tells nothing"


def test_what_is_whole_is_not_cut_by_what_begins_in_it() -> None:
    mask = Mask(["first-second", "second-third"])
    assert mask.taken(b"<first-second") == 1


SECRETS = ("abababab", "babababc", KEY)


@given(
    parts=st.lists(st.sampled_from(["ab", "b", "c", "wandb-7f", "3a9c", *SECRETS]), max_size=20),
    cuts=st.lists(st.integers(min_value=0, max_value=200), max_size=10),
)
def test_however_it_is_cut_no_chunk_shows_a_value_nor_do_two(
    parts: list[str], cuts: list[int]
) -> None:
    text, mask = "".join(parts).encode(), Mask(SECRETS)
    ends = [*sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    shown, begun = b"", 0
    for end in ends[:-1]:
        taken = mask.taken(text[begun:end])
        shown += mask(text[begun : begun + taken])
        begun += taken
    shown += mask.last(text[begun:])
    assert not any(secret.encode() in shown for secret in SECRETS)


# -- logs --------------------------------------------------------------------------------------


@pytest.fixture
def home() -> MemoryObjects:
    return MemoryObjects(StandingClock())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trainer.log"


@pytest.fixture
def shipper(home: MemoryObjects, path: Path) -> LogShipper:
    keys = Keys(job_id="digits-7f3a", attempt="digits-7f3a.1", generation=1)
    return LogShipper(home, keys, path, path.with_name("shipped.json"), Mask([KEY]))


def shipped(home: MemoryObjects) -> list[bytes]:
    return [gzip.decompress(home.get(it.key).body) for it in home.list("jobs/")]


def test_a_value_across_two_chunks_is_in_neither(
    home: MemoryObjects, path: Path, shipper: LogShipper
) -> None:
    before = b"x" * (CHUNK_BYTES - 5)
    path.write_bytes(before + KEY.encode() + b"!\n")
    shipper.ship()
    assert shipped(home) == [before, b"***!\n"]


def test_half_a_value_waits_for_its_rest(
    home: MemoryObjects, path: Path, shipper: LogShipper
) -> None:
    for half in ("key: wandb", "-7f3a9c\n"):
        with path.open("a") as file:
            file.write(half)
        shipper.ship()
    assert shipped(home) == [b"key: ", b"***\n"]


def test_at_the_end_nothing_waits(home: MemoryObjects, path: Path, shipper: LogShipper) -> None:
    path.write_text("done w")
    shipper.ship()
    shipper.ship(last=True)
    assert shipped(home) == [b"done ", b"w"]
    assert shipper.waiting_bytes == 0


def test_the_tail_shows_none_either(path: Path, shipper: LogShipper) -> None:
    path.write_text(f"one\nkey {KEY}\nwandb-7f3a")
    assert shipper.tail() == ("one", "key ***", "***")


def test_until_the_secrets_are_known_nothing_is_shown(home: MemoryObjects, path: Path) -> None:
    path.write_text(f"key {KEY}\n")
    keys = Keys(job_id="digits-7f3a", attempt="digits-7f3a.1", generation=1)
    mask = Mask()
    shipper = LogShipper(home, keys, path, path.with_name("shipped.json"), mask)
    shipper.ship(last=True)
    assert (shipped(home), shipper.tail()) == ([], ())
    mask.learn([KEY])
    shipper.ship(last=True)
    assert (shipped(home), shipper.tail()) == ([b"key ***\n"], ("key ***",))


def test_a_tail_that_begins_within_a_value_begins_a_line_later(path: Path) -> None:
    filler = "y" * (64 * 1024 - 6)
    path.write_text(f"{KEY}\n{filler}\n")
    assert tail(path, Mask([KEY])) == (filler,)


def test_the_chunks_are_the_whole_text(home: MemoryObjects, path: Path) -> None:
    text = b"".join(b"%d " % n for n, _ in enumerate(pairwise(range(400_000))))
    path.write_bytes(text)
    keys = Keys(job_id="digits-7f3a", attempt="digits-7f3a.1", generation=1)
    mask = Mask(["1 2 3 4 never"])
    LogShipper(home, keys, path, path.with_name("shipped.json"), mask).ship(last=True)
    assert b"".join(shipped(home)) == text
