"""One step of backpropagation on a 2-2-2 sigmoid network, every number by hand and by the graph.

    x1 --- w1, w3 --- h1 --- w5, w7 --- o1        h1 sees x1 by w1 and x2 by w2, and has the bias b1;
    x2 --- w2, w4 --- h2 --- w6, w8 --- o2        o1 sees h1 by w5 and h2 by w6, and has the bias b3; and so on.

By hand means: the chain rule written out for each number, in formulas that know nothing of minigrad. Beside them stands
what the graph gives, which knows nothing of the formulas. The cost E is half the sum of squares. A picture shows the
graph of the whole step, in which the walk back and the new weights are calls like all others, with all the numbers.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

X, TARGET = np.array([2.78, 2.55]), np.array([0.1, 0.9])
W_HIDDEN, B_HIDDEN = np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([0.5, 0.12])  # w1 w2, w3 w4 and b1 b2
W_OUTPUT, B_OUTPUT = np.array([[0.5, 0.6], [0.7, 0.8]]), np.array([0.2, 0.4])  # w5 w6, w7 w8 and b3 b4

FORMULAS = """
forward
  net_h1 = w1 * x1 + w2 * x2 + b1               net_h2 = w3 * x1 + w4 * x2 + b2
  h1 = sigmoid(net_h1)                          h2 = sigmoid(net_h2)
  net_o1 = w5 * h1 + w6 * h2 + b3               net_o2 = w7 * h1 + w8 * h2 + b4
  o1 = sigmoid(net_o1)                          o2 = sigmoid(net_o2)
  E1 = (o1 - t1) ** 2 / 2                       E2 = (o2 - t2) ** 2 / 2
  E = E1 + E2
backward through the outputs
  dE_do1 = o1 - t1                              dE_do2 = o2 - t2
  do1_dnet = o1 * (1 - o1)                      do2_dnet = o2 * (1 - o2)
  dE_dnet_o1 = dE_do1 * do1_dnet                dE_dnet_o2 = dE_do2 * do2_dnet
  dE_dw5 = dE_dnet_o1 * h1                      dE_dw6 = dE_dnet_o1 * h2
  dE_dw7 = dE_dnet_o2 * h1                      dE_dw8 = dE_dnet_o2 * h2
  dE_db3 = dE_dnet_o1                           dE_db4 = dE_dnet_o2
backward through the hidden neurons
  dE_dh1 = dE_dnet_o1 * w5 + dE_dnet_o2 * w7    dE_dh2 = dE_dnet_o1 * w6 + dE_dnet_o2 * w8
  dh1_dnet = h1 * (1 - h1)                      dh2_dnet = h2 * (1 - h2)
  dE_dnet_h1 = dE_dh1 * dh1_dnet                dE_dnet_h2 = dE_dh2 * dh2_dnet
  dE_dw1 = dE_dnet_h1 * x1                      dE_dw2 = dE_dnet_h1 * x2
  dE_dw3 = dE_dnet_h2 * x1                      dE_dw4 = dE_dnet_h2 * x2
  dE_db1 = dE_dnet_h1                           dE_db2 = dE_dnet_h2
the step
  new_w1 = w1 - rate * dE_dw1                   new_w2 = w2 - rate * dE_dw2
  new_w3 = w3 - rate * dE_dw3                   new_w4 = w4 - rate * dE_dw4
  new_w5 = w5 - rate * dE_dw5                   new_w6 = w6 - rate * dE_dw6
  new_w7 = w7 - rate * dE_dw7                   new_w8 = w8 - rate * dE_dw8
  new_b1 = b1 - rate * dE_db1                   new_b2 = b2 - rate * dE_db2
  new_b3 = b3 - rate * dE_db3                   new_b4 = b4 - rate * dE_db4
"""


def named(names: str, values: Any) -> dict[str, float]:
    return dict(zip(names.split(), np.ravel(values).tolist(), strict=True))


def by_hand(rate: float) -> dict[str, float]:
    """All numbers by name: the formulas are run as they stand, so what is printed is what was computed."""
    known: dict[str, Any] = {"sigmoid": lambda net: 1 / (1 + math.exp(-net)), "rate": rate}
    known |= named("x1 x2 t1 t2", [X, TARGET])
    known |= named("w1 w2 w3 w4", W_HIDDEN) | named("w5 w6 w7 w8", W_OUTPUT)
    known |= named("b1 b2 b3 b4", [B_HIDDEN, B_OUTPUT])
    numbers: dict[str, float] = {}
    for name, formula in re.findall(r"(\w+) = (.+?)(?:  |\n)", FORMULAS):
        numbers[name] = eval(formula, known, numbers)
    return numbers


def by_the_graph(rate: float) -> dict[str, float]:
    """The same numbers by the same names, from layers, `backward` and an optimizer."""
    hidden, output = nn.Linear(2, 2, dtype=np.float64), nn.Linear(2, 2, dtype=np.float64)
    hidden.weight.data, hidden.bias.data = W_HIDDEN, B_HIDDEN
    output.weight.data, output.bias.data = W_OUTPUT, B_OUTPUT
    sgd = mg.optim.SGD(nn.parameters([hidden, output]), lr=rate)
    numbers: dict[str, float] = {}

    net_h = hidden(X)
    h = nn.sigmoid(net_h)
    net_o = output(h)
    o = nn.sigmoid(net_o)
    E = nn.mse_loss(o, TARGET, reduction="sum") / 2
    numbers |= named("net_h1 net_h2 h1 h2", [net_h.data, h.data])
    numbers |= named("net_o1 net_o2 o1 o2", [net_o.data, o.data])
    numbers |= named("E1 E2", nn.mse_loss(o.data, TARGET, reduction="none") / 2)
    numbers |= named("E", E.data)

    # backward() leaves gradients with the parameters, and with those values inside that are told to keep theirs.
    for value in (net_h, h, net_o, o):
        value.retain_grad()
    E.backward()
    slope = mg.elementwise_grad(nn.sigmoid)  # of each sigmoid alone
    numbers |= named("dE_do1 dE_do2 do1_dnet do2_dnet", [o.grad, slope(net_o.data)])
    numbers |= named("dE_dnet_o1 dE_dnet_o2", net_o.grad)
    numbers |= named("dE_dh1 dE_dh2 dh1_dnet dh2_dnet", [h.grad, slope(net_h.data)])
    numbers |= named("dE_dnet_h1 dE_dnet_h2", net_h.grad)
    numbers |= named("dE_dw1 dE_dw2 dE_dw3 dE_dw4", hidden.weight.grad)
    numbers |= named("dE_dw5 dE_dw6 dE_dw7 dE_dw8", output.weight.grad)
    numbers |= named("dE_db1 dE_db2 dE_db3 dE_db4", [hidden.bias.grad, output.bias.grad])
    sgd.step()
    numbers |= named("new_w1 new_w2 new_w3 new_w4", hidden.weight.data)
    numbers |= named("new_w5 new_w6 new_w7 new_w8", output.weight.data)
    numbers |= named("new_b1 new_b2 new_b3 new_b4", [hidden.bias.data, output.bias.data])
    return numbers


@mg.primitive(lambda g, ans, net: g * (ans * (1 - ans)))
def sigmoid(net: Any) -> Any:
    """The sigmoid as one call, whose rule is the formula by hand: so that the picture has a box for each number."""
    return 1 / (1 + np.exp(-net))


def draw(rate: float) -> Any:
    """The graph of a whole step: of the cost, of the walk back from it, and of the new weights and biases."""

    def cost(w_hidden: Any, b_hidden: Any, w_output: Any, b_output: Any) -> Any:
        net_h = np.matmul(w_hidden, X) + b_hidden
        h = sigmoid(net_h)
        net_o = np.matmul(w_output, h) + b_output
        o = sigmoid(net_o)
        E1_E2 = (o - TARGET) ** 2 / 2
        return np.sum(E1_E2)

    def step(w_hidden: Any, b_hidden: Any, w_output: Any, b_output: Any) -> Any:
        parameters = w_hidden, b_hidden, w_output, b_output
        E, (dE_dw1_to_4, dE_db1_2, dE_dw5_to_8, dE_db3_4) = mg.value_and_grad(cost, (0, 1, 2, 3))(*parameters)
        new_w1_to_4, new_b1_2 = w_hidden - rate * dE_dw1_to_4, b_hidden - rate * dE_db1_2
        new_w5_to_8, new_b3_4 = w_output - rate * dE_dw5_to_8, b_output - rate * dE_db3_4
        return E, new_w1_to_4, new_b1_2, new_w5_to_8, new_b3_4

    return mg.draw(step, W_HIDDEN, B_HIDDEN, W_OUTPUT, B_OUTPUT, values=True, depth=9)


def main(*, rate: float = 0.5, pictures: Path = Path(__file__).parent / "pictures") -> float:
    """Print every formula with both of its numbers, draw, and return the largest difference between the two."""
    hand, graph = by_hand(rate), by_the_graph(rate)
    for line in FORMULAS.strip().splitlines():
        if not line.startswith(" "):
            print(f"\n{line:<46}{'by hand':>12}{'by the graph':>16}")
        for name, formula in re.findall(r"(\w+) = (.+?)(?:  |$)", line):
            shown = f"{name} = {formula}".replace("_d", "/d")
            print(f"  {shown:<44}{hand[name]:>12.8f}{graph[name]:>16.8f}")
    print("\nThe tutorial that these numbers come from prints a cost E of 0.2085, since it squares 0.653 as 0.414.")
    largest = max(abs(hand[name] - graph[name]) for name in hand | graph)
    print(f"{len(hand)} numbers; the largest difference between hand and graph is {largest:.1g}.")
    pictures.mkdir(parents=True, exist_ok=True)
    try:
        draw(rate).svg(pictures / "backprop-by-hand.svg")
        print(f"picture: {pictures / 'backprop-by-hand.svg'}")
    except ImportError as error:
        print(f"no picture: {error}")
    return largest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="the learning rate; default: %(default)s")
    parser.add_argument("--pictures", type=Path, help="the folder to draw into; default: pictures, beside this file")
    parser.set_defaults(**main.__kwdefaults__)
    try:
        main(**vars(parser.parse_args()))
    except ValueError as problem:
        parser.error(str(problem))
