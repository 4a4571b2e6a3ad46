"""What other libraries call what is here: whoever asks for a name that there is not is told what to write.

Each table has names of PyTorch, Keras and autograd, and what stands for them here. A class that is given one raises at
these names alone, since a `__getattr__` would slow down all other attributes: of Tensors, by 6 % of a small step.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from inspect import getattr_static, signature
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np

from minigrad.engine import Tensor, elsewhere

P = ParamSpec("P")
R = TypeVar("R")

HERE = "nothing, since all arrays are in the memory of this machine"

# fmt: off
TENSORS = {
    "numpy":             "t.data, or t.detach() for a Tensor without history",
    "values":            "t.data, or t.detach() for a Tensor without history",
    "view":              "t.reshape(2, 3)",
    "view_as":           "t.reshape(other.shape)",
    "permute":           "t.transpose(1, 0)",
    "t":                 "t.T",
    "mm":                "t @ other",
    "bmm":               "t @ other",
    "unsqueeze":         "t[None], or np.expand_dims(t, axis)",
    "expand":            "np.broadcast_to(t, shape)",
    "cat":               "np.concatenate([t, other])",
    "norm":              "np.linalg.norm(t)",
    "sigmoid":           "mg.nn.sigmoid(t)",
    "relu":              "mg.nn.relu(t)",
    "softmax":           "mg.nn.softmax(t, axis=-1)",
    "log_softmax":       "mg.nn.log_softmax(t, axis=-1)",
    "gather":            "np.take_along_axis(t, indices, axis)",
    "masked_fill":       "np.where(mask, value, t)",
    "clamp":             "t.clip(low, high)",
    "pow":               "t ** power",
    "add":               "t + other",
    "add_":              "t += other",
    "fill":              "t.data = np.full(t.shape, value)",
    "sort":              "np.sort(t), which returns a new Tensor",
    "put":               "mg.put(t, index, values)",
    "to":                "t.astype(dtype)",
    "type":              "t.astype(dtype)",
    "float":             "t.astype(np.float32)",
    "double":            "t.astype(np.float64)",
    "half":              "t.astype(np.float16)",
    "long":              "t.astype(np.int64)",
    "cpu":               HERE,
    "cuda":              HERE,
    "to_device":         HERE,
    "contiguous":        "nothing, since every function takes arrays of any layout",
    "clone":             "t.copy()",
    "numel":             "t.size",
    "element_size":      "t.dtype.itemsize",
    "dim":               "t.ndim",
    "is_leaf":           "t.function is None",
    "grad_fn":           "t.function, which is the function of NumPy itself",
    "requires_grad_":    "t.requires_grad = True",
    "detach_":           "t = t.detach()",
    "zero_":             "t.zero_grad() for its gradient, or t.data = np.zeros(t.shape)",
    "register_hook":     "t.retain_grad(), and read t.grad after backward()",
}
MODULES = {
    "fit":               "mg.fit(model, loss, optimizer, (x, y), epochs=10)",
    "compile":           "mg.compile(model), or mg.fit(..., compile=True)",
    "predict":           "mg.predict(model, x)",
    "evaluate":          "mg.evaluate(model, loss, (x, y))",
    "to":                HERE,
    "cpu":               HERE,
    "cuda":              HERE,
    "register_buffer":   "self.name = array",
    "register_parameter":"self.name = mg.Tensor(array, requires_grad=True)",
}
OPTIMIZERS = {
    "param_groups":      "optimizer.lr and optimizer.parameters",
    "learning_rate":     "optimizer.lr",
    "minimize":          "optimizer.zero_grad(), loss.backward() and optimizer.step()",
}
ROOMS = {
    "tensor":            "mg.Tensor(array, requires_grad=True)",
    "from_numpy":        "mg.Tensor(array)",
    "functional":        "mg.nn.relu and the like: functions are beside the layers",
    "utils":             "mg.optim.clip_grad_norm(parameters, max_norm)",
    "lr_scheduler":      "mg.optim.cosine_schedule and the like, given to mg.fit(..., schedule=...)",
    "DataLoader":        "mg.data.batches(x, y, batch_size=32, rng=rng)",
    "DataParallel":      "mg.fit(..., distributed=True)",
    "DistributedDataParallel": "mg.fit(..., distributed=True)",
    "Dataset":           "arrays x and y, and mg.data.batches(x, y)",
    "cat":               "np.concatenate",
    "mm":                "a @ b",
    "manual_seed":       "rng=np.random.default_rng(0), which layers take",
    "make_vjp":          "mg.vjp(f, x)",
    "jit":               "mg.compile(f)",
    "jacrev":            "mg.jacobian(f)",
    "numpy":             "numpy itself: import numpy as np",
}
KEYWORDS = {
    "dim":               "axis=",
    "dims":              "axis=",
    "keepdim":           "keepdims=",
    "verbose":           "progress=False",
    "validation_data":   "validation=(x, y)",
    "validation_split":  "mg.data.train_test_split(x, y), and validation=(x, y)",
    "shuffle":           "nothing, since samples are shuffled in each epoch, by seed=",
    "learning_rate":     "lr=, an option of the optimizer",
    "lr_scheduler":      "schedule=, a function from the step to the rate",
    "scheduler":         "schedule=, a function from the step to the rate",
    "device":            HERE,
}
# fmt: on
elsewhere.update({name: KEYWORDS[name] for name in ("dim", "keepdim")})  # of NumPy's functions, shown Tensors


class Elsewhere:
    """An attribute that there is not: looking at it says what to write."""

    def __init__(self, name: str, instead: str) -> None:
        self.name, self.instead = name, instead

    def __get__(self, thing: Any, kind: type) -> NoReturn:
        raise AttributeError(f"a {kind.__name__} has no attribute {self.name!r}: write {self.instead}.")


def say_instead(kind: type, table: Mapping[str, str]) -> None:
    """Let the names of a table, as attributes that a class does not have, say what to write; dir() leaves them out."""
    for name, instead in table.items():
        if not hasattr(kind, name):
            setattr(kind, name, Elsewhere(name, instead))
    kind.__dir__ = visible  # type: ignore[method-assign, assignment]


def visible(thing: Any) -> list[str]:
    """What dir() shows of a thing: the names that it has."""
    return [name for name in object.__dir__(thing) if not isinstance(getattr_static(thing, name, None), Elsewhere)]


OF_ARRAYS = {name: f"t.data.{name}" for name in dir(np.ndarray) if not name.startswith("_")}
UFUNCS = {name: f"np.{name}(t)" for name, function in vars(np).items() if isinstance(function, np.ufunc)}
say_instead(Tensor, {**OF_ARRAYS, **UFUNCS, **TENSORS})


def missing(room: str, name: str) -> NoReturn:
    """Raise AttributeError for a name that a room does not have, which says what to write."""
    instead = ROOMS.get(name, f"np.{name}" if callable(vars(np).get(name)) else "")
    hint = f": write {instead}." if instead else ""
    raise AttributeError(f"module {room!r} has no attribute {name!r}{hint}", name=name)


def door(room: str, found: Callable[[str], Any] | None = None) -> None:
    """Let a room show its public names alone, and of others say what to write, or have them `found`."""
    # Not by assignments in the room, which would tell a type checker that every name exists.
    its = vars(sys.modules[room])
    its.update(__getattr__=found or functools.partial(missing, room), __dir__=lambda: sorted(its["__all__"]))


def check_keywords(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError for a keyword that other libraries have for one of a function's, or of a class's, own."""
    for name in KEYWORDS.keys() & kwargs:
        parameters = signature(function).parameters.values()
        if not any(each.name == name or each.kind is each.VAR_KEYWORD for each in parameters):
            raise TypeError(f"{function.__name__} has no {name}=: write {KEYWORDS[name]}.")


def keywords_here(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which says what to write for the keywords of other libraries."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        check_keywords(function, kwargs)
        return function(*args, **kwargs)

    return wrapper
