"""docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PAGE = 'docs/reliability.md'
TEST = re.compile(r'`(tests/[\w/]+\.py)::(\w+)`')


def rows(text: str) -> list[list[str]]:
    """Cells of the rows of the page's tables, their headings left out."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('|') and not set(line) <= set('|-: '):
            found.append(cells)
    return [cells for cells in found if cells[0] != 'what happens']


def test_every_test_of_the_page_exists(repo_root: Path) -> None:
    named = TEST.findall((repo_root / PAGE).read_text(encoding='utf-8'))
    assert len(set(named)) > 30
    functions: dict[str, set[str]] = {}
    for file, name in named:
        if file not in functions:
            tree = ast.parse((repo_root / file).read_text(encoding='utf-8'))
            functions[file] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert name in functions[file] and name.startswith('test_'), f'{file}::{name}'


def test_every_row_has_a_test_and_says_what_was_lost(repo_root: Path) -> None:
    found = rows((repo_root / PAGE).read_text(encoding='utf-8'))
    assert len(found) > 15
    for cells in found:
        assert len(cells) == 5 and all(cells), cells
        assert TEST.search(cells[2]), cells


def test_every_test_of_this_folder_is_on_the_page(repo_root: Path) -> None:
    page = (repo_root / PAGE).read_text(encoding='utf-8')
    for path in sorted(Path(__file__).parent.glob('test_*.py')):
        file = path.relative_to(repo_root).as_posix()
        assert path == Path(__file__) or f'{file}::' in page, file
