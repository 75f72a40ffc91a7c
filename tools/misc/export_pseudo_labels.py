"""Export the instances that a tag-trained model finds on its training images as COCO json.

python tools/misc/export_pseudo_labels.py CONFIG CHECKPOINT data/voc_pseudo.json --score-thr 0.3
torchrun --nproc_per_node 8 tools/misc/export_pseudo_labels.py CONFIG CHECKPOINT out.json --tta

Any mmdet detector or instance segmenter can train on the file as if it were fully supervised, the
usual second stage of weak supervision. An image's tags are applied first: instances of other
classes do not compete with any, and the best instance of each tag is always kept. File names are
relative to --image-root, which is the data_prefix of the second stage; links keep their names.

Arguments, names and proposals are checked first. Labels are saved in OUT.parts as they are
computed, and images that cannot be read do not stop the others. The same command resumes after an
interruption; processes share the images, and the last one to finish writes OUT.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader, Dataset

from projects.common.build import build_quietly
from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options, add_trust_option
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_writable
from projects.common.files.images import image_problem
from projects.common.hooks.class_check_hook import class_problems, heads_of
from projects.common.hooks.progress import progress_bar
from projects.common.weights.convert import check_weights, read_weights
from projects.pdsl.cues.store import file_digest
from projects.pdsl.models import use_no_cue
from projects.pdsl.pseudo_label_export import (
    LabelParts,
    check_proposals,
    common_folder,
    image_names,
    image_record,
    select_pseudo_labels,
    tagged_images,
)


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
        '--image-root', help="folder that file names are relative to; default: the images' own"
    )
    parser.add_argument(
        '--tta', action='store_true', help="average over the views of the config's tta_pipeline"
    )
    parser.add_argument(
        '--part-size',
        type=int,
        default=32,
        help='images that are kept together, the most that an interruption loses (default: '
        '%(default)s)',
    )
    parser.add_argument(
        '--skip-damaged', action='store_true', help='leave out images that cannot be read'
    )
    parser.add_argument('--workers', type=int, default=0, help='processes that load images')
    parser.add_argument('--device', help='such as cpu or cuda:0; default: the fastest there is')
    add_trust_option(parser)
    add_cfg_options(parser)
    return parser.parse_args()


def default_device() -> str:
    """Return this process's GPU under torchrun, the first GPU otherwise, or the CPU."""
    if not torch.cuda.is_available():
        return 'cpu'
    return f'cuda:{int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()}'


class ReadableImages(Dataset):
    """Return samples, or for an image that cannot be read, the reason.

    Args:
        dataset: The data set of the samples.
        indices: Those to return.
    """

    def __init__(self, dataset, indices: list[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict | str:
        index = self.indices[index]
        try:
            return self.dataset[index]
        except Exception:
            path = self.dataset.get_data_info(index)['img_path']
            reason = image_problem(path)
            if reason is None:
                raise
            return f'{path}: {reason}'


def check_arguments(args: argparse.Namespace) -> None:
    """Check what can be checked before the model is built, and that OUT can be written."""
    if args.out.exists():
        raise InputError(f'{args.out}: exists already')
    if args.workers < 0:
        raise InputError(f'--workers: found {args.workers}, expected at least 0')
    check_writable(args.out.parent)


@torch.no_grad()
def main() -> None:
    args = parse_args()
    check_arguments(args)
    cfg = load_config(args.config, args.cfg_options)
    weights, _ = read_weights(args.checkpoint, args.trust_checkpoint)
    if not cfg.model.get('roi_head', {}).get('type', '').endswith('PDSLRoIHead'):
        raise InputError(f'config {args.config}: its model is no PDSL')
    use_no_cue(cfg.model)
    cfg.model.test_cfg.rcnn.tags_only = True
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = build_quietly(cfg.model, cfg.get('default_scope', 'mmdet'))
    expected = {key: value.shape for key, value in model.state_dict().items()}
    check_weights(weights, expected, f'checkpoint {args.checkpoint}')
    model.load_state_dict(weights)
    if args.tta:
        model = build_quietly(dict(cfg.tta_model, module=model), cfg.get('default_scope', 'mmdet'))
    model.to(args.device or default_device()).eval()

    dataset = tagged_images(cfg, args.tta, keep_missing=args.skip_damaged)
    for problem in class_problems(heads_of(model), dict(train_dataloader=dataset)):
        raise InputError(problem)
    root = args.image_root or common_folder(dataset)
    names = image_names(dataset, root)
    check_proposals(dataset, args.skip_damaged)
    parts = LabelParts(
        args.out,
        len(dataset),
        dict(
            checkpoint=file_digest(args.checkpoint),
            config=hashlib.blake2b(cfg.pretty_text.encode(), digest_size=8).hexdigest(),
            score_thr=args.score_thr,
            strict=args.strict,
            tta=args.tta,
            image_root=str(root),
        ),
        args.part_size,
    )
    missing = parts.missing()
    indices = list(itertools.chain(*missing))
    readable = ReadableImages(dataset, indices)
    loader = iter(DataLoader(readable, num_workers=args.workers, collate_fn=pseudo_collate))
    damaged: list[str] = []
    with progress_bar(len(indices), 'pseudo labels', 'image') as bar:
        for part in missing:
            records: list[dict | None] = []
            for index in part:
                batch = next(loader)
                bar.update()
                if isinstance(batch, list):  # the reason why the image cannot be read
                    damaged += batch
                    records.append(None)
                    continue
                (sample,) = model.test_step(batch)
                info = dataset.get_data_info(index)
                instances = sample.pred_instances
                rows = select_pseudo_labels(
                    instances, info['tags'], args.score_thr, not args.strict
                )
                records.append(image_record(info, sample.ori_shape, instances[rows], names[index]))
            if args.skip_damaged or None not in records:
                parts.write(part[0], records)
    for reason in damaged:
        print(f'left out: {reason}')
    if damaged and not args.skip_damaged:
        raise InputError(
            f'{len(damaged)} images cannot be read, the others are kept in {parts.folder}; mend '
            'them and run the same command again, or leave them out with --skip-damaged'
        )
    classes = dataset.metainfo['classes']
    summary = parts.merge(classes)
    if summary is None:
        print(f'{args.out}: this part is done, others are not')
        return
    width = max(map(len, classes))
    for index, name in enumerate(classes):
        print(f'{name:{width}}  {summary.instances[index]}')
    print(
        f'{args.out}: {summary.instances.total()} instances on {summary.pictures} images, '
        f'relative to {root}; {summary.missing} tags without one'
        + (f'; {summary.damaged} images left out' if summary.damaged else '')
    )


if __name__ == '__main__':
    with report_user_errors():
        main()
