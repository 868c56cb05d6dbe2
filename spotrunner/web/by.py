"""What a report is summed by: a word of the API and of the command line, which loads it each time
that it starts."""

from __future__ import annotations

import enum


class By(str, enum.Enum):
    JOB = "job"
    DAY = "day"
    REGION = "region"
    OWNER = "owner"
    SWEEP = "sweep"
    ATTEMPT = "attempt"
