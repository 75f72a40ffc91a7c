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
from mmengine.registry import DATASETS, DefaultScope

import projects.common.register  # noqa: F401
from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError

COLOURS = np.array(
    [[66, 133, 244], [219, 68, 55], [15, 157, 88], [244, 180, 0], [171, 71, 188]]
)  # RGB


def to_numpy(value) -> np.ndarray:
    value = getattr(value, 'tensor', value)  # mmdet's box structures
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def draw_instances(image: np.ndarray, sample) -> np.ndarray:
    """Draw the boxes and masks of `sample.gt_instances` on `image` (RGB uint8, H x W x 3)."""
    picture = image.copy()
    instances = sample.get('gt_instances') if sample is not None else None
    if instances is None:
        return picture
    masks = instances.get('masks')
    if masks is not None:
        for mask, colour in zip(
            masks.to_ndarray().astype(bool), np.resize(COLOURS, (len(masks), 3))
        ):
            picture[mask] = (0.5 * picture[mask] + 0.5 * colour).astype(np.uint8)
    boxes = instances.get('bboxes')
    if boxes is not None and len(boxes):
        for box, colour in zip(
            to_numpy(boxes).round().astype(int), np.resize(COLOURS, (len(boxes), 3))
        ):
            cv2.rectangle(picture, box[:2].tolist(), box[2:].tolist(), colour.tolist(), 2)
    return picture


def draw(item: dict) -> np.ndarray:
    """Draw one packed sample as an RGB image."""
    image = item['inputs']
    sample = item.get('data_samples')
    picture = image.permute(1, 2, 0).numpy()[..., ::-1]  # the pipelines load BGR
    text = sample.get('text') if sample is not None else None
    if text and 'gt_instances' in sample:
        from projects.plvl.visualization import draw_grounding

        instances = sample.gt_instances
        return draw_grounding(
            np.ascontiguousarray(picture),
            str(text),
            gt_box=to_numpy(instances.bboxes)[0] if 'bboxes' in instances else None,
            gt_mask=instances.masks.to_ndarray()[0].astype(bool) if 'masks' in instances else None,
        )
    return draw_instances(np.ascontiguousarray(picture), sample)


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
    parser.add_argument('--out-dir', default='work_dirs/browse', help='folder of the pictures')
    add_cfg_options(parser)
    args = parser.parse_args()
    cfg = load_config(args.config, args.cfg_options)
    loader = cfg.get(f'{args.split}_dataloader')
    if loader is None:
        raise InputError(f"config {args.config}: no '{args.split}_dataloader'")
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        dataset = DATASETS.build(loader.dataset)
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    for index in np.unique(
        np.linspace(0, len(dataset) - 1, min(args.num, len(dataset))).astype(int)
    ):
        for turn in range(args.repeat):
            picture = draw(dataset[int(index)])
            path = out_dir / f'{args.split}_{index:06d}{f"_{turn}" if args.repeat > 1 else ""}.jpg'
            cv2.imwrite(str(path), picture[..., ::-1])
    print(
        f'{len(list(out_dir.glob(f"{args.split}_*.jpg")))} pictures of {len(dataset)} samples in '
        f'{out_dir}'
    )


if __name__ == '__main__':
    with report_user_errors():
        main()
