"""Training curves of matching losses: train small models with each, then plot as Figures 3, 5, 7.

python tools/analysis_tools/matching_curves.py train FEATURES --out work_dirs/curves/NAME
python tools/analysis_tools/matching_curves.py plot work_dirs/curves/NAME --out curves.png

FEATURES holds {train,test}_ims.npy and _caps.txt, as tools/dataset_converters/itm_features.py makes
them of images and itm_caption_sets.py of captions alone. `train` runs every model with every loss
and seed; runs that are complete are left alone and one that was stopped begins anew, so the same
command finishes what was interrupted. `plot` reads what they wrote, draws the mean and the range of
the seeds and prints the RSUM of each run.

Losses are means over the anchors and both directions; Triplet's sum over the negatives is divided
by B as in Eq. 12, so that all three begin near the margin.
"""

import argparse
import itertools
import json
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from mmengine.config import Config

from projects.common.cli.config import load_config
from projects.common.cli.overrides import OverrideAction
from projects.common.cli.report import report_user_errors
from projects.common.cli.run import build_runner, prepare
from projects.common.errors import InputError
from projects.common.files.annotation_files import read_lines
from projects.rvse.datasets.regions import RegionStore

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'rvse'
VSE = 'vse-fc_tiny_1xb64-600i_grid.py'
# name: config and what its image encoder is changed to
MODELS: dict[str, tuple[str, dict]] = {
    'VSE (FC)': (VSE, {}),
    'VSE (MLP)': (VSE, dict(type='RegionFCMLP')),
    'RVSE (MLP)': (VSE, dict(type='RegionResidualMLP')),
    'SCAN t2i AVG': ('scan-t2i-avg_tiny_1xb64-600i_grid.py', {}),
    'SGR': ('sgr_tiny_1xb64-600i_grid.py', {}),
}
LOSSES = {
    'Triplet': dict(type='ITMTripletLoss', reduction='mean'),
    'HN': dict(type='HardNegativeLoss', reduction='mean'),
    'SelHN': dict(type='SelHNLoss', reduction='mean'),
}
WINDOW = 5  # iterations whose mean is a point of the curves
CURVES = {
    'loss': 'loss',
    'delta_s': 'Δs',
    'fc_grad_norm': 'gradient of the FC layer',
    'triplet_share': 'share of Triplet',
    'matching/rsum': 'RSUM',
}
COLORS = {'triplet': '#4878d0', 'hn': '#d65f5f', 'selhn': '#2e8b57', 'own': '#7f6aa8'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest='action', required=True)
    train = actions.add_parser('train', help='run the trainings')
    train.add_argument('features', type=Path, help='folder with train_ims.npy and the like')
    train.add_argument('--out', type=Path, required=True, help='folder of the runs')
    train.add_argument(
        '--models',
        nargs='+',
        default=['vse-fc', 'vse-mlp', 'rvse-mlp'],
        metavar='MODEL',
        help=f'{", ".join(map(slug, MODELS))}, or configs (default: the first three)',
    )
    train.add_argument(
        '--losses',
        nargs='+',
        choices=[*map(slug, LOSSES), 'own'],
        default=[slug(loss) for loss in LOSSES],
        help="default: triplet hn selhn; own is the config's, as it stands there",
    )
    train.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    train.add_argument(
        '--iters',
        type=int,
        default=600,
        help='of a training; the learning rate falls to a tenth after three quarters of them',
    )
    train.add_argument(
        '--val-interval', type=int, default=0, help='iterations; 0 (default): an eighth of --iters'
    )
    train.add_argument(
        '--mask-repeats',
        action='store_true',
        help='captions of one image in a batch are no negatives of it (model.mask_repeats)',
    )
    train.add_argument('--test-split', default='test', help='split of all RSUM')
    train.add_argument('--cfg-options', nargs='+', action=OverrideAction, metavar='KEY=VALUE')
    plot = actions.add_parser('plot', help='draw the curves')
    plot.add_argument('runs', type=Path)
    plot.add_argument('--out', type=Path, required=True, help='picture to write')
    plot.add_argument('--title', default='', help='above the curves')
    plot.add_argument(
        '--models', nargs='+', metavar='MODEL', help='rows, in order (default: all there are)'
    )
    return parser.parse_args()


def find_config(model: str) -> tuple[str, Path, dict]:
    """Return the name, the config and the change of the image encoder of a model or config."""
    for name, (config, encoder) in MODELS.items():
        if model in (name, slug(name)):
            return slug(name), CONFIGS / config, encoder
    if not model.endswith('.py'):
        known = ', '.join(map(slug, MODELS))
        raise InputError(f'--models: {model!r}, expected one of {known}, or a config')
    return Path(model).stem, Path(model), {}


def captions_per_image(folder: Path, split: str) -> int:
    """Return how many captions each image of a split has."""
    images = len(RegionStore(str(folder / f'{split}_ims.npy')))
    return len(read_lines(folder / f'{split}_caps.txt')) // images


def make_config(args: argparse.Namespace, model: str, loss: str, seed: int) -> Config:
    """Return the config of a run."""
    _, path, encoder = find_config(model)
    cfg = load_config(path, args.cfg_options)
    cfg.model.image_encoder.update(
        encoder, in_channels=RegionStore(str(args.features / 'train_ims.npy'))[0].shape[-1]
    )
    for name, criterion in LOSSES.items():
        if loss == slug(name):
            cfg.model.loss = dict(criterion)
            if name == 'Triplet':
                cfg.model.loss['loss_weight'] = 1 / cfg.train_dataloader.batch_size
    cfg.model.mask_repeats = args.mask_repeats or cfg.model.get('mask_repeats', False)
    cfg.randomness.seed = seed
    cfg.log_level = 'WARNING'
    for name in ('train', 'val', 'test'):
        split = 'train' if name == 'train' else args.test_split
        cfg[f'{name}_dataloader'].dataset.update(
            data_root=str(args.features),
            split=split,
            captions_per_image=captions_per_image(args.features, split),
        )
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop',
        max_iters=args.iters,
        val_interval=args.val_interval or max(1, args.iters // 8),
    )
    cfg.param_scheduler = [
        dict(type='MultiStepLR', milestones=[args.iters * 3 // 4], gamma=0.1, by_epoch=False)
    ]
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=args.iters, max_keep_ckpts=1)
    cfg.default_hooks.checkpoint.pop('save_best', None)
    cfg.default_hooks.logger.update(interval=WINDOW, log_metric_by_epoch=False)
    cfg.log_processor = dict(type='LogProcessor', by_epoch=False, window_size=WINDOW)
    return cfg


def check_same_run(folder: Path, cfg: Config) -> None:
    """Raise InputError where a complete run was trained with another config than ``cfg``."""
    done = Config.fromfile(next(folder.glob('*.py')))
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        if done[key] != cfg[key]:
            raise InputError(
                f'{folder}: {key} of the run that is there: {done[key]}, expected {cfg[key]}; '
                'choose another --out'
            )


def train(args: argparse.Namespace) -> None:
    if not (args.features / 'train_ims.npy').is_file():
        raise InputError(f'{args.features}: found no train_ims.npy')
    models = {find_config(model)[0]: model for model in args.models}
    for seed, (name, model), loss in itertools.product(args.seeds, models.items(), args.losses):
        folder = args.out / f'{name}_{loss}_{seed}'
        cfg = make_config(args, model, loss, seed)
        if (folder / 'test.json').is_file():
            check_same_run(folder, cfg)
            continue
        if folder.is_dir():
            shutil.rmtree(folder)  # a run that was stopped
        print(f'{name}, {loss}, seed {seed}', flush=True)
        prepare(cfg, str(find_config(model)[1]), launcher='none', work_dir=str(folder))
        runner = build_runner(cfg)
        start = time.process_time()
        runner.train()
        metrics = dict(runner.test(), cpu_seconds=round(time.process_time() - start, 1))
        (folder / 'test.json').write_text(json.dumps(metrics, indent=2) + '\n')


def slug(name: str) -> str:
    """Return a name as it stands in folders and on the command line."""
    return name.lower().replace('(', '').replace(')', '').replace(' ', '-')


# names in tables by their slugs
NAMES = {slug(name): name for name in (*MODELS, *LOSSES)}


def complete_runs(folder: Path) -> dict[str, dict[str, dict[int, Path]]]:
    """Return the folder of every complete run by model, loss and seed, in the order of the tables.

    Raises:
        InputError: There is none.
    """
    runs: dict[str, dict[str, dict[int, Path]]] = {}
    for path in folder.glob('*_*_*/test.json'):
        model, loss, seed = path.parent.name.rsplit('_', 2)
        runs.setdefault(model, {}).setdefault(loss, {})[int(seed)] = path.parent
    if not runs:
        raise InputError(f'{folder}: found no complete run')
    order = [*map(slug, MODELS), *sorted(runs)]
    return {
        model: {loss: dict(sorted(runs[model][loss].items())) for loss in COLORS if loss in losses}
        for model, losses in sorted(runs.items(), key=lambda item: order.index(item[0]))
    }


def read_curve(folder: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return iterations and values of ``key`` in the log of a run."""
    log = next(iter(sorted(folder.glob('*/vis_data/scalars.json'))), None)
    if log is None:
        raise InputError(f'{folder}: holds no log')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    # the test after the training writes no step of its own
    points = {r['step']: r[key] for r in records if key in r and r.get('step')}
    return np.array(list(points)), np.array(list(points.values()))


def final_rsum(folder: Path) -> float:
    """Return the RSUM of a complete run."""
    return json.loads((folder / 'test.json').read_text())['matching/rsum']


def print_table(runs: dict[str, dict[str, dict[int, Path]]]) -> None:
    """Print the RSUM of every run, with mean and sample standard deviation over the seeds."""
    print('| model | loss | seeds | RSUM of each | mean | std |\n|---|---|---|---|---|---|')
    for model, losses in runs.items():
        for loss, folders in losses.items():
            rsums = [final_rsum(folder) for folder in folders.values()]
            seeds = ', '.join(map(str, folders))
            each = ', '.join(f'{rsum:.1f}' for rsum in rsums)
            spread = f'{np.std(rsums, ddof=1):.1f}' if len(rsums) > 1 else '-'
            row = (NAMES.get(model, model), NAMES.get(loss, loss), seeds, each)
            print(f'| {" | ".join(row)} | {np.mean(rsums):.1f} | {spread} |')


def plot(args: argparse.Namespace) -> None:
    from matplotlib.figure import Figure

    runs = complete_runs(args.runs)
    if args.models:
        absent = [model for model in map(slug, args.models) if model not in runs]
        if absent:
            raise InputError(f'{args.runs}: found no complete run of {absent[0]}')
        runs = {model: runs[model] for model in map(slug, args.models)}
    print_table(runs)
    figure = Figure(figsize=(3.1 * len(CURVES), 2.4 * len(runs) + 0.6), layout='constrained')
    figure.suptitle(args.title)
    axes = figure.subplots(len(runs), len(CURVES), sharex=True, squeeze=False)
    for row, (model, losses) in zip(axes, runs.items()):
        for panel, (key, label) in zip(row, CURVES.items()):
            for loss, folders in losses.items():
                curves = [read_curve(folder, key) for folder in folders.values()]
                steps, values = curves[0][0], np.stack([values for _, values in curves])
                name = NAMES.get(loss, loss)
                panel.plot(steps, values.mean(0), color=COLORS[loss], label=name)
                panel.fill_between(
                    steps, values.min(0), values.max(0), color=COLORS[loss], alpha=0.2, lw=0
                )
            panel.set_title(f'{NAMES.get(model, model)}: {label}', fontsize=9)
            panel.tick_params(labelsize=7)
            panel.set_ylim(bottom=0)
        row[list(CURVES).index('triplet_share')].set_ylim(-0.03, 1.03)
    handles = {
        label: handle for row in axes for handle, label in zip(*row[0].get_legend_handles_labels())
    }
    figure.legend(handles.values(), handles, loc='outside lower center', ncols=4)
    for panel in axes[-1]:
        panel.set_xlabel('iteration', fontsize=8)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=60)


def main() -> None:
    args = parse_args()
    {'train': train, 'plot': plot}[args.action](args)


if __name__ == '__main__':
    with report_user_errors():
        main()
