"""What the README says is true: its sessions run, its links lead somewhere, and it is short."""

import doctest
import re
from pathlib import Path

from minigrad.engine import vjps

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_sessions_print_what_they_say() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    session = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "README.md", "README.md", 0)
    assert len(session.examples) > 10
    known = set(vjps)
    results = doctest.DocTestRunner().run(session)
    for function in set(vjps) - known:  # the README's own
        del vjps[function]
    assert results.failed == 0


def test_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 150
