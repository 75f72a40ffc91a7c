"""docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PAGE = 'docs/reliability.md'
TEST = re.compile(r'`(tests/[\w/]+\.py)::(\w+)`')


def test_every_test_of_the_page_exists(repo_root: Path) -> None:
    named = TEST.findall((repo_root / PAGE).read_text(encoding='utf-8'))
    assert len(set(named)) > 30
    functions: dict[str, set[str]] = {}
    for file, name in named:
        if file not in functions:
            tree = ast.parse((repo_root / file).read_text(encoding='utf-8'))
            functions[file] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert name in functions[file] and name.startswith('test_'), f'{file}::{name}'


def test_every_test_of_this_folder_is_on_the_page(repo_root: Path) -> None:
    page = (repo_root / PAGE).read_text(encoding='utf-8')
    for path in sorted(Path(__file__).parent.glob('test_*.py')):
        file = path.relative_to(repo_root).as_posix()
        assert path == Path(__file__) or f'{file}::' in page, file
