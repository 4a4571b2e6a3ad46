"""Write a compiled program as a Python module that needs NumPy alone, with its weights in an .npz beside it."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
import textwrap
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from minigrad.compiler.recording import overlap
from minigrad.engine import array_of, name_of
from minigrad.files import save_arrays, written_whole

LOAD = """
file = Path(__file__).with_suffix(".npz").read_bytes()
if hashlib.sha256(file).hexdigest() != "{digest}":
    raise ValueError("the weights beside this program are not those that were written with it: save both anew")
with np.load(io.BytesIO(file), allow_pickle=False) as file:
    weights = dict(file)
"""

MAIN = '''

def {verb}(*inputs):
    """{about} for arrays of these shapes and dtypes: {inputs}."""
    given = []
    for x, (shape, dtype) in zip(map(np.asarray, inputs), {kinds}, strict=True):
        if x.shape != shape:
            raise ValueError(f"this program is for an input of shape {{shape}}, and got one of shape {{x.shape}}")
        if not np.can_cast(x.dtype, dtype, "same_kind"):
            raise TypeError(f"this program is for an input of dtype {{dtype}}, and got one of dtype {{x.dtype}}")
        given.append(x.astype(dtype, copy=False))
    with np.errstate({errors}):
        outputs, _ = forward(workspace(), *given, {arguments})
    weights.update(zip({rebound}, outputs[{answers}:]))
    return outputs[0] if {answers} == 1 else outputs[:{answers}]


if __name__ == "__main__":
    if len(sys.argv) != {count}:
        sys.exit("usage: python {file} " + "{usage}")
    print({verb}(*map(np.load, sys.argv[1:])))
'''

NAN = "a gradient is nan; if a branch is why that was not chosen, minigrad would have found 0"


def save(path: str | os.PathLike[str], program: Any) -> None:
    """Write a `Program` as the module at `path`, a file name that ends in .py, and its weights."""
    path, count = Path(path).resolve(), len(program.positions)
    if path.suffix != ".py":
        raise ValueError(f"a program is saved as a Python module, such as net.py, and not as {path.name}")
    check(program)
    weights, head = Weights(program), Embedded()
    arguments = list(map(weights.argument, program.names[count:], program.inputs[count:]))
    for name, thing in program.globals.items():
        if isinstance(thing, (np.ndarray, np.generic)):
            weights.arrays[name] = np.asarray(thing)
            head.lines.append(f'{name} = weights["{name}"]')
        else:
            head.add(name, thing)
    values = program.values.inputs[:count]
    inputs = [(name, x.shape, str(x.dtype)) for name, x in zip(program.names, values, strict=False)]
    writes = bool(program.writes or program.rebound)
    main = MAIN.format(
        verb="step" if writes else "predict",
        about="Do what the function does, and return what it returns," if writes else "What the function returns",
        inputs=", ".join(f"{name} {dtype}{list(shape)}" for name, shape, dtype in inputs),
        kinds=[(shape, dtype) for _, shape, dtype in inputs],
        errors='all="ignore"' if program.silent else "",
        arguments=", ".join(arguments),
        rebound=[weights.name_of(leaf) for leaf, _ in program.rebound],
        answers=len(program.computed),
        count=count + 1,
        file=path.name,
        usage=" ".join(f"{name}.npy" for name, _, _ in inputs),
    )
    refusal = f'raise FloatingPointError("{NAN}. Nothing was written.")' if writes else f'warnings.warn("{NAN}")'
    title, rest = program.source.split("import numpy as np\n", 1)
    comments = tuple(f"# {name} is given" for name in program.globals)
    body = "\n".join(line for line in rest.splitlines() if not line.startswith(comments))
    body = body.replace("        return None\n", f"        {refusal}\n")
    modules = ["import hashlib", "import io", "import sys", "import warnings", "from pathlib import Path"]
    save_arrays(path.with_suffix(".npz"), weights.arrays)
    load = LOAD.format(digest=hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest())
    top = [title.rstrip(), "", "from __future__ import annotations", "", *sorted({*modules, *head.imports})]
    with written_whole(path) as file:
        lines = [*top, "", "import numpy as np", load, *weights.views, *head.lines, body, main]
        file.write("\n".join(lines).encode())


def check(program: Any) -> None:
    """Raise for what a saved program would not do."""
    kinds = {program.record.inputs[t].kind for t in program.slots}
    if len(program.tracked) > 1:
        raise ValueError("the program joins several answers, to walk back through them: call it in mg.no_grad() first")
    if any(x is not None for k, x in enumerate(program.out) if k not in program.computed):
        raise ValueError("the program returns constants, too, which a saved one would not: return what it computes")
    if "draw" in kinds:
        raise ValueError("a program that draws random numbers is not saved: put random layers in evaluation mode")
    if "gradient" in kinds:
        raise ValueError("the program reads a gradient that was there before: call zero_grad() in it")


class Weights:
    """What a saved program reads besides its arguments, by name: of those that share memory, one has it."""

    def __init__(self, program: Any) -> None:
        self.program, self.arrays, self.views, self.viewed = program, dict[str, Any](), list[str](), set[str]()
        names = dict(zip(program.inputs, program.names, strict=True))
        self.names = {tensor: names[tensor] for tensor in program.tensors}
        for leaf, others in program.shared.items():
            for other in others:
                place = overlap(array_of(other), array_of(leaf))
                if other in self.names and place is not None:
                    name, owner, end = self.names[other], self.name_of(leaf), place[1] + other.size
                    part = f"[{place[1]}:{end}].reshape({other.shape})"
                    self.views.append(f'weights["{name}"] = weights["{owner}"].reshape(-1){part}')
                    self.viewed.add(name)

    def name_of(self, leaf: Any) -> str:
        """The name of a leaf, whose array is saved."""
        name: str = self.names.setdefault(leaf, f"weight_{len(self.names)}")
        if name not in self.viewed:
            self.arrays[name] = np.array(array_of(leaf))
        return name

    def argument(self, name: str, tensor: Any) -> str:
        """What is given for an input of the program, as source."""
        kind, of = self.program.record.inputs[tensor]
        if kind in ("tensor", "number of"):
            name, is_number = self.name_of(tensor if kind == "tensor" else of), kind != "tensor"
        else:
            thing = self.program.constants[tensor]
            self.arrays[name], is_number = np.asarray(thing), type(thing) in (int, float)
        return f'weights["{name}"]' + (".item()" if is_number else "")


IMPORTED = {"numpy", *sys.stdlib_module_names}


class Embedded:
    """The sources of functions that are not NumPy's, with all that they call in turn."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.lines: list[str] = []
        self.names: set[str] = set()

    def add(self, name: str, thing: Any) -> None:
        """Define a global name as `thing`."""
        if name in self.names:
            return
        self.names.add(name)
        module, its_name = (getattr(thing, key, None) or "" for key in ("__module__", "__name__"))
        if isinstance(thing, ModuleType):
            self.imports.add(f"import {thing.__name__} as {name}" if thing.__name__ != name else f"import {name}")
        elif isinstance(thing, functools.partial) and not thing.keywords:
            self.imports.add("import functools")
            self.add(thing.func.__name__, thing.func)
            arguments = ", ".join(name_of(argument) for argument in thing.args)
            self.lines.append(f"\n{name} = functools.partial({thing.func.__name__}, {arguments})")
        elif module.partition(".")[0] in IMPORTED and getattr(sys.modules.get(module), its_name, None) is thing:
            self.imports.add(f"from {module} import {its_name}" + f" as {name}" * (name != its_name))
        elif isinstance(thing, float):
            self.lines.append(f'{name} = float("{thing!r}")')
        elif isinstance(thing, (int, str, tuple)):
            self.lines.append(f"{name} = {thing!r}")
        else:
            self.function(name, inspect.unwrap(thing) if callable(thing) else thing)

    def function(self, name: str, function: Any) -> None:
        if not isinstance(function, FunctionType) or function.__closure__ or function.__name__ == "<lambda>":
            raise ValueError(
                f"{name} cannot be written into a module: what a saved program calls are NumPy's functions, and "
                "functions made by def at the top of a file. Random layers must be in evaluation mode."
            )
        for used in _global_names(function.__code__):
            if used in function.__globals__:
                self.add(used, function.__globals__[used])
        try:
            lines = textwrap.dedent(inspect.getsource(function)).splitlines()
        except OSError as error:
            raise ValueError(f"{name} cannot be written into a module: its source is in no file") from error
        start = next(i for i, line in enumerate(lines) if line.startswith("def "))
        self.lines += ["", "", *lines[start:], ""]
        if function.__name__ != name:
            self.lines.append(f"{name} = {function.__name__}")


def _global_names(code: CodeType) -> list[str]:
    """The names that a function looks up, with those of the functions in it."""
    inner = [name for constant in code.co_consts if isinstance(constant, CodeType) for name in _global_names(constant)]
    return list(dict.fromkeys([*code.co_names, *inner]))
