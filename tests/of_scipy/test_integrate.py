"""Differential equations: solutions are SciPy's, gradients those of differences and of solutions in closed form."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.testing import check_grads

scipy_integrate = pytest.importorskip("scipy.integrate")
integrate = pytest.importorskip("minigrad.scipy.integrate")

Y0, TIMES = np.array([1.0, 0.5]), np.array([0.0, 0.4, 1.0])
RATE, OTHERS = np.array(0.8), {"hunt": np.array([1.1, 0.3]), "name": "predators"}
FINE = {"rtol": 1e-11, "atol": 1e-11}


def populations(y: Any, t: Any, rate: Any, others: Any) -> Any:
    hunt = others["hunt"]
    return [rate * y[0] - hunt[0] * y[0] * y[1] + np.sin(t) * hunt[1], y[0] * y[1] - y[1]]


def test_odeint() -> None:
    plain = scipy_integrate.odeint(populations, Y0, TIMES, (RATE, OTHERS))
    np.testing.assert_array_equal(integrate.odeint(populations, Y0, TIMES, (RATE, OTHERS)), plain)
    tensor = integrate.odeint(populations, mg.Tensor(Y0, requires_grad=True), TIMES, (RATE, OTHERS))
    np.testing.assert_array_equal(tensor.data, plain)
    turned = integrate.odeint(lambda t, y, *a: populations(y, t, *a), mg.Tensor(Y0), TIMES, (RATE, OTHERS), tfirst=True)
    np.testing.assert_array_equal(turned.data, plain)
    weights = np.array([[1.0, -2.0], [0.5, 1.5], [-1.0, 2.0]])

    def loss(y0: Any, times: Any, rate: Any, hunt: Any) -> Any:
        return np.sum(weights * integrate.odeint(populations, y0, times, (rate, {**OTHERS, "hunt": hunt}), **FINE))

    check_grads(loss, [Y0, TIMES, RATE, OTHERS["hunt"]], order=1)


def test_second_derivatives_of_a_decay() -> None:
    """The solution of dy/dt = -k * y is y0 * exp(-k * t)."""
    end = lambda y0, k: integrate.odeint(lambda y, t, k: -k * y, y0, np.array([0.0, 0.7]), (k,), **FINE)[1, 0]
    y0, k = np.array([1.5]), np.array(0.9)
    value = 1.5 * np.exp(-0.63)
    np.testing.assert_allclose(mg.grad(end, 1)(y0, k), -0.7 * value, rtol=1e-8)
    np.testing.assert_allclose(mg.hessian(end, 1)(y0, k), 0.49 * value, rtol=1e-8)
    np.testing.assert_allclose(mg.jacobian(mg.grad(end, 1))(y0, k), [-0.7 * value / 1.5], rtol=1e-8)
    at_once = lambda t: integrate.odeint(lambda y, t: -y, y0, np.stack([t * 0, t]), **FINE)[1, 0]
    np.testing.assert_allclose(mg.grad(mg.grad(at_once))(0.7), 1.5 * np.exp(-0.7), rtol=1e-8)


@pytest.mark.parametrize("method", ["RK45", "DOP853", "LSODA"])
def test_solve_ivp(method: str) -> None:
    f = lambda t, y, rate: populations(y, t, rate, OTHERS)
    for t_eval in (None, TIMES, [0.3, 1.0]):
        plain = scipy_integrate.solve_ivp(f, (0, 1.2), Y0, method, t_eval, args=(RATE,))
        result = integrate.solve_ivp(f, (0, 1.2), mg.Tensor(Y0, requires_grad=True), method, t_eval, args=(RATE,))
        np.testing.assert_array_equal(result.t, plain.t)
        np.testing.assert_allclose(result.y.data, plain.y, rtol=1e-12)
        assert integrate.solve_ivp(f, (0, 1.2), Y0, method, t_eval, args=(RATE,)).nfev > 0
    end = lambda y0, rate: integrate.solve_ivp(f, (0, 1.2), y0, method, [0.4, 1.2], args=(rate,), **FINE).y[:, 1]
    check_grads(end, [Y0, RATE], order=1)


def test_what_is_refused() -> None:
    t = mg.Tensor(Y0, requires_grad=True)
    with pytest.raises(TypeError, match="would lose its history"):
        integrate.odeint(lambda y, time: -t * y, mg.Tensor(Y0), TIMES)
    with pytest.raises(NotImplementedError, match="odeint of Tensors does not take Dfun"):
        integrate.odeint(lambda y, time: -y, t, TIMES, Dfun=lambda y, time: -np.eye(2))
    with pytest.raises(NotImplementedError, match="solve_ivp of Tensors does not take events"):
        integrate.solve_ivp(lambda time, y: -y, (0, 1), t, events=lambda time, y: y[0])
    with pytest.raises(RuntimeError, match="solve_ivp: Required step size"):
        integrate.solve_ivp(lambda time, y: y**2, (0, 4), t, t_eval=[4.0])
