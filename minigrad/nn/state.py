"""The state of an object, of any kind: its tensors by name, to be listed, copied and given back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minigrad.engine import Array, Tensor
from minigrad.trees import named


def named_parameters(obj: Any) -> list[tuple[str, Tensor]]:
    """The leaf tensors in `obj` that require a gradient, with names like `layers.0.weight`; a shared one once."""
    tensors = [(name, item) for name, item in named(obj) if isinstance(item, Tensor)]
    return [(name, tensor) for name, tensor in tensors if tensor.requires_grad and tensor.function is None]


def parameters(obj: Any) -> list[Tensor]:
    """The leaf tensors in `obj` that require a gradient; a shared one once.

    >>> parameters({"scale": Tensor(2.0, requires_grad=True), "rest": [1, 2]})
    [Tensor(2., requires_grad=True)]
    """
    return [parameter for _, parameter in named_parameters(obj)]


def state_dict(obj: Any) -> dict[str, Array]:
    """A copy of all tensors in `obj` by name; those that require no gradient too."""
    return {name: item.data.copy() for name, item in named(obj) if isinstance(item, Tensor)}


def load_state_dict(obj: Any, state: Mapping[str, Any], strict: bool = True) -> None:
    """Take over the numbers of a state dict, in the dtypes that the tensors have.

    Raises one ValueError that lists all missing, unexpected and misshapen names, and changes nothing then. Unless
    `strict`, missing and unexpected names are passed over.
    """
    tensors = {name: item for name, item in named(obj) if isinstance(item, Tensor)}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for name, array in fitting_arrays(obj, shapes, state, strict).items():
        tensors[name].data = array.astype(tensors[name].dtype)


def fitting_arrays(owner: Any, shapes: Mapping[str, Any], state: Mapping[str, Any], strict: bool) -> dict[str, Array]:
    """The arrays of a state by name, or one ValueError that lists all that do not fit the `shapes` of their owner."""
    arrays = {name: np.asarray(state[name]) for name in shapes if name in state}
    problems = []
    if strict:
        problems += [f"missing: {name}" for name in shapes if name not in state]
        problems += [f"unexpected: {name}" for name in state if name not in shapes]
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            problems.append(f"misshapen: {name} is {array.shape}, and {shapes[name]} was wanted")
        elif array.dtype.kind not in "biuf":
            problems.append(f"not a real number: {name} is of dtype {array.dtype}")
    if problems:
        raise ValueError(f"this state does not fit {type(owner).__name__}:\n  " + "\n  ".join(problems))
    return arrays
