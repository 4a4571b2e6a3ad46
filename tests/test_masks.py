"""What `np.where` and its like did not choose contributes exactly 0, whatever lies behind it; what is real stays."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg

ROWS = np.array([[False], [True]])
POINTS = np.array([[0.0, 0.0], [4.0, 9.0]])
NAN_ROW = np.array([[1.0, 2.0], [np.nan, 3.0]])


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda z: np.where(ROWS, np.sqrt(z) @ np.ones((2, 2)), 0), [[0, 0], [0.5, 1 / 3]]),
        (lambda z: np.where(ROWS, np.inner(np.sqrt(z), np.ones((2, 2))), 0), [[0, 0], [0.5, 1 / 3]]),
        (lambda z: np.sum(np.sqrt(z), where=ROWS), [[0, 0], [0.25, 1 / 6]]),
        (lambda z: np.where(ROWS, np.log(z).reshape(4).reshape(2, 2), 0), [[0, 0], [1 / 4, 1 / 9]]),
        (lambda z: np.concatenate([np.log(z), z])[1:], [[1, 1], [1.25, 10 / 9]]),
        (lambda z: np.diag(np.log(z), -1), [[0, 0], [1 / 4, 0]]),
        (lambda z: np.trace(np.log(np.roll(z, 1, 0))[:1]), [[0, 0], [1 / 4, 0]]),
        (lambda z: np.diag(np.sqrt(np.diag(z)))[1:], [[0, 0], [0, 1 / 6]]),  # the first call only moves numbers
    ],
)
def test_masks_reach_through_products_and_shapes(f: Callable[[Any], Any], expected: Any) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(mg.grad(lambda z: np.sum(f(z)))(POINTS), expected)
        z = mg.Tensor(POINTS, requires_grad=True)
        np.sum(f(z)).backward()
    np.testing.assert_allclose(z.grad, expected)


@mg.primitive(lambda g, ans, x: g / (2 * ans))
def root(x: Any) -> Any:
    return np.sqrt(x)


SINGULAR = np.array([np.eye(2), np.zeros((2, 2)), 2 * np.eye(2)])
CHOSEN = np.array([True, False, True])


@pytest.mark.parametrize(
    "f",
    [
        np.linalg.det,
        lambda x: np.linalg.slogdet(x)[1],
        lambda x: np.linalg.inv(x + np.where(CHOSEN, 0, np.nan)[:, None, None])[:, 0, 0],
        lambda x: np.linalg.norm(x, axis=(1, 2)),
        lambda x: np.prod(np.where(CHOSEN[:, None, None], 0, np.inf) + x, axis=(1, 2)),
        lambda x: root(np.sum(x, (1, 2))),
        mg.checkpoint(lambda x: np.sqrt(np.sum(x, (1, 2)))),
        lambda x: mg.checkpoint(lambda y: np.log(y[:, 0, 0] + np.sum(x, (1, 2))))(x),
    ],
)
def test_masks_reach_through_functions_of_whole_arrays(f: Callable[[Any], Any]) -> None:
    masked = lambda x: np.sum(np.where(CHOSEN, f(x), 0))
    with np.errstate(all="ignore"):
        gradient = mg.grad(masked)(SINGULAR)
        alone = mg.grad(lambda x: np.sum(f(x) * CHOSEN))(np.where(CHOSEN[:, None, None], SINGULAR, np.eye(2)))
        hessian = mg.hessian(masked)(SINGULAR)
    assert not gradient[1].any()
    np.testing.assert_allclose(gradient[::2], alone[::2])
    assert not hessian[1].any()
    assert not hessian[:, :, :, 1].any()


@pytest.mark.parametrize(
    "f",
    [root, lambda x: np.prod(np.stack([x, x])), mg.checkpoint(np.sqrt), lambda x: np.linalg.inv(x[None, None])[0, 0]],
)
def test_a_nan_behind_a_choice_that_was_made_stays(f: Callable[[Any], Any]) -> None:
    assert np.isnan(mg.grad(lambda x: np.where([True, False], f(x), 0).sum())(np.nan))


def test_a_connection_that_only_some_numbers_show_is_found() -> None:
    far = mg.primitive(lambda g, ans, x: np.where(x > 50, g / (x - 60), 0))(lambda x: x * 1)
    gradient = mg.grad(lambda x: np.sum(np.where([True, False], far(x), 0)))(np.array([60.0, 60.0]))
    np.testing.assert_array_equal(gradient, [np.inf, 0])


def test_samples_with_missing_features_can_be_left_out() -> None:
    weight = mg.Tensor(np.ones((2, 2)), requires_grad=True)
    y = NAN_ROW @ weight
    np.sum(np.where(np.isnan(y), 0, y)).backward()
    np.testing.assert_array_equal(weight.grad, [[1, 1], [2, 2]])


def test_a_missing_feature_that_was_chosen_shows() -> None:
    weight = mg.Tensor(np.ones((2, 2)), requires_grad=True)
    y = NAN_ROW @ weight
    np.sum(np.where([[True, True], [True, False]], y, 0)).backward()
    np.testing.assert_array_equal(weight.grad, [[np.nan, 1], [5, 2]])


def test_second_derivatives_of_what_was_not_chosen_are_zero_too() -> None:
    f = lambda x: np.sum(np.where(x > 0, x**1.5, 0.0))
    np.testing.assert_allclose(mg.hessian(f)(np.array([0.0, 1.0])), [[0, 0], [0, 0.75]])
    assert mg.grad(mg.grad(f))(0.0) == 0


def test_the_mixed_second_derivative_of_a_power() -> None:
    hessian = mg.hessian(lambda v: v[0] ** v[1])(np.array([2.0, 0.0]))
    np.testing.assert_allclose(hessian, [[0, 0.5], [0.5, np.log(2) ** 2]])


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_the_slope_of_an_angle_at_every_scale(scale: float) -> None:
    slope = mg.grad(np.arctan2, (0, 1))(scale, scale)
    np.testing.assert_allclose(slope, [0.5 / scale, -0.5 / scale], rtol=1e-12)


def test_a_copied_optimizer_moves_the_copied_parameters() -> None:
    p = mg.Tensor([1.0], requires_grad=True)
    q, optimizer = copy.deepcopy((p, mg.optim.SGD([p], lr=0.1)))
    q.grad = np.ones(1)
    optimizer.step()
    np.testing.assert_allclose((p.data, q.data), ([1.0], [0.9]))
