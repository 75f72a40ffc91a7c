"""Command-line options shared by several tools."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from .overrides import OverrideAction

__all__ = [
    'add_cfg_options',
    'add_conversion_options',
    'add_overwrite_option',
    'add_run_options',
    'add_trust_option',
    'add_trust_pickle_option',
    'add_vocabulary_options',
    'check_vocabulary_options',
    'refuse_existing',
]


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Add `--trust-checkpoint`, which is False by default."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle checkpoints freely, which runs any code in them; only for files whose '
        'maker you trust',
    )


def add_trust_pickle_option(parser: argparse.ArgumentParser) -> None:
    """Add `--trust-pickle`, which is False by default."""
    parser.add_argument(
        '--trust-pickle', action='store_true', help='unpickle freely, which may run code'
    )


def add_overwrite_option(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`, which :func:`refuse_existing` takes."""
    parser.add_argument('--overwrite', action='store_true', help='replace what is there')


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise an error if a file exists that is not to be replaced.

    Args:
        paths: Files to write.
        overwrite: Whether they may replace others.

    Raises:
        InputError: A file exists.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise InputError(f'{path}: exists already; --overwrite replaces it')


def add_cfg_options(parser: argparse.ArgumentParser, help_text: str = 'overrides') -> None:
    """Add ``--cfg-options KEY=VALUE ...``, parsed by :class:`.OverrideAction`.

    Args:
        parser: The parser to extend.
        help_text: The text that ``--help`` shows.
    """
    parser.add_argument(
        '--cfg-options', nargs='+', action=OverrideAction, metavar='KEY=VALUE', help=help_text
    )


def add_run_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Add the options shared by training and testing.

    Args:
        parser: The parser to extend.
        example: An example override that suits the command.
    """
    add_trust_option(parser)
    add_cfg_options(parser, f'override config settings, e.g. {example}')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by some launchers'
    )


def add_conversion_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a converter between our checkpoints and the released ones."""
    parser.add_argument('source', help='checkpoint to convert')
    parser.add_argument('target', help='file to write')
    parser.add_argument('--to', choices=('ours', 'released'), default='ours', help='target layout')
    add_trust_option(parser)


def add_vocabulary_options(parser: argparse.ArgumentParser, vocabulary: str) -> None:
    """Add ``--vocab`` and ``--original`` to a converter.

    Args:
        parser: The parser to extend.
        vocabulary: The vocabulary file in words.
    """
    parser.add_argument(
        '--vocab',
        metavar='FILE',
        help=f'{vocabulary}, which then travels in our checkpoint (with --to ours)',
    )
    parser.add_argument(
        '--original',
        metavar='FILE',
        help='released checkpoint to take the tensors from that nothing reads (with --to released)',
    )


def check_vocabulary_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with an error if ``--vocab`` or ``--original`` goes with the other target layout."""
    if args.vocab and args.to == 'released' or args.original and args.to == 'ours':
        parser.error('--vocab goes with --to ours, --original with --to released')
