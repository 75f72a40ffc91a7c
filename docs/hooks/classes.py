"""The config reference: a page of each project's registered classes, for mkdocstrings."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = {
    'common': 'What projects share',
    'plvl': 'PLVL',
    'pdsl': 'PDSL',
    'rvse': 'RVSE++ and SelHN',
}


@dataclass(frozen=True)
class Definition:
    """A class of projects/, as its file says.

    Attributes:
        name: Its name.
        module: Dotted name of its module.
        registry: Name of the registry, such as MODELS; '' for a class that is in none.
        bases: Names of its bases.
    """

    name: str
    module: str
    registry: str
    bases: tuple[str, ...]

    @property
    def path(self) -> str:
        return f'{self.module}.{self.name}'

    @property
    def project(self) -> str:
        return self.module.split('.')[1]

    @property
    def part(self) -> str:
        """The folder or module below the project."""
        return self.module.split('.')[2]


def definitions() -> Iterator[Definition]:
    """All public classes of projects/, without importing them."""
    for file in sorted((ROOT / 'projects').rglob('*.py')):
        module = '.'.join(file.relative_to(ROOT).with_suffix('').parts)
        for node in ast.parse(file.read_text()).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith('_'):
                continue
            registries = [
                match[1]
                for each in node.decorator_list
                if (match := re.match(r'(\w+)\.register_module', ast.unparse(each)))
            ]
            bases = tuple(ast.unparse(base).rpartition('.')[2] for base in node.bases)
            yield Definition(node.name, module, registries[0] if registries else '', bases)


def documented() -> list[Definition]:
    """Registered classes, and those of projects/ that they inherit from."""
    known = {each.name: each for each in definitions()}
    found, todo = {}, [name for name, each in known.items() if each.registry]
    while todo:
        name = todo.pop()
        if name in known and name not in found:
            found[name] = known[name]
            todo += known[name].bases
    return sorted(found.values(), key=lambda each: (each.project, each.part, each.name.lower()))


def page(project: str, classes: list[Definition]) -> str:
    parts = defaultdict(list)
    for each in classes:
        if each.project == project:
            parts[each.part].append(each)
    lines = [
        f'# Config reference: {PROJECTS[project]}',
        '',
        f"Classes that `custom_imports = dict(imports=['projects.{project}'])` registers, and "
        'their bases. A config names one by `type`; its other keys are the arguments here.'
        if project != 'common'
        else 'Classes that the projects share; importing any project registers those it uses.',
        '',
    ]
    for part, members in parts.items():
        lines += [f'## {part}', '']
        for each in members:
            kind = f'`{each.registry}`' if each.registry else 'A base, in no registry'
            lines += [f'::: {each.path}', '', f'{kind}; `{each.module}`.', '']
    return '\n'.join(lines)


def on_files(files: Files, config) -> Files:
    classes = documented()
    for project in PROJECTS:
        name = f'reference/{project}.md'
        files.append(File.generated(config, name, content=page(project, classes)))
    return files


class MarkdownDocstrings(griffe.Extension):
    """Reads what our docstrings have of reStructuredText: roles and literal blocks."""

    def __init__(self) -> None:
        self.paths = {each.name: each.path for each in documented()}

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring is not None:
            text = re.sub(r':\w+:`([^`]+)`', self._link, obj.docstring.value)
            text = re.sub(r'^( *)::$\n', '', text, flags=re.M)
            obj.docstring.value = re.sub(r'::$', ':', text, flags=re.M)

    def _link(self, match: re.Match) -> str:
        name = match[1]
        shown = name.rpartition('.')[2] if name.startswith('~') else name
        path = self.paths.get(name.rpartition('.')[2])
        return f'[`{shown}`][{path}]' if path else f'`{shown}`'
