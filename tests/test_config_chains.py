"""Configs keep to one convention, so that one can read any of them in a minute.

- Data sets and schedules of all projects are in ``configs/_base_/{datasets,schedules}``. A data
  base is named after its data, their form and the pixels; a schedule after its project, its
  optimizer (where a project has several) and its length. Models and runtimes of a project are in
  ``configs/<project>/_base_``. Bases derive from bases only.
- A leaf lists its parts (model, data, schedule, runtime) and overrides what is special about it. It
  never derives from another leaf.
- A chain (the leaf, its part, the base of the part) has at most three files. Files of other
  packages (``mmdet::...``) do not count.
"""

import ast
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[1] / 'configs'
PROJECTS = ('pdsl', 'plvl', 'rvse')
MAX_FILES = 3


def bases(config: Path) -> list[Path]:
    """Return the files that a config names in ``_base_``, without those of other packages."""
    for node in ast.parse(config.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_base_':
            named = ast.literal_eval(node.value)
            named = [named] if isinstance(named, str) else named
            return [(config.parent / name).resolve() for name in named if '::' not in name]
    return []


def longest_chain(config: Path) -> list[Path]:
    """Return the files from the config to its most distant base."""
    return [config, *max(map(longest_chain, bases(config)), key=len, default=[])]


def is_leaf(config: Path) -> bool:
    return '_base_' not in config.parts


def leaves(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*.py') if is_leaf(path.relative_to(folder)))


def long_chains(folder: Path) -> set[str]:
    """Return the names of the leaves below a folder with more than ``MAX_FILES`` files."""
    return {path.stem for path in leaves(folder) if len(longest_chain(path)) > MAX_FILES}


def derived_from_leaves(folder: Path) -> set[str]:
    """Return the names of the leaves below a folder that derive from another leaf."""
    return {
        path.stem
        for path in leaves(folder)
        if any(is_leaf(base.relative_to(folder)) for base in bases(path))
    }


def test_chains_are_short():
    assert all(leaves(CONFIGS / project) for project in PROJECTS)
    assert not long_chains(CONFIGS), f'more than {MAX_FILES} files'


def test_no_leaf_derives_from_a_leaf():
    assert not derived_from_leaves(CONFIGS)


def assigned(config: Path) -> set[str]:
    """Return the names that a config assigns at its top level."""
    tree = ast.parse(config.read_text(encoding='utf-8'))
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    return {ast.unparse(target) for target in targets}


def misplaced(folder: Path, name: str) -> set[str]:
    """Return the names of the projects' own bases that assign a name."""
    return {path.stem for path in folder.glob('*/_base_/*.py') if name in assigned(path)}


def test_bases_lie_where_they_belong():
    for path in sorted(CONFIGS.rglob('*.py')):
        project = CONFIGS / path.relative_to(CONFIGS).parts[0]
        for base in bases(path):
            assert base.is_file(), f'{path} names {base}'
            assert is_leaf(path) or not is_leaf(base), f'{path} derives from leaf {base}'
            assert base.is_relative_to(CONFIGS / '_base_') or base.is_relative_to(project), path
    assert not misplaced(CONFIGS, 'train_dataloader'), 'move them to configs/_base_/datasets'
    assert not misplaced(CONFIGS, 'optim_wrapper'), 'move them to configs/_base_/schedules'


@pytest.fixture
def configs(tmp_path) -> Path:
    """A folder of four configs, each of which derives from the one before."""
    (tmp_path / '_base_').mkdir()
    (tmp_path / '_base_/root.py').write_text('')
    (tmp_path / '_base_/net.py').write_text("_base_ = ['./root.py', 'mmdet::net.py']")
    (tmp_path / 'net_default.py').write_text("_base_ = ['./_base_/net.py', './_base_/root.py']")
    (tmp_path / 'net_more.py').write_text("_base_ = './net_default.py'")
    return tmp_path


def test_long_chain_is_noticed(configs):
    assert long_chains(configs) == {'net_more'}
    assert [path.stem for path in longest_chain(configs / 'net_more.py')] == [
        'net_more',
        'net_default',
        'net',
        'root',
    ]


def test_leaf_of_a_leaf_is_noticed(configs):
    assert derived_from_leaves(configs) == {'net_more'}
    (configs / 'net_more.py').write_text("_base_ = './_base_/net.py'")
    assert not derived_from_leaves(configs)


def test_data_in_a_project_are_noticed(configs):
    (configs / 'lab/_base_').mkdir(parents=True)
    (configs / 'lab/_base_/data.py').write_text('train_dataloader = dict(batch_size=2)')
    assert misplaced(configs, 'train_dataloader') == {'data'}
    assert not misplaced(configs, 'optim_wrapper')
