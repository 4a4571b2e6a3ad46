"""Wrong arguments of a training: each has its error, before anything is changed."""

import numpy as np
import pytest
from examples import ROWS, X, Y, bits, fit, mean_error, network, sgd

import minigrad as mg
from minigrad import nn


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[1:], r"of shape \(11, 2\) and \(10, 1\); wanted as many rows"),
        (X[:0], Y[:0], r"of shape \(0, 2\) and \(0, 1\); .* at least one"),
        (X[:0], Y, r"of shape \(0, 2\) and \(11, 1\)"),
        (X, 1.0, r"of shape \(11, 2\) and \(\)"),
    ],
)
def test_data_that_do_not_fit_together(x, y, message):
    model = network()
    before = bits(model)
    with pytest.raises(ValueError, match=f"data holds arrays {message}"):
        fit(model, data=(x, y))
    with pytest.raises(ValueError, match=f"validation holds arrays {message}"):
        fit(model, validation=(x, y))
    with pytest.raises(ValueError, match=f"data holds arrays {message}"):
        mg.evaluate(model, nn.mse_loss, (x, y))
    assert bits(model) == before


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"model": X}, TypeError, "model=array.*; wanted a module, or any function of x"),
        (
            {"loss": sgd(network())},
            TypeError,
            r"loss=.*SGD.*; wanted a function \(prediction, y\) that gives one number",
        ),
        ({"optimizer": nn.mse_loss}, TypeError, "optimizer=<function mse_loss.*; wanted an optimizer, such as"),
        ({"data": X}, TypeError, r"data is one ndarray of shape \(11, 2\); wanted a pair of arrays \(x, y\)"),
        ({"data": X[:2]}, TypeError, "data is one ndarray of shape .*; wanted a pair"),
        ({"data": (X, Y, X)}, TypeError, "data is one tuple of shape .* and .*; wanted a pair"),
        ({"validation": X}, TypeError, "validation is one ndarray of .*; wanted a pair"),
        ({"metrics": mg.accuracy}, TypeError, r"metrics=<.*accuracy.*; wanted functions \(prediction, y\) in a list"),
        ({"metrics": "accuracy"}, TypeError, "metrics='accuracy'; wanted functions"),
        ({"metrics": nn.Sequential()}, TypeError, "metrics=Sequential.*; wanted functions"),
        ({"metrics": {"score": 1.0}}, TypeError, "metrics=dict_values.*; wanted functions"),
        ({"schedule": 0.1}, TypeError, "schedule=0.1; wanted a function from the number of steps"),
        (
            {"callbacks": print},
            TypeError,
            "callbacks=<built-in function print>; wanted functions of the Training in a list",
        ),
        (
            {"callbacks": mg.EarlyStopping("loss")},
            TypeError,
            "callbacks=.*EarlyStopping.*; wanted functions of the Training",
        ),
        ({"callbacks": [1]}, TypeError, r"callbacks=\[1\]; wanted functions of the Training"),
        ({"callbacks": [mg.EarlyStopping]}, TypeError, "one of callbacks=EarlyStopping, which is a class; .*make one"),
        ({"metrics": [nn.Linear]}, TypeError, "one of metrics=Linear, which is a class"),
        ({"model": nn.Linear}, TypeError, "model=Linear, which is a class; wanted a module.*: make one"),
        ({"loss": nn.Tanh}, TypeError, "loss=.*, which is a class"),
        ({"optimizer": mg.optim.Adam}, TypeError, "optimizer=Adam, which is a class; wanted an optimizer, such as"),
        ({"progress": "no"}, TypeError, "progress='no'; wanted True or False"),
        ({"compile": "yes"}, TypeError, "compile='yes'; wanted True, False or"),
        ({"compile": 1}, TypeError, "compile=1; wanted True, False or"),
        ({"clip_grad_norm": "1"}, TypeError, "clip_grad_norm='1'; wanted a number"),
        ({"clip_grad_norm": True}, TypeError, "clip_grad_norm=True; wanted a number"),
        ({"clip_grad_norm": -1.0}, ValueError, "clip_grad_norm=-1.0: it must be at least 0"),
        ({"seed": -1}, ValueError, "seed=-1; wanted a seed"),
        ({"seed": "1"}, TypeError, "seed='1'; wanted a seed"),
        ({"epochs": True}, ValueError, "epochs=True; wanted an integer"),
        ({"epochs": -1}, ValueError, "epochs=-1; wanted an integer of at least 0"),
        ({"epochs": 2.5}, ValueError, "epochs=2.5; wanted an integer of at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size=0; wanted an integer of at least 1, or None"),
        ({"batch_size": -1}, ValueError, "batch_size=-1; wanted an integer of at least 1, or None"),
        ({"batch_size": 2.5}, ValueError, "batch_size=2.5; wanted an integer of at least 1, or None"),
        ({"optimizer": sgd(network())}, ValueError, "moves no parameter of the model.*make the optimizer of model.par"),
    ],
)
def test_arguments_that_are_none(wrong, error, message):
    model = network()
    before = bits(model)
    arguments = {"model": model, "loss": nn.mse_loss, "optimizer": sgd(model), "data": (X, Y), "epochs": 1} | wrong
    with pytest.raises(error, match=message):
        mg.fit(**{"progress": False} | arguments)
    assert bits(model) == before


@pytest.mark.parametrize(
    "metrics",
    [
        [lambda p, y: 0.0, lambda p, y: 1.0],
        [mean_error, mean_error],
        {"loss": mean_error},
        {"val_loss": mean_error},
        {"val_error": mean_error},
        {1: mean_error},
    ],
    ids=["lambdas", "twice", "loss", "val_loss", "val_error", "number"],
)
def test_metrics_need_names_of_their_own(metrics):
    with pytest.raises(ValueError, match="metrics need names of their own"):
        fit(network(), metrics=metrics)
    with pytest.raises(ValueError, match="metrics need names of their own"):
        mg.evaluate(network(), nn.mse_loss, (X, Y), metrics=metrics)


class Sparse:
    """What matters of a sparse matrix of SciPy's."""

    shape = X.shape

    def toarray(self) -> np.ndarray:
        return X


BAD_DATA = {
    "generator": (lambda: (row for row in X), TypeError, r"<generator .*, which gives its rows once: make an array"),
    "iterator": (lambda: zip(X, Y, strict=True), TypeError, "<zip object .*, which gives its rows once"),
    "sparse": (Sparse, TypeError, r"a sparse Sparse: make an array of it, by its method toarray\(\)"),
    "masked": (lambda: np.ma.masked_array(X, X > 1), TypeError, "a masked array, whose mask would be lost"),
    "ragged": (lambda: [[1, 2], [3]] * ROWS, ValueError, "rows of unequal lengths"),
    "objects": (lambda: X.astype(object), TypeError, "ndarray of objects; wanted numbers"),
    "none": (lambda: None, TypeError, "NoneType of objects"),
    "dicts in a list": (lambda: [{"a": 1}] * ROWS, TypeError, "list of objects"),
    "nothing in a dict": (dict, TypeError, "dict of objects"),
}


@pytest.mark.parametrize("inside", [lambda data: data, lambda data: {"a": X, "b": data}, lambda data: (X, (data,))])
@pytest.mark.parametrize("kind", BAD_DATA)
def test_data_that_are_no_arrays(kind, inside):
    make, error, message = BAD_DATA[kind]
    model = network()
    before = bits(model)
    for place in ("x", "y"):
        pair = (inside(make()), Y) if place == "x" else (X, inside(make()))
        with pytest.raises(error, match=rf"data: {place}.* got {message}"):
            fit(model, data=pair)
        with pytest.raises(error, match=rf"validation: {place}.* got {message}"):
            fit(model, validation=pair)
        with pytest.raises(error, match=rf"data: {place}.* got {message}"):
            mg.evaluate(model, nn.mse_loss, pair)
    with pytest.raises(error, match=rf"x.* got {message}"):
        mg.predict(model, inside(make()))
    assert bits(model) == before


@pytest.mark.parametrize("x", [(X, X[:-1]), {"a": X, "b": X[:-1]}, (X, np.float32(1.0))], ids=["tuple", "dict", "0-d"])
def test_all_inputs_have_as_many_rows(x):
    with pytest.raises(ValueError, match=r"data .* \(11, 2\) and \((10, 2)?\) and \(11, 1\); wanted as many"):
        fit(network(), data=(x, Y))
    with pytest.raises(ValueError, match=r"data .* \(11, 2\) and \(11, 2\) and \((10, 2)?\); wanted as many"):
        fit(network(), data=(X, x))
    with pytest.raises(ValueError, match="arrays of lengths"):
        mg.predict(network(), x)


@pytest.mark.parametrize("value", [np.ones(3), None, "0.5", [0.1, 0.2], 1j, np.ones((0,))])
def test_a_metric_gives_one_number(value):
    metric = {"score": lambda prediction, y: value}
    message = r"the metric 'score' returned \w+ of shape .*; wanted one number"
    with pytest.raises(TypeError, match=message):
        fit(network(), metrics=metric)
    with pytest.raises(TypeError, match=message):
        mg.evaluate(network(), nn.mse_loss, (X, Y), metrics=metric)
    with pytest.raises(TypeError, match=message.replace("metric 'score'", "loss")):
        mg.evaluate(network(), lambda prediction, y: value, (X, Y))


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.ones(1), mg.Tensor([2.0], requires_grad=True)])
def test_in_any_form(value):
    history = fit(network(), metrics={"score": lambda prediction, y: value}, epochs=1)
    assert history["score"] == pytest.approx([mg.Tensor(value).item() if not isinstance(value, mg.Tensor) else 2.0])
