"""What a model is made of, as a table: the layers that a run of it calls, and what each returns and multiplies."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from minigrad.engine import Mode, call_other, composites, on, outside
from minigrad.state import Constructed, parameters, state_dict
from minigrad.trees import named, parts

PRODUCTS = (np.matmul, np.inner, np.einsum, np.convolve)

_notes: ContextVar["Notes | None"] = ContextVar("notes", default=None)
in_progress = _notes.get  # the notes that are taken, or None


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


@contextmanager
def outputs_noted() -> Iterator[Notes]:
    """Notes of the layers that are called in the block, with what each has returned."""
    notes = Notes()
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def table_of(model: Any, inputs: Sequence[Any]) -> str:
    """The table of `minigrad.nn.Module.summary`, of a model in the mode that it is to be run in."""
    dtype = next((parameter.dtype for parameter in parameters(model)), np.dtype(np.float32))
    shapes = [(each,) if isinstance(each, int) else each for each in inputs]
    arrays = [each if hasattr(each, "dtype") else np.zeros((1, *each), dtype) for each in shapes]
    with outputs_noted() as notes, on(notes):
        model(*arrays)
    counted, memory = set[int](), 0
    rows = [("layer", "output shape", "parameters", "multiply-adds")]
    for layer, output, products in notes.rows:
        new = {id(each): each.size for each in parameters(layer) if id(each) not in counted}
        counted.update(new)
        if new or products or not has_modules(parts(layer)):
            shape = ", ".join(["n", *map(str, np.shape(output)[1:])])
            name = type(layer).__name__ if has_modules(parts(layer)) else shown(layer)
            rows.append((name, f"({shape})", f"{sum(new.values()):,}", f"{products:,}"))
            memory += getattr(output, "size", 0) * getattr(output, "dtype", dtype).itemsize
    trained, frozen = (sum(p.size for p in parameters(model) if p.requires_grad is yes) for yes in (True, False))
    rows.append(("total", "", f"{trained + frozen:,}", f"{sum(products for _, _, products in notes.rows):,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
    rule, more = "-" * len(lines[0]), sum(np.size(a) for a in state_dict(model).values()) - trained - frozen
    end = [f"trained: {trained:,}, frozen: {frozen:,}, other state: {more:,}"] if frozen or more else []
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *end, f"outputs: {memory / 1000:,.1f} kB"])


def has_modules(obj: Any) -> bool:
    return any(isinstance(type(item), Constructed) for _, item in named(obj))


def shown(layer: Any) -> str:
    is_structure = isinstance(layer, (list, tuple, dict)) or isinstance(type(layer), Constructed)
    return repr(layer) if is_structure else getattr(layer, "__name__", repr(layer))
