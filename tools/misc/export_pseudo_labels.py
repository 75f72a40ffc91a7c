"""Writes what a model that learnt from tags finds on its training pictures as COCO json.

python tools/misc/export_pseudo_labels.py CONFIG CHECKPOINT data/voc_pseudo.json --score-thr 0.3

Any mmdet detector or instance segmenter trains on it as if it were fully supervised: the usual
second stage of weak supervision. Instances of classes that a picture's tags do not name are left
out. Pictures are read from --image-root, which is the data_prefix of the second stage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from projects.common.build import build_quietly
from projects.common.cli import (
    OverrideAction,
    UserError,
    add_trust_option,
    load_config,
    report_user_errors,
)
from projects.common.convert import check_weights, read_weights
from projects.common.files import write_atomically
from projects.common.progress import progress_bar
from projects.pdsl.models import use_no_cue
from projects.pdsl.pseudo_label_export import coco_json, select_pseudo_labels, tagged_pictures


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the trained model')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('out', type=Path, help='the json file')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score (default: %(default)s)'
    )
    parser.add_argument(
        '--strict',
        action='store_true',
        help='without it the best instance of every tag is a label whatever its score',
    )
    parser.add_argument(
        '--image-root', help="folder that file names are relative to; default: the pictures' own"
    )
    parser.add_argument('--workers', type=int, default=0, help='processes that load pictures')
    parser.add_argument('--device', help='such as cpu or cuda:0; default: the fastest there is')
    add_trust_option(parser)
    parser.add_argument(
        '--cfg-options', nargs='+', action=OverrideAction, metavar='KEY=VALUE', help='overrides'
    )
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    weights, _ = read_weights(args.checkpoint, args.trust_checkpoint)
    if not cfg.model.get('roi_head', {}).get('type', '').endswith('PDSLRoIHead'):
        raise UserError(f'config {args.config}: its model is no PDSL')
    use_no_cue(cfg.model)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = build_quietly(cfg.model, cfg.get('default_scope', 'mmdet'))
    expected = {key: value.shape for key, value in model.state_dict().items()}
    check_weights(weights, expected, f'checkpoint {args.checkpoint}')
    model.load_state_dict(weights)
    model.to(args.device or ('cuda' if torch.cuda.is_available() else 'cpu')).eval()

    dataset = tagged_pictures(cfg)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    root = args.image_root or os.path.commonpath(
        [os.path.dirname(os.path.abspath(info['img_path'])) for info in infos]
    )
    labels, found, missing = [], Counter(), 0
    loader = DataLoader(dataset, num_workers=args.workers, collate_fn=pseudo_collate)
    with progress_bar(len(dataset), 'pseudo labels', 'picture') as bar:
        for info, data in zip(infos, loader, strict=True):
            (sample,) = model.test_step(data)
            instances = sample.pred_instances
            rows = select_pseudo_labels(instances, info['tags'], args.score_thr, not args.strict)
            instances = instances[rows].cpu()
            labels.append((dict(info, ori_shape=sample.ori_shape), instances))
            found.update(instances.labels.tolist())
            missing += len(set(info['tags']) - set(instances.labels.tolist()))
            bar.update()
    classes = dataset.metainfo['classes']
    content = coco_json(labels, classes, root)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out, json.dumps(content).encode())
    width = max(map(len, classes))
    for index, name in enumerate(classes):
        print(f'{name:{width}}  {found[index]}')
    print(
        f'{args.out}: {found.total()} instances on {len(dataset)} pictures, relative to {root}; '
        f'{missing} tags without one'
    )


if __name__ == '__main__':
    with report_user_errors():
        main()
