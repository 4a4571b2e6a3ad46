"""Ctrl-C raises KeyboardInterrupt in the tests of training."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def usual_ctrl_c() -> Iterator[None]:
    """Python's own handler, which is missing where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
