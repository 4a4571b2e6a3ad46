"""What all ranks of a training have alike, and when they see to it; see `minigrad.distributed`."""

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import numpy as np

from minigrad.distributed import Ranks, some_rows
from minigrad.engine import Array
from minigrad.state import load_state_dict, named_parameters, named_state
from minigrad.training.callbacks import below, restore, snapshot
from minigrad.training.history import Training


@contextmanager
def together(training: Training, ranks: Ranks) -> Iterator[None]:
    """A block in which an error on one rank ends all; in the end they take over what rank 0 has."""
    with ranks:
        yield
        take_over(training, ranks)


def begin(training: Training, ranks: Ranks, columns: dict[str, list[Array]], **options: Any) -> None:
    """Raise where ranks were given different data, of which some rows are compared, or options; take over the rest."""
    if ranks.size == 1:
        if ranks.communicator is not None:
            training.notes.append("this is the only rank: `mpirun -n 4 python train.py` starts 4 (PyPI's mpich has it)")
        return
    each = [(f"array {i} of the {name}", array) for name, arrays in columns.items() for i, array in enumerate(arrays)]
    data = {name: some_rows(array) for name, array in each}
    parameters = [(name, p.shape, str(p.dtype)) for name, p in named_parameters(training.trained())]
    made = {"names, shapes and dtypes of parameters": parameters, "class of the optimizer": type(training.optimizer)}
    given = {name: np.asarray(repr(option)) for name, option in (options | made).items()}
    ranks.compared({**data, **given}, "give all ranks the same data, model and options, from the same seeds")
    take_over(training, ranks)
    kept = ", ".join(_no_parameters(training))
    averaged = f"; {shorten(kept, 90)} are averaged at the end of each epoch" if kept else ""
    training.notes.append(f"{ranks.size} ranks share each batch{averaged}")


def take_over(training: Training, ranks: Ranks) -> None:
    """Take over the state that the training has on rank 0."""
    if ranks.size > 1:
        arrays = ranks.from_first(snapshot(training))
        if ranks.rank:
            training.lr = float(arrays["lr"])
            restore(training, arrays)


def compare(training: Training, ranks: Ranks) -> None:
    """Average what is no parameter and differs; raise where anything else does."""
    if ranks.size > 1:
        state = snapshot(training).items()
        arrays = {name: array for name, array in state if name.startswith(("tensors/", "optimizer/"))}
        hint = f"after epoch {training.epoch + 1} of the same steps; look for what is done on that rank alone"
        averaged = ranks.compared(arrays, hint, [f"tensors/{name}" for name in _no_parameters(training)])
        load_state_dict(training.trained(), below("tensors/", averaged), strict=False)


def _no_parameters(training: Training) -> list[str]:
    """The names of what belongs to the state of a model, and is not moved."""
    trained = training.trained()
    moved = dict(named_parameters(trained))
    return [name for name in named_state(trained) if name not in moved]
