"""The wheel installs namespace packages that live beside anybody else's `projects`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml


def python(*arguments: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    if path is not None:
        env['PYTHONPATH'] = str(path)
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope='module')
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp('site')
    done = python(
        *(
            '-m',
            'pip',
            'install',
            '-q',
            '--no-deps',
            '--no-index',
            '--target',
            str(target),
            str(wheel),
        ),
        cwd=target,
    )
    assert done.returncode == 0, done.stderr
    return target


def test_wheel_holds_every_module_and_no_projects_init(wheel: Path, repo_root: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(repo_root)) for path in (repo_root / 'projects').rglob('*.py')}
    assert modules <= names
    assert 'projects/__init__.py' not in names
    packages = {path.parent.name for path in (repo_root / 'projects').glob('*/__init__.py')}
    assert {f'projects/{name}/py.typed' for name in packages} <= names  # type checkers look there
    assert all(name.startswith(('projects/', 'mmtriad-')) for name in names)


def test_stack_is_not_a_dependency(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(n for n in archive.namelist() if n.endswith('METADATA'))).decode()
    required = re.findall(r'^Requires-Dist: ([\w-]+)', metadata, flags=re.M)
    assert 'torch' in required
    assert not [name for name in required if re.search('mm(engine|cv|det|pretrain)|opencv', name)]


def test_imports_from_an_empty_directory(site: Path, tmp_path: Path) -> None:
    code = 'import projects.common, projects.plvl; print(projects.plvl.__file__)'
    done = python('-c', code, cwd=tmp_path, path=site)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith(str(site))


def test_configs_come_along(site: Path, repo_root: Path, tmp_path: Path) -> None:
    code = (
        'from mmengine.config import Config; from projects.common import find_config, list_models; '
        'path = find_config("plvl_tiny_1xb16-3k_scenes"); print(path); '
        'print(Config.fromfile(path).model.type, *list_models())'
    )
    done = python('-c', code, cwd=tmp_path, path=site)
    assert done.returncode == 0, done.stderr
    where, listed = done.stdout.strip().splitlines()[-2:]
    assert where.startswith(str(site))
    leaves = {p.stem for p in (repo_root / 'configs').rglob('*.py') if '_base_' not in p.parts}
    assert listed.split() == ['PLVL', *sorted(leaves)]


def test_imports_beside_a_foreign_projects_folder(site: Path, tmp_path: Path) -> None:
    other = tmp_path / 'projects' / 'other'  # as in a checkout of mmdet: no projects/__init__.py
    other.mkdir(parents=True)
    (other / '__init__.py').write_text('WHOSE = "foreign"\n')
    code = (
        'import projects.other, projects.plvl; print(projects.other.WHOSE, projects.plvl.__file__)'
    )
    done = python('-c', code, cwd=tmp_path, path=site)
    assert done.returncode == 0, done.stderr
    whose, where = done.stdout.strip().splitlines()[-1].split(maxsplit=1)
    assert whose == 'foreign'
    assert where.startswith(str(site))


def test_editable_install_imports_from_the_checkout(copy_sources, tmp_path: Path) -> None:
    """An editable install into a folder of its own, in a copy because it writes metadata."""
    source = tmp_path / 'source'
    copy_sources(source)
    site = tmp_path / 'site'
    done = python(
        *('-m', 'pip', 'install', '-q', '--no-build-isolation', '--no-deps', '--no-index'),
        *('--target', str(site), '-e', str(source)),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    # A .pth file works in a site directory only, so add it as one.
    code = f'import site; site.addsitedir({str(site)!r}); '
    code += 'import projects.common as c; print(c.__file__)'
    done = python('-c', code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith(str(source))


# ------------------------------------------------------------- files that other programs read


def test_citation(repo_root: Path) -> None:
    """Has what version 1.2.0 of the format requires, this version, and a paper for each project."""
    cited = yaml.safe_load((repo_root / 'CITATION.cff').read_text())
    assert {'cff-version', 'message', 'title', 'authors'} <= cited.keys()
    (version,) = re.findall(r"^version = '(.*)'", (repo_root / 'pyproject.toml').read_text(), re.M)
    assert cited['version'] == version
    papers = cited['references']
    assert [each['notes'] for each in papers] == ['projects/plvl', 'projects/pdsl', 'projects/rvse']
    for paper in papers:
        assert {'type', 'title', 'authors', 'year'} <= paper.keys()
        assert all({'given-names', 'family-names'} == set(each) for each in paper['authors'])


def test_image_and_workflow_name_what_is_there(repo_root: Path) -> None:
    """What the Dockerfile copies is enough for `make env`; the targets of the workflow exist."""
    text = (repo_root / 'Dockerfile').read_text()
    copied = [name for line in re.findall(r'^COPY (.*) \S+$', text, re.M) for name in line.split()]
    assert all((repo_root / name).exists() for name in copied)
    script = (repo_root / 'tools/misc/setup_env.py').read_text()
    needed = set(re.findall(r'tools/misc/\w+\.py', script)) | {'tools/misc/setup_env.py'}
    needed |= {f'tools/misc/{name}.py' for name in re.findall(r'^import (mmcv_\w+)', script, re.M)}
    assert len(needed) == 3 and needed <= set(copied)

    targets = re.findall(r'^([a-z-]+):', (repo_root / 'Makefile').read_text(), re.M)
    workflow = yaml.safe_load((repo_root / '.github/workflows/tests.yml').read_text())
    steps = workflow['jobs']['tests']['steps']
    called = [step['run'].split()[1] for step in steps if 'run' in step]
    assert called == ['env', 'lint', 'docs', 'test'] and set(called) <= set(targets)
    container = json.loads((repo_root / '.devcontainer/devcontainer.json').read_text())
    folder = container['workspaceFolder']
    assert f'WORKDIR {folder}\n' in text and f'target={folder}/.venv' in container['mounts'][0]
