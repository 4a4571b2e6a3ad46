"""Models as ONNX files, which run where Python does not; see `export_onnx`.

operators   tables that say what a function of NumPy is in ONNX
writer      writes what the traces have in common
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.compiler import trace
from minigrad.compiler.graph import Value
from minigrad.engine import Function, Tensor, array_of, grad_of, no_grad
from minigrad.files import written_whole
from minigrad.nn.convolution import at_once
from minigrad.nn.module import in_mode
from minigrad.onnx.operators import FileArray, Size, Unfollowed
from minigrad.onnx.writer import Calls, Writer
from minigrad.trees import flatten, named

OPSET, FORMAT = 18, 8  # the versions of the operators and of the file: ONNX 1.13, of December 2022
SIZES = 2, 3, 31  # of the batches that are traced: small ones, and one for which a function may do otherwise


def export_onnx(
    model: Function, example_inputs: Any, path: str | os.PathLike[str], *,
    batch_axes: int | Sequence[int | None] | None = 0,
) -> None:  # fmt: skip
    """Write a model, or any function of arrays, as an ONNX file, for where Python is not; needs the extra `onnx`.

    `example_inputs` is an array, or a tuple of arguments, in which arrays may lie in lists, tuples and dicts. The file
    takes arrays of their dtypes and shapes, but of any number of samples: `batch_axes` is the axis of the samples in
    all arrays, or a list of their axes, with None for one that has no samples; or None where no array has any.

    The function is traced as by `minigrad.compile`, in evaluation mode as by `minigrad.predict`, for batches of three
    sizes, and what the traces have in common is written: loops are unrolled, and an `if` on a shape goes one way for
    good. A call that does not follow the batch (n samples may give 2 * n + 1 of something, but not n * n or 1 / n)
    raises ValueError; one that ONNX has no operators for, a mask as an index, what is drawn at random, and complex
    numbers raise NotImplementedError; looking at numbers, and writing to Tensors, TypeError. What is checked in
    numbers, such as labels, is not checked in the file, and where there is nan, onnxruntime's maxima, and softmax, are
    those of the other numbers.

    Inputs are named as the arguments are, outputs by their keys, or "output", and parameters as in `state_dict()`. The
    file is of opset 18, for onnxruntime from 1.14 on (which lacks some functions of float64 and of small integers). It
    has passed `onnx.checker`, and is written whole.

    >>> import tempfile
    >>> from minigrad import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.tanh, nn.Linear(3, 1))
    >>> export_onnx(model, np.ones((4, 2), np.float32), tempfile.mkdtemp() + "/net.onnx")
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError('export_onnx needs the package onnx: pip install "minigrad[onnx]"') from error
    flat, rebuild = flatten(example_inputs if isinstance(example_inputs, tuple) else (example_inputs,))
    positions = [i for i, x in enumerate(flat) if isinstance(x, (np.ndarray, np.generic, Tensor))]
    examples = [array_of(flat[i]) if isinstance(flat[i], Tensor) else np.asarray(flat[i]) for i in positions]
    axes, traces = batch_of(examples, batch_axes), []
    sizes = SIZES if axes != [None] * len(axes) else (1,)
    for n in sizes:
        for i, x, axis in zip(positions, examples, axes, strict=True):
            flat[i] = Tensor(x if axis is None else np.take(x, np.arange(n) % x.shape[axis], axis))
        with in_mode(model, training=False), no_grad(), at_once:
            try:
                traces.append(trace(model, rebuild(flat), Calls()))
            except Exception as error:
                note = f"while export_onnx traced it for a batch of {n} samples"
                getattr(error, "add_note", lambda note: None)(note)  # Python 3.10 has none
                raise
    graph = graph_of(getattr(model, "__name__", type(model).__name__), sizes, traces, axes)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    made = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=FORMAT, producer_name="minigrad")
    try:
        onnx.checker.check_model(made, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise NotImplementedError(f"an operator of ONNX does not take what the function has: {error}") from None
    with written_whole(os.fspath(path)) as file:
        file.write(made.SerializeToString())


def batch_of(examples: Sequence[Any], batch_axes: Any) -> list[int | None]:
    """The axis of the batch in each of the inputs."""
    shapes = [x.shape for x in examples]
    axes = [*batch_axes] if isinstance(batch_axes, Sequence) else [batch_axes] * len(shapes)
    try:
        axes = [axis if axis is None else range(len(shape))[axis] for axis, shape in zip(axes, shapes, strict=True)]
        lengths = {shape[axis] for axis, shape in zip(axes, shapes, strict=True) if axis is not None}
    except (ValueError, IndexError, TypeError):
        lengths = {0}
    if not examples or 0 in lengths or len(lengths) > 1:
        raise ValueError(
            f"export_onnx got example inputs of shapes {shapes} and batch_axes={batch_axes!r}: give arrays of one "
            "number of samples, at least one, and the axis of the samples in each of them, or None."
        )
    return axes


def graph_of(name: str, sizes: Sequence[int], traces: Sequence[Any], axes: Sequence[Any]) -> Any:
    """The graph of a file."""
    runs, answers = [run for run, _, _ in traces], [flatten(out) for _, out, _ in traces]
    if any(run.record.state[what] for run in runs for what in (array_of, grad_of)):
        raise TypeError(f"{name} writes to Tensors, which a file cannot do: let it return what it computes")
    forms = sorted({repr(build([isinstance(x, Tensor) for x in leaves])) for leaves, build in answers})
    if len(forms) > 1:
        came = " and ".join(f"{form:.60}" for form in forms)
        raise Unfollowed(f"{name} returns {came}, with True for Tensors: return the same for batches of any size")
    nodes = [run.nodes(leaves) for run, (leaves, _) in zip(runs, answers, strict=True)]
    values = [[run.value(x) if isinstance(x, Tensor) else x for x in xs] for run, xs in zip(runs, nodes, strict=True)]
    leaves, build = answers[0]
    o, marks, infos = Writer(sizes, runs, traces[0][2]), [object() for _ in leaves], []

    def declare(name: str, x: FileArray) -> None:
        text: Any = lambda n: "batch" if n == (1, 0) else f"{n.each}*batch{n.rest:+}"
        shape = [text(n) if isinstance(n, Size) else n for n in x.shape]
        infos.append(o.helper.make_tensor_value_info(name, o.kind(x.dtype), shape))

    for i, axis in enumerate(axes):
        tensors = [run.record.arguments[i] for run in runs]
        its = tuple(run.record.values[tensor] for run, tensor in zip(runs, tensors, strict=True))
        given = runs[0].flat[runs[0].record.inputs[tensors[0]].of]
        o.arrays[its] = array = FileArray(o.unique(o.names.get(id(given), "input")), o.shape_of(its), its[0].dtype)
        o.batch = o.batch if axis is None else (array.name, axis)
        declare(array.name, array)
    found = {id(part): key for key, part in named(build(marks))}
    keys = [found[id(mark)] for mark in marks]
    outputs = [o.unique(f"output.{key}" if key[:1].isdigit() else key or "output") for key in keys]
    roots = list(zip(*values, strict=True))
    o.write(root for root in roots if isinstance(root[0], Value))
    for name, root in zip(outputs, roots, strict=True):
        array = o.arrays[root] if isinstance(root[0], Value) else o.fixed(list(map(np.asarray, root)))
        o.nodes.append(o.helper.make_node("Identity", [o.input(array)], [name]))
        declare(name, array)
    return o.helper.make_graph(o.nodes, "minigrad", infos[: len(axes)], infos[len(axes) :], o.initializers)
