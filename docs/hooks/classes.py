"""The config reference: registered classes of each project, for mkdocstrings."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[2]
METHODS = (
    '__call__', 'index', 'remove', 'prune', 'find', 'open_store', 'encode_images',
    'encode_sentences', 'unknown_words',
)  # fmt: skip


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


@functools.cache
def definitions() -> tuple[Definition, ...]:
    """All public classes of projects/, without importing them."""
    found = []
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
            found.append(Definition(node.name, module, ''.join(registries[:1]), bases))
    return tuple(found)


@functools.cache
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


def classes_of(project: str) -> str:
    """Sections of a project's classes, by folder."""
    parts = defaultdict(list)
    for each in documented():
        if each.project == project:
            parts[each.part].append(each)
    lines = []
    for part, members in parts.items():
        lines += [f'## {part.capitalize()}', '']
        for each in members:
            kind = f'In `{each.registry}`' if each.registry else 'A base, in no registry'
            lines += [f'::: {each.path}', '', f'{kind}; `{each.module}`.', '']
    return '\n'.join(lines)


def inferencers() -> str:
    """Sections of the inferencers, with the methods that their users call."""
    options = f'    options: {{heading_level: 2, members: [{", ".join(METHODS)}]}}'
    found = [each for each in definitions() if each.module.endswith(('.inferencer', '.reranker'))]
    found.sort(key=lambda each: each.project == 'common')  # the base last
    return '\n\n'.join(f'::: {each.path}\n{options}' for each in found)


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Fills the pages that ask for it, and links names of classes to their place there."""
    if page.file.src_uri.startswith('source/'):
        return markdown
    paths = {each.name: each.path for each in documented()}

    def link(match: re.Match) -> str:
        path = paths.get(match[1])
        return f'[`{match[1]}`][{path}]' if path else match[0]

    lines, fence = [], None
    for line in markdown.splitlines():
        mark = re.match(r'\s*(`{3,}|~{3,})', line)
        if mark and fence in (None, mark[1]):
            fence = None if fence else mark[1]
        elif not fence and not line.startswith('#'):
            line = re.sub(r'\[`(\w+)`\]\([^)]*\.py\)', link, line)
            line = re.sub(r'(?<![\[`])`(\w+)`(?![\]`])', link, line)
        lines.append(line)
    markdown = '\n'.join(lines)
    markdown = re.sub(r'<!-- classes: (\w+) -->', lambda m: classes_of(m[1]), markdown)
    return markdown.replace('<!-- inferencers -->', inferencers())


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
