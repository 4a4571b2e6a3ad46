"""Convolutions of scipy.signal, in any number of dimensions."""

import numpy as np
import scipy.signal
from scipy.signal import *  # noqa: F403

from minigrad.engine import as_array
from minigrad.tables.primitive import primitive

full = primitive(
    lambda g, ans, x, y, mode, method: convolve(g, np.flip(y), "valid", method),
    lambda g, ans, x, y, mode, method: convolve(g, np.flip(x), "valid", method),
)(lambda x, y, mode, method: scipy.signal.convolve(x, y, mode, method))
valid = primitive(  # where x is the larger one
    lambda g, ans, x, y, mode, method: convolve(g, np.flip(y), "full", method),
    lambda g, ans, x, y, mode, method: np.flip(convolve(x, np.flip(g), "valid", method)),
)(lambda x, y, mode, method: scipy.signal.convolve(x, y, mode, method))


def convolve(in1, in2, mode="full", method="auto"):
    """A convolution; or its middle, in the shape of the first array; or what needs no zeros beyond the larger one."""
    x, y = as_array(in1), as_array(in2)
    if mode == "valid":
        return valid(*((y, x) if x.size < y.size else (x, y)), mode=mode, method=method)
    answer = full(x, y, mode="full", method=method)
    middle = [slice((n - 1) // 2, (n - 1) // 2 + m) for m, n in zip(x.shape, y.shape, strict=True)]
    return {"full": answer, "same": answer[tuple(middle)]}[mode]


def correlate(in1, in2, mode="full", method="auto"):
    """The convolution with the second array turned round, of real numbers."""
    return convolve(in1, np.flip(in2), mode, method)
