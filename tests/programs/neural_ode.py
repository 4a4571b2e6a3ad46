"""A neural ordinary differential equation that learns a spiral.

R. Chen, Y. Rubanova, J. Bettencourt and D. Duvenaud, Neural ordinary differential equations, 2018, arXiv:1806.07366,
section 5.1 and its first example: dy/dt = f(y**3), with one hidden layer in f.
"""

import numpy as np

SPIRAL = np.array([[-0.1, 2.0], [-2.0, -0.1]])
START, TIMES = np.array([2.0, 0.0]), np.linspace(0.0, 3.0, 12)


def slope(y, t, parameters):
    (w1, b1), (w2, b2) = parameters
    return np.dot(np.tanh(np.dot(y**3, w1) + b1), w2) + b2


def loss(parameters, observed, odeint):
    """The mean squared error of the trajectory that `odeint` finds."""
    found = odeint(slope, START, TIMES, (parameters,))
    return np.mean((found - observed) ** 2)


def data(odeint, hidden=8):
    """Parameters to begin with, and the trajectory of the true equation."""
    rng = np.random.default_rng(0)
    layers = [(0.3 * rng.standard_normal(shape), np.zeros(shape[1])) for shape in ((2, hidden), (hidden, 2))]
    return layers, odeint(lambda y, t: np.dot(y**3, SPIRAL), START, TIMES, ())
