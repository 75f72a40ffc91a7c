"""Calibrate the scores of a model on its validation set, and choose a threshold.

    python tools/analysis_tools/calibrate.py CONFIG CHECKPOINT --out CALIBRATED.pth
    python tools/analysis_tools/calibrate.py CONFIG CALIBRATED.pth --check

The first command tests CHECKPOINT on the validation set of CONFIG, fits a temperature (and a bias
where it helps) and writes the checkpoint with the result, which the inferencers then apply. The
second measures a calibrated checkpoint on the test set. Checkpoints may be folders of published
models; --out is then a folder as well.

All errors that are printed are of images that the fit has not seen. docs/calibration.md explains
the figures.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options, add_trust_option
from projects.common.cli.predictions import build_dataset, project_of, read_predictions
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.annotation_files import json_bytes
from projects.common.files.atomic import check_output_file, check_writable, write_atomically

if TYPE_CHECKING:
    from mmengine.config import Config

    from projects.common.calibration import Outcomes


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or folder of a published model')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--out', type=Path, help='checkpoint to write, or folder for a folder')
    what.add_argument(
        '--check', action='store_true', help='fit nothing: measure a calibrated checkpoint'
    )
    parser.add_argument(
        '--split', choices=['val', 'test'], help='default: val, and test with --check'
    )
    parser.add_argument(
        '--method',
        choices=['auto', 'temperature', 'platt'],
        default='auto',
        help='the scale alone (1 / temperature), or scale and bias; auto takes what is better on '
        'images that it was not fitted on (default: %(default)s)',
    )
    parser.add_argument(
        '--precision',
        type=float,
        metavar='P',
        help='take the lowest threshold whose precision is P or more; default: the largest F1',
    )
    parser.add_argument(
        '--iou-type',
        choices=['segm', 'bbox'],
        default='segm',
        help='of instances: which overlap makes one correct (default: %(default)s)',
    )
    parser.add_argument(
        '--predictions',
        metavar='FILE',
        help='do not run the model: read what tools/test.py --out (of matching: '
        'test_cfg.similarity_file) has written on the split',
    )
    parser.add_argument('--plot', type=Path, metavar='FILE', help='reliability diagrams, a .png')
    parser.add_argument('--report', type=Path, metavar='JSON', help='write all figures as JSON')
    parser.add_argument('--seed', type=int, default=0, help='of the halves of the images')
    parser.add_argument('--work-dir', default='work_dirs/calibrate', help='default: %(default)s')
    add_trust_option(parser)
    add_cfg_options(parser, 'override config settings')
    args = parser.parse_args()
    if args.precision is not None and not 0 < args.precision <= 1:
        parser.error(f'--precision {args.precision}: expected a number from 0 to 1')
    args.split = args.split or ('test' if args.check else 'val')
    return args


def read_checkpoint(args: argparse.Namespace) -> dict[str, Any]:
    """Return the content of the checkpoint; that of a published model is read like one."""
    from projects.common.weights.checkpoint import load_checkpoint_file
    from projects.common.weights.published import find_published, read_published

    folder = find_published(args.checkpoint)
    if folder is not None:
        if args.out and args.out.is_file():
            raise InputError(f'--out {args.out}: a file, expected a folder like the checkpoint')
        weights, meta = read_published(folder)
        return dict(state_dict=weights, meta=meta)
    content = load_checkpoint_file(args.checkpoint, trust=args.trust_checkpoint)
    if not isinstance(content, dict) or 'state_dict' not in content:
        raise InputError(f'{args.checkpoint}: no entry state_dict, expected our checkpoint')
    return content


def run_model(cfg: Config, args: argparse.Namespace, content: dict, folder: Path) -> str:
    """Test the model on the split, and return the file of its predictions or similarities."""
    from projects.common.cli.run import prepare, run
    from projects.common.weights.convert import write_checkpoint

    weights = folder / 'weights.pth'
    if Path(args.checkpoint).is_dir():
        write_checkpoint(weights, content)
    prepare(cfg, args.config, 'none', args.work_dir, args.trust_checkpoint)
    cfg.load_from = str(weights) if weights.exists() else args.checkpoint
    cfg.resume = False
    cfg.test_dataloader = deepcopy(cfg[f'{args.split}_dataloader'])
    evaluator = cfg.get(f'{args.split}_evaluator') or []
    evaluators = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
    if project_of(cfg, args.config) == 'rvse':
        path = folder / 'similarities.npy'
        cfg.test_cfg.similarity_file = str(path)
        cfg.test_evaluator = evaluators
    else:
        path = folder / 'predictions.json'
        cfg.test_evaluator = [*evaluators, dict(type='PredictionDump', out_file=str(path))]
    run(cfg, 'test')
    return str(path)


def read_outcomes(cfg: Config, args: argparse.Namespace, path: str) -> Outcomes:
    """Return the scores of predictions in a file, and which predictions are correct."""
    project = project_of(cfg, args.config)
    if project == 'rvse':
        from projects.rvse.evaluation.pairs import pair_outcomes
        from projects.rvse.evaluation.similarity_file import read_similarities

        matrix, truth = read_similarities(path)
        return pair_outcomes(matrix, truth['image_of_caption'], seed=args.seed)
    dataset = build_dataset(cfg, args.config, f'{args.split}_dataloader')
    predictions = read_predictions(path)
    if project == 'plvl':
        from projects.plvl.evaluation.grounding_analysis import match_predictions
        from projects.plvl.evaluation.image_statistics import grounding_outcomes, images_of

        records = match_predictions(dataset, predictions, path)
        return grounding_outcomes(records, images_of(dataset))
    if project == 'pdsl':
        from projects.pdsl.evaluation.instance_matches import instance_outcomes, match_instances

        matches = match_instances(dataset, predictions, path, args.iou_type)
        return instance_outcomes(matches[0.5], args.iou_type)
    raise InputError(f'config {args.config}: a model of projects/{project} has no calibration')


def write(args: argparse.Namespace, content: dict[str, Any], calibration: Any) -> None:
    """Write the checkpoint, or the folder of the published model, with its calibration."""
    from projects.common.weights.convert import write_checkpoint
    from projects.common.weights.published import CALIBRATION

    plain = calibration.to_dict()
    source = Path(args.checkpoint)
    if not source.is_dir():
        meta = {**(content.get('meta') or {}), 'calibration': plain}
        write_checkpoint(args.out, {**content, 'meta': meta})
        return
    args.out.mkdir(parents=True, exist_ok=True)
    if args.out.resolve() != source.resolve():
        for file in source.iterdir():
            if file.is_file():
                shutil.copy(file, args.out)
    write_atomically(args.out / CALIBRATION, json_bytes(plain, indent=2) + b'\n')


def show(report: dict[str, Any], threshold: float) -> None:
    """Print the errors before and after, those of a constant, and what the threshold gives."""
    print(
        f'{report["predictions"]:,} predictions of {report["images"]:,} images, '
        f'{100 * report["correct"] / report["predictions"]:.2f} % correct ({report["event"]})'
    )
    sides = ('before', 'after', 'constant')
    names = dict(
        ece=f'ECE, {report["bins"]} bins of equal width',
        ece_equal_mass=f'ECE, {report["bins"]} bins of equal mass',
    )
    print(f'{"":34}{"before":>10}{"after":>10}{"constant":>10}')
    for key, name in names.items():
        values = (100 * report[side][key] for side in sides)
        print(f'{name:34}' + ''.join(f'{value:8.2f} %' for value in values))
    for key, name in (('nll', 'negative log likelihood'), ('brier', 'Brier score')):
        print(f'{name:34}' + ''.join(f'{report[side][key]:10.4f}' for side in sides))
    found = {name: 100 * value for name, value in report['at_threshold'].items()}
    print(
        f'threshold {threshold:.3f}: precision {found["precision"]:.1f} %, recall '
        f'{found["recall"]:.1f} %, {found["accepted"]:.1f} % accepted'
    )


def main() -> None:
    args = parse_args()
    for path in (args.plot, args.report):
        if path:
            check_output_file(path)
    if args.out:
        check_writable(args.out.parent)
    cfg = load_config(args.config, args.cfg_options)
    if cfg.get(f'{args.split}_dataloader') is None:
        raise InputError(f"config {args.config}: no '{args.split}_dataloader'")
    content = read_checkpoint(args)

    from projects.common.calibration import (
        Calibration,
        calibrate,
        check,
        plot_reliability,
        raw_probabilities,
        reliability_bins,
    )

    if args.check:
        stored = (content.get('meta') or {}).get('calibration')
        if stored is None:
            raise InputError(f'{args.checkpoint}: not calibrated; --out calibrates it')
        calibration = Calibration.from_dict(stored, args.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        path = args.predictions or run_model(cfg, args, content, Path(folder))
        outcomes = read_outcomes(cfg, args, path)
    if args.check:
        report, probabilities = check(calibration, outcomes)
    else:
        calibration, probabilities = calibrate(outcomes, args.method, args.precision, args.seed)
        report = dict(calibration.report)
        write(args, content, calibration)
        print(f'{args.out}: {calibration.kind}, {report["method"]}: scale {calibration.scale:.4g}, '
              f'bias {calibration.bias:.4g}')  # fmt: skip
    show(report, calibration.threshold)
    if args.plot:
        sides = {'before': raw_probabilities(outcomes), 'after': probabilities}
        bins = {
            name: reliability_bins(values, outcomes.correct, outcomes.weights)
            for name, values in sides.items()
        }
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        plot_reliability(bins, outcomes.event).savefig(args.plot)
    if args.report:
        content = dict(threshold=calibration.threshold, **report)
        write_atomically(args.report, json_bytes(content, indent=2) + b'\n')


if __name__ == '__main__':
    with report_user_errors():
        main()
