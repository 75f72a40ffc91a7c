"""Draw samples as the model sees them: augmented, with boxes, masks and sentence.

python tools/analysis_tools/browse_dataset.py configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py --num 8
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS, VISUALIZERS, DefaultScope

import projects.common.register  # noqa: F401
from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_writable
from projects.common.visualization import ArrayVisualizer


def draw(visualizer: ArrayVisualizer | None, item: dict, split: str) -> np.ndarray:
    """Draw one packed sample with the visualizer of its config, as an RGB image."""
    image, sample = item['inputs'], item.get('data_samples')
    if image.dim() != 3:
        raise InputError(f'samples of shape {tuple(image.shape)}: expected images (C, H, W)')
    pixels = image.permute(1, 2, 0).numpy()[..., ::-1]  # the pipelines load BGR
    if split != 'train' and sample is not None and 'ori_shape' in sample:
        # The ground truth of a test is in pixels of the original image.
        pixels = cv2.resize(pixels.copy(), sample.ori_shape[1::-1])
    return visualizer.draw(pixels, sample, draw_pred=False) if visualizer else pixels


def main() -> None:
    parser = argparse.ArgumentParser(description='Draw training samples after augmentation')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--split', choices=['train', 'val', 'test'], default='train', help='which data loader'
    )
    parser.add_argument('--num', type=int, default=12, help='samples, spread over the data set')
    parser.add_argument(
        '--repeat', type=int, default=1, help='draw each sample so often, augmented anew'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the augmentations')
    parser.add_argument('--out-dir', default='work_dirs/browse', help='folder of the images')
    add_cfg_options(parser)
    args = parser.parse_args()
    for option, value in (('--num', args.num), ('--repeat', args.repeat)):
        if value < 1:
            raise InputError(f'{option}: found {value}, expected at least 1')
    check_writable(args.out_dir)
    cfg = load_config(args.config, args.cfg_options)
    loader = cfg.get(f'{args.split}_dataloader')
    if loader is None:
        raise InputError(f"config {args.config}: no '{args.split}_dataloader'")
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        dataset = DATASETS.build(loader.dataset)
        wanted = dict(cfg.get('visualizer') or dict(type='Visualizer'))
        visualizer = VISUALIZERS.build({**wanted, 'name': 'browse', 'vis_backends': None})
    if not isinstance(visualizer, ArrayVisualizer):
        print(f'{type(visualizer).__name__}, the visualizer of the config, draws no annotations')
        visualizer = None
    else:
        visualizer.dataset_meta = dataset.metainfo
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    for index in np.unique(
        np.linspace(0, len(dataset) - 1, min(args.num, len(dataset))).astype(int)
    ):
        for turn in range(args.repeat):
            picture = draw(visualizer, dataset[int(index)], args.split)
            path = out_dir / f'{args.split}_{index:06d}{f"_{turn}" if args.repeat > 1 else ""}.jpg'
            cv2.imwrite(str(path), picture[..., ::-1])
    print(
        f'{len(list(out_dir.glob(f"{args.split}_*.jpg")))} images of {len(dataset)} samples in '
        f'{out_dir}'
    )


if __name__ == '__main__':
    with report_user_errors():
        main()
