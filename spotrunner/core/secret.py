"""What would give a secret away, and texts without it.

Addresses of channels are secrets as a whole, and so are the tokens in them: a service's URL is made
of the same tokens in another order, and it is that URL which ends up in the text of an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qsl, quote, unquote

MASK = "***"

# Shorter than this, what is masked would be parts of common words.
_SHORTEST = 4
# Where it need not be a secret, a piece of an address is taken for one from this length on.
_TOKEN = 8
_RANDOM = 16
_SECRET_KEY = re.compile(r"pass|token|secret|key|auth|sid|hook", re.IGNORECASE)
_WORD = re.compile(r"[a-z]+|[0-9]+")
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+|localhost|\[[0-9a-f:]+\]", re.IGNORECASE)


def masked(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that gives a text without these secrets, whole or in pieces."""
    found = sorted(given_away(secrets), key=len, reverse=True)
    if not found:
        return str
    pattern = re.compile("|".join(map(re.escape, found)), re.IGNORECASE)
    return lambda text: pattern.sub(MASK, text)


def given_away(secrets: Iterable[str]) -> frozenset[str]:
    """Every text that would tell one of them, as it is and as it stands in a URL."""
    pieces = {piece for secret in secrets for piece in _pieces(secret.strip())}
    forms = {form for piece in pieces for form in (piece, unquote(piece), quote(piece, safe=""))}
    return frozenset(form for form in forms if len(form) >= _SHORTEST)


def _pieces(secret: str) -> Iterator[str]:
    yield secret
    _, scheme, rest = secret.partition("://")
    if not scheme:
        return
    place, _, query = rest.partition("#")[0].partition("?")
    place = place.rstrip("/")
    yield from (part for part in (rest, place) if not _is_host(part))
    authority, slash, path = place.partition("/")
    # "/" and a word is a path only in a URL: safe to mask although the word may be a common one.
    yield slash + path
    yield from (part for part in path.split("/") if _is_token(part))
    user, _, host = authority.rpartition("@")
    yield from _of_user(user)
    # Many services have a token where a URL has its host.
    if not _is_host(host):
        yield from (part for part in host.split(":") if _is_token(part))
    yield from _of_query(query)


def _of_user(user: str) -> Iterator[str]:
    name, colon, password = user.partition(":")
    if colon:
        yield password
    if not colon or (len(name) >= _RANDOM and _is_token(name)):
        yield name


def _of_query(query: str) -> Iterator[str]:
    for key, value in parse_qsl(query):
        if _SECRET_KEY.search(key) or (len(value) >= _RANDOM and _is_token(value)):
            yield value


def _is_host(part: str) -> bool:
    """With or without a port."""
    return _HOST.fullmatch(re.sub(r":\d+$", "", part)) is not None


def _is_token(part: str) -> bool:
    """Not a plain word, number or host name."""
    if len(part) < _TOKEN:
        return False
    return not (_WORD.fullmatch(part) or _HOST.fullmatch(part) or "@" in part)
