"""Takes the values of a job's secrets out of what its trainer wrote, before anybody else sees it.

A value is found as it is, by each of its lines, and as JSON and URLs write it. Shorter ones than
`SHORTEST` are left alone: they would be parts of common words, and no secret worth the name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from spotrunner.core.secret import MASK

# Characters. What is offered as a token or a key anywhere has 16 at least.
SHORTEST = 8


class Mask:
    """Safe to use from several threads: what it knows is replaced as a whole. Until it was told
    the job's secrets, be there none, it `is_blind`: nobody can say what may be shown."""

    def __init__(self, values: Iterable[str] | None = None) -> None:
        self.is_blind = True
        self._known: frozenset[str] = frozenset()
        self._forms: tuple[bytes, ...] = ()
        self._pattern: re.Pattern[bytes] | None = None
        if values is not None:
            self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """From now on these are taken out too."""
        self._known |= frozenset(values)
        found = {form for value in self._known for form in _forms(value)}
        # The longest first: a line of a key must not be found before the key.
        self._forms = tuple(sorted((it.encode() for it in found), key=len, reverse=True))
        self._pattern = re.compile(b"|".join(map(re.escape, self._forms))) if found else None
        self.is_blind = False

    def __call__(self, text: bytes) -> bytes:
        pattern = self._pattern
        return pattern.sub(MASK.encode(), text) if pattern else text

    def last(self, text: bytes) -> bytes:
        """The same for a text after which nothing comes: also of a value that breaks off at its
        end nothing is shown."""
        taken = self.taken(text)
        rest = text[taken:]
        return self(text[:taken]) + (MASK.encode() if len(rest) >= SHORTEST else rest)

    def taken(self, text: bytes) -> int:
        """How much of the beginning of `text` can be shown now: at its end may stand the beginning
        of a value, of which the rest is yet to come."""
        cut = len(text) - max((_begun(form, text) for form in self._forms), default=0)
        if self._pattern is None or cut == len(text):
            return cut
        # What is whole must not be cut in two.
        spans = (found.span() for found in self._pattern.finditer(text))
        return next((start for start, end in spans if start < cut < end), cut)


def _forms(value: str) -> Iterator[str]:
    stripped = value.strip()
    for part in (stripped, *(line.strip() for line in stripped.splitlines())):
        if len(part) >= SHORTEST:
            yield from (part, quote(part, safe=""), json.dumps(part)[1:-1])


def _begun(form: bytes, text: bytes) -> int:
    """How many of the last bytes of `text` are the beginning of `form`, and not all of it."""
    at = max(0, len(text) - len(form) + 1)
    while (at := text.find(form[:1], at)) >= 0:
        if form.startswith(text[at:]):
            return len(text) - at
        at += 1
    return 0
