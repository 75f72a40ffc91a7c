"""Generate the tables of configs/*/README.md and docs/model_zoo.md from configs/*/metafile.yml.

A metafile follows the model index format that mim, mmengine and mmpretrain read, with extra keys
that they ignore:

- ``Metrics``: The meaning of each metric. ``Runs``: ``Command`` and ``Hardware`` of our figures.
- ``Ensembles``: Rows of several models. ``Not Built``: Rows of models that this repository lacks.
  Both have ``Results`` like those of ``Models``.
- ``Tables``: The content between ``<!-- zoo: NAME -->`` and ``<!-- end zoo -->`` in the README. A
  cell is looked up by Model, Dataset, Metric, Label, Variant and Seed, each set by the table, the
  column or the row. A column is one of these names, ``config``, ``text`` (the row's text under the
  column's heading), or ``METRIC (LABEL)``.

A figure's label, ``paper`` or ``ours``, is part of its key: ``RSUM (paper): 496.1``. Our figures
name their run and seed. Missing figures are shown as ``not trained`` or ``not built``; a row may
set another of ``WORDS`` under the column's heading. The files are read as text, so that 81.60 keeps
its zero; the model index package converts numbers and is therefore used only in the test.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / '.dev')]

from zoo_metafile import LABELS, Entry, Figure, Zoo

from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError

COMMAND = 'python .dev/make_zoo.py'
PAGE = 'docs/model_zoo.md'
WORDS = ('-', 'not trained', 'not built', 'not measured', 'not timed')  # instead of a figure
PLACE = ('Model', 'Dataset', 'Metric', 'Label', 'Variant', 'Seed')  # keys that identify a figure
MARKED = re.compile(r'(<!-- zoo: (.+?) -->\n)(.*?)(<!-- end zoo -->)', re.S)
INTRO = f"""\
# Model zoo

<!-- Written by `{COMMAND}` from configs/*/metafile.yml. -->

Each figure is labelled. `paper`: published with the method. `ours`: measured here, with the seed,
the hardware and the command that stand below the table. `not trained`: none of ours yet.
`not built`: a model of another paper that is not here. Notes on the tables are in the READMEs
beside the configs.
"""


class Table:
    """Represent a table of a metafile, with its cells looked up."""

    def __init__(self, zoo: Zoo, data: dict) -> None:
        self.zoo = zoo
        self.name = data.get('Name', '')
        self.what = f'table {self.name!r}'
        needed = {'Name', 'Title', 'Columns', 'Rows'}
        zoo.check_keys(self.what, data, needed | set(PLACE), needed)
        self.title = data['Title']
        self.place = {key: data[key] for key in PLACE if key in data}
        self.columns = [next(iter(column.items())) for column in data['Columns']]
        self.used: list[Figure] = []
        self.ours: set[str] = set()  # headings of columns with our figures
        self.rows = [self._row(row) for row in data['Rows']]

    def _row(self, row: dict) -> list[tuple[str, str]]:
        """Return the content of a row: `config` and the place, or `text` and the text."""
        zoo = self.zoo
        what = f'{self.what}, row {row}'
        heads = [head for head, _ in self.columns]
        zoo.check_keys(what, row, {*PLACE, *heads, 'Link'}, set())
        place = self.place | {key: row[key] for key in PLACE if key in row}
        cells = []
        for head, kind in self.columns:
            if kind == 'text' or (isinstance(kind, str) and kind in PLACE):
                cells.append(('text', row.get(head, '') if kind == 'text' else place.get(kind, '')))
                continue
            if isinstance(kind, dict):
                at = place | kind
            elif kind == 'config':
                at = place
            else:
                metric, label = zoo.split(f'{self.what}, column {head!r}', kind)
                at = place | {'Metric': metric, 'Label': label}
            entry = zoo.entries.get(at.get('Model', ''))
            if entry is None:
                raise zoo.error(what, f'no model {at.get("Model", "")!r} in this metafile')
            zoo.rows.update((at['Model'], *entry.configs))
            if kind == 'config':
                cells.append(('config', (entry, row.get('Link', ''))))
                continue
            if at.get('Label') == 'ours':
                self.ours.add(head)
            cells.append(('text', self._figure(what, at, entry, row.get(head))))
        return cells

    def _figure(self, what: str, at: dict[str, str], entry: Entry, said: str | None) -> str:
        zoo = self.zoo
        for key in ('Dataset', 'Metric', 'Label'):
            if not at.get(key):
                raise zoo.error(what, f'no {key!r}')
        zoo.check_metric(what, at['Metric'])
        zoo.named.add(at['Metric'])
        if at['Label'] not in LABELS:
            raise zoo.error(what, f'label {at["Label"]!r}: expected one of {LABELS}')
        if said is not None and said not in WORDS:
            raise zoo.error(what, f'{said!r} in place of a figure: expected one of {WORDS}')
        figure = zoo.find(what, at)
        if figure is None:
            missing = 'not trained' if entry.configs else 'not built'
            return said or (missing if at['Label'] == 'ours' else '-')
        if said is not None:
            raise zoo.error(what, f'{said!r}, but there is a figure: {figure.value}')
        figure.shown = True
        self.used.append(figure)
        return figure.value

    def markdown(self, folder: Path) -> str:
        """Return the table, and the sources of its figures, for a page in the folder."""
        lines = [[head for head, _ in self.columns]]
        before: Any = None
        for row in self.rows:
            line = []
            for kind, value in row:
                if kind == 'text':
                    line.append(value)
                else:  # consecutive rows name their common config once
                    line.append('' if value[0] is before else link(*value, folder))
                    before = value[0]
            lines.append(line)
        drawn = ['|' + ''.join(f' {cell} |' if cell else ' |' for cell in line) for line in lines]
        drawn.insert(1, '|' + '---|' * len(self.columns))
        notes = self._notes()
        return '\n'.join(drawn + ([''] if notes else []) + notes) + '\n'

    def _notes(self) -> list[str]:
        """Return the sources of the figures."""
        seeds: dict[str, dict[str, None]] = {}  # of each run, in order
        for figure in self.used:
            if figure.run:
                seeds.setdefault(figure.run, {})[figure.place['Seed']] = None
        notes = []
        if any(figure.place['Label'] == 'paper' for figure in self.used):
            for head in self.ours:
                if 'ours' not in head:
                    text = f'column {head!r}: must say ours, as others are not'
                    raise self.zoo.error(self.what, text)
            notes.append('Figures: paper' + (', but for those of `ours`:\n' if seeds else '.'))
        for run, of_run in seeds.items():
            about = self.zoo.data['Runs'][run]
            which = '' if list(of_run) == ['none'] else f', SEED {", ".join(of_run)}'
            notes.append(f'- Ours{which}: {about["Hardware"]},\n  `{about["Command"]}`')
        return notes


def link(entry: Entry, text: str, folder: Path) -> str:
    """Return links to an entry's configs for a cell of a page in a folder."""
    parts = []
    for config in entry.configs:  # omit GPUs, batch size and dataset, which the table shows
        short = text or re.sub(r'_\d+xb\d+-(\w+)_[^_]+$', r'-\1', Path(config).stem)
        parts.append(f'[{short}]({os.path.relpath(config, folder)})')
    return ' + '.join(parts) or '-'


def fill_readme(zoo: Zoo, tables: list[Table]) -> str:
    """Return the README next to the metafile with its marked tables rewritten."""
    path = zoo.path.with_name('README.md')
    text = (zoo.root / path).read_text(encoding='utf-8')
    by_name = {table.name: table for table in tables}
    marks = [mark[2] for mark in MARKED.finditer(text)]
    for name in marks:
        if name not in by_name:
            raise InputError(f'{path}: marks table {name!r}, which {zoo.path} has not')
    for name in by_name:
        if marks.count(name) != 1:
            raise InputError(
                f'{path}: marks table {name!r} {marks.count(name)} times, expected once'
            )
    if text.count('<!-- zoo: ') != len(marks) or text.count('<!-- end zoo -->') != len(marks):
        raise InputError(f'{path}: a "<!-- zoo: NAME -->" without its "<!-- end zoo -->"')
    return MARKED.sub(lambda m: f'{m[1]}\n{by_name[m[2]].markdown(path.parent)}\n{m[4]}', text)


def section(zoo: Zoo, tables: list[Table]) -> str:
    """Return a project's section of the page."""
    readme = (zoo.root / zoo.path).with_name('README.md').read_text(encoding='utf-8')
    parts = [f'#{readme.splitlines()[0]}\n']
    sources = [
        f'- {c["Name"]}: {c["Paper"]["Title"]} ([code]({c["Code"]["URL"]}))'
        for c in zoo.data.get('Collections', ())
    ]
    parts.append('\n'.join(sources) + '\n')
    parts += [f'### {table.title}\n\n{table.markdown(Path(PAGE).parent)}' for table in tables]
    parts.append('### Metrics\n')
    parts.append(
        '\n'.join(f'- {name}: {text}' for name, text in zoo.data['Metrics'].items()) + '\n'
    )
    without = [f'- `{name}`: {e.no_row}' for name, e in zoo.entries.items() if e.no_row]
    if without:
        parts.append('### Configs without a row\n\n' + '\n'.join(without) + '\n')
    return '\n'.join(parts)


def make(root: Path) -> dict[str, str]:
    """Return the contents of all files, by path relative to the root.

    Raises:
        InputError: A metafile is invalid; see the module's docstring.
    """
    files, page = {}, [INTRO]
    for metafile in sorted(root.glob('configs/*/metafile.yml')):
        zoo = Zoo(metafile.relative_to(root), root)
        tables = [Table(zoo, data) for data in zoo.data['Tables']]
        zoo.check_shown()
        files[zoo.path.with_name('README.md').as_posix()] = fill_readme(zoo, tables)
        page.append(section(zoo, tables))
    files[PAGE] = '\n'.join(page)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='write nothing, fail if it would')
    parser.add_argument('--root', type=Path, default=ROOT, help='checkout (default: this one)')
    args = parser.parse_args()
    for name, text in make(args.root).items():
        path = args.root / name
        if path.is_file() and path.read_text(encoding='utf-8') == text:
            continue
        if args.check:
            raise InputError(f'{name}: is not what the metafiles say; run {COMMAND}')
        path.write_text(text, encoding='utf-8')
        print(f'written: {name}')


if __name__ == '__main__':
    with report_user_errors():
        main()
