"""Command-line options shared by several tools."""

from __future__ import annotations

import argparse

from .overrides import OverrideAction

__all__ = ['add_cfg_options', 'add_run_options', 'add_trust_option']


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Add `--trust-checkpoint`, which is False by default."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle checkpoints freely, which runs any code in them; only for files whose '
        'maker you trust',
    )


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
