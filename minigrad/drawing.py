"""Pictures of graphs: what is computed, what flows back, and what a program makes of it; see `draw`.

Calls are found in two ways. A tensor remembers those that it was made by. And a function is run once while a mode notes
its calls, and from Python's frames the layers and functions that make them: each of these can be drawn as one box.
"""

from __future__ import annotations

import re
import reprlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from minigrad.compiler import Compiled

from minigrad.engine import (  # isort: skip
    Call, Function, Masks, Mode, Tensor, array_of, call_other, composites, history, may_choose, mode, name_of, on,
    outside, unrecorded, walk,
)  # fmt: skip
from minigrad.nn import Module
from minigrad.pictures import Arrow, Box, Graph, Group
from minigrad.transforms import argument
from minigrad.trees import flatten, leaves, named

ARRAYS = (Tensor, np.ndarray, np.generic)
LINE = r"(?:(\w+)(?:\[.*?\])? = )?(.+)"  # of a program: what is written to, and what
SHOWN = 12  # numbers of an array that are shown one by one


def draw(
    what: Any, *args: Any, names: Any = None, values: bool = False, gradients: bool = False, depth: int | None = None
) -> Graph:
    """The graph behind a tensor, or of what a function does with some arguments, as a picture.

    `what` is a tensor, or a structure of tensors: draw it before `backward()`, which frees the graph, or say
    `backward(retain_graph=True)`. Or it is a function, a module too, which is run once with `args`: floats and arrays
    of floats become tensors, so that `draw(grad(f), x)` shows the walk back as well. Or it is a compiled function, of
    which the program for `args`, or without any the one that ran last, is shown: a box for each line of its `.source`,
    and a frame around those that are done together for some rows at a time.

    `names` is anything in which tensors are found by name, such as `locals()`; in a function that is run, its variables
    and parameters have names without that. `values` shows numbers, of more than 12 the least and the greatest, and
    `gradients` those of a tensor of one element by all else: for this it walks back once, and leaves all `.grad` alone.
    `depth` is the number of levels of layers and functions that are opened; unless given, as many as leave at most 25
    boxes. A tensor itself knows of no layers: those of its graph are the calls with parameters of a module in `names`.
    What gradients end at is green, the walk back orange; they flow along the full lines, not along the dashed ones.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> print(draw(np.sum(x**2), names={"x": x}, values=True).mermaid)  # doctest: +ELLIPSIS
    flowchart TD
    n0(["<b>x</b><br/>float64 (2,)<br/>= [1. 2.]"]):::leaf
    n1["<b>square(x)</b><br/>float64 (2,)<br/>= [1. 4.]"]:::forward
    n2["<b>sum(·)</b><br/>float64 ()<br/>= 5."]:::answer
    n0 --> n1
    n1 --> n2
    ...
    """
    if depth is not None and depth < 0:
        raise ValueError(f"depth={depth}: wanted the number of levels to open, 0 for none")
    if isinstance(what, Compiled):
        if args:
            what(*args)
        return of_program(what.source)
    watch = Watch(what)
    if callable(what) and not isinstance(what, Tensor):
        what = watch.run(args)
    elif args:
        raise TypeError(f"draw got arguments for a {type(what).__name__}: give it a function of them, or tensors alone")
    roots = [x for x in flatten(what)[0] if isinstance(x, ARRAYS)]
    if not roots:
        raise TypeError(f"draw got {reprlib.repr(what)}: give it a tensor, or a function that returns one.")
    return Calls(watch, names, values, gradients_of(roots) if gradients else {}).graph(roots).closed(depth)


# ------------------------------------------------------------------------------------- functions that are watched


class Step(NamedTuple):
    """A call that was made, in layers and functions from the outermost on."""

    answer: Any
    function: Function
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    path: tuple[Group, ...] = ()
    kind: str = "forward"


class Watch(Mode):
    """Notes the calls that a function makes, and by the frames that they are made in the layers and functions."""

    def __init__(self, f: Any) -> None:
        self.f, self.kind = f, "forward"
        self.steps: dict[int, Step] = {}  # by the id of the answer, which is kept, and so nothing else has it
        self.frames: dict[FrameType, int] = {}
        self.names = found(f) if isinstance(f, Module) else {}

    def run(self, args: Any) -> Any:
        """What the function returns; names are those of its parameters and variables."""
        flat, rebuild = flatten(args)
        is_float: Function = lambda x: isinstance(x, (float, np.ndarray)) and np.asarray(x).dtype.kind == "f"
        args = rebuild([Tensor(np.array(x), True) if is_float(x) else x for x in flat])
        with on(self):
            answer = self.f(*args)
        mode()  # which forgets the block that has ended
        for known in map(variables, filter(is_users, self.frames)):  # of the outer functions before the inner ones
            taken = {name for name, _ in self.names.values()}
            self.names = {i: named for i, named in found(known).items() if named[0] not in taken} | self.names
        self.frames.clear()
        self.names = found({f"x{i}" if i else "x": x for i, x in enumerate(args)}) | self.names
        return answer

    def call(self, go_on: Function, function: Any, args: Any, kwargs: Any) -> Any:
        if go_on is call_other and function in composites:
            return composites[function](*args, **kwargs)
        answer = outside(go_on, function, args, kwargs)
        if isinstance(answer, ARRAYS) and not any(answer is x for x in leaves((args, kwargs))):
            frame, stack = sys._getframe(1), list[FrameType]()
            while frame and frame.f_code is not Watch.run.__code__:
                stack.insert(0, frame)
                frame = frame.f_back  # type: ignore[assignment]
            numbers = [self.frames.setdefault(frame, len(self.frames)) for frame in stack]
            path = [(n, title) for n, frame in zip(numbers, stack, strict=True) if (title := self.title(frame))]
            if path and path[-1][1] == name_of(function).removeprefix("np."):  # which is spelled with itself
                path.pop()
            self.steps[id(answer)] = Step(answer, function, args, kwargs, tuple(path), self.kind)
        return answer

    def walk(self, go_on: Function, *args: Any) -> Any:
        before, self.kind = self.kind, "backward"
        answers = go_on(*args)
        self.kind = before
        return answers

    def title(self, frame: FrameType) -> str:
        """What the calls in a frame are drawn as, or nothing."""
        code, its = frame.f_code, frame.f_locals
        if code is Module.__call__.__code__:
            return shown(its["self"]) if its["self"] is not self.f else ""
        if code is Watch.call.__code__:
            return name_of(its["function"]).removeprefix("np.") if its["function"] in composites else ""
        is_hidden = not is_users(frame) or code is getattr(self.f, "__code__", 0)
        return "" if is_hidden or code.co_name == "forward" or code.co_name.startswith("<") else code.co_name


is_users: Function = lambda frame: frame.f_globals.get("__name__", "").partition(".")[0] not in ("minigrad", "numpy")


def variables(frame: FrameType) -> dict[str, Any]:
    """What the names in a function stand for, when it has returned."""
    return {name: frame.f_globals.get(name) for name in frame.f_code.co_names} | {**frame.f_locals}


shown: Function = lambda module: repr(module).partition("(\n")[0]


def found(things: Any) -> dict[int, tuple[str, Any]]:
    """The tensors, arrays and modules in some things, by id, with the name that has the fewest dots and is short."""
    simplicity: Function = lambda pair: (pair[0].count("."), len(pair[0]))
    names: dict[int, tuple[str, Any]] = {}
    for key, thing in things.items() if isinstance(things, Mapping) else [("", things)]:
        for name, part in islice(named(thing), 10_000):  # so that nobody gets lost in the insides of a notebook
            if isinstance(part, (Tensor, np.ndarray, Module)) and not str(key).startswith("_"):
                name = ".".join(filter(None, (str(key), name)))
                names[id(part)] = min(names.get(id(part), (name, part)), (name, part), key=simplicity)
    return names


# ------------------------------------------------------------------------------------------- calls behind tensors


def gradients_of(roots: Sequence[Any]) -> dict[Any, Any]:
    """The gradients of a tensor of one element by all that it was made of."""
    root = roots[0]
    if len(roots) > 1 or not (isinstance(root, Tensor) and root.requires_grad and root.size == 1):
        raise ValueError("gradients=True needs one tensor of one element that requires a gradient: reduce it first.")
    graph, gradients = history(root), dict[Any, Any]()
    masked = Masks(root) if may_choose(graph) else None

    def step(call: Call, position: int | None, rule: Function, g: Any) -> Any:
        gradients[id(call.node)] = g
        return masked(call, position, rule, g) if masked else rule(g, call.ans, *call.values, **call.kwargs)

    ends = walk(graph, root, np.ones(root.shape, root.dtype), step=step)
    return gradients | {id(end): g for end, g in ends.items()}


class Calls:
    """The calls behind some tensors, and what is written about them; each thing is known by its id."""

    def __init__(self, watch: Watch, names: Any, values: bool, gradients: Mapping[Any, Any]) -> None:
        self.steps, self.values, self.gradients = watch.steps, values, gradients
        known = [*(watch.names | found(names)).values()]
        self.names = {id(self.origin(part)): name for name, part in known}
        self.layers = {name: f"{name}: {shown(part)}" for name, part in known if isinstance(part, Module)}

    def origin(self, x: Any) -> Any:
        """The thing itself, for one that has its numbers and another history."""
        if (step := self.steps.get(id(x))) and step.function in (unrecorded, argument):
            return self.origin(step.args[0]) if isinstance(step.args[0], Tensor) else x
        return x

    def step(self, x: Any) -> Step | None:
        """The call that has made a thing, if any."""
        step = self.steps.get(id(x))
        if step is None and isinstance(x, Tensor) and x.function is not None:
            if x.args is None:
                raise RuntimeError("backward() freed this graph: draw it before, or say backward(retain_graph=True).")
            step = Step(x, x.function, x.args, x.kwargs)
        return None if step is None or step.function is argument else step

    def is_box(self, x: Any) -> bool:
        """Whether an argument has a box of its own, as numbers, and arrays that have no name, have not."""
        return isinstance(x, Tensor) or (isinstance(x, ARRAYS) and (id(x) in self.names or id(x) in self.steps))

    def graph(self, roots: Sequence[Any]) -> Graph:
        """The picture, with all that there is."""
        boxes, arrows, number, stack = list[Box](), list[Arrow](), dict[int, int](), list[Any]()
        stack += [(self.origin(root), None) for root in reversed(roots)]
        while stack:
            thing, inputs = stack.pop()
            step = self.step(thing)
            if id(thing) not in number and inputs is None:
                inputs = [self.origin(x) for x in leaves((step.args, step.kwargs)) if self.is_box(x)] if step else []
                stack += [(thing, inputs), *((x, None) for x in reversed(inputs))]
            elif id(thing) not in number:
                number[id(thing)] = n = len(boxes)
                boxes.append(self.box(thing, step))
                if step and (layer := self.layer(inputs)):  # where no frame tells it
                    same = [group for x in inputs for group in boxes[number[id(x)]].path if group[1] == layer]
                    boxes[n].path = (same[0] if same else (n, layer),)
                flows = isinstance(thing, Tensor)
                arrows += [(number[id(x)], n, flows and getattr(x, "requires_grad", False)) for x in inputs]
        for root in roots:
            boxes[number[id(self.origin(root))]].is_answer = True
        around: dict[int, tuple[Group, ...]] = {}
        for a, b, _ in arrows:
            if boxes[a].kind in ("leaf", "constant") and re.search(r"\.|^tensor$", boxes[a].title):
                pairs = zip(around.get(a, boxes[b].path), boxes[b].path, strict=False)  # it lies where all its users do
                boxes[a].path = around[a] = tuple(group for group, other in pairs if group == other)
        count = Counter(group for box in boxes for group in box.path)
        for box in boxes:  # without groups that hold the same as those that they are in
            size = [len(boxes) + 1, *(count[group] for group in box.path)]
            box.path = tuple(group for group, outer in zip(box.path, size, strict=False) if count[group] < outer)
        return Graph(boxes, arrows)

    def layer(self, inputs: Sequence[Any]) -> str:
        """The title of the module that owns a parameter among the inputs of a call, unless frames tell more."""
        owners = (self.names.get(id(x), "").rpartition(".")[0] for x in inputs)
        return "" if self.steps else next((self.layers[owner] for owner in owners if owner in self.layers), "")

    def box(self, x: Any, step: Step | None) -> Box:
        array, name = array_of(x) if isinstance(x, Tensor) else np.asarray(x), self.names.get(id(x), "")
        lines = [("kind", f"{array.dtype} {array.shape}")]
        lines += numbers("value", "= ", array) if self.values else []
        lines += numbers("gradient", "grad = ", self.gradients[id(x)]) if id(x) in self.gradients else []
        if step is None:
            is_leaf = getattr(x, "requires_grad", False)
            size, title = array.size * is_leaf, name or ("tensor" if isinstance(x, Tensor) else "array")
            return Box(title, "leaf" if is_leaf else "constant", lines, size=size)
        texts = [*map(self.text, step.args), *(f"{k}={self.text(x)}" for k, x in step.kwargs.items() if x is not None)]
        title = f"{name_of(step.function).removeprefix('np.')}({', '.join(texts)})"
        return Box(f"{name} = {title}" if name else title, step.kind, lines, step.path)

    def text(self, x: Any) -> str:
        """An argument as one would write it, with a dot for what has no name."""
        if self.is_box(x):
            return self.names.get(id(self.origin(x)), "·")
        if isinstance(x, (list, tuple)):
            return f"({', '.join(map(self.text, x))})"
        if isinstance(x, slice):
            return ":".join("" if n is None else str(n) for n in (x.start, x.stop, x.step)).removesuffix(":")
        if isinstance(x, ARRAYS):
            return reprlib.repr(x.item()) if x.size == 1 else f"{x.dtype}{list(x.shape)}"
        return "..." if x is ... else name_of(x) if callable(x) else reprlib.repr(x)


def numbers(what: str, start: str, array: Any) -> list[tuple[str, str]]:
    """The numbers of an array, or the least and the greatest of many."""
    with np.printoptions(precision=4, suppress=True):
        few = np.array([array.min(), array.max()]) if array.size > SHOWN else array
        text = np.array2string(few, prefix=start, separator=" … " if few is not array else " ")
    return [(what, line) for line in (start + text).split("\n")]


# ------------------------------------------------------------------------------------------------------- programs


def names_rows(text: str, note: str, whole: dict[str, str], parts: dict[str, list[str]]) -> bool:
    """Whether a line just gives a name to rows of an array: all, for a block, or those that are made by one call."""
    found = None if note else re.match(r"(\w+) = (\w+)\[(.*?)\]", text)
    if found and found[3][-1].isdigit():
        parts.setdefault(found[2], []).append(found[1])
    elif found:
        whole[found[1]] = found[2]
    return found is not None


def of_program(source: str) -> Graph:
    """The lines of a program, read as anybody can read them, and what each takes from those before."""
    boxes, arrows, path, kind = list[Box](), list[Arrow](), tuple[Group, ...](), "forward"
    given = dict.fromkeys(re.findall(r"\w+", source.partition("def backward(buffers, saved")[2].partition(")")[0]), "")
    given |= dict(re.findall(r"# (\w+): (\w+ \(.*\))", source))  # what the parameters are
    constants = dict(re.findall(r"^(\w+) = np\.array\(([^,[]+),", source, re.MULTILINE))
    writer, whole, parts = dict[str, int](), dict[str, str](), dict[str, list[str]]()  # the box that wrote last; rows
    for line in source.partition("def forward(")[2].splitlines():
        text, _, note = (part.strip() for part in line.partition("  # "))
        if text.startswith("def backward("):
            kind = "backward"
        elif names_rows(text, note, whole, parts):
            continue
        elif rows := re.match(r"j = min\(i \+ (\d+)", text):
            path = ((len(boxes), f"{rows[1]} rows at a time"),)
        elif rows := re.match(r"return \((.*?)\), ", text):
            for name in set(re.findall(r"\w+", rows[1])) & {*writer}:
                boxes[writer[name]].is_answer = True
        elif re.search(r"^$|:$|^return|^[(#]|np\.empty|range\(", text) is None and (call := re.match(LINE, text)):
            name, value = call[1], call[2]
            if name is None:  # it writes to its last argument, or copyto to its first
                name = re.findall(r"\w+", value)[1 if value.startswith("copyto(") else -1]
                value = re.sub(rf"(?<=copyto\(){name}, |, (out=)?{name}(?=\)$)", "", value)
            used = [whole.get(word, word) for word in dict.fromkeys(re.findall(r"\w+", value))]
            used += [part for word in used for part in parts.get(word, ())]
            for word in used:
                if word in given and word not in writer:
                    writer[word] = len(boxes)
                    boxes.append(Box(word, "leaf", [("kind", given[word])] * bool(given[word])))
            arrows += [(writer[word], len(boxes), True) for word in used if word in writer]
            title = re.sub(r"\w+", lambda word: constants.get(word[0], word[0]), value)
            writer[whole.get(name, name)] = len(boxes)
            frame, lines = path if line.startswith(" " * 12) else (), [("kind", note)] * bool(note)
            boxes.append(Box(f"{name} = {title}", kind, lines, frame))
    for name in {*given} & {*writer}:  # what was given to be written to
        boxes[writer[name]].is_answer |= boxes[writer[name]].kind != "leaf"
    return Graph(boxes, arrows)
