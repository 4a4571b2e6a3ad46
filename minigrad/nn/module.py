"""Modules: functions that own parameters and have modes, and that can be saved, copied, shown and summed up."""

import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from minigrad.engine import Setting, Switch, Tensor, clear, no_grad, setting, through
from minigrad.files import load_arrays, save_arrays
from minigrad.names import MODULES, say_instead
from minigrad.nn import state
from minigrad.pictures import quoted, table
from minigrad.trees import Whole, named, parts

Self = TypeVar("Self", bound="Module")

_outputs: ContextVar[list[tuple[Any, Any]] | None] = ContextVar("outputs", default=None)
_modes: ContextVar[Setting | None] = ContextVar("training_modes", default=None)  # see `in_mode`


def flag(name: str, value: Any) -> bool:
    """A switch among the arguments as a bool; anything else would be taken for True, as "no" is."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"got {name}={value!r}; wanted True or False.")
    return bool(value)


class Module(Whole, metaclass=state.Constructed):
    """Something with parameters that is called like a function; subclasses define `forward`.

    Parameters are the tensors that require a gradient among its attributes, and in lists, tuples, dicts and objects
    there; nothing is registered. The state, which is saved and loaded, has besides them all tensors and arrays that the
    module had once it was constructed, such as running statistics, but for attributes with an underscore in front.

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
        output: Tensor = self.forward(*args, **kwargs)
        if _outputs.get() is not None:
            note_output(self, output)
        return output

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
        """Write the state to a `.npz` file; a file that stood there is replaced at once and whole."""
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
        options = {k: v for k, v in vars(self).items() if k != "training" and isinstance(v, (bool, int, float, str))}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in options.items())})"

    def _repr_html_(self) -> str:
        rows = [(name, p.shape, p.dtype, f"{p.size:,}") for name, p in self.named_parameters()]
        total = ("total", "", "", f"{sum(p.size for p in self.parameters()):,}")
        return f"<pre>{quoted(repr(self))}</pre>\n{table([('parameter', 'shape', 'dtype', 'numbers'), *rows, total])}"

    def summary(self, input_shape: int | tuple[int, ...]) -> str:
        """A table of the layers, the shapes of their outputs and their numbers of parameters.

        `input_shape` is that of one sample, (2,) or 2; n is the number of samples. The model is run once, on zeros.
        """
        shape_of_one = (input_shape,) if isinstance(input_shape, int) else input_shape
        dtype = next((parameter.dtype for parameter in self.parameters()), np.dtype(np.float32))
        with in_mode(self, training=False), no_grad(), outputs_noted() as outputs:
            self(np.zeros((1, *shape_of_one), dtype))
        counted: set[int] = set()
        rows = [("layer", "output shape", "parameters")]
        for layer, output in outputs:
            new = {id(each): each.size for each in state.parameters(layer) if id(each) not in counted}
            counted.update(new)
            if new or not _has_modules(parts(layer)):
                shape = ", ".join(["n", *map(str, np.shape(output)[1:])])
                name = type(layer).__name__ if _has_modules(parts(layer)) else _shown(layer)
                rows.append((name, f"({shape})", f"{sum(new.values()):,}"))
        rows.append(("total", "", f"{sum(parameter.size for parameter in self.parameters()):,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


say_instead(Module, MODULES)


def _has_modules(obj: Any) -> bool:
    return any(isinstance(item, Module) for _, item in named(obj))


def _shown(layer: Any) -> str:
    return repr(layer) if isinstance(layer, (Module, list, tuple, dict)) else getattr(layer, "__name__", repr(layer))


def note_output(layer: Callable[..., Any], output: Any) -> None:
    """Note what a layer has returned, where that is wanted."""
    outputs = _outputs.get()
    if outputs is not None:
        outputs.append((layer, output))


@contextmanager
def outputs_noted() -> Iterator[list[tuple[Any, Any]]]:
    """A list of the layers that are called in the block, each with what it has returned."""
    noted: list[tuple[Any, Any]] = []
    token = _outputs.set(noted)
    try:
        yield noted
    finally:
        _outputs.reset(token)


def in_mode(model: Any, training: bool) -> Switch:
    """A switch that has all modules in `model` in training or evaluation mode, for this thread and async task only.

    In evaluation, so is every other module, since those that a plain function uses cannot be seen.
    """
    outer = setting(_modes)
    modes = {id(item): training for _, item in named(model) if isinstance(item, Module)}
    around: dict[int | None, bool] = outer.value if outer else {}
    return Switch(_modes, {**around, **modes, **({} if training else {None: False})})
