"""One function per contender: given layers and data, it returns the function that does one step of training.

A step clears the gradients where the library asks for that, computes the mean squared error of a network with tanh
after every layer, its gradients, and the update of plain gradient descent or, where it takes a third argument and that
is true, of Adam; it returns the loss. Each is written as the library's own documentation would write it.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .networks import NETWORKS, RATE, Array, Layers, problem

Step = Callable[[], Any]  # it returns a scalar of the library, with a method item()
Build = Callable[..., Step]  # of layers, x, y and, where it knows Adam, whether to train by it


class Contender(NamedTuple):
    build: Build
    module: str
    largest: float = math.inf  # the widest layer that it is asked to train
    program: str = "python"  # what it runs besides

    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None and shutil.which(self.program) is not None

    def runs(self, network: str) -> bool:
        sizes, _, adam = NETWORKS[network]
        return max(sizes) <= self.largest and (not adam or "adam" in inspect.signature(self.build).parameters)

    def start(self, network: str) -> Step:
        """A step of training for fresh numbers."""
        return self.build(*problem(network), *[True] * NETWORKS[network].adam)


CONTENDERS: dict[str, Contender] = {}


def contender(name: str, module: str, **limits: Any) -> Callable[[Build], Build]:
    """Enter the decorated function under a name."""

    def register(build: Build) -> Build:
        CONTENDERS[name] = Contender(build, module, **limits)
        return build

    return register


BETA, GAMMA, EPSILON = 0.9, 0.999, 1e-8  # of Adam, everywhere


def adam_rate() -> float:
    return RATE / 100


@contender("NumPy", "numpy")
def numpy_by_hand(layers: Layers, x: Array, y: Array, adam: bool = False) -> Step:
    """As one would write it. One large block is freed before: then glibc keeps what is freed, as minigrad has it."""
    np.empty(2**24, np.uint8)
    moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in pair] for pair in layers]
    t = 0

    def step() -> Any:
        nonlocal t
        t += 1
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
            if not adam:
                w -= RATE * dw
                b -= RATE * db
                continue
            for p, dp, (m, v) in zip(layers[i], (dw, db), moments[i], strict=True):
                m *= BETA
                m += (1 - BETA) * dp
                v *= GAMMA
                v += (1 - GAMMA) * dp**2
                p -= adam_rate() * (m / (1 - BETA**t)) / (np.sqrt(v / (1 - GAMMA**t)) + EPSILON)
        return loss

    return step


@contender("NumPy, out=", "numpy")
def numpy_in_place(layers: Layers, x: Array, y: Array, adam: bool = False) -> Step:
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
    update = adam_in_place(parameters, gradients) if adam else None

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
        if update:
            update()
        else:
            np.multiply(gradients, rate, out=gradients)
            np.subtract(parameters, gradients, out=parameters)
        return loss

    return step


def adam_in_place(p: Array, g: Array) -> Callable[[], None]:
    """The update of a vector by its gradient, which is overwritten."""
    m, v, t = np.zeros_like(p), np.zeros_like(p), 0
    beta, rest, gamma, others, epsilon = map(np.float32, (BETA, 1 - BETA, GAMMA, 1 - GAMMA, EPSILON))
    part = np.empty_like(p)

    def update() -> None:
        nonlocal t
        t += 1
        np.multiply(m, beta, out=m)
        np.multiply(g, rest, out=part)
        np.add(m, part, out=m)
        np.multiply(v, gamma, out=v)
        np.multiply(g, g, out=g)
        np.multiply(g, others, out=g)
        np.add(v, g, out=v)
        np.sqrt(v, out=g)
        np.multiply(g, np.float32((1 - GAMMA**t) ** -0.5), out=g)
        np.add(g, epsilon, out=g)
        np.divide(m, g, out=g)
        np.multiply(g, np.float32(adam_rate() / (1 - BETA**t)), out=g)
        np.subtract(p, g, out=p)

    return update


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
def minigrad(layers: Layers, x: Array, y: Array, adam: bool = False) -> Step:
    return with_minigrad(layers, x, y, adam)


@contender("compiled loss", "minigrad")
def minigrad_compiled_loss(layers: Layers, x: Array, y: Array, adam: bool = False) -> Step:
    import minigrad as mg

    return with_minigrad(layers, x, y, adam, compile_loss=mg.compile)


@contender("compiled step", "minigrad")
def minigrad_compiled_step(layers: Layers, x: Array, y: Array, adam: bool = False) -> Step:
    import minigrad as mg

    return with_minigrad(layers, x, y, adam, compile_step=mg.compile)


@contender("compiled step, pure", "minigrad")
def minigrad_pure_step(layers: Layers, x: Array, y: Array, adam: bool = False) -> Step:
    import minigrad as mg

    return with_minigrad(layers, x, y, adam, compile_step=lambda step: mg.compile(step, pure=True))


def with_minigrad(*problem: Any, **compilers: Any) -> Step:
    from minigrad import nn, optim

    return with_modules(nn, nn.mse_loss, optim, np.asarray, *problem, **compilers)


@contender("PyTorch", "torch")
def pytorch(layers: Layers, x: Array, y: Array, adam: bool = False) -> Step:
    return with_torch(layers, x, y, adam)


@contender("torch.compile", "torch", program="g++")
def pytorch_compiled(layers: Layers, x: Array, y: Array) -> Step:
    import torch

    return with_torch(layers, x, y, False, compile_loss=torch.compile)


def with_torch(*problem: Any, **compilers: Any) -> Step:
    import torch

    mse_loss = torch.nn.functional.mse_loss
    return with_modules(torch.nn, mse_loss, torch.optim, torch.tensor, *problem, **compilers)


def eager(f: Any) -> Any:
    """What stands for a compiler where there is none."""
    return f


def with_modules(
    nn: Any,
    mse_loss: Any,
    optim: Any,
    array: Any,
    layers: Layers,
    x: Array,
    y: Array,
    adam: bool,
    compile_loss: Any = eager,
    compile_step: Any = eager,
) -> Step:
    """The program that minigrad and PyTorch share."""
    modules = []
    for w, b in layers:
        linear = nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = array(w.T.copy()), array(b)
        modules += [linear, nn.Tanh()]
    model = nn.Sequential(*modules)
    parameters = model.parameters()
    optimizer = optim.Adam(parameters, lr=adam_rate()) if adam else optim.SGD(parameters, lr=RATE)
    loss_of = compile_loss(lambda x, y: mse_loss(model(x), y))

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss

    step = compile_step(step)
    x, y = array(x), array(y)
    return lambda: step(x, y)


def loss_of(namespace: Any, layers: Any, x: Any, y: Any) -> Any:
    """The loss, written with the namespace of a library that imitates NumPy's."""
    for w, b in layers:
        x = namespace.tanh(x @ w + b)
    return namespace.mean((x - y) ** 2)


@contender("JAX jit", "jax")
def jax_jit(layers: Layers, x: Array, y: Array, adam: bool = False) -> Step:
    """The loss is read in each step, as every training loop does that reports it."""
    step = jax_on_device(layers, x, y, adam)
    return lambda: np.float32(step().item())


@contender("JAX jit, left on the device", "jax")
def jax_on_device(layers: Layers, x: Array, y: Array, adam: bool = False) -> Step:
    """Nobody waits for the loss, so that one step is dispatched while another computes, on a thread of its own."""
    import jax
    import jax.numpy as jnp

    map_ = jax.tree.map

    @jax.jit
    def update(state: Any, x: Any, y: Any) -> Any:
        layers, m, v, t = state
        loss, gradients = jax.value_and_grad(lambda layers: loss_of(jnp, layers, x, y))(layers)
        if not adam:
            return (map_(lambda p, g: p - RATE * g, layers, gradients), m, v, t), loss
        t += 1
        m = map_(lambda m, g: BETA * m + (1 - BETA) * g, m, gradients)
        v = map_(lambda v, g: GAMMA * v + (1 - GAMMA) * g**2, v, gradients)
        scale = lambda m, v: (m / (1 - BETA**t)) / (jnp.sqrt(v / (1 - GAMMA**t)) + EPSILON)
        return (map_(lambda p, m, v: p - adam_rate() * scale(m, v), layers, m, v), m, v, t), loss

    moments = map_(np.zeros_like, [layers, layers]) if adam else [None, None]
    state, x, y = map_(jnp.array, ((layers, *moments, np.float32(0)), x, y))

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
