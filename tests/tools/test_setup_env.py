"""`make env`'s script: what it keeps, repairs and says. Nothing is downloaded or compiled."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest


@pytest.fixture
def env(repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The script as a module that works on a folder of its own."""
    path = repo_root / 'tools' / 'misc' / 'setup_env.py'
    spec = importlib.util.spec_from_file_location('setup_env', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / '.venv'
    venv.mkdir()
    monkeypatch.setattr(module, 'VENV', venv)
    monkeypatch.setattr(module, 'LOG', venv / 'setup.log')
    monkeypatch.setattr(module, 'CACHE', tmp_path / 'cache')
    return module


def test_half_installed_packages_are_forgotten(env) -> None:
    site = env.VENV / 'lib/python3.11/site-packages'
    for name in ('whole-1.dist-info', 'half-1.dist-info', '~orch'):
        (site / name).mkdir(parents=True)
    (site / 'whole-1.dist-info' / 'RECORD').touch()
    env.mend_site_packages()
    assert [path.name for path in site.iterdir()] == ['whole-1.dist-info']


def test_a_failed_step_shows_the_end_of_its_log(env) -> None:
    code = 'import sys; print("\\n".join(f"line {i}" for i in range(90))); sys.exit(3)'
    with pytest.raises(env.SetupError) as error:
        env.run('the step', [sys.executable, '-c', code])
    text = str(error.value)
    assert text.startswith(f'the step failed (exit code 3). The end of {env.LOG}:')
    assert text.endswith('line 89')
    assert 'line 30' not in text


def test_long_steps_give_signs_of_life(env, monkeypatch, capsys) -> None:
    monkeypatch.setattr(env, 'HEARTBEAT', 0.2)
    env.run('the step', [sys.executable, '-c', 'import time; time.sleep(0.7)'])
    assert 'the step: 0 min 00 s so far, still working' in capsys.readouterr().out


def fake_build(env, monkeypatch, fails: bool = False) -> list:
    """Replace pip by something that leaves a wheel, or half of one."""
    calls = []

    def pip(what: str, *arguments, **variables) -> None:
        calls.append((arguments, variables))
        folder = Path(arguments[arguments.index('--wheel-dir') + 1])
        version = re.search(r'==(\S+)', arguments[-1])[1]
        (folder / f'onedl_mmcv-{version}-cp311-cp311-linux_x86_64.whl').write_text('wheel')
        if fails:
            raise env.SetupError('no compiler')

    monkeypatch.setattr(env, 'probe', lambda python, code: '2.11.0+cpu cp311 0 0')
    monkeypatch.setattr(env, 'pip', pip)
    monkeypatch.setenv('CXX', 'c++')
    return calls


def test_mmcv_is_built_once_and_kept(env, monkeypatch) -> None:
    calls = fake_build(env, monkeypatch)
    wheel = env.mmcv_wheel()
    assert wheel.parent == env.CACHE / 'torch2.11.0-cp311'
    assert wheel.read_text() == 'wheel'
    assert env.mmcv_wheel() == wheel
    assert len(calls) == 1
    arguments, variables = calls[0]
    assert {'--no-build-isolation', '--no-deps'} <= set(arguments)
    assert int(variables['MAX_JOBS']) >= 1
    assert [p.name for p in wheel.parent.iterdir() if p.suffix == '.whl'] == [wheel.name]


def test_an_interrupted_build_leaves_no_wheel(env, monkeypatch) -> None:
    fake_build(env, monkeypatch, fails=True)
    with pytest.raises(env.SetupError):
        env.mmcv_wheel()
    assert not list((env.CACHE / 'torch2.11.0-cp311').glob('*.whl'))
    fake_build(env, monkeypatch)
    assert env.mmcv_wheel().is_file()


def test_an_unfit_python_is_named(env, monkeypatch) -> None:
    monkeypatch.setattr(env, 'python_version', lambda path: (3, 13))
    with pytest.raises(env.SetupError, match=r'needs Python 3\.10, 3\.11 or 3\.12'):
        env.find_python()


@pytest.mark.parametrize('version', [(3, 9), (3, 10), (3, 12), (3, 13), None])
def test_supported_pythons(env, version) -> None:
    assert env.is_supported(version) == (version in ((3, 10), (3, 12)))


def test_everything_required_is_pinned(repo_root: Path) -> None:
    """Each name in requirements/ has an exact version in the constraints."""

    def names(file: str) -> set[str]:
        lines = (repo_root / 'requirements' / file).read_text().splitlines()
        found = (re.match(r'[A-Za-z0-9_.-]+', line) for line in lines)
        return {match[0].lower().replace('_', '-') for match in found if match}

    pinned = names('constraints.txt')
    for file in ('build.txt', 'mminstall.txt', 'runtime.txt', 'tests.txt', 'demo.txt', 'docs.txt'):
        assert names(file) <= pinned, file
