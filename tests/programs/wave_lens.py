"""Inverse design of a lens for waves: the Helmholtz equation in the frequency domain, on a grid, with one dense solve.

    (laplacian + k^2 * epsilon) u = -source

Towards the border the waves are damped by an imaginary part of epsilon, so that nothing comes back (Johnson, Notes on
perfectly matched layers, 2008, on adiabatic absorbers). What is designed is the material: a density between 0 and 1 at
each point of a region, made smooth, which stands for permittivities from 1 to `most`. The aim is the power at a focus.
"""

import numpy as np

N, SPACING, WAVENUMBER = 11, 0.25, 4.0
REGION = (slice(3, 8), slice(4, 7))  # the points that are designed
FOCUS = (5, 8)


def laplacian() -> np.ndarray:
    line = (np.eye(N, k=1) + np.eye(N, k=-1) - 2 * np.eye(N)) / SPACING**2
    return np.kron(line, np.eye(N)) + np.kron(np.eye(N), line)


def absorption() -> np.ndarray:
    edge = np.minimum(np.arange(N), np.arange(N)[::-1])
    depth = np.maximum(0, 3 - np.minimum.outer(edge, edge)) / 3
    return 2.0 * depth**2


SYSTEM, DAMPING = laplacian(), absorption()
SOURCE = np.zeros((N, N))
SOURCE[5, 2] = 1 / SPACING**2


def smoothing(n: int) -> np.ndarray:
    """The matrix that mixes each of `n` points with its neighbours."""
    mix = np.eye(n) / 2 + np.eye(n, k=1) / 4 + np.eye(n, k=-1) / 4
    return mix / mix.sum(axis=1, keepdims=True)


SMOOTHING = [smoothing(part.stop - part.start) for part in REGION]


def field(parameters, most=3.0):
    """The complex amplitudes of the wave at all points, for the parameters of the region."""
    density = 1 / (1 + np.exp(-parameters))
    density = SMOOTHING[0] @ density @ SMOOTHING[1].T
    epsilon = np.pad(density * (most - 1), [(s.start, N - s.stop) for s in REGION], "constant") + 1 + 1j * DAMPING
    system = SYSTEM + WAVENUMBER**2 * np.diag(np.ravel(epsilon))
    return np.reshape(np.linalg.solve(system, -np.ravel(SOURCE)), (N, N))


def power(parameters):
    """The intensity at the focus."""
    return np.abs(field(parameters)[FOCUS]) ** 2
