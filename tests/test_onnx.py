"""Files in ONNX: they give what the model gives, for batches of any size; or it is said what cannot be written."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from profiles import scale

import minigrad as mg
from minigrad import nn
from minigrad.engine import constants, vjps
from minigrad.nn.module import in_mode
from minigrad.onnx import operators
from minigrad.testing.program import programs
from minigrad.trees import flatten

onnx = pytest.importorskip("onnx", reason="onnx, of the extra `onnx`, is not installed")
runtime = pytest.importorskip("onnxruntime", "1.23", reason="onnxruntime, which runs the files, is not installed")

RNG = np.random.default_rng(0)


def floats(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(size=shape).astype(dtype)


def integers(*shape: int, below: int = 5) -> Any:
    return RNG.integers(0, below, shape)


def opened(path: Path) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def compare(
    f: Callable[..., Any],
    args: Any,
    path: Path,
    batch_axes: Any = 0,
    sizes: Sequence[int] = (1, 7),
    atol: float = 1e-5,
) -> Any:
    """A file gives what the function gives in evaluation, within 1e-5, for batches of other sizes; the file, opened."""
    mg.export_onnx(f, args, path / "f.onnx", batch_axes=batch_axes)
    session = opened(path / "f.onnx")
    flat, rebuild = flatten(args if isinstance(args, tuple) else (args,))
    axes = [*batch_axes] if isinstance(batch_axes, list) else [batch_axes] * len(flat)
    for n in sizes if any(axis is not None for axis in axes) else (1,):
        draw: Any = lambda x, axis, n=n: x if axis is None else np.take(x, RNG.integers(0, x.shape[axis], n), axis)
        inputs = list(map(draw, flat, axes))
        with in_mode(f, training=False), mg.no_grad(), np.errstate(all="ignore"):
            expected, _ = flatten(f(*rebuild([mg.Tensor(x) for x in inputs])))
        answers = session.run(None, dict(zip([x.name for x in session.get_inputs()], inputs, strict=True)))
        for output, answer, wanted in zip(session.get_outputs(), answers, expected, strict=True):
            wanted = wanted.data if isinstance(wanted, mg.Tensor) else np.asarray(wanted)
            assert (answer.shape, answer.dtype) == (wanted.shape, wanted.dtype), output.name
            np.testing.assert_allclose(answer, wanted, rtol=1e-5, atol=atol, err_msg=output.name)
    return session


# ------------------------------------------------------------------------------------------------------------- layers

IMAGES, LINES = floats(2, 4, 9, 8), floats(2, 4, 11)
MODULES = "Tanh Sigmoid ReLU LeakyReLU Softplus GELU ELU SELU SiLU Mish Hardtanh Softmax"
LAYERS: dict[str, Any] = {  # what makes the layer, what it is given, and the axis of the batch if it is not the first
    "Linear": (lambda: nn.Linear(4, 3, rng=0), floats(3, 4)),
    "Linear of sequences, float64": (lambda: nn.Linear(4, 3, rng=0, dtype=np.float64), floats(3, 2, 4, dtype=float)),
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 3, rng=0), nn.tanh, nn.Linear(3, 2, rng=1)), floats(3, 4)),
    "Residual": (lambda: nn.Residual(nn.Linear(4, 4, rng=0), nn.relu), floats(3, 4)),
    "Flatten": (nn.Flatten, IMAGES),
    "Dropout": (lambda: nn.Dropout(0.5, rng=0), floats(3, 4)),
    "Embedding": (lambda: nn.Embedding(5, 3, rng=0), integers(3, 4)),
    "PReLU": (lambda: nn.PReLU(4), IMAGES),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, padding="same", rng=0), LINES),
    "Conv1d, strided": (lambda: nn.Conv1d(4, 6, 3, 2, 1, 2, 2, False, rng=0), LINES),
    "Conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), rng=0), IMAGES),
    "Conv2d, strided": (lambda: nn.Conv2d(4, 6, 3, (2, 1), (1, 2), (1, 2), 2, rng=0), IMAGES),
    "Conv2d of a point": (lambda: nn.Conv2d(4, 6, 1, rng=0), IMAGES),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, rng=0), LINES),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 2, (2, 3), groups=2, rng=0), IMAGES),
    "MaxPool1d": (lambda: nn.MaxPool1d(3, 2, 1), LINES),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), IMAGES),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2, 1), LINES),
    "AvgPool2d": (lambda: nn.AvgPool2d((2, 3), 1, (1, 0)), IMAGES),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(1), LINES),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((3, 2)), IMAGES),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(1), LINES),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d((3, 4)), IMAGES),
    "BatchNorm1d": (lambda: trained(nn.BatchNorm1d(4), LINES), LINES),
    "BatchNorm2d": (lambda: trained(nn.BatchNorm2d(4), IMAGES), IMAGES),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), IMAGES),
    "LayerNorm": (lambda: nn.LayerNorm((9, 8)), IMAGES),
    "RMSNorm": (lambda: nn.RMSNorm(8), IMAGES),
    "RNN": (lambda: nn.RNN(4, 3, 2, nonlinearity="relu", rng=0), floats(5, 2, 4), 1),
    "GRU": (lambda: nn.GRU(4, 3, 2, batch_first=True, rng=0), floats(2, 5, 4)),
    "LSTM": (lambda: nn.LSTM(4, 3, rng=0), (floats(5, 2, 4), (floats(1, 2, 3), floats(1, 2, 3))), 1),
    "RNNCell": (lambda: nn.RNNCell(4, 3, rng=0), (floats(2, 4), floats(2, 3))),
    "GRUCell": (lambda: nn.GRUCell(4, 3, rng=0), floats(2, 4)),
    "LSTMCell": (lambda: nn.LSTMCell(4, 3, rng=0), floats(2, 4)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(4, 2, rng=0), (floats(5, 2, 4), *floats(2, 3, 2, 4)), 1),
    "MultiheadAttention, masked": (
        lambda: masked(nn.MultiheadAttention(4, 2, batch_first=True, rng=0)),
        (floats(2, 5, 4), np.arange(5) >= np.array([[3], [5]])),
    ),
    "TransformerBlock": (lambda: nn.TransformerBlock(4, 2, activation=nn.gelu, rng=0), floats(2, 5, 4)),
    "BCELoss": (nn.BCELoss, (RNG.random((3, 4)).astype(np.float32), integers(3, 4, below=2).astype(np.float32))),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, (floats(3, 4), integers(3, 4, below=2).astype(np.float32))),
    "CrossEntropyLoss": (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), (floats(3, 5), integers(3))),
    "CrossEntropyLoss, weighted": (
        lambda: nn.CrossEntropyLoss(weight=np.arange(1, 6, dtype=np.float32), ignore_index=9),
        (floats(3, 5), np.array([0, 9, 4])),
    ),
    "MSELoss": (nn.MSELoss, (floats(3, 4), floats(3, 4))),
    "L1Loss": (nn.L1Loss, (floats(3, 4), floats(3, 4))),
    "HuberLoss": (nn.HuberLoss, (floats(3, 4), floats(3, 4))),
    "NLLLoss": (nn.NLLLoss, (-np.abs(floats(3, 5)), integers(3))),
    "KLDivLoss": (nn.KLDivLoss, (-np.abs(floats(3, 4)), RNG.random((3, 4)).astype(np.float32))),
    **{
        name: (getattr(nn, name), 3 * floats(3, 4))
        for name in MODULES.split()
    },
}  # fmt: skip


def trained(layer: Any, x: Any) -> Any:
    """A layer that has seen a batch, so that its statistics are none of the first ones."""
    layer(3 * x + 1)
    return layer


def masked(layer: Any) -> Callable[..., Any]:
    return lambda x, hidden: layer(x, x, x, key_padding_mask=hidden, is_causal=True)


def test_every_layer_is_in_the_table() -> None:
    classes = {name for name, thing in vars(nn).items() if isinstance(thing, type) and issubclass(thing, nn.Module)}
    assert {name.partition(",")[0].split(" ")[0] for name in LAYERS} == classes - {"Module"}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, tmp_path: Path) -> None:
    made, args, *axes = LAYERS[name]
    compare(made(), args, tmp_path, *axes)


# ---------------------------------------------------------------------------------------------------------- functions

X, POSITIVE, WHOLE = 2 * floats(3, 4, 5), np.abs(floats(3, 4, 5)) + np.float32(0.1), integers(3, 4, 5)
SPECIAL = np.array([np.nan, -np.inf, np.inf, -0.0, 0.0, 1, -1, 2.5, -40, -1000, 1000, 1e-6, -1e-30], np.float32)
PAIRS = np.meshgrid(SPECIAL, SPECIAL)

ONE = (
    "positive negative absolute fabs sign floor ceil rint trunc square cbrt exp exp2 expm1 sin cos tan arctan sinh "
    "cosh tanh arcsinh deg2rad radians rad2deg degrees isnan isinf isfinite signbit sqrt log log2 log10 log1p arcsin "
    "arccos arctanh arccosh reciprocal isposinf isneginf logical_not"
)
TWO = (
    "add subtract multiply divide power float_power maximum minimum fmax fmin remainder fmod heaviside copysign hypot "
    "arctan2 logaddexp logaddexp2 equal not_equal less less_equal greater greater_equal logical_and logical_or "
    "logical_xor"
)
ACTIVATIONS = "tanh sigmoid relu leaky_relu softplus gelu elu selu silu mish hardtanh softmax log_softmax"

FUNCTIONS: dict[str, tuple[Any, list[str]]] = {  # what x is, and what is computed
    "slices": (X, """
        x[1:], x[:-1], x[::-1], x[:, ::-1], x[:, 1], x[..., 1], x[-1], x[:1], x[:, -1:], x[:, 5:0:-2], x[..., ::2],
        x[:, None, 1:, 0], x[()], x[None, ..., None], x[:, :0].reshape(len(x), 0, 7)"""),
    "integer indices": (X, """
        x[:, [0, 2]], x[:, [0, 2], [1, 3]], x[:, [0, 2], :, None], x[:, :, [[0, 2], [1, 3]]], x[:, 1, [0, -2]],
        x[:, [1, 2], None, [0, 4]], x[0, :, [1, 2]], x[[0, 0, -1]], x[:, np.array([True, False, True, True])],
        x[np.arange(len(x)), np.argmax(x[:, :, 0], 1)], np.take(x, [0, 2], 1),
        np.take_along_axis(x, np.argsort(x, 1), 1), np.take_along_axis(x, np.argmax(x, 1, keepdims=True), 1),
        np.choose(np.argmax(x[:, :2], 1), [x[:, 0], x[:, 1]]), np.compress([True, False, True], x, 1),
        np.delete(x, 1, 1), np.insert(x, 1, 0.0, axis=1), np.diagonal(x, 1, 1, 2),
        np.take(mg.Tensor(np.arange(10.0)), np.argmax(x, 1)), np.linalg.diagonal(x), np.trace(x, 0, 1, 2),
        np.take(mg.Tensor(np.arange(10.0)), np.argmax(x, 1) - 7, mode="wrap"),
        np.take(mg.Tensor(np.arange(10.0)), np.argmax(x, 1) + 8, mode="clip")"""),
    "places": (X, """
        np.flip(x, 0), np.flip(x), np.flip(x, (1, 2)), np.roll(x, 1, 1), np.roll(x, (1, 2), (1, 2)),
        np.rot90(x, 1, (1, 2)), np.rot90(x, 3, (1, 2)), np.repeat(x, 2, 1), np.repeat(x, 2, 0), np.repeat(x, 3),
        np.repeat(x, [1, 2, 0, 1], 1), np.tile(x, (1, 2, 1)), np.tile(x, (2, 1, 1)), np.concatenate([x, x], 1),
        np.concatenate([x, x]), np.stack([x, x], 1), np.hstack([x, x]), np.split(x, 2, 1), np.array_split(x, 2, 2),
        np.append(x, x, 1), np.tril(x), np.triu(x, 1), np.lib.stride_tricks.sliding_window_view(x, (2, 3), (1, 2)),
        np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 2)), mg.put(x, (slice(None), 1), 0.0),
        mg.put(x, (slice(None), [0, 2]), x[:, :2]), mg.put_add(x, (slice(None), [0, 0]), x[:, :2]),
        np.pad(x, ((0, 0), (1, 2), (0, 1))), np.pad(x, ((0, 0), (1, 0), (1, 1)), constant_values=-np.inf),
        np.pad(x, ((1, 0), (0, 0), (0, 0))), np.pad(x, ((0, 0), (1, 1), (1, 1)), "edge"),
        np.pad(x, ((0, 0), (0, 0), (1, 1)), "reflect"), np.diag(x[0, 0], 1), np.diagflat(x[0, :2], -1),
        mg.put(np.arange(20.0).reshape(4, 5), (slice(1, 3), slice(1, 4)), x[0, :2, :3]),
        mg.put(np.zeros((4, len(x))), (slice(1, 3), slice(None)), x[:, 0, 0])"""),
    "shapes": (X, """
        x.T, np.swapaxes(x, 0, 2), np.moveaxis(x, 0, -1), np.transpose(x, (0, 2, 1)), np.ravel(x),
        np.reshape(x, (-1, 5)), np.reshape(x, (len(x), 20)), x.reshape(len(x) * 4, 5),
        np.reshape(x, (4, -1), order="F"), np.squeeze(x[:, :1], 1), np.expand_dims(x, 1),
        np.broadcast_to(x, (2, *x.shape)), np.broadcast_to(x[:, :1], x.shape), np.atleast_3d(x[:, 0]),
        np.meshgrid(x[:, 0, 0], x[0, 0]), np.rollaxis(x, 2), np.expand_dims(x[:, 0] @ x[:, 0].T, 1),
        np.block([[x, x]]), x.astype(int), x.astype(bool),
        x.astype(float)"""),
    "reductions": (X, """
        np.sum(x), np.sum(x, 1), np.sum(x, (1, 2), keepdims=True), np.mean(x), np.mean(x, 0), np.mean(x, -1),
        np.var(x, 1), np.std(x, (1, 2)), np.std(x, 0), np.max(x, 1), np.min(x), np.max(x, (1, 2), keepdims=True),
        np.prod(x, 1), np.sum(x, 1, where=x > 0), np.max(x, 1, initial=0, where=x > 0), np.sum(x, 1, initial=2),
        np.ptp(x, 1), np.any(x > 0, 1), np.average(x, 1, np.arange(4.0)), np.all(x > 0, axis=(1, 2)),
        np.count_nonzero(x > 0, axis=1), np.argmax(x, 1), np.argmin(x, -1, keepdims=True), np.argmax(x),
        np.argmax(x > 0, 1), np.cumsum(x, 1), np.cumsum(x), np.cumprod(x, 1), np.cumsum(x, 0), np.sort(x, 1),
        np.sort(x, 0), np.argsort(x, -1), np.sort(x, None), np.nanmean(x, 1), np.nansum(x, 1),
        np.linalg.norm(x, axis=1), np.linalg.norm(x, 1, (1, 2)), np.logaddexp.reduce(x, axis=1),
        np.hypot.reduce(x, 1), np.multiply.accumulate(x, 1), np.sum(x, ()), np.sum(x > 0, 1),
        np.searchsorted(np.array([-1.0, 0, 1]), x)"""),
    "products": (X, """
        x @ x.swapaxes(1, 2), x @ np.ones(5, np.float32), np.ones(4, np.float32) @ x,
        np.einsum("nij,nkj->nik", x, x), np.einsum("nij->n", x), np.tensordot(x, np.ones((5, 2), np.float32), 1),
        np.inner(x, np.ones((2, 5), np.float32)), np.outer(x[:, 0, 0], np.ones(3, np.float32)),
        np.kron(x, np.ones((1, 1, 2), np.float32)), x[:, 0] @ x[:, 0].T, np.cross(x[:, :, :3], x[:, :, 1:4]),
        np.dot(x, np.ones((5, 2), np.float32)), np.vecdot(x, x), np.linalg.det(x[:, :, :4]),
        np.convolve(x[0, 0], x[0, 1]), np.convolve(x[0, 0], x[0, 1, :2], "valid"),
        np.linalg.matrix_power(x[:, :, :4], 3)"""),
    "choices": (X, """
        np.where(x > 0, x, 0), np.where(x > 0, x, -np.inf), np.select([x > 0, x < -1], [x, -x], 7.0),
        np.clip(x, -1, 1), np.nan_to_num(x), np.interp(x, np.array([-1.0, 0, 1]), np.array([0.0, 2, 3])),
        np.round(x, 1), np.diff(x, axis=1), np.diff(x, axis=0), np.gradient(x, axis=1), np.trapezoid(x, axis=1),
        np.polyval([1.0, 2, 3], x), np.vander(x[:, 0, 0], 3), x - (x > 0), (x > 0) + (x < 1), ~(x > 0),
        (x > 0) & (x < 1), np.ldexp(x, 2), np.divmod(x, 2.0), np.sinc(x), np.modf(x), np.real(x),
        np.floor_divide(0 * x + np.float32(71.48086), np.float32(2.4167852)).astype(int)"""),
    "of the batch": (X, """
        x * len(x), x / x.size, x + np.arange(len(x))[:, None, None], x * float(len(x)), np.zeros((len(x), 2)),
        np.zeros((len(x), len(x))), np.ones_like(x), np.full_like(x, 2.0),
        np.arange(4 * len(x)).reshape(len(x), 2, 2), np.arange(2 * len(x), dtype=np.float32).reshape(2, len(x)),
        len(x), np.arange(3), np.arange(len(x))[::-1] > -1,
        np.lib.stride_tricks.sliding_window_view(np.concatenate([x, x]), 2, 0)"""),
    "of whole numbers": (WHOLE, """
        x + x, x - 3, x * x, x / 2, x // 3, x % 3, -x // 3, -x % 3, x**2, np.maximum(x, 2), x == 2, x > 2, x & 3,
        x | 3, x ^ 3, ~x, x.mean(1), np.sum(x, 1), np.max(x, 1), np.argmax(x, 1), np.sqrt(x), x * 0.5,
        x.astype(np.uint8) + x.astype(np.uint8), x.astype(np.uint8) / 255, x.astype(np.int8) < 2,
        x.astype(np.uint8) * np.uint8(100), x.astype(np.int8) * 50 - x.astype(np.int8), np.sign(x),
        np.sort(x, 1), np.fmod(-x, 3), np.cumsum(x, 1), np.prod(x, 1), np.logical_and(x, x - 1),
        np.searchsorted(np.array([1, 2, 3]), x),
        np.searchsorted(np.array([1, 2, 3]), x, side="right"), np.any(x, 1),
        np.mean(x.astype(np.uint8), 1), np.sum(x.astype(np.int16), 1, dtype=np.int16)"""),
    "of small whole numbers": (WHOLE.astype(np.uint16), """
        x @ x.swapaxes(1, 2), np.inner(x, x[0, :1]), np.einsum("nij->nj", x), np.convolve(x[0, 0], x[0, 1]),
        np.where(x > 2, x, 0), np.sort(x, 1), np.argsort(x, 1, stable=True), np.cumsum(x, 1), np.trace(x, 0, 1, 2),
        np.round(x), (x > 2) @ (x > 3).swapaxes(1, 2), np.sort(x > 2, 1), mg.data.one_hot(x, 5),
        mg.data.one_hot(x.astype(np.int8), 7, dtype=bool)"""),
    "gradients": (X, """
        mg.grad(lambda a: np.sum(np.tanh(a)**2))(x), mg.grad(lambda a: np.sum(np.max(a, 1) * np.sin(a[:, 0])))(x),
        mg.grad(lambda a: np.sum(nn.softmax(a)[:, 1] ** 2))(x), mg.checkpoint(lambda a: np.tanh(a) * 2)(x)"""),
}  # fmt: skip


def computing(expressions: str) -> Any:
    """A function that computes them all, by their texts."""
    parts = eval(f"lambda x: [{expressions.strip()}]", {"np": np, "mg": mg, "nn": nn})
    return lambda x: {f"{i}": part for i, part in enumerate(parts(x))}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions(kind: str, tmp_path: Path) -> None:
    x, expressions = FUNCTIONS[kind]
    compare(computing(expressions), x, tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_elements_at_all_kinds_of_numbers(dtype: Any, tmp_path: Path) -> None:
    """Small numbers have the right digits, too."""
    unknown = {"cos", "arctan", "tan", "arcsin", "arccos", "sinh", "cosh", "arcsinh", "arccosh", "arctanh", "arctan2"}
    names = {name for name in f"{ONE} {TWO}".split() if dtype == np.float32 or name not in unknown}
    one, two = (sorted(names.intersection(which.split())) for which in (ONE, TWO))
    x, y = (side.ravel().astype(dtype) for side in PAIRS)
    f = lambda x, y: {
        **{name: getattr(np, name)(x) for name in one},
        **{name: getattr(np, name)(x, y) for name in two},
        **{f"nn.{name}": getattr(nn, name)(np.reshape(x, (-1, 1))) for name in ACTIVATIONS.split()},
    }
    compare(f, (x, y), tmp_path, None, atol=1e-38)


def test_every_function_of_the_tables_is_one_that_a_trace_has() -> None:
    keys = [key for table in (operators.ELEMENTS, operators.TESTS, operators.RULES) for key in table]
    assert [key for key in keys if not isinstance(key, str) and key not in vjps and key not in constants] == []


def test_half_of_scipys(tmp_path: Path) -> None:
    special = pytest.importorskip("scipy.special", reason="SciPy, the extra `scipy`, is not installed")
    compare(lambda x: (special.erf(x), special.expit(x)), X, tmp_path)


# ----------------------------------------------------------------------------------------------------- random programs


MASK = "a mask chooses as many"  # which some of the programs have


@given(programs(dtype=np.float32))
@settings(max_examples=scale(10, 100))
def test_random_programs(tmp_path_factory: pytest.TempPathFactory, program: Any) -> None:
    try:
        compare(program, tuple(program.args), tmp_path_factory.mktemp("programs"), None)
    except NotImplementedError as error:
        if MASK not in str(error):
            raise


@given(programs(dtype=np.float32, arguments=1))
@settings(max_examples=scale(10, 100))
def test_random_programs_of_batches(tmp_path_factory: pytest.TempPathFactory, program: Any) -> None:
    """The batch may have any size, or it is said why not; unless the program itself fails for some sizes."""
    axes = [0 if x.ndim else None for x in program.args]
    try:
        compare(program, tuple(program.args), tmp_path_factory.mktemp("programs"), axes, (2, 3, 7))
    except (ValueError, IndexError, NotImplementedError) as error:
        if not any(said in str(error) for said in (MASK, "does not follow the batch", "got example inputs")):
            resized = lambda n: [np.resize(x, (n, *x.shape[1:])) if x.ndim else x for x in program.args]
            with pytest.raises(type(error)):
                [program(*resized(n)) for n in (2, 3, 7, 31)]


# ------------------------------------------------------------------------------------------------ the models of demos

DIGITS = mg.data.load_mnist(Path(__file__).parents[1] / "demos" / "data" / "mnist_5k.npz")[0]
TEXT = integers(2, 32, below=96)


def load(name: str) -> Any:
    """The module of a demo."""
    path = Path(__file__).parents[1] / "demos" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"demo_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_mnist(recipe: str) -> Any:
    demo = load("mnist")
    made = {**demo.RECIPES, "conv": demo.MODELS["conv"]}[recipe][0](DIGITS, 1, np.random.default_rng(0))
    model = trained(made["model"], DIGITS[0][:20])  # which moves what batch normalisation remembers
    return model, DIGITS[0][:8]


def custom() -> Any:
    shapes = {"first": (1, 16), "shift": 16, "second": (16, 16), "last": (16, 3), "level": 3, "beta": (2, 16)}
    p = {name: mg.Tensor(floats(*np.atleast_1d(shape)), requires_grad=True) for name, shape in shapes.items()}
    return partial(load("custom_model").model, p), floats(9, 1)


def ten_points(name: str) -> Any:
    demo = load("ten_points")
    return getattr(demo, name)(np.random.default_rng(0), epochs=1), demo.POINTS.astype(float)


def playground() -> Any:
    demo = load("playground")
    training = demo.Network(
        next(iter(demo.DATA)), next(iter(demo.NOISES)), [4, 3], "gelu", next(iter(demo.OPTIMIZERS)), 0, 0
    )
    return training.answers, floats(5, 2)


MNIST = "default", "conv", "tanh-mse", "conv-tanh-mse", "minibatch-sigmoid"
DEMOS: dict[str, Callable[[], Any]] = {
    **{f"mnist, {name}": partial(of_mnist, name) for name in MNIST},
    **{f"ten_points, {name}": partial(ten_points, name) for name in ("by_neurons", "by_arrays", "by_fit")},
    "xor": lambda: (nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1), nn.Sigmoid()), floats(4, 2)),
    "compiled": lambda: (mg.compile(load("compiled").network(0)), floats(4, 2)),
    "custom_model": custom,
    "backprop_by_hand": lambda: (
        nn.Sequential(*(part for n in (0, 1) for part in (nn.Linear(2, 2, rng=n, dtype=np.float64), nn.sigmoid))),
        floats(4, 2, dtype=np.float64),
    ),
    "saliency": lambda: (load("saliency").trained((DIGITS[0][:100], DIGITS[1][:100]), 1, 0), DIGITS[0][:8]),
    "characters, recurrent": lambda: (load("characters").Recurrent(16, np.random.default_rng(0)), TEXT),
    "characters, attention": lambda: (load("characters").Attention(16, np.random.default_rng(0)), TEXT),
    "playground": playground,
}  # fmt: skip


def test_every_demo_is_in_the_table() -> None:
    demos = {path.stem for path in (Path(__file__).parents[1] / "demos").glob("*.py")}
    assert {name.partition(",")[0] for name in DEMOS} == demos


@pytest.mark.parametrize("name", DEMOS)
def test_the_models_of_the_demos(name: str, tmp_path: Path) -> None:
    compare(*DEMOS[name](), tmp_path)


# ------------------------------------------------------------------------------------------ what comes in, and goes out


def test_names(tmp_path: Path) -> None:
    """Of inputs those of the arguments, of outputs their keys, of weights those of the state."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3), nn.tanh), nn.Linear(3, 2))
    session = compare(model, floats(3, 2), tmp_path)
    assert [x.name for x in session.get_inputs()] == ["x"]
    assert [(x.name, x.shape) for x in session.get_outputs()] == [("output", ["batch", 2])]
    file = onnx.load(tmp_path / "f.onnx")
    weights = {
        x.name: onnx.numpy_helper.to_array(x) for x in file.graph.initializer if not x.name.startswith("constant")
    }
    state = {name: array for name, array in model.state_dict().items() if name != "1.0.num_batches_tracked"}
    assert weights.keys() == state.keys()
    assert all(np.array_equal(weights[name], state[name]) for name in state)
    assert [(each.domain, each.version) for each in file.opset_import] == [("", 18)]
    assert file.ir_version == 8


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    def f(x: Any, state: Any, *, scale: float = 2.0) -> Any:
        h, (c, places) = state["h"], state["rest"]
        return {"add": x + h, "pair": (scale * c, places + 1), "same": x, "none": None, "number": 3.5, "x": h}

    state = {"h": floats(3, 4), "rest": (floats(3, 1, dtype=np.float64), integers(3, 2))}
    session = compare(f, (floats(3, 4), state), tmp_path)
    assert [(x.name, x.type) for x in session.get_inputs()] == [
        ("x", "tensor(float)"), ("state.h", "tensor(float)"),
        ("state.rest.0", "tensor(double)"), ("state.rest.1", "tensor(int64)"),
    ]  # fmt: skip
    assert [x.name for x in session.get_outputs()] == ["add", "pair.0", "pair.1", "same", "number", "x_1"]
    session = compare(lambda x, y: (x + y, x - y), (floats(3, 4), floats(4)), tmp_path, [0, None])
    assert [x.name for x in session.get_outputs()] == ["output.0", "output.1"]


def test_the_batch_is_any_axis_or_none(tmp_path: Path) -> None:
    compare(lambda x: x / x.shape[1] + np.arange(x.shape[1])[:, None], floats(2, 3, 4), tmp_path, 1)
    compare(lambda x: np.cumsum(x, -1) * x.shape[-1], floats(2, 3), tmp_path, -1)
    session = compare(lambda x: x.T @ x / len(x) ** 3, floats(4, 3), tmp_path, None)
    assert session.get_inputs()[0].shape == [4, 3]


def test_sizes_of_outputs_that_follow_the_batch(tmp_path: Path) -> None:
    session = compare(lambda x: (np.repeat(x, 2, 0)[1:], np.sum(x)), floats(3, 2), tmp_path)
    assert [x.shape for x in session.get_outputs()] == [["2*batch-1", 2], []]


def test_a_model_is_written_in_evaluation_mode_and_stays_in_its_own(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4, rng=0), nn.BatchNorm1d(4), nn.Dropout(0.5, rng=0))
    before = model.state_dict()
    session = compare(model, floats(3, 4), tmp_path)
    assert model.training
    assert model[2].training
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())
    compare(lambda x: model(x), floats(3, 4), tmp_path)  # a function uses it, too
    x = floats(5, 4)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], mg.predict(model, x), rtol=1e-5, atol=1e-6)


def test_wide_images_whose_windows_are_multiplied_in_parts(tmp_path: Path) -> None:
    compare(nn.Conv2d(16, 2, 3, padding=1, rng=0), floats(2, 16, 40, 40), tmp_path, sizes=(1, 3))


def test_long_loops(tmp_path: Path) -> None:
    def f(x: Any) -> Any:
        for _ in range(1500):
            x = np.sin(x)
        return x

    compare(f, floats(2, 3), tmp_path)


# ------------------------------------------------------------------------------------------------------ what is refused

REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "x[x > 0]": (X, TypeError, "as many numbers as it finds"),
    "x if x[0, 0, 0] > 0 else -x": (X, TypeError, "looks at the numbers"),
    "x * len(x) ** 2": (X, ValueError, r"np\.multiply, .* 4, 9, 961 for batches of 2, 3, 31 samples"),
    "x * np.eye(len(x))[:, :1, None]": (X, ValueError, r"np\.multiply, .* \(2, 1, 1\), \(3, 1, 1\)"),
    "np.zeros(len(x) ** 2) + x.ravel()[0]": (X, ValueError, r"np\.add, something does not follow the batch: 4, 9, 961"),
    "np.stack([row for row in x])": (X, ValueError, "np.stack, of which concatenate is a part, something"),
    "[row for row in x]": (X, ValueError, "returns .* with True for Tensors: return the same for batches of any size"),
    "np.eye(len(x)) @ x[:, 0]": (X, ValueError, r"np\.matmul, .* numbers in arrays of shapes \(2, 2\), \(3, 3\)"),
    "np.round(x, -1)": (WHOLE, NotImplementedError, "an operator of ONNX does not take .*Round.*int64"),
    "mg.nn.RNN(5, 2)(x)": (X, ValueError, r"calls none, np\.tanh, .* loop along .* .see batch_axes"),
    "np.linalg.inv(x[:, :, :4])": (X, NotImplementedError, r"in the call of np\.linalg\.inv, there is no operator"),
    "np.median(x)": (X, NotImplementedError, r"np\.median, of which _positions_when_sorted is a part"),
    "np.partition(x, 2)": (X, NotImplementedError, r"np\.partition"),
    "np.fft.fft(x)": (X, NotImplementedError, r"np\.fft\.fft"),
    "1j * x": (X, NotImplementedError, "complex64"),
    "x + mg.sample(np.random.default_rng(0).random, x.shape)": (X, NotImplementedError, "no random numbers"),
    "np.einsum(x, [0, 1, 2], [0, 1])": (X, NotImplementedError, "Einsum wants"),
}  # fmt: skip


@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_refused(expression: str, tmp_path: Path) -> None:
    x, kind, message = REFUSED[expression]
    path = tmp_path / "f.onnx"
    path.write_text("an old file")
    with pytest.raises(kind, match=message):
        mg.export_onnx(eval(f"lambda x: {expression}", {"np": np, "mg": mg}), x, path)
    assert path.read_text() == "an old file"
    assert list(tmp_path.iterdir()) == [path]


def test_what_batches_have_that_others_have_not_is_refused(tmp_path: Path) -> None:
    """Where a function goes another way for larger batches, or finds other things there."""
    ones, twos = (mg.Tensor(np.full(3, n, np.float32), requires_grad=True) for n in (1, 2))
    for f, message in {
        lambda x: (
            x + (ones if len(x) < 3 else twos) + ones + twos
        ): "something does not follow the batch: different arrays",
        lambda x: (
            x + (ones if len(x) < 3 else np.ones(3)) + ones
        ): "something does not follow the batch: different arrays",
        lambda x: x[0] + (ones if len(x) < 3 else x[0]) + ones: "something does not follow the batch: the calls",
        lambda x: np.exp(x) if len(x) < 9 else np.sin(x): "the calls np.exp, np.exp, np.sin",
        lambda x: np.sum(x, 0 if len(x) < 9 else 1)[0]: "something does not follow the batch",
        lambda x: {"a": x} if len(x) < 9 else {"b": x}: "return the same for batches of any size",
        lambda x: x if len(x) < 9 else 1.0: "return the same for batches of any size",
        lambda x: (
            x + np.arange(min(len(x), 9))[-1]
        ): "in the call of np.add, something does not follow the batch: 1, 2, 8",
        lambda x: x * (1 / len(x)): "in the call of np.multiply, something does not follow the batch: 0.5, 0.3",
    }.items():
        with pytest.raises(ValueError, match=message):
            mg.export_onnx(f, floats(2, 3), tmp_path / "f.onnx")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a folder, a pipe or a device, and no file"):
        mg.export_onnx(np.tanh, floats(2, 3), tmp_path)
    mg.export_onnx(np.tanh, floats(2, 3), str(tmp_path / "f.onnx"))
    mg.export_onnx(lambda x: np.exp(x), floats(2, 3), tmp_path / "f.onnx")
    x = floats(1, 3)
    np.testing.assert_allclose(opened(tmp_path / "f.onnx").run(None, {"x": x})[0], np.exp(x), rtol=1e-6)
    assert list(tmp_path.iterdir()) == [tmp_path / "f.onnx"]


def test_writes_are_refused(tmp_path: Path) -> None:
    total = mg.Tensor(np.zeros(3, np.float32))

    def f(x: Any) -> Any:
        total.data = total.data + x[0]
        return x

    with pytest.raises(TypeError, match="f writes to Tensors"):
        mg.export_onnx(f, floats(2, 3), tmp_path / "f.onnx")
    assert not total.data.any()


@pytest.mark.parametrize(
    ("args", "axes"),
    [
        ((), 0), (np.float32(1), 0), (floats(0, 2), 0), ((floats(2, 3), floats(3, 3)), 0), (floats(2, 3), 2),
        (floats(2, 3), [0, 0]), (floats(2, 3), "0"),
    ],
)  # fmt: skip
def test_inputs_that_are_no_batch(args: Any, axes: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"example inputs of shapes .* of one number of samples, at least one"):
        mg.export_onnx(lambda *xs: xs, args, tmp_path / "f.onnx", batch_axes=axes)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors have no notes before Python 3.11")
def test_what_a_function_says_of_other_batches_has_a_note_of_their_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broadcast") as error:
        mg.export_onnx(lambda x: x + floats(2, 3), floats(2, 3), tmp_path / "f.onnx")
    assert getattr(error.value, "__notes__", None) == ["while export_onnx traced it for a batch of 3 samples"]


def test_a_primitive_of_ones_own_is_refused_by_its_name(scratch_primitive: Any, tmp_path: Path) -> None:
    @scratch_primitive(lambda g, ans, x: g * (1 + ans**2))
    def tangent(x: Any) -> Any:
        return np.tan(x)

    with pytest.raises(NotImplementedError, match="in the call of tangent, there is no operator in ONNX"):
        mg.export_onnx(lambda x: tangent(x), floats(2, 3), tmp_path / "f.onnx")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "minigrad\[onnx\]"'):
        mg.export_onnx(np.tanh, floats(2, 3), tmp_path / "f.onnx")


def test_the_package_is_imported_by_a_call_alone() -> None:
    code = "import sys, minigrad as mg; mg.export_onnx; print('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
