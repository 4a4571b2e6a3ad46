"""Activations: against their formulas, to the last bits, at their kinks, in their tails and at infinity."""

import itertools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from profiles import scale, some

import minigrad as mg
from minigrad import nn
from minigrad.testing import check_grads

INF, NAN = math.inf, math.nan
DTYPES = [np.float64, np.float32]


def derivative(f: Callable[..., Any], order: int = 1) -> Callable[..., Any]:
    for _ in range(order):
        f = mg.grad(f)
    return f


# ------------------------------------------------------------------------------ tanh and sigmoid, to the last bits


def exact_tanh(x: float) -> float:
    """The correctly rounded value, by sixty decimal digits."""
    with localcontext() as context:
        context.prec = 60
        d = Decimal(x)
        if abs(d) < Decimal("1e-9"):
            return float(d - d**3 / 3)
        e = (2 * max(min(d, Decimal(2000)), Decimal(-2000))).exp()
        return float((e - 1) / (e + 1))


def exact_sigmoid(x: float) -> float:
    with localcontext() as context:
        context.prec = 60
        return float(1 / (1 + (-max(min(Decimal(x), Decimal(2000)), Decimal(-2000))).exp()))


EXACT = [(nn.tanh, exact_tanh), (nn.sigmoid, exact_sigmoid)]


def ulps(found: np.ndarray, rounded: np.ndarray) -> Any:
    """How many units in the last place a result is away from the correctly rounded one, at most."""
    return np.max(np.abs(found - rounded) / np.spacing(np.abs(rounded)))


def half_tails(x: np.ndarray) -> np.ndarray:
    z = np.exp(-np.abs(x))
    return np.where(x > 0, 1, z) / (1 + z)


@pytest.mark.parametrize(("f", "reference"), [(nn.tanh, np.tanh), (nn.sigmoid, half_tails)])
def test_float32_is_within_4_ulp_for_all_exponents(f: Any, reference: Any) -> None:
    x = np.arange(0, 2**32, 1009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    found = f(x)
    assert x.size > 4_000_000
    assert found.dtype == np.float32
    assert ulps(found, reference(x.astype(np.float64)).astype(np.float32)) <= 4


def wide_floats() -> st.SearchStrategy[float]:
    """Finite floats of either sign, most of them where the functions bend."""
    near = st.builds(math.ldexp, st.floats(0.5, 1), st.integers(-60, 11))
    return st.one_of(near, near.map(lambda x: -x), st.floats(allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize(("f", "exact"), EXACT)
@given(st.lists(wide_floats(), min_size=1, max_size=30))
def test_float64_is_within_4_ulp_for_all_finite_inputs(f: Any, exact: Any, numbers: list[float]) -> None:
    assert ulps(f(np.array(numbers)), np.array([exact(x) for x in numbers])) <= 4


@pytest.mark.parametrize(("f", "exact"), EXACT)
def test_float64_is_within_4_ulp_on_a_dense_grid(f: Any, exact: Any) -> None:
    rng = np.random.default_rng(0)
    sizes = np.concatenate(
        [2 ** rng.uniform(-30, 10, scale(3000, 8000)), rng.uniform(705, 746, 500), [1e-310, 5e-324, 1.8e308 / 1.01]]
    )
    x = np.concatenate([sizes, -sizes])
    assert ulps(f(x), np.array([exact(v) for v in x.tolist()])) <= 4


@pytest.mark.parametrize("dtype", [*DTYPES, np.float16])
@pytest.mark.parametrize("f", [nn.tanh, nn.sigmoid, nn.softplus, nn.gelu])
def test_nothing_overflows_at_the_largest_numbers(f: Any, dtype: Any) -> None:
    largest = np.finfo(dtype).max
    x = np.array([-largest, -1000, 1000, largest], dtype)
    expected = {nn.tanh: [-1, -1, 1, 1], nn.sigmoid: [0, 0, 1, 1]}.get(f, [0, 0, 1000, largest])
    slopes = [0, 0, 0, 0] if f in (nn.tanh, nn.sigmoid) else [0, 0, 1, 1]
    np.testing.assert_allclose(f(x), np.array(expected, dtype), atol=1e-250)
    np.testing.assert_allclose([derivative(f)(v) for v in x], slopes, atol=1e-250)
    np.testing.assert_allclose([derivative(f, 2)(v) for v in x], 0, atol=1e-250)


def tanh_slope(x: Any) -> Any:
    z = np.exp(-2 * np.abs(x))
    return 4 * z / (1 + z) ** 2


def sigmoid_slope(x: Any) -> Any:
    z = np.exp(-np.abs(x))
    return z / (1 + z) ** 2


SLOPES = [
    (nn.tanh, tanh_slope, lambda x: -2 * np.tanh(x) * tanh_slope(x)),
    (nn.sigmoid, sigmoid_slope, lambda x: -np.tanh(x / 2) * sigmoid_slope(x)),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize("x", [0.0, -0.0, 1e-30, 1e-4, 0.5, 1.0, 5.0, 25.0, 40.0])
@pytest.mark.parametrize(("f", "slope", "bend"), SLOPES)
def test_derivatives_are_right_at_zero_and_in_both_tails(
    f: Any, slope: Any, bend: Any, x: float, dtype: Any, tolerance: float
) -> None:
    for signed in (x, -x):
        at = np.float64(dtype(signed))
        assert derivative(f)(dtype(signed)) == pytest.approx(slope(at), rel=tolerance, abs=0)
        rounding = 4 * float(np.finfo(dtype).eps) if x < 5 else 0  # it goes through 0 between the tails
        assert derivative(f, 2)(dtype(signed)) == pytest.approx(bend(at), rel=tolerance, abs=rounding)


@given(st.floats(-700, 700))
def test_the_gradient_of_log_sigmoid_does_not_vanish(x: float) -> None:
    assert derivative(lambda x: np.log(nn.sigmoid(x)))(x) == pytest.approx(exact_sigmoid(-x), rel=1e-12, abs=0)


def test_log_sigmoid_at_minus_50_has_gradient_1() -> None:
    assert derivative(lambda x: np.log(nn.sigmoid(x)))(-50.0) == pytest.approx(1, rel=1e-15)


# --------------------------------------------------------------------------------------------------- all activations


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


ACTIVATIONS: dict[Any, Callable[[np.ndarray], np.ndarray]] = {
    nn.tanh: np.tanh,
    nn.sigmoid: lambda x: 1 / (1 + np.exp(-x)),
    nn.relu: lambda x: np.maximum(x, 0),
    nn.leaky_relu: lambda x: np.where(x > 0, x, 0.01 * x),
    nn.softplus: lambda x: np.log1p(np.exp(x)),
    nn.gelu: lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    nn.elu: lambda x: np.where(x > 0, x, np.exp(x) - 1),
    nn.selu: lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    nn.silu: lambda x: x / (1 + np.exp(-x)),
    nn.mish: lambda x: x * np.tanh(np.log1p(np.exp(x))),
    nn.hardtanh: lambda x: np.clip(x, -1, 1),
    nn.softmax: softmax,
    nn.log_softmax: lambda x: np.log(softmax(x)),
}
KINKED = {nn.relu, nn.leaky_relu, nn.elu, nn.selu, nn.hardtanh}
OVER_AN_AXIS = {nn.softmax, nn.log_softmax}
activations = pytest.mark.parametrize("f", ACTIVATIONS, ids=lambda f: f.__name__)


def arrays(dtype: Any = np.float64, size: float = 30, min_dims: int = 1, **sides: int) -> st.SearchStrategy[np.ndarray]:
    shapes = nps.array_shapes(min_dims=min_dims, max_dims=3, max_side=4, **sides)
    return nps.arrays(dtype, shapes, elements=st.floats(-size, size, width=32))


def test_every_activation_is_tried() -> None:
    assert {name for name in vars(nn.activations) if name in nn.__all__ and name.islower()} == {
        f.__name__ for f in ACTIVATIONS
    }


@activations
@given(arrays())
def test_activations_follow_their_formulas(f: Any, x: np.ndarray) -> None:
    np.testing.assert_allclose(f(x), ACTIVATIONS[f](x), rtol=1e-12, atol=1e-13)


@activations
@given(st.data())
def test_activations_keep_dtype_shape_and_kind(f: Any, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    x = data.draw(arrays(dtype, min_dims=int(f in OVER_AN_AXIS), min_side=int(f in OVER_AN_AXIS)))
    x.flags.writeable = False
    found = f(x)
    assert isinstance(found, np.ndarray | np.generic)
    assert (found.shape, found.dtype) == (x.shape, dtype)
    t = mg.Tensor(x, requires_grad=True)
    tracked = f(t)
    assert isinstance(tracked, mg.Tensor)
    assert tracked.dtype == dtype
    np.testing.assert_array_equal(tracked.data, found)
    np.sum(tracked).backward()
    assert t.grad is not None
    assert (t.grad.shape, t.grad.dtype) == (x.shape, dtype)


@pytest.mark.parametrize("f", [f for f in ACTIVATIONS if f not in OVER_AN_AXIS])
@pytest.mark.parametrize("number", [0.75, 2, np.float32(0.75), mg.Tensor(0.75)])
def test_numbers_are_inputs_too(f: Any, number: Any) -> None:
    found = f(number)
    assert np.shape(found) == ()
    assert found.dtype == (np.float32 if isinstance(number, np.float32) else np.float64 if number != 2 else found.dtype)
    assert float(found) == pytest.approx(float(ACTIVATIONS[f](np.float64(float(number)))), rel=1e-6)


@pytest.mark.parametrize("f", [nn.tanh, nn.sigmoid, nn.softplus, nn.gelu, nn.softmax, nn.log_softmax])
def test_lists_are_inputs_too(f: Any) -> None:
    np.testing.assert_array_equal(f([-1.0, 0.5]), f(np.array([-1.0, 0.5])))


@activations
def test_what_are_no_numbers(f: Any) -> None:
    for x in ("a", None, ["a", 1.0], np.array(["a"])):
        with pytest.raises(TypeError, match=rf"^{f.__name__} got .*; wanted numbers: an array, or a Tensor") as raised:
            f(x)
        assert raised.value.__cause__ is not None
    with pytest.raises(TypeError, match="required positional argument: 'x'"):
        f()
    with pytest.raises(TypeError, match="would lose its history in silence"):
        f([mg.Tensor(1.0, requires_grad=True)])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.bool_])
@pytest.mark.parametrize("f", [nn.tanh, nn.sigmoid, nn.gelu, nn.softmax, nn.log_softmax])
def test_integers_do_not_wrap_around(f: Any, dtype: Any) -> None:
    x = np.array([0, 1, 100]).astype(dtype)
    np.testing.assert_allclose(f(x), f(x.astype(np.float64)), rtol=2e-3, atol=1e-30)


@activations
@pytest.mark.parametrize(("dtype", "order"), [(np.float64, 2), (np.float32, 1)])
def test_activations_have_right_derivatives(f: Any, dtype: Any, order: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(0.3, 3, (2, 3)) * rng.choice([-1, 1], (2, 3))
    if f not in KINKED:
        x[0, 0] = 0
    check_grads(f, [x.astype(dtype)], order)


@pytest.mark.parametrize(("f", "axis"), some([*itertools.product([nn.softmax, nn.log_softmax], [0, 1, -1, -3])], 3))
def test_softmax_along_any_axis(f: Any, axis: int) -> None:
    x = np.random.default_rng(2).normal(size=(2, 3, 4))
    expected = np.moveaxis(ACTIVATIONS[f](np.moveaxis(x, axis, -1)), -1, axis)
    np.testing.assert_allclose(f(x, axis=axis), expected, rtol=1e-13)
    check_grads(lambda x: f(x, axis=axis), [x], order=2)


@given(arrays(size=1e5), st.floats(-1e5, 1e5))
def test_softmax_sums_to_one_and_ignores_shifts(x: np.ndarray, shift: float) -> None:
    p = nn.softmax(x)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-14)
    np.testing.assert_allclose(nn.softmax(x + shift), p, atol=1e-9)
    log_p = nn.log_softmax(x)
    assert np.all(np.isfinite(log_p))
    np.testing.assert_allclose(np.exp(log_p), p, atol=1e-12)


# fmt: off
AT_INFINITY = [  # function, at -inf, at inf, its derivatives there
    (nn.tanh,         -1,    1, 0, 0),
    (nn.sigmoid,       0,    1, 0, 0),
    (nn.relu,          0,  INF, 0, 1),
    (nn.leaky_relu, -INF,  INF, 0.01, 1),
    (nn.softplus,      0,  INF, 0, None),
    (nn.gelu,          0,  INF, 0, 1),
    (nn.elu,          -1,  INF, 0, 1),
    (nn.selu, -1.7580993408473766, INF, 0, 1.0507009873554805),
    (nn.silu,          0,  INF, 0, 1),
    (nn.mish,          0,  INF, 0, 1),
    (nn.hardtanh,     -1,    1, 0, 0),
]
# fmt: on


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("f", "low", "high", "slope_low", "slope_high"), AT_INFINITY)
def test_at_infinity(f: Any, low: float, high: float, slope_low: float, slope_high: float | None, dtype: Any) -> None:
    np.testing.assert_allclose(f(np.array([-INF, INF], dtype)), [low, high], atol=1e-250)
    assert derivative(f)(dtype(-INF)) == pytest.approx(slope_low, rel=1e-6, abs=1e-250)
    if slope_high is not None:
        assert derivative(f)(dtype(INF)) == pytest.approx(slope_high, rel=1e-6)


@activations
def test_nan_stays_nan(f: Any) -> None:
    with np.errstate(invalid="ignore"):
        found = f(np.array([[0.5, NAN], [1.0, 2.0]]))
    assert np.isnan(found[0, 1])
    assert np.all(np.isfinite(found[1]))
    assert np.isfinite(found[0, 0]) == (f not in OVER_AN_AXIS)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_slopes_at_kinks(zero: float) -> None:
    assert derivative(nn.relu)(zero) == 0
    assert derivative(nn.leaky_relu)(zero) == 0.01
    assert derivative(lambda x: nn.leaky_relu(x, negative_slope=0.25))(zero) == 0.25
    assert nn.leaky_relu(-2.0, 0.25) == -0.5
    assert derivative(nn.elu)(zero) == 1
    assert derivative(lambda x: nn.elu(x, 0.5))(zero) == 0.5
    assert derivative(nn.hardtanh)(1.0) == derivative(nn.hardtanh)(-1.0) == 0


def test_gelu_is_near_its_definition() -> None:
    x = np.linspace(-6, 6, 2001)
    normal = np.array([(1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
    assert np.max(np.abs(nn.gelu(x) - x * normal)) < 5e-4


# ---------------------------------------------------------------------------------------------------------- parity


def test_the_same_numbers_as_pytorch() -> None:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(0, 4, 30), [0.0, -0.0, 30, -30]])
    pairs: list[tuple[Any, Any]] = [
        (nn.tanh, torch.tanh),
        (nn.sigmoid, torch.sigmoid),
        (nn.relu, torch.relu),
        (nn.leaky_relu, F.leaky_relu),
        (nn.softplus, F.softplus),
        (nn.gelu, lambda x: F.gelu(x, approximate="tanh")),
        (nn.elu, F.elu),
        (lambda x: nn.elu(x, 0.3), lambda x: F.elu(x, 0.3)),
        (nn.selu, F.selu),
        (nn.silu, F.silu),
        (nn.mish, F.mish),
        (nn.hardtanh, F.hardtanh),
        (lambda x: nn.hardtanh(x, -2, 0.5), lambda x: F.hardtanh(x, -2, 0.5)),
        (nn.softmax, lambda x: torch.softmax(x, -1)),
        (nn.log_softmax, lambda x: torch.log_softmax(x, -1)),
    ]
    for f, g in pairs:
        compare(f, g, x)


def compare(ours: Any, theirs: Any, at: np.ndarray) -> None:
    """Compare values and gradients of a function and its counterpart in PyTorch."""
    torch = pytest.importorskip("torch")
    mine, other = mg.Tensor(at, requires_grad=True), torch.tensor(at, requires_grad=True)
    weights = np.cos(np.arange(at.size)).reshape(at.shape)
    y, z = ours(mine), theirs(other)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-9, atol=1e-12)
    scale = weights if y.ndim else np.array(1.0)
    np.sum(y * scale).backward()
    (z * torch.tensor(scale)).sum().backward()
    np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", [nn.Tanh, nn.LeakyReLU])
def test_a_subclass_may_call_the_method_of_its_class(kind: Any) -> None:
    class Twice(kind):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return kind.forward(self, x) * 2

    np.testing.assert_array_equal(Twice()(np.array([-1.0, 2.0])), kind()(np.array([-1.0, 2.0])) * 2)
