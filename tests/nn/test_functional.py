"""Activations and losses: against their formulas, to the last bits, at their kinks, in their tails and at infinity."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

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
        [2 ** rng.uniform(-30, 10, 8000), rng.uniform(705, 746, 500), [1e-310, 5e-324, 1.8e308 / 1.01]]
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
    nn.softmax: softmax,
    nn.log_softmax: lambda x: np.log(softmax(x)),
}
KINKED = {nn.relu, nn.leaky_relu}
OVER_AN_AXIS = {nn.softmax, nn.log_softmax}
activations = pytest.mark.parametrize("f", ACTIVATIONS, ids=lambda f: f.__name__)


def arrays(dtype: Any = np.float64, size: float = 30, min_dims: int = 1, **sides: int) -> st.SearchStrategy[np.ndarray]:
    shapes = nps.array_shapes(min_dims=min_dims, max_dims=3, max_side=4, **sides)
    return nps.arrays(dtype, shapes, elements=st.floats(-size, size, width=32))


def test_every_activation_is_tried() -> None:
    losses = {name for name in nn.__all__ if name.endswith(("_loss", "_entropy", "_with_logits"))}
    functions = {name for name in nn.functional.__dict__ if name in nn.__all__} - losses
    assert functions == {f.__name__ for f in ACTIVATIONS}
    assert losses == {f.__name__ for f in [*LOSSES, nn.cross_entropy]}


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


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
@pytest.mark.parametrize("f", [nn.softmax, nn.log_softmax])
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
]
# fmt: on


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("f", "low", "high", "slope_low", "slope_high"), AT_INFINITY)
def test_at_infinity(f: Any, low: float, high: float, slope_low: float, slope_high: float | None, dtype: Any) -> None:
    np.testing.assert_allclose(f(np.array([-INF, INF], dtype)), [low, high], atol=1e-250)
    assert derivative(f)(dtype(-INF)) == pytest.approx(slope_low, rel=1e-6, abs=1e-250)
    if slope_high is not None:
        assert derivative(f)(dtype(INF)) == slope_high


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


def test_gelu_is_near_its_definition() -> None:
    x = np.linspace(-6, 6, 2001)
    normal = np.array([(1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
    assert np.max(np.abs(nn.gelu(x) - x * normal)) < 5e-4


# ------------------------------------------------------------------------------------------------------------ losses

LOSSES: dict[Any, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    nn.mse_loss: lambda p, t: (p - t) ** 2,
    nn.l1_loss: lambda p, t: np.abs(p - t),
    nn.huber_loss: lambda p, t: np.where(np.abs(p - t) < 1, (p - t) ** 2 / 2, np.abs(p - t) - 0.5),
    nn.log_loss: lambda p, t: -t * np.log(p) - (1 - t) * np.log(1 - p),
    nn.log_loss_with_logits: lambda x, t: np.log(1 + np.exp(x)) - t * x,
}
losses = pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)


def inputs(loss: Any, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float64) -> list[np.ndarray]:
    """A prediction and a target in the domain of the loss, away from its kinks."""
    target = rng.uniform(0, 1, shape)
    if loss is nn.log_loss:
        prediction = rng.uniform(0.05, 0.95, shape)
    elif loss is nn.log_loss_with_logits:
        prediction = rng.normal(0, 3, shape)
    else:
        error = np.where(rng.random(shape) < 0.5, rng.uniform(0.1, 0.8, shape), rng.uniform(1.2, 3, shape))
        prediction = target + error * rng.choice([-1, 1], shape)
    return [prediction.astype(dtype), target.astype(dtype)]


seeds = st.integers(0, 2**32)
shapes = nps.array_shapes(min_dims=0, max_dims=3, max_side=4)


@losses
@given(seeds, shapes)
def test_losses_follow_their_formulas(loss: Any, seed: int, shape: tuple[int, ...]) -> None:
    p, t = inputs(loss, np.random.default_rng(seed), shape)
    expected = LOSSES[loss](p, t)
    np.testing.assert_allclose(loss(p, t, "none"), expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(loss(p, t, reduction="sum"), np.sum(expected), rtol=1e-10)
    np.testing.assert_allclose(loss(p, t, reduction="mean"), np.mean(expected), rtol=1e-10)
    assert loss(p, t) == loss(p, t, "mean")
    assert np.shape(loss(p, t)) == ()
    assert np.shape(loss(p, t, "none")) == shape


@losses
@given(seeds, shapes)
def test_losses_keep_float32(loss: Any, seed: int, shape: tuple[int, ...]) -> None:
    p, t = inputs(loss, np.random.default_rng(seed), shape, np.float32)
    tracked = mg.Tensor(p, requires_grad=True)
    value = loss(tracked, t)
    value.backward()
    assert value.dtype == loss(p, t).dtype == np.float32
    assert tracked.grad is not None
    assert tracked.grad.dtype == np.float32
    assert isinstance(loss(p, t, "none"), np.ndarray | np.generic)


@losses
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_have_right_derivatives(loss: Any, reduction: Any) -> None:
    p, t = inputs(loss, np.random.default_rng(3), (2, 3))
    check_grads(lambda p, t: loss(p, t, reduction), [p, t], order=2)


@losses
@given(st.data())
def test_losses_never_broadcast(loss: Any, data: st.DataObject) -> None:
    pair = nps.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)
    a, b = data.draw(pair.filter(lambda s: s.input_shapes[0] != s.input_shapes[1])).input_shapes
    wrap = data.draw(st.sampled_from([np.asarray, mg.Tensor]))
    with pytest.raises(ValueError, match="must be equal") as raised:
        loss(wrap(np.full(a, 0.5)), np.full(b, 0.5))
    assert str(a) in str(raised.value)
    assert str(b) in str(raised.value)


def test_a_column_is_not_compared_with_a_vector() -> None:
    with pytest.raises(ValueError, match=r"mse_loss got a prediction of shape \(4, 1\) and a target of shape \(4,\)"):
        nn.mse_loss(np.zeros((4, 1)), np.zeros(4))


@pytest.mark.parametrize("loss", [*LOSSES, nn.cross_entropy])
@pytest.mark.parametrize("reduction", ["average", "MEAN", None, ""])
def test_unknown_reductions_are_refused(loss: Any, reduction: Any) -> None:
    with pytest.raises(ValueError, match='reduction is "mean", "sum" or "none"'):
        loss(np.full((2, 3), 0.5), np.full((2, 3), 0.5), reduction)


@losses
def test_losses_of_no_samples(loss: Any) -> None:
    p = mg.Tensor(np.zeros((0, 3)), requires_grad=True)
    total = loss(p, np.zeros((0, 3)), "sum")
    assert total.item() == 0
    total.backward()
    assert p.grad is not None
    assert p.grad.shape == (0, 3)
    assert loss(p, np.zeros((0, 3)), "none").shape == (0, 3)
    for empty in (p, p.data):
        with pytest.warns(RuntimeWarning):  # NumPy's own, for the mean of nothing
            assert math.isnan(loss(empty, np.zeros((0, 3))).item())


@losses
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_])
def test_targets_of_any_dtype(loss: Any, dtype: Any) -> None:
    p, t = np.array([0.25, 0.5, 0.75]), np.array([0, 1, 1])
    np.testing.assert_allclose(loss(p, t.astype(dtype), "none"), loss(p, t.astype(float), "none"), rtol=1e-15)


@losses
def test_lists_and_numbers_are_predictions_too(loss: Any) -> None:
    assert loss([0.25, 0.5], [0, 1]) == loss(np.array([0.25, 0.5]), np.array([0.0, 1.0]))
    assert loss(0.25, 1.0) == loss(np.array(0.25), np.array(1.0))


# ---------------------------------------------------------------------------------------------- each loss at its edges


@pytest.mark.parametrize("delta", [1.0, 0.5, 3.0])
def test_huber_is_smooth_where_its_parts_meet(delta: float) -> None:
    for sign in (-1, 1):
        error = sign * delta
        f = lambda p: nn.huber_loss(p, 0.0, delta=delta)
        assert f(error) == delta**2 / 2
        assert derivative(f)(error) == error
        assert derivative(f)(2 * error) == error
        assert derivative(f)(sign * np.nextafter(delta, INF)) == error
        assert f(2 * error) == delta * (2 * delta - delta / 2)
        assert derivative(f, 2)(2 * error) == 0


def test_huber_is_a_parabola_at_zero() -> None:
    assert derivative(nn.huber_loss)(0.0, 0.0) == 0
    assert derivative(lambda p: nn.huber_loss(p, 0.0), 2)(0.0) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_huber_of_far_errors_does_not_overflow(dtype: Any) -> None:
    far = dtype(np.finfo(dtype).max / 2)
    assert nn.huber_loss(far, dtype(0)) == far
    assert derivative(lambda p: nn.huber_loss(p, dtype(0)))(far) == 1


def test_l1_has_slope_0_where_it_is_right() -> None:
    assert derivative(lambda p: nn.l1_loss(p, 2.0))(2.0) == 0
    assert derivative(lambda p: nn.l1_loss(p, 2.0))(1.0) == -1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_log_loss_of_certain_probabilities(p: float, dtype: Any) -> None:
    right, wrong = dtype(p), dtype(1 - p)
    f = lambda p, t: nn.log_loss(p, t)
    towards = 1 if p else -1
    assert f(dtype(p), right) == 0
    assert derivative(f)(dtype(p), right) == -towards
    assert f(dtype(p), wrong) == pytest.approx(-math.log(1e-12), rel=1e-6)
    assert derivative(f)(dtype(p), wrong) == pytest.approx(towards * 1e12, rel=1e-6)
    half = dtype(0.5)
    assert f(dtype(p), half) == pytest.approx(-math.log(1e-12) / 2, rel=1e-6)
    assert np.isfinite(derivative(f)(dtype(p), half))


@given(st.floats(1e-11, 1 - 1e-11), st.floats(0, 1))
def test_log_loss_is_untouched_between_its_bounds(p: float, t: float) -> None:
    assert nn.log_loss(p, t) == pytest.approx(-t * math.log(p) - (1 - t) * math.log(1 - p), rel=1e-13, abs=1e-300)
    assert derivative(nn.log_loss)(p, t) == pytest.approx(-t / p + (1 - t) / (1 - p), rel=1e-9, abs=1e-9)


@given(st.floats(0, 1e-12), st.sampled_from([0.0, 1.0]))
def test_log_loss_goes_on_evenly_below_its_bound(p: float, t: float) -> None:
    assert nn.log_loss(p, t) == pytest.approx(27.631021115928547 if t else 0, abs=2e-12)
    assert derivative(nn.log_loss)(p, t) == pytest.approx(-1e12 if t else 1)


@pytest.mark.parametrize("p", [-0.1, 1.1, NAN])
def test_log_loss_of_what_is_no_probability_is_nan(p: float) -> None:
    with np.errstate(invalid="ignore"):
        assert math.isnan(nn.log_loss(p, 0.5))


@given(st.floats(-1e300, 1e300), st.floats(0, 1))
def test_log_loss_with_logits_is_exact_everywhere(x: float, t: float) -> None:
    near, far = math.log1p(math.exp(-abs(x))), (1 - t) * x if x > 0 else -t * x
    assert nn.log_loss_with_logits(x, t) == pytest.approx(far + near, rel=1e-13, abs=0)
    slope = derivative(nn.log_loss_with_logits)(x, t)
    assert slope == pytest.approx((1 - t) * exact_sigmoid(x) - t * exact_sigmoid(-x), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("x", "t", "value", "slope"),
    [
        (1000, 1, 0, 0),
        (-1000, 0, 0, 0),
        (1000, 0, 1000, 1),
        (-1000, 1, 1000, -1),
        (0, 0.5, math.log(2), 0),
        (50, 1, 1.9287498479639178e-22, -1.9287498479639178e-22),
        (-50, 0, 1.9287498479639178e-22, 1.9287498479639178e-22),
    ],
)
def test_log_loss_with_logits_in_its_tails(x: float, t: float, value: float, slope: float, dtype: Any) -> None:
    assert nn.log_loss_with_logits(dtype(x), dtype(t)) == pytest.approx(value, rel=1e-6, abs=0)
    assert derivative(nn.log_loss_with_logits)(dtype(x), dtype(t)) == pytest.approx(slope, rel=1e-5, abs=0)


@given(seeds, shapes)
def test_log_loss_with_logits_is_the_log_loss_of_a_sigmoid(seed: int, shape: tuple[int, ...]) -> None:
    x, t = inputs(nn.log_loss_with_logits, np.random.default_rng(seed), shape)
    np.testing.assert_allclose(nn.log_loss_with_logits(x, t, "none"), nn.log_loss(nn.sigmoid(x), t, "none"), rtol=1e-9)


# ---------------------------------------------------------------------------------------------------- cross-entropy


@st.composite
def classifications(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits of shape (..., classes) and integer labels of shape (...)."""
    shape = draw(nps.array_shapes(min_dims=0, max_dims=3, max_side=4))
    classes = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(seeds))
    dtype = draw(st.sampled_from([np.int64, np.int32, np.uint8]))
    return rng.normal(0, 5, (*shape, classes)), np.asarray(rng.integers(classes, size=shape)).astype(dtype)


@given(classifications())
def test_cross_entropy_of_labels_and_of_one_hot(case: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = case
    one_hot = np.eye(logits.shape[-1])[labels]
    expected = -np.sum(one_hot * np.log(softmax(logits)), -1)
    for target in (labels, one_hot, one_hot.astype(bool), mg.Tensor(labels), mg.Tensor(one_hot)):
        found = nn.cross_entropy(logits, target, "none")
        assert np.shape(found) == labels.shape
        np.testing.assert_allclose(
            found.data if isinstance(found, mg.Tensor) else found, expected, rtol=1e-11, atol=1e-12
        )
    np.testing.assert_allclose(nn.cross_entropy(logits, labels), expected.mean(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(nn.cross_entropy(logits, labels, "sum"), expected.sum(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(
        nn.cross_entropy(logits.tolist(), labels.tolist()), expected.mean(), rtol=1e-11, atol=1e-12
    )


@given(classifications(), st.sampled_from(DTYPES))
def test_the_gradient_of_cross_entropy_is_softmax_minus_one_hot(case: Any, dtype: Any) -> None:
    logits, labels = case
    logits, one_hot = logits.astype(dtype), np.eye(logits.shape[-1])[labels]
    for target in (labels, one_hot.astype(dtype)):
        g = derivative(lambda x, target=target: nn.cross_entropy(x, target, "sum"))(logits)
        assert g.dtype == dtype
        np.testing.assert_allclose(g, softmax(logits.astype(float)) - one_hot, atol=20 * np.finfo(dtype).eps)


@given(seeds, shapes, st.integers(1, 5))
def test_cross_entropy_of_soft_targets(seed: int, shape: tuple[int, ...], classes: int) -> None:
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(0, 3, (*shape, classes)), rng.dirichlet(np.ones(classes), shape)
    expected = -np.sum(target * np.log(softmax(logits)), -1)
    np.testing.assert_allclose(nn.cross_entropy(logits, target, "none"), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_has_right_derivatives(reduction: Any) -> None:
    rng = np.random.default_rng(4)
    logits, labels, target = rng.normal(size=(2, 3, 4)), rng.integers(4, size=(2, 3)), rng.dirichlet(np.ones(4), (2, 3))
    check_grads(lambda x: nn.cross_entropy(x, labels, reduction), [logits], order=2)
    check_grads(lambda x, t: nn.cross_entropy(x, t, reduction), [logits, target], order=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_big_logits(dtype: Any) -> None:
    logits, labels = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]], dtype), np.array([0, 0, 1])
    np.testing.assert_allclose(nn.cross_entropy(logits, labels, "none"), [0, 2e4, math.log(2)], rtol=1e-6)
    g = derivative(lambda x: nn.cross_entropy(x, labels, "sum"))(logits)
    np.testing.assert_allclose(g, [[0, 0], [-1, 1], [0.5, -0.5]])


def test_cross_entropy_of_no_samples() -> None:
    logits = np.zeros((0, 3))
    assert nn.cross_entropy(logits, np.zeros(0, int), "sum") == 0
    assert nn.cross_entropy(logits, np.zeros((0, 3)), "none").shape == (0,)
    assert derivative(lambda x: nn.cross_entropy(x, np.zeros(0, int), "sum"))(logits).shape == (0, 3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([0, -1], "labels from -1 to 0 for 3 classes"),
        ([0, 3], "labels from 0 to 3 for 3 classes"),
        ([0.0, 1.0], "integer labels of shape \\(2,\\), or probabilities of shape \\(2, 3\\)"),
        ([True, False], "got a target of shape \\(2,\\) and dtype bool"),
        ([0, 1, 2], "got a target of shape \\(3,\\)"),
        ([[0], [1]], "got a target of shape \\(2, 1\\)"),
        (0, "got a target of shape \\(\\)"),
    ],
)
def test_cross_entropy_refuses_what_is_no_label(target: Any, message: str) -> None:
    for given_target in (np.array(target), mg.Tensor(np.array(target))):
        with pytest.raises(ValueError, match=message):
            nn.cross_entropy(np.zeros((2, 3)), given_target)


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
        (nn.softmax, lambda x: torch.softmax(x, -1)),
        (nn.log_softmax, lambda x: torch.log_softmax(x, -1)),
    ]
    p, t, logits, labels = (
        rng.uniform(0, 1, 34),
        rng.uniform(0, 1, 34),
        rng.normal(size=(34, 5)),
        rng.integers(5, size=34),
    )
    theirs = lambda f, *args, **options: lambda x: f(x, *map(torch.tensor, args), **options)
    ours = lambda f, *args, **options: lambda x: f(x, *args, **options)
    for reduction in ("mean", "sum"):
        for f, g, at, target in [
            (nn.mse_loss, F.mse_loss, x, t),
            (nn.l1_loss, F.l1_loss, x, t),
            (nn.huber_loss, F.huber_loss, x, t),
            (nn.log_loss, F.binary_cross_entropy, p, t),
            (nn.log_loss_with_logits, F.binary_cross_entropy_with_logits, x, t),
            (nn.cross_entropy, F.cross_entropy, logits, labels),
            (nn.cross_entropy, F.cross_entropy, logits, softmax(logits[::-1])),
        ]:
            compare(ours(f, target, reduction=reduction), theirs(g, target, reduction=reduction), at)
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
