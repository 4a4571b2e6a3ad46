"""Programs that know NumPy alone, differentiated as they are: against closed forms, and put to their use."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from profiles import scale

import minigrad as mg
from minigrad.testing import check_grads

# ---------------------------------------------------------------------------------------------------- the programs


def negative_log_likelihood(theta, x, y):
    """Of a Gaussian process with the logarithms `theta` of the length scale, the amplitude and the noise."""
    length, amplitude, noise = np.exp(theta)
    distance = (x[:, None] - x[None, :]) / length
    covariance = amplitude**2 * np.exp(-(distance**2) / 2) + noise**2 * np.eye(len(x))
    factor = np.linalg.cholesky(covariance)
    alpha = np.linalg.solve(factor.T, np.linalg.solve(factor, y))
    return y @ alpha / 2 + np.sum(np.log(np.diag(factor))) + len(x) / 2 * np.log(2 * np.pi)


def populations(parameters, start, times):
    """Of prey and predators (Lotka and Volterra), by the classical method of Runge and Kutta."""
    growth, hunt, feed, death = parameters

    def rate(state):
        prey, predators = state
        return np.stack([growth * prey - hunt * prey * predators, feed * prey * predators - death * predators])

    states = [start]
    for h in np.diff(times):
        state = states[-1]
        k1 = rate(state)
        k2 = rate(state + h / 2 * k1)
        k3 = rate(state + h / 2 * k2)
        k4 = rate(state + h * k3)
        states.append(state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    return np.stack(states)


def classification_loss(weights, x, labels, decay=0.1):
    """Of multinomial logistic regression."""
    scores = np.einsum("nf,fc->nc", x, weights)
    scores -= scores.max(axis=1, keepdims=True)
    log_probabilities = scores - np.log(np.sum(np.exp(scores), axis=1, keepdims=True))
    return -log_probabilities[np.arange(len(labels)), labels].sum() + decay / 2 * np.sum(weights**2)


# --------------------------------------------------------------------------------------------------------- their data

rng = np.random.default_rng(0)

THETA = np.log([0.8, 1.2, 0.3])
PLACES = np.sort(rng.uniform(0, 5, 12))
HEIGHTS = np.sin(PLACES) + rng.normal(0, 0.3, 12)

TRUTH = np.array([1.1, 0.4, 0.1, 0.4])
START, TIMES = np.array([10.0, 5.0]), np.linspace(0, 4, 11)

POINTS = rng.normal(size=(30, 3))
LABELS = np.argmax(POINTS @ rng.normal(size=(3, 4)) + rng.gumbel(size=(30, 4)), axis=1)

programs = pytest.mark.parametrize(
    ("program", "args"),
    [
        (negative_log_likelihood, [THETA, PLACES, HEIGHTS]),
        (populations, [TRUTH, START, TIMES[:6]]),
        (classification_loss, [rng.normal(size=(3, 4)), POINTS, LABELS]),
    ],
)


@programs
def test_tensors_give_the_numbers_of_arrays(program: Callable[..., Any], args: list[Any]) -> None:
    answer = program(mg.Tensor(args[0], requires_grad=True), *args[1:])
    assert answer.requires_grad
    np.testing.assert_array_equal(answer.data, program(*args))


@programs
def test_gradients_agree_with_differences(program: Callable[..., Any], args: list[Any]) -> None:
    check_grads(program, args, order=scale(1, 2))


# ------------------------------------------------------------------------------------------------ closed forms and uses


def test_the_gradient_of_a_gaussian_process() -> None:
    """1/2 trace((inverse - alpha alpha^T) dK), with the derivatives dK of the covariance K."""
    length, amplitude, noise = np.exp(THETA)
    squares = ((PLACES[:, None] - PLACES) / length) ** 2
    smooth = amplitude**2 * np.exp(-squares / 2)
    inverse = np.linalg.inv(smooth + noise**2 * np.eye(12))
    outer = np.outer(inverse @ HEIGHTS, inverse @ HEIGHTS)
    slopes = [smooth * squares, 2 * smooth, 2 * noise**2 * np.eye(12)]
    expected = [np.trace((inverse - outer) @ slope) / 2 for slope in slopes]
    np.testing.assert_allclose(mg.grad(negative_log_likelihood)(THETA, PLACES, HEIGHTS), expected, rtol=1e-11)


def test_parameters_of_a_differential_equation_are_found_again() -> None:
    """By the method of Gauss and Newton, from populations that known parameters made."""
    observed = populations(TRUTH, START, TIMES)
    residuals = lambda parameters: (populations(parameters, START, TIMES) - observed).ravel()
    parameters = np.array([0.9, 0.3, 0.12, 0.5])
    for _ in range(7):
        step = np.linalg.lstsq(mg.jacobian(residuals)(parameters), residuals(parameters))[0]
        parameters = parameters - step
    np.testing.assert_allclose(parameters, TRUTH, rtol=1e-12)


def test_logistic_regression_by_the_method_of_newton() -> None:
    weights = np.zeros((3, 4))  # where all scores are equal, which the maximum must not mind
    for _ in range(8):
        gradient = mg.grad(classification_loss)(weights, POINTS, LABELS)
        hessian = mg.hessian(classification_loss)(weights, POINTS, LABELS)
        z = np.exp(POINTS @ weights)
        p = z / z.sum(1, keepdims=True)
        spread = p[:, :, None] * (np.eye(4) - p[:, None, :])
        np.testing.assert_allclose(gradient, POINTS.T @ (p - np.eye(4)[LABELS]) + 0.1 * weights, atol=1e-13)
        expected = np.einsum("nf,ng,ncd->fcgd", POINTS, POINTS, spread).reshape(12, 12) + 0.1 * np.eye(12)
        np.testing.assert_allclose(hessian.reshape(12, 12), expected, atol=1e-13)
        weights = weights - np.linalg.solve(hessian.reshape(12, 12), gradient.ravel()).reshape(3, 4)
    assert np.max(np.abs(mg.grad(classification_loss)(weights, POINTS, LABELS))) < 1e-13
