"""Training curves of matching losses: train small models with each, then plot as Figures 3, 5, 7.

python tools/analysis_tools/matching_curves.py train GRID_FOLDER --out work_dirs/curves/NAME
python tools/analysis_tools/matching_curves.py plot work_dirs/curves/NAME --out curves.png

`train` runs VSE (FC), VSE (MLP) and RVSE (MLP) with Triplet, HN and SelHN and some seeds on the
grid features of tools/dataset_converters/itm_features.py, which takes a minute each; runs that
are complete are left alone. `plot` reads the logs that they wrote and prints RSUM.

All losses are means over the anchors and both directions; Triplet's sum over the negatives is
divided by B as in Eq. 12, so that all three begin near the margin.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from mmengine.config import Config

from projects.common.cli import UserError, build_runner, prepare, report_user_errors

CONFIG = 'configs/rvse/vse-fc_tiny_1xb64-120i_grid.py'
MODELS = {
    'VSE (FC)': dict(type='RegionFC'),
    'VSE (MLP)': dict(type='RegionFCMLP'),
    'RVSE (MLP)': dict(type='RegionResidualMLP'),
}
LOSSES = {
    'Triplet': dict(type='ITMTripletLoss', reduction='mean'),
    'HN': dict(type='HardNegativeLoss', reduction='mean'),
    'SelHN': dict(type='SelHNLoss', reduction='mean'),
}
CURVES = {
    'loss': 'loss',
    'delta_s': 'Δs',
    'fc_grad_norm': 'gradient of the FC layer',
    'triplet_share': 'share of Triplet',
}
COLORS = {'Triplet': '#4878d0', 'HN': '#d65f5f', 'SelHN': '#2e8b57'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest='action', required=True)
    train = actions.add_parser('train', help='run the trainings')
    train.add_argument('features', type=Path, help='folder with train_ims.npy and the like')
    train.add_argument('--out', type=Path, required=True, help='folder of the runs')
    train.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    train.add_argument('--test-split', default='test', help='split of the final RSUM')
    plot = actions.add_parser('plot', help='draw the curves')
    plot.add_argument('runs', type=Path)
    plot.add_argument('--out', type=Path, required=True, help='picture to write')
    plot.add_argument('--title', default='', help='above the curves')
    return parser.parse_args()


def train(args: argparse.Namespace) -> None:
    if not (args.features / 'train_ims.npy').is_file():
        raise UserError(f'{args.features}: found no train_ims.npy')
    channels = np.load(args.features / 'train_ims.npy', mmap_mode='r').shape[-1]
    for seed in args.seeds:
        for model, encoder in MODELS.items():
            for loss, criterion in LOSSES.items():
                folder = args.out / f'{slug(model)}_{slug(loss)}_{seed}'
                if (folder / 'test.json').is_file():
                    continue
                cfg = Config.fromfile(CONFIG)
                cfg.model.image_encoder.update(encoder, in_channels=channels)
                cfg.model.loss = dict(criterion)
                if loss == 'Triplet':
                    cfg.model.loss['loss_weight'] = 1 / cfg.train_dataloader.batch_size
                cfg.randomness.seed = seed
                cfg.log_level = 'WARNING'
                cfg.test_dataloader.dataset.split = args.test_split
                for name in ('train', 'val', 'test'):
                    cfg[f'{name}_dataloader'].dataset.data_root = str(args.features)
                print(f'{model}, {loss}, seed {seed}', flush=True)
                prepare(cfg, CONFIG, launcher='none', work_dir=str(folder))
                runner = build_runner(cfg)
                runner.train()
                metrics = runner.test()
                (folder / 'test.json').write_text(json.dumps(metrics, indent=2) + '\n')


def slug(name: str) -> str:
    return name.lower().replace(' (', '-').replace(')', '')


def read_curve(folder: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Iterations and values of ``key`` in the log of a run."""
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    if not logs:
        raise UserError(f'{folder}: holds no log')
    # the training's log; the test wrote none of these
    records = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    points = {r['step']: r[key] for r in records if key in r}
    return np.array(list(points)), np.array(list(points.values()))


def plot(args: argparse.Namespace) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 9), layout='constrained', dpi=80)
    figure.suptitle(args.title)
    axes = figure.subplots(len(MODELS), len(CURVES), sharex=True)
    print('| model | loss | seeds | RSUM of each | mean |\n|---|---|---|---|---|')
    for row, model in zip(axes, MODELS):
        for loss, color in COLORS.items():
            folders = sorted(args.runs.glob(f'{slug(model)}_{slug(loss)}_*'))
            if not folders:
                raise UserError(f'{args.runs}: holds no run of {model} with {loss}')
            for panel, (key, label) in zip(row, CURVES.items()):
                curves = [read_curve(folder, key) for folder in folders]
                steps, values = curves[0][0], np.stack([values for _, values in curves])
                panel.plot(steps, values.mean(0), color=color, label=loss)
                panel.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2)
                panel.set_title(f'{model}: {label}', fontsize=10)
            rsums = [
                json.loads((folder / 'test.json').read_text())['matching/rsum']
                for folder in folders
            ]
            each = ', '.join(f'{rsum:.1f}' for rsum in rsums)
            print(f'| {model} | {loss} | {len(rsums)} | {each} | {np.mean(rsums):.1f} |')
        for panel in row[:3]:
            panel.set_ylim(bottom=0)
        row[3].set_ylim(-0.03, 1.03)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc='outside lower center', ncols=3)
    for panel in axes[-1]:
        panel.set_xlabel('iteration')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out)


def main() -> None:
    args = parse_args()
    {'train': train, 'plot': plot}[args.action](args)


if __name__ == '__main__':
    with report_user_errors():
        main()
