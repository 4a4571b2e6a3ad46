"""Networks as estimators of scikit-learn."""

import functools
import pickle
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

pytest.importorskip("sklearn", reason="scikit-learn, the extra `sklearn`, is not installed")
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from minigrad.sklearn import Classifier, Regressor

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])


def network(features: int, outputs: int) -> Any:
    rng = np.random.default_rng(0)
    return nn.Sequential(nn.Linear(features, 16, rng=rng), nn.tanh, nn.Linear(16, outputs, rng=rng))


def classifier(**options: Any) -> Any:
    return Classifier(network, **{"epochs": 30, "lr": 0.02, "random_state": 0, **options})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [classifier(), Regressor(network, epochs=60, lr=0.01, random_state=0)])
def test_the_checks_of_scikit_learn(estimator: Any) -> None:
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert not [result for result in results if result["status"] == "failed"]
    assert len(results) > 50


def test_labels_of_any_kind_and_the_same_training_twice() -> None:
    found = [classifier().fit(X, NAMES[Y]) for _ in range(2)]
    assert found[0].score(X, NAMES[Y]) > 0.9
    assert list(found[0].classes_) == list(NAMES)
    np.testing.assert_array_equal(*(f.predict_proba(X) for f in found))
    np.testing.assert_allclose(found[0].predict_proba(X).sum(axis=1), 1, rtol=1e-6)


def test_pipelines_searches_and_validation() -> None:
    search = GridSearchCV(
        make_pipeline(StandardScaler(), classifier(epochs=8)), {"classifier__lr": [0.02, 0.0001]}, cv=2
    )
    assert search.fit(X, Y).best_params_ == {"classifier__lr": 0.02}
    assert np.min(cross_val_score(make_pipeline(StandardScaler(), classifier()), X, Y, cv=3)) > 0.85
    calibrated = CalibratedClassifierCV(classifier(), cv=2).fit(X, Y)
    assert calibrated.predict_proba(X).shape == (150, 3)


def test_clones_and_pickles() -> None:
    fitted = classifier().fit(X, Y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
    assert not hasattr(clone(fitted), "model_")


def test_a_model_is_copied_and_any_loss_will_do() -> None:
    model = network(4, 3)
    before = model.state_dict()
    one_hot = lambda prediction, labels: nn.mse_loss(nn.sigmoid(prediction), np.eye(3, dtype=np.float32)[labels])
    adam = functools.partial(mg.optim.AdamW, weight_decay=0.001)
    found = Classifier(model, loss=one_hot, optimizer=adam, lr=0.02, epochs=40, random_state=0).fit(X, Y)
    assert found.score(X, Y) > 0.9
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_early_stopping() -> None:
    found = classifier(epochs=500, lr=0.05, early_stopping=True, patience=3, validation_fraction=0.2).fit(X, Y)
    assert len(found.history_["val_loss"]) < 500


@pytest.mark.parametrize("targets", [1, 2])
def test_regression(targets: int) -> None:
    x, y = make_regression(80, 4, n_targets=targets, noise=1.0, random_state=0)
    y = y / np.std(y)
    found = Regressor(network, epochs=80, lr=0.02, random_state=0).fit(x, y)
    assert found.predict(x).shape == y.shape
    assert found.score(x, y) > 0.9


def test_rates_and_epochs_that_are_wrong_are_refused_when_it_is_fitted() -> None:
    with pytest.raises(ValueError, match="lr"):
        classifier(lr=-1.0).fit(X, Y)
