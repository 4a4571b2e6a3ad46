"""Complex numbers: their parts, and which functions of the tables take them.

The gradient of a real number L with respect to z = x + iy is dL/dx - i dL/dy, as in HIPS autograd and JAX; PyTorch has
its conjugate. So a rule such as `g * np.cos(z)` is right for complex numbers as it stands: where f is holomorphic, it
passes on g * f'(z), and `grad(lambda z: np.real(f(z)))` is f'. What steps downhill moves by the conjugate.
"""

import numpy as np

from minigrad.engine import call, composites, looked_at, vjps
from minigrad.tables.composites import composite

# fmt: off
vjps[np.real]      = lambda g, ans, x: g,
vjps[np.imag]      = lambda g, ans, x: g * -1j,
vjps[np.conjugate] = lambda g, ans, x: np.conjugate(g),

composites[np.real] = lambda x: call(np.real, (x,)) if x.dtype.kind == "c" else np.copy(x)
composites[np.sign] = lambda x: x / nonzero(np.abs(x)) if x.dtype.kind == "c" else call(np.sign, (x,))
composites[np.imag] = lambda x: call(np.imag, (x,)) if x.dtype.kind == "c" else np.zeros_like(x)
# fmt: on


def nonzero(x):
    return np.where(x == 0, 1, x)


@composite(np.angle)
def angle(z, deg=False):
    radians = np.arctan2(np.imag(z), np.real(z))
    return np.degrees(radians) if deg else radians


@composite(np.real_if_close)
def real_if_close(x, tol=100):
    return np.copy(x) if np.iscomplexobj(np.real_if_close(looked_at(x), tol)) else np.real(x)
