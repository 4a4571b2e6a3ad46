"""Losses: against their formulas, in their derivatives, at their edges, and for what they refuse."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from profiles import scale
from test_activations import DTYPES, INF, NAN, compare, derivative, exact_sigmoid, softmax

import minigrad as mg
from minigrad import nn
from minigrad.testing import check_grads

LOSSES: dict[Any, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    nn.mse_loss: lambda p, t: (p - t) ** 2,
    nn.l1_loss: lambda p, t: np.abs(p - t),
    nn.huber_loss: lambda p, t: np.where(np.abs(p - t) < 1, (p - t) ** 2 / 2, np.abs(p - t) - 0.5),
    nn.log_loss: lambda p, t: -t * np.log(p) - (1 - t) * np.log(1 - p),
    nn.log_loss_with_logits: lambda x, t: np.log(1 + np.exp(x)) - t * x,
    nn.kl_div: lambda p, t: t * (np.log(t) - p),
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


OBJECTS: dict[str, Any] = {
    "MSELoss": nn.mse_loss,
    "L1Loss": nn.l1_loss,
    "HuberLoss": nn.huber_loss,
    "BCELoss": nn.log_loss,
    "BCEWithLogitsLoss": nn.log_loss_with_logits,
    "CrossEntropyLoss": nn.cross_entropy,
    "NLLLoss": nn.nll_loss,
    "KLDivLoss": nn.kl_div,
}

seeds = st.integers(0, 2**32)
shapes = nps.array_shapes(min_dims=0, max_dims=3, max_side=4)


def test_every_loss_is_tried() -> None:
    tried = {f.__name__ for f in [*LOSSES, nn.cross_entropy, nn.nll_loss]}
    assert {name for name in vars(nn.losses) if name in nn.__all__} - set(vars(nn.activations)) - OBJECTS.keys() - {
        "Module"
    } == tried


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
    check_grads(lambda p, t: loss(p, t, reduction), [p, t], scale(1 + (reduction == "none"), 2))


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
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.bool_])
def test_predictions_of_any_dtype(loss: Any, dtype: Any) -> None:
    """Differences of small integers do not wrap round."""
    p, t = np.array([0, 1, 1, 0]).astype(dtype), np.array([1, 1, 0, 0])
    for target in (t, t.astype(dtype), t.astype(float)):
        expected = loss(p.astype(float), t.astype(float), "none")
        np.testing.assert_allclose(loss(p, target, "none"), expected, rtol=1e-15)


@pytest.mark.parametrize(("dtype", "far"), [(np.int8, 100), (np.uint8, 200), (np.int16, 30_000)])
def test_differences_of_integers_do_not_wrap_round(dtype: Any, far: int) -> None:
    p, t = np.array([far, 0], dtype), np.array([0, far], dtype)
    if dtype is not np.uint8:
        t = np.array([-far, far], dtype)
    d = np.abs(p.astype(float) - t)
    for loss, expected in ((nn.l1_loss, d), (nn.mse_loss, d**2), (nn.huber_loss, d - 0.5)):
        np.testing.assert_array_equal(loss(p, t, "none"), expected)


def test_labels_of_every_integer_dtype() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 200))
    expected = nn.cross_entropy(logits, np.array([127, 0, 99]), "none")
    for dtype in (np.uint8, np.int8, np.uint64, np.int16):
        np.testing.assert_array_equal(nn.cross_entropy(logits, np.array([127, 0, 99], dtype), "none"), expected)
        np.testing.assert_array_equal(
            nn.cross_entropy(np.eye(3, dtype=dtype), np.arange(3), "none"), -nn.log_softmax(np.eye(3))[0, 0]
        )


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


def test_log_loss_of_nan_is_nan() -> None:
    assert math.isnan(nn.log_loss(NAN, 0.5))


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


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("x", "t", "value", "slope"),
    [
        (INF, 1, 0, 0),
        (-INF, 0, 0, 0),
        (INF, 0, INF, 1),
        (-INF, 1, INF, -1),
        (INF, 0.25, INF, 0.75),
        (-INF, 0.25, INF, -0.25),
    ],
)
def test_log_loss_with_infinite_logits(x: float, t: float, value: float, slope: float, compiled: bool) -> None:
    loss, by_x = nn.log_loss_with_logits, derivative(nn.log_loss_with_logits)
    for f, expected in ((loss, value), (by_x, slope)):
        found = (mg.compile(f) if compiled else f)(np.array([x])[0], np.array([float(t)])[0])
        assert float(found) == expected


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("logits", "label", "value", "slopes"),
    [
        ([0, -INF], 0, 0, [0, 0]),
        ([0, -INF], 1, INF, [1, -1]),
        ([INF, 0], 0, 0, [0, 0]),
        ([INF, 0], 1, INF, [1, -1]),
        ([INF, INF], 0, math.log(2), [-0.5, 0.5]),
        ([2, -INF, 2], 2, math.log(2), [0.5, 0, -0.5]),
    ],
)
def test_cross_entropy_of_infinite_logits(logits: Any, label: int, value: float, slopes: Any, compiled: bool) -> None:
    x = np.array(logits, float)
    for target in (np.array(label), np.eye(x.size)[label]):
        loss = lambda x, target=target: nn.cross_entropy(x, target)
        for f, expected in ((loss, value), (derivative(loss), slopes)):
            np.testing.assert_allclose((mg.compile(f) if compiled else f)(x), expected, rtol=1e-15)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_where_no_class_is_possible_there_is_no_loss() -> None:
    for target in (np.array(0), np.array([1.0, 0])):
        assert math.isnan(nn.cross_entropy(np.array([-INF, -INF]), target))


@given(seeds, shapes)
def test_log_loss_with_logits_is_the_log_loss_of_a_sigmoid(seed: int, shape: tuple[int, ...]) -> None:
    x, t = inputs(nn.log_loss_with_logits, np.random.default_rng(seed), shape)
    np.testing.assert_allclose(nn.log_loss_with_logits(x, t, "none"), nn.log_loss(nn.sigmoid(x), t, "none"), rtol=1e-9)


# ---------------------------------------------------------------------------------------------------- cross-entropy


@st.composite
def classifications(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits of shape (..., classes) and integer labels of shape (...)."""
    shape = draw(nps.array_shapes(min_dims=0, max_dims=3, max_side=4))
    classes = draw(st.integers(2, 5))
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


@given(seeds, shapes, st.integers(2, 5))
def test_cross_entropy_of_soft_targets(seed: int, shape: tuple[int, ...], classes: int) -> None:
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(0, 3, (*shape, classes)), rng.dirichlet(np.ones(classes), shape)
    expected = -np.sum(target * np.log(softmax(logits)), -1)
    np.testing.assert_allclose(nn.cross_entropy(logits, target, "none"), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_has_right_derivatives(reduction: Any) -> None:
    rng = np.random.default_rng(4)
    logits, labels, target = rng.normal(size=(2, 3, 4)), rng.integers(4, size=(2, 3)), rng.dirichlet(np.ones(4), (2, 3))
    order = scale(1 + (reduction == "none"), 2)
    check_grads(lambda x: nn.cross_entropy(x, labels, reduction), [logits], order)
    check_grads(lambda x, t: nn.cross_entropy(x, t, reduction), [logits, target], order)


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


# ------------------------------------------------------------------------------------------------ what cannot be right

BINARY = [nn.log_loss, nn.log_loss_with_logits]
WAYS = [np.asarray, mg.Tensor, lambda array: mg.Tensor(array, requires_grad=True)]


@pytest.mark.parametrize("way", WAYS, ids=["array", "tensor", "tracked"])
@pytest.mark.parametrize("wrong", [2.0, -1.0, 1.001, -0.001, math.inf])
def test_soft_targets_lie_between_zero_and_one(way: Any, wrong: float) -> None:
    target = way(np.array([0.5, wrong, NAN]))
    for loss in BINARY:
        with pytest.raises(ValueError, match=rf"{loss.__name__} got targets from .*: they must lie in \[0, 1\]"):
            loss(np.full(3, 0.5), target)
    with pytest.raises(ValueError, match=r"cross_entropy got targets from .*: they must lie in \[0, 1\]"):
        nn.cross_entropy(np.zeros((1, 3)), target[None])


@pytest.mark.parametrize("target", [[[1, -1, -1]], [[0, 2, 0]]], ids=["signs", "counts"])
def test_of_integers_they_are_0_or_1(target: Any) -> None:
    with pytest.raises(ValueError, match="cross_entropy got targets from"):
        nn.cross_entropy(np.zeros((1, 3)), np.array(target))
    for dtype in (bool, np.uint8, np.int64):
        assert nn.cross_entropy(np.zeros((1, 3)), np.array([[0, 1, 0]], dtype)) == pytest.approx(math.log(3))
        assert nn.log_loss(np.full(2, 0.5), np.array([0, 1], dtype)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("wrong", [7.0, -0.1, 1.001, math.inf, -math.inf])
def test_probabilities_lie_there_too(wrong: float) -> None:
    for way in WAYS:
        with pytest.raises(ValueError, match=r"log_loss got probabilities \(for logits .* from .*: they must lie in"):
            nn.log_loss(way(np.array([0.5, wrong, NAN])), np.zeros(3))


@pytest.mark.parametrize("dtype", [np.float16, *DTYPES])
def test_what_rounding_puts_beyond_counts_as_0_or_1(dtype: Any) -> None:
    above, below = np.nextafter(dtype(1), dtype(2)), np.nextafter(dtype(0), dtype(-1))
    for near, exact in [(above, dtype(1)), (below, dtype(0)), (-np.finfo(dtype).eps, dtype(0))]:
        for target in (0, 1):
            slope = derivative(lambda p, target=target: nn.log_loss(p, np.array(target)))
            assert nn.log_loss(np.array(near), np.array(target)) == nn.log_loss(np.array(exact), np.array(target))
            assert slope(np.array(near)) == slope(np.array(exact))
    assert np.isfinite(nn.log_loss_with_logits(np.zeros(2, dtype), np.array([above, below])))


def test_a_nan_passes_through() -> None:
    for loss in (*BINARY, nn.mse_loss, nn.l1_loss, nn.huber_loss):
        for prediction, target in [([0.5, NAN], [0, 1]), ([0.5, 0.5], [NAN, 1])]:
            with np.errstate(invalid="ignore"):
                losses = loss(np.array(prediction), np.array(target), "none")
            np.testing.assert_array_equal(np.isnan(losses), np.isnan(prediction) | np.isnan(target))


@pytest.mark.parametrize("shape", [(3, 1), (1,), (2, 3, 1)])
def test_a_single_class_is_nothing_to_learn(shape: tuple[int, ...]) -> None:
    for target in (np.ones(shape), np.zeros(shape[:-1], int)):
        with pytest.raises(ValueError, match=r"of a single class the loss is always 0.*use log_loss_with_logits"):
            nn.cross_entropy(np.zeros(shape), target)
    with pytest.raises(ValueError, match=r"got logits of shape \(\)"):
        nn.cross_entropy(0.5, 0)


@pytest.mark.parametrize(
    "loss", [nn.mse_loss, nn.l1_loss, nn.huber_loss, *BINARY, nn.cross_entropy, nn.nll_loss, nn.kl_div]
)
@pytest.mark.parametrize("words", [["yes", "no"], [None, 1.0], np.array(["2020", "2021"], "M8[Y]")])
def test_words_are_no_numbers(loss: Any, words: Any) -> None:
    words = np.array(words, None if isinstance(words, np.ndarray) else object if None in words else str)
    for prediction, target in [(np.zeros(2), words), (words, np.zeros(2))]:
        with pytest.raises(TypeError, match=rf"{loss.__name__} got values of dtype .*: it takes numbers"):
            loss(prediction, target)


@pytest.mark.parametrize("delta", [-1.0, 0, NAN, math.inf])
def test_huber_bends_at_a_distance_above_zero(delta: float) -> None:
    with pytest.raises(ValueError, match=r"huber_loss got delta=.*: it must be above 0, and finite"):
        nn.huber_loss(np.ones(2), np.zeros(2), delta=delta)


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("loss", [*BINARY, nn.cross_entropy])
def test_a_compiled_loss_checks_every_batch(loss: Any, pure: bool) -> None:
    compiled = mg.compile(lambda p, t: loss(p, t), pure=pure)
    good, bad = np.array([[0.25, 0.75]]), np.array([[0.25, 7.0]])
    for _ in range(2):
        assert compiled(mg.Tensor(good, requires_grad=True), good).item() == pytest.approx(loss(good, good))
    with pytest.raises(ValueError, match="got targets from"):
        compiled(mg.Tensor(good, requires_grad=True), bad)
    if loss is nn.log_loss:
        with pytest.raises(ValueError, match="got probabilities"):
            compiled(mg.Tensor(bad, requires_grad=True), good)


# --------------------------------------------------------------------------- weights, ignored labels and smoothing


@given(seeds, st.integers(1, 5), st.integers(2, 5), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.3, 1.0]))
def test_options_of_cross_entropy_follow_the_definition(
    seed: int, n: int, classes: int, weighted: bool, ignoring: bool, smoothing: float
) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (n, classes)), rng.integers(classes, size=n)
    weight = rng.uniform(0.5, 2, classes) if weighted else np.ones(classes)
    labels[0] = 0
    ignored = {-7} if ignoring else set()
    given_labels = np.where(np.arange(n) % 2 == 1, -7, labels) if ignoring else labels
    log_p, losses, total = np.log(softmax(logits)), [], 0.0
    for row, label in zip(log_p, given_labels.tolist(), strict=True):
        target = np.full(classes, smoothing / classes)
        target[label if label not in ignored else 0] += 1 - smoothing
        counted = float(label not in ignored)
        losses.append(-counted * np.sum(target * weight * row))
        total += counted * weight[label if label not in ignored else 0]
    options = {"weight": weight if weighted else None, "ignore_index": -7 if ignoring else None}
    for f, x in [(nn.cross_entropy, logits), (nn.nll_loss, log_p)]:
        if f is nn.cross_entropy:
            options["label_smoothing"] = smoothing
        elif smoothing:
            continue
        else:
            options.pop("label_smoothing")
        np.testing.assert_allclose(f(x, given_labels, "none", **options), losses, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(f(x, given_labels, "sum", **options), sum(losses), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(f(x, given_labels, **options), sum(losses) / total, rtol=1e-10, atol=1e-12)
        check_grads(lambda x, f=f: f(x, given_labels, **options), [x], order=1)


@pytest.mark.parametrize("f", [nn.cross_entropy, nn.nll_loss])
def test_weights_and_labels_are_checked(f: Any) -> None:
    scores, labels = np.zeros((2, 3)), np.array([0, -100])
    with pytest.raises(ValueError, match=f"{f.__name__} got labels from -100 to 0 for 3 classes"):
        f(scores, labels)
    with pytest.raises(ValueError, match=f"{f.__name__} got labels from -100 to 0 for 3 classes"):
        f(scores, labels, ignore_index=-1)
    assert f(scores, labels, ignore_index=-100).shape == ()
    with pytest.raises(ValueError, match=r"got a weight of shape \(2,\) for 3 classes"):
        f(scores, [0, 1], weight=np.ones(2))
    with pytest.raises(ValueError, match="it is a share, from 0 to 1"):
        nn.cross_entropy(scores, [0, 1], label_smoothing=1.5)


def test_targets_are_checked_before_they_are_smoothed_or_weighted() -> None:
    logits, wrong = np.zeros((1, 3)), np.array([[0.0, 1.2, -0.2]])
    for options in ({"label_smoothing": 0.5}, {"weight": np.full(3, 0.1)}):
        with pytest.raises(ValueError, match="cross_entropy got targets from"):
            nn.cross_entropy(logits, wrong, **options)
    with pytest.raises(ValueError, match="kl_div got targets from"):
        nn.kl_div(logits, wrong)
    with pytest.raises(ValueError, match="ignore_index=1, which is for labels"):
        nn.cross_entropy(logits, np.array([[0.0, 0.5, 0.5]]), ignore_index=1)
    with pytest.raises(ValueError, match=r"weight of shape \(1,\) for 3 classes"):
        nn.cross_entropy(logits, np.array([[0.0, 0.5, 0.5]]), weight=np.ones(1))
    with pytest.raises(ValueError, match=r"pos_weight has shape \(3,\), which does not go with targets \(2, 1\)"):
        nn.log_loss_with_logits(np.zeros((2, 1)), np.zeros((2, 1)), pos_weight=np.ones(3))
    with pytest.raises(ValueError, match=r"nll_loss of logits of shape \(\)"):
        nn.nll_loss(0.5, 0)


def test_what_counts_for_nothing_costs_nothing_at_infinity() -> None:
    logits = np.array([[-np.inf, 0.0, 0.0]])
    log2 = np.log(2)
    np.testing.assert_allclose(nn.cross_entropy(logits, [1], weight=np.array([0.0, 1.0, 1.0])), log2)
    np.testing.assert_allclose(
        nn.cross_entropy(logits, [1], weight=np.array([0, 1, 1.0]), label_smoothing=0.3), log2 * 0.9
    )
    np.testing.assert_allclose(nn.cross_entropy(logits, np.array([[0, 0.5, 0.5]]), weight=np.ones(3)), log2)
    np.testing.assert_allclose(
        nn.log_loss_with_logits(np.array([np.inf, -np.inf]), np.array([1.0, 0.0]), pos_weight=2), 0
    )
    log_p = np.array([-np.inf, -log2, -log2])
    assert nn.kl_div(log_p, np.exp(log_p)) == nn.kl_div(log_p, log_p, log_target=True) == 0


def test_a_target_of_zero_has_a_slope() -> None:
    x, target = np.array([[1.0, -2.0, 0.5]]), np.array([[0.0, 1.0, 0.0]])
    slope = mg.grad(lambda t: nn.cross_entropy(x, t))(target)
    np.testing.assert_allclose(slope, -np.log(softmax(x)), rtol=1e-12)
    slope = mg.grad(lambda t: nn.log_loss_with_logits(x, t, "sum"))(target)
    np.testing.assert_allclose(slope, -x, rtol=1e-12)


def test_losses_of_labels_are_added_up_in_single_precision() -> None:
    logits, labels = np.array([[0.0, 20.0]] * 5000, np.float16), np.zeros(5000, int)
    for options in ({"weight": np.ones(2, np.float16)}, {"ignore_index": -1}, {"weight": np.full(2, 30, np.float16)}):
        found = nn.cross_entropy(logits, labels, **options)
        assert found.dtype == np.float16
        assert found == 20


def test_kl_div_of_a_target_with_zeros_and_of_logarithms() -> None:
    log_p, target = (
        np.log(softmax(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]))),
        np.array([[0.0, 0.25, 0.75], [1, 0, 0]]),
    )
    found = nn.kl_div(log_p, target, "none")
    assert found[0, 0] == found[1, 1] == 0
    np.testing.assert_allclose(found[1, 0], -log_p[1, 0])
    np.testing.assert_allclose(nn.kl_div(log_p, target, "batchmean"), found.sum() / 2)
    soft = softmax(np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]]))
    np.testing.assert_allclose(nn.kl_div(log_p, np.log(soft), log_target=True), nn.kl_div(log_p, soft))
    check_grads(lambda p, t: nn.kl_div(p, t, log_target=True), [log_p, np.log(soft)], order=2)


@pytest.mark.parametrize("name", OBJECTS)
def test_losses_as_objects(name: str) -> None:
    rng, function = np.random.default_rng(0), OBJECTS[name]
    p = np.log(softmax(rng.normal(size=(4, 3))))
    p, target = (softmax(p), softmax(p[::-1])) if name == "BCELoss" else (p, softmax(p[::-1]))
    target = rng.integers(3, size=4) if name == "NLLLoss" else target
    loss = getattr(nn, name)()
    assert loss(p, target) == function(p, target)
    assert getattr(nn, name)(reduction="sum")(p, target) == function(p, target, "sum")
    assert loss.parameters() == []
    assert repr(loss).startswith(f"{name}(reduction='mean'")
    with pytest.raises(TypeError, match="strange"):
        getattr(nn, name)(strange=1)


def test_losses_as_objects_take_options() -> None:
    logits, labels, weight = np.array([[1.0, 2.0, 0.0]] * 2), np.array([0, 2]), np.array([1.0, 2.0, 3.0])
    found = nn.CrossEntropyLoss(weight=weight, label_smoothing=0.1)(logits, labels)
    assert found == nn.cross_entropy(logits, labels, weight=weight, label_smoothing=0.1)
    assert nn.HuberLoss(delta=3.0)(np.array([2.0]), np.array([0.0])) == 2
    x, t = np.array([0.5, -0.5]), np.array([1.0, 0.0])
    found = nn.BCEWithLogitsLoss(pos_weight=3.0, reduction="none")(x, t)
    np.testing.assert_allclose(found, [3 * np.log1p(np.exp(-0.5)), np.log1p(np.exp(-0.5))])


# ---------------------------------------------------------------------------------------------------------- parity


@pytest.mark.filterwarnings("ignore:reduction")  # that "mean" of kl_div will be another one some day
def test_the_same_numbers_as_pytorch() -> None:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(0, 4, 30), [0.0, -0.0, 30, -30]])
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
            (nn.kl_div, F.kl_div, x, t),
            (nn.nll_loss, F.nll_loss, logits, labels),
            (nn.cross_entropy, F.cross_entropy, logits, labels),
            (nn.cross_entropy, F.cross_entropy, logits, softmax(logits[::-1])),
        ]:
            compare(ours(f, target, reduction=reduction), theirs(g, target, reduction=reduction), at)
        weight, target = rng.uniform(0.5, 2, 5), np.where(labels == 2, -100, labels)
        for smoothing in (0.0, 0.2):
            options = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": -100}
            compare(
                ours(nn.cross_entropy, target, weight=weight, **options),
                theirs(F.cross_entropy, target, weight=torch.tensor(weight), **options),
                logits,
            )
