"""Profiles of Hypothesis: `dev` draws anew, `ci` the same every time, and `thorough` more. See tests/profiles.py."""

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the products here are small; read when NumPy is imported

import pytest
from hypothesis import HealthCheck, settings
from profiles import PROFILE

import minigrad as mg
from minigrad.engine import vjps

slow_is_fine = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=5, **slow_is_fine)
settings.register_profile("ci", max_examples=5, derandomize=True, database=None, **slow_is_fine)
settings.register_profile("thorough", max_examples=100, **slow_is_fine)
settings.load_profile(PROFILE)
gc.set_threshold(100_000)  # there is little garbage, and half a million objects of pytest's, which stay


def pytest_collection_finish() -> None:
    _forget_old_objects()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or nextitem.path != item.path:
        _forget_old_objects()


def _forget_old_objects() -> None:
    """Have the collector of garbage look no more at the tests and reports, which are many and live to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def scratch_primitive() -> Iterator[Callable[..., Any]]:
    """`mg.primitive` whose entries leave the table when the test is over."""
    before = dict(vjps)
    yield mg.primitive
    vjps.clear()
    vjps.update(before)
