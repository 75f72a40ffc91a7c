"""The notebooks are those of their scripts, and every cell runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import IPython.display
import matplotlib
import nbformat
import pytest
from mmengine.config import Config

from projects.common.cli.run import build_runner, prepare
from projects.common.scenes import write_dataset
from projects.pdsl.proposals import generate_proposals
from projects.pdsl.proposals.images import list_images

CONFIGS = {
    'plvl': 'plvl_tiny_1xb16-3k_scenes',
    'pdsl': 'pdsl_tiny_1xb4-600_scenes',
    'rvse': 'rvse_tiny_1xb32-3e_scenes',
}
FIGURES = {'plvl': 8, 'pdsl': 5, 'rvse': 7}  # images that a notebook shows
ONE_ITERATION = {
    'val_dataloader': None,
    'val_cfg': None,
    'val_evaluator': None,
    'param_scheduler': [],
    'default_hooks.checkpoint': dict(by_epoch=False, interval=1, save_best=None),
    'log_processor.by_epoch': False,
    'train_dataloader.batch_size': 4,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    """A few scenes with proposals."""
    folder = tmp_path_factory.mktemp('notebooks') / 'scenes'
    write_dataset(folder, num_train=8, num_val=2, num_test=16, image_size=128, progress=False)
    pictures = list_images(folder / 'images')
    generate_proposals(pictures, folder / 'proposals', max_proposals=40, min_side=8)
    return folder


@pytest.fixture
def parameters(repo_root: Path, scenes: Path, tmp_path: Path, monkeypatch) -> Callable[[str], dict]:
    """What a notebook's cell of parameters says here, with weights after one iteration."""

    def make(project: str) -> dict:
        monkeypatch.setenv('SCENES_ROOT', str(scenes))
        path = repo_root / f'configs/{project}/{CONFIGS[project]}.py'
        cfg = Config.fromfile(path)
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
        cfg.merge_from_dict(ONE_ITERATION)
        prepare(cfg, str(path), launcher='none', work_dir=str(tmp_path / 'first'))
        build_runner(cfg).train()
        return dict(
            WEIGHTS=str(tmp_path / 'first/iter_1.pth'),
            SCENES=str(scenes),
            WORK_DIR=str(tmp_path / 'work'),
            ITERATIONS=2,
            BATCH=4,
        )

    return make


def notebook_of(repo_root: Path, project: str, parameters: dict) -> nbformat.NotebookNode:
    """A committed notebook with a cell more, after that of the parameters, as papermill does."""
    notebook = nbformat.read(repo_root / f'demo/notebooks/{project}.ipynb', as_version=4)
    tagged = (cell.metadata.get('tags', []) for cell in notebook.cells)
    (place,) = [i for i, tags in enumerate(tagged) if 'parameters' in tags]
    lines = [f'{name} = {value!r}' for name, value in parameters.items()]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell('\n'.join(lines)))
    return notebook


def test_they_are_those_of_their_scripts(call_tool, repo_root: Path) -> None:
    call_tool('../.dev/make_notebooks.py', '--check')
    for project in CONFIGS:
        notebook = nbformat.read(repo_root / f'demo/notebooks/{project}.ipynb', as_version=4)
        nbformat.validate(notebook)
        assert not [c for c in notebook.cells if c.cell_type == 'code' and c.outputs]


def test_a_script_that_changed_is_noticed(call_tool, tmp_path: Path) -> None:
    folder = tmp_path / 'demo/notebooks'
    folder.mkdir(parents=True)
    done = call_tool('../.dev/make_notebooks.py', '--root', tmp_path, rc=1)
    assert done.err.endswith('demo/notebooks: no script\n')
    (folder / 'one.py').write_text('# %% [markdown]\n# # Title\n\n# %%\nprint(6 * 7)\n')
    call_tool('../.dev/make_notebooks.py', '--root', tmp_path)
    call_tool('../.dev/make_notebooks.py', '--root', tmp_path, '--check')
    content = json.loads((folder / 'one.ipynb').read_text())
    assert [(c['cell_type'], ''.join(c['source'])) for c in content['cells']] == [
        ('markdown', '# Title'),
        ('code', 'print(6 * 7)'),
    ]
    (folder / 'one.py').write_text('# %%\nprint(6 * 8)\n')
    done = call_tool('../.dev/make_notebooks.py', '--root', tmp_path, '--check', rc=1)
    assert done.err == (
        'error: demo/notebooks/one.ipynb: is not what its script says; run '
        'python .dev/make_notebooks.py\n'
    )


@pytest.mark.slow
def test_execute_keeps_outputs_out_of_the_checkout(call_tool, tmp_path: Path) -> None:
    folder = tmp_path / 'demo/notebooks'
    folder.mkdir(parents=True)
    (folder / 'one.py').write_text('# %%\nprint(6 * 7)\n')
    call_tool('../.dev/make_notebooks.py', '--root', tmp_path, '--execute', tmp_path / 'out')
    (cell,) = nbformat.read(tmp_path / 'out/one.ipynb', as_version=4).cells
    assert cell.outputs[0].text == '42\n'
    assert nbformat.read(folder / 'one.ipynb', as_version=4).cells[0].outputs == []


@pytest.mark.parametrize('project', CONFIGS)
def test_without_weights_one_line_says_what_makes_them(project, repo_root: Path) -> None:
    script = (repo_root / f'demo/notebooks/{project}.py').read_text()
    cell = next(part for part in script.split('# %%') if 'FileNotFoundError' in part)
    nowhere = SimpleNamespace(glob=lambda pattern: [])
    with pytest.raises(FileNotFoundError, match=f'`make quickstart PROJECT={project}` makes one'):
        exec(cell, dict(WEIGHTS=None, Path=lambda path: nowhere))


@pytest.mark.slow
@pytest.mark.parametrize('project', CONFIGS)
def test_every_cell_runs(project: str, repo_root: Path, parameters, monkeypatch, capsys) -> None:
    """In this process, which has imported the stack already; the slow test has a real kernel."""
    notebook = notebook_of(repo_root, project, parameters(project))
    shown = []
    monkeypatch.setattr(IPython.display, 'display', shown.append)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    monkeypatch.chdir(repo_root / 'demo/notebooks')
    matplotlib.use('agg')
    names: dict = {}
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            exec(compile(cell.source, f'{project}.ipynb', 'exec'), names)
    assert len(shown) == FIGURES[project]
    assert len(names['steps']) == 2 and all(step['loss'] > 0 for step in names['steps'])
    assert names['metrics'] and set(names['metrics']) <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()
    }


@pytest.mark.slow
@pytest.mark.parametrize('project', CONFIGS)
def test_every_cell_runs_in_a_kernel(project: str, repo_root: Path, parameters) -> None:
    from nbclient import NotebookClient

    notebook = notebook_of(repo_root, project, parameters(project))
    resources = {'metadata': {'path': str(repo_root / 'demo/notebooks')}}
    NotebookClient(notebook, timeout=280, resources=resources).execute()
    outputs = [out for cell in notebook.cells for out in cell.get('outputs', [])]
    assert sum('image/png' in out.get('data', {}) for out in outputs) == FIGURES[project]
    assert not [out for out in outputs if out.output_type == 'error']
