"""The wheel in a clean environment, from a checkout of mmdet: by `custom_imports` alone.

`checkout/` holds what a lab has there of its own: configs and a package below `projects/`. Tools
and base configs are those that mmdet and mmpretrain ship. Nothing of this repository is on the
path.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from projects.common.scenes import write_dataset
from projects.pdsl.proposals import generate_proposals, list_images

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Environment:
    """A virtual environment, seen from outside."""

    def __init__(self, folder: Path, *options: str) -> None:
        subprocess.run([sys.executable, '-m', 'venv', *options, folder], check=True)
        self.python = folder / 'bin/python'
        self.site = Path(self('-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'))

    def __call__(self, *arguments: str | Path, cwd: Path | None = None, **env: str | Path) -> str:
        """The last line that Python prints; fails the test where it fails."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(('PYTHON', 'COVERAGE'))}
        done = subprocess.run(
            [self.python, *arguments],
            cwd=cwd or self.python.parent,
            env={**kept, 'OMP_NUM_THREADS': '1', **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip().rpartition('\n')[2]

    def shipped(self, package: str) -> Path:
        """The folder in which a distribution of the stack has its tools and configs."""
        code = f'import importlib.util as u; print(u.find_spec("{package}").origin)'
        return Path(self('-c', code)).parent / '.mim'


@pytest.fixture(scope='module')
def environment(wheel: Path, tmp_path_factory) -> Environment:
    """With the wheel, installed by pip, and the stack that stands here.

    The stack's folder is a line of a .pth file: packages in it are found, its own .pth files, such
    as that of an editable installation, are not read.
    """
    environment = Environment(tmp_path_factory.mktemp('environment'), '--without-pip')
    stack = {sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}
    (environment.site / 'stack.pth').write_text('\n'.join(stack) + '\n')
    pip = [sys.executable, '-m', 'pip', '--python', environment.python, 'install', '-q']
    subprocess.run([*pip, '--no-deps', '--no-index', wheel], check=True)
    return environment


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    """A few scenes of 64 pixels, with proposals."""
    root = tmp_path_factory.mktemp('scenes')
    write_dataset(root, num_train=8, num_val=4, num_test=0, image_size=64, progress=False)
    generate_proposals(list_images(root / 'images'), root / 'proposals', max_proposals=40)
    return root


def make_checkout(environment: Environment, folder: Path) -> Path:
    """The lab's files, mmdet's tools and base configs, and the configs that the wheel brings."""
    shutil.copytree(HERE / 'checkout', folder, ignore=shutil.ignore_patterns('__pycache__'))
    mmdet = environment.shipped('mmdet')
    shutil.copytree(mmdet / 'tools', folder / 'tools')
    shutil.copytree(mmdet / 'configs/_base_', folder / 'configs/_base_')
    shutil.copytree(environment.site / 'projects/common/.mim/configs', folder / 'configs/mmtriad')
    return folder


@pytest.fixture(scope='module')
def checkout(environment: Environment, tmp_path_factory) -> Path:
    return make_checkout(environment, tmp_path_factory.mktemp('lab') / 'mmdetection')


def scalars(work_dir: Path, pattern: str) -> list[dict]:
    """What a run logged, line by line."""
    (log,) = work_dir.glob(pattern)
    return [json.loads(line) for line in log.read_text().splitlines()]


def check_what_ran(environment: Environment, checkout: Path, work_dir: Path, classes: str) -> None:
    """The lab's package from its checkout, ours from the environment, and our classes in use."""
    ran = json.loads((work_dir / 'what_ran.json').read_text())
    places = {name: Path(path) for name, path in ran['packages'].items()}
    assert places.pop('projects.lab') == checkout / 'projects/lab/__init__.py'
    ours = [path for name, path in places.items() if name.startswith('projects.')]
    assert len(ours) == 1 and ours[0].is_relative_to(environment.site)
    assert not any(path.is_relative_to(ROOT / 'projects') for path in places.values())
    assert set(classes.split()) <= {name.rpartition('.')[2] for name in ran['classes']}


def train_and_test(
    environment: Environment,
    checkout: Path,
    scenes: Path,
    package: str,
    name: str,
    trained: str,
    tested: str | None,
) -> None:
    """Validated while it trains and tested from the checkpoint: with our classes, and equal."""
    tools = checkout / 'tools' if package == 'mmdet' else environment.shipped(package) / 'tools'
    config, work_dir = f'configs/lab/{name}.py', checkout / f'work_dirs/{name}'
    env = dict(cwd=checkout, PYTHONPATH=checkout, SCENES_ROOT=scenes)
    # mmpretrain's default asks for data-loading processes, which the configs do without.
    option = ['--no-persistent-workers'] if package == 'mmpretrain' else []
    environment(tools / 'train.py', config, *option, **env)
    check_what_ran(environment, checkout, work_dir, trained)
    lines = scalars(work_dir, '*/vis_data/scalars.json')
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) > 1 and all(map(math.isfinite, losses))
    if tested is None:  # mmpretrain has no test for what trains itself
        return

    checkpoint = (work_dir / 'last_checkpoint').read_text()
    test_dir = checkout / f'work_dirs/{name}_test'
    environment(tools / 'test.py', config, checkpoint, '--work-dir', test_dir, **env)
    check_what_ran(environment, checkout, test_dir, tested)
    *_, validation = lines
    metrics = {key: value for key, value in validation.items() if '/' in key}
    (test,) = scalars(test_dir, '*/*.json')
    assert metrics and {key: test[key] for key in metrics} == pytest.approx(metrics, abs=1e-6)


CASES = {
    'plvl': (
        'mmdet',
        'PLVL LanguageGuidedViT CollaborativeHead CenterFocalLoss ReferGroundingDataset',
        'PLVL ReferGroundingDataset GroundingMetric TestLoop',
    ),
    'rvse': (
        'mmpretrain',
        'ImageTextMatcher SelHNLoss COCOCaptionsMatchingDataset EpochBasedTrainLoop',
        'ImageTextMatcher COCOCaptionsMatchingDataset MatchingMetric MatchingTestLoop',
    ),
    'resnet_ws': ('mmdet', 'RetinaNet ResNetWS', 'RetinaNet ResNetWS CocoMetric'),
    'pdsl': (
        'mmdet',
        'PDSL ResNetWS PDSLRoIHead TagFileDataset',
        'PDSL CocoDataset InstanceCocoMetric TagMetric',
    ),
    'selhn': ('mmpretrain', 'BarlowTwins SelHNLoss CustomDataset', None),
}


def train_and_test_both(environment: Environment, checkout: Path, scenes: Path) -> None:
    """A model of each library at once: most of the time goes by while they import it."""
    with ThreadPoolExecutor() as pool:
        runs = []
        for name in ('plvl', 'rvse'):
            package, *classes = CASES[name]
            arguments = (environment, checkout, scenes, package, name, *classes)
            runs.append(pool.submit(train_and_test, *arguments))
        for run in runs:
            run.result()


def test_their_tools(environment, checkout, scenes):
    train_and_test_both(environment, checkout, scenes)


@pytest.mark.slow  # what is built and run as in the two above
@pytest.mark.timeout(900)
@pytest.mark.parametrize('name', sorted(set(CASES) - {'plvl', 'rvse'}))
def test_their_tools_further(environment, checkout, scenes, name):
    package, *classes = CASES[name]
    train_and_test(environment, checkout, scenes, package, name, *classes)


@pytest.fixture
def empty_folder(tmp_path):
    """Is removed afterwards: pytest would keep the gigabytes of the last three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_from_nothing(wheel, scenes, empty_folder):
    """An environment made by pip alone, as the README says it, and both libraries' tools in it."""
    import torch

    tag = f'torch{torch.__version__.split("+")[0]}-cp{sys.version_info[0]}{sys.version_info[1]}'
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'mmtriad/wheels', tag)
    if not any(cache.glob('onedl_mmcv-*.whl')):
        pytest.skip(f'{cache} has no wheel of mmcv, which compiles for ten minutes; make env does')
    environment = Environment(empty_folder / 'environment')
    lists = ROOT / 'requirements'
    pip = ('-m', 'pip', 'install', '-q', '-c', lists / 'constraints.txt')
    environment(*pip, '-r', lists / 'build.txt')
    stack = ('--no-deps', '--no-build-isolation', '--find-links', cache)
    environment(*pip, *stack, '-r', lists / 'mminstall.txt')
    environment(*pip, '-r', lists / 'runtime.txt')
    environment(*pip, wheel)
    checkout = make_checkout(environment, empty_folder / 'mmdetection')
    train_and_test_both(environment, checkout, scenes)
