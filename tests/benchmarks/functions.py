"""Functions of one array, value and gradient in float64, and one function per contender that builds them.

    chain       the sum of sin(x) * exp(-x * x) + tanh(x), over so many elements
    logistic    the mean log-loss of a logistic regression, over so many samples of 20 features
    simulation  where so many Euler steps in a Python loop lead, by the weights of x' = tanh(x @ w)

A contender is given a problem's name, its arrays and the number of threads, and returns the function that computes
value and gradient once. Each is written as the library's own documentation would write it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .contenders import Contender

Arrays = list[np.ndarray[Any, np.dtype[np.float64]]]  # what the gradient is taken of, and the data
Evaluate = Callable[[], tuple[Any, Any]]

CHAIN_SIZES = [10**3, 10**4, 10**5, 10**6, 10**7]
LOGISTIC_SIZE = 10**6
SIMULATION_SIZE = 500
DT = 0.01


def parsed(problem: str) -> tuple[str, int]:
    name, size = problem.split("@")
    return name, int(size)


def arrays(problem: str) -> Arrays:
    """The numbers of a problem such as "chain@1000", the same ones in every process."""
    name, size = parsed(problem)
    rng = np.random.default_rng(0)
    if name == "chain":
        return [rng.standard_normal(size)]
    if name == "simulation":
        return [rng.standard_normal((3, 3)), rng.standard_normal((1, 3))]
    x = rng.standard_normal((size, 20))
    return [rng.standard_normal(20) / 5, x, (x[:, 0] > rng.standard_normal(len(x))).astype(float)]


def loss_in(namespace: Any, problem: str) -> Callable[..., Any]:
    """The function, written with the namespace of a library that imitates NumPy's."""

    def chain(x: Any) -> Any:
        return namespace.sum(namespace.sin(x) * namespace.exp(-x * x) + namespace.tanh(x))

    def logistic(w: Any, x: Any, y: Any) -> Any:
        z = x @ w
        return namespace.mean(namespace.logaddexp(0, z) - y * z)

    def simulation(w: Any, x: Any) -> Any:
        for _ in range(size):
            x = x + DT * namespace.tanh(x @ w)
        return namespace.sum(x * x)

    name, size = parsed(problem)
    return {"chain": chain, "logistic": logistic, "simulation": simulation}[name]


def numpy_by_hand(problem: str, arrays: Arrays, threads: int) -> Evaluate:
    def chain(x: Any) -> Any:
        s, e, t = np.sin(x), np.exp(-x * x), np.tanh(x)
        return np.sum(s * e + t), (np.cos(x) - 2 * x * s) * e + (1 - t * t)

    def logistic(w: Any, x: Any, y: Any) -> Any:
        z = x @ w
        return np.mean(np.logaddexp(0, z) - y * z), x.T @ ((1 / (1 + np.exp(-z)) - y) / len(y))

    def simulation(w: Any, x: Any) -> Any:
        states, slopes = [x], []
        for _ in range(size):
            slopes.append(np.tanh(states[-1] @ w))
            states.append(states[-1] + DT * slopes[-1])
        g, dw = 2 * states[-1], np.zeros_like(w)
        for i in reversed(range(size)):
            dz = DT * g * (1 - slopes[i] ** 2)
            dw += states[i].T @ dz
            g = g + dz @ w.T
        return np.sum(states[-1] ** 2), dw

    name, size = parsed(problem)
    f = {"chain": chain, "logistic": logistic, "simulation": simulation}[name]
    return lambda: f(*arrays)


def numpy_in_place(problem: str, arrays: Arrays, threads: int) -> Evaluate:
    """As fast as it can be written by hand without blocks and threads: no array is made in a call."""
    a, b, c, g = (np.empty_like(arrays[-1]) for _ in range(4))

    def chain(x: Any) -> Any:
        np.sin(x, out=a)
        np.multiply(x, x, out=b)
        np.negative(b, out=b)
        np.exp(b, out=b)
        np.multiply(a, x, out=g)
        np.multiply(g, -2, out=g)
        np.cos(x, out=c)
        np.add(g, c, out=g)
        np.multiply(g, b, out=g)
        np.multiply(a, b, out=a)
        np.tanh(x, out=c)
        np.add(a, c, out=a)
        np.multiply(c, c, out=c)
        np.subtract(1, c, out=c)
        return np.add.reduce(a), np.add(g, c, out=g)

    dw = np.empty_like(arrays[0])

    def logistic(w: Any, x: Any, y: Any) -> Any:
        np.dot(x, w, out=a)
        np.logaddexp(0, a, out=b)
        value = (np.add.reduce(b) - np.dot(y, a)) / len(y)
        np.negative(a, out=a)
        np.exp(a, out=a)
        np.add(a, 1, out=a)
        np.divide(1, a, out=a)
        np.subtract(a, y, out=a)
        np.dot(x.T, a, out=dw)
        return value, np.divide(dw, len(y), out=dw)

    f = chain if problem.startswith("chain") else logistic
    return lambda: f(*arrays)


def minigrad(problem: str, arrays: Arrays, threads: int) -> Evaluate:
    import minigrad as mg

    f = mg.value_and_grad(loss_in(np, problem))
    return lambda: f(*arrays)


def minigrad_compiled(problem: str, arrays: Arrays, threads: int, pure: bool = False) -> Evaluate:
    import minigrad as mg

    f = mg.compile(mg.value_and_grad(loss_in(np, problem)), threads=threads, pure=pure)
    return lambda: f(*arrays)


def pytorch(problem: str, arrays: Arrays, threads: int) -> Evaluate:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    f = loss_in(torch, problem)
    if problem.startswith("logistic"):
        f = lambda w, x, y: binary_cross_entropy_with_logits(x @ w, y)
    x, *data = map(torch.tensor, arrays)
    x.requires_grad_()

    def evaluate() -> Any:
        x.grad = None
        value = f(x, *data)
        value.backward()
        return value, x.grad

    return evaluate


def jax_jit(problem: str, arrays: Arrays, threads: int) -> Evaluate:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    loss = loss_in(jnp, problem)
    if problem.startswith("simulation"):  # whose Python loop would take 14 s to compile
        _, steps = parsed(problem)
        move = lambda w: lambda _, x: x + DT * jnp.tanh(x @ w)
        loss = lambda w, x: jnp.sum(jax.lax.fori_loop(0, steps, move(w), x) ** 2)
    f = jax.jit(jax.value_and_grad(loss))
    inputs = [jnp.array(array) for array in arrays]
    return lambda: f(*inputs)


def autograd(problem: str, arrays: Arrays, threads: int) -> Evaluate:
    import autograd.numpy as anp
    from autograd import value_and_grad

    f = value_and_grad(loss_in(anp, problem))
    return lambda: f(*arrays)


EVALUATORS = {
    "NumPy": Contender(numpy_by_hand, "numpy"),
    "NumPy, out=": Contender(numpy_in_place, "numpy"),
    "minigrad": Contender(minigrad, "minigrad"),
    "compiled": Contender(minigrad_compiled, "minigrad"),
    "compiled, pure": Contender(partial(minigrad_compiled, pure=True), "minigrad"),
    "PyTorch": Contender(pytorch, "torch"),
    "JAX jit": Contender(jax_jit, "jax"),
    "autograd": Contender(autograd, "autograd"),
}
NO_SIMULATION = {"NumPy, out="}
THREADED = {
    "compiled",
    "compiled, pure",
    "PyTorch",
    "JAX jit",
}  # the others compute elementwise functions on one thread
