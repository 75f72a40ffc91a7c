"""Turn a checkpoint into a folder for publication: weights, config, vocabulary and model card.

python tools/misc/publish_model.py best.pth --out plvl-scenes --dtype float16 --metrics summary.json

The optimizer, the schedule and the log are left out. The folder has `model.safetensors`,
`config.py` (the config that training stored in the checkpoint), `vocab.txt` if the model has a
vocabulary, `calibration.json` if its scores are calibrated, and `README.md`. `tools/infer.py
--weights` and the inferencers accept the folder, or the id of a Hugging Face hub repository with
its files. Reading it runs no code.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmengine.config import Config

from projects.common.calibration import Calibration
from projects.common.cli.config import load_config
from projects.common.cli.options import add_trust_option
from projects.common.cli.report import report_user_errors
from projects.common.config_text import config_of_checkpoint, parse_config_text
from projects.common.errors import InputError
from projects.common.files.annotation_files import read_json, shown
from projects.common.files.atomic import check_writable, write_atomically
from projects.common.weights.convert import read_weights
from projects.common.weights.published import (
    CONFIG,
    DTYPES,
    WEIGHTS,
    write_published,
)

CARD = 'README.md'


class Task(NamedTuple):
    """Hold the texts of the model cards of a project."""

    title: str
    paper: str
    tag: str
    command: str
    code: str


GROUNDING = Task(
    'Visual grounding: an image and a sentence give the box and the mask of what it names.',
    'Progressive Language-guided Visual Learning for Multi-Task Visual Grounding',
    'visual-grounding',
    "grounding street.jpg 'the red car' --weights {name}",
    """from projects.plvl import GroundingInferencer

ground = GroundingInferencer(weights='{name}')
ground('street.jpg', ['the red car'])['predictions'][0]  # bbox, score, mask""",
)
INSTANCES = Task(
    'Instance segmentation that was learnt from image-level tags alone.',
    'Parallel Detection-and-Segmentation Learning for Weakly Supervised Instance Segmentation',
    'image-segmentation',
    'weak street.jpg --weights {name}',
    """from projects.pdsl import WeakInstanceInferencer

weak = WeakInstanceInferencer(weights='{name}')
weak('street.jpg')['predictions'][0]  # classes, scores, bboxes, masks""",
)
MATCHING = Task(
    'Image-text matching: images for sentences, and sentences for images.',
    'Selectively Hard Negative Mining for Alleviating Gradient Vanishing in Image-Text Matching',
    'image-text-retrieval',
    'retrieval index photos/ --store work_dirs/photos --weights {name}',
    """from projects.rvse import RetrievalInferencer

search = RetrievalInferencer(weights='{name}')
search.index('photos/', 'work_dirs/photos')
search('a dog on a beach', 'work_dirs/photos')[0]  # the five best: name, score""",
)
TASKS = {'PLVL': GROUNDING, 'EEVG': GROUNDING, 'PDSL': INSTANCES, 'ImageTextMatcher': MATCHING}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='a checkpoint of a training, or converted weights')
    parser.add_argument('--out', type=Path, required=True, help='the folder to write')
    parser.add_argument(
        '--dtype',
        choices=list(DTYPES),
        default='float32',
        help='type of the stored weights; float16 halves the file, and the model still computes '
        'in float32 (default: %(default)s)',
    )
    parser.add_argument(
        '--config', help='config of the model; default: the one that the checkpoint carries'
    )
    parser.add_argument(
        '--metrics',
        type=Path,
        metavar='JSON',
        help='a file with numbers by name, or with such a dict as its entry "metrics"',
    )
    parser.add_argument('--name', help='name on the model card; default: that of the folder')
    parser.add_argument(
        '--license', default='apache-2.0', help='of the weights (default: %(default)s)'
    )
    add_trust_option(parser)
    return parser.parse_args()


def read_metrics(path: Path) -> dict[str, float]:
    """Return the numbers in a metrics file by name.

    Raises:
        InputError: The file contains anything but numbers.
    """
    content = read_json(path)
    if isinstance(content, Mapping) and isinstance(content.get('metrics'), Mapping):
        content = content['metrics']
    if not isinstance(content, Mapping) or not content:
        raise InputError(f'--metrics {path}: {shown(content)}, expected a dict of numbers by name')
    for name, value in content.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f'--metrics {path}: {name} is {shown(value)}, expected a number')
    return dict(content)


def paths_of_this_machine(value: Any, where: str = '') -> Iterator[str]:
    """Yield the settings of a config that are absolute paths, as `key=path`."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from paths_of_this_machine(each, f'{where}.{key}' if where else key)
    elif isinstance(value, (list, tuple)):
        for i, each in enumerate(value):
            yield from paths_of_this_machine(each, f'{where}.{i}')
    elif isinstance(value, str) and value.startswith('/'):
        yield f'{where}={value}'


def model_card(
    name: str, config: Config, count: int, args: argparse.Namespace, metrics: Mapping[str, float]
) -> str:
    """Return the text of README.md: description, metrics, licence and usage of the model."""
    kind = str(config.model.get('type')).rpartition('.')[2]
    task = TASKS.get(kind)
    tags = ['mmtriad', *([task.tag] if task else [])]
    lines = ['---', f'license: {args.license}', 'library_name: mmtriad', 'tags:']
    lines += [*(f'- {tag}' for tag in tags), '---', '', f'# {name}', '']
    if task:
        lines += [task.title, '', f'Method: *{task.paper}*.', '']
    lines += [
        f'A {kind} with {count:,} parameters, stored as {args.dtype}. It was trained with MMTriad; '
        '`config.py` holds all settings.',
        '',
    ]
    if metrics:
        lines += [
            f'## Metrics\n\nFrom `{args.metrics.name}`:',
            '',
            '| metric | value |',
            '|---|---|',
        ]
        lines += [*(f'| {key} | {value:g} |' for key, value in metrics.items()), '']
    if task:
        command = task.command.format(name=name)
        lines += ['## How to use it', '', 'In a checkout of MMTriad, with the path of this folder:']
        lines += ['', '```bash', f'python tools/infer.py {command}', '```', '']
        lines += ['```python', task.code.format(name=name), '```', '']
    lines += ['## Licence', '', f'The weights are under the licence {args.license}.', '']
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    check_writable(args.out)
    name = args.name or os.path.basename(os.path.abspath(args.out))
    metrics = read_metrics(args.metrics) if args.metrics else {}
    weights, rest = read_weights(args.checkpoint, args.trust_checkpoint)
    meta = rest.get('meta') or {}
    if args.config:
        config = load_config(args.config)
    elif isinstance(meta.get('cfg'), str):
        config = config_of_checkpoint(rest, args.checkpoint)
    else:
        raise InputError(f'{args.checkpoint}: carries no config; name one with --config')
    if not isinstance(config.get('model'), Mapping):
        raise InputError(f'{args.config or args.checkpoint}: the config has no model')
    calibration = None
    if meta.get('calibration') is not None:
        calibration = Calibration.from_dict(meta['calibration'], str(args.checkpoint))
    files = write_published(
        args.out, weights, config, meta.get('dataset_meta'), args.dtype, calibration
    )
    count = sum(
        value.numel()
        for key, value in weights.items()
        if value.is_floating_point() and not key.endswith(('running_mean', 'running_var'))
    )
    card = model_card(name, config, count, args, metrics)
    write_atomically(args.out / CARD, card.encode())
    size = (args.out / WEIGHTS).stat().st_size / 1e6
    names = ', '.join(path.name for path in files if path.name != WEIGHTS)
    print(f'{args.out}: {WEIGHTS} ({size:.1f} MB, {args.dtype}), {names}, {CARD}')
    text = (args.out / CONFIG).read_text()
    places = list(paths_of_this_machine(parse_config_text(text, CONFIG).to_dict()))
    if places:
        print(f'config.py names paths of this machine, such as {places[0]} ({len(places)} in all)')


if __name__ == '__main__':
    with report_user_errors():
        main()
