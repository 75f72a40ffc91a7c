"""The C++ compiler of mmcv's build: g++ with the header that all of mmcv's files share precompiled.

`setup_env.py` names the script that `write_script` makes in `CXX` while it builds mmcv. Each of
mmcv's 78 C++ files includes `pytorch_cpp_helper.hpp`, and with it PyTorch's headers, which take far
longer to parse than the file itself. The first call compiles that header with the flags of the
build; all calls then load the result. Debugging symbols, which nobody reads, are left out.

A file for which any of this fails is compiled by the plain command. Users do not call this file. It
needs the standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

HEADER = 'pytorch_cpp_helper.hpp'
SOURCES = '/csrc/pytorch/'  # the files that include it
NOTES = 'notes.txt'  # a line for each file: how it was compiled, its name, why not otherwise
TAKE_A_VALUE = ('-o', '-MF', '-MT', '-MQ')
OF_ONE_FILE = ('-c', '-MD', '-MMD', '-MP')


# ------------------------------------------------------------------------- for setup_env.py


def write_script(folder: Path, compiler: str) -> Path:
    """Write the executable that torch takes for the compiler: one path without arguments.

    Args:
        folder: Where the script, the precompiled header and the notes go. It must not exist.
        compiler: The real compiler, with arguments if it has any, as `CXX` may hold.

    Raises:
        OSError: The folder or the script cannot be written.
        ValueError: The compiler is not g++, or the script does not run. The message says why, in
            words that follow "because".
    """
    folder = Path(os.path.abspath(folder))  # ninja calls it from elsewhere
    if any(character.isspace() for character in str(folder)):
        raise ValueError(f'{folder} has a space in its name')  # torch and ninja would split it
    folder.mkdir(parents=True)
    script = folder / 'c++'
    command = [sys.executable, '-I', '-S', os.path.abspath(__file__), str(folder), compiler]
    script.write_text(f'#!/bin/sh\nexec {" ".join(map(shlex.quote, command))} "$@"\n')
    script.chmod(0o755)
    macros = [str(script), '-dM', '-E', '-x', 'c++', os.devnull]  # those that tell compilers apart
    try:
        done = subprocess.run(macros, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:  # a file system that runs no programs
        raise ValueError(f'{script} cannot be run ({error.strerror})') from None
    if '__GNUC__' not in done.stdout or re.search('__clang__|__INTEL_COMPILER', done.stdout):
        raise ValueError(f'{compiler} is not g++')
    return script


def summary(folder: Path) -> str:
    """Return one line about the files that were compiled through the script in `folder`."""
    try:
        lines = (folder / NOTES).read_text(errors='replace').splitlines()
    except FileNotFoundError:
        return 'the build did not call the compiler that was named in CXX'
    notes = {}
    for line in lines:
        how, name, reason = line.split('\t', 2)
        notes[name] = how, reason  # a file that is compiled twice counts once
    plain = [f'{name}: {reason}' for name, (how, reason) in notes.items() if how == 'plain']
    used = f'{len(notes) - len(plain)} of {len(notes)} files used the precompiled header'
    return f'{used} ({plain[0]})' if plain else used


# --------------------------------------------------------------------------- the compiler


def source_of(arguments: list[str]) -> str | None:
    """Return mmcv's C++ file that a command compiles; None for any other command."""
    if '-c' not in arguments:
        return None
    sources = [a for a in arguments if a.endswith(('.cpp', '.cc')) and not a.startswith('-')]
    return next((a for a in sources if SOURCES in os.path.abspath(a)), None)


def flags_of(arguments: list[str], source: str) -> list[str]:
    """Return the arguments that any file of the build is compiled with."""
    flags = []
    rest = iter(arguments)
    for argument in rest:
        if argument in TAKE_A_VALUE:
            next(rest, None)
        elif argument != source and argument not in OF_ONE_FILE:
            flags.append(argument)
    return flags


def find_header(flags: list[str]) -> str | None:
    """Return the path of the header in the first folder of the include path that has it."""
    for i, flag in enumerate(flags):
        if flag.startswith('-I'):
            where = flag[2:] or (flags[i + 1] if i + 1 < len(flags) else '')
            path = os.path.join(where, HEADER)
            if os.path.isfile(path):
                return path
    return None


def first_error(output: str) -> str:
    """Return the line of a compiler's output that tells what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = [line for line in lines if re.search(r'\b(error|warning|fatal)\b', line)]
    return ' '.join([*found, *lines, 'no message'][0].split())[:300]


def precompile(folder: Path, compiler: list[str], flags: list[str], header: str) -> Path:
    """Compile the header with `flags`, unless another process has; wait while one does.

    Returns:
        The folder of the precompiled header.

    Raises:
        ValueError: The header does not compile; the message says why.
    """
    digest = hashlib.sha256('\0'.join([*compiler, *flags, os.path.abspath(header)]).encode())
    target = folder / digest.hexdigest()[:16]
    target.mkdir(parents=True, exist_ok=True)
    made, failed = target / f'{HEADER}.gch', target / 'failed.txt'
    with open(target / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() and not failed.exists():
            part = target / 'part'
            done = subprocess.run(
                [*compiler, *flags, '-x', 'c++-header', header, '-o', str(part)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors='replace',
            )
            if done.returncode == 0 and part.is_file():
                os.replace(part, made)
            else:
                part.unlink(missing_ok=True)
                failed.write_text(f'{HEADER} does not compile: {first_error(done.stderr)}')
    if failed.exists():
        raise ValueError(failed.read_text())
    return target


def compile_with_header(
    folder: Path, compiler: list[str], arguments: list[str], source: str
) -> None:
    """Compile one file with the precompiled header included before its first line.

    That comes to the same because the header guards against a second inclusion, and it also works
    for files that include another header first. The folder has no header beside the precompiled
    one: g++ either loads that or fails.

    Raises:
        ValueError: It failed and the plain command is to be tried. The message says why.
    """
    if HEADER not in Path(source).read_text(errors='replace'):
        raise ValueError(f'it does not include {HEADER}')
    flags = flags_of(arguments, source)
    header = find_header(flags)
    if header is None:
        raise ValueError(f'no folder of the include path has {HEADER}')
    first = precompile(folder, compiler, flags, header)
    with_header = ['-include', str(first / HEADER), '-Winvalid-pch', '-Werror=invalid-pch']
    done = subprocess.run(
        [*compiler, *with_header, *arguments], stderr=subprocess.PIPE, text=True, errors='replace'
    )
    if done.returncode:
        raise ValueError(first_error(done.stderr))
    sys.stderr.write(done.stderr)


def main(arguments: list[str]) -> int:
    """Compile as the command line says; the exit code is the compiler's."""
    folder, compiler, arguments = Path(arguments[0]), shlex.split(arguments[1]), arguments[2:]
    source = source_of(arguments)
    if source is not None:
        arguments = [a for a in arguments if not re.fullmatch(r'-g([0-3]|gdb[0-3]?)?', a)]
        arguments.append('-g0')
        try:
            compile_with_header(folder, compiler, arguments, source)
            how, why = 'used', ''
        except (OSError, ValueError) as error:  # OSError: a full disk
            how, why = 'plain', ' '.join(str(error).split())
        name = os.path.abspath(source).rpartition(SOURCES)[2]
        with open(folder / NOTES, 'a') as notes:  # a short write is whole beside those of others
            notes.write(f'{how}\t{name}\t{why}\n')
        if how == 'used':
            return 0
    os.execvp(compiler[0], [*compiler, *arguments])


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
