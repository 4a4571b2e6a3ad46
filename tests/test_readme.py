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


def test_the_list_of_faults_names_tests_that_are_there() -> None:
    folder = ROOT / "tests"
    sources = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    known = {name for source in sources.values() for name in re.findall(r"def (test_\w+)", source)}
    named = set(re.findall(r"\btest_\w+", (folder / "faults.md").read_text(encoding="utf-8")))
    assert len(named) > 100
    assert named - known - {path.stem for path in sources} == set()
