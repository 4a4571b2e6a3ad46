"""Initial weights: the distributions that the papers name, in the dtype and from the generator that were given."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.nn import init

OUT, IN = 200, 300
SHAPES = [((OUT, IN), IN, OUT), ((40, 30, 5, 5), 30 * 25, 40 * 25)]  # shape, fan_in, fan_out

# The variance that the papers ask for: Glorot and Bengio 2010, equation 12 and 16; He et al. 2015, equation 10.
VARIANCES: dict[Any, Callable[[float, int, int], float]] = {
    init.xavier_uniform: lambda gain, fan_in, fan_out: gain**2 * 2 / (fan_in + fan_out),
    init.xavier_normal: lambda gain, fan_in, fan_out: gain**2 * 2 / (fan_in + fan_out),
    init.kaiming_uniform: lambda gain, fan_in, fan_out: gain**2 / fan_in,
    init.kaiming_normal: lambda gain, fan_in, fan_out: gain**2 / fan_in,
}
DEFAULT_GAINS = {
    init.xavier_uniform: 1,
    init.xavier_normal: 1,
    init.kaiming_uniform: 2**0.5,
    init.kaiming_normal: 2**0.5,
}
ALL: list[Callable[..., np.ndarray]] = [
    lambda shape, **k: init.uniform(shape, -2, 3, **k),
    lambda shape, **k: init.normal(shape, 1, 2, **k),
    *VARIANCES,
]


def is_drawn_from(w: np.ndarray, mean: float, variance: float, kurtosis: float) -> None:
    """Compare the first, second and fourth moment, each within five standard deviations of its estimate."""
    n, z = w.size, (w.astype(np.float64) - mean) / math.sqrt(variance)
    assert abs(np.mean(z)) < 5 / math.sqrt(n)
    assert abs(np.mean(z**2) - 1) < 5 * math.sqrt((kurtosis - 1) / n)
    eighth = 9 if kurtosis < 3 else 105  # E z^8: (sqrt 3)^8 / 9 for the uniform distribution, 105 for the normal one
    assert abs(np.mean(z**4) - kurtosis) < 5 * math.sqrt((eighth - kurtosis**2) / n)


def is_uniform(w: np.ndarray, low: float, high: float) -> None:
    is_drawn_from(w, (low + high) / 2, (high - low) ** 2 / 12, 9 / 5)
    slack = 2e-7 * max(abs(low), abs(high))  # rounding to float32
    assert low - slack <= w.min() < low + (high - low) / 1000
    assert high - (high - low) / 1000 < w.max() <= high + slack


@given(st.integers(0, 2**32), st.floats(-5, 5), st.floats(0.1, 10))
def test_uniform(seed: int, low: float, width: float) -> None:
    w = init.uniform((OUT, IN), low, low + width, rng=np.random.default_rng(seed % 5), dtype=np.float64)
    is_uniform(w, low, low + width)


@given(st.integers(0, 2**32), st.floats(-5, 5), st.floats(0.1, 10))
def test_normal(seed: int, mean: float, std: float) -> None:
    w = init.normal((OUT, IN), mean, std, rng=np.random.default_rng(seed % 5), dtype=np.float64)
    is_drawn_from(w, mean, std**2, 3)


@pytest.mark.parametrize("gain", [None, 1.0, 5 / 3])
@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
@pytest.mark.parametrize("f", VARIANCES)
def test_the_papers_variances(f: Any, shape: tuple[int, ...], fan_in: int, fan_out: int, gain: float | None) -> None:
    rng = np.random.default_rng(0)
    w = f(shape, rng=rng) if gain is None else f(shape, gain, rng=rng)
    variance = VARIANCES[f](DEFAULT_GAINS[f] if gain is None else gain, fan_in, fan_out)
    if "uniform" in f.__name__:
        is_uniform(w, -math.sqrt(3 * variance), math.sqrt(3 * variance))
    else:
        is_drawn_from(w, 0, variance, 3)


@pytest.mark.parametrize("f", ALL)
def test_shape_and_dtype(f: Any) -> None:
    assert (f((4, 3)).shape, f((4, 3)).dtype) == ((4, 3), np.float32)
    assert f((4, 3, 2), dtype=np.float64).dtype == np.float64
    assert f((0, 3)).shape == (0, 3)
    assert f((3, 0)).shape == (3, 0)


@pytest.mark.parametrize("f", ALL)
def test_the_generator_decides(f: Any) -> None:
    draw = lambda seed: f((4, 3), rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(draw(7), draw(7))
    assert not np.array_equal(draw(7), draw(8))
    rng = np.random.default_rng(7)
    assert not np.array_equal(f((4, 3), rng=rng), f((4, 3), rng=rng))


@pytest.mark.parametrize("f", ALL)
def test_the_global_state_is_left_alone(f: Any) -> None:
    before = str(np.random.get_state())  # noqa: NPY002
    assert not np.array_equal(f((4, 3)), f((4, 3)))
    assert str(np.random.get_state()) == before  # noqa: NPY002


@pytest.mark.parametrize("shape", [(5,), ()])
@pytest.mark.parametrize("f", VARIANCES)
def test_a_vector_has_no_fans(f: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"has no fan_in and fan_out: they need the two axes \(out, in\)"):
        f(shape)


def test_vectors_can_be_drawn_without_fans() -> None:
    assert init.uniform((5,), 0, 1).shape == init.normal((5,), 0, 1).shape == (5,)
