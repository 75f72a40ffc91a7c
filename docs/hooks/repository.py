"""The repository's own pages in the site, and links that work in both.

Pages link to each other as on the repository's page: relative to the file. Here the READMEs become
pages of the site under their own paths, what else a page links to becomes a page with its source,
and links are turned to where these are.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from urllib.parse import unquote

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
START = (
    'README.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
    'projects/*/README.md',
    'configs/*/README.md',
)
LANGUAGES = {
    '.py': 'python',
    '.sh': 'bash',
    '.yml': 'yaml',
    '.cff': 'yaml',
    '.toml': 'toml',
    '.json': 'json',
}
PLAIN = {'.txt', '.csv', ''}  # shown as they are; any other file is copied

_FENCE = re.compile(r'^( *)(`{3,}|~{3,}).*?^\1\2`*\s*?$', re.M | re.S)
_LINK = re.compile(r'(\]\(|\b(?:src|href)=")([^)\s"]+)')


def links(text: str) -> list[str]:
    """Targets of a page's links, those to other sites and within code left out."""
    return [target for _, target in _LINK.findall(_FENCE.sub('', text)) if not _outside(target)]


def _outside(target: str) -> bool:
    return bool(re.match(r'[a-z][a-z0-9+.-]*:|#|/', target))


def resolve(page: str, target: str) -> str:
    """Path in the repository of what a page links to, less the anchor."""
    path = unquote(target.partition('#')[0])
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path))


def site_path(path: str) -> str:
    """Where the site has a file of the repository."""
    full = ROOT / path
    if full.is_dir() and (full / 'README.md').is_file():
        path = f'{path}/README.md'
    if path.startswith('docs/'):
        return path.removeprefix('docs/')
    if path.endswith('.md') or not _is_source(path):
        return path
    return f'source/{path}.md'


def repository_path(src_uri: str) -> str:
    """The inverse of :func:`site_path` for pages of text."""
    return f'docs/{src_uri}' if (ROOT / 'docs' / src_uri).is_file() else src_uri


def _is_source(path: str) -> bool:
    suffix = Path(path).suffix
    return (ROOT / path).is_dir() or suffix in LANGUAGES or suffix in PLAIN


def source_page(path: str) -> str:
    """A file's text, or the names in a folder, as a page that the search leaves out."""
    full = ROOT / path
    if full.is_dir():
        body = '\n'.join(f'- `{each.name}`' for each in sorted(full.iterdir()))
    else:
        body = f'````{LANGUAGES.get(full.suffix, "text")}\n{full.read_text()}\n````'
    return f'---\nsearch:\n  exclude: true\nhide: [toc]\n---\n# `{path}`\n\n{body}\n'


def on_files(files: Files, config) -> Files:
    todo = [f'docs/{file.src_uri}' for file in files.documentation_pages()]
    todo += [str(path.relative_to(ROOT)) for each in START for path in ROOT.glob(each)]
    seen = set()
    while todo:
        path = todo.pop()
        where = site_path(path)
        full = ROOT / path
        if where in seen or not full.exists():
            continue
        seen.add(where)
        if full.is_dir() and (full / 'README.md').is_file():
            path, full = f'{path}/README.md', full / 'README.md'
        if where.startswith('source/'):
            files.append(File.generated(config, where, content=source_page(path)))
            continue
        if files.get_file_from_path(where) is None:
            files.append(File.generated(config, where, abs_src_path=str(full)))
        if path.endswith('.md'):
            todo += [resolve(path, target) for target in links(full.read_text())]
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    here = page.file.src_uri
    if here.startswith('source/'):
        return markdown
    origin = repository_path(here)

    def turn(match: re.Match) -> str:
        before, target = match.groups()
        if _outside(target):
            return match[0]
        path = resolve(origin, target)
        if not (ROOT / path).exists():
            return match[0]  # a page that is made here, or an error that mkdocs reports
        where = os.path.relpath(site_path(path), posixpath.dirname(here) or '.')
        anchor = target.partition('#')[1:]
        return before + where + ''.join(anchor)

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(turn, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return ''.join([*parts, _LINK.sub(turn, markdown[end:])])
