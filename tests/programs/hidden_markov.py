"""A hidden Markov model of counts, by the forward algorithm with scaling.

L. Rabiner, A tutorial on hidden Markov models, 1989: equations 19 to 20 (the forward variables), 91 to 92 (scale), 103
(the likelihood). Emissions are Poisson's: W. Zucchini and I. MacDonald, Hidden Markov Models for Time Series, 2009.
"""

import numpy as np
import scipy.special


def probabilities(scores):
    """Along the last axis."""
    weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return weights / np.sum(weights, axis=-1, keepdims=True)


def emissions(log_rates, counts):
    """The probability of each count in each state."""
    k = counts[:, None]
    return np.exp(k * log_rates - np.exp(log_rates) - scipy.special.gammaln(k + 1.0))


def loss(theta, counts):
    """Minus the logarithmic likelihood; theta has the scores of the start, those of the transitions, and log rates."""
    n = theta.shape[1]
    start, transitions = probabilities(theta[0]), probabilities(theta[1 : n + 1])
    likelihood = emissions(theta[n + 1], counts)
    alpha, total = start * likelihood[0], 0.0
    for step in likelihood[1:]:
        scale = np.sum(alpha)
        total = total + np.log(scale)
        alpha = np.dot(alpha / scale, transitions) * step
    return -(total + np.log(np.sum(alpha)))


RATES = np.array([2.0, 12.0])


def data(n=200):
    """Counts of two states, which change with the probabilities 0.1 and 0.2."""
    rng = np.random.default_rng(0)
    states = [0]
    for _ in range(n - 1):
        states.append(1 - states[-1] if rng.uniform() < (0.1, 0.2)[states[-1]] else states[-1])
    return np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 2.0]]), rng.poisson(RATES[states])
