from __future__ import annotations

from typing import Annotated, Any

import typer

from spotrunner.cli.options import ApiFileOption, Output, OutputOption

# The daemon answers when a round is over, or after two minutes without.
_ANSWER_S = 150


def hold(
    for_: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Such as 30m or 2h; default 1h.")
    ] = None,
    off: Annotated[
        bool, typer.Option("--off", help="Launch again, also after `spotrunner panic`.")
    ] = False,
    output: OutputOption = Output.TABLE,
    api_file: ApiFileOption = None,
) -> None:
    """Launch nothing for a while, and pay ahead for what runs, within its caps.

    For an upgrade, or a control host that is to be restarted: what runs goes on without it.

    It answers once a round has paid, and names the jobs that are not paid through the hold.
    """
    from spotrunner.cli.api import find
    from spotrunner.cli.failure import BadInput
    from spotrunner.cli.output import print_json

    if off and for_ is not None:
        raise BadInput("--off ends a hold, and --for begins one: give one of them")
    api = find(api_file)
    for_s = _seconds(for_ or "1h")
    if off:
        answer = api.delete("/v1/hold")
    else:
        answer = api.post("/v1/hold", {"for_s": for_s}, timeout_s=_ANSWER_S)
    if output is Output.JSON:
        print_json(answer)
    else:
        _say(answer)


def _seconds(text: str) -> int:
    from spotrunner.cli import words
    from spotrunner.cli.failure import BadInput

    found = words.seconds(text)
    if found is None or not 60 <= found <= 86_400:
        raise BadInput(f"--for: expected 1m to 24h, such as 30m or 2h, found {text}")
    return found


def _say(answer: dict[str, Any]) -> None:
    from spotrunner.cli import words
    from spotrunner.cli.output import say

    until, brake = answer["held_until"], answer["brake"]
    if until is None:
        say("launches go on" + (f"; what forbade them is gone ({brake})" if brake else ""))
        return
    say(f"nothing is launched until {words.clock(until)} UTC; to end that: spotrunner hold --off")
    if brake:
        say(f"also afterwards, until spotrunner hold --off: {brake}")
    if not answer["round_over"]:
        say(
            "no round was over in time, so nothing may be paid ahead yet: the daemon's log says why"
        )
    for it in answer["unpaid"]:
        ends = words.clock(it["paid_until"])
        say(f"{it['id']} is not paid through it, only until {ends} UTC: {it['why']}")
