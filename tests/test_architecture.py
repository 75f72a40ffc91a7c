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
        if path.name not in ('__init__.py', '__pycache__', 'README.md', 'py.typed')
    }


@pytest.mark.parametrize(
    ('title', 'folders'),
    [
        ('`projects/common`', ['projects/common']),
        ('The projects', [f'projects/{name}' for name in PROJECTS]),
        ('`projects/search_and_ground`', ['projects/search_and_ground']),
        ('`tools`', ['tools']),
        ('`demo`', ['demo']),
    ],
)
def test_the_page_names_what_is_there(title, folders):
    named = section(title) - {'ResNetWS'}
    assert named == entries(*folders)


MAY_IMPORT = {
    'common': set(),
    **{name: {'common'} for name in PROJECTS},
    'search_and_ground': {'common', 'plvl', 'rvse'},
}


def test_no_folder_without_a_rule():
    folders = {p.name for p in (ROOT / 'projects').iterdir() if any(p.glob('*.py'))}
    assert folders == set(MAY_IMPORT)


@pytest.mark.parametrize('project', MAY_IMPORT)
def test_imports_run_one_way(project):
    allowed = {project, *MAY_IMPORT[project]}
    files = list((ROOT / 'projects' / project).rglob('*.py'))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [f'{node.module}.{alias.name}' for alias in node.names]
            ours = [name for name in names if name.startswith('projects.')]
            wrong = [name for name in ours if name.split('.')[1] not in allowed]
            assert not wrong, f'{path}: imports {wrong}'
