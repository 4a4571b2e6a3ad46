"""Regression by a Gaussian process, with the hyperparameters that make the observations most likely.

C. Rasmussen and C. Williams, Gaussian Processes for Machine Learning, 2006: algorithm 2.1, and equations 5.1 (a length
for each input), 5.8 (the logarithmic marginal likelihood).
"""

import numpy as np


def kernel(theta, x, z):
    """The covariance of the function at `x` and at `z`; theta begins with the logarithms of lengths and amplitude."""
    lengths, amplitude = np.exp(theta[: x.shape[1]]), np.exp(theta[x.shape[1]])
    difference = (x[:, None, :] - z[None, :, :]) / lengths
    return amplitude**2 * np.exp(-np.sum(difference**2, axis=2) / 2)


def factor_and_weights(theta, x, y):
    """Lines 2 and 3 of algorithm 2.1; theta ends with the logarithm of the noise."""
    factor = np.linalg.cholesky(kernel(theta, x, x) + np.exp(2 * theta[-1]) * np.eye(len(x)))
    return factor, np.linalg.solve(factor.T, np.linalg.solve(factor, y))


def loss(theta, x, y):
    """Minus the logarithmic marginal likelihood."""
    factor, weights = factor_and_weights(theta, x, y)
    return np.dot(y, weights) / 2 + np.sum(np.log(np.diag(factor))) + len(x) / 2 * np.log(2 * np.pi)


def prediction(theta, x, y, z):
    """The mean at new places."""
    return np.dot(kernel(theta, z, x), factor_and_weights(theta, x, y)[1])


def data(n=40):
    """A function of the first of two inputs, observed with noise of 0.1."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (n, 2))
    return np.log([1.0, 1.0, 1.0, 0.5]), x, np.sin(2 * x[:, 0]) + 0.1 * rng.standard_normal(n)
