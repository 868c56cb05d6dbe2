"""The settings' section `budgets`: what may be spent in all and by day, by everybody and by each
owner."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from spotrunner.core.amounts import as_written, to_usd_micros, usd_problem
from spotrunner.core.caps import Bound, Caps
from spotrunner.core.names import name_problem
from spotrunner.core.windows import zone_problem


def _usd(value: Decimal) -> Decimal:
    if (problem := usd_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _zone(value: str) -> str:
    if (problem := zone_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _owner(value: str) -> str:
    if (problem := name_problem(value)) is not None:
        raise ValueError(problem)
    return value


Usd = Annotated[Decimal, AfterValidator(_usd), BeforeValidator(as_written)]


class BoundFile(BaseModel):
    """USD; None: no bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    total: Usd | None = None
    day: Usd | None = None


class BudgetsFile(BoundFile):
    tz: Annotated[str, AfterValidator(_zone)] = "UTC"
    owners: dict[Annotated[str, AfterValidator(_owner)], BoundFile] = {}
    each_owner: BoundFile = BoundFile()


def caps(file: BudgetsFile) -> Caps:
    return Caps(
        tz=file.tz,
        installation=_bound(file),
        owners={name: _bound(bound) for name, bound in file.owners.items()},
        each_owner=_bound(file.each_owner),
    )


def _bound(file: BoundFile) -> Bound:
    return Bound(total_usd_micros=_micros(file.total), day_usd_micros=_micros(file.day))


def _micros(usd: Decimal | None) -> int | None:
    return None if usd is None else to_usd_micros(usd)
