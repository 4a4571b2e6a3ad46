"""scipy.optimize needs nothing: every method that takes a gradient or a Hessian is given ours, as they come."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg

optimize = pytest.importorskip("scipy.optimize")

START = np.array([-1.2, 1.0])


def rosenbrock(x: Any) -> Any:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def convex(x: Any) -> Any:
    return np.sum((x - 1) ** 2 + np.exp(x - 1) - x)


GRADIENT = ["CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP"]
HESSIAN = ["Newton-CG", "dogleg", "trust-ncg", "trust-krylov", "trust-exact", "trust-constr"]


@pytest.mark.parametrize("method", GRADIENT + HESSIAN)
@pytest.mark.filterwarnings("ignore:::scipy")
def test_minimize(method: str) -> None:
    f = convex if method == "dogleg" else rosenbrock
    given = {"hess": mg.hessian(f)} if method in HESSIAN else {}
    found = optimize.minimize(f, START, method=method, jac=mg.grad(f), **given)
    np.testing.assert_allclose(found.x, [1, 1], atol=1e-3)
    if method in ("Newton-CG", "trust-ncg", "trust-krylov", "trust-constr"):
        product = lambda x, v: mg.hvp(rosenbrock)(x, v)
        found = optimize.minimize(rosenbrock, START, method=method, jac=mg.grad(rosenbrock), hessp=product)
        np.testing.assert_allclose(found.x, [1, 1], atol=1e-3)


def test_value_and_gradient_at_once_and_of_one_element() -> None:
    in_one = lambda x: rosenbrock(x) * np.ones(1)  # an answer of shape (1,)
    np.testing.assert_array_equal(mg.grad(in_one)(START), mg.grad(rosenbrock)(START))
    found = optimize.minimize(mg.value_and_grad(in_one), START, jac=True)
    np.testing.assert_allclose(found.x, [1, 1], atol=1e-3)


@pytest.mark.parametrize("method", ["hybr", "lm"])
def test_root(method: str) -> None:
    f = lambda x: np.stack([x[0] + x[1] ** 2 - 3, np.exp(x[0]) - x[1]])
    found = optimize.root(f, START, jac=mg.jacobian(f), method=method)
    np.testing.assert_allclose(f(found.x), 0, atol=1e-8)


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
def test_least_squares_and_curve_fit(method: str) -> None:
    t = np.linspace(0, 1, 9)
    model = lambda t, a, b: a * np.exp(-b * t)
    residuals = lambda p: model(t, p[0], p[1]) - model(t, 2.0, 1.5)
    found = optimize.least_squares(residuals, np.ones(2), jac=mg.jacobian(residuals), method=method)
    np.testing.assert_allclose(found.x, [2, 1.5], rtol=1e-6)
    jac = lambda t, a, b: np.stack(mg.jacobian(lambda a, b: model(t, a, b), (0, 1))(a, b), 1)
    fitted, _ = optimize.curve_fit(model, t, model(t, 2.0, 1.5), jac=jac, method=method)
    np.testing.assert_allclose(fitted, [2, 1.5], rtol=1e-6)


@pytest.mark.parametrize("method", ["newton", "halley"])
def test_root_scalar(method: str) -> None:
    f = lambda x: x**3 - 2
    second = mg.grad(mg.grad(f)) if method == "halley" else None
    found = optimize.root_scalar(f, x0=1.0, fprime=mg.grad(f), fprime2=second, method=method)
    np.testing.assert_allclose(found.root, 2 ** (1 / 3))
