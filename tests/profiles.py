"""How much the tests do: `dev` and `ci` are quick, and `thorough` does all that they take a sample of.

HYPOTHESIS_PROFILE chooses; without it, it is `ci` where the variable CI is set, as every build server does.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")


def scale(few: T, many: T) -> T:
    """The first of two numbers in a quick run, and the second in a thorough one."""
    return many if PROFILE == "thorough" else few


def some(rows: Sequence[T], every: int, number: int = 0) -> Sequence[T]:
    """One row in every so many of a table in a quick run, and all in a thorough one; which ones goes by the number."""
    return scale(rows[number % max(1, min(every, len(rows))) :: every], rows)


thorough_only = pytest.mark.skipif(PROFILE != "thorough", reason="it takes seconds, and runs in the thorough profile")
