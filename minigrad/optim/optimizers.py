"""Optimizers and gradient clipping, in order of increasing complexity.

An optimizer is a formula, `update(p, g, *state) -> (p, *state)`, the lines of the paper. How it is applied is said once
for all of them: small parameters become views of one vector, so that a step is a handful of NumPy calls however many
layers there are, and long vectors are moved part by part, so that what lies between stays in the cache.
"""

import copy
import functools
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np

from minigrad.engine import (  # isort: skip
    Array, Tensor, any_mode, array_of, call_other, clear, mode, number_of, quietly, rebind, requires_grad_of, retains,
    set_numbers, through, touch,
)  # fmt: skip
from minigrad.names import OPTIMIZERS, say_instead
from minigrad.optim.checks import at_least_zero, fraction
from minigrad.state import fitting_arrays, named_parameters
from minigrad.tables.composites import composition
from minigrad.tables.linalg import taken_apart
from minigrad.tables.rules import wide
from minigrad.trees import Sealed, Whole

CHUNK = 2**16  # elements that are moved at a time; a larger parameter has a vector of its own

Parameters: TypeAlias = Any  # a model, a Tensor, or an iterable of Tensors, pairs of a name and a Tensor, or groups


def named_tensors(parameters: Parameters) -> dict[str, Any]:
    """What is meant by parameters, each once, by the names in the model, or else numbered."""
    if isinstance(parameters, (Whole, Mapping)) or not isinstance(parameters, Iterable):
        return dict(named_parameters(parameters))
    listed: list[Any] = [parameters] if isinstance(parameters, Tensor) else [*parameters]
    if all(isinstance(each, tuple) and isinstance(each[0], str) for each in listed):
        names = {id(tensor): name for name, tensor in reversed(listed)}
        if len({*names.values()}) < len(names):
            raise ValueError(f"two parameters have one name, of {', '.join(name for name, _ in listed)}")
        return {names[id(tensor)]: tensor for _, tensor in listed}
    return {str(i): each for i, each in enumerate({id(each): each for each in listed}.values())}


def _is_group(parameters: Any) -> bool:
    return isinstance(parameters, Mapping) and not isinstance(parameters, Whole)


class Flat(Sealed):
    """Parameters of one dtype in one vector, of which they become views, so that they are moved at once.

    Their learning rate is `factor` times the optimizer's, and its weight decay is theirs unless they have a `decay`.
    A complex number is two real ones there, and moves by the conjugate of its gradient; see `tables.rules`.
    """

    def __init__(self, parameters: list[Tensor], slots: int, factor: float = 1.0, decay: float | None = None) -> None:
        self.parameters, self.factor, self.decay = parameters, factor, decay
        numbers = np.concatenate([parameter.data for parameter in parameters], axis=None)
        self.vector = Tensor(np.array(numbers.view(numbers.real.dtype)))  # which owns its memory
        self.data = self.vector.data
        zeros = self.parts(np.zeros_like(self.data))
        self.rows = list(zip(parameters, self.parts(self.data), zeros, strict=True))
        for parameter, view, _ in self.rows:
            rebind(parameter, view)
        self.state = [Tensor(np.zeros(self.data.shape, wide(self.data.dtype))) for _ in range(slots)]

    def __reduce__(self) -> Any:
        made_of = self.parameters, len(self.state), self.factor, self.decay
        return Flat, made_of, {"state": self.state}  # of the copied parameters, as views

    def parts(self, vector: Array) -> list[Array]:
        """The parts of a vector that belong to the parameters, in their shapes."""
        numbers = vector.view(self.parameters[0].dtype)
        return taken_apart(numbers, [parameter.shape for parameter in self.parameters])

    def settle(self) -> None:
        """Bring what was assigned to `.data` to where it belongs."""
        for parameter, view, _ in self.rows:
            if array_of(parameter) is not view:
                view[...] = array_of(parameter)
                rebind(parameter, view)

    def gradient(self) -> Any:
        """The gradients as one vector, with zeros for None."""
        gradients = [zeros if (g := parameter.grad) is None else g for parameter, _, zeros in self.rows]
        g = gradients[0].ravel() if len(gradients) == 1 else np.concatenate(gradients, axis=None)
        return g if g.dtype.kind == "f" else np.stack([np.real(g), -np.imag(g)], -1).ravel()


class Numbers(Sealed, SimpleNamespace):
    """The numbers of an optimizer, in 0-d Tensors."""


class Number:
    """An attribute that is a number to its users and lies in a 0-d Tensor, so that programs read and write it anew."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Any, kind: type | None = None) -> Any:
        if optimizer is None:
            return self
        number = getattr(optimizer.numbers, self.name)
        return number.item() if type(optimizer.numbers) is Numbers else number  # in `moved_by`, what stands for it

    def __set__(self, optimizer: Any, number: float) -> None:
        if not isinstance(number, Tensor) or mode() is None:  # under a mode, it may be one without a number
            at_least_zero(**{self.name: number})
        getattr(optimizer.numbers, self.name).data = number


class Optimizer:
    """What all optimizers share: `lr`, the step, and the state that a checkpoint keeps.

    `parameters` is a model, or leaf tensors, such as `model.parameters()`; each counts once. Frozen ones are passed
    over, and RuntimeError is raised if that changes later: what is frozen or thawed then needs a new optimizer.
    `weight_decay` adds that multiple of a parameter to its gradient. A parameter that has received no gradient has one
    of zero. In the state, a model's parameters have the names that they have there, and others are numbered.

    Groups of them, `[{"params": ..., "lr": ..., "weight_decay": ...}, ...]`, may have rates of their own. `lr` is then
    that of the others, and what is assigned to it later, as by a schedule, scales the rates of all groups alike. In the
    state, the number of the group stands before the names of its parameters.

    A subclass is a formula, `update`:

    >>> class SignDescent(Optimizer):
    ...     def update(self, p, g):
    ...         return p - self.lr * np.sign(g)
    >>> p = Tensor([1.0, -2.0], requires_grad=True)
    >>> np.sum(p**2).backward()
    >>> SignDescent([p], lr=0.1).step()
    >>> p
    Tensor([ 0.9, -1.9], requires_grad=True)
    """

    lr, steps = Number(), Number()
    slots: tuple[str, ...] = ()  # names of what the algorithm remembers for every number of a parameter

    def __init__(self, parameters: Parameters, lr: float, weight_decay: float = 0.0) -> None:
        at_least_zero(lr=lr, weight_decay=weight_decay)
        given = list(self._grouped(parameters, lr))
        for _, parameter, *_ in given:
            if not isinstance(parameter, Tensor) or parameter.function is not None or not retains(parameter):
                wanted = "leaf tensors that require a gradient, or a model of them"
                raise TypeError(f"{type(self).__name__} takes {wanted}, not {parameter!r}")
        grouped = [row for row in given if row[1].requires_grad]
        self.names, self.parameters = [name for name, *_ in grouped], [parameter for _, parameter, *_ in grouped]
        self._leaves, self._given = tuple(self.parameters), [(row[1], row[1].requires_grad) for row in given]
        if not self.parameters:
            why = "all of them are frozen" if given else "give it tensors, such as model.parameters()"
            raise ValueError(f"{type(self).__name__} got no parameters: {why}")
        flats: dict[Any, list[Tensor]] = {}
        for _, parameter, *of_group in grouped:
            alone = id(parameter) if parameter.size > CHUNK else None
            flats.setdefault((parameter.dtype, alone, *of_group), []).append(parameter)
        self.weight_decay, self.numbers = weight_decay, Numbers(lr=Tensor(float(lr)), steps=Tensor(0), options=())
        self.flats = [Flat(those, len(self.slots), *of_group) for (_, _, *of_group), those in flats.items()]

    def _grouped(self, parameters: Parameters, lr: float) -> Iterator[tuple[str, Any, float, float | None]]:
        """The parameters by name, each with the factor of its learning rate and the weight decay that its group has."""
        if _is_group(parameters) and "params" in parameters and {"lr", "weight_decay"} & parameters.keys():
            parameters = [parameters]
        parameters = [*parameters] if isinstance(parameters, Iterator) else parameters
        if not isinstance(parameters, (list, tuple)) or not any(map(_is_group, parameters)):
            yield from ((name, parameter, 1.0, None) for name, parameter in named_tensors(parameters).items())
            return
        seen: dict[int, int] = {}
        for number, group in enumerate(parameters):
            of_group: Any = group if _is_group(group) else {"params": [group]}
            if not {"params"} <= of_group.keys() <= {"params", "lr", "weight_decay"}:
                raise ValueError(f"a group of parameters has params, and lr or weight_decay; this one has {[*group]}")
            own, decay = of_group.get("lr", lr), of_group.get("weight_decay")
            at_least_zero(lr=own, weight_decay=0.0 if decay is None else decay)
            if own != lr and not lr:
                raise ValueError(f"lr={own} of a group is kept as a multiple of the optimizer's, which must not be 0")
            for name, parameter in named_tensors(of_group["params"]).items():
                if seen.setdefault(id(parameter), number) != number:
                    raise ValueError(f"the parameter of shape {np.shape(parameter)} is in two groups")
                yield f"{number}.{name}", parameter, own / lr if own != lr else 1.0, decay

    def of(self, flat: Flat) -> Any:
        """The optimizer as it is for these parameters, with the options of their group."""
        if flat.factor == 1 and flat.decay is None:
            return self
        other: Any = copy.copy(self)
        other.numbers = SimpleNamespace(lr=self.lr * flat.factor, steps=self.steps)
        other.weight_decay = self.weight_decay if flat.decay is None else flat.decay
        return other

    def update(self, p: Any, g: Any, *state: Any) -> Any:
        """The formula: from parameters, their gradient and what is named in `slots`, zero at first, to `(p, *state)`.

        All are arrays of one shape and dtype. It works element by element, since it may be shown any part of the
        parameters at a time. It may return new arrays, or be written with `p -= ...` and the like, which moves an array
        in place and makes a new Tensor; the gradient is not written to. `self.steps` counts from 1, and nothing warns.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method update(self, p, g, *state) -> (p, *state)")

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self)).parameters if name != "parameters"]
        options = "".join(f", {name}={getattr(self, name)!r}" for name in names if hasattr(self, name))
        return f"{type(self).__name__}({len(self.parameters)} parameters{options})"

    def decay(self, p: Any, g: Any) -> tuple[Any, Any]:
        """The parameters and their gradient with the decay of the weights in it."""
        return p, g + self.weight_decay * p

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        through("write", clear, self._leaves)

    def is_finite(self) -> bool:
        """Whether no parameter is nan or inf, as the last step left them."""
        return all(np.isfinite(flat.data).all() for flat in self.flats)

    def step(self) -> None:
        """Move all parameters once, by their gradients; where one diverges, it shows in the loss."""
        for parameter, moves in self._given:
            if requires_grad_of(parameter) is not moves:
                what = f"the parameter of shape {parameter.shape} was {'frozen' if moves else 'thawed'} after this"
                raise RuntimeError(f"{what} optimizer was made: make a new one of the parameters that are to move.")
        for flat in self.flats:
            flat.settle()
        if any_mode() is not None and mode():
            if type(self).__module__ == __name__:  # the formulas below depend on the options alone
                options = tuple([option for option in vars(self).values() if not isinstance(option, (list, Numbers))])
                if self.numbers.options != options:  # while they are equal, it is the very tuple, which is quick to see
                    self.numbers.options = options
                call_other(moved_by, (self, self.numbers.options))
            else:
                moved_by(self)
            return
        gradients = [flat.gradient() for flat in self.flats]
        steps = array_of(self.numbers.steps)
        steps += 1
        try:
            quietly(self._move_all, gradients)
        except BaseException:
            steps -= 1
            raise

    def _move_all(self, gradients: list[Array]) -> None:
        for flat, g in zip(self.flats, gradients, strict=True):
            touch(flat.parameters)
            vectors, formula = [flat.data, *map(array_of, flat.state)], self.of(flat)
            if g.size <= CHUNK:
                formula._move(vectors, g)
                continue
            for start in range(0, g.size, CHUNK):
                part = slice(start, start + CHUNK)
                formula._move([vector[part] for vector in vectors], g[part])

    def _move(self, vectors: list[Array], g: Array) -> None:
        moved = self.moved(vectors, g)
        pairs = [(old, new) for old, new in zip(vectors, moved, strict=True) if new is not old]  # some may be swapped
        copies = [new.copy() if any(new is other for other in vectors) else new for _, new in pairs]
        for (old, _), new in zip(pairs, copies, strict=True):
            old[...] = new

    def moved(self, vectors: list[Any], g: Any) -> Sequence[Any]:
        data, *state = vectors
        p = data
        if p.dtype == np.float16:  # which has no 1e-8
            p, g = p.astype(np.float32), g.astype(np.float32)
        p, g = self.decay(p, g) if self.weight_decay else (p, g)
        moved = self.update(p, g, *state)
        moved = moved if isinstance(moved, tuple) else (moved,)
        if [getattr(new, "shape", None) for new in moved] != [data.shape] * len(vectors):
            raise ValueError(
                f"{type(self).__name__}.update returned shapes {[*map(np.shape, moved)]}; wanted {data.shape} for "
                f"each of {', '.join(['p', *self.slots])}. Does it return them?"
            )
        return moved

    def _remembered(self, names: Sequence[str] | None) -> dict[str, Array]:
        """What is remembered for each parameter, in its shape."""
        named = {id(parameter): name for name, parameter in zip(names or self.names, self.parameters, strict=True)}
        return {
            f"{slot}.{named[id(parameter)]}": part
            for flat in self.flats
            for slot, vector in zip(self.slots, flat.state, strict=True)
            for parameter, part in zip(flat.parameters, flat.parts(array_of(vector)), strict=True)
        }

    def state_dict(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """A copy of what changes from step to step, besides the parameters and their gradients.

        `names` are those of the parameters, in the order of `parameters`, if they are to have others than their own.
        """
        remembered = {name: part.copy() for name, part in self._remembered(names).items()}
        return {"lr": self.lr, "steps": self.steps, **remembered}

    def load_state_dict(self, state: Mapping[str, Any], names: Sequence[str] | None = None) -> None:
        """Take over the state of the same kind of optimizer over the same parameters, or raise and change nothing."""
        own = {name: np.asarray(value) for name, value in self.state_dict(names).items()}
        arrays = fitting_arrays(self, own, state, True)
        lr, steps = float(arrays["lr"]), int(arrays["steps"])
        at_least_zero(lr=lr, steps=steps)
        self.lr, self.steps = lr, steps
        for name, part in self._remembered(names).items():
            part[...] = arrays[name]


say_instead(Optimizer, OPTIMIZERS)


def moved_by(optimizer: Any, options: Any = ()) -> None:
    """The step of an optimizer, of which a mode can see every call and every write."""
    formula = copy.copy(optimizer)
    held = optimizer.numbers
    steps = through("read", number_of, held.steps) + 1
    formula.numbers = SimpleNamespace(lr=through("read", number_of, held.lr), steps=steps)
    through("write", set_numbers, held.steps, steps)
    for flat in optimizer.flats:
        vectors = [flat.vector, *flat.state]
        arrays = [through("read", array_of, vector) for vector in vectors]
        for vector, new in zip(vectors, quietly(formula.of(flat).moved, arrays, flat.gradient()), strict=True):
            through("write", set_numbers, vector, new)


composition(moved_by)


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
        self, parameters: Parameters, lr: float = 0.01, momentum: float = 0.0, nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        at_least_zero(momentum=momentum)
        if not isinstance(nesterov, bool):
            raise TypeError(f"got nesterov={nesterov!r}; wanted True or False.")
        if nesterov and not momentum:
            raise ValueError("nesterov=True looks ahead by the momentum: give one, such as momentum=0.9")
        self.momentum, self.nesterov = momentum, nesterov
        self.slots = ("velocity",) if momentum else ()
        super().__init__(parameters, lr, weight_decay)

    def update(self, p: Any, g: Any, velocity: Any = None) -> Any:
        if velocity is None:
            p -= self.lr * g
            return p
        velocity *= self.momentum
        velocity += g
        p -= self.lr * (g + self.momentum * velocity if self.nesterov else velocity)
        return p, velocity


class RMSprop(Optimizer):
    """Gradients divided by a running root mean square (Tieleman and Hinton, Coursera lecture 6.5, 2012).

        s = alpha * s + (1 - alpha) * g^2
        p = p - lr * g / (sqrt(s) + eps)

    >>> p = Tensor([1.0, -2.0], requires_grad=True)
    >>> np.sum(p**2).backward()
    >>> RMSprop([p], lr=0.05).step()
    >>> p.data.round(4)
    array([ 0.5, -1.5])
    """

    slots = ("s",)

    def __init__(
        self, parameters: Parameters, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        fraction(alpha=alpha)
        at_least_zero(eps=eps)
        self.alpha, self.eps = alpha, eps
        super().__init__(parameters, lr, weight_decay)

    def update(self, p: Any, g: Any, s: Any) -> Any:
        s *= self.alpha
        s += (1 - self.alpha) * np.square(g)
        p -= self.lr * g / (np.sqrt(s) + self.eps)
        return p, s


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, ICLR 2015, arXiv:1412.6980, algorithm 1).

        m = beta1 * m + (1 - beta1) * g                 with betas = (beta1, beta2), in step t
        v = beta2 * v + (1 - beta2) * g^2
        p = p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    >>> p = Tensor([1.0, -2.0], requires_grad=True)
    >>> np.sum(p**2).backward()
    >>> Adam([p], lr=0.1).step()
    >>> p
    Tensor([ 0.9, -1.9], requires_grad=True)
    """

    slots = ("m", "v")

    def __init__(
        self, parameters: Parameters, lr: float = 0.001, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"got betas={betas!r}; wanted two numbers, such as (0.9, 0.999).")
        fraction(beta1=betas[0], beta2=betas[1])
        at_least_zero(eps=eps)
        self.betas, self.eps = betas, eps
        super().__init__(parameters, lr, weight_decay)

    def update(self, p: Any, g: Any, m: Any, v: Any) -> Any:
        beta1, beta2 = self.betas
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * np.square(g)
        rate, root = self.lr / (1 - beta1**self.steps), np.sqrt(1 - beta2**self.steps)
        p -= rate * m / (np.sqrt(v) / root + self.eps)
        return p, m, v


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient (Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101).

        p = p - lr * weight_decay * p, then the step of Adam

    >>> p = Tensor([1.0, -2.0], requires_grad=True)
    >>> np.sum(p**2).backward()
    >>> AdamW([p], lr=0.1, weight_decay=0.5).step()
    >>> p
    Tensor([ 0.85, -1.8 ], requires_grad=True)
    """

    def __init__(
        self, parameters: Parameters, lr: float = 0.001, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def decay(self, p: Any, g: Any) -> tuple[Any, Any]:
        p -= self.lr * self.weight_decay * p
        return p, g


def clip_grad_norm(parameters: Parameters, max_norm: float) -> float:
    """Scale the gradients of `parameters` to a common Euclidean norm of at most `max_norm`; returns the norm before.

    Pascanu et al., ICML 2013 (arXiv:1211.5063). Call it between backward() and step(), with a model, a tensor, or
    tensors; `fit` has an argument for it. When a gradient is inf or nan, so is the norm, and no gradient is changed:
    there is no length to scale to.

    >>> p = Tensor([3.0, 4.0], requires_grad=True)
    >>> np.sum(p * p / 2).backward()
    >>> clip_grad_norm([p], max_norm=1.0), p.grad
    (5.0, array([0.6, 0.8]))
    """
    at_least_zero(max_norm=max_norm)
    tensors = named_tensors(parameters).values()
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise TypeError(f"clip_grad_norm takes a model, a tensor, or tensors, and found none in {parameters!r}")
    gradients = {p: g for p in tensors if (g := p.grad) is not None}
    norms = [np.linalg.norm(g.astype(np.result_type(g, float))) for g in gradients.values()]  # float32 could overflow
    total: Any = functools.reduce(np.hypot, norms, np.float64(0))
    scale = np.where((max_norm < total) & (total < math.inf), max_norm / np.where(total > 0, total, 1), 1)
    for parameter, g in gradients.items():
        parameter.grad = g * scale.astype(g.dtype)
    return total if isinstance(total, Tensor) else float(total)  # type: ignore[return-value]
