"""What a compiled program does not compute: each way to say something more simply, alone."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg

A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def calls(f: Callable[..., Any], *args: Any) -> list[str]:
    """The names of all that the program of `f` calls, in order."""
    compiled = mg.compile(f)
    np.testing.assert_array_equal(compiled(*args), f(*args))
    return re.findall(r"^    (?:t\d+ = )?(?:\w+\.(?=dot))?(\w+)\(", compiled.source, re.MULTILINE)


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        # nothing depends on it
        (lambda x: (np.sin(x), np.cos(x))[0], ["sin"]),
        # it is there already
        (lambda x: np.sin(x) * np.sin(x), ["sin", "multiply"]),
        (lambda x: np.sum(x, axis=1) + np.sum(x, axis=1), ["add_reduce", "multiply"]),
        (lambda x: np.sum(x, axis=-1) + np.sum(x, axis=1)[:2].sum(), ["add_reduce", "add_reduce", "add_reduce", "add"]),
        (lambda x: np.sin(x) + np.sin(x * 2), ["sin", "multiply", "sin", "add"]),
        # a constant
        (lambda x: x * np.exp(0.0) * np.sqrt(4), ["multiply", "multiply"]),
        (lambda x: x + np.sum(np.ones_like(x)), ["add"]),
        (lambda x: np.max(x, axis=1) + x.max(1), ["maximum_reduce", "multiply"]),
        # the same thing
        (lambda x: np.sin(+x), ["sin"]),
        (lambda x: np.sin(x.astype(float)), ["sin"]),
        (lambda x: np.sin(x.reshape(2, 3)), ["sin"]),
        (lambda x: np.sin(np.broadcast_to(x, (2, 3))), ["sin"]),
        (lambda x: np.sin(x.T.T), ["sin"]),
        (lambda x: np.sin(x.transpose(1, 0).T), ["transpose", "sin"]),
        (lambda x: np.sin(np.negative(-x)), ["sin"]),
        (lambda x: np.sin(x * 1), ["sin"]),
        (lambda x: np.sin(1 * x / 1), ["sin"]),
        (lambda x: np.sin(x + 0 - 0), ["sin"]),
        (lambda x: np.sin(0 - x), ["subtract", "sin"]),
        (lambda x: 1 / x, ["divide"]),
        # one call for two
        (lambda x: np.sin(x) + -x, ["sin", "subtract"]),
        (lambda x: -x + np.sin(x), ["sin", "subtract"]),
        (lambda x: np.sin(x) - np.negative(x), ["sin", "add"]),
        (lambda x: np.sin(x) + -x * x / -x, ["sin", "negative", "multiply", "divide", "subtract"]),
        (lambda x: x + x, ["multiply"]),
        (lambda x: 0.5 * (x * 3), ["multiply"]),
        (lambda x: 3.0 * (x * 0.1), ["multiply", "multiply"]),  # not to the last bit
        (lambda x: 2 * (x + x), ["multiply"]),
        # sums as products
        (lambda x: np.sum(np.broadcast_to(x[0], (5, 3)), axis=0), ["multiply"]),
        (lambda x: np.sum(np.broadcast_to(x[0, 0], (5, 3))), []),  # but *
        (lambda x: np.sum(np.broadcast_to(x[:, :1], (2, 4)), axis=1), ["multiply"]),
        (lambda x: np.sum(np.broadcast_to(x[0], (5, 3)), axis=1), ["broadcast_to", "add_reduce"]),
        (lambda x: np.sum(x, axis=0) + np.sum(x, axis=0), ["dot", "multiply"]),
        (lambda x: np.sum(x**2) + np.sum(x * x[::-1]), ["vdot", "vdot"]),  # and +, since they are numbers
        (lambda x: np.sum(x * x[0]), ["multiply", "add_reduce"]),
        (lambda x: x[0] * (1 / np.exp(x)), ["exp", "divide"]),
        (lambda x: 1 / np.exp(x) * x[0], ["exp", "divide"]),
        (lambda x: np.sum(x.astype(int), axis=0), ["add_reduce"]),
        # broadcast where it is used
        (lambda x: x * np.broadcast_to(np.sum(x, axis=0), (2, 3)), ["dot", "multiply"]),
        (lambda x: np.sin(np.broadcast_to(x[0], (2, 3))), ["broadcast_to", "sin"]),
        (lambda x: np.broadcast_to(x[0], (2, 3)) * np.broadcast_to(x[1], (2, 3)), ["broadcast_to", "multiply"]),
    ],
)
def test_what_a_program_calls(f: Callable[..., Any], expected: list[str]) -> None:
    found = calls(f, A)
    assert sorted(found) == sorted(expected)


def test_a_float32_times_one_in_double_is_not_the_same() -> None:
    assert calls(lambda x: x * np.float64(1), A.astype(np.float32)) == ["multiply"]


def test_draws_are_never_shared() -> None:
    layer = mg.nn.Dropout(0.5, rng=np.random.default_rng(0))
    compiled = mg.compile(lambda x: layer(x) + layer(x))
    compiled(A)
    assert re.search(r"def forward\(buffers, x, drawn, .*drawn_1", compiled.source)


def test_a_reciprocal_of_integers_has_a_dtype_of_its_own() -> None:
    x, y = np.array([1.0], np.float32), np.array([3], np.int8)
    f = lambda x, y: x * (1 / y)
    assert mg.compile(f)(x, y).dtype == f(x, y).dtype == np.float64
    assert mg.compile(f)(x, y) == f(x, y)
