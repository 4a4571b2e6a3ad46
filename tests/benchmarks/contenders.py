"""One function per contender: given layers and data, it returns the function that does one step of training.

A step clears the gradients where the library asks for that, computes the mean squared error of a network with tanh
after every layer, its gradients, and the update of plain gradient descent, and returns the loss. Each is written as the
library's own documentation would write it.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .networks import NETWORKS, RATE, Array, Layers

Step = Callable[[], Any]  # it returns a scalar of the library, with a method item()
Build = Callable[[Layers, Array, Array], Step]


class Contender(NamedTuple):
    build: Build
    module: str
    largest: float = math.inf  # the widest layer that it is asked to train
    program: str = "python"  # what it runs besides

    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None and shutil.which(self.program) is not None

    def runs(self, network: str) -> bool:
        return max(NETWORKS[network].sizes) <= self.largest


CONTENDERS: dict[str, Contender] = {}


def contender(name: str, module: str, **limits: Any) -> Callable[[Build], Build]:
    """Enter the decorated function under a name."""

    def register(build: Build) -> Build:
        CONTENDERS[name] = Contender(build, module, **limits)
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


@contender("NumPy, no page faults", "numpy")
def numpy_after_a_large_block(layers: Layers, x: Array, y: Array) -> Step:
    """The same, where glibc keeps the memory that is freed, as minigrad has it: a large block was freed before."""
    np.empty(2**24, np.uint8)
    return numpy_by_hand(layers, x, y)


@contender("NumPy, out=", "numpy")
def numpy_in_place(layers: Layers, x: Array, y: Array) -> Step:
    """As fast as it can be written by hand: no array is made in a step, and all parameters are one vector."""
    shapes = [array.shape for pair in layers for array in pair]
    parameters = np.concatenate([array.ravel() for pair in layers for array in pair])
    gradients = np.empty_like(parameters)
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    ws_bs, dws_dbs = (
        [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes, strict=True)]
        for vector in (parameters, gradients)
    )
    ws, bs, dws, dbs = ws_bs[::2], ws_bs[1::2], dws_dbs[::2], dws_dbs[1::2]
    outputs = [x, *(np.empty((len(x), len(b)), x.dtype) for b in bs)]
    gs = [np.empty_like(output) for output in outputs[1:]]
    one, rate, factor = np.float32(1), np.float32(RATE), np.float32(2 / y.size)

    def step() -> Any:
        for w, b, h, z in zip(ws, bs, outputs, outputs[1:], strict=False):
            np.dot(h, w, out=z)
            np.add(z, b, out=z)
            np.tanh(z, out=z)
        g = gs[-1]
        np.subtract(outputs[-1], y, out=g)
        loss = np.vdot(g, g) / y.size
        np.multiply(g, factor, out=g)
        for i in reversed(range(len(ws))):
            slope, g = outputs[i + 1], gs[i]  # the output has served
            np.multiply(slope, slope, out=slope)
            np.subtract(one, slope, out=slope)
            np.multiply(g, slope, out=g)
            np.dot(outputs[i].T, g, out=dws[i])
            np.add.reduce(g, axis=0, out=dbs[i])
            if i:
                np.dot(g, ws[i].T, out=gs[i - 1])
        np.multiply(gradients, rate, out=gradients)
        np.subtract(parameters, gradients, out=parameters)
        return loss

    return step


PRODUCTS = "products"


def products(layers: Layers, x: Array, y: Array) -> Step:
    """The matrix products of a step and nothing else: what no program on the same BLAS can do without."""
    ws = [w for w, _ in layers]
    outputs = [x, *(np.ones((len(x), w.shape[1]), x.dtype) for w in ws)]
    gs, dws = [np.ones_like(output) for output in outputs], [np.empty_like(w) for w in ws]

    def step() -> Any:
        for w, h, z in zip(ws, outputs, outputs[1:], strict=False):
            np.dot(h, w, out=z)
        for i in reversed(range(len(ws))):
            np.dot(outputs[i].T, gs[i + 1], out=dws[i])
            if i:
                np.dot(gs[i + 1], ws[i].T, out=gs[i])
        return np.float64(0)

    return step


@contender("minigrad", "minigrad")
def minigrad(layers: Layers, x: Array, y: Array) -> Step:
    from minigrad import nn, optim

    return with_modules(nn, nn.mse_loss, optim.SGD, np.asarray, eager, layers, x, y)


@contender("minigrad compiled", "minigrad")
def minigrad_compiled(layers: Layers, x: Array, y: Array) -> Step:
    from minigrad import compile, nn, optim

    return with_modules(nn, nn.mse_loss, optim.SGD, np.asarray, compile, layers, x, y)


@contender("PyTorch", "torch")
def pytorch(layers: Layers, x: Array, y: Array) -> Step:
    import torch

    return with_modules(torch.nn, torch.nn.functional.mse_loss, torch.optim.SGD, torch.tensor, eager, layers, x, y)


@contender("torch.compile", "torch", program="g++")
def pytorch_compiled(layers: Layers, x: Array, y: Array) -> Step:
    import torch

    mse_loss = torch.nn.functional.mse_loss
    return with_modules(torch.nn, mse_loss, torch.optim.SGD, torch.tensor, torch.compile, layers, x, y)


def eager(loss: Any) -> Any:
    """What stands for a compiler where there is none."""
    return loss


def with_modules(
    nn: Any, mse_loss: Any, SGD: Any, array: Any, compile: Any, layers: Layers, x: Array, y: Array
) -> Step:
    """The program that minigrad and PyTorch share."""
    modules = []
    for w, b in layers:
        linear = nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = array(w.T.copy()), array(b)
        modules += [linear, nn.Tanh()]
    model = nn.Sequential(*modules)
    optimizer = SGD(model.parameters(), lr=RATE)
    loss_of = compile(lambda x, y: mse_loss(model(x), y))
    x, y = array(x), array(y)

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, y)
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
