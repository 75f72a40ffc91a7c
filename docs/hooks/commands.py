"""The command reference: what each tool of tools/ says of itself, asked for while building."""

from __future__ import annotations

import argparse
import ast
import functools
import io
import os
import re
import runpy
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    '': 'Train, test, use',
    'misc': 'Data of your own, environment',
    'dataset_converters': 'Data sets',
    'model_converters': 'Weights of other code bases',
    'deployment': 'Deployment',
    'analysis_tools': 'Analysis',
}


class _Found(BaseException):
    """Carries a tool's parser out of it, past whatever handles errors there."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def tools() -> list[Path]:
    """What one runs: shell scripts, and modules with a main part."""
    files = sorted((ROOT / 'tools').rglob('*'))
    return [
        path
        for path in files
        if path.suffix == '.sh' or (path.suffix == '.py' and "'__main__'" in path.read_text())
    ]


def parser_of(tool: Path) -> argparse.ArgumentParser | None:
    """The parser that a tool reads its command line with, before it does anything else."""
    if tool.suffix != '.py' or 'ArgumentParser(' not in tool.read_text():
        return None

    def stop(self, *args, **kwargs):
        raise _Found(self)

    with (
        mock.patch.object(argparse.ArgumentParser, 'parse_known_args', stop),
        mock.patch.object(sys, 'argv', [str(tool)]),
        mock.patch.object(sys, 'path', list(sys.path)),
        mock.patch.dict(os.environ),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        try:
            runpy.run_path(str(tool), run_name='__main__')
        except _Found as found:
            return found.parser
    raise RuntimeError(f'{tool}: did not read its command line')


def introduction(tool: Path) -> str:
    """What the file says at its top."""
    text = tool.read_text()
    if tool.suffix == '.py':
        return ast.get_docstring(ast.parse(text)) or ''
    header = re.match(r'(?:#!.*\n)?((?:#.*\n)*)', text)
    return '\n\n'.join(line.removeprefix('#').strip() for line in header[1].splitlines())


def subcommands(
    parser: argparse.ArgumentParser, name: str
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Parsers that take arguments, with the command that reaches them and its line of help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help for each in action._choices_actions}
            for key, each in action.choices.items():
                yield from subcommands(each, f'{name} {key}')
                if not any(isinstance(a, argparse._SubParsersAction) for a in each._actions):
                    yield f'{name} {key}', each, helps.get(key) or ''


def _escape(text: str) -> str:
    """What markdown would take for markup, outside of code."""
    parts = re.split(r'(`[^`]*`)', text)
    return ''.join(
        part if part.startswith('`') else re.sub(r'([*_])', r'\\\1', part).replace('<', '&lt;')
        for part in parts
    )


def _cell(text: str) -> str:
    return _escape(' '.join(text.split()).replace('|', '\\|'))


def arguments(parser: argparse.ArgumentParser) -> list[str]:
    """A table of a parser's arguments."""
    formatter = parser._get_formatter()
    rows = []
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            continue
        if action.help == argparse.SUPPRESS:
            continue
        name = ', '.join(action.option_strings)
        if not name or action.nargs != 0:
            default = parser._get_formatter()._get_default_metavar_for_positional(action)
            if action.option_strings:
                default = action.dest.upper()
            name = f'{name} {formatter._format_args(action, default)}'.strip()
        text = formatter._expand_help(action) if action.help else ''
        rows.append(f'| `{name.replace("|", chr(92) + "|")}` | {_cell(text)} |')
    return ['| argument | what |', '|---|---|', *rows, ''] if rows else []


def usage(parser: argparse.ArgumentParser, tool: str) -> list[str]:
    with mock.patch.dict(os.environ, COLUMNS='96'):
        text = parser.format_usage().removeprefix('usage: ').strip()
    prefix = ' ' * (len('usage: ') + len(parser.prog) + 1)
    text = re.sub(rf'\n {{1,{len(prefix)}}}', '\n    ', text)
    return ['```text', text.replace(Path(tool).name, f'python {tool}', 1), '```', '']


def entry(tool: Path) -> list[str]:
    """The section of one tool."""
    name = tool.relative_to(ROOT).as_posix()
    lines = [f'### `{name}`', '', prose(introduction(tool)), '']
    parser = parser_of(tool)
    if parser is None:
        return lines
    found = list(subcommands(parser, ''))
    if not found:
        return [*lines, *usage(parser, name), *arguments(parser)]
    for command, each, text in found:
        about = each.description or f'{text[:1].upper()}{text[1:]}.'
        lines += [f'#### `{tool.name}{command}`', '', prose(about), '']
        lines += [*usage(each, name), *arguments(each)]
    return lines


def prose(text: str) -> str:
    """Command lines in their own blocks, the rest as it is."""
    blocks = []
    for block in re.split(r'\n\s*\n', text):
        lines = [line.strip() for line in block.strip('\n').splitlines()]
        shell = [re.match(r'(python|torchrun|tools/|export )', line) for line in lines]
        if lines and all(shell[i] or lines[i - 1].endswith('\\') for i in range(len(lines))):
            blocks.append('\n'.join(['```bash', *lines, '```']))
        else:
            blocks.append(_escape('\n'.join(lines)))
    return '\n\n'.join(blocks)


@functools.cache
def commands() -> str:
    """A section of each tool, by folder."""
    lines = []
    for folder, title in FOLDERS.items():
        lines += [f'## {title}', '']
        for tool in tools():
            if (tool.relative_to(ROOT / 'tools').parts[:-1] or ('',))[0] == folder:
                lines += entry(tool)
    return '\n'.join(lines)


def on_page_markdown(markdown: str, page, config, files) -> str:
    mark = '<!-- commands -->'
    return markdown.replace(mark, commands()) if mark in markdown else markdown
