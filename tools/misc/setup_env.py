"""Build `.venv` from `requirements/`, or bring an existing one up to date. `make env` calls this.

Uses only the standard library and runs on any Python 3.8+, because it may have to recognise an
unsupported interpreter. Running it again is cheap (a stamp), and interrupting it at any point is
safe.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # this file may be loaded from anywhere

import mmcv_compiler

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
REQUIREMENTS = ROOT / 'requirements'
CONSTRAINTS = REQUIREMENTS / 'constraints.txt'
LOG = VENV / 'setup.log'
STAMP = VENV / 'mmtriad.stamp'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmtriad' / 'wheels'
SUPPORTED = ((3, 10), (3, 12))
HEARTBEAT = 30  # seconds between progress messages
THE_CV2 = 'opencv-contrib-python-headless'
OTHER_CV2 = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python')
MUST_IMPORT = (
    'torch',
    'torchvision',
    'mmcv._ext',
    'mmengine',
    'mmdet',
    'mmpretrain',
    'transformers',
    'cv2',
    'pytest',
)


class SetupError(Exception):
    """Report a failed step; the message is shown to the user."""


def say(text: str) -> None:
    print(f'[env] {text}', flush=True)


def child_env(**extra: str) -> dict:
    """Return the user's environment without variables that would leak into the virtual one."""
    dropped = ('PYTHONPATH', 'PYTHONHOME', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX', 'PIP_CONSTRAINT')
    env = {k: v for k, v in os.environ.items() if k not in dropped}
    env['PATH'] = f'{PYTHON.parent}{os.pathsep}{env.get("PATH", os.defpath)}'
    env['PIP_DISABLE_PIP_VERSION_CHECK'] = '1'
    return {**env, **extra}


def probe(python: str, code: str) -> str | None:
    """Return the output of `code` under `python`, or None if it fails."""
    try:
        done = subprocess.run(
            [str(python), '-c', code],
            env=child_env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def python_version(python: str) -> tuple[int, int] | None:
    found = probe(
        python, 'import sys, venv, ensurepip; print(sys.version_info[0], sys.version_info[1])'
    )
    return tuple(map(int, found.split())) if found else None


def is_supported(version: tuple[int, int] | None) -> bool:
    return version is not None and SUPPORTED[0] <= version <= SUPPORTED[1]


def find_python() -> str:
    """Return this interpreter if it is supported, else the first supported one on the PATH."""
    for name in (sys.executable, 'python3.11', 'python3.10', 'python3.12'):
        path = shutil.which(name)
        if path and is_supported(python_version(path)):
            return path
    raise SetupError(
        'needs Python 3.10, 3.11 or 3.12 with the venv module; '
        f'{sys.executable} is {sys.version.split()[0]} and no other was found. '
        'Install one, or name it: make env PYTHON=/path/to/python3.11'
    )


def run(what: str, command: list, log_file: Path | None = None, **env: str) -> None:
    """Run a step with its output in a log and a message every `HEARTBEAT` seconds.

    Raises:
        SetupError: The command failed; the message ends with the last lines of its output.
    """
    log_file = log_file or LOG
    start = time.monotonic()
    with open(log_file, 'ab') as log:
        log.write(f'\n$ {" ".join(map(str, command))}\n'.encode())
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(
            list(map(str, command)),
            env=child_env(**env),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            while True:
                try:
                    code = process.wait(timeout=HEARTBEAT)
                    break
                except subprocess.TimeoutExpired:
                    elapsed = int(time.monotonic() - start)
                    say(f'  {what}: {elapsed // 60} min {elapsed % 60:02d} s so far, still working')
        except BaseException:  # includes Ctrl-C: leave no compiler running
            process.terminate()
            process.wait()
            raise
    if code:
        tail = '\n'.join(
            log_file.read_bytes()[begin:].decode(errors='replace').strip().splitlines()[-25:]
        )
        raise SetupError(f'{what} failed (exit code {code}). The end of {log_file}:\n{tail}')


def pip(what: str, *arguments: str, log_file: Path | None = None, **env: str) -> None:
    run(what, [PYTHON, '-m', 'pip', '--no-input', *arguments], log_file, **env)


def pip_install(what: str, *arguments: str, log_file: Path | None = None) -> None:
    """Install packages; Python compiles a module to bytecode when it is first imported."""
    pip(what, 'install', '--no-compile', *arguments, log_file=log_file)


def pins(name: str) -> list[str]:
    """Return the requirement lines of a file, without comments."""
    lines = (line.split('#')[0].strip() for line in (REQUIREMENTS / name).read_text().splitlines())
    return [line for line in lines if line]


def pinned(*names: str) -> list[str]:
    """Return `name==version` lines from the constraints; pip evaluates the markers."""
    return [line for line in pins('constraints.txt') if line.split('==')[0] in names]


def fingerprint(version: tuple[int, int]) -> str:
    """Return a digest that changes whenever an ingredient of the environment changes."""
    digest = hashlib.sha256(repr((version, str(ROOT))).encode())
    for path in [*sorted(REQUIREMENTS.glob('*.txt')), Path(__file__)]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def forces_cuda() -> bool:
    """Return whether mmcv shall have CUDA operators although this machine has no GPU."""
    return os.environ.get('FORCE_CUDA') == '1'


def is_current() -> bool:
    """Return whether the stamp matches and the packages are in place (takes half a second)."""
    if not STAMP.is_file():
        return False
    version = python_version(PYTHON)
    if version is None:
        return False
    stamp, _, operators = STAMP.read_text().strip().partition(' ')
    if stamp != fingerprint(version) or (forces_cuda() and operators != 'cuda'):
        return False
    parents = sorted({name.split('.')[0] for name in MUST_IMPORT})
    return (
        probe(
            PYTHON,
            f'import importlib.util as u; assert all(u.find_spec(n) for n in {parents}); import '
            'cv2',
        )
        is not None
    )


@contextlib.contextmanager
def lock(path: Path, what: str):
    """Admit one process at a time; the system releases the lock when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'another process is at {what}; waiting for it')
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mend_site_packages() -> None:
    """Forget packages whose installation was cut short, so that pip installs them again.

    pip writes RECORD last; a distribution without it looks installed but may lack files.
    Directories that begin with `~` are left behind by an interrupted upgrade.
    """
    for site in VENV.glob('lib/python*/site-packages'):
        for info in site.glob('*.dist-info'):
            if not (info / 'RECORD').is_file():
                shutil.rmtree(info)
        for left_over in site.glob('~*'):
            shutil.rmtree(left_over, ignore_errors=True)


def mmcv_wheel() -> Path:
    """Return the path of mmcv's wheel for this Python and torch, building it on the first call.

    mmcv is distributed as source only. The name of the cache folder contains everything the binary
    depends on: torch, Python, and whether it includes CUDA operators.
    """
    facts = probe(
        PYTHON,
        'import sys, torch; from torch.utils.cpp_extension import CUDA_HOME; '
        'print(torch.__version__, f"cp{sys.version_info[0]}{sys.version_info[1]}", '
        'int(torch.cuda.is_available()), int(CUDA_HOME is not None))',
    )
    if facts is None:
        raise SetupError(
            f'torch does not import in {VENV}; remove that folder and run `make env` again'
        )
    torch_version, python_tag, has_gpu, has_nvcc = facts.split()
    if forces_cuda() and has_nvcc == '0':
        raise SetupError(
            'FORCE_CUDA=1, but no nvcc was found: install the CUDA toolkit, or set CUDA_HOME to it'
        )
    cuda = has_nvcc == '1' and (forces_cuda() or has_gpu == '1')
    if not cuda:
        why = 'no usable GPU here' if has_gpu == '0' else 'a GPU but no nvcc'
        say(
            f"{why}: mmcv without CUDA operators; on a GPU, torchvision's are used instead. For "
            "mmcv's, install the CUDA toolkit and run FORCE_CUDA=1 make env (docs/installation.md)"
        )
    folder = CACHE / f'torch{torch_version.split("+")[0]}-{python_tag}{"-cuda" if cuda else ""}'
    requirement = next(line for line in pins('mminstall.txt') if line.startswith('onedl-mmcv=='))
    pattern = f'onedl_mmcv-{requirement.split("==")[1]}-*.whl'

    with lock(folder / '.lock', f'the mmcv wheel in {folder}'):
        found = sorted(folder.glob(pattern))
        if found:
            say(f'  wheel from the cache, {found[-1]}')
            return found[-1]
        compiler = os.environ.get('CXX') or shutil.which('c++') or shutil.which('g++')
        if not compiler:
            raise SetupError(
                'mmcv has to be compiled and no C++ compiler was found (on Debian: apt install g++)'
            )
        jobs = os.environ.get('MAX_JOBS') or str(os.cpu_count() or 1)
        building = folder / '.building'
        shutil.rmtree(building, ignore_errors=True)
        # Keep TMPDIR next to the cache, so that a killed build leaves nothing outside this folder.
        (building / 'tmp').mkdir(parents=True)
        environment = {'MAX_JOBS': jobs, 'TMPDIR': str(building / 'tmp')}
        minutes = 4
        try:
            environment['CXX'] = str(mmcv_compiler.write_script(building / 'cxx', compiler))
        except (OSError, ValueError) as error:
            minutes = 20
            say(f'  no precompiled header, because {error}')
        if not cuda:
            environment['CUDA_VISIBLE_DEVICES'] = ''
        say(
            f'mmcv: compiling its operators with {jobs} jobs, once. About {minutes} minutes on two '
            f'cores{", 20 more with CUDA" if cuda else ""}; the wheel is kept in {folder}'
        )
        pip(
            'mmcv build',
            *('wheel', '--no-build-isolation', '--no-deps', '--wheel-dir', building, requirement),
            **environment,
        )
        if 'CXX' in environment:
            say(f'  mmcv: {mmcv_compiler.summary(building / "cxx")}')
        wheel = next(building.glob(pattern))
        os.replace(wheel, folder / wheel.name)
        shutil.rmtree(building, ignore_errors=True)
        return folder / wheel.name


def install_other_packages(pinning: tuple) -> None:
    """Install what neither mmcv's build nor the OpenMM packages need to be there first."""
    log_file = VENV / 'setup-packages.log'
    # why without its dependencies: requirements/demo.txt
    pip_install('gradio', '--no-deps', *pinned('gradio'), log_file=log_file)
    names = ('runtime', 'tests', 'docs', 'demo')
    files = (word for name in names for word in ('-r', REQUIREMENTS / f'{name}.txt'))
    pip_install('other packages', *pinning, *files, log_file=log_file)


def keep_one_cv2() -> None:
    """Remove the OpenCV distributions that overwrite each other's files."""
    code = (
        'import importlib.metadata as m; '
        f'print(" ".join(n for n in {OTHER_CV2} if any(d.metadata["Name"] == n for d in '
        'm.distributions())))'
    )
    others = (probe(PYTHON, code) or '').split()
    if others:
        say(f'removing {", ".join(others)}: only {THE_CV2} may provide cv2')
        pip('removing other OpenCV packages', 'uninstall', '-y', *others)
        pip_install('OpenCV', '--force-reinstall', '--no-deps', '-c', CONSTRAINTS, THE_CV2)


def build() -> None:
    """Run all steps; pip quickly skips those that are already done."""
    version = python_version(PYTHON)
    if is_supported(version) and probe(PYTHON, 'import pip') is not None:
        say(f'using the existing {VENV} (Python {version[0]}.{version[1]})')
    else:
        python = find_python()
        version = python_version(python)
        say(f'1/5 creating {VENV} with Python {version[0]}.{version[1]} (10 seconds)')
        lock_file = VENV / '.lock'  # we hold this lock: empty the rest of the folder
        for entry in VENV.iterdir():
            if entry != lock_file:
                shutil.rmtree(
                    entry
                ) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        run('creating the virtual environment', [python, '-m', 'venv', VENV])
    STAMP.unlink(missing_ok=True)
    mend_site_packages()
    pinning = ('--upgrade-strategy', 'only-if-needed', '-c', CONSTRAINTS)
    say(
        '2/5 torch and build tools (one to five minutes, by the network: about 2.5 GB are '
        'downloaded the first time)'
    )
    pip_install('pip itself', *pinning, *pinned('pip'))
    pip_install('torch', *pinning, '-r', REQUIREMENTS / 'build.txt')
    say('3/5 mmcv; the other packages are installed meanwhile')
    # mmcv's build keeps the processors busy, the downloads keep the network busy
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(install_other_packages, pinning)
        wheel = mmcv_wheel()
        others.result()
    # pip would keep an mmcv of the same version without CUDA operators
    pip_install('mmcv', '--no-deps', '--force-reinstall', wheel)
    say('4/5 the OpenMM stack (half a minute)')
    pip_install(
        'OpenMM packages', *('--no-deps', '--no-build-isolation', '-r'),
        REQUIREMENTS / 'mminstall.txt',
    )  # fmt: skip
    keep_one_cv2()
    say('5/5 checking (20 seconds)')
    done = subprocess.run(
        [str(PYTHON), str(ROOT / 'tools/misc/check_env.py')], env=child_env(), cwd=ROOT
    )
    if done.returncode:
        raise SetupError(
            f'the check above failed. If it says nothing useful, remove {VENV} and run `make env` '
            'again'
        )
    operators = 'cuda' if wheel.parent.name.endswith('-cuda') else 'cpu'
    STAMP.write_text(f'{fingerprint(version)} {operators}\n')
    say('ready')


def main() -> int:
    try:
        if is_current():
            return 0
        start = time.monotonic()
        with lock(VENV / '.lock', f'setting up {VENV}'):
            if not is_current():  # the previous holder of the lock may have done everything
                say(f'setting up {VENV}; details go to {LOG}')
                build()
                say(f'took {int(time.monotonic() - start)} s')
        return 0
    except SetupError as error:
        say(f'error: {error}')
    except KeyboardInterrupt:
        say('interrupted; run `make env` again to go on from here')
    return 1


if __name__ == '__main__':
    sys.exit(main())
