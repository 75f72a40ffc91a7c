"""Locate objects without PDSL: the whole image, and the box of a class activation map.

    OWN_ROOT=work_dirs/real/raccoon python .dev/box_baselines.py \\
        configs/pdsl/pdsl_lite0_1xb4-200_raccoon.py

For configs of one class. Both take the score of a logistic regression on the mean features of the
config's backbone, with the stage before the classifier of ImageNet, trained on the same tags. The
map is the regression's weights times the features; the box surrounds the largest part above a
fraction of its maximum (Zhou et al., 2016: a fraction of 0.2).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS, init_default_scope
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.common.backbones.efficientnet_lite
import projects.pdsl.register  # noqa: F401
from projects.common.hooks.progress import track

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)
CHANNELS = 1280


def feature_maps(cfg: Config, dataset) -> list[np.ndarray]:
    """Compute the last feature map (C, h, w) of each image, without its padding."""
    backbone = MODELS.build(dict(cfg.model.backbone, out_indices=(6,))).eval()
    processor = MODELS.build(cfg.model.data_preprocessor)
    maps = []
    for i in track(range(len(dataset)), 'features', 'image'):
        sample = dataset[i]
        batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
        height, width = sample['inputs'].shape[-2:]
        with torch.no_grad():
            (found,) = backbone(processor(batch)['inputs'])
        maps.append(found[0, :, : -(-height // 16), : -(-width // 16)].numpy())
    return maps


def activated_box(heat: np.ndarray, fraction: float) -> np.ndarray:
    """Return the box (4,), XYXY, of the largest part of a map (H, W) above a share of its top."""
    binary = (heat > fraction * heat.max()).astype(np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(binary)
    x, y, width, height, _ = max(parts[1:], key=lambda part: part[4])
    return np.array([x, y, x + width, y + height])


def evaluate(cfg: Config, dataset, boxes: list[np.ndarray], scores: np.ndarray) -> dict:
    """Return the config's test metrics of one box (4,) of each image."""
    found = {}
    for metric in map(METRICS.build, cfg.test_evaluator):
        metric.dataset_meta = dataset.metainfo
        for i, (box, score) in enumerate(zip(boxes, scores)):
            sample = dataset[i]['data_samples']
            pred = dict(
                bboxes=torch.tensor(box[None], dtype=torch.float32),
                scores=torch.tensor([score], dtype=torch.float32),
                labels=torch.tensor([0]),
            )
            metric.process({}, [dict(sample.metainfo, pred_instances=pred)])
        found |= metric.evaluate(len(dataset))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    cfg = Config.fromfile(parser.parse_args().config)
    init_default_scope('mmdet')
    cfg.train_dataloader.dataset.pipeline = [
        each for each in cfg.train_dataloader.dataset.pipeline if each.type != 'mmdet.RandomFlip'
    ]
    train, test = (DATASETS.build(cfg[f'{name}_dataloader'].dataset) for name in ('train', 'test'))
    there = [len(train.get_data_info(i)['tags']) for i in range(len(train))]
    means = np.stack([each.mean(axis=(1, 2)) for each in feature_maps(cfg, train)])
    classifier = LogisticRegression(max_iter=1000).fit(means, there)
    maps = feature_maps(cfg, test)
    sizes = [test.get_data_info(i) for i in range(len(test))]
    scores = classifier.predict_proba(np.stack([m.mean(axis=(1, 2)) for m in maps]))[:, 1]
    heats = [
        cv2.resize(np.tensordot(classifier.coef_[0], m, 1), (size['width'], size['height']))
        for m, size in zip(maps, sizes)
    ]
    whole = [np.array([0, 0, size['width'], size['height']]) for size in sizes]
    rows = {'the whole image': whole}
    for fraction in FRACTIONS:
        rows[f'class activation map, {fraction}'] = [activated_box(h, fraction) for h in heats]
    for name, boxes in rows.items():
        found = evaluate(cfg, test, boxes, scores)
        print(f'| {name} | {100 * found["coco/bbox_mAP_50"]:.1f} | {found["weak/corloc"]:.1f} |')


if __name__ == '__main__':
    main()
