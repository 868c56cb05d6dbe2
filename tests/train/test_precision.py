from __future__ import annotations

import pytest

from spotrunner.train.precision import Device, choose, describe

T4 = Device(name="Tesla T4", capability=(7, 5))
A10G = Device(name="NVIDIA A10G", capability=(8, 6))
K80 = Device(name="Tesla K80", capability=(3, 7))


@pytest.mark.parametrize(
    ("devices", "policy"),
    [
        ([], "float32"),
        ([K80], "float32"),
        ([T4], "mixed_float16"),
        ([A10G], "mixed_bfloat16"),
        ([A10G, T4], "mixed_float16"),
    ],
)
def test_auto_takes_what_the_oldest_gpu_has(devices: list[Device], policy: str) -> None:
    assert choose("auto", devices) == policy


def test_what_is_asked_for_is_taken() -> None:
    assert choose("float32", [A10G]) == "float32"
    assert choose("mixed_float16", []) == "mixed_float16"
    with pytest.raises(ValueError, match="'fp8'"):
        choose("fp8", [])


def test_the_log_line_says_what_and_why() -> None:
    line = describe("mixed_float16", "auto", [T4])
    assert line == "precision mixed_float16, chosen for Tesla T4 (compute capability 7.5)"
    assert describe("float32", "float32", []) == "precision float32, asked for on CPU"
