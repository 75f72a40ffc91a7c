"""Check that everything a config reads is there and can be used: annotations, images, proposals.

python tools/misc/verify_data.py configs/pdsl/pdsl_r18_4xb1-100k_voc12.py

Builds the training, validation and test datasets as training does, counts their samples and images,
decodes every image once and compares its size with the annotation where masks need it, looks images
up in the proposal store, whose checksums and sizes it compares, checks the masks that are evaluated
or trained on, and compares the classes of heads and datasets as training does, and the numbers of
images in VOC, SBD and COCO with the published ones. Exits with status 1 if anything is missing or
damaged; data that is complete trains, validates and tests.
`dataset_converters/grounding.py --verify` and `dataset_converters/itm.py verify` compare the
published numbers of RefCOCO, and of Flickr30K's and COCO's captions.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import projects.common.stack  # noqa: F401  first, to silence the libraries

# isort: split
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, METRICS, DefaultScope

from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.annotation_files import by_id, read_json
from projects.common.files.image_reader import image_size
from projects.common.files.images import image_problem
from projects.common.hooks.class_check_hook import class_problems, heads_in_config
from projects.pdsl.datasets.categories import check_category_names
from projects.pdsl.datasets.coco_files import COCOFile, mask_rle
from projects.pdsl.datasets.published import published_count
from projects.pdsl.proposals import ProposalStore
from projects.plvl.datasets import GroundingDataset
from projects.rvse.evaluation import check_folds

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


def read_size(path: str) -> tuple[int, int] | str:
    """Return the height and width of an image, or why it cannot be decoded."""
    try:
        problem = image_problem(path)
        width, height = image_size(path)
    except (OSError, InputError) as error:
        problem = str(error)
    return (height, width) if problem is None else problem


def check_images(paths: Iterable[str]) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Return the sizes of all images that can be decoded, and messages about the others."""
    ordered = sorted(set(paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without Python's lock
        found = dict(zip(ordered, pool.map(read_size, ordered)))
    missing = [path for path in ordered if not os.path.isfile(path)]
    damaged = [path for path in ordered if isinstance(found[path], str) and path not in missing]
    problems = []
    if missing:
        problems.append(f'{len(missing):,} images do not exist, such as {missing[0]}')
    if damaged:
        problems.append(
            f'{damaged[0]}: broken image: {found[damaged[0]]} ({len(damaged):,} images in all)'
        )
    return {path: size for path, size in found.items() if not isinstance(size, str)}, problems


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


def check_evaluator(evaluator: ConfigDict | list | None) -> tuple[list[CocoMetric], list[str]]:
    """Return the metrics of an evaluator that compare masks, and what their own files lack."""
    mask_metrics, problems = [], []
    metrics = evaluator if isinstance(evaluator, list) else [evaluator] if evaluator else []
    for metric in metrics:
        try:
            built = METRICS.build(metric)
        except Exception as error:  # of other code bases, too
            problems.append(message(metric, error))
            continue
        if isinstance(built, CocoMetric) and 'segm' in built.metrics:
            mask_metrics.append(built)
    return mask_metrics, problems


def message(config: ConfigDict, error: Exception) -> str:
    """Return an error in one line; those of other code bases do not say what they are about."""
    text = ' '.join(str(error).split())
    if isinstance(error, (InputError, FileNotFoundError)):
        return text
    where = config.get('ann_file') or ''
    return f'{config.type}: {where}: {type(error).__name__}: {text}'


def check_masks(
    samples: list[dict], sizes: dict[str, tuple[int, int]], metrics: list[CocoMetric]
) -> list[str]:
    """Return messages about objects without a usable mask, and images of another size.

    Args:
        samples: Samples whose masks are trained on, or evaluated.
        sizes: Height and width of each image.
        metrics: The metrics that compare the masks; those with a file of their own have the masks.
    """
    files = [metric._coco_api for metric in metrics if isinstance(metric._coco_api, COCOFile)]
    masks, others = [], []
    for sample in samples:
        path = sample['img_path']
        size = sizes.get(path, (sample['height'], sample['width']))
        try:
            for file in files:
                file.check_size(sample['img_id'], size, path)
            if size != (sample['height'], sample['width']):
                raise InputError(
                    f'{path}: wrong image size: height and width are {size}, expected '
                    f'{(sample["height"], sample["width"])}, as annotated'
                )
        except InputError as error:
            others.append(str(error))
            continue
        for instance in sample.get('instances', ()):
            try:
                mask_rle(instance.get('mask'), *size, f'an object of {path}')
            except InputError as error:
                masks.append(str(error))
    found = ((others, 'images'), (masks, 'objects'))
    return [f'{bad[0]} ({len(bad):,} {what} in all)' for bad, what in found if bad]


def check(dataset: ConfigDict, metrics: list[CocoMetric]) -> tuple[Any, str, list[str]]:
    """Return a built dataset, a one-line summary of it, and what is missing."""
    options: dict = dict(pipeline=[], lazy_init=False, serialize_data=False)
    kind = DATASETS.get(dataset.type)
    checks_itself = isinstance(kind, type) and issubclass(kind, GroundingDataset)
    if checks_itself:  # and leaves out what it may
        options |= dict(check_images=True, check_content=True)
    try:
        built = DATASETS.build(ConfigDict(dataset, **options))
    except Exception as error:  # of other code bases, too
        return None, '', [message(dataset, error)]
    samples = built.data_list
    paths = {sample['img_path'] for sample in samples if sample.get('img_path')}
    sizes, problems = ({}, []) if checks_itself else check_images(paths)
    found = f'{len(samples):,} samples' + (f' of {len(paths):,} images' if paths else '')
    if not samples:
        problems.append(f'{getattr(built, "ann_file", dataset.type)}: no sample is left')
    if isinstance(built, CocoDataset) and len(built.cat_ids) > len(built.metainfo['classes']):
        try:  # mmdet numbers two categories of one name as two classes
            content = read_json(built.ann_file)
            categories = by_id(content, 'categories', built.ann_file, name=str)
            check_category_names(categories, built.ann_file)
        except InputError as error:
            problems.append(str(error))
    loads = loads_masks(dataset)
    if loads or any(metric._coco_api is None for metric in metrics):
        problems += check_masks(samples, sizes, metrics)
    elif metrics:
        problems += check_masks([dict(s, instances=()) for s in samples], sizes, metrics)
    expected = published_count(str(getattr(built, 'ann_file', '')))
    if expected not in (None, len(paths)):
        problems.append(f'{len(paths):,} images, expected {expected:,} as published')
    step = proposal_step(dataset)
    if step:
        try:
            problems += check_proposals(step, samples)
        except (FileNotFoundError, InputError) as error:
            problems.append(str(error))
    return built, found, problems


def check_loop(loop: ConfigDict | None, dataset: Any) -> list[str]:
    """Return why a loop cannot evaluate a dataset in folds, if it is to."""
    if not loop or not loop.get('num_folds') or not hasattr(dataset, 'img_size'):
        return []
    try:
        check_folds(dataset.img_size, loop.num_folds, loop.get('fold_size', 1000), dataset.source)
    except InputError as error:
        return [str(error)]
    return []


def check_wrapper(dataset: ConfigDict) -> list[str]:
    """Return what prevents a wrapper of datasets that are complete from being built."""
    try:
        len(DATASETS.build(dataset))
    except Exception as error:  # of other code bases, too
        return [message(dataset, error)]
    return []


def verify(cfg: Config) -> list[str]:
    """Print what the datasets of a config hold and what is missing, and return the latter."""
    lines: list[str] = []

    def report(problems: list[str], word: str = 'MISSING') -> bool:
        for problem in problems:
            print(f'{word}  {problem}')
        lines.extend(problems)
        return not problems

    seen, datasets = [], {}
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for loader in LOADERS:
            name = loader.split('_')[0]
            metrics, problems = check_evaluator(cfg.get(f'{name}_evaluator'))
            report(problems)
            whole = cfg[loader].dataset if cfg.get(loader) else None
            parts = [] if whole is None else list(leaves(whole))
            complete = True
            for dataset in parts:
                if dataset in seen:
                    continue
                seen.append(dataset)
                built, found, problems = check(dataset, metrics)
                key = f'{loader}, part {len(datasets)}' if loader in datasets else loader
                datasets[key] = built
                subset = f', {dataset.subset}' if dataset.get('subset') else ''
                print(f'{name:5}  {dataset.type}{subset}: {found or "unreadable"}')
                problems += check_loop(cfg.get(f'{name}_cfg'), built)
                complete &= report(problems)
            if complete and parts and parts != [whole]:
                report(check_wrapper(whole))
    report(class_problems(heads_in_config(cfg.get('model')), datasets), 'CLASSES')
    return lines


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
    if verify(cfg):
        sys.exit(1)
    print('complete')


if __name__ == '__main__':
    with report_user_errors():
        main()
