"""Download published data sets into the tree that the configs expect.

python tools/misc/download_dataset.py --list
python tools/misc/download_dataset.py refcoco refcoco+ voc2012

Terms and sizes are shown first and have to be accepted. An interrupted download continues where it
stopped, when the command is repeated. docs/plvl_data.md, docs/pdsl_data.md and docs/rvse_data.md
show the tree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from projects.common.cli.options import add_overwrite_option
from projects.common.cli.report import report_user_errors
from projects.common.downloads.install import Store, link
from projects.common.downloads.published import PublishedFile, PublishedSet
from projects.common.downloads.unpack import readable_size
from projects.common.errors import InputError
from tools.misc.dataset_catalog import DATA_SETS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='*', metavar='NAME', help=f'one of {", ".join(DATA_SETS)}')
    parser.add_argument('--list', action='store_true', help='show all data sets, and stop')
    parser.add_argument(
        '--data-root',
        type=Path,
        default=Path(os.environ.get('DATA_ROOT') or 'data'),
        help='folder of the tree (default: DATA_ROOT, or data)',
    )
    parser.add_argument('--yes', action='store_true', help='accept the terms without being asked')
    parser.add_argument(
        '--annotations-only', action='store_true', help='leave out the files of images'
    )
    parser.add_argument(
        '--delete-archives', action='store_true', help='delete archives once they are unpacked'
    )
    parser.add_argument(
        '--verify', action='store_true', help='run the commands that check the data afterwards'
    )
    parser.add_argument(
        '--mirror', metavar='URL', help='take all files from below this address, by their names'
    )
    add_overwrite_option(parser)
    args = parser.parse_args(argv)
    if bool(args.names) == args.list:
        parser.error('expected either NAME ... or --list')
    if unknown := [name for name in args.names if name not in DATA_SETS]:
        parser.error(f'found {", ".join(unknown)}, expected names of {", ".join(DATA_SETS)}')
    args.names = list(dict.fromkeys(args.names))
    return args


def wanted(data_set: PublishedSet, args: argparse.Namespace) -> list[PublishedFile]:
    return [f for f in data_set.files if not (args.annotations_only and f.images)]


def show(name: str, data_set: PublishedSet, lines: list[str]) -> None:
    """Print a data set with its terms, and a line for each file."""
    print(f'{name}: {data_set.title} ({data_set.page})\n  terms: {data_set.terms}')
    for line in lines:
        print(f'  {line}')
    if data_set.by_hand:
        print(f'  not downloaded: {data_set.by_hand}')


def list_all() -> None:
    for name, data_set in DATA_SETS.items():
        lines = [
            f'{file.name:48} {readable_size(file.size) if file.size else "size not known":>14}'
            for file in data_set.files
        ]
        show(name, data_set, lines)


def plan(store: Store, args: argparse.Namespace) -> list[PublishedFile]:
    """Show terms and sizes, check the room on the disk, and return what is to be downloaded."""
    sizes: dict[PublishedFile, int | None] = {}
    for name in args.names:
        lines = []
        for file in wanted(DATA_SETS[name], args):
            state = 'there already'
            if not store.is_there(file):
                if file not in sizes:
                    sizes[file] = store.size(file)
                size = sizes[file]
                state = readable_size(size) if size is not None else 'size not known'
            lines.append(f'{file.name:48} {state:>14}  {file.mirrored(args.mirror)[0]}')
        show(name, DATA_SETS[name], lines)
    known = [size for size in sizes.values() if size is not None]
    more = ' and what has no known size' if len(known) < len(sizes) else ''
    print(f'to download: {readable_size(sum(known))}{more}, to {args.data_root}', flush=True)
    store.check_room(list(sizes.items()))
    return list(sizes)


def confirm(args: argparse.Namespace) -> None:
    """Ask whether the terms are accepted.

    Raises:
        InputError: They are not, or nobody can be asked.
    """
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise InputError('the terms above have to be accepted: --yes does so in scripts')
    if input('Do you accept these terms? [y/N] ').strip().lower() not in ('y', 'yes'):
        raise InputError('the terms were not accepted; nothing was downloaded')


def commands(args: argparse.Namespace, field: str) -> list[str]:
    """Return the commands of a field of the chosen data sets, each once."""
    found = (command for name in args.names for command in getattr(DATA_SETS[name], field))
    return [command.format(root=args.data_root) for command in dict.fromkeys(found)]


def finish(args: argparse.Namespace) -> bool:
    """Print what to do next, and run the checks if asked to; return whether they passed."""
    for make in {DATA_SETS[name].finish: None for name in args.names}:
        if make is not None:
            print(make(args.data_root))
    checks = commands(args, 'verify')
    for title, lines in (
        ('afterwards', commands(args, 'afterwards')),
        (f'to check the data, with DATA_ROOT={args.data_root}', checks),
    ):
        if lines:
            print(f'{title}:', *lines, sep='\n  ', flush=True)
    unchecked = [name for name in args.names if not DATA_SETS[name].verify]
    if unchecked:
        print(f'no config reads {", ".join(unchecked)}, so nothing checks it')
    if not args.verify:
        return True
    environment = {**os.environ, 'DATA_ROOT': str(args.data_root.absolute()) + os.sep}
    passed = True
    for check in checks:
        script = [sys.executable, *check.split()[1:]]
        passed &= subprocess.run(script, cwd=ROOT, env=environment, check=False).returncode == 0
    return passed


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.list:
        list_all()
        return 0
    store = Store(args.data_root, args.mirror, args.overwrite, keep=not args.delete_archives)
    if missing := plan(store, args):
        confirm(args)
    with store.locked():
        for file in missing:
            if not store.is_there(file):  # another process may have got it meanwhile
                store.install(file)
    for name in args.names:
        link(args.data_root, DATA_SETS[name])
    return 0 if finish(args) else 1


if __name__ == '__main__':
    with report_user_errors():
        sys.exit(main())
