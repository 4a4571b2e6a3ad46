#!/usr/bin/env python3
"""Write the API reference, from the docstrings, into the folder that is named; fail on a link that leads nowhere.

Every public name is on one page: that of the package, or of the room in it that one finds it in.
"""

import inspect
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[1]))

import pdoc

import minigrad
from minigrad.engine import name_of
from minigrad.names import Elsewhere


def rooms(module: ModuleType) -> list[str]:
    """The names of a public module, and of those in it."""
    parts = {name: getattr(module, name) for name in module.__all__}
    vars(module).update(parts)  # those, too, that are imported when they are used
    return [module.__name__] + [name for part in parts.values() if inspect.ismodule(part) for name in rooms(part)]


def broken(folder: Path) -> list[str]:
    """The links of the pages that lead nowhere, and the names that are on two pages."""
    pages = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    anchors = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    found = []
    for path, text in pages.items():
        for link in re.findall(r'\bhref="(?!https?:|\$)([^"]*)"', text):
            page, _, anchor = link.partition("#")
            target = (path.parent / page).resolve() if page else path
            if target not in pages or (anchor and anchor not in anchors[target]):
                found.append(f"{path.relative_to(folder)}: {link}")
    return found


def prepare(kind: type) -> None:
    """Leave out what a class does not have, and say of the methods that are NumPy's functions which ones they are."""
    for name, item in list(vars(kind).items()):
        if isinstance(item, Elsewhere):
            delattr(kind, name)
        elif function := vars(item).pop("__wrapped__", None) if inspect.isfunction(item) else None:
            item.__doc__ = f"As `{name_of(function)}` of this tensor."


folder = Path(sys.argv[1]).resolve()
names = rooms(minigrad)
for name in names[1:]:
    room = sys.modules[name]
    room.__all__ = [each for each in room.__all__ if each not in minigrad.__all__]
for kind in (minigrad.Tensor, minigrad.nn.Module, minigrad.optim.Optimizer):
    prepare(kind)
hidden = [f"!{name}$" for name in sys.modules if name.startswith("minigrad.") and name not in names]
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "Error parsing type annotation")  # of strategies, whose names Hypothesis replaces
pdoc.render.configure(docformat="markdown", footer_text=f"minigrad {minigrad.__version__}")
pdoc.pdoc("minigrad", *hidden, output_directory=folder)
if links := broken(folder):
    sys.exit("these links lead nowhere:\n" + "\n".join(links))
print(f"{folder / 'minigrad.html'}: {len(names)} pages")
