"""Give the metrics of a test with confidence intervals, or compare two tests of the same data.

    python tools/test.py CONFIG CHECKPOINT --out first.json
    python tools/analysis_tools/compare_runs.py CONFIG first.json
    python tools/analysis_tools/compare_runs.py CONFIG first.json second.json

Works for grounding (REC and RES), instances (AP) and matching (recalls). All intervals come from
a bootstrap over images, since sentences or instances of one image are not independent. Two runs are
compared on the same images of each sample (paired). Pass the CONFIG and --cfg-options of the test:
the ground truth comes from its dataset, which must be the same for both runs.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.predictions import build_dataset, project_of, read_predictions
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.annotation_files import json_bytes
from projects.common.files.atomic import check_output_file, write_atomically

if TYPE_CHECKING:
    from mmengine.config import Config

    from projects.common.bootstrap import Comparison, Interval, Statistic


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of the tests')
    parser.add_argument('first', help='what tools/test.py --out wrote, .json or .pkl')
    parser.add_argument('second', nargs='?', help='the same of another run')
    parser.add_argument(
        '--resamples', type=int, default=2000, help='bootstrap samples (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the samples (default: %(default)s)')
    parser.add_argument('--out', metavar='JSON', help='write all figures as JSON')
    add_cfg_options(parser, 'as in the tests')
    return parser.parse_args()


def use_ignored(cfg: Config, iou_type: str) -> bool:
    """Return whether the config's metric of this type counts ignored objects like others."""
    evaluators = cfg.get('test_evaluator') or []
    for each in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        if each.get('type') == 'InstanceCocoMetric' and iou_type in each.get('metric', 'bbox'):
            return bool(each.get('use_ignored'))
    return False


def read_statistics(cfg: Config, dataset: Any, project: str, path: str) -> dict[str, Statistic]:
    """Return the metrics of a file of predictions as statistics of images."""
    predictions = read_predictions(path)
    if project == 'plvl':
        from projects.plvl.evaluation.grounding_analysis import match_predictions
        from projects.plvl.evaluation.image_statistics import grounding_statistics, images_of

        records = match_predictions(dataset, predictions, path)
        return dict(grounding_statistics(records, images_of(dataset)))
    if project == 'pdsl':
        from projects.pdsl.evaluation.image_statistics import instance_statistics
        from projects.pdsl.evaluation.instance_matches import has_masks, match_instances

        types = ['bbox', 'segm'] if has_masks(dataset, predictions) else ['bbox']
        matches = {
            each: match_instances(dataset, predictions, path, each, use_ignored(cfg, each))
            for each in types
        }
        return instance_statistics(matches)
    from projects.rvse.evaluation.image_statistics import ranks_of_answers, recall_statistics

    return recall_statistics(ranks_of_answers(dataset, predictions, path))


def count_images(dataset: Any, project: str) -> int:
    """Return the number of images of a data set."""
    if project == 'plvl':
        from projects.plvl.evaluation.image_statistics import images_of

        return len(images_of(dataset))
    return len(dataset)


def show_intervals(found: dict[str, Interval]) -> None:
    """Print metrics and their intervals."""
    print(f'{"":16}{"value":>10}{"95 % interval":>20}')
    for name, each in found.items():
        print(f'{name:16}{each.value:10.2f}{f"{each.low:.2f} - {each.high:.2f}":>20}')


def show_comparisons(found: dict[str, Comparison]) -> None:
    """Print the metrics of both runs, the differences, their intervals and p-values."""
    print(f'{"":16}{"first":>10}{"second":>10}{"difference":>12}{"95 % interval":>20}{"p":>9}')
    for name, each in found.items():
        interval = f'{each.low:+.2f} - {each.high:+.2f}'
        print(
            f'{name:16}{each.first:10.2f}{each.second:10.2f}{each.difference:+12.2f}'
            f'{interval:>20}{each.p_value:9.4f}'
        )


def main() -> None:
    args = parse_args()
    if args.out:
        check_output_file(args.out)
    cfg = load_config(args.config, args.cfg_options)

    from projects.common.bootstrap import compare, intervals

    project = project_of(cfg, args.config)
    if project not in ('plvl', 'pdsl', 'rvse'):
        raise InputError(f'config {args.config}: no metrics of a model of projects/{project}')
    dataset = build_dataset(cfg, args.config)
    count = count_images(dataset, project)
    first = read_statistics(cfg, dataset, project, args.first)
    options = dict(count=count, resamples=args.resamples, seed=args.seed)
    print(f'{count:,} images, {args.resamples:,} samples of them, seed {args.seed}; all in percent')
    if args.second is None:
        single = intervals(first, **options)
        show_intervals(single)
        plain = {name: asdict(each) for name, each in single.items()}
    else:
        second = read_statistics(cfg, dataset, project, args.second)
        left_out = sorted(first.keys() ^ second.keys())
        both = compare(first, second, **options)
        show_comparisons(both)
        if left_out:
            print(f'only one of the runs has {", ".join(left_out)}')
        plain = {name: asdict(each) for name, each in both.items()}
    if args.out:
        content = dict(images=count, resamples=args.resamples, seed=args.seed, metrics=plain)
        write_atomically(args.out, json_bytes(content, indent=2) + b'\n')


if __name__ == '__main__':
    with report_user_errors():
        main()
