"""Break the recalls of a matching model down by length and words of captions, and by ground truth.

    python tools/test.py CONFIG CHECKPOINT --out answers.json \\
        --cfg-options test_cfg.similarity_file=similarities.npy
    python tools/analysis_tools/analyze_retrieval.py CONFIG answers.json
    python tools/analysis_tools/analyze_retrieval.py CONFIG similarities.npy --truth eccv cxc

The first analysis gives the recalls of text to image by groups of captions. The second, for COCO's
5,000 test images, counts the matches of ECCV Caption and CxC besides COCO's own; it needs the
package eccv-caption. All intervals are of a bootstrap over images.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.predictions import build_dataset, project_of, read_predictions
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.annotation_files import json_bytes
from projects.common.files.atomic import check_output_file, write_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of the test')
    parser.add_argument('file', help='answers (.json, .pkl), or similarities (.npy) for --truth')
    parser.add_argument(
        '--truth',
        nargs='+',
        choices=['coco', 'cxc', 'eccv'],
        help='count the matches of these ground truths of the COCO test split',
    )
    parser.add_argument(
        '--resamples', type=int, default=2000, help='bootstrap samples (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the samples (default: %(default)s)')
    parser.add_argument('--out', metavar='JSON', help='write all figures as JSON')
    add_cfg_options(parser, 'as in the test')
    args = parser.parse_args()
    if bool(args.truth) != args.file.endswith('.npy'):
        parser.error('--truth takes similarities (.npy), and the groups of captions take answers')
    return args


def analyze_groups(dataset: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Print and return the recalls of text to image by groups of captions."""
    from projects.common.bootstrap import intervals
    from projects.rvse.evaluation.caption_groups import caption_groups
    from projects.rvse.evaluation.image_statistics import ranks_of_answers, recall_statistics

    ranks = ranks_of_answers(dataset, read_predictions(args.file), args.file)
    groups = {'All': {'all captions': None}, **caption_groups(dataset.captions())}
    plain: dict[str, Any] = {}
    for title, members in groups.items():
        print(f'\n{title:24}{"captions":>10}' + ''.join(f'{f"R@{k}":>22}' for k in (1, 5, 10)))
        plain[title] = {}
        for name, mask in members.items():
            statistics = recall_statistics(ranks, mask)
            wanted = {key: each for key, each in statistics.items() if key.startswith('t2i/')}
            found = intervals(wanted, dataset.img_size, args.resamples, args.seed)
            count = int(mask.sum()) if mask is not None else dataset.text_size
            shown = (f'{e.value:6.1f} ({e.low:.1f} - {e.high:.1f})' for e in found.values())
            print(f'{name:24}{count:10,}' + ''.join(f'{each:>22}' for each in shown))
            recalls = {key: asdict(each) for key, each in found.items()}
            plain[title][name] = dict(captions=count, **recalls)
    return plain


def analyze_truths(dataset: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Print and return the metrics of other ground truths."""
    from projects.common.bootstrap import intervals
    from projects.rvse.evaluation import read_similarities
    from projects.rvse.evaluation.coco_extended import extended_statistics

    matrix, truth = read_similarities(args.file)
    if truth['image_of_caption'] != dataset.image_of_caption.tolist():
        raise InputError(
            f'{args.file}: of {truth["source"]}, but the config is of {dataset.source}'
        )
    statistics = {}
    for name in args.truth:
        statistics.update(extended_statistics(dataset, matrix, name))
    found = intervals(statistics, dataset.img_size, args.resamples, args.seed)
    print(f'{"":20}{"value":>10}{"95 % interval":>20}')
    for name, each in found.items():
        print(f'{name:20}{each.value:10.2f}{f"{each.low:.2f} - {each.high:.2f}":>20}')
    return {name: asdict(each) for name, each in found.items()}


def main() -> None:
    args = parse_args()
    if args.out:
        check_output_file(args.out)
    cfg = load_config(args.config, args.cfg_options)
    project = project_of(cfg, args.config)
    if project != 'rvse':
        raise InputError(f'config {args.config}: a model of projects/{project}, expected rvse')
    dataset = build_dataset(cfg, args.config)
    found = (analyze_truths if args.truth else analyze_groups)(dataset, args)
    if args.out:
        write_atomically(args.out, json_bytes(found, indent=2) + b'\n')


if __name__ == '__main__':
    with report_user_errors():
        main()
