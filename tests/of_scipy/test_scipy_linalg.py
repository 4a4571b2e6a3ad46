"""Functions of scipy.linalg and scipy.signal: values against SciPy's, derivatives against differences."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.testing.rule import check_call

L = pytest.importorskip("scipy.linalg")
linalg, signal = pytest.importorskip("minigrad.scipy.linalg"), pytest.importorskip("minigrad.scipy.signal")

rng = np.random.default_rng(0)
A = rng.normal(size=(3, 3)) + 3 * np.eye(3)
POSITIVE = A @ A.T + np.eye(3)
B, b = rng.normal(size=(3, 2)), rng.normal(size=3)


def agrees(f: Any, expected: Any, *args: Any) -> None:
    """Compare values with SciPy's, and derivatives to second order with differences."""
    np.testing.assert_allclose(f(*map(mg.Tensor, args)).data, expected(*args), rtol=1e-12, atol=1e-14)
    check_call(f, list(args), rounding=100)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("trans", [0, 1, "C"])
def test_solve_triangular(trans: Any, lower: bool, unit: bool) -> None:
    right = B if trans else b
    options = {"trans": trans, "lower": lower, "unit_diagonal": unit}
    agrees(
        lambda a, b: linalg.solve_triangular(a, b, **options),
        lambda a, b: L.solve_triangular(a, b, **options),
        A,
        right,
    )
    triangle = np.tril(np.ones((3, 3)), -unit) if lower else np.triu(np.ones((3, 3)), unit)
    gradient = mg.grad(lambda a: np.sum(linalg.solve_triangular(a, right, **options)))(A)
    assert np.all((gradient != 0) <= (triangle != 0))  # what is not read has no influence


@pytest.mark.parametrize("lower", [False, True])
def test_cholesky(lower: bool) -> None:
    solve = lambda a, b: linalg.cho_solve((np.linalg.cholesky(a, upper=not lower), lower), b)
    lower_part = np.where(np.tri(3) if lower else np.tri(3).T, POSITIVE, 0)
    agrees(solve, lambda a, b: np.linalg.solve(POSITIVE, b), lower_part, b)
    agrees(solve, lambda a, b: L.cho_solve(L.cho_factor(a, lower=lower), b), POSITIVE, B)


def test_functions_of_matrices() -> None:
    agrees(linalg.expm, L.expm, A / 3)
    agrees(linalg.expm, L.expm, rng.normal(size=(2, 2, 2)))
    agrees(linalg.sqrtm, L.sqrtm, POSITIVE)
    agrees(linalg.solve_sylvester, L.solve_sylvester, A, POSITIVE[:2, :2], B)
    assert linalg.hadamard is L.hadamard


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("shapes", [((5,), (3,)), ((2,), (4,)), ((3, 4), (2, 2)), ((2, 3, 2), (2, 2, 2))])
def test_convolutions(shapes: Any, mode: str) -> None:
    scipy_signal = pytest.importorskip("scipy.signal")
    x, y = (rng.normal(size=shape) for shape in shapes)
    ours, theirs = signal.convolve, scipy_signal.convolve
    agrees(lambda x, y: ours(x, y, mode, "direct"), lambda x, y: theirs(x, y, mode, "direct"), x, y)
    by_fft = ours(mg.Tensor(x), y, mode, method="fft").data
    np.testing.assert_allclose(by_fft, theirs(x, y, mode), rtol=1e-12, atol=1e-14)
