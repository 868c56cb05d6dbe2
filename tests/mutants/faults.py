"""Mistakes with what breaks on an instance: its metadata service, its clock, its notice."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

FAULTS = (
    Mutant(
        "an odd answer of the metadata service ends the watch",
        "agent/imds.py",
        "except (requests.RequestException, ValueError) as error:",
        "except (requests.RequestException, UnicodeError) as error:",
        "agent/test_faults_imds.py::test_what_is_not_even_http_is_unknown",
    ),
    Mutant(
        "any time is a notice's",
        "agent/imds.py",
        "    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:\n",
        "    if not 1 <= time.year:\n",
        "agent/test_faults_imds.py::test_no_trouble_is_a_notice_and_none_hides_one",
    ),
    Mutant(
        "a notice never moves for its agent",
        "agent/record.py",
        "self.notice = Notice(at=at, seen_at=seen_at)",
        "self.notice = old or Notice(at=at, seen_at=seen_at)",
        "agent/test_faults_imds.py::test_a_notice_that_moves_earlier_is_in_time_or_at_once",
    ),
    Mutant(
        "a notice never moves for the daemon",
        "core/follow.py",
        "notice=dataclasses.replace(known, at=at)",
        "notice=known",
        "core/test_settle.py::test_a_notice_that_moves_is_followed_and_was_seen_when_it_was_seen",
    ),
    Mutant(
        "requests are signed by the machine's own clock",
        "adapters/aws/signing.py",
        "    if clock is not None and clock.heard:\n",
        "    if clock is None:\n",
        "adapters/test_session.py::test_requests_are_signed_by_the_time_of_s3_once_it_was_heard",
    ),
)
