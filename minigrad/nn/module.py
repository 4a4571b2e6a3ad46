"""Modules: functions that own parameters and have modes, and that can be saved, copied, shown and summed up."""

import functools
import inspect
import reprlib
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from minigrad import state, summary
from minigrad.engine import Setting, Switch, Tensor, clear, no_grad, setting, through
from minigrad.files import load_arrays, save_arrays
from minigrad.names import MODULES, say_instead
from minigrad.pictures import quoted, table
from minigrad.trees import Whole, named, parts

Self = TypeVar("Self", bound="Module")

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
        notes = summary.in_progress()
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
        children = [(key, part) for key, part in parts(self) if summary.has_modules(part) or callable(part)]
        lines = [f"({key}): {summary.shown(part)}".replace("\n", "\n  ") for key, part in children]
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
        with in_mode(self, training=False), no_grad():
            return summary.table_of(self, inputs)


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

    def forward_alone(self: Any, *given: Any) -> Any:  # without options, which is quicker
        return function(*given)

    own = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *map(signature.parameters.get, options)]
    init.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined, arg-type]
    about = f"`minigrad.nn.{function.__name__}` as a module, which is made of its options."
    its = {
        "__init__": init,
        "forward": forward if options else forward_alone,
        "__doc__": about,
        "__module__": function.__module__,
    }
    return type(name, (Module,), its)


say_instead(Module, MODULES)


def in_mode(model: Any, training: bool) -> Switch:
    """A switch that has all modules in `model` in training or evaluation mode, for this thread and async task only.

    In evaluation, so is every other module, since those that a plain function uses cannot be seen.
    """
    outer = setting(_modes)
    modes = {id(item): training for _, item in named(model) if isinstance(item, Module)}
    around: dict[int | None, bool] = outer.value if outer else {}
    return Switch(_modes, {**around, **modes, **({} if training else {None: False})})
