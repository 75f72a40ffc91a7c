"""Compute grid features once: the precomputed layout from images and an image backbone.

python tools/dataset_converters/itm_features.py CONFIG --out data/my_precomp [--checkpoint FILE]

The config's model has a backbone; its training, validation and test images become train_ims.npy,
dev_ims.npy and test_ims.npy with _caps.txt and _ids.txt. The regions are the cells of the
backbone's last feature map. Without a checkpoint, the backbone's weights are those of its
init_cfg, or random.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import nn
from torch.utils.data import DataLoader

from projects.common.cli.config import load_config
from projects.common.cli.options import (
    add_cfg_options,
    add_overwrite_option,
    refuse_existing,
)
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_writable
from projects.common.hooks.progress import progress_bar
from projects.common.weights.convert import check_weights, read_weights
from projects.rvse.datasets import precomputed_lines, write_precomputed

SPLITS = {'train': 'train', 'val': 'dev', 'test': 'test'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument('--checkpoint', help="weights; the backbone's are used")
    parser.add_argument('--splits', nargs='+', choices=SPLITS, default=list(SPLITS))
    parser.add_argument('--seed', type=int, default=0, help='of random weights')
    add_overwrite_option(parser)
    add_cfg_options(parser)
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    if cfg.model.get('backbone') is None:
        raise InputError(f'{args.config}: model.backbone: found none, expected one')
    outputs = [args.out / f'{SPLITS[split]}_ims.npy' for split in args.splits]
    refuse_existing(outputs, args.overwrite)
    check_writable(args.out)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    set_random_seed(args.seed)
    model = MODELS.build(cfg.model).eval()
    model.init_weights()
    if args.checkpoint:
        weights = read_weights(args.checkpoint)[0]
        weights = {k: v for k, v in weights.items() if k.startswith('backbone.')}
        state = {f'backbone.{k}': v.shape for k, v in model.backbone.state_dict().items()}
        check_weights(weights, state, args.checkpoint)
        model.load_state_dict(weights, strict=False)
    splits = {split: open_split(cfg, split) for split in args.splits}
    if torch.cuda.is_available():
        model.cuda()
    args.out.mkdir(parents=True, exist_ok=True)
    for split, (loader, images) in splits.items():
        write_split(model, SPLITS[split], loader, images, args.out)


def open_split(cfg, split: str) -> tuple[DataLoader, list[dict]]:
    """Return the data loader and the samples of one split of the config, which fit the layout."""
    loader = dict(cfg.val_dataloader)
    loader['dataset'] = dict(
        cfg[f'{split}_dataloader'].dataset,
        pipeline=cfg.val_dataloader.dataset.pipeline,  # without augmentation
        test_mode=True,
    )
    loader = Runner.build_dataloader(loader)
    dataset = loader.dataset
    images = [dataset.get_data_info(i) for i in range(len(dataset))]
    precomputed_lines(dataset.source, images)
    return loader, images


def write_split(
    model: nn.Module, name: str, loader: DataLoader, images: list[dict], out: Path
) -> None:
    """Write the features, captions and ids of one split."""
    with progress_bar(len(images), name, 'image') as bar:

        def features():
            for batch in loader:
                inputs = model.data_preprocessor(batch, False)['inputs']
                for regions in model.grid_features(inputs).cpu().numpy():
                    yield regions
                    bar.update()

        captions = write_precomputed(out, name, features(), images)
    print(f'wrote {out}/{name}_*: {len(images):,} images, {captions:,} captions')


if __name__ == '__main__':
    with report_user_errors():
        main()
