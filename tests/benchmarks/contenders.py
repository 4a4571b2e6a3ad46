"""One function per contender: given layers and data, it returns the function that does one step of training.

A step clears the gradients where the library asks for that, computes the mean squared error of a network with tanh
after every layer, its gradients, and the update of plain gradient descent, and returns the loss. Each is written as the
library's own documentation would write it.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .networks import NETWORKS, RATE, Array, Layers

Step = Callable[[], Any]  # it returns a scalar of the library, with a method item()
Build = Callable[[Layers, Array, Array], Step]


class Contender(NamedTuple):
    build: Build
    module: str
    largest: float

    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def runs(self, network: str) -> bool:
        return max(NETWORKS[network].sizes) <= self.largest


CONTENDERS: dict[str, Contender] = {}


def contender(name: str, module: str, largest: float = math.inf) -> Callable[[Build], Build]:
    """Enter the decorated function under a name; `largest` is the widest layer that it is asked to train."""

    def register(build: Build) -> Build:
        CONTENDERS[name] = Contender(build, module, largest)
        return build

    return register


@contender("NumPy", "numpy")
def numpy_by_hand(layers: Layers, x: Array, y: Array) -> Step:
    def step() -> Any:
        outputs = [x]
        for w, b in layers:
            outputs.append(np.tanh(outputs[-1] @ w + b))
        error = outputs[-1] - y
        loss = np.mean(error**2)
        g = (2 / error.size) * error
        for i in reversed(range(len(layers))):
            w, b = layers[i]
            g = g * (1 - outputs[i + 1] ** 2)
            dw, db = outputs[i].T @ g, g.sum(axis=0)
            if i:
                g = g @ w.T
            w -= RATE * dw
            b -= RATE * db
        return loss

    return step


@contender("minigrad", "minigrad")
def minigrad(layers: Layers, x: Array, y: Array) -> Step:
    from minigrad import nn, optim

    return with_modules(nn, nn.mse_loss, optim.SGD, np.asarray, layers, x, y)


@contender("PyTorch", "torch")
def pytorch(layers: Layers, x: Array, y: Array) -> Step:
    import torch

    torch.set_num_threads(1)
    return with_modules(torch.nn, torch.nn.functional.mse_loss, torch.optim.SGD, torch.tensor, layers, x, y)


def with_modules(nn: Any, mse_loss: Any, SGD: Any, array: Any, layers: Layers, x: Array, y: Array) -> Step:
    """The program that minigrad and PyTorch share."""
    modules = []
    for w, b in layers:
        linear = nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = array(w.T.copy()), array(b)
        modules += [linear, nn.Tanh()]
    model = nn.Sequential(*modules)
    optimizer = SGD(model.parameters(), lr=RATE)
    x, y = array(x), array(y)

    def step() -> Any:
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def loss_of(namespace: Any, layers: Any, x: Any, y: Any) -> Any:
    """The loss, written with the namespace of a library that imitates NumPy's."""
    for w, b in layers:
        x = namespace.tanh(x @ w + b)
    return namespace.mean((x - y) ** 2)


@contender("JAX jit", "jax")
def jax_jit(layers: Layers, x: Array, y: Array) -> Step:
    import jax
    import jax.numpy as jnp

    @jax.jit
    def update(layers: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(lambda layers: loss_of(jnp, layers, x, y))(layers)
        return jax.tree.map(lambda p, g: p - RATE * g, layers, gradients), loss

    state, x, y = jax.tree.map(jnp.array, (layers, x, y))

    def step() -> Any:
        nonlocal state
        state, loss = update(state, x, y)
        return loss

    return step


@contender("autograd", "autograd")
def autograd(layers: Layers, x: Array, y: Array) -> Step:
    import autograd.numpy as anp
    from autograd import value_and_grad

    loss_and_gradients = value_and_grad(lambda layers: loss_of(anp, layers, x, y))

    def step() -> Any:
        loss, gradients = loss_and_gradients(layers)
        for (w, b), (dw, db) in zip(layers, gradients, strict=True):
            w -= RATE * dw
            b -= RATE * db
        return loss

    return step


@contender("MyGrad", "mygrad")
def mygrad(layers: Layers, x: Array, y: Array) -> Step:
    import mygrad

    tensors = [(mygrad.tensor(w), mygrad.tensor(b)) for w, b in layers]

    def step() -> Any:
        loss = loss_of(mygrad, tensors, x, y)
        loss.backward()
        for pair in tensors:
            for p in pair:
                p.data -= RATE * p.grad
        return loss

    return step


@contender("micrograd", "micrograd", largest=10)  # number by number: larger networks would take minutes
def micrograd(layers: Layers, x: Array, y: Array) -> Step:
    from micrograd.engine import Value

    def tanh(v: Any) -> Any:  # which micrograd leaves to its users
        t = math.tanh(v.data)
        out = Value(t, (v,), "tanh")

        def backward() -> None:
            v.grad += (1 - t * t) * out.grad

        out._backward = backward
        return out

    def neuron(weights: Any, bias: Any, inputs: Any) -> Any:
        return tanh(sum((w * v for w, v in zip(weights, inputs, strict=True)), bias))

    neurons = [
        [([*map(Value, ws)], Value(c)) for ws, c in zip(w.T.tolist(), b.tolist(), strict=True)] for w, b in layers
    ]
    parameters = [p for layer in neurons for weights, bias in layer for p in (*weights, bias)]
    samples = list(zip(x.tolist(), y[:, 0].tolist(), strict=True))

    def step() -> Any:
        for p in parameters:
            p.grad = 0
        loss = 0
        for values, target in samples:
            for layer in neurons:
                values = [neuron(weights, bias, values) for weights, bias in layer]
            loss += (values[0] - target) ** 2
        loss = loss / len(samples)
        loss.backward()
        for p in parameters:
            p.data -= RATE * p.grad
        return np.float64(loss.data)

    return step
