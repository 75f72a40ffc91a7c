"""Check whether a training recipe will learn, within minutes on a CPU.

python tools/preflight.py configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py --like-pretrained --images my_images --batch-size 2
"""  # noqa: E501

import argparse
import importlib
import importlib.util
import multiprocessing
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # for `projects`, from any working directory

from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options, add_trust_option
from projects.common.cli.report import report_user_errors, user_message
from projects.common.cli.run import prepare
from projects.common.errors import InputError
from projects.common.files.atomic import check_output_file, write_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Build what a config trains, take the first steps and say whether it is going '
        'to learn: first values of the losses beside chance, gradients, learning rates, what is '
        'kept. The exit status is 0 if it is, 1 if not.',
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files')
    parser.add_argument('--steps', type=int, default=10, help='steps to take; default: 10')
    parser.add_argument(
        '--images',
        '--pictures',  # old spelling
        dest='images',
        metavar='DIR',
        help="folder of images for made-up labels, used where the config's own data is absent",
    )
    parser.add_argument(
        '--like-pretrained',
        nargs='*',
        type=float,
        metavar='NUMBER',
        help="bring the random backbone's features to a mean and a standard deviation, for a "
        'recipe whose pretrained weights are not at hand; default: 1.06 1.32, those of the '
        "released ResNet-18's last stage",
    )
    parser.add_argument('--batch-size', type=int, help="samples of a step in place of the config's")
    parser.add_argument(
        '--image-scale',
        type=float,
        default=1.0,
        metavar='FACTOR',
        help='multiply the sizes that images are resized and cropped to, such as 0.5 on a slow '
        'machine; the model stays as it is',
    )
    parser.add_argument(
        '--table', metavar='FILE', help='write a Markdown table with a row for each config to FILE'
    )
    add_trust_option(parser)
    add_cfg_options(parser, 'override config settings, e.g. optim_wrapper.optimizer.lr=0.001')
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f'--steps {args.steps}: expected 1 or more')
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f'--batch-size {args.batch_size}: expected 1 or more')
    if not 0 < args.image_scale <= 1:
        parser.error(f'--image-scale {args.image_scale:g}: expected more than 0 and at most 1')
    if args.like_pretrained is not None and len(args.like_pretrained) not in (0, 2):
        parser.error('--like-pretrained: expected a mean and a standard deviation, or neither')
    return args


def register_makers(imports: list[str]) -> None:
    """Import the ``preflight`` module beside each module that a config imports, if there is one.

    Args:
        imports: Names of packages (``lab``: ``lab.preflight``) or of modules
            (``projects.plvl.register``: ``projects.plvl.preflight``).
    """
    for name in imports:
        for package in (name, name.rpartition('.')[0]):
            try:
                found = importlib.util.find_spec(f'{package}.preflight') if package else None
            except ModuleNotFoundError:  # a module, not a package
                continue
            if found is not None:
                importlib.import_module(f'{package}.preflight')
                break


def check(path: str, args: argparse.Namespace, options: Any) -> tuple[bool, str]:
    """Print the page of one config; return the verdict and the row of the table."""
    from projects.common.preflight.page import page, table_row
    from projects.common.preflight.run import preflight

    cfg = load_config(path, args.cfg_options)
    for section in ('train_cfg', 'train_dataloader', 'optim_wrapper'):
        if cfg.get(section) is None:
            raise InputError(f"config {path}: no '{section}': nothing to train")
    prepare(cfg, path, 'none', 'preflight', args.trust_checkpoint)
    register_makers((cfg.get('custom_imports') or {}).get('imports') or [])
    report = preflight(cfg, Path(path).stem, options)
    print(page(report), flush=True)
    return report.findings.passed, table_row(report)


def check_apart(path: str, args: argparse.Namespace, options: Any) -> tuple[bool, str]:
    """Check one of several configs in a separate process.

    Array sizes differ between configs, so they could not reuse each other's memory; a config that
    runs out of memory ends only its own process. An error becomes a row.
    """
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=_send, args=(there, path, args, options))
    process.start()
    there.close()
    try:
        passed, row = here.recv()
    except EOFError:
        passed, row = False, None
    process.join()
    if row is None:
        line = f'the process ended with exit status {process.exitcode}'
        if process.exitcode == -9:
            line = 'the process was killed, as happens where memory is short; see --batch-size'
        row = _failed(path, line)
    return passed, row


def _send(connection: Connection, path: str, args: argparse.Namespace, options: Any) -> None:
    try:
        result = check(path, args, options)
    except Exception as error:
        line = user_message(error)
        if line is None:  # a bug here or in a library; continue with the other configs
            traceback.print_exc()
            line = f'{type(error).__name__}: {" ".join(str(error).split())}'
        result = False, _failed(path, line)
    connection.send(result)


def _failed(path: str, line: str) -> str:
    print(f'error: {path}: {line}', file=sys.stderr, flush=True)
    return f'| `{Path(path).stem}` | - | - | - | - | - | {line} |\n'


def main() -> int:
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', '0')
    from projects.common.preflight import RELEASED_RESNET18
    from projects.common.preflight.page import TABLE_HEAD
    from projects.common.preflight.report import Options

    if args.table:
        check_output_file(args.table)
    like = args.like_pretrained
    options = Options(
        steps=args.steps,
        images=args.images,
        like_pretrained=tuple(like or RELEASED_RESNET18) if like is not None else None,
        batch_size=args.batch_size,
        image_scale=args.image_scale,
    )
    if len(args.configs) == 1:
        (path,) = args.configs
        passed, row = check(path, args, options)
        if args.table:
            write_atomically(args.table, (TABLE_HEAD + row).encode())
        return 0 if passed else 1
    results = []
    for path in args.configs:
        if results:
            print('\n' + '-' * 80 + '\n', flush=True)
        results.append(check_apart(path, args, options))
        if args.table:
            rows = ''.join(row for _, row in results)
            write_atomically(args.table, (TABLE_HEAD + rows).encode())
    return 0 if all(passed for passed, _ in results) else 1


if __name__ == '__main__':
    with report_user_errors():
        sys.exit(main())
