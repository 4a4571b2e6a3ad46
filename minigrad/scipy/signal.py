"""Convolutions of scipy.signal, in any number of dimensions."""

import numpy as np
import scipy.signal
from scipy.signal import *  # noqa: F403

from minigrad.engine import as_array
from minigrad.tables.primitive import primitive

convolved = primitive(
    lambda g, ans, x, y, mode, method: convolve(g, np.flip(y), "valid" if mode == "full" else "full", method),
    lambda g, ans, x, y, mode, method: convolve(g, np.flip(x), "valid", method),
)(scipy.signal.convolve)


def convolve(in1, in2, mode="full", method="auto"):
    """A convolution; or its middle, in the shape of the first array; or what needs no zeros beyond the larger one."""
    x, y = as_array(in1), as_array(in2)
    if mode != "same":
        larger_first = mode == "full" or x.size >= y.size
        return convolved(*((x, y) if larger_first else (y, x)), mode=mode, method=method)
    middle = [slice((n - 1) // 2, (n - 1) // 2 + m) for m, n in zip(x.shape, y.shape, strict=True)]
    return convolve(x, y, "full", method)[tuple(middle)]
