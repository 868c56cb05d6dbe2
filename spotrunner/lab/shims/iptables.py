"""A stand-in for iptables: it remembers rules and filters nothing."""

from __future__ import annotations

from spotrunner.lab.shims.machine import Machine, read_json, write_json

_ADD = {"-A": "-A", "--append": "-A", "-I": "-A", "--insert": "-A"}
_DELETE = {"-D": "-D", "--delete": "-D"}
_CHECK = {"-C": "-C", "--check": "-C"}


def main(lab: str, *arguments: str) -> int:
    """0, or 1 where a checked or deleted rule is not there, as iptables has it."""
    path = Machine.read(lab).lab / "iptables.json"
    kept = read_json(path)
    rules: list[str] = kept.get("rules", [])
    verbs = {**_ADD, **_DELETE, **_CHECK}
    verb = next((verbs[a] for a in arguments if a in verbs), None)
    rule = " ".join(a for a in arguments if a not in verbs and not a.isdigit())
    if verb in ("-C", "-D") and rule not in rules:
        return 1
    if verb == "-A":
        rules.append(rule)
    elif verb == "-D":
        rules.remove(rule)
    if verb is not None:
        write_json(path, {"rules": rules})
    return 0
