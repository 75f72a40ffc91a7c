"""Compare the classes of the heads, the data sets and the checkpoint before a run starts."""

from __future__ import annotations

import difflib
import json
import mmap
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from ..errors import InputError

__all__ = ['ClassCheckHook', 'class_problems', 'heads_in_config', 'heads_of']

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_OTHER_CLASSES = re.compile('backbone|preprocessor|rpn|semantic')
_TEXT = ('language_model', 'text_encoder')
_WINDOW = 1 << 22  # bytes; no list of categories is longer


class ClassCheckHook(Hook):
    """Refuse to run if the classes of the heads, the data sets or the checkpoint do not fit.

    mmdet notices some of this at the first validation, and some never: where a class is missing
    from a COCO file, or the file has another order, labels get the names of other classes.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner) -> None:
        """Raise :class:`InputError` for the first of :func:`class_problems`."""
        for problem in class_problems(heads_of(runner.model), _datasets(runner)):
            raise InputError(problem)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the classes that a checkpoint was trained on, when it is tested or resumed.

        Raises:
            InputError: They are the same in another order.
        """
        datasets = _datasets(runner)
        if 'train_dataloader' in datasets and not runner._resume:
            return
        theirs = (checkpoint.get('meta', {}).get('dataset_meta') or {}).get('classes')
        for loader, dataset in datasets.items():
            ours = _classes(dataset)
            if not theirs or ours is None or tuple(theirs) == ours:
                continue
            text = f'checkpoint {runner._load_from}: {_difference(tuple(theirs), ours, loader)}'
            if sorted(theirs) == sorted(ours):
                raise InputError(text)
            runner.logger.warning(text)


def heads_of(model: nn.Module) -> dict[str, int]:
    """Return the ``num_classes`` of every head of a model, by name.

    Parts with classes of their own are left out: backbones, region proposal networks, which only
    separate objects from background, and heads for semantic segmentation. So are all heads of
    models that compare regions with words.
    """
    modules = dict(model.named_modules())
    if any(name.split('.')[-1] in _TEXT for name in modules):
        return {}
    return {
        name: module.num_classes
        for name, module in modules.items()
        if name
        and isinstance(getattr(module, 'num_classes', None), int)
        and not _OTHER_CLASSES.search(name)
    }


def heads_in_config(node: Any, name: str = 'model') -> dict[str, int]:
    """Return what :func:`heads_of` would, as far as a model's config states it.

    Args:
        node: The config of the model.
        name: Its name.
    """
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    if not isinstance(node, Mapping) or any(part in node for part in _TEXT):
        return {}
    number = node.get('num_classes')
    found = {name: number} if isinstance(number, int) and not _OTHER_CLASSES.search(name) else {}
    for key, child in node.items():
        found |= heads_in_config(child, f'{name}.{key}')
    return found


def class_problems(heads: Mapping[str, int], datasets: Mapping[str, Any]) -> list[str]:
    """Return what does not fit between heads and data sets, one line each.

    Annotations of a COCO file that belong to none of the classes are reported in the log.

    Args:
        heads: Numbers of classes by name, as from :func:`heads_of`.
        datasets: Built data sets by the names of their data loaders. Those without classes are
            ignored.
    """
    problems = []
    first: tuple[str, tuple[str, ...]] | None = None
    for loader, dataset in datasets.items():
        for leaf in _leaves(dataset):
            problems += _category_problems(leaf, loader)
        classes = _classes(dataset)
        if classes is None:
            continue
        problems += [
            f'{loader}: its data set has {len(classes)} classes ({_shown(classes)}), but '
            f'{name}.num_classes is {number}'
            for name, number in heads.items()
            if number != len(classes)
        ]
        first = first or (loader, classes)
        if classes != first[1]:
            problems.append(f'{first[0]}: {_difference(first[1], classes, loader)}')
    return problems


def _datasets(runner) -> dict[str, Any]:
    """Return the data sets of a runner that are built, by data loader."""
    loops = (runner._train_loop, runner._val_loop, runner._test_loop)
    return {
        name: loop.dataloader.dataset
        for name, loop in zip(_LOADERS, loops)
        if isinstance(loop, BaseLoop) and hasattr(loop, 'dataloader')
    }


def _classes(dataset: Any) -> tuple[str, ...] | None:
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    return None if classes is None or isinstance(classes, str) else tuple(classes)


def _leaves(dataset: Any) -> Iterator[Any]:
    """Yield the data sets that read files, unwrapping those that wrap other data sets."""
    inner = [*getattr(dataset, 'datasets', ()), *filter(None, [getattr(dataset, 'dataset', None)])]
    if not inner:
        yield dataset
    for each in inner:
        yield from _leaves(each)


def _category_problems(dataset: Any, loader: str) -> list[str]:
    """Compare the classes of mmdet's ``CocoDataset`` with the categories of its file.

    It numbers classes in the order of the file and ignores those that the file lacks. A subclass
    that reads the file by a class of its own (``COCOAPI``) numbers them as the config does, and
    drops blanks around names.
    """
    coco = getattr(sys.modules.get('mmdet.datasets.coco'), 'CocoDataset', None)
    if coco is None or getattr(type(dataset), 'load_data_list', None) is not coco.load_data_list:
        return []
    classes = _classes(dataset) or ()
    names = _category_names(dataset.ann_file)
    is_own = dataset.COCOAPI is not coco.COCOAPI
    if is_own:
        names = [name.strip() for name in names]
    where = f'{loader}: {dataset.ann_file}'
    missing = [name for name in classes if name not in names]
    if names and missing:
        near = difflib.get_close_matches(missing[0], names, n=1)
        return [
            f'{where}: no category {missing[0]!r}, one of the classes; it has {_shown(names)}'
            + (f'; nearest: {near[0]!r}' if near else '')
        ]
    known = [name for name in names if name in classes]
    twice = next((name for name in known if known.count(name) > 1), None)
    if twice is not None:
        return [
            f'{where}: two categories have the name {twice!r}; mmdet takes them for two classes'
        ]
    if known and tuple(known) != classes and not is_own:
        return [
            f'{where}: its categories are in the order {_shown(known)} and the classes in the '
            f'order {_shown(classes)}; mmdet numbers them as the file does, so that names would be '
            'exchanged: give the classes in the order of the file'
        ]
    left_out = [name for name in names if name not in classes]
    if left_out:
        print_log(
            f'{where}: {len(left_out)} categories are not among the {len(classes)} classes, their '
            f'annotations are left out: {_shown(left_out)}',
            'current',
        )
    return []


def _category_names(path: str) -> list[str]:
    """Return the names of the categories of a COCO file, in order, without parsing all of it."""
    decoder = json.JSONDecoder()
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for found in re.finditer(rb'"categories"\s*:\s*(?=\[)', data):
            text = data[found.end() : found.end() + _WINDOW].decode(errors='replace')
            try:
                content = decoder.raw_decode(text)[0]
            except ValueError:  # not the list of the file
                continue
            if all(isinstance(each, dict) and 'name' in each for each in content):
                return [each['name'] for each in content]
    return []


def _difference(expected: tuple[str, ...], found: tuple[str, ...], loader: str) -> str:
    """Describe the first difference between two lists of classes."""
    if len(expected) != len(found):
        return (
            f'{len(expected)} classes ({_shown(expected)}), but {len(found)} in {loader} '
            f'({_shown(found)})'
        )
    number = next(i for i, (a, b) in enumerate(zip(expected, found)) if a != b)
    return f'class {number} is {expected[number]!r}, but {found[number]!r} in {loader}'


def _shown(names: Any) -> str:
    return ', '.join(map(str, names[:5])) + (', ...' if len(names) > 5 else '')
