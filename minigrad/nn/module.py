"""Modules: functions that own parameters and have modes, and that can be saved, copied, shown and summed up."""

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from minigrad.engine import (  # isort: skip
    Mode, Setting, Switch, Tensor, call_other, clear, composites, no_grad, on, outside, setting, through,
)  # fmt: skip
from minigrad.files import load_arrays, save_arrays
from minigrad.names import MODULES, say_instead
from minigrad.nn import state
from minigrad.pictures import quoted, table
from minigrad.trees import Whole, named, parts

Self = TypeVar("Self", bound="Module")

PRODUCTS = (np.matmul, np.inner, np.einsum, np.convolve)

_notes: ContextVar["Notes | None"] = ContextVar("notes", default=None)
_modes: ContextVar[Setting | None] = ContextVar("training_modes", default=None)  # see `in_mode`


def flag(name: str, value: Any) -> bool:
    """A switch among the arguments as a bool; anything else would be taken for True, as "no" is."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"got {name}={value!r}; wanted True or False.")
    return bool(value)


class Module(Whole, metaclass=state.Constructed):
    """Something with parameters that is called like a function; subclasses define `forward`.

    Parameters are the tensors that require a gradient among its attributes, and in lists, tuples, dicts and objects
    there, also if they are frozen later; nothing is registered. The state, which is saved and loaded, has besides them
    all tensors and arrays that the module had once it was constructed, such as running statistics, but for attributes
    with an underscore in front.

    >>> from minigrad import Tensor
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Tensor(2.0, requires_grad=True)
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(np.array([1.0, 2.0]))
    Tensor([2., 4.], from np.multiply)
    """

    @property
    def training(self) -> bool:
        """True, but False in evaluation mode; see `train` and `eval`. In a thread that predicts, it is False there."""
        modes = {} if _modes.get() is None or (found := setting(_modes)) is None else found.value
        mode = modes.get(id(self), modes.get(None))
        return vars(self).get("training", True) if mode is None else mode  # type: ignore[no-any-return]

    @training.setter
    def training(self, mode: bool) -> None:
        found, mode = setting(_modes), flag("training", mode)
        if found is not None and id(self) in found.value:
            found.value[id(self)] = mode
        else:
            vars(self)["training"] = mode

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a method forward(self, ...), which is what a call runs")

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        notes = _notes.get()
        run = self.forward if notes is None else functools.partial(notes.taken, self, self.forward)
        return run(*args, **kwargs)  # type: ignore[no-any-return]

    def expect(self, x: Any, fits: bool, wanted: str) -> None:
        """Raise ValueError for an input that does not fit, with the shapes that came and that are wanted."""
        if not fits:
            raise ValueError(f"{self!r} got an input of shape {x.shape}, and {wanted} was wanted.")

    named_parameters, parameters = state.named_parameters, state.parameters
    state_dict, load_state_dict = state.state_dict, state.load_state_dict

    def train(self: Self, mode: bool = True) -> Self:
        """Set `training` on this module and all in it; Dropout, for one, heeds it."""
        mode = flag("mode", mode)
        for _, item in named(self):
            if isinstance(item, Module):
                item.training = mode
        return self

    def eval(self: Self) -> Self:
        """Set `training` to False on this module and all in it."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        through("write", clear, self.parameters())

    def save(self, path: str | Path) -> None:
        """Write the state to a `.npz` file; a file that stood there is replaced at once and whole.

        If `path` ends in `.safetensors`, it is one, by the package of that name, which PyTorch's users can load.
        """
        save_arrays(path, self.state_dict())

    def load(self, path: str | Path) -> None:
        """Take over the state that `save` wrote; see `load_state_dict`."""
        self.load_state_dict(load_arrays(path, lambda announced: state.fitting(self, announced)))

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        children = [(key, part) for key, part in parts(self) if _has_modules(part) or callable(part)]
        lines = [f"({key}): {_shown(part)}".replace("\n", "\n  ") for key, part in children]
        if lines:
            return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"
        default = {name: p.default for name, p in inspect.signature(type(self).__init__).parameters.items()}
        kinds = (bool, int, float, str, tuple)
        options = {k: v for k, v in vars(self).items() if isinstance(v, kinds) and k != "training"}
        wanted = [repr(options.pop(k)) for k, v in default.items() if v is inspect.Parameter.empty and k in options]
        usual = {k: [repr(v), repr((v,)), repr((v, v))] for k, v in default.items() if wanted}  # one for each axis
        others = {k: v for k, v in options.items() if repr(v) not in usual.get(k, [])}
        return f"{type(self).__name__}({', '.join([*wanted, *(f'{k}={v!r}' for k, v in others.items())])})"

    def _repr_html_(self) -> str:
        rows = [(name, p.shape, p.dtype, f"{p.size:,}") for name, p in self.named_parameters()]
        total = ("total", "", "", f"{sum(p.size for p in self.parameters()):,}")
        return f"<pre>{quoted(repr(self))}</pre>\n{table([('parameter', 'shape', 'dtype', 'numbers'), *rows, total])}"

    def summary(self, *inputs: Any) -> str:
        """A table of the layers: the shapes of their outputs, their parameters, and the multiply-adds of products.

        For each input, give the shape of one sample, (2,) or 2, or an array, as for layers that take integers. The
        model is run once, on zeros for shapes; n is the number of samples. Below stand the numbers of parameters that
        are trained and frozen, and the memory of the outputs of that run, which a step of training keeps.
        """
        dtype = next((parameter.dtype for parameter in self.parameters()), np.dtype(np.float32))
        shapes = [(each,) if isinstance(each, int) else each for each in inputs]
        arrays = [each if hasattr(each, "dtype") else np.zeros((1, *each), dtype) for each in shapes]
        with in_mode(self, training=False), no_grad(), outputs_noted() as notes, on(notes):
            self(*arrays)
        counted, memory = set[int](), 0
        rows = [("layer", "output shape", "parameters", "multiply-adds")]
        for layer, output, products in notes.rows:
            new = {id(each): each.size for each in state.parameters(layer) if id(each) not in counted}
            counted.update(new)
            if new or products or not _has_modules(parts(layer)):
                shape = ", ".join(["n", *map(str, np.shape(output)[1:])])
                name = type(layer).__name__ if _has_modules(parts(layer)) else _shown(layer)
                rows.append((name, f"({shape})", f"{sum(new.values()):,}", f"{products:,}"))
                memory += getattr(output, "size", 0) * getattr(output, "dtype", dtype).itemsize
        trained, frozen = (sum(p.size for p in self.parameters() if p.requires_grad is yes) for yes in (True, False))
        rows.append(("total", "", f"{trained + frozen:,}", f"{sum(products for _, _, products in notes.rows):,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
        rule, more = "-" * len(lines[0]), sum(np.size(a) for a in self.state_dict().values()) - trained - frozen
        end = [f"trained: {trained:,}, frozen: {frozen:,}, other state: {more:,}"] if frozen or more else []
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *end, f"outputs: {memory / 1000:,.1f} kB"])


def positive(owner: Any, **numbers: int) -> None:
    """Raise ValueError for sizes of a module that are not at least 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{type(owner).__name__} got {name}={number}: it must be at least 1")


def as_module(name: str, function: Callable[..., Any], inputs: int = 1) -> Any:
    """A class of modules that call a function of so many inputs, whose options are those of the constructor."""
    signature = inspect.signature(function)
    options = [*signature.parameters][inputs:]

    def init(self: Any, *args: Any, **given: Any) -> None:
        bound = signature.bind(*(None,) * inputs, *args, **given)
        bound.apply_defaults()
        vars(self).update((option, bound.arguments[option]) for option in options)

    def forward(self: Any, *given: Any) -> Any:
        return function(*given, **{option: getattr(self, option) for option in options})

    own = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *map(signature.parameters.get, options)]
    init.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined, arg-type]
    about = f"`minigrad.nn.{function.__name__}` as a module, which is made of its options."
    its = {"__init__": init, "forward": forward, "__doc__": about, "__module__": function.__module__}
    return type(name, (Module,), its)


say_instead(Module, MODULES)


def _has_modules(obj: Any) -> bool:
    return any(isinstance(item, Module) for _, item in named(obj))


def _shown(layer: Any) -> str:
    return repr(layer) if isinstance(layer, (Module, list, tuple, dict)) else getattr(layer, "__name__", repr(layer))


class Notes(Mode):
    """What a summary in progress sees: the layers that were called, what they returned, and how much was multiplied."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, Any, int]] = []
        self.products = 0

    def taken(self, layer: Callable[..., Any], call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a layer, and note what it returned, and the products that were not in the layers inside of it."""
        before, self.products = self.products, 0
        output = call(*args, **kwargs)
        self.rows.append((layer, output[0] if isinstance(output, tuple) and output else output, self.products))
        self.products = before
        return output

    def call(self, go_on: Callable[..., Any], function: Any, args: Any, kwargs: Any) -> Any:
        if go_on is call_other and function in composites:
            return composites[function](*args, **kwargs)
        answer = outside(go_on, function, args, kwargs)
        if function in PRODUCTS:  # of ones, it is the number of products
            self.products += int(np.sum(function(*(np.ones(np.shape(x)) if hasattr(x, "ndim") else x for x in args))))
        return answer


def called(layer: Callable[..., Any], x: Any) -> Any:
    """What any function returns; a `summary` in progress takes it for a layer."""
    notes = _notes.get()
    return layer(x) if notes is None or isinstance(layer, Module) else notes.taken(layer, layer, x)


@contextmanager
def outputs_noted() -> Iterator[Notes]:
    """Notes of the layers that are called in the block, with what each has returned."""
    notes = Notes()
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def in_mode(model: Any, training: bool) -> Switch:
    """A switch that has all modules in `model` in training or evaluation mode, for this thread and async task only.

    In evaluation, so is every other module, since those that a plain function uses cannot be seen.
    """
    outer = setting(_modes)
    modes = {id(item): training for _, item in named(model) if isinstance(item, Module)}
    around: dict[int | None, bool] = outer.value if outer else {}
    return Switch(_modes, {**around, **modes, **({} if training else {None: False})})
