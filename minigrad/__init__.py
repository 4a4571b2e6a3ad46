"""Reverse-mode autodiff for NumPy that you can read in one sitting.

NumPy's own functions take Tensors: `np.sum(np.exp(t) ** 2).backward()`. Besides them there are

    arrays that remember     Tensor, no_grad, put, put_add, debug, draw (the graph)
    functions of functions   grad, value_and_grad, elementwise_grad, vjp, jvp, jacobian, hessian, hvp, checkpoint
    programs                 compile, sample, export_onnx
    functions of your own    primitive, vjps (the table of derivatives), testing (check_grads, assert_rule, ...)
    networks                 nn (layers, activations, losses), optim (optimizers, schedules), data (digits, batches)
    training                 fit, predict, evaluate, accuracy, Checkpoint, EarlyStopping, History, training (the rest),
                             distributed (on many machines)

The functions of scipy.special take Tensors, too; more of SciPy is in minigrad.scipy, in modules named as SciPy's.
For more, say help(mg.nn), help(mg.fit) and so on. demos/howto.md answers what people ask; README.md says how it works.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from minigrad import tables as tables  # fills those of the engine
from minigrad.debug import debug
from minigrad.engine import Tensor, latecomers, no_grad, vjps
from minigrad.names import door, missing
from minigrad.sample import sample
from minigrad.tables.primitive import primitive
from minigrad.tables.rules import put, put_add
from minigrad.transforms import checkpoint, elementwise_grad, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

if TYPE_CHECKING:
    from minigrad import data, distributed, nn, optim, testing, training
    from minigrad.compiler import compile
    from minigrad.drawing import draw
    from minigrad.onnx import export_onnx
    from minigrad.training import Checkpoint, EarlyStopping, History
    from minigrad.training.fit import accuracy, evaluate, fit, predict

__all__ = [
    "Checkpoint", "EarlyStopping", "History", "Tensor", "accuracy", "checkpoint", "compile", "data", "debug",
    "distributed", "draw", "elementwise_grad", "evaluate", "export_onnx", "fit", "grad", "hessian", "hvp", "jacobian",
    "jvp", "nn", "no_grad", "optim", "predict", "primitive", "put", "put_add", "sample", "testing", "training",
    "value_and_grad", "vjp", "vjps",
]  # fmt: skip
__version__ = "0.1.0"


# The table of SciPy's functions is imported where SciPy is in use.
latecomers.append(lambda: "scipy.special" in sys.modules and import_module("minigrad.scipy.special"))


def _found(name: str) -> Any:
    """Import what stands above the engine when it is first used, so that the engine alone costs little to import."""
    if name in ("data", "distributed", "nn", "optim", "testing", "training"):
        return import_module(f"minigrad.{name}")
    if name in __all__:
        room = {"compile": "compiler", "draw": "drawing", "export_onnx": "onnx"}.get(name, "training")
        return getattr(import_module(f"minigrad.{room}"), name)
    missing(__name__, name)


door(__name__, _found)
