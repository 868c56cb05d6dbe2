"""The benchmark of the policies and its adapter, without the traces."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(f"bench_{name}", BENCHMARKS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # where dataclasses look for their module
    found.loader.exec_module(module)
    return module


# -- the adapter -------------------------------------------------------------------------------


@dataclass
class Context:
    """What the scorer gives to `make`."""

    work_s: float = 36_000.0
    deadline_s: float = 72_000.0
    overhead_s: float = 720.0
    gap_s: float = 600.0
    zones: tuple[str, ...] = ("us-east-1a", "us-east-1b")
    regions: tuple[str, ...] = ("us-east-1", "us-east-1")
    od_price: float = 3.06
    nodes: int = 1
    history: None = None
    price_history: None = None


@dataclass
class State:
    """What the scorer gives to `decide`."""

    t: float = 0.0
    work_left: float = 36_000.0
    mode: int = 0
    zone: int = -1
    overhead_left: float = 0.0
    avail: tuple[bool | None, ...] = (None, None)
    price: tuple[float, ...] = (1.2, 0.9)
    preempted: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


IDLE, SPOT, ON_DEMAND = 0, 1, 2


@pytest.mark.parametrize(
    ("name", "state", "answer"),
    [
        ("deadline", State(), (SPOT, 1)),
        ("deadline", State(avail=(None, False)), (SPOT, 0)),
        ("deadline", State(avail=(False, False)), (IDLE, 0)),
        ("deadline", State(t=34_700, avail=(False, False)), (ON_DEMAND, 0)),
        ("deadline", State(mode=SPOT, zone=0, avail=(True, None)), (SPOT, 0)),
        ("deadline", State(mode=ON_DEMAND, zone=0, avail=(True, False)), (SPOT, 0)),
        ("deadline", State(t=35_300, mode=ON_DEMAND, avail=(True, True)), (ON_DEMAND, 0)),
        ("greedy", State(t=20_000, mode=ON_DEMAND, avail=(False, False)), (IDLE, 0)),
        ("uniform_progress", State(t=20_000, avail=(False, False)), (ON_DEMAND, 0)),
        ("on_demand", State(), (ON_DEMAND, 0)),
    ],
)
def test_the_adapter_answers_in_the_scorers_words(
    monkeypatch: pytest.MonkeyPatch, name: str, state: State, answer: tuple[int, int]
) -> None:
    monkeypatch.setenv("POLICY", name)
    assert load("score_adapter").make(Context()).decide(state) == answer


def test_the_adapter_follows_the_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    """On-demand, and a zone comes up: it is taken once it has been up for a changeover."""
    monkeypatch.delenv("POLICY", raising=False)
    adapter = load("score_adapter").make(Context(zones=("a",), regions=("r",)))
    seen = [False, True, True, True]
    answers = [
        adapter.decide(State(t=600.0 * tick, mode=ON_DEMAND, zone=0, avail=(up,), price=(0.9,)))
        for tick, up in enumerate(seen)
    ]
    assert [kind for kind, _ in answers] == [ON_DEMAND, ON_DEMAND, SPOT, SPOT]


def test_two_zones_of_one_name_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICY", "greedy")
    adapter = load("score_adapter").make(Context(zones=("a", "a")))
    assert adapter.decide(State(avail=(True, True))) == (SPOT, 1)


def test_a_name_that_no_policy_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICY", "lucky")
    with pytest.raises(SystemExit, match="POLICY=lucky: there is no such policy; one of cheapest"):
        load("score_adapter").make(Context())


# -- the benchmark -----------------------------------------------------------------------------


def test_without_traces_it_says_so_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["policy.py", "--traces", str(tmp_path), "--check"])
    assert load("policy").main() == 0
    assert f"{tmp_path} has no manifest.json: nothing to measure" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("policy", "group", "ratio", "late", "obs", "words"),
    [
        ("deadline", "ALL", 0.606, 0, "full", None),
        ("deadline", "ALL", 0.6061, 0, "full", "deadline: cost 0.6061 of on-demand with obs full"),
        ("planner", "ALL", 0.6055, 0, "try", None),
        ("planner", "ALL", 0.6055, 0, "full", "above 0.603"),
        ("greedy", "ALL", 0.6585, 0, "full", "greedy: cost 0.6585 of on-demand, and 0.657 is"),
        ("deadline", "ALL", 0.6, 2, "full", "deadline: 2 of 100 runs missed the deadline"),
        ("deadline", "gang", 0.7, 0, "full", "dearer than uniform_progress in group gang"),
    ],
)
def test_each_limit_is_a_sentence(
    policy: str, group: str, ratio: float, late: int, obs: str, words: str | None
) -> None:
    module = load("policy")
    rows = [
        module.Row(
            policy=name, group=group, ratio=it, late=n, runs=100, launches=1.0, spot_share=0.5
        )
        for name, it, n in ((policy, ratio, late), ("uniform_progress", 0.632, 0))
    ]
    found = module.failures(rows, {}, obs)
    assert len(found) == (words is not None)
    assert words is None or words in found[0]
    slow = module.failures(rows[1:], {"planner": (1500.0, 2000.0)}, obs)
    assert slow == ["planner: a warm decision takes 1500 us, above 1000"]
