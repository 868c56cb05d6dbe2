from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spotrunner.cli.failure import WrongFile
from spotrunner.cli.options import ApiFileOption, Output, OutputOption

if TYPE_CHECKING:
    from rich.table import Table

    from spotrunner.cli.api import Api
    from spotrunner.cli.jobfile import Submission

Json = dict[str, Any]

# The daemon asks EC2 for the prices when nobody did for a while.
OFFERS_S = 120
# The Spot Advisor's bands: how often EC2 took an instance within a month.
BANDS = ("<5%", "5-10%", "10-15%", "15-20%", ">20%")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The job file (YAML).")]
EnvOption = Annotated[
    list[str] | None,
    typer.Option(
        "--env", "-e", metavar="NAME=VALUE", help="A value of envs; NAME alone: your shell's."
    ),
]
AllowLateOption = Annotated[
    bool,
    typer.Option("--allow-late", help="Take a deadline that even on-demand cannot meet."),
]


def offers(
    file: FileArgument,
    env: EnvOption = None,
    allow_late: AllowLateOption = False,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Rank all that a job could run on, by what an hour of its work is expected to cost there."""
    from spotrunner.cli.api import find, problems_of
    from spotrunner.cli.output import display, print_json, say

    submission = read(file, env)
    answer = asked(find(api_file), submission, allow_late)
    if output is Output.JSON:
        print_json({key: value for key, value in answer.items() if key != "errors"})
        return
    display(wide(answer))
    for line in (verdict(answer), *_troubles(answer)):
        say(line)
    for line in submission.lines(problems_of(answer["warnings"])):
        say(line)


# -- what `submit` does too --------------------------------------------------------------------


def read(file: Path, env: Sequence[str] | None) -> Submission:
    """Raises WrongFile, BadInput."""
    from spotrunner.cli.jobfile import given_envs, read_job
    from spotrunner.core.located import BadFile

    try:
        return read_job(file, given_envs(env or []))
    except BadFile as error:
        raise WrongFile(str(error)) from None


def asked(api: Api, submission: Submission, allow_late: bool) -> Json:
    """The daemon's offers. Raises WrongFile for what it finds wrong."""
    from spotrunner.cli.api import Refused

    try:
        path = late("/v1/offers", allow_late)
        answer: Json = api.post(path, submission.fields, timeout_s=OFFERS_S)
    except Refused as error:
        raise WrongFile(str(submission.bad(error.problems))) from None
    return answer


def late(path: str, allow_late: bool) -> str:
    return f"{path}?allow_late=true" if allow_late else path


def verdict(answer: Json) -> str:
    """What the policy would take now, and why."""
    is_chosen = any(offer["chosen"] for offer in answer["offers"])
    return f"-> {answer['why']}" if is_chosen else f"{answer['why']}: the job will wait"


def narrow(answer: Json, most: int) -> Table:
    """The first rows; that of the choice is among them."""
    rows = answer["offers"][:most]
    rows += [row for row in answer["offers"][most:] if row["chosen"]]
    names = ("", "ZONE", "TYPE", "MARKET", "$/H", "ON-DEMAND", "SAVED", "$/WORK-H", "LEFT OUT")
    return _table(names, rows, answer)


def wide(answer: Json) -> Table:
    return _table(tuple(_CELLS), answer["offers"], answer)


# -- cells -------------------------------------------------------------------------------------


def _chosen(offer: Json, _: Json) -> str:
    return "->" if offer["chosen"] else ""


def _rank(offer: Json, _: Json) -> str | None:
    return None if offer["rank"] is None else str(offer["rank"])


def _seen(offer: Json, answer: Json) -> str | None:
    """What we saw of it ourselves."""
    from spotrunner.cli import words

    if offer["up"]:
        return f"up {words.duration(offer['up_s'])}"
    ago = words.since(offer["refused_at"], answer["now"])
    if ago is None:
        return None
    what = "" if offer["refused_for"] == "capacity" else f" ({offer['refused_for']})"
    return f"refused {ago} ago{what}"


def _data(offer: Json, answer: Json) -> str | None:
    """How old what is known of its region is."""
    from spotrunner.cli import words

    of_region = (it for it in answer["regions"] if it["region"] == offer["region"])
    age_s = next((it["age_s"] for it in of_region), None)
    return None if age_s is None else f"{words.duration(age_s)} old"


def _score(offer: Json, _: Json) -> str | None:
    return None if offer["score"] is None else f"{offer['score']}/10"


def _band(offer: Json, _: Json) -> str | None:
    return None if offer["band"] is None else BANDS[offer["band"]]


def _speed(offer: Json, _: Json) -> str | None:
    return None if offer["speed"] is None else f"{offer['speed']:.2f}"


def _usd(key: str) -> Callable[[Json, Json], str | None]:
    from spotrunner.cli import words

    return lambda offer, _: words.usd_hour(offer[key])


def _saved(offer: Json, _: Json) -> str | None:
    from spotrunner.cli import words

    return words.percent(offer["saved_fraction"]) if offer["market"] == "spot" else None


def _key(key: str) -> Callable[[Json, Json], str | None]:
    return lambda offer, _: offer[key]


_CELLS: Mapping[str, Callable[[Json, Json], str | None]] = {
    "": _chosen,
    "#": _rank,
    "REGION": _key("region"),
    "ZONE": _key("zone"),
    "TYPE": _key("instance_type"),
    "MARKET": _key("market"),
    "$/H": _usd("price_usd_hour"),
    "ON-DEMAND": _usd("ondemand_usd_hour"),
    "SAVED": _saved,
    "$/WORK-H": _usd("work_usd_hour"),
    "SPEED": _speed,
    "SEEN": _seen,
    "SCORE": _score,
    "ADVISOR": _band,
    "DATA": _data,
    "LEFT OUT": lambda offer, _: offer["left_out"] or "",
}
_NUMBERS = ("#", "$/H", "ON-DEMAND", "SAVED", "$/WORK-H", "SPEED", "SCORE")
_NAMES = ("REGION", "ZONE", "TYPE")
# Shown only where there is something in them.
_SELDOM = ("SEEN", "SCORE", "ADVISOR", "DATA", "LEFT OUT")


def _table(names: Sequence[str], rows: Sequence[Json], answer: Json) -> Table:
    from spotrunner.cli.output import table

    cells = {name: [_CELLS[name](row, answer) for row in rows] for name in names}
    shown = [name for name in names if name not in _SELDOM or any(cells[name])]
    lines = [[cells[name][number] for name in shown] for number in range(len(rows))]
    return table(shown, lines, right=_NUMBERS, whole=_NAMES)


def _troubles(answer: Json) -> list[str]:
    return [f"{it['region']}: {it['trouble']}" for it in answer["regions"] if it["trouble"]]
