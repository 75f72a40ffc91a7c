"""Check that everything a config reads is there: annotations, images, proposals.

python tools/misc/verify_data.py configs/pdsl/pdsl_r18_4xb1-100k_voc12.py

Builds the training, validation and test datasets, counts their samples and images, looks up every
image on disk and in the proposal store, whose checksums and sizes it compares, looks for the masks
that are evaluated, and compares the classes of heads and datasets as training does, and the numbers
of images in VOC, SBD and COCO with the published ones. Exits with status 1 if anything is missing.
Nothing is decoded.
`dataset_converters/grounding.py --verify` and `dataset_converters/itm.py verify` compare the
published numbers of RefCOCO, and of Flickr30K's and COCO's captions.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import projects.common.stack  # noqa: F401  first, to silence the libraries

# isort: split
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, METRICS, DefaultScope

from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.annotation_files import by_id, read_json
from projects.common.hooks.class_check_hook import class_problems, heads_in_config
from projects.pdsl.datasets.categories import check_category_names
from projects.pdsl.datasets.coco_files import mask_rle
from projects.pdsl.datasets.published import published_count
from projects.pdsl.proposals import ProposalStore

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def leaves(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Yield the datasets that read files, unwrapping those that wrap other datasets."""
    inner = [*dataset.get('datasets', ()), *filter(None, [dataset.get('dataset')])]
    if not inner:
        yield dataset
    for each in inner:
        if 'pipeline' not in each and 'pipeline' in dataset:
            each = ConfigDict(each, pipeline=dataset.pipeline)
        yield from leaves(each)


def proposal_step(dataset: ConfigDict) -> ConfigDict | None:
    """Return the step of the pipeline that reads a proposal store, or None."""
    steps = dataset.get('pipeline', ())
    return next((step for step in steps if step.type == 'LoadStoredProposals'), None)


def loads_masks(dataset: ConfigDict) -> bool:
    """Return whether the pipeline loads the masks of objects."""
    steps = dataset.get('pipeline', ())
    return any(step.type.endswith('LoadAnnotations') and step.get('with_mask') for step in steps)


def check_images(samples: list[dict]) -> tuple[int, list[str]]:
    """Return the number of images in the samples, and a message about missing ones."""
    paths = {sample['img_path'] for sample in samples if sample.get('img_path')}
    missing = sorted(path for path in paths if not os.path.isfile(path))
    if not missing:
        return len(paths), []
    return len(paths), [f'{len(missing):,} images do not exist, such as {missing[0]}']


def check_proposals(step: ConfigDict, samples: list[dict]) -> list[str]:
    """Return messages about the images that a store lacks, and about those it takes for others."""
    store = ProposalStore(step.folder)
    missing, strangers = [], []
    for sample in samples:
        path = sample['img_path']
        name = store.find(path, sample.get('img_id'))
        if name is None:
            missing.append(path)
        elif os.path.isfile(path):
            try:
                store.check(name, path, content=step.get('check_content', True))
            except InputError as error:
                strangers.append(str(error))
    problems = []
    if missing and step.get('missing', 'error') == 'error':
        problems.append(
            f'{step.folder}: no proposals of {len(missing):,} images, such as {missing[0]}'
        )
    if strangers:
        problems.append(f'{strangers[0]} ({len(strangers):,} images in all)')
    return problems


def check_evaluator(evaluator: ConfigDict | list | None) -> tuple[bool, list[str]]:
    """Return whether an evaluator needs the masks of its dataset, and what its own file lacks."""
    needs_masks, problems = False, []
    metrics = evaluator if isinstance(evaluator, list) else [evaluator] if evaluator else []
    for metric in metrics:
        try:
            built = METRICS.build(metric)
        except Exception as error:  # of other code bases, too
            problems.append(message(metric, error))
            continue
        is_coco = isinstance(built, CocoMetric) and built._coco_api is None
        needs_masks |= is_coco and 'segm' in built.metrics
    return needs_masks, problems


def message(config: ConfigDict, error: Exception) -> str:
    """Return an error in one line; those of other code bases do not say what they are about."""
    text = ' '.join(str(error).split())
    if isinstance(error, (InputError, FileNotFoundError)):
        return text
    where = config.get('ann_file') or ''
    return f'{config.type}: {where}: {type(error).__name__}: {text}'


def check_masks(samples: list[dict]) -> list[str]:
    """Return a message about the objects without a mask that can be read."""
    bad = []
    for sample in samples:
        for instance in sample.get('instances', ()):
            where = f'an object of {sample["img_path"]}'
            try:
                mask_rle(instance.get('mask'), sample['height'], sample['width'], where)
            except InputError as error:
                bad.append(str(error))
    return [f'{bad[0]} ({len(bad):,} objects in all)'] if bad else []


def check(dataset: ConfigDict, needs_masks: bool = False) -> tuple[Any, str, list[str]]:
    """Return a built dataset, a one-line summary of it, and what is missing."""
    options = dict(pipeline=[], lazy_init=False, serialize_data=False)
    try:
        built = DATASETS.build(ConfigDict(dataset, **options))
    except Exception as error:  # of other code bases, too
        return None, '', [message(dataset, error)]
    samples = built.data_list
    pictures, problems = check_images(samples)
    found = f'{len(samples):,} samples' + (f' of {pictures:,} images' if pictures else '')
    if isinstance(built, CocoDataset) and len(built.cat_ids) > len(built.metainfo['classes']):
        try:  # mmdet numbers two categories of one name as two classes
            content = read_json(built.ann_file)
            categories = by_id(content, 'categories', built.ann_file, name=str)
            check_category_names(categories, built.ann_file)
        except InputError as error:
            problems.append(str(error))
    if needs_masks or loads_masks(dataset):
        problems += check_masks(samples)
    expected = published_count(str(getattr(built, 'ann_file', '')))
    if expected not in (None, pictures):
        problems.append(f'{pictures:,} images, expected {expected:,} as published')
    step = proposal_step(dataset)
    if step:
        try:
            problems += check_proposals(step, samples)
        except (FileNotFoundError, InputError) as error:
            problems.append(str(error))
    return built, found, problems


def report(problems: list[str]) -> bool:
    """Print the problems, and return whether there are any."""
    for problem in problems:
        print(f'MISSING  {problem}')
    return bool(problems)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    add_cfg_options(parser)
    args = parser.parse_args()
    cfg = load_config(args.config, args.cfg_options)
    for module in cfg.get('custom_imports', {}).get('imports', ()):
        importlib.import_module(module)
    complete, seen, datasets = True, [], {}
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for loader in LOADERS:
            name = loader.split('_')[0]
            needs_masks, problems = check_evaluator(cfg.get(f'{name}_evaluator'))
            complete &= not report(problems)
            for dataset in leaves(cfg[loader].dataset) if cfg.get(loader) else ():
                if dataset in seen:
                    continue
                seen.append(dataset)
                built, found, problems = check(dataset, needs_masks)
                key = f'{loader}, part {len(datasets)}' if loader in datasets else loader
                datasets[key] = built
                subset = f', {dataset.subset}' if dataset.get('subset') else ''
                print(f'{name:5}  {dataset.type}{subset}: {found or "unreadable"}')
                complete &= not report(problems)
    for problem in class_problems(heads_in_config(cfg.get('model')), datasets):
        print(f'CLASSES  {problem}')
        complete = False
    if not complete:
        sys.exit(1)
    print('complete')


if __name__ == '__main__':
    with report_user_errors():
        main()
