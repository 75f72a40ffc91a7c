"""Options of commands that run trained models, and the inferencers built from them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..errors import InputError
from ..files.atomic import check_writable
from .options import add_trust_option

__all__ = [
    'add_device',
    'add_model_options',
    'add_outputs',
    'add_skip_options',
    'add_source',
    'add_store',
    'build',
    'check_outputs',
    'describe',
    'open_store',
]


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add the options for the output folder and what is written to it."""
    parser.add_argument('--out-dir', default='work_dirs/infer', help='default: %(default)s')
    parser.add_argument('--batch-size', type=int, default=1, help='images at once')
    parser.add_argument('--no-save-vis', action='store_true', help='draw no images')
    parser.add_argument('--no-save-pred', action='store_true', help='write no JSON')
    add_skip_options(parser)


def add_skip_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for images that cannot be read."""
    parser.add_argument(
        '--skip-damaged',
        action='store_true',
        help='leave out images that cannot be read, count them by reason, and list them',
    )
    parser.add_argument(
        '--skipped-file',
        metavar='FILE',
        default='work_dirs/skipped_images.tsv',
        help='where --skip-damaged lists what it leaves out, with reasons (default: %(default)s)',
    )


def check_outputs(args: argparse.Namespace) -> None:
    """Check that there is a place for the outputs, before a model is loaded."""
    if not (args.no_save_vis and args.no_save_pred):
        check_writable(args.out_dir)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the model, its weights and the device."""
    add_source(parser)
    add_device(parser)


def add_source(parser: argparse.ArgumentParser, part: str = '', whose: str = '') -> None:
    """Add the options that select a model: that of ``part`` if there are several."""
    parser.add_argument(
        f'--{part}model',
        help=f'config file or name (`models` lists them){whose}; default: that in the weights',
    )
    parser.add_argument(
        f'--{part}weights',
        help=f'checkpoint{whose}, or the folder or Hugging Face hub id of a published model; '
        'without it the model is random',
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the options for the device and for trusted checkpoints."""
    parser.add_argument('--device', help='such as cpu or cuda:0; default: the fastest there is')
    add_trust_option(parser)


def build(inferencer: Callable, args: argparse.Namespace, part: str = '', **options: Any) -> Any:
    """Build the inferencer from the options of :func:`add_source` and :func:`add_device`.

    Raises:
        InputError: Neither a model nor weights are given.
    """
    given = vars(args)
    model, weights = (given[f'{part}{name}'.replace('-', '_')] for name in ('model', 'weights'))
    if not model and not weights:
        raise InputError(f'neither --{part}weights nor --{part}model: give a checkpoint')
    return inferencer(
        model, weights, args.device, trust_checkpoint=args.trust_checkpoint, **options
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the options that select a store of embeddings."""
    parser.add_argument(
        '--store', default='work_dirs/gallery', help='folder or URI (default: %(default)s)'
    )
    parser.add_argument(
        '--store-options',
        nargs='+',
        metavar='KEY=VALUE',
        default=[],
        help="of the engine: factory=HNSW32 (faiss's index_factory; default Flat), "
        'index_type=HNSW or token=USER:PASSWORD (Milvus)',
    )


def open_store(open_uri: Callable, args: argparse.Namespace, create: bool) -> Any:
    """Open the store given by the options of :func:`add_store`.

    Raises:
        InputError: An option is invalid, or the engine of the store is not installed.
    """
    try:
        options = dict(option.split('=', 1) for option in args.store_options)
    except ValueError:
        raise InputError(f'--store-options {args.store_options}: expected KEY=VALUE') from None
    try:
        return open_uri(args.store, create=create, **options)
    except TypeError as error:
        raise InputError(f'--store-options: {error}') from None
    except ModuleNotFoundError as error:  # an optional engine
        raise InputError(str(error)) from error


def describe(grounding: dict) -> str:
    """Describe the boxes, if any, and the score of what a sentence names."""
    if not grounding.get('found', True):
        return f'nothing in the image fits, score {grounding["score"]:.3f}'
    if 'bboxes' in grounding:  # of a model for any number of objects
        found = zip(grounding['bboxes'], grounding['scores'], strict=True)
        parts = [describe(dict(bbox=bbox, score=score)) for bbox, score in found]
        return f'{len(parts)} found, score {grounding["score"]:.3f}: {"; ".join(parts)}'
    box = ' '.join(f'{value:.1f}' for value in grounding.get('bbox', ()))
    doubt = '' if grounding.get('accepted', True) else ' (below the threshold of the calibration)'
    return f'{f"box {box}, " if box else ""}score {grounding["score"]:.3f}{doubt}'
