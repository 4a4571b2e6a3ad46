"""Pictures of boxes and arrows, as text and as files, and what else a notebook is shown."""

from __future__ import annotations

import html
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Group: TypeAlias = tuple[int, str]  # what is drawn as one box, or with a frame around its boxes: its number and title
Arrow: TypeAlias = tuple[int, int, bool]  # from one box to another, and whether gradients flow back

FITS, MOST = 25, 2_000  # boxes that fit on a screen, and that are laid out in seconds
FILLS = {"leaf": "#d5f0dc", "constant": "#eeeeee", "forward": "#dcebfa", "backward": "#fde3cf", "layer": "#b9d7f5"}
INKS = {"kind": "#666666", "value": "#00529b", "gradient": "#b3440e"}


def quoted(text: str) -> str:
    return html.escape(text, quote=False).replace("\n", "<br/>")


def table(rows: Iterable[Iterable[Any]]) -> str:
    """An HTML table, whose first row is its head."""
    head, *body = ([quoted(str(cell)) for cell in row] for row in rows)
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return "\n".join(["<table>", *lines, "</table>"])


@dataclass
class Box:
    """A box of a picture. It lies in the groups of its path, the outermost first, and its lines say what they show."""

    title: str
    kind: str  # "leaf", "constant", "forward", "backward" or "layer"
    lines: list[tuple[str, str]]  # "kind", "value" or "gradient", and text
    path: tuple[Group, ...] = ()
    is_answer: bool = False
    size: int = 0  # of a parameter


class Graph:
    """A picture: as text for Graphviz (`dot`) or Mermaid, as a file, and in a notebook by itself.

    `boxes` are in the order in which they are computed, and `arrows` run between them.
    """

    def __init__(self, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> None:
        self.boxes, self.arrows = boxes, arrows

    def __repr__(self) -> str:
        return f"<Graph of {len(self.boxes)} boxes: .svg(path) and .png(path) draw it; .dot and .mermaid are texts>"

    def closed(self, depth: int | None) -> Graph:
        """The picture with one box for each group that lies below so many levels, or as many as fit on a screen."""
        deepest = max((len(box.path) for box in self.boxes), default=0)
        for level in range(deepest, -1, -1) if depth is None else [depth]:
            places: Any = [box.path[level] if len(box.path) > level else i for i, box in enumerate(self.boxes)]
            if len({*places}) <= FITS:
                break
        members: dict[Any, list[int]] = {}
        for i, place in enumerate(places):
            members.setdefault(place, []).append(i)
        number = {place: n for n, place in enumerate(members)}
        between = [(a, b, flows) for a, b, flows in self.arrows if places[a] != places[b]]
        used, boxes = {a for a, _, _ in between}, []
        for place, those in members.items():
            its = [self.boxes[i] for i in those]
            if isinstance(place, tuple):
                ends = [self.boxes[i] for i in those if i in used or self.boxes[i].is_answer]
                lines = ends[0].lines if len(ends) == 1 else [box.lines[0] for box in ends]
                if size := sum(box.size for box in its):
                    lines = [*lines, ("kind", f"{size:,} parameters")]
                kind = "backward" if any(box.kind == "backward" for box in its) else "layer"
                name = ends[0].title.rpartition(" = ")[0] if len(ends) == 1 else ""
                title = f"{name} = {place[1]}" if name else place[1]
                its = [Box(title, kind, lines, its[0].path[:level], any(box.is_answer for box in its))]
            boxes.append(its[0])
        flowing: dict[tuple[int, int], bool] = {}
        for a, b, flows in between:
            pair = number[places[a]], number[places[b]]
            flowing[pair] = flowing.get(pair, False) or flows
        return Graph(boxes, [(a, b, flows) for (a, b), flows in flowing.items()])

    @property
    def dot(self) -> str:
        """The graph in the language of Graphviz."""

        def shown(i: int, box: Box) -> str:
            label = f"<b>{quoted(box.title)}</b><br/>"
            for what, text in box.lines:
                face, side = ("", "center") if what == "kind" else (' face="monospace"', "left")
                label += f'<font color="{INKS[what]}"{face}>{quoted(text)}</font><br align="{side}"/>'
            return f'n{i} [label=<{label}>, fillcolor="{FILLS[box.kind]}", penwidth={2.5 if box.is_answer else 1}];'

        font = 'color="#778899", fontname="Helvetica,Arial,sans-serif", fontsize=11'
        lines = [f'graph [bgcolor="white", nodesep=0.25, ranksep=0.3, {font}];', f"edge [arrowsize=0.6, {font}];"]
        lines += [f'node [shape=box, style="rounded,filled", margin="0.1,0.05", {font}];']
        frame = "subgraph cluster_{} {{ label=<{}>; style=rounded; labeljust=l;"
        lines += self.framed(lambda n, title: frame.format(n, quoted(title)), shown, "}")
        lines += [f"n{a} -> n{b}{'' if flows else ' [style=dashed]'};" for a, b, flows in self.arrows]
        given: dict[int, list[int]] = {}
        for a, b, _ in self.arrows:
            given.setdefault(b, []).append(a)
        for a, b, _ in self.arrows:  # a frame begins below what its first calls are given: so frames form a column
            if self.boxes[a].kind in ("leaf", "constant") and (path := self.boxes[a].path):
                others = [i for i in given[b] if self.boxes[i].path[: len(path)] != path]
                lines += [f"n{i} -> n{a} [style=invis];" for i in others]
        return "\n".join(["digraph {", *lines, "}\n"])

    @property
    def mermaid(self) -> str:
        """The graph in the language of Mermaid, which GitHub and GitLab draw where a README has it."""

        def coded(text: str) -> str:
            return quoted(text).replace("#", "#35;").replace('"', "#quot;")

        def shown(i: int, box: Box) -> str:
            label = "<br/>".join([f"<b>{coded(box.title)}</b>", *(coded(text) for _, text in box.lines)])
            start, end = ("([", "])") if box.kind in ("leaf", "constant") else ("[", "]")
            return f'n{i}{start}"{label}"{end}:::{"answer" if box.is_answer else box.kind}'

        lines = self.framed(lambda n, title: f'subgraph g{n}["{coded(title)}"]', shown, "end")
        lines += [f"n{a} {'-->' if flows else '-.->'} n{b}" for a, b, flows in self.arrows]
        fills = {**FILLS, "answer": FILLS["forward"] + ",stroke-width:3px"}
        lines += [f"classDef {kind} fill:{fill},stroke:#778899,color:#000000" for kind, fill in fills.items()]
        return "\n".join(["flowchart TD", *lines, ""])

    def framed(self, start: Callable[[int, str], str], shown: Callable[[int, Box], str], end: str) -> list[str]:
        """A line for each box, and lines around those that lie in one group."""
        first, lines, inside = dict[Any, int](), list[str](), tuple[Group, ...]()
        order = [[first.setdefault(part, len(first)) for part in (*box.path, i)] for i, box in enumerate(self.boxes)]
        for i in sorted(range(len(order)), key=order.__getitem__):
            path = self.boxes[i].path
            while inside != path[: len(inside)]:
                inside = inside[:-1]
                lines.append(end)
            lines += [start(first[group], group[1]) for group in path[len(inside) :]]
            inside = path
            lines.append(shown(i, self.boxes[i]))
        return lines + [end] * len(inside)

    def svg(self, path: str | Path) -> None:
        """Draw into a file in the format SVG, by the extra `draw`."""
        Path(path).write_bytes(self.laid_out("svg"))

    def png(self, path: str | Path) -> None:
        """Draw into a file in the format PNG, by the extra `draw`."""
        Path(path).write_bytes(self.laid_out("png"))

    def _repr_svg_(self) -> str | None:
        try:
            return self.laid_out("svg").decode()
        except ImportError:  # a notebook shows the text then
            return None

    def laid_out(self, form: str) -> bytes:
        """The picture in a format, by Graphviz: that in the wheel of pygraphviz, or the program."""
        if len(self.boxes) > MOST:
            raise ValueError(f"a picture has up to {MOST:,} boxes, and this one {len(self.boxes):,}: try depth=0.")
        try:
            from pygraphviz import AGraph
        except ImportError as error:
            if program := shutil.which("dot"):
                command, text = [program, f"-T{form}"], self.dot.encode()
                return subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout
            hint = 'pictures are laid out by Graphviz: pip install "minigrad[draw]", or install the program dot'
            raise ImportError(f"{hint}. The texts .dot and .mermaid need neither.") from error
        return AGraph(string=self.dot).draw(format=form, prog="dot")  # type: ignore[no-any-return]
