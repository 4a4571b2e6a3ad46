"""Optimizers, schedules and gradient clipping, in order of increasing complexity.

An optimizer moves its parameters and their gradients into one flat buffer per dtype, of which `parameter.data` and
`parameter.grad` become views. A step is then a handful of NumPy calls, however many layers there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minigrad.nn.state import fitting_arrays
from minigrad.tensor import Array, Cleared, Tensor, observer, quietly, touch

Schedule = Callable[[int], float]
CHUNK = 3 * 2**13  # elements that are moved at a time, to need less memory in between


class Flat:
    """Parameters of one dtype in one buffer: the parameters are views of the vectors `data` and `grad`."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        dtype, size = parameters[0].dtype, sum(parameter.size for parameter in parameters)
        self.data, self.grad = np.zeros(size, dtype), np.zeros(size, dtype)
        datas, grads = self.views(self.data), self.views(self.grad)
        self.rows = list(zip(parameters, datas, grads, map(Cleared, grads), strict=True))
        self.gather()

    def __reduce__(self) -> Any:
        return Flat, (self.parameters,)  # a copy makes views of its own, of the copied parameters

    def views(self, vector: Array) -> list[Array]:
        """The parts of a vector that belong to the parameters, in their shapes."""
        ends = np.cumsum([parameter.size for parameter in self.parameters])[:-1]
        parts = np.split(vector, ends)
        return [part.reshape(p.shape) for part, p in zip(parts, self.parameters, strict=True)]

    def gather(self) -> None:
        """Take in what was assigned to `.data` or `.grad` since the last time; None stands for a gradient of zero."""
        for parameter, data, grad, _ in self.rows:
            if parameter._data is data and parameter._grad is grad and parameter._requires_grad:
                continue
            if not parameter._requires_grad:
                raise RuntimeError(
                    f"the parameter of shape {parameter.shape} was frozen after this optimizer was made: make a "
                    "new one of the parameters that are to move."
                )
            if parameter._data is not data:
                data[...] = parameter._data
                parameter._data = data  # the same numbers in other memory: nothing has changed for the graph
            if parameter._grad is not grad:
                grad[...] = 0 if parameter._grad is None else parameter.grad
                parameter._grad = grad

    def clear(self) -> None:
        """Set all gradients to zero, once somebody looks at them."""
        for parameter, _, _, cleared in self.rows:
            parameter._grad = cleared


class Optimizer:
    """What all optimizers share: `lr`, the step, and the state that a checkpoint keeps.

    `parameters` are tensors that require a gradient, such as `model.parameters()`; each counts once. `weight_decay`
    adds that multiple of a parameter to its gradient. A parameter that has received no gradient has one of zero.
    """

    slots: tuple[str, ...] = ()  # names of the vectors that the algorithm remembers for every parameter

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        unique = {id(parameter): parameter for parameter in parameters}
        if not unique:
            raise ValueError(f"{type(self).__name__} got no parameters: give it tensors, such as model.parameters()")
        by_dtype: dict[Any, list[Tensor]] = {}
        for parameter in unique.values():
            if not isinstance(parameter, Tensor) or not parameter.requires_grad or parameter.function is not None:
                raise TypeError(f"{type(self).__name__} takes leaf tensors that require a gradient, not {parameter!r}")
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        _at_least_zero(lr=lr, weight_decay=weight_decay)
        self.lr, self.weight_decay = lr, weight_decay
        self.steps = 0
        self.flats = [Flat(group) for group in by_dtype.values()]
        self.memory = [{slot: np.zeros_like(flat.data) for slot in self.slots} for flat in self.flats]

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for flat in self.flats:
            flat.clear()

    def step(self) -> None:
        """Move all parameters once, by their gradients."""
        if watching := observer():
            watching.refuse("steps an optimizer")
        self.steps += 1
        for flat, memory in zip(self.flats, self.memory, strict=True):
            flat.gather()
            # Only the algorithms of this module are known to work element by element.
            if flat.data.size <= CHUNK or type(self).update.__module__ != __name__:
                self.move(flat.data, flat.grad, memory)
            else:
                for start in range(0, flat.data.size, CHUNK):
                    part = slice(start, start + CHUNK)
                    self.move(flat.data[part], flat.grad[part], {slot: x[part] for slot, x in memory.items()})
            touch(flat.parameters)

    def move(self, data: Array, g: Array, memory: dict[str, Array]) -> None:
        """Change some of the parameters by their gradient; where one diverges, it shows in the loss."""
        if self.weight_decay:
            g = quietly(self.decayed, data, g)
        quietly(self.update, data, g, np.empty_like(g), **memory)

    def decayed(self, data: Array, g: Array) -> Array:
        """The gradient with the decay of the weights in it."""
        return g + self.weight_decay * data

    def update(self, data: Array, g: Array, scratch: Array, *args: Any, **memory: Any) -> None:
        """Change the vector `data` in place by its gradient `g`: this is what an optimizer defines.

        All are 1-d, of one length and dtype. `scratch` may be overwritten, `g` may not. `memory` are the vectors named
        in `slots`, zero at first; `self.steps` counts from 1. NumPy warns of nothing here.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method update(self, data, g, scratch, **slots)")

    def state_dict(self) -> dict[str, Any]:
        """A copy of what changes from step to step, besides the parameters and their gradients."""
        state: dict[str, Any] = {"lr": self.lr, "steps": self.steps}
        for i, memory in enumerate(self.memory):
            state.update({f"{slot}.{i}": vector.copy() for slot, vector in memory.items()})
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of the same kind of optimizer over the same parameters, or raise and change nothing."""
        arrays = fitting_arrays(self, {name: np.shape(value) for name, value in self.state_dict().items()}, state)
        self.lr, self.steps = float(arrays["lr"]), int(arrays["steps"])
        for i, memory in enumerate(self.memory):
            for slot, vector in memory.items():
                vector[...] = arrays[f"{slot}.{i}"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as in Sutskever et al. (ICML 2013) in PyTorch's form.

        v = momentum * v + g
        p = p - lr * v                          or, with `nesterov`,  p - lr * (g + momentum * v)

    >>> p = Tensor([1.0, 2.0], requires_grad=True)
    >>> np.sum(p**2).backward()
    >>> SGD([p], lr=0.1).step()
    >>> p
    Tensor([0.8, 1.6], requires_grad=True)
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        _at_least_zero(momentum=momentum)
        if nesterov and not momentum:
            raise ValueError("nesterov=True looks ahead by the momentum: give one, such as momentum=0.9")
        self.momentum, self.nesterov = momentum, nesterov
        self.slots = ("velocity",) if momentum else ()
        super().__init__(parameters, lr, weight_decay)

    def update(self, data: Array, g: Array, scratch: Array, velocity: Array | None = None) -> None:
        if velocity is None:
            data -= np.multiply(g, self.lr, out=scratch)
            return
        velocity *= self.momentum
        velocity += g
        if self.nesterov:
            np.multiply(velocity, self.momentum, out=scratch)
            scratch += g
            scratch *= self.lr
        else:
            np.multiply(velocity, self.lr, out=scratch)
        data -= scratch


class RMSprop(Optimizer):
    """Gradients divided by a running root mean square (Tieleman and Hinton, Coursera lecture 6.5, 2012).

    s = alpha * s + (1 - alpha) * g^2
    p = p - lr * g / (sqrt(s) + eps)
    """

    slots = ("mean_square",)

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        _fraction(alpha=alpha)
        _at_least_zero(eps=eps)
        self.alpha, self.eps = alpha, eps
        super().__init__(parameters, lr, weight_decay)

    def update(self, data: Array, g: Array, scratch: Array, mean_square: Array) -> None:
        _average(mean_square, np.square(g, out=scratch), self.alpha, scratch)
        np.sqrt(mean_square, out=scratch)
        scratch += self.eps
        np.divide(g, scratch, out=scratch)
        scratch *= self.lr
        data -= scratch


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, ICLR 2015, arXiv:1412.6980, algorithm 1).

    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g^2
    p = p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
    """

    slots = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        _fraction(beta1=betas[0], beta2=betas[1])
        _at_least_zero(eps=eps)
        self.betas, self.eps = betas, eps
        super().__init__(parameters, lr, weight_decay)

    def update(self, data: Array, g: Array, scratch: Array, m: Array, v: Array) -> None:
        beta1, beta2 = self.betas
        _average(m, g, beta1, scratch)
        _average(v, np.square(g, out=scratch), beta2, scratch)
        np.sqrt(v, out=scratch)
        scratch /= math.sqrt(1 - beta2**self.steps)
        scratch += self.eps
        np.divide(m, scratch, out=scratch)
        scratch *= self.lr / (1 - beta1**self.steps)
        data -= scratch


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient (Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101).

    p = p - lr * weight_decay * p, then the step of Adam
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def decayed(self, data: Array, g: Array) -> Array:
        data *= 1 - self.lr * self.weight_decay
        return g


def _average(mean: Array, value: Array, weight: float, scratch: Array) -> None:
    """mean = weight * mean + (1 - weight) * value, in place; `scratch` may be `value`."""
    mean *= weight
    mean += np.multiply(value, 1 - weight, out=scratch)


def _at_least_zero(**options: float) -> None:
    for name, value in options.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value}: it must be at least 0, and finite")


def _fraction(**options: float) -> None:
    for name, value in options.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value}: it must be at least 0 and below 1")


def at_least_one(**options: int) -> None:
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"{name}={value}: it must be at least 1")


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients so that their common Euclidean norm is at most `max_norm`; returns the norm before.

    Pascanu et al., ICML 2013 (arXiv:1211.5063). Call it between backward() and step(). When a gradient is inf or nan,
    so is the norm, and no gradient is changed: there is no length to scale to.

    >>> p = Tensor([3.0, 4.0], requires_grad=True)
    >>> np.sum(p * p / 2).backward()
    >>> clip_grad_norm([p], max_norm=1.0), p.grad
    (5.0, array([0.6, 0.8]))
    """
    _at_least_zero(max_norm=max_norm)
    unique = {id(parameter): parameter.grad for parameter in parameters}
    gradients = [g for g in unique.values() if g is not None]
    total = math.hypot(*(float(np.linalg.norm(g.astype(np.float64))) for g in gradients))  # no overflow in float32
    if max_norm < total < math.inf:
        for g in gradients:
            g *= max_norm / total
    return total


# --------------------------------------------------------------------------------------------------- schedules
# A schedule is a function from the number of steps done to the learning rate of the next step; it has no state. In a
# loop of your own, say `optimizer.lr = schedule(optimizer.steps)` before each step.


def step_schedule(lr: float, every: int, gamma: float = 0.1) -> Schedule:
    """`lr`, multiplied by `gamma` after each `every` steps.

    >>> [step_schedule(1.0, every=2, gamma=0.5)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    at_least_one(every=every)
    return lambda step: lr * gamma ** (step // every)


def exponential_schedule(lr: float, gamma: float) -> Schedule:
    """`lr`, multiplied by `gamma` after every step."""
    return lambda step: lr * gamma**step


def cosine_schedule(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """From `lr` to `final` in `steps` steps, along half a cosine (Loshchilov and Hutter, ICLR 2017), then constant.

    >>> [cosine_schedule(1.0, steps=2)(step) for step in range(4)]
    [1.0, 0.5, 0.0, 0.0]
    """
    at_least_one(steps=steps)
    return lambda step: _cosine(lr, final, min(step / steps, 1))


def warmup_schedule(steps: int, then: Schedule | float) -> Schedule:
    """Linearly up to the first learning rate of `then` in `steps` steps (Goyal et al., 2017), and on with it then.

    >>> [warmup_schedule(2, then=1.0)(step) for step in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """
    after = then if callable(then) else lambda step: then
    return lambda step: after(0) * (step + 1) / steps if step < steps else after(step - steps)


def one_cycle_schedule(
    max_lr: float, steps: int, rise: float = 0.3, start_factor: float = 25.0, final_factor: float = 1e4
) -> Schedule:
    """Up to `max_lr` in the share `rise` of all `steps`, then down, each along half a cosine (Smith and Topin, 2018).

    It starts at max_lr / start_factor and ends, at the last step, at that divided by `final_factor`.
    """
    at_least_one(steps=steps)
    _fraction(rise=rise)
    start = max_lr / start_factor
    peak = rise * steps - 1

    def schedule(step: int) -> float:
        if step <= peak:
            return _cosine(start, max_lr, step / peak if peak else 1)
        return _cosine(max_lr, start / final_factor, min((step - peak) / (steps - 1 - peak), 1))

    return schedule


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
