"""Read a metafile and check its content; make_zoo.py describes the format."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from projects.common.errors import InputError

LABELS = ('paper', 'ours')
FIGURE = re.compile(r'\d+(\.\d+)?( ± \d+(\.\d+)?)?( (M|G|s))?( \([\w ]+\))?')


class TextLoader(yaml.SafeLoader):
    """Load every scalar as written, and reject duplicate keys."""

    yaml_implicit_resolvers = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise InputError(
                f'{node.start_mark.name}: line {node.start_mark.line + 1}: {twice} twice'
            )
        return super().construct_mapping(node, deep)


@dataclass
class Figure:
    """Represent a number as written, its place, and the run that produced it (ours only)."""

    value: str
    place: dict[str, str]
    run: str
    shown: bool = False


@dataclass
class Entry:
    """Represent a row: a model, an ensemble (several configs), or a model not built (none)."""

    configs: list[str]
    no_row: str = ''


@dataclass
class Zoo:
    """Hold a metafile with its content checked, except for what its tables show."""

    path: Path  # of the metafile, relative to `root`
    root: Path
    data: dict[str, Any] = field(init=False)
    entries: dict[str, Entry] = field(init=False, default_factory=dict)
    figures: list[Figure] = field(init=False, default_factory=list)
    rows: set[str] = field(init=False, default_factory=set)  # entries and configs that have a row
    named: set[str] = field(init=False, default_factory=set)  # metrics that tables show

    def __post_init__(self) -> None:
        with (self.root / self.path).open(encoding='utf-8') as file:
            self.data = yaml.load(file, TextLoader)
        known = {'Collections', 'Metrics', 'Runs', 'Models', 'Ensembles', 'Not Built', 'Tables'}
        self.check_keys('top level', self.data, known, {'Models', 'Metrics', 'Tables'})
        for name, run in self.data.get('Runs', {}).items():
            self.check_keys(f'run {name}', run, {'Command', 'Hardware'}, {'Command', 'Hardware'})
        self._read_models()
        for kind in ('Ensembles', 'Not Built'):
            for entry in self.data.get(kind, ()):
                what = f'{kind}: {entry.get("Name")}'
                needed = {'Name', 'Results', *(['Models'] if kind == 'Ensembles' else [])}
                self.check_keys(what, entry, needed, needed)
                parts = entry.get('Models', [])
                for part in parts:
                    if part not in self.entries:
                        raise self.error(what, f'no model {part!r}')
                self._add(entry, [self.entries[part].configs[0] for part in parts])

    def error(self, where: str, text: str) -> InputError:
        """Return an error that names the metafile and the place in it."""
        return InputError(f'{self.path}: {where}: {text}')

    def check_keys(self, where: str, found: dict, known: set[str], needed: set[str]) -> None:
        """Raise an error if a dict has unknown keys, or lacks a needed one."""
        for key in sorted(set(found) - known):
            raise self.error(where, f'unknown key {key!r}; expected some of {sorted(known)}')
        for key in sorted(needed - {key for key, value in found.items() if value}):
            raise self.error(where, f'no {key!r}')

    def _read_models(self) -> None:
        folder = self.path.parent
        leaves = {
            path.relative_to(self.root).as_posix()
            for path in (self.root / folder).rglob('*.py')
            if '_base_' not in path.parts
        }
        collections = {collection['Name'] for collection in self.data.get('Collections', ())}
        for model in self.data['Models']:
            what = f'model {model.get("Name")}'
            needed = {'Name', 'In Collection', 'Config'}
            self.check_keys(
                what, model, needed | {'Results', 'No Row', 'Weights', 'Metadata'}, needed
            )
            if model['Config'] not in leaves:
                raise self.error(what, f'config {model["Config"]}: no such file below {folder}')
            if model['Name'] != Path(model['Config']).stem:
                raise self.error(what, f'expected the name of its config, {model["Config"]}')
            if model['In Collection'] not in collections:
                raise self.error(what, f'no collection {model["In Collection"]!r}')
            self._add(model, [model['Config']], model.get('No Row', ''))
            leaves.remove(model['Config'])
        for path in sorted(leaves):
            raise self.error('Models', f'{path} is missing')

    def _add(self, entry: dict, configs: list[str], no_row: str = '') -> None:
        name = entry['Name']
        if name in self.entries:
            raise self.error(name, 'stands there twice')
        self.entries[name] = Entry(configs, no_row)
        for result in entry.get('Results', ()):
            self._add_result(name, result)

    def _add_result(self, name: str, result: dict) -> None:
        what = f'result of {name}'
        needed = {'Task', 'Dataset', 'Metrics'}
        self.check_keys(what, result, needed | {'Variant', 'Run', 'Seed'}, needed)
        for key, value in result['Metrics'].items():
            metric, label = self.split(what, key)
            if not FIGURE.fullmatch(value):
                raise self.error(what, f'{key}: {value!r} is no figure')
            run = result.get('Run', '')
            if label == 'ours' and (run not in self.data.get('Runs', {}) or not result.get('Seed')):
                raise self.error(
                    what,
                    f'{key}: {value}: a figure of ours has a Run, one of Runs, and a Seed',
                )
            place = {'Model': name, 'Dataset': result['Dataset'], 'Metric': metric, 'Label': label}
            place |= {'Variant': result.get('Variant', ''), 'Seed': result.get('Seed', '')}
            if any(figure.place == place for figure in self.figures):
                raise self.error(what, f'{key} on {result["Dataset"]} stands there twice')
            self.figures.append(Figure(value, place, run))

    def split(self, what: str, key: str) -> tuple[str, str]:
        """Return the metric and the label of `METRIC (LABEL)`, both checked."""
        found = re.fullmatch(r'(.+) \((\w+)\)', key)
        if found is None or found[2] not in LABELS:
            raise self.error(what, f'{key!r}: no label; expected {key} (paper) or {key} (ours)')
        self.check_metric(what, found[1])
        return found[1], found[2]

    def check_metric(self, what: str, metric: str) -> None:
        """Raise an error if ``Metrics`` does not explain a metric."""
        if metric not in self.data['Metrics']:
            raise self.error(what, f'unknown metric {metric!r}; Metrics has no such')

    def find(self, what: str, place: dict[str, str]) -> Figure | None:
        """Return the figure of a cell; the seed may be omitted if there is only one."""
        asked = {'Variant': '', **place}
        if asked['Label'] == 'paper' or not asked.get('Seed'):
            asked.pop('Seed', None)
        found = [
            figure
            for figure in self.figures
            if all(figure.place[key] == value for key, value in asked.items())
        ]
        if len(found) > 1:
            seeds = [figure.place['Seed'] for figure in found]
            raise self.error(what, f'{asked["Metric"]}: which of the seeds {seeds}? Say Seed')
        return found[0] if found else None

    def check_shown(self) -> None:
        """Raise an error if one of the entries, figures or metrics was not shown in a table."""
        for name, entry in self.entries.items():
            # a model counts as shown if an ensemble that contains it is
            shown = name in self.rows or (len(entry.configs) == 1 and entry.configs[0] in self.rows)
            if shown and entry.no_row:
                raise self.error(name, 'has a row, and No Row says why it has none')
            if not shown and not entry.no_row:
                raise self.error(name, 'no table has a row of it, and no No Row says why')
        for figure in self.figures:
            if not figure.shown:
                where = ', '.join(value for value in figure.place.values() if value)
                raise self.error('Tables', f'no table shows {figure.value} ({where})')
        for metric in self.data['Metrics']:
            if metric not in self.named:
                raise self.error('Metrics', f'no table asks for {metric!r}')
