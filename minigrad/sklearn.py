"""Networks as estimators of scikit-learn, for pipelines, searches and cross-validation; needs the extra `sklearn`.

>>> from sklearn.datasets import load_iris
>>> from minigrad import nn
>>> def network(features, outputs):
...     return nn.Sequential(nn.Linear(features, 8, rng=0), nn.tanh, nn.Linear(8, outputs, rng=1))
>>> classifier = Classifier(network, epochs=30, lr=0.01, random_state=0).fit(*load_iris(return_X_y=True))
>>> classifier.score(*load_iris(return_X_y=True)) > 0.9
True
"""

import copy
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from minigrad.engine import Array, Function
from minigrad.nn import cross_entropy, mse_loss, softmax
from minigrad.nn.module import Module
from minigrad.optim import Adam, Optimizer
from minigrad.training import EarlyStopping
from minigrad.training.fit import fit, predict


class Estimator(BaseEstimator):
    """What `Classifier` and `Regressor` share.

    `model` is a Module, of which each `fit` trains a copy, or a builder: it is called as `builder(features, outputs)`
    and returns a Module. `loss(prediction, y)` is any that `minigrad.fit` takes, and `optimizer(parameters, lr=lr)` any
    optimizer. With `early_stopping` the share `validation_fraction` of the samples is held out, and training ends when
    the loss on them has not fallen for `patience` epochs. `random_state` decides how samples are shuffled and held out.
    After `fit`, `model_` is the trained Module and `history_` the History.
    """

    def __init__(
        self, model: Any, loss: Function | None = None, optimizer: Callable[..., Optimizer] = Adam, lr: float = 0.001,
        epochs: int = 100, batch_size: int | None = 32, compile: bool | Literal["pure"] = True,
        early_stopping: bool = False, validation_fraction: float = 0.1, patience: int = 10, random_state: Any = None,
        progress: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.loss, self.optimizer, self.lr, self.epochs = model, loss, optimizer, lr, epochs
        self.batch_size, self.compile, self.random_state, self.progress = batch_size, compile, random_state, progress
        self.early_stopping, self.validation_fraction, self.patience = early_stopping, validation_fraction, patience

    def _train(self, x: Array, y: Array, outputs: int, loss: Function) -> None:
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        self.model_ = copy.deepcopy(self.model) if isinstance(self.model, Module) else self.model(x.shape[1], outputs)
        optimizer = self.optimizer(self.model_.parameters(), lr=self.lr)
        data, held_out, callbacks = (x, y), None, []
        if self.early_stopping:
            order = rng.permutation(len(x))
            count = max(1, round(self.validation_fraction * len(x)))
            data, held_out = ((x[part], y[part]) for part in (order[count:], order[:count]))
            callbacks = [EarlyStopping(patience=self.patience)]
        options: Any = {name: getattr(self, name) for name in ("epochs", "batch_size", "progress", "compile")}
        options |= {"validation": held_out, "callbacks": callbacks, "seed": int(rng.integers(2**31))}
        self.history_ = fit(self.model_, self.loss or loss, optimizer, data, **options)

    def _predicted(self, x: Any) -> Array:
        """In double precision, so that it is the same however many samples are given at a time."""
        check_is_fitted(self)
        return np.asarray(predict(self.model_, validate_data(self, x, dtype=np.float64, reset=False)))


class Classifier(ClassifierMixin, Estimator):
    """Tells classes: the model gives a number for each, and the loss, by default `nn.cross_entropy`, gets the labels.

    See `Estimator` for what it takes. Labels may be of any kind; they reach the loss as integers from 0 on.
    """

    def fit(self, X: Any, y: Any) -> "Classifier":
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier needs samples of two classes at least, and got 1 class: {self.classes_[0]!r}")
        self._train(X, labels, len(self.classes_), cross_entropy)
        return self

    def predict_proba(self, X: Any) -> Array:
        return np.asarray(softmax(self._predicted(X)))

    def predict(self, X: Any) -> Array:
        chosen = self._predicted(X).argmax(axis=1)
        return np.asarray(self.classes_[chosen])


class Regressor(RegressorMixin, Estimator):
    """Tells numbers, one or several for each sample; the loss is by default `nn.mse_loss`.

    See `Estimator` for what it takes. Where y has one axis, model and loss see it as a column.
    """

    def fit(self, X: Any, y: Any) -> "Regressor":
        X, y = validate_data(self, X, y, dtype=np.float32, y_numeric=True, multi_output=True)
        self._is_column = y.ndim == 1
        y = np.asarray(y, np.float32).reshape(len(y), -1)
        self._train(X, y, y.shape[1], mse_loss)
        return self

    def predict(self, X: Any) -> Array:
        found = self._predicted(X)
        return found[:, 0] if self._is_column else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
