"""Fourier transforms: their values, and derivatives of any length, axis and norm."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Case, case
from hypothesis import given
from hypothesis import strategies as st
from profiles import scale, some

import minigrad as mg
from minigrad.testing import check_grads

OF_REALS = {np.fft.rfft, np.fft.ihfft, np.fft.rfftn, np.fft.rfft2}
ALONG_ONE = [np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.irfft, np.fft.hfft, np.fft.ihfft]
ALONG_SEVERAL = [
    *(np.fft.fftn, np.fft.ifftn, np.fft.rfftn, np.fft.irfftn),
    *(np.fft.fft2, np.fft.ifft2, np.fft.rfft2, np.fft.irfft2),
]
SHIFTS = [np.fft.fftshift, np.fft.ifftshift]


def rows(function: Any, *forms: Any) -> list[Case]:
    """Cases of a transform: the shape of what it is given, and how it is called."""

    def of(options: dict[str, Any]) -> Callable[..., Any]:
        return lambda x, y: function(x if function in OF_REALS else x + 1j * y, **options)

    return [case(of(options), shape, shape) for shape, options in forms]


LINES = [((5,), {}), ((4,), {"n": 3}), ((2, 3), {"n": 6, "axis": 0, "norm": "forward"})]
LINES += [((3,), {"n": 1, "norm": "ortho"})]
GRIDS = [((2, 3), {}), ((3, 4), {"s": (2, 5), "axes": (1, 0)}), ((2, 3), {"norm": "ortho"})]
cases: dict[Callable[..., Any], list[Case]] = {
    **{function: rows(function, *scale(LINES[1:3], LINES)) for function in ALONG_ONE},
    **{function: rows(function, *scale(GRIDS[1:2], GRIDS)) for function in ALONG_SEVERAL},
    **{function: rows(function, ((5,), {}), ((4, 3), {"axes": 1})) for function in SHIFTS},
}


@given(
    st.sampled_from(ALONG_ONE),
    st.integers(1, 6),
    st.none() | st.integers(1, 8),
    st.sampled_from([None, "backward", "ortho", "forward"]),
    st.integers(0, 1),
    st.sampled_from([np.float32, np.float64]),
)
def test_any_length_axis_and_norm(function: Any, m: int, n: int | None, norm: Any, axis: int, dtype: Any) -> None:
    if function in (np.fft.irfft, np.fft.hfft) and n is None and m == 1:
        n = 2  # NumPy's own length would be 0
    x = np.random.default_rng(m).standard_normal((2, m) if axis else (m, 2)).astype(dtype)
    x = x if function in OF_REALS else (x + 1j * x[::-1]).astype(np.result_type(dtype, np.complex64))
    options = {"n": n, "axis": axis, "norm": norm}
    tensor = mg.Tensor(x, requires_grad=True)
    answer = function(tensor, **options)
    np.testing.assert_array_equal(answer.data, function(x, **options), strict=True)
    check_grads(lambda x: function(x, **options), [x], order=scale(1, 2), shrink=False)


@pytest.mark.parametrize("function", ALONG_SEVERAL, ids=lambda f: f.__name__)
def test_any_axes(function: Any) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    x = x if function in OF_REALS else x + 1j * x[::-1]
    forms = {}, {"axes": (0, 2)}, {"axes": (2, 0), "s": (3, 3)}, {"axes": (1,)}, {"axes": (0, 1), "s": (-1, 5)}
    possible: list[dict[str, Any]] = []
    forms += {"axes": (0, 1), "s": (3, -1)}, {"axes": (-2, -1), "s": (-1, -1)}, {"axes": (-1, -1)}
    for options in forms:
        if options.get("axes") and "2" in function.__name__ and len(options["axes"]) != 2:
            continue
        possible.append(options)
        answer = function(mg.Tensor(x), **options)
        np.testing.assert_allclose(answer.data, function(x, **options), rtol=1e-12, atol=1e-12, strict=True)
    for options in some(possible, 3, ALONG_SEVERAL.index(function)):
        check_grads(lambda x, k=options: function(x, **k), [x], order=1, shrink=False)


def test_an_axis_twice() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3))
    np.testing.assert_allclose(np.fft.fftn(mg.Tensor(x), axes=(1, 1)).data, np.fft.fftn(x, axes=(1, 1)), atol=1e-12)
    check_grads(lambda x: np.fft.fftn(x, axes=(1, 1)), [x], order=1)


def test_no_axis() -> None:
    x, weights = np.random.default_rng(0).standard_normal((2, 2, 3))
    for f in (lambda x: np.sum(np.fft.fftn(x, axes=()) * weights), lambda x: np.sum(np.fft.ifft2(x, (), ()) * weights)):
        for gradient in (mg.grad(f), mg.compile(mg.grad(f)), mg.grad(mg.compile(f))):
            np.testing.assert_array_equal(gradient(x), weights)
    for function in (np.fft.rfftn, np.fft.irfft2):
        with pytest.raises(IndexError, match="needs an axis"):
            function(mg.Tensor(x), axes=())


def test_lengths_and_axes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="along 1 axes needs as many lengths"):
        np.fft.fftn(mg.Tensor(np.ones((2, 2))), s=(2, 2), axes=(0,))


def test_parseval_and_a_convolution_by_transforms() -> None:
    """Formulas whose derivatives are known: of a sum of squares, and of a circular convolution."""
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 16))
    gradient = mg.grad(lambda x: np.sum(np.abs(np.fft.fft(x)) ** 2) / 16)(x)
    np.testing.assert_allclose(gradient, 2 * x, rtol=1e-12)
    spread = lambda x: np.fft.irfft(np.fft.rfft(x) * np.fft.rfft(kernel), 16)
    expected = np.array([[kernel[(i - j) % 16] for j in range(16)] for i in range(16)])
    np.testing.assert_allclose(mg.jacobian(spread)(x), expected, atol=1e-12)


def test_compiled() -> None:
    x = np.random.default_rng(0).standard_normal(8)
    f = mg.grad(lambda x: np.sum(np.abs(np.fft.rfft(np.sin(x))) ** 4))
    compiled = mg.compile(f)
    for shift in (0.0, 1.0):
        np.testing.assert_allclose(compiled(x + shift), f(x + shift), rtol=1e-12)
    assert compiled.traces == 1
    assert "irfft" in compiled.source
