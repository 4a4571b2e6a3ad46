"""Pictures of graphs: which boxes and arrows there are, what is written in them, and that they can be laid out."""

import gc
import html
import re
import shutil
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.drawing import draw
from minigrad.engine import constant, constants
from minigrad.pictures import FITS, MOST, Box, Graph

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([[0], [1], [1], [0]], np.float32)


def xor_net():
    rng = np.random.default_rng(0)
    return nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Tanh(), nn.Linear(3, 1, rng=rng), nn.Tanh())


def mnist_net():
    rng = np.random.default_rng(0)
    wide, narrow, last = nn.Linear(784, 100, rng=rng), nn.Linear(100, 50, rng=rng), nn.Linear(50, 10, rng=rng)
    return nn.Sequential(wide, nn.relu, nn.Dropout(0.1, rng=rng), narrow, nn.relu, last)


def titles(graph):
    return [box.title for box in graph.boxes]


def edges(graph):
    """The arrows, with the titles of the boxes at their ends."""
    return {(graph.boxes[a].title, graph.boxes[b].title) for a, b, _ in graph.arrows}


def box(graph, title):
    (found,) = (box for box in graph.boxes if box.title == title)
    return found


def texts(box, what):
    return "\n".join(text for kind, text in box.lines if kind == what)


# ------------------------------------------------------------------------------------------------ graphs of tensors


def test_the_calls_behind_a_tensor_are_boxes_from_what_is_used_to_what_uses_it():
    w, x = mg.Tensor([1.0, 2.0], requires_grad=True), np.array([3.0, 4.0])
    hidden = np.tanh(x * w)
    loss = np.sum(hidden**2)
    graph = draw(loss, names=locals())
    assert titles(graph) == ["x", "w", "multiply(x, w)", "hidden = tanh(·)", "square(hidden)", "loss = sum(·)"]
    assert [box.kind for box in graph.boxes] == ["constant", "leaf", "forward", "forward", "forward", "forward"]
    assert graph.arrows == [(0, 2, False), (1, 2, True), (2, 3, True), (3, 4, True), (4, 5, True)]
    assert [box.is_answer for box in graph.boxes] == [False] * 5 + [True]
    assert texts(box(graph, "w"), "kind") == "float64 (2,)"


def test_without_names_unnamed_arrays_stand_in_the_text_of_the_call():
    w = mg.Tensor(np.ones((3, 2)), requires_grad=True)
    assert titles(draw(np.sum(np.ones((4, 3)) @ w))) == ["tensor", "matmul(float64[4, 3], ·)", "sum(·)"]


@pytest.mark.parametrize(
    ("call", "written"),
    [
        (lambda x: x[1:, 0], "getitem(x, (1:, 0))"),
        (lambda x: x[[0, 1]], "getitem(x, (0, 1))"),
        (lambda x: x[..., None], "getitem(x, (..., None))"),
        (lambda x: x[::-1], "getitem(x, ::-1)"),
        (lambda x: np.sum(x, axis=1, keepdims=True), "sum(x, axis=1, keepdims=True)"),
        (lambda x: x * 2.5, "multiply(x, 2.5)"),
        (lambda x: np.float32(2.5) - x, "subtract(2.5, x)"),
        (lambda x: np.concatenate([x, x], axis=1), "concatenate(x, x, axis=1)"),
        (lambda x: x.reshape(4), "reshape(x, 4)"),
        (lambda x: np.linalg.inv(x), "linalg.inv(x)"),
    ],
)
def test_a_call_is_written_as_in_a_program(call, written):
    x = mg.Tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    assert titles(draw(call(x), names={"x": x}))[1:] == [written]


def test_names_are_found_in_modules_and_structures_by_the_shortest_way():
    model, extra = xor_net(), {"deep": [mg.Tensor(1.0, requires_grad=True)]}
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    holder = {"model": {"again": model}}
    out = model(X) * extra["deep"][0]
    names = {"holder": holder, "optimizer": optimizer, "model": model, "extra": extra, "_": extra["deep"][0]}
    leaves = [box.title for box in draw(out, names=names).boxes if box.kind == "leaf"]
    assert leaves == ["model.0.weight", "model.0.bias", "model.2.weight", "model.2.bias", "extra.deep.0"]


def test_a_search_for_names_ends_in_a_maze():
    rooms = []

    class Maze:
        @property
        def __dict__(self):
            rooms.append(Maze())
            return {"next": rooms[-1]}

    w = mg.Tensor(1.0, requires_grad=True)
    assert titles(draw(w * 2, names={"maze": Maze(), "w": w})) == ["w", "multiply(w, 2)"]


def test_a_structure_of_tensors_has_all_their_calls_once():
    x = mg.Tensor(2.0, requires_grad=True)
    y = x**2
    graph = draw({"y": y, "more": [np.sin(y), y]}, names={"x": x})
    assert titles(graph) == ["x", "square(x)", "sin(·)"]
    assert [box.is_answer for box in graph.boxes] == [False, True, True]


def test_leaves_and_tensors_without_a_history_have_a_picture():
    assert titles(draw(mg.Tensor([1.0]))) == ["tensor"]
    with mg.no_grad():
        assert [box.kind for box in draw(mg.Tensor(1.0, requires_grad=True) * 2).boxes] == ["constant"]


def test_a_long_chain_needs_no_recursion_and_is_laid_out_up_to_a_limit():
    x = mg.Tensor(1.0, requires_grad=True)
    for _ in range(MOST + 1000):
        x = x + 1
    graph = draw(x)
    assert len(graph.boxes) == MOST + 1001
    assert graph.dot.count("->") == MOST + 1000
    with pytest.raises(ValueError, match=r"up to 2,000 boxes, and this one 3,001"):
        graph.png("never.png")


# --------------------------------------------------------------------------------------------- values and gradients


def test_values_and_gradients_are_those_of_backward_which_leaves_no_trace():
    model = xor_net()
    hidden = model[1](model[0](X))
    loss = nn.mse_loss(model[3](model[2](hidden)), Y)
    graph = draw(loss, names=locals(), values=True, gradients=True)
    assert all(p.grad is None for p in model.parameters())
    assert hidden.grad is None
    again = draw(loss, names=locals(), values=True, gradients=True)
    assert again.dot == graph.dot
    hidden.retain_grad()
    loss.backward()
    for name, tensor in {**{f"model.{n}": p for n, p in model.named_parameters()}, "hidden": hidden}.items():
        (found,) = (box for box in graph.boxes if re.match(rf"{name}( =|$)", box.title))
        for what, array in [("value", tensor.data), ("gradient", tensor.grad)]:
            numbers = [float(number) for number in re.findall(r"-?\d+\.\d*", texts(found, what))]
            np.testing.assert_allclose(numbers, array.ravel(), atol=6e-5)


def test_of_many_numbers_the_least_and_the_greatest_are_shown():
    x = mg.Tensor(np.arange(13.0), requires_grad=True)
    graph = draw(np.sum(x**2), names={"x": x}, values=True, gradients=True)
    assert texts(box(graph, "x"), "value") == "= [ 0. … 12.]"
    assert texts(box(graph, "x"), "gradient") == "grad = [ 0. … 24.]"
    assert texts(box(draw(x[:0], values=True), "getitem(·, :0)"), "value") == "= []"


def test_what_was_not_chosen_gets_the_gradient_that_backward_gives():
    x = mg.Tensor([0.0, 4.0], requires_grad=True)
    graph = draw(np.sum(np.where(x.data > 0, np.sqrt(x), 0.0)), names={"x": x}, gradients=True)
    assert texts(box(graph, "x"), "gradient") == "grad = [0.   0.25]"


@pytest.mark.parametrize("shape", [(2,), (1, 3)])
def test_gradients_are_those_of_one_number(shape):
    x = mg.Tensor(np.ones(shape), requires_grad=True)
    for wrong in (x * 2, [np.sum(x), np.sum(x)], mg.Tensor(1.0), np.ones(1)):
        with pytest.raises(ValueError, match="one tensor of one element that requires a gradient: reduce it first"):
            draw(wrong, gradients=True)


def test_a_graph_is_drawn_before_backward_or_kept():
    x = mg.Tensor(2.0, requires_grad=True)
    y = x**2
    y.backward(retain_graph=True)
    assert texts(draw(y, gradients=True).boxes[0], "gradient") == "grad = 4."
    y.backward()
    with pytest.raises(RuntimeError, match=r"draw it before, or say backward\(retain_graph=True\)"):
        draw(y)


def test_drawing_keeps_nothing_alive():
    gc.collect()
    gc.disable()
    try:
        x = mg.Tensor(np.ones(3), requires_grad=True)
        y = np.sum(np.tanh(x))
        graph, seen = draw(y, values=True, gradients=True), weakref.ref(y)
        del y
        assert seen() is None
        made = []
        draw(lambda x: made.append(weakref.ref(out := np.sum(np.tanh(x)))) or out, np.ones(3))
        assert made[0]() is None
        assert graph.dot
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------ layers and functions


def test_the_xor_net_is_shown_in_full_and_the_mnist_net_by_its_layers():
    model, digits = xor_net(), mnist_net()
    xor = draw(lambda x, y: nn.mse_loss(model(x), y), X, Y)
    assert "layer" not in {box.kind for box in xor.boxes}
    assert sum(box.kind == "leaf" for box in xor.boxes) == 6  # four parameters, x and y
    frames = [group[1] for box in xor.boxes for group in box.path]
    assert [*dict.fromkeys(frames)] == ["Sequential", "Linear(2, 3)", "Tanh()", "Linear(3, 1)", "mse_loss", "mean"]
    x, y = np.zeros((64, 784), np.float32), np.arange(64) % 10
    mnist = draw(lambda x, y: nn.cross_entropy(digits(x), y), x, y)
    layers = ["Linear(784, 100)", "relu", "Dropout(p=0.1)", "Linear(100, 50)", "relu", "Linear(50, 10)"]
    assert titles(mnist)[:7] == ["x", *layers]
    assert len(mnist.boxes) <= FITS
    assert texts(box(mnist, "Linear(784, 100)"), "kind") == "float32 (64, 100)\n78,500 parameters"
    assert {group[1] for box in mnist.boxes for group in box.path} == {"Sequential", "cross_entropy"}
    assert texts(box(mnist, "mean"), "kind") == "float32 ()"


@pytest.mark.parametrize("depth", range(5))
def test_depth_opens_so_many_levels(depth):
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.tanh), nn.Linear(3, 1))
    graph = draw(lambda x: nn.mse_loss(model(x), Y), X, depth=depth)
    assert max(len(box.path) for box in graph.boxes) == min(depth, 3)
    shown = [
        ["x", "Sequential", "Y", "mse_loss"],
        ["x", "Sequential", "Linear(3, 1)"],
        ["x", "Linear(2, 3)", "tanh(·)", "model.1.weight"],
        ["x", "model.0.0.weight"],
        ["x", "model.0.0.weight"],
    ]
    assert titles(graph)[: len(shown[depth])] == shown[depth]
    assert sum(box.is_answer for box in graph.boxes) == 1


def test_a_closed_layer_shows_what_leaves_it():
    model = xor_net()
    graph = draw(lambda: nn.mse_loss(model(X), Y), depth=0, values=True, gradients=True)
    full = draw(lambda: nn.mse_loss(model(X), Y), depth=9, values=True, gradients=True)
    assert titles(graph) == ["X", "Sequential", "Y", "mse_loss"]
    last = next(full.boxes[a] for a, b, _ in full.arrows if full.boxes[b].title.startswith("subtract"))
    assert box(graph, "Sequential").lines == [*last.lines, ("kind", "13 parameters")]
    assert graph.arrows == [(0, 1, False), (1, 3, True), (2, 3, False)]


def test_layers_of_a_tensors_own_graph_are_the_owners_of_parameters():
    model = xor_net()
    out = model(X)
    graph = draw(out, names={"model": model}, depth=0)
    assert [box.title for box in graph.boxes if box.kind == "layer"] == [
        "model.0: Linear(2, 3)",
        "model.2: Linear(3, 1)",
    ]
    assert "model.0.weight" in titles(draw(out, names={"model": model}))
    assert not any(box.path for box in draw(out, names=dict(model.named_parameters())).boxes)


def test_a_layer_that_is_called_twice_is_drawn_twice_and_its_parameters_once():
    layer = nn.Linear(2, 2, rng=np.random.default_rng(0))
    graph = draw(lambda x: layer(layer(x)), X)
    assert len({group for box in graph.boxes for group in box.path}) == 2
    assert box(graph, "layer.weight").path == ()
    assert titles(draw(lambda x: layer(layer(x)), X, depth=0)).count("Linear(2, 2)") == 2


def swish(x, beta):
    return x / (1 + np.exp(-beta * x))


class Scale(nn.Module):
    def __init__(self):
        self.factor = mg.Tensor([1.0, 2.0], requires_grad=True)

    def forward(self, x):
        scaled = swish(x, self.factor)
        return np.sum(scaled)


def test_functions_and_modules_of_ones_own_are_layers_and_variables_have_names():
    def model(p, x):
        h = swish(x @ p["first"], p["beta"])
        return h @ p["last"]

    p = {"first": np.ones((2, 3)), "beta": np.ones(3), "last": np.ones((3, 1))}
    graph = draw(model, p, X.astype(float), depth=0)
    assert titles(graph) == ["x", "p.first", "matmul(x, p.first)", "h = swish", "p.last", "matmul(h, p.last)"]
    opened = draw(model, p, X.astype(float))
    assert {group[1] for box in opened.boxes for group in box.path} == {"swish"}
    assert "h = divide(·, ·)" in titles(opened)
    graph = draw(Scale(), X)
    assert "factor" in titles(graph)
    assert "sum(scaled)" in titles(graph)


def test_floats_and_arrays_become_tensors_and_the_callers_are_left_alone():
    seen = []

    def f(x, rate, count, labels, t):
        seen.extend([x, rate, count, labels, t])
        return np.sum(x * rate * count) + np.sum(t) + labels[0]

    x, labels, t = np.ones(3), np.array([1, 2]), mg.Tensor(1.0, requires_grad=True)
    draw(f, x, 0.5, 3, labels, t, values=True, gradients=True)
    assert [type(value) for value in seen] == [mg.Tensor, mg.Tensor, int, np.ndarray, mg.Tensor]
    assert seen[-1] is t
    assert t.grad is None
    seen[0].data[:] = 5
    assert x[0] == 1


def test_a_function_of_numpy_has_names_too():
    assert titles(draw(np.sin, 1.0)) == ["x", "sin(x)"]
    assert titles(draw(np.hypot, 3.0, 4.0)) == ["x", "x1", "hypot(x, x1)"]


def test_the_derivative_of_a_function_shows_the_walk_back():
    def f(x):
        inner = x**2
        return np.sin(inner)

    graph = draw(mg.grad(f), 3.0, values=True)
    assert titles(graph) == ["x", "inner = square(x)", "cos(inner)", "multiply(1.0, ·)", "add(x, x)", "multiply(·, ·)"]
    assert [box.kind for box in graph.boxes] == ["leaf", "forward", *["backward"] * 4]
    assert [group[1] for group in graph.boxes[1].path] == ["f"]
    assert texts(graph.boxes[-1], "value") == f"= {6 * np.cos(9):.4f}"
    twice = texts(box(draw(mg.grad(f), 3.0, gradients=True), "x"), "gradient")
    assert twice == f"grad = {2 * np.cos(9) - 36 * np.sin(9):.4f}"
    assert draw(lambda x: mg.grad(f)(x) * 2, 3.0).boxes[-1].kind == "forward"
    both = draw(mg.value_and_grad(f), 3.0)
    assert [box.title for box in both.boxes if box.is_answer] == ["sin(inner)", "multiply(·, ·)"]


@pytest.mark.parametrize("transform", [mg.jacobian, mg.hessian, mg.elementwise_grad, mg.checkpoint])
def test_transforms_have_pictures(transform):
    graph = draw(transform(lambda x: np.sum(x**3)), np.array([1.0, 2.0]), values=True)
    assert graph.boxes[0].title == "x"
    assert graph.boxes[-1].is_answer


def test_a_comparison_is_drawn_and_no_gradient_flows_through_it():
    graph = draw(lambda x: np.where(x <= 0, 0, x), np.array([1.0, -2.0]))
    assert ("x", "less_equal(x, 0)") in edges(graph)
    flows = {(graph.boxes[a].title, graph.boxes[b].title): flows for a, b, flows in graph.arrows}
    assert flows["x", "less_equal(x, 0)"] is False
    assert sum(flows.values()) == 1


def test_numbers_without_their_history_come_from_where_they_were():
    labels = mg.Tensor([1, 0])
    graph = draw(lambda logits: nn.cross_entropy(logits, labels), np.eye(2), depth=9)
    assert ("labels", "getitem(·, (int64[2], labels))") in edges(graph)


def test_a_constant_may_return_what_it_was_given():
    second = constant(lambda x, array: array)
    try:
        array = np.array([1.0, 2.0])
        assert titles(draw(lambda x: x * second(x, array), 2.0)) == ["x", "array", "multiply(x, array)"]
    finally:
        constants.discard(second.__wrapped__)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_modes_outside_see_the_calls_and_an_error_leaves_no_mode_behind():
    with mg.debug(), pytest.raises(FloatingPointError, match=r"np\.sqrt"):
        draw(np.sqrt, -1.0)
    with pytest.raises(ZeroDivisionError):
        draw(lambda x: x * (1 / 0), 1.0)
    assert isinstance(np.sqrt(mg.Tensor(2.0)), mg.Tensor)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "draw got 3: give it a tensor, or a function that returns one"),
        ((lambda x: None, 1.0), "draw got None: give it a tensor"),
        (([],), r"draw got \[\]"),
        ((mg.Tensor(1.0), 2.0), "draw got arguments for a Tensor: give it a function of them"),
    ],
)
def test_what_has_no_picture_is_said(arguments, message):
    with pytest.raises(TypeError, match=message):
        draw(*arguments)


def test_a_depth_is_no_less_than_none():
    with pytest.raises(ValueError, match="depth=-1: wanted the number of levels"):
        draw(np.sin, 1.0, depth=-1)


# ---------------------------------------------------------------------------------------------------------- programs


def test_the_program_of_a_step_is_drawn_line_by_line():
    model = xor_net()
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)

    @mg.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    with pytest.raises(RuntimeError, match="no program yet"):
        draw(step)
    before = [p.data.copy() for p in model.parameters()]
    graph = draw(step, X, Y)
    assert any(not np.array_equal(p.data, old) for p, old in zip(model.parameters(), before, strict=True))
    assert draw(step).dot == graph.dot
    assert {"x", "y"} <= {box.title for box in graph.boxes if box.kind == "leaf"}
    lines = [line for line in step.source.partition("def forward")[2].splitlines() if re.search(r"\S.*  # ", line)]
    assert sum(bool(box.lines) and box.kind == "forward" for box in graph.boxes) == len(lines)
    assert any(re.match(r"b\d = tanh\(b\d\)", box.title) for box in graph.boxes)  # from a buffer to a buffer
    assert all(a < b for a, b, _ in graph.arrows)
    connected = {i for a, b, _ in graph.arrows for i in (a, b)}
    assert connected == set(range(len(graph.boxes)))


def test_what_a_program_does_together_has_a_frame():
    f = mg.compile(lambda x: np.sum(np.sqrt(np.exp(x) * 2 + 1)))
    graph = draw(f, mg.Tensor(np.ones((2000, 200)), requires_grad=True))
    frames = {box.path for box in graph.boxes if box.path}
    assert len(frames) == 2  # forward, and backward
    assert all(re.fullmatch(r"\d+ rows at a time", path[0][1]) for path in frames)
    assert [box.title.split(" = ")[0] for box in graph.boxes if box.is_answer] == ["t0", "d_x_rows"]
    assert {box.kind for box in graph.boxes} == {"leaf", "forward", "backward"}
    assert [box.title for box in graph.boxes if not box.path] == ["x", "t0 = add_reduce(t0_parts)"]


def test_the_gradient_of_an_answer_is_given_to_a_program():
    x = mg.Tensor(np.ones(3), requires_grad=True)
    graph = draw(mg.compile(lambda x: np.sin(x) * 2), x)
    assert [box.title for box in graph.boxes if box.kind == "leaf"] == ["x", "g"]
    assert [box.kind for box in graph.boxes if box.is_answer] == ["forward", "backward"]
    graph = draw(mg.compile(np.sum), x)  # whose gradient is copied to where it is wanted
    assert [box.title for box in graph.boxes if box.kind == "leaf"] == ["a"]
    assert [box.kind for box in graph.boxes if box.is_answer] == ["forward", "backward"]


def test_a_compiled_model_is_drawn_for_the_arguments_that_are_given():
    model = mg.compile(xor_net())
    assert "float32 (4, 1)" in draw(model, X).dot
    assert "float32 (3, 1)" in draw(model, X[:3]).dot


# ------------------------------------------------------------------------------------------------- texts and files


EVIL = '"><b>&amp; ]] `#35;\\ \n end</script>'


def test_nothing_in_a_name_means_anything_to_the_languages():
    x = mg.Tensor(1.0, requires_grad=True)
    graph = draw(x * 2, names={EVIL: x})
    for box in graph.boxes:
        box.path = ((0, EVIL),)
    label = html.escape(EVIL, quote=False).replace("\n", "<br/>")
    assert f"n0 [label=<<b>{label}</b>" in graph.dot
    assert "\n" not in graph.mermaid.splitlines()[1]
    assert [line.count("#quot;&gt;&lt;b&gt;&amp;amp; ]] `#35;35;") for line in graph.mermaid.splitlines()[1:4]] == [
        1
    ] * 3
    pytest.importorskip("pygraphviz")
    assert "multiply" in graph._repr_svg_()


def test_the_texts_have_a_line_for_every_box_arrow_and_frame():
    graph = draw(xor_net(), X, values=True)
    frames = {path[: i + 1] for box in graph.boxes for path in [box.path] for i in range(len(path))}
    for text, start, end in [(graph.dot, "subgraph cluster_", "}"), (graph.mermaid, "subgraph g", "end")]:
        lines = text.splitlines()
        assert sum(line.startswith(start) for line in lines) == len(frames)
        assert sum(line == end for line in lines) == len(frames) + (end == "}")
        for i in range(len(graph.boxes)):
            assert sum(bool(re.match(rf"n{i}\W*[\[(]", line)) for line in lines) == 1
    classes = set(re.findall(r":::(\w+)$", graph.mermaid, re.MULTILINE))
    assert classes.isdisjoint({"call", "click", "default", "end", "graph", "href", "style", "subgraph"})  # its keywords
    assert graph.mermaid.count("-->") + graph.mermaid.count("-.->") == len(graph.arrows)


@given(st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=8), st.integers(0, 4))
def test_closing_keeps_every_way_between_boxes_that_stay(paths, depth):
    boxes = []
    for i, path in enumerate(paths):
        groups = tuple((int("".join(map(str, path[: k + 1])), 3) + 100 * k, "g") for k in range(len(path)))
        boxes.append(Box(str(i), "forward", [("kind", "")], groups, is_answer=i == len(paths) - 1))
    arrows = [(i, i + 1, True) for i in range(len(boxes) - 1)]
    closed = Graph(boxes, arrows).closed(depth)
    assert Graph(boxes, arrows).dot.count("subgraph") == len(
        {box.path[:k] for box in boxes for k in range(1, 4)} - {()}
    )
    assert max(len(box.path) for box in closed.boxes) <= depth
    stay = [box.title for box in boxes if len(box.path) <= depth]
    assert [box.title for box in closed.boxes if box.kind == "forward"] == stay
    assert sum(box.is_answer for box in closed.boxes) == 1
    assert len({box.path for box in closed.boxes if box.kind == "layer"}) <= len(closed.boxes)
    assert all(a != b for a, b, _ in closed.arrows)


def test_files_are_pictures(tmp_path):
    pytest.importorskip("pygraphviz")
    graph = draw(xor_net(), X, values=True)
    graph.svg(tmp_path / "graph.svg")
    graph.png(str(tmp_path / "graph.png"))
    text = (tmp_path / "graph.svg").read_text(encoding="utf-8")
    assert text.count('class="node"') == len(graph.boxes)
    assert text.count('class="edge"') == len(graph.arrows)
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    assert graph._repr_svg_() == text


def test_without_pygraphviz_the_program_lays_out_or_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    graph = draw(np.sin, 1.0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "minigrad\[draw\]", or install the program dot'):
        graph.svg(tmp_path / "graph.svg")
    assert not list(tmp_path.iterdir())
    assert graph._repr_svg_() is None
    assert "2 boxes" in repr(graph)
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    done = lambda command, **options: subprocess.CompletedProcess(
        command, 0, f"{command} {len(options['input'])}".encode()
    )
    monkeypatch.setattr(subprocess, "run", done)
    graph.svg(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text() == f"['/somewhere/dot', '-Tsvg'] {len(graph.dot.encode())}"
