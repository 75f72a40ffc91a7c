"""Every test can fail, and what lint promises is not taken back file by file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXPECTING = {'raises', 'warns', 'fail'}  # of pytest


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def names_in(function: ast.AST) -> set[str]:
    """Plain names, as those of helpers are, and arguments, as fixtures are."""
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return names | {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}


def asserts(function: ast.AST) -> bool:
    """Whether it has an assertion itself, or one of pytest's, NumPy's or torch's."""
    nodes = list(ast.walk(function))
    last = {node.attr for node in nodes if isinstance(node, ast.Attribute)} | names_in(function)
    return any(isinstance(node, ast.Assert) for node in nodes) or any(
        name in EXPECTING or name.startswith('assert_') for name in last
    )


def without_assertion(sources: dict[str, str]) -> list[str]:
    """Tests that neither assert nor use a function of these files that does."""
    found = [(f, f'{name}::{f.name}') for name, text in sources.items()
             for f in functions(ast.parse(text))]  # fmt: skip
    checking = {f.name for f, _ in found if asserts(f)}
    size = -1
    while len(checking) > size:
        size = len(checking)
        checking |= {f.name for f, _ in found if checking & names_in(f)}
    return [where for f, where in found if f.name.startswith('test_') and f.name not in checking]


def test_every_test_asserts():
    files = sorted((ROOT / 'tests').rglob('*.py'))
    assert len(files) > 50
    assert not without_assertion({str(f.relative_to(ROOT)): f.read_text() for f in files})


def test_a_test_without_assertion_is_found():
    helper = 'def check(x):\n    assert x\n\ndef through(x):\n    check(x)\n'
    tests = (
        'def test_empty():\n    run()\n\n'
        'def test_by_helper():\n    through(run())\n\n'
        'def test_raises():\n    with pytest.raises(ValueError):\n        run()\n'
    )
    assert without_assertion({'helper.py': helper, 'test.py': tests}) == ['test.py::test_empty']


def test_no_blanket_ignores():
    """`# type: ignore` and `# noqa` say what they ignore; no file takes itself out of mypy."""
    files = sorted((ROOT / 'projects').rglob('*.py'))
    assert len(files) > 150
    blanket = re.compile(r'#\s*type:\s*ignore(?!\[)|#\s*noqa(?!:)|#\s*mypy:|#\s*ruff:')
    assert not [
        f'{path.relative_to(ROOT)}:{number}'
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if blanket.search(line)
    ]
