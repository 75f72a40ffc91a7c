"""docs/architecture.md names what is there, and imports run one way."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = ('plvl', 'pdsl', 'rvse')


def section(title: str) -> set[str]:
    """What a section of the page names between backquotes, folders without their slash."""
    page = (ROOT / 'docs/architecture.md').read_text()
    (text,) = re.findall(rf'^### {title}\n(.*?)(?=^##|\Z)', page, re.M | re.S)
    return {name.rstrip('/') for name in re.findall(r'`([\w./]+)`', text)}


def entries(*folders: str) -> set[str]:
    return {
        path.name
        for folder in folders
        for path in (ROOT / folder).iterdir()
        if path.name not in ('__init__.py', '__pycache__', 'README.md')
    }


@pytest.mark.parametrize(
    ('title', 'folders'),
    [
        ('`projects/common`', ['projects/common']),
        ('The projects', [f'projects/{name}' for name in PROJECTS]),
        ('`tools`', ['tools']),
    ],
)
def test_the_page_names_what_is_there(title, folders):
    named = section(title) - {'ResNetWS'}
    assert named == entries(*folders)


@pytest.mark.parametrize('project', ['common', *PROJECTS])
def test_no_project_imports_another(project):
    others = {f'projects.{name}' for name in PROJECTS if name != project}
    files = list((ROOT / 'projects' / project).rglob('*.py'))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            wrong = [n for n in names if '.'.join(n.split('.')[:2]) in others]
            assert not wrong, f'{path}: imports {wrong}'
