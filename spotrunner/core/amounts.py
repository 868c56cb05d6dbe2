"""Amounts of money as people write them: USD with decimals, and what is wrong with one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from spotrunner.core.located import OddNumber

# More than any job costs, and far below where 64-bit micro-dollars end.
MAX_USD = 1_000_000_000
DECIMALS = 6

_MICROS = 10**DECIMALS
_CENT_USD_MICROS = 10_000


def usd_problem(value: Decimal, more_than: Decimal = Decimal(0)) -> str | None:
    """Why nobody can be bound by this amount; None if it is one."""
    if not value.is_finite():
        return f"expected a number, found {value}"
    if value <= more_than:
        return f"expected more than {more_than} USD, found {value}"
    if value > MAX_USD:
        return f"expected at most {MAX_USD} USD, found {value}"
    if value != round(value, DECIMALS):
        return f"expected at most {DECIMALS} decimals (of a USD), found {value}"
    return None


def as_written(value: Any) -> Any:
    """Raises ValueError for a number that YAML has made of something else."""
    if isinstance(value, OddNumber):
        raise ValueError(
            f"YAML reads {value.text} as {int(value)}: write the amount with a decimal point, such"
            " as 1.30"
        )
    return value


def to_usd_micros(value: Decimal) -> int:
    """Of an amount that has no problem."""
    return int(value * _MICROS)


def cents_up(usd_micros: int) -> int:
    """Micro-dollars up to a whole cent, so that the number that is named is surely enough."""
    return -(-usd_micros // _CENT_USD_MICROS) * _CENT_USD_MICROS
