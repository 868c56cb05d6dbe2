"""`spotrunner reconcile`: the ledger against AWS's own spot data feed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from spotrunner.cli.options import ApiFileOption, Format, FormatOption

# The daemon reads one file an hour of the feed.
RECONCILE_S = 600


def reconcile(
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="Such as 7d, 12h, 2026-11-01 (UTC).")
    ] = "7d",
    feed: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="The feed, as s3://BUCKET/PREFIX/; else that of the daemon's settings.",
        ),
    ] = "",
    output: FormatOption = Format.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Compare what we booked for spot instances with what AWS says that it charged.

    The instance alone: disks, addresses, transfer and on-demand are in no spot data feed.

    Exits with 1 where more than a cent differs that nothing explains.
    """
    from spotrunner.cli.api import Refused, find
    from spotrunner.cli.failure import BadInput, Failure
    from spotrunner.cli.output import print_json

    try:
        answer = find(api_file).post(_path(since, feed), timeout_s=RECONCILE_S)
    except Refused as refused:
        raise BadInput("\n".join(f"--{it.key}: {it.message}" for it in refused.problems)) from None
    if output is Format.JSON:
        print_json(answer)
    elif output is Format.CSV:
        _write_csv(answer)
    else:
        _print(answer)
    if not answer["is_right"]:
        raise Failure(
            f"{_usd(answer['unexplained_usd_micros'])} USD differ and nothing explains it: look at"
            " what `differs` or is `not in the ledger`"
        )


def _path(since: str, feed: str) -> str:
    from urllib.parse import urlencode

    return "/v1/reconcile?" + urlencode({"since": since, "feed": feed})


# -- what is printed ---------------------------------------------------------------------------

_HEADERS = (
    "INSTANCE",
    "TYPE",
    "ATTEMPT",
    "FEED",
    "LEDGER",
    "NOT COMPARED",
    "DIFFERENCE",
    "RESULT",
    "WHY",
)
_COLUMNS = ("feed", "ledger", "left_out", "difference")


def _print(answer: dict[str, Any]) -> None:
    from spotrunner.cli.output import display, say, table

    if answer["instances"]:
        rows = [_row(each) for each in answer["instances"]]
        total = ["in all", "", "", *_amounts(answer), "", ""]
        display(table(_HEADERS, [*rows, total], right=_HEADERS[3:7], whole=_HEADERS[:3]))
    for line in _notes(answer):
        say(line)


def _row(each: dict[str, Any]) -> list[str | None]:
    names = [each["instance_id"], each["instance_type"], each["attempt"]]
    return [*names, *_amounts(each), each["standing"], each["why"]]


def _amounts(of: dict[str, Any]) -> list[str]:
    return [_usd(of[f"{name}_usd_micros"]) for name in _COLUMNS]


def _usd(micros: int) -> str:
    """To the micro-dollar: that is what is compared."""
    dollars, rest = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}{dollars}.{rest:06}"


def _notes(answer: dict[str, Any]) -> list[str]:
    from spotrunner.cli import words

    files, read_from = words.count(answer["files"], "file"), answer["feed"]
    notes = [f"USD, since {words.clock(answer['since'])} UTC: {files} of {read_from}"]
    if not answer["instances"]:
        notes.append("no spot instance lived in that time, and the feed has none")
    if answer["covered_fraction"] is not None:
        covered = words.percent(answer["covered_fraction"])
        notes.append(f"the feed covers {covered} of what the ledger has for them")
    notes += answer["findings"]
    if answer["cut_at"] is not None:
        notes.append(
            f"there are more files than are read: those from {words.clock(answer['cut_at'])} UTC on"
            " were left out; a shorter --since reads fewer, and old ones can be moved elsewhere"
        )
    return notes + [f"not read: {damage}" for damage in answer["damages"]]


def _write_csv(answer: dict[str, Any]) -> None:
    """One line an instance, amounts in USD with six decimals."""
    import csv
    import sys

    out = csv.writer(sys.stdout, lineterminator="\n")
    amounts = [f"{name}_usd" for name in _COLUMNS]
    out.writerow(["instance_id", "instance_type", "attempt", *amounts, "standing", "why"])
    out.writerows(_row(each) for each in answer["instances"])
