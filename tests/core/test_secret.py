"""What is masked of a secret, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotrunner.core.secret import given_away, masked

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general"
MAIL = (
    "mailto://robot:sword-fish@mail.example.org:587?smtp=127.0.0.1&mode=insecure&to=al@example.org"
)


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        (SLACK, f"bad address {SLACK}", "bad address ***"),
        (
            SLACK,
            "url: /services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
            "url: /services/***",
        ),
        (SLACK, "in the channel #general of slack", "in the channel #general of slack"),
        ("json://127.0.0.1:8080/token", "http://127.0.0.1:8080/token: 500", "http://***: 500"),
        ("json://127.0.0.1:8080/token", "url: /token (refused)", "url: *** (refused)"),
        ("json://127.0.0.1:8080/token", "a token for 127.0.0.1", "a token for 127.0.0.1"),
        ("dingtalk://4bcd8976aef0", "send?access_token=4bcd8976aef0", "send?access_token=***"),
        ("dingtalk://sec12345@4bcd8976aef0/", "sec12345 and 4BCD8976AEF0", "*** and ***"),
        ("feishu://0123-4567-89ab", "/bot/v2/hook/0123-4567-89ab", "/bot/v2/hook/***"),
        ("wecombot://693a-7aoc-4bc4", "send?key=693a-7aoc-4bc4", "send?key=***"),
        (
            "tgram://123456789:AbC_dEfGh12/98765",
            "/bot123456789:AbC_dEfGh12/x",
            "/bot123456789:***/x",
        ),
        (MAIL, "535 sword-fish is wrong", "535 *** is wrong"),
        (MAIL, "to al@example.org through 127.0.0.1", "to al@example.org through 127.0.0.1"),
        ("mailto://robot:a%2Fb%40c9@h.org", "password a/b@c9", "password ***"),
        ("mailto://robot:a%2Fb%40c9@h.org", "password a%2Fb%40c9", "password ***"),
        ("json://h.org/?pass=swordfish&x=short", "swordfish, short", "***, short"),
        ("plain-api-token", "Bearer plain-api-token", "Bearer ***"),
        ("json://localhost/", "localhost answers", "localhost answers"),
        ("ntfys://alerts", "alerts go out", "*** go out"),
    ],
)
def test_pieces_that_would_tell_are_masked(secret: str, text: str, shown: str) -> None:
    assert shown in masked([secret])(text)


def test_without_secrets_nothing_changes() -> None:
    assert masked([])("slack://a") == "slack://a"
    assert masked(["", " ", "abc"])("abc") == "abc"


@given(
    token=st.text("abcdefXYZ0189-_", min_size=8, max_size=30).filter(lambda it: not it.isalpha()),
    place=st.sampled_from(
        ["slack://{}", "json://h.org/{}", "json://h.org/a/{}/b", "x://u:{}@h", "x://h?token={}"]
    ),
    before=st.text(max_size=5),
    after=st.text(max_size=5),
)
def test_a_token_is_found_wherever_it_stands(
    token: str, place: str, before: str, after: str
) -> None:
    hidden = masked([place.format(token)])(f"{before}{token}{after}")
    assert token not in hidden or token.isdigit()


@given(st.text(max_size=60), st.text(max_size=30))
def test_any_text_is_a_secret_and_any_text_is_masked(secret: str, text: str) -> None:
    hidden = masked([secret])(f"{text}{secret}")
    for piece in given_away([secret]):
        assert piece not in hidden or piece in "***"
