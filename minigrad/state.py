"""The state of an object, of any kind: its tensors and arrays by name, to be listed, copied and given back.

Of a module, it is every leaf that requires a gradient, and every tensor and array of numbers that the module had when
it was constructed, but for those with an underscore before their names. What `forward` leaves behind for a reader, as
in `self.out = ...`, is none. Other objects do not remember how they were constructed: it is all leaf tensors of them.

Parameters are the leaves that require a gradient, or did so before they were frozen.
"""

import functools
import reprlib
from abc import ABCMeta
from collections.abc import Iterable, Iterator, Mapping
from inspect import Signature, signature
from random import Random
from typing import Any

import numpy as np

from minigrad.engine import Array, Tensor, retains
from minigrad.names import check_keywords
from minigrad.trees import named, part_named, parts, put_part


class Constructed(ABCMeta):
    """The class of classes whose objects remember the names of what they had when they were constructed."""

    _constructed: frozenset[str]

    @property
    def __signature__(cls) -> Signature:
        """That of the constructor, for help() and the like."""
        return signature(functools.partial(cls.__init__, None))  # type: ignore[misc]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        check_keywords(cls, kwargs)
        made = super().__call__(*args, **kwargs)
        its_own = frozenset(rest for _, owner, rest, _ in _belongings(made) if owner is made)
        object.__setattr__(made, "_constructed", its_own)  # also where it is a frozen dataclass
        return made


def _belongings(obj: Any) -> Iterator[tuple[str, Any, str, Any]]:
    """All that is state: its name, the innermost module that it belongs to, its name there, and the thing itself."""
    modules: dict[str, Any] = {}
    for name, item in named(obj):
        if isinstance(type(item), Constructed):
            modules[name] = item
        elif isinstance(item, (Tensor, np.ndarray, np.generic)):
            head, rest = _parted(name, modules)
            owner = modules.get(head)
            if _is_parameter(item) or _is_kept(item, owner, rest):
                yield name, owner, rest, item
        elif isinstance(item, (set, frozenset)):
            _check_set(name, item)


def _parted(name: str, modules: Mapping[str, Any]) -> tuple[str, str]:
    """The longest part before a dot that is the name of a module, or "", and what follows it."""
    head, _, rest = name.rpartition(".")
    while head and head not in modules:
        head, _, last = head.rpartition(".")
        rest = f"{last}.{rest}"
    return head, rest


def _is_parameter(item: Any) -> bool:
    return isinstance(item, Tensor) and item.function is None and retains(item)


def _is_kept(item: Any, owner: Any, rest: str) -> bool:
    if item.dtype.kind not in "biufc" or (isinstance(item, Tensor) and item.function is not None):
        return False
    at_first = getattr(owner, "_constructed", None)
    if at_first is not None:
        return rest in at_first
    is_array = isinstance(item, np.ndarray) and owner is not None  # a scalar of NumPy's is an option, as a float is
    return (isinstance(item, Tensor) or is_array) and not any(part.startswith("_") for part in rest.split("."))


def _check_set(name: str, things: Any) -> None:
    for thing in things:
        if any(isinstance(part, Tensor) or is_generator(part) for _, part in named(thing)):
            what = f"{name or 'this'} is a set that holds {type(thing).__name__}"
            raise TypeError(f"{what}: what is in it has no order, and so no names. Keep it in a list or a dict.")


def named_state(obj: Any) -> dict[str, Any]:
    """The tensors and arrays that are the state of an object, by name; a shared one once, by its first name."""
    return _by_name(obj, "things", ((name, item) for name, _, _, item in _belongings(obj)))


def _by_name(obj: Any, what: str, found: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    by_name: dict[str, Any] = {}
    for name, item in found:
        if by_name.setdefault(name, item) is not item:
            raise ValueError(f"two {what} in {type(obj).__name__} have the name {name!r}: give one of them another")
    return by_name


def named_parameters(obj: Any) -> list[tuple[str, Tensor]]:
    """The parameters in `obj`, also frozen ones, with names like `layers.0.weight`; a shared one once.

    >>> named_parameters({"layers": [Tensor(2.0, requires_grad=True)]})
    [('layers.0', Tensor(2., requires_grad=True))]
    """
    return [(name, item) for name, item in named_state(obj).items() if _is_parameter(item)]


def parameters(obj: Any) -> list[Tensor]:
    """The leaf tensors in `obj` that require a gradient, or did so before they were frozen; a shared one once.

    >>> parameters({"scale": Tensor(2.0, requires_grad=True), "rest": [1, 2]})
    [Tensor(2., requires_grad=True)]
    """
    return [parameter for _, parameter in named_parameters(obj)]


def is_generator(thing: Any) -> bool:
    """Whether it draws random numbers, for NumPy or for Python."""
    return isinstance(thing, (np.random.Generator, np.random.RandomState, np.random.BitGenerator, Random))


def named_generators(obj: Any) -> dict[str, Any]:
    """All generators of random numbers in an object by name; a shared one once."""
    return _by_name(obj, "generators", ((name, item) for name, item in named(obj) if is_generator(item)))


def state_dict(obj: Any) -> dict[str, Array]:
    """A copy of the state of `obj`, its tensors and arrays by name; also of those that require no gradient."""
    return {
        name: (item.data if isinstance(item, Tensor) else np.asarray(item)).copy()
        for name, item in named_state(obj).items()
    }


def load_state_dict(obj: Any, state: Mapping[str, Any], strict: bool = True) -> None:
    """Take over the numbers of a state dict, in the dtypes that the tensors and arrays have.

    What has several names here, since it is shared, may come by any of them. Raises one ValueError that lists all
    names that are missing, unexpected, or of arrays that do not fit, and changes nothing then. Unless `strict`, missing
    and unexpected names are passed over. Tensors stay the same objects; an array is replaced, and so never overwritten.
    Anything that NumPy takes for an array will do, such as tensors of PyTorch in the memory of the machine, also those
    that require a gradient, or of bfloat16.
    """
    own = named_state(obj)
    arrays = fitting_arrays(obj, own, _by_first_names(obj, own, state), strict)
    new = {id(own[name]): array for name, array in arrays.items() if not isinstance(own[name], Tensor)}
    places = list(_places(obj, new)) if new else []
    for name, array in arrays.items():
        if isinstance(own[name], Tensor):
            own[name].data = array
    for holder, key, array in places:
        put_part(holder, key, array)


def fitting(obj: Any, announced: Mapping[str, Array]) -> Mapping[str, Array]:
    """What the header of a file announces, if it fits the state of an object; see `files.load_arrays`."""
    own = named_state(obj)
    fitting_arrays(obj, own, _by_first_names(obj, own, announced), True)
    return announced


def _by_first_names(obj: Any, own: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """A state by those names that `named_state` gives."""
    _check_names(state)
    names = {id(item): name for name, item in own.items()}
    arrays: dict[str, Any] = {}
    for name, array in state.items():
        first = name if name in own else names.get(id(part_named(obj, name)), name)
        if first in arrays:
            before, now, shape = _numbers(arrays[first]), _numbers(array), own[first].shape
            if before.shape != now.shape or (now.shape == shape and before.tobytes() != now.tobytes()):  # nan is nan
                raise ValueError(f"{first} has several names in {type(obj).__name__}, and here different numbers")
        arrays[first] = array
    return arrays


def _check_names(state: Any) -> None:
    if not hasattr(state, "keys"):
        wanted = "wanted a dict of names and arrays, as state_dict() gives"
        raise TypeError(f"load_state_dict got {reprlib.repr(state):.80}; {wanted}.")


def _places(obj: Any, new: Mapping[int, Array]) -> Iterator[tuple[Any, Any, Array]]:
    """Where the arrays in an object are held that are to be replaced, with the new ones."""
    for name, holder in named(obj):
        for key, part in parts(holder):
            if id(part) not in new or np.array_equal(part, new[id(part)], equal_nan=part.dtype.kind in "fc"):
                continue
            if isinstance(holder, (tuple, functools.partial)):
                raise ValueError(f"{name}.{key} is held by a tuple, which cannot hold another array: use a list")
            yield holder, key, new[id(part)]


def _numbers(value: Any) -> Array:
    """What is in a state as an array, without what a tensor remembers, and in float32 where NumPy lacks the dtype."""
    value = value.detach() if hasattr(value, "detach") else value
    if "bfloat16" in str(getattr(value, "dtype", "")):
        value = value.float() if hasattr(value, "float") else value.astype(np.float32)
    return np.asarray(value)


def fitting_arrays(owner: Any, wanted: Mapping[str, Any], state: Mapping[str, Any], strict: bool) -> dict[str, Array]:
    """The arrays of a state in the dtypes of those `wanted`, or one ValueError that lists all that do not fit."""
    _check_names(state)
    arrays, problems = {}, []
    if strict:
        problems += [f"missing: {name}" for name in wanted if name not in state]
        problems += [f"unexpected: {name}" for name in state if name not in wanted]
    for name in wanted:
        if name in state:
            shape, dtype = wanted[name].shape, wanted[name].dtype
            try:
                array = _numbers(state[name])
            except Exception as error:  # of any kind, from any library
                problems.append(f"no array: {name} is of type {type(state[name]).__name__}: {error}")
                continue
            if array.shape != shape:
                problems.append(f"misshapen: {name} is {array.shape}, and {shape} was wanted")
            elif array.dtype.kind not in ("biufc" if dtype.kind == "c" else "biuf"):
                problems.append(f"not a real number: {name} is of dtype {array.dtype}")
            else:
                with np.errstate(all="ignore"):
                    arrays[name] = array.astype(dtype)
                if not _is_the_same(arrays[name], array):
                    problems.append(f"not of dtype {dtype}: {name} has numbers of {array.dtype} that it cannot hold")
    if problems:
        raise ValueError(f"this state does not fit {type(owner).__name__}:\n  " + "\n  ".join(problems))
    return arrays


def _is_the_same(cast: Array, array: Array) -> bool:
    """Whether an array is another in its own dtype, up to rounding: an integer is not rounded, and no number lost."""
    if cast.dtype.kind in "biu":
        return bool(np.array_equal(cast, array))
    return bool(np.array_equal(np.isfinite(cast), np.isfinite(array)))
