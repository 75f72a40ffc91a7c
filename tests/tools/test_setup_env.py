"""`make env`'s script: what it keeps, repairs and says. Nothing is downloaded or compiled."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
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
    assert variables['CXX'].endswith('.building/cxx/c++')
    assert [p.name for p in wheel.parent.iterdir() if p.suffix == '.whl'] == [wheel.name]


@pytest.mark.parametrize(
    ('gpu', 'nvcc', 'forced', 'folder', 'said'),
    [
        (
            '0',
            '0',
            '',
            '',
            'no usable GPU here: mmcv without CUDA operators; on a GPU, torchvision',
        ),
        ('0', '1', '', '', 'no usable GPU here: mmcv without CUDA'),
        ('1', '0', '', '', 'a GPU but no nvcc: mmcv without CUDA'),
        ('1', '1', '', '-cuda', '20 more with CUDA'),
        ('0', '1', '1', '-cuda', '20 more with CUDA'),
    ],
)
def test_mmcvs_cuda_operators(env, monkeypatch, capsys, gpu, nvcc, forced, folder, said) -> None:
    """Built with a GPU and a compiler, or on demand; what is used instead is said."""
    calls = fake_build(env, monkeypatch)
    monkeypatch.setattr(env, 'probe', lambda python, code: f'2.11.0 cp311 {gpu} {nvcc}')
    monkeypatch.setenv('FORCE_CUDA', forced)
    assert env.mmcv_wheel().parent.name == f'torch2.11.0-cp311{folder}'
    assert said in capsys.readouterr().out
    assert calls[0][1].get('CUDA_VISIBLE_DEVICES') == (None if folder else '')


def test_forced_operators_need_a_compiler(env, monkeypatch) -> None:
    fake_build(env, monkeypatch)
    monkeypatch.setenv('FORCE_CUDA', '1')
    with pytest.raises(env.SetupError, match='FORCE_CUDA=1, but no nvcc was found'):
        env.mmcv_wheel()


def test_forced_operators_are_built_in_a_ready_environment(env, monkeypatch) -> None:
    monkeypatch.setattr(env, 'STAMP', env.VENV / 'stamp')
    monkeypatch.setattr(env, 'probe', lambda python, code: '3 11')
    for operators, forced, current in (
        ('cpu', '', True),
        ('cpu', '1', False),
        ('cuda', '1', True),
        ('cuda', '', True),
    ):
        env.STAMP.write_text(f'{env.fingerprint((3, 11))} {operators}\n')
        monkeypatch.setenv('FORCE_CUDA', forced)
        assert env.is_current() == current


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (
            'The NVIDIA driver on your system is too old (found version 11040). Please update',
            'cannot be used: The NVIDIA driver on your system is too old (found version 11040). '
            'This PyTorch needs a driver for CUDA 13.0',
        ),
        ('Found no NVIDIA driver on your system. Please check', 'no GPU here: everything runs on'),
        ('No CUDA GPUs are available', 'no GPU here: everything runs on the CPU'),
        (None, "GPU: Some GPU (CUDA 13.0). Operators: torchvision's, because mmcv was built"),
    ],
)
def test_the_check_says_what_a_gpu_would_use(repo_root, monkeypatch, error, said) -> None:
    import torch

    path = repo_root / 'tools/misc/check_env.py'
    spec = importlib.util.spec_from_file_location('check_env', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def init():
        if error is not None:
            raise RuntimeError(error)

    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(torch.cuda, 'init', init)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index: 'Some GPU')
    for version, others in (('not available', True), ('13.0', False)):
        monkeypatch.setattr('mmcv.ops.get_compiling_cuda_version', lambda found=version: found)
        text = module.describe_gpu()
        assert said in text or not others
        assert 'too old' in text or ("mmcv's, for CUDA 13.0" in text) != others


def test_an_interrupted_build_leaves_no_wheel(env, monkeypatch) -> None:
    fake_build(env, monkeypatch, fails=True)
    with pytest.raises(env.SetupError):
        env.mmcv_wheel()
    assert not list((env.CACHE / 'torch2.11.0-cp311').glob('*.whl'))
    fake_build(env, monkeypatch)
    assert env.mmcv_wheel().is_file()


# ----------------------------------------------------------------- mmcv's precompiled header


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder laid out like mmcv's sources: one header, and two files that include it."""
    if not shutil.which('g++'):
        pytest.fail('g++ is needed: `make env` compiles mmcv with it')
    folder = tmp_path / 'csrc' / 'pytorch'
    folder.mkdir(parents=True)
    common = tmp_path / 'csrc' / 'common'
    common.mkdir()
    guarded = '#ifndef HELPER\n#define HELPER\n#include <vector>\nstruct Shape {};\n#endif\n'
    (common / 'pytorch_cpp_helper.hpp').write_text(guarded)
    (folder / 'first.cpp').write_text('#include "pytorch_cpp_helper.hpp"\nShape first;\n')
    (folder / 'second.cpp').write_text(
        '#include <string>\n#include "pytorch_cpp_helper.hpp"\nShape second;\n'
    )
    return tmp_path


@pytest.fixture
def compiler(env):
    """The module of the compiler, as `setup_env.py` has it."""
    return env.mmcv_compiler


def recording_compiler(folder: Path) -> Path:
    """A compiler in the place of g++ that writes down how it was called."""
    path = folder / 'recorder'
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls.txt\nexec g++ "$@"\n')
    path.chmod(0o755)
    return path


def start(script: Path, tree: Path, name: str, *flags: str) -> subprocess.Popen:
    source = tree / 'csrc' / 'pytorch' / name
    command = [script, '-MMD', '-MF', tree / f'{name}.d', f'-I{tree}/csrc/common', '-g', *flags]
    return subprocess.Popen(
        [*map(str, command), '-c', '-c', str(source), '-o', str(tree / f'{name}.o')],
        cwd=tree,
        stderr=subprocess.PIPE,
        text=True,
    )


def compiled(script: Path, tree: Path, name: str, *flags: str) -> subprocess.CompletedProcess:
    process = start(script, tree, name, *flags)
    _, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(process.args, process.returncode, None, err)


def test_both_files_use_the_precompiled_header(compiler, tree: Path) -> None:
    """The second one although it includes another header before."""
    script = compiler.write_script(tree / 'cxx', str(recording_compiler(tree)))
    for name in ('first.cpp', 'second.cpp'):
        done = compiled(script, tree, name)
        assert done.returncode == 0 and done.stderr == ''
        assert (tree / f'{name}.o').is_file() and (tree / f'{name}.d').is_file()
    assert compiler.summary(tree / 'cxx') == '2 of 2 files used the precompiled header'
    _, header, *files = (tree / 'calls.txt').read_text().splitlines()  # the first asks for macros
    assert 'c++-header' in header and '.cpp' not in header
    assert len(files) == 2
    for call in (header, *files):
        assert '-g' not in call.split() and call.split().count('-g0') == 1
    assert files[0].split()[-1] == '-g0'


def test_parallel_calls_precompile_once(compiler, tree: Path) -> None:
    script = compiler.write_script(tree / 'cxx', str(recording_compiler(tree)))
    running = [start(script, tree, name) for name in ('first.cpp', 'second.cpp')]
    for process in running:
        process.communicate(timeout=100)
        assert process.returncode == 0
    assert (tree / 'calls.txt').read_text().count('c++-header') == 1
    assert compiler.summary(tree / 'cxx').startswith('2 of 2')


def test_an_invalid_precompiled_header_is_left_aside(compiler, tree: Path) -> None:
    script = compiler.write_script(tree / 'cxx', 'g++')
    assert compiled(script, tree, 'first.cpp').returncode == 0
    (made,) = (tree / 'cxx').glob('*/*.gch')
    made.write_bytes(b'no precompiled header')
    done = compiled(script, tree, 'second.cpp')
    assert done.returncode == 0 and done.stderr == ''
    assert (tree / 'second.cpp.o').is_file()
    text = compiler.summary(tree / 'cxx')
    assert text.startswith('1 of 2 files used the precompiled header (second.cpp: ')
    assert 'gch' in text and '\n' not in text


def test_a_header_that_does_not_compile_is_tried_once(compiler, tree: Path) -> None:
    """The files compile by the plain command: they define what the header asks for."""
    header = tree / 'csrc/common/pytorch_cpp_helper.hpp'
    header.write_text('#ifndef READY\n#error not ready\n#endif\nstruct Shape {};\n')
    for path in (tree / 'csrc' / 'pytorch').iterdir():
        path.write_text(f'#define READY\n{path.read_text()}')
    script = compiler.write_script(tree / 'cxx', str(recording_compiler(tree)))
    for name in ('first.cpp', 'second.cpp'):
        assert compiled(script, tree, name).returncode == 0
    text = compiler.summary(tree / 'cxx')
    assert text.startswith('0 of 2 files used') and '#error not ready' in text
    assert (tree / 'calls.txt').read_text().count('c++-header') == 1


def test_other_commands_and_real_errors_pass_through(compiler, tree: Path) -> None:
    script = compiler.write_script(tree / 'cxx', 'g++')
    plain = tree / 'plain.cpp'
    plain.write_text('int main() { return 7; }\n')
    subprocess.run([script, plain, '-g', '-o', tree / 'program'], check=True)
    assert subprocess.run([tree / 'program']).returncode == 7
    assert 'did not call' in compiler.summary(tree / 'cxx')
    (tree / 'csrc/pytorch/first.cpp').write_text('#include "pytorch_cpp_helper.hpp"\nShap first;')
    done = compiled(script, tree, 'first.cpp')
    assert done.returncode == 1 and 'Shap' in done.stderr


def test_only_gcc_gets_the_script(compiler, tree: Path) -> None:
    other = tree / 'other'
    other.write_text('#!/bin/sh\necho "#define __GNUC__ 4"; echo "#define __clang__ 1"\n')
    other.chmod(0o755)
    with pytest.raises(ValueError, match='other is not g..$'):
        compiler.write_script(tree / 'cxx', str(other))
    with pytest.raises(ValueError, match='has a space in its name'):
        compiler.write_script(tree / 'a folder', 'g++')


def test_the_users_compiler_is_the_real_one(env, tree: Path, monkeypatch, capsys) -> None:
    """`CXX` may have arguments; what it is not fit for is built as before."""
    calls = fake_build(env, monkeypatch)
    monkeypatch.setattr(env.mmcv_compiler, 'summary', lambda folder: script_of(folder))

    def script_of(folder: Path) -> str:
        assert compiled(folder / 'c++', tree, 'first.cpp').returncode == 0
        return 'the summary'

    monkeypatch.setenv('CXX', f'{recording_compiler(tree)} -DUSERS')
    env.mmcv_wheel()
    assert (tree / 'calls.txt').read_text().count('-DUSERS') == 3  # macros, header, file
    assert 'mmcv: the summary' in capsys.readouterr().out

    shutil.rmtree(env.CACHE)
    monkeypatch.setenv('CXX', 'true')
    env.mmcv_wheel()
    assert 'CXX' not in calls[-1][1] and os.environ['CXX'] == 'true'
    assert 'no precompiled header, because true is not g++' in capsys.readouterr().out


# -------------------------------------------------------------------------------- the rest


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
