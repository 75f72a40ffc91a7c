"""Test a checkpoint: compute metrics and, on request, save predictions and drawings.

python tools/test.py CONFIG CHECKPOINT --out predictions.json --show-dir images

CHECKPOINT is 'none' for models that their config gives weights, such as zero-shot grounders.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # for `projects`, from any working directory

from projects.common.cli.arguments import accepted_arguments
from projects.common.cli.config import load_config
from projects.common.cli.options import add_run_options
from projects.common.cli.report import report_user_errors
from projects.common.cli.run import prepare, run
from projects.common.errors import InputError
from projects.common.files.atomic import check_output_file, check_writable

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', help="checkpoint file; 'none': the weights that the config names"
    )
    parser.add_argument(
        '--work-dir', help='folder for logs; default: work_dirs/<name of the config>'
    )
    parser.add_argument(
        '--out', metavar='FILE', help='write all predictions to FILE (.json or .pkl)'
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='draw the predictions of all samples into DIR'
    )
    parser.add_argument(
        '--tta', action='store_true', help="test-time augmentation: the config's tta_pipeline"
    )
    add_run_options(parser, 'test_evaluator.protocol=released')
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def draw_into(cfg: Config, folder: str) -> None:
    """Set the output folder of the config's visualization hook, ours or mmdet's."""
    hooks = [*cfg.get('default_hooks', {}).values(), *(cfg.get('custom_hooks') or [])]
    drawing = [
        hook
        for hook in hooks
        if hook and 'type' in hook and 'test_out_dir' in accepted_arguments(cfg, hook.type)
    ]
    if not drawing:
        raise InputError(
            '--show-dir: the config has no visualization hook, expected '
            "default_hooks.visualization=dict(type='PredictionVisualizationHook')"
        )
    for hook in drawing:
        hook.test_out_dir = str(Path(folder).resolve())
        if 'draw' in accepted_arguments(cfg, hook.type):
            hook.draw = True


def use_tta(cfg: Config) -> None:
    """Wrap the config's model in its test-time augmentation."""
    for section in ('tta_model', 'tta_pipeline'):
        if cfg.get(section) is None:
            raise InputError(f"--tta: the config has no '{section}'")
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def check_own_weights(cfg: Config) -> None:
    """Raise ``InputError`` if the model of a config has no weights without a checkpoint."""
    from mmengine.registry import MODELS, DefaultScope

    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        kind = MODELS.get(cfg.model.type)
    if not getattr(kind, 'has_own_weights', False):
        raise InputError(
            f"checkpoint 'none': the config gives {cfg.model.type} no weights; expected a file"
        )


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    prepare(cfg, args.config, args.launcher, args.work_dir, args.trust_checkpoint)
    for section in ('test_cfg', 'test_dataloader', 'test_evaluator'):
        if cfg.get(section) is None:
            raise InputError(f"config {args.config}: no '{section}': nothing to test")
    if args.tta:
        use_tta(cfg)
    cfg.load_from = None if args.checkpoint == 'none' else args.checkpoint
    cfg.resume = False
    if args.show_dir:
        check_writable(args.show_dir)
        draw_into(cfg, args.show_dir)
    if args.out:
        if Path(args.out).suffix not in ('.json', '.pkl'):
            raise InputError(f"--out {args.out}: the file's name must end in .json or .pkl")
        check_output_file(args.out)
        evaluators = (
            cfg.test_evaluator
            if isinstance(cfg.test_evaluator, (list, tuple))
            else [cfg.test_evaluator]
        )
        cfg.test_evaluator = [*evaluators, dict(type='PredictionDump', out_file=args.out)]
    if args.checkpoint == 'none':
        check_own_weights(cfg)
    elif not os.path.isfile(os.path.expanduser(args.checkpoint)) and '://' not in args.checkpoint:
        raise InputError(f'checkpoint {args.checkpoint}: no such file')
    run(cfg, 'test')


if __name__ == '__main__':
    with report_user_errors():
        main()
