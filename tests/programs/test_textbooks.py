"""Programs from textbooks, in NumPy and SciPy alone: their gradients against differences, and put to their use.

With other imports they are programs for HIPS autograd, which must find the same gradients where it is installed.
"""

import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from profiles import scale

import minigrad as mg
from minigrad.testing import check_grads

optimize = pytest.importorskip("scipy.optimize")
integrate = pytest.importorskip("minigrad.scipy.integrate")
NAMES = ["gaussian_process", "hidden_markov", "neural_ode"]


def program(name: str, imports: dict[str, str] | None = None) -> Any:
    """A program as a module, with some of its imports replaced."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    for old, new in (imports or {}).items():
        source = source.replace(f"import {old}\n", f"import {new}\n")
    module = types.ModuleType(name)
    exec(compile(source, f"{name}.py", "exec"), vars(module))
    return module


def problem(name: str, module: Any, odeint: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The loss, and where it begins."""
    if name != "neural_ode":
        return module.loss, module.data()
    start, observed = program(name).data(integrate.odeint)
    return (lambda parameters: module.loss(parameters, observed, odeint)), (start,)


def train(loss: Any, start: Any, *others: Any) -> Any:
    fun = lambda theta: mg.value_and_grad(lambda t: loss(t.reshape(start.shape), *others))(theta)
    found = optimize.minimize(fun, start.ravel(), jac=True, method="L-BFGS-B")
    return found.x.reshape(start.shape)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    loss, (start, *others) = problem(name, program(name), integrate.odeint)
    if name == "neural_ode":  # in single numbers, since the solver has errors of its own
        for layer, part, place in ((0, 0, (1, 3)), (0, 1, 2), (1, 0, (5, 1)), (1, 1, 0)):
            moved = [[np.array(x) for x in pair] for pair in start]
            ends = []
            for step in (1e-3, -2e-3):
                moved[layer][part][place] += step
                ends.append(loss(moved))
            gradient = mg.grad(loss)(start)[layer][part][place]
            np.testing.assert_allclose(gradient, (ends[0] - ends[1]) / 2e-3, rtol=1e-4, atol=1e-5)
    else:
        check_grads(lambda theta: loss(theta, *others), [start], order=scale(1, 2))


def test_a_gaussian_process_finds_out_which_input_matters() -> None:
    module = program("gaussian_process")
    start, x, y = module.data()
    theta = train(module.loss, start, x, y)
    lengths, noise = np.exp(theta[:2]), np.exp(theta[3])
    assert lengths[1] > 5 * lengths[0]
    assert 0.06 < noise < 0.15
    z = np.array([[0.5, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(module.prediction(theta, x, y, z), np.sin(2 * z[:, 0]), atol=0.1)


def test_a_hidden_markov_model_finds_the_states() -> None:
    module = program("hidden_markov")
    theta = train(module.loss, *module.data())
    np.testing.assert_allclose(np.exp(theta[3]), module.RATES, rtol=0.15)
    np.testing.assert_allclose(np.diag(module.probabilities(theta[1:3])), [0.9, 0.8], atol=0.1)


def test_a_neural_equation_learns() -> None:
    loss, (parameters,) = problem("neural_ode", program("neural_ode"), integrate.odeint)
    first = loss(parameters)
    velocity = [[np.zeros_like(x) for x in pair] for pair in parameters]
    for _ in range(scale(8, 60)):
        gradients = mg.grad(loss)(parameters)
        for v, g in zip(velocity, gradients, strict=True):
            for i in range(2):
                v[i] = 0.8 * v[i] - 0.02 * g[i]
        parameters = [
            tuple(x + dx for x, dx in zip(*both, strict=True)) for both in zip(parameters, velocity, strict=True)
        ]
    assert loss(parameters) < 0.9 * first


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_autograd_finds_the_same(name: str) -> None:
    autograd = pytest.importorskip("autograd")
    from autograd.builtins import tuple as its_tuple
    from autograd.scipy.integrate import odeint

    theirs = program(name, {"numpy as np": "autograd.numpy as np", "scipy.special": "autograd.scipy.special, scipy"})
    given = lambda f, y0, t, args: odeint(f, y0, t, its_tuple(args))
    (f, args), (g, _) = problem(name, program(name), integrate.odeint), problem(name, theirs, given)
    ours, its = mg.grad(f), autograd.grad(g)
    flat = lambda x: np.concatenate([np.ravel(a) for pair in x for a in pair]) if isinstance(x, list) else np.ravel(x)
    np.testing.assert_allclose(flat(ours(*args)), flat(its(*args)), rtol=1e-5, atol=1e-6)
    times: dict[Any, float] = {}
    for _ in range(scale(1, 15)):  # in turns
        for gradient in (ours, its):
            before = time.perf_counter()
            gradient(*args)
            times[gradient] = min(times.get(gradient, np.inf), time.perf_counter() - before)
    print(f"{name}: {times[ours] / times[its]:.2f} of autograd's time, {1e3 * times[ours]:.1f} ms")
