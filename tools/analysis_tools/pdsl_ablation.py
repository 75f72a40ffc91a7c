"""Reproduce Table 1 and Figure 3 of PDSL on synthetic scenes with several seeds per variant.

python tools/analysis_tools/pdsl_ablation.py train work_dirs/quickstart/pdsl_scenes
python tools/analysis_tools/pdsl_ablation.py show --plot cascade.png

`train` needs scenes with proposals, which `make quickstart PROJECT=pdsl` generates. It trains the
quick start's model for part of its schedule. Runs started by other processes are skipped, so
several processes can share the work; delete the folder of an interrupted run. `show` prints mean
and spread of each variant on the test scenes and plots accuracy against iterations for parallel and
cascade learning.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from mmengine.config import Config

from projects.common.cli.report import report_user_errors
from projects.common.cli.run import build_runner, prepare
from projects.common.errors import InputError
from projects.common.files.atomic import check_writable, write_atomically

CONFIG = str(Path(__file__).resolve().parents[2] / 'configs/pdsl/pdsl_tiny_1xb4-600_scenes.py')
VALIDATIONS = 6  # of a run: Figure 3 shows accuracy against iterations
REFINEMENTS = 'model.roi_head.bbox_head.num_refinements'
SPECIFIC = 'model.roi_head.mask_head.num_specific'
SEEDS = 'model.roi_head.num_seeds'
# n_r = 3, n_m = 2, n_seed = 3 with L_ACL is the quick start's model
VARIANTS = {
    'default': {},
    'cascade': {'model.learning': 'cascade', 'model.cue': None},
    'n_r = 0': {REFINEMENTS: 0},
    'n_r = 1': {REFINEMENTS: 1},
    'n_r = 2': {REFINEMENTS: 2},
    'n_m = 0': {SPECIFIC: 0},
    'n_m = 1': {SPECIFIC: 1},
    'n_m = 4': {SPECIFIC: 4},
    'n_seed = 1': {SEEDS: 1},
    'n_seed = 10': {SEEDS: 10},
    'without L_ACL': {'model.roi_head.loss_correlation': None},
}
METRICS = {
    'box AP50': 'coco/bbox_mAP_50',
    'mask AP50': 'coco/segm_mAP_50',
    'mask AP75': 'coco/segm_mAP_75',
    'mask AP': 'coco/segm_mAP',
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest='action', required=True)
    train = actions.add_parser('train', help='run the trainings')
    train.add_argument('scenes', help='folder of scenes with proposals')
    train.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    train.add_argument('--iterations', type=int, default=300, help='default: %(default)s')
    train.add_argument('--variants', nargs='+', choices=VARIANTS, default=list(VARIANTS))
    show = actions.add_parser('show', help='print the table, draw the curves')
    show.add_argument('--plot', type=Path, metavar='PNG', help='image of parallel and cascade')
    for action in (train, show):
        action.add_argument(
            '--out', type=Path, default='work_dirs/pdsl_ablation', help='default: %(default)s'
        )
    return parser.parse_args()


def slug(variant: str) -> str:
    return variant.lower().replace(' = ', '').replace(' ', '-')


def train(args: argparse.Namespace) -> None:
    if not Path(args.scenes, 'proposals').is_dir():
        raise InputError(f'{args.scenes}: has no proposals; tools/misc/generate_proposals.py')
    if args.iterations < VALIDATIONS:
        raise InputError(f'--iterations: found {args.iterations}, expected at least {VALIDATIONS}')
    check_writable(args.out)
    os.environ['SCENES_ROOT'] = args.scenes
    for seed in args.seeds:
        for variant in args.variants:
            folder = args.out / f'{slug(variant)}_{seed}'
            folder.mkdir(parents=True, exist_ok=True)
            try:  # the process that creates the file owns the run
                (folder / 'taken').touch(exist_ok=False)
            except FileExistsError:
                if not (folder / 'test.json').is_file():
                    print(f'{folder}: skipped, as another process runs it or was interrupted')
                continue
            print(f'{variant}, seed {seed}', flush=True)
            cfg = Config.fromfile(CONFIG)
            cfg.merge_from_dict(VARIANTS[variant])
            cfg.merge_from_dict(
                {
                    'train_cfg.max_iters': args.iterations,
                    'train_cfg.val_interval': args.iterations // VALIDATIONS,
                    'default_hooks.checkpoint': dict(interval=-1, save_last=False, save_best=None),
                    'randomness.seed': seed,
                    'log_level': 'WARNING',
                }
            )
            cfg.param_scheduler[1].update(T_max=args.iterations, end=args.iterations)
            prepare(cfg, CONFIG, launcher='none', work_dir=str(folder))
            runner = build_runner(cfg)
            runner.train()
            metrics = {key: float(value) for key, value in runner.test().items()}
            write_atomically(folder / 'test.json', json.dumps(metrics, indent=2).encode())


def results(out: Path, variant: str) -> list[Path]:
    """Return the folders of a variant's complete runs."""
    return sorted(path.parent for path in out.glob(f'{slug(variant)}_*/test.json'))


def show(args: argparse.Namespace) -> None:
    if not any(results(args.out, variant) for variant in VARIANTS):
        raise InputError(f'{args.out}: holds no complete run')
    print('| variant | seeds | ' + ' | '.join(METRICS) + ' |\n|---|---|' + '---|' * len(METRICS))
    for variant in VARIANTS:
        tests = [json.loads((f / 'test.json').read_text()) for f in results(args.out, variant)]
        if not tests:
            continue
        cells = []
        for key in METRICS.values():
            values = 100 * np.array([test[key] for test in tests])
            spread = f' ± {values.std(ddof=1):.1f}' if len(values) > 1 else ''
            cells.append(f'{values.mean():.1f}{spread}')
        print(f'| {variant} | {len(tests)} | ' + ' | '.join(cells) + ' |')
    if args.plot:
        plot(args.out, args.plot)


def plot(out: Path, path: Path) -> None:
    """Plot validation accuracy against iterations, with mean and range over the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout='constrained', dpi=100)
    for panel, (label, key) in zip(figure.subplots(1, 2), list(METRICS.items())[:2]):
        for variant, name in (('default', 'parallel'), ('cascade', 'cascade')):
            curves = []
            for folder in results(out, variant):
                (log,) = folder.glob('*/vis_data/scalars.json')
                points, step = {}, 0
                for record in map(json.loads, log.read_text().splitlines()):
                    if 'loss' in record:
                        step = record['step']
                    elif key in record:
                        points[step] = 100 * record[key]
                curves.append(points)
            steps = sorted(set.intersection(*map(set, curves)))
            values = np.array([[points[step] for step in steps] for points in curves])
            panel.plot(steps, values.mean(0), marker='o', label=name)
            panel.fill_between(steps, values.min(0), values.max(0), alpha=0.2)
        panel.set(title=f'{label} of validation scenes', xlabel='iteration', ylim=(0, 100))
        panel.grid(alpha=0.3)
        panel.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    args = parse_args()
    {'train': train, 'show': show}[args.action](args)


if __name__ == '__main__':
    with report_user_errors():
        main()
