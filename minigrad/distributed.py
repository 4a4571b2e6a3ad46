"""One training on many processes, on one machine or on many, over MPI; such a process is a rank.

`fit(..., distributed=True)`, in a program that is started by `OMP_NUM_THREADS=1 mpirun -n 4 python train.py`:

    before the first epoch   all ranks take over what rank 0 has: weights, optimizer, generators, what a checkpoint held
    before each epoch        all draw the same order from the generator of rank 0; after that, generators that a model
                             owns, as Dropout does, are set on rank k by theirs on rank 0, and k
    in each step             each rank walks back over its share of the batch, `shard`; the gradients, weighted by the
                             samples in the shares, are summed by one Allreduce per dtype, `average`; then all clip, and
                             do the same step. A rank without a share adds zeros
    of what it measures      the loss is the weighted mean; metrics are given the predictions for the whole batch
    after each epoch         running statistics are averaged; checksums of weights and optimizer are compared; a rank
                             that differs ends the training; rank 0 calls the callbacks, writes and shows; all take over
                             what these have changed

So a batch has as many samples as ever, whatever the number of ranks, and a loss must be a mean over them. The weights
are those of one rank, but for rounding, and for what is random; a checkpoint goes on on any number of ranks. Batch
normalisation sees one share at a time, and cannot take one of a single sample. An error on one rank ends all of them;
so does the end of its program, where others wait for it. For examples, and for when it pays, see demos/howto.md.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import itertools
import os
import platform
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any
from weakref import WeakSet

import numpy as np

from minigrad.data.batches import joined
from minigrad.engine import Array, Tensor, numbers_of
from minigrad.files import generator_text
from minigrad.names import door
from minigrad.optim import Optimizer
from minigrad.optim.checks import at_least_zero
from minigrad.tables.linalg import taken_apart
from minigrad.tables.rules import wide
from minigrad.trees import flatten

__all__ = ["average", "ranks", "shard"]

INSTALL = (
    "training on several ranks needs mpi4py and an MPI library: pip install mpi4py mpich (or mpi4py alone, where the "
    "machine has an MPI of its own), and then `mpirun -n 4 python train.py`, which as root OpenMPI wants with "
    "--allow-run-as-root."
)
POOLS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")
TAG = 27_182  # of messages that a rank sends to the next
_watched: list[Any] = []  # communicators
_met: WeakSet[Optimizer] = WeakSet()  # those of which all ranks have been found to have the same weights


class Ranks:
    """The processes of a communicator, of which this is number `rank` of `size`; without one, it is alone.

    As a context, in which an error on one of several ranks ends all of them.
    """

    def __init__(self, communicator: Any = None) -> None:
        self.communicator = communicator
        self.rank: int = 0 if communicator is None else communicator.rank
        self.size: int = 1 if communicator is None else communicator.size
        self.known: dict[str, int] = {}  # checksums of what all ranks have alike
        self.sent = 0  # bytes of gradients that were averaged

    def __enter__(self) -> Ranks:
        if self.size > 1:
            self.known = {}  # of a training before
            with self.meeting():
                self.check_threads()
        return self

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """A block in which all ranks wait for each other; one whose program has ended finds that, and ends all.

        For that, each sends a message of no bytes to the next rank before, and takes one from the rank before it after.
        """
        self.watch()
        if self.size == 1:
            yield
            return
        sent = self.communicator.Isend(b"", (self.rank + 1) % self.size, TAG)
        try:
            yield
        finally:
            self.communicator.Recv(bytearray(), (self.rank - 1) % self.size, TAG)
            sent.Wait()

    def watch(self) -> None:
        """See to it that this rank does not end while others wait for it."""
        if self.size > 1 and self.communicator not in _watched:
            _watched.append(self.communicator)
            atexit.register(self.leave)

    def leave(self) -> None:
        """Wait for the other ranks at the end of the program, for a minute, and end all where one waits for this."""
        if _mpi().Is_finalized() or not self.communicator:
            return
        all_left, start = self.communicator.Ibarrier(), time.monotonic()
        while not all_left.Test() and time.monotonic() - start < 60:
            if self.communicator.Iprobe((self.rank - 1) % self.size, TAG):
                hint = "let all ranks call fit, or average, as often"
                self.end(RuntimeError(f"the program has ended on this rank, and others wait for it to train: {hint}"))
            time.sleep(0.05)

    def __exit__(self, kind: Any, error: Any, where: Any) -> None:
        if error is not None and self.size > 1:  # the others wait for this one, and would for ever
            self.end(error)

    def end(self, error: BaseException) -> None:
        """Show an error, and end all ranks."""
        print(f"rank {self.rank} of {self.size} ends all of them:", file=sys.stderr)
        traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(0.5)  # in which mpirun passes it on
        self.communicator.Abort(1)
        os._exit(1)  # where MPI has only asked for the end

    def check_threads(self) -> None:
        """Warn where the ranks of a machine have more threads together than there are cores for them."""
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
        said = (os.environ[name] for name in POOLS if os.environ.get(name, "").isdigit())
        threads = int(next(said, len(cores)))
        told = self.communicator.allgather((platform.node(), cores, threads))
        here = [each for each in told if each[0] == platform.node()]
        wanted, cores = sum(its for *_, its in here), set[int]().union(*(its for _, its, _ in here))
        if wanted > max(len(cores), len(here)) and self.rank == 0:
            what = f"{len(here)} ranks with {wanted} threads for products wait for each other on {len(cores)} cores"
            warnings.warn(f"{what}: set OMP_NUM_THREADS=1 before Python starts.", RuntimeWarning, stacklevel=7)

    def shard(self, n: int) -> slice:
        """The share that this rank has in n samples."""
        if not isinstance(n, (int, np.integer)) or n < 0:
            raise ValueError(f"shard got n={n!r:.80}; wanted the number of samples in the batch, as of len(x).")
        start, stop = (-(-rank * n // self.size) for rank in (self.rank, self.rank + 1))
        return slice(start, stop)

    def same(self, parts: Iterator[Any]) -> Iterator[Any]:
        """The batches, which come with their arrays; RuntimeError where a rank has others, judged by some rows."""
        if self.size == 1:
            yield from parts
            return
        for number in itertools.count(1):
            part = next(parts, None)
            names = {} if part is None else {f"array {i} of batch {number}": array for i, array in enumerate(part[1])}
            hint = "give all ranks the same batches, and let them draw from no generator that the model owns"
            self.compared({name: some_rows(array) for name, array in names.items()}, hint)
            if part is None:
                return
            yield part

    def shares(self, parts: Iterator[Any]) -> Iterator[Any]:
        """The shares that this rank has of batches, which come with their arrays."""
        for tree, arrays in self.same(parts):
            share = self.shard(len(arrays[0]))
            yield flatten(tree)[1]([array[share] for array in arrays]), [array[share] for array in arrays]

    def average(self, parameters: Iterable[Tensor], samples: float) -> None:
        """Let gradients be the means over all ranks, weighted by the samples that each was made of."""
        kinds: dict[Any, list[Tensor]] = {}  # MPI knows no half precision, and sums of it are carried in float32
        for parameter in parameters if self.size > 1 else ():
            kinds.setdefault(wide(parameter.dtype), []).append(parameter)
        for dtype, alike in kinds.items():
            vector = np.zeros(sum(parameter.size for parameter in alike) + 1, dtype)
            parts = taken_apart(vector[:-1], [parameter.shape for parameter in alike])
            for parameter, part in zip(alike, parts, strict=True):
                if (g := parameter.grad) is not None and samples:
                    np.multiply(g, samples, out=part, dtype=dtype)
            vector[-1] = samples
            self.communicator.Allreduce(_mpi().IN_PLACE, vector)
            self.sent += vector.nbytes
            if not vector[-1]:
                raise ValueError("average got samples=0 from all ranks, of which there is no mean: skip this batch")
            vector[:-1] /= vector[-1].real
            for parameter, part in zip(alike, parts, strict=True):
                parameter.grad = part.astype(parameter.dtype, copy=False)

    def step(self, walk: Callable[..., Any], move: Callable[[], Any], optimizer: Optimizer) -> Callable[..., Any]:
        """A step of all ranks: the walk of each over its share, and the move that all do alike."""

        def step(x: Any, y: Any) -> Any:
            samples = len(flatten(x)[0][0])
            if not samples:
                optimizer.zero_grad()
            told = walk(x, y) if samples else (None, 0.0)
            self.average(optimizer.parameters, samples)
            move()
            return told

        return step

    def whole(self, steps: Iterator[Any], measuring: bool, interrupts: list[int], agreed: list[int]) -> Iterator[Any]:
        """Of steps on shares, what is to be known of the whole batches; what interrupts one rank is agreed upon by all.

        Predictions and targets are rank 0's alone.
        """
        if self.size == 1:
            yield from steps
            return
        for prediction, y, value, samples in steps:
            told = self.communicator.allgather((value * samples, samples, sum(interrupts)))
            losses, counts, signals = zip(*told, strict=True)
            parts = self.communicator.gather((prediction, y)) if measuring else None
            if parts is not None:
                prediction, y = (joined(zip(each, counts, strict=True)) for each in zip(*parts, strict=True))
            agreed += [signal for signal in signals if signal]
            yield prediction, y, sum(losses) / sum(counts), sum(counts)

    def predictor(self, model: Any) -> Any:
        """The model as one that has each rank predict its share of what it is called with."""

        def predicted(x: Any) -> Any:
            columns, rebuild = flatten(x)
            share = self.shard(len(columns[0]))
            samples = share.stop - share.start
            answers, build = flatten(model(rebuild([column[share] for column in columns])) if samples else None)
            return joined(self.communicator.allgather((build(list(map(numbers_of, answers))), samples)))

        return model if self.size == 1 else predicted

    def compared(self, arrays: Mapping[str, Array], hint: str, loose: Iterable[str] = ()) -> dict[str, Array]:
        """Raise RuntimeError for a rank whose arrays differ from those of rank 0, bit for bit.

        `loose` are the names of those that may. Of them, those that do are returned as means over the ranks; integers
        are those of rank 0.
        """
        checksums = {name: checksum(array) for name, array in arrays.items()}
        first, *others = self.communicator.allgather(checksums) if self.size > 1 else [checksums]
        averaged, loose = set[str](), set(loose)
        for rank, other in enumerate(others, 1):
            differing = [name for name in first | other if first.get(name) != other.get(name)]
            if strict := [name for name in differing if name not in loose]:
                shown = ", ".join(strict[:4]) + (f" and {len(strict) - 4} more" if len(strict) > 4 else "")
                raise RuntimeError(f"rank {rank} differs from rank 0 in {shown}: {hint}.")
            averaged.update(differing)
        self.known = {**self.known, **first, **dict.fromkeys(averaged, -1)}
        return {name: self.mean(arrays[name]) for name in sorted(averaged)}

    def mean(self, array: Array) -> Array:
        if array.dtype.kind not in "fc":
            return self.communicator.bcast(array)  # type: ignore[no-any-return]
        total: Array = np.array(array, np.result_type(array, np.float64), order="C")
        self.communicator.Allreduce(_mpi().IN_PLACE, total)
        return (total / self.size).astype(array.dtype)

    def from_first(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The arrays of rank 0; those that were compared and have not changed since are not sent."""
        new = {} if self.rank else {name: a for name, a in arrays.items() if self.known.get(name) != checksum(a)}
        return {**arrays, **self.communicator.bcast(new)}

    def set_apart(self, generators: Iterable[Any]) -> None:
        """Set generators that all ranks have alike so that each rank draws something else, rank 0 what it would alone.

        It depends on their states and the rank: whoever has the state of rank 0 has all of them.
        """
        for generator in generators if self.rank else ():
            text = f"{generator_text(generator)} on rank {self.rank}"
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "little")
            if isinstance(generator, Random):
                generator.seed(seed)
            else:
                bits = getattr(generator, "bit_generator", getattr(generator, "_bit_generator", generator))
                bits.state = type(bits)(seed).state


def some_rows(array: Array) -> Array:
    """Up to 32 rows, by which data are compared."""
    return array[:: max(1, len(array) // 16)]


def checksum(array: Array) -> int:
    return zlib.crc32(f"{array.dtype.str} {array.shape}".encode() + array.tobytes())


def ranks(distributed: Any = True) -> Ranks:
    """All processes that mpirun has started, or those of a communicator of mpi4py's; for False, this one alone.

    `fit(distributed=...)` takes what is given to this, or what it returns: something that has a `rank` and a `size`, as
    for printing once, and the bytes `sent`, of gradients that were summed. Said first of all in a program, it lets any
    error, as of a file that one machine does not have, end all ranks. Raises ImportError where MPI is missing.

    >>> alone = ranks(distributed=False)
    >>> alone.rank, alone.size
    (0, 1)
    """
    if isinstance(distributed, Ranks):
        return distributed
    if isinstance(distributed, (bool, np.bool_)):
        found = Ranks(_mpi().COMM_WORLD) if distributed else Ranks()
        found.watch()
        return found
    if not getattr(distributed, "is_intra", False):
        raise TypeError(f"got distributed={distributed!r}; wanted True, False, or an intracommunicator of mpi4py's.")
    _mpi()
    return Ranks(distributed)


@functools.cache
def _mpi() -> Any:
    """The module of MPI. From then on, an error that nobody catches ends all ranks."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(INSTALL) from error
    before, world = sys.excepthook, Ranks(MPI.COMM_WORLD)

    def hook(kind: Any, error: BaseException, where: Any) -> None:
        if world.size > 1:
            world.end(error)
        before(kind, error, where)

    sys.excepthook = hook
    return MPI


def shard(n: int) -> slice:
    """The share that this rank has in the n samples of a batch: `x[shard(len(x))]`, for a loop of one's own.

    The shares of all ranks make up the batch, in their order, and differ by one sample at most; the last ones may be
    empty.
    """
    return ranks().shard(n)


def average(optimizer: Optimizer, samples: float = 1) -> None:
    """Let all ranks have the mean of their gradients, between `backward()` and `step()` of a loop of one's own.

    `samples` is of how many samples the loss of this rank was the mean, where shares differ; a rank without any calls
    this, too, with 0. All ranks must begin with the same weights, as from the same seed, which the first call checks:
    RuntimeError. Not within a compiled function: compile what is before, and what is after.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"average got a {type(optimizer).__name__}; wanted the optimizer that is to do the step.")
    at_least_zero(samples=samples)
    if any(isinstance(parameter.grad, Tensor) for parameter in optimizer.parameters):
        raise TypeError("average is called between two compiled functions, not in one: it waits for the other ranks")
    world = ranks()
    with world.meeting():
        if optimizer not in _met:
            named = zip(optimizer.names, optimizer.parameters, strict=True)
            weights = {f"parameter {name}": parameter.data for name, parameter in named}
            world.compared(weights, "begin with the same weights on all ranks, as from one seed")
            _met.add(optimizer)
        world.average(optimizer.parameters, samples)


door(__name__)
