"""Wrong arguments of a training: each has its error, before anything is changed."""

import pytest
from examples import X, Y, bits, fit, mean_error, network, sgd

import minigrad as mg
from minigrad import nn


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[1:], "got 11 samples and 10 targets"),
        (X[:0], Y[:0], "got 0 samples and 0 targets"),
        (X[:0], Y, "got 0 samples and 11 targets"),
        (X, 1.0, "got 11 samples and 0 targets"),
    ],
)
def test_data_that_do_not_fit_together(x, y, message):
    model = network()
    before = bits(model)
    with pytest.raises(ValueError, match=f"data: {message}"):
        fit(model, data=(x, y))
    with pytest.raises(ValueError, match=f"validation: {message}"):
        fit(model, validation=(x, y))
    with pytest.raises(ValueError, match=f"data: {message}"):
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
        ({"data": X}, TypeError, r"data=array.*; wanted a pair of arrays \(x, y\)"),
        ({"data": X[:2]}, TypeError, "data=array.*; wanted a pair"),
        ({"data": (X, Y, X)}, TypeError, "data=.*; wanted a pair"),
        ({"validation": X}, TypeError, "validation=array.*; wanted a pair"),
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
        mg.fit(**arguments, progress=False)
    assert bits(model) == before


@pytest.mark.parametrize(
    "metrics",
    [[lambda p, y: 0.0, lambda p, y: 1.0], [mean_error, mean_error], {"loss": mean_error}],
    ids=["lambdas", "twice", "loss"],
)
def test_metrics_need_names_of_their_own(metrics):
    with pytest.raises(ValueError, match="metrics need names of their own"):
        fit(network(), metrics=metrics)
    with pytest.raises(ValueError, match="metrics need names of their own"):
        mg.evaluate(network(), nn.mse_loss, (X, Y), metrics=metrics)
