"""Make up training data from a folder of images when a config's own data is not available.

The images are real and the labels are not. This is enough to see the initial value of every loss,
and whether the model starts to learn, that is, to memorize them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..errors import InputError
from ..files.image_reader import image_size
from .findings import Findings

__all__ = ['MadeUp', 'made_up_dataset', 'makes_up', 'prepare', 'prepares', 'write_instances']

Maker = Callable[[dict, 'MadeUp'], dict]
Preparer = Callable[[Config, Findings], None]
_MAKERS: list[tuple[type, Maker]] = []
_PREPARERS: list[Preparer] = []

_WORDS = (
    'a', 'the', 'small', 'large', 'red', 'blue', 'left', 'right', 'man', 'woman', 'dog', 'cat',
    'child', 'car', 'table', 'bus', 'tree', 'street', 'sits', 'runs', 'holds', 'near', 'behind',
    'with', 'and', 'on', 'in', 'white', 'black',
)  # fmt: skip


@dataclass
class MadeUp:
    """Hold the ingredients of made-up labels.

    Attributes:
        images: Paths of the images.
        folder: Folder for annotation files.
        count: Number of samples needed.
        num_classes: Number of classes if the data set itself does not define it.
        rng: Random number generator.
    """

    images: Sequence[Path]
    folder: Path
    count: int
    num_classes: int = 1
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def path(self, name: str) -> Path:
        """Return a path in the folder that does not exist yet."""
        number = sum(1 for _ in self.folder.iterdir())
        return self.folder / f'{number:03d}_{name}'

    def image(self, index: int) -> Path:
        """Return the image of a sample, reusing images if there are too few."""
        return self.images[index % len(self.images)]

    def sentence(self) -> str:
        """Return three to ten random words."""
        return ' '.join(self.rng.choice(_WORDS, self.rng.integers(3, 11)))

    def boxes(self, width: int, height: int, count: int) -> np.ndarray:
        """Return boxes (count, 4), XYXY in pixels, with sides from a tenth to all of the image."""
        sides = self.rng.uniform(0.1, 1.0, (count, 2)) * (width, height)
        corner = self.rng.uniform(0, 1, (count, 2)) * ((width, height) - sides)
        return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)

    def classes(self, dataset: Mapping) -> list[str]:
        """Return the class names from a data set config or its type, or else numbered names."""
        own = (dataset.get('metainfo') or {}).get('classes')
        kind = DATASETS.get(dataset['type'])
        own = own or getattr(kind, 'METAINFO', {}).get('classes')
        if own and not isinstance(own, str):
            return list(own)
        return [f'class {i}' for i in range(self.num_classes)]


def makes_up(*kinds: type) -> Callable[[Maker], Maker]:
    """Register a function that makes up data to replace data sets of these classes.

    The function takes the config of the data set and a :class:`MadeUp`. It writes the necessary
    files into the folder and returns the config of a data set that reads them with the same
    pipeline.
    """

    def register(maker: Maker) -> Maker:
        _MAKERS.extend((kind, maker) for kind in kinds)
        return maker

    return register


def prepares(preparer: Preparer) -> Preparer:
    """Register a function that removes unavailable parts from a config that uses made-up data.

    The function changes the config in place and notes the changes in the findings.
    """
    _PREPARERS.append(preparer)
    return preparer


def prepare(cfg: Config, findings: Findings) -> None:
    """Call every function registered by :func:`prepares`."""
    for preparer in _PREPARERS:
        preparer(cfg, findings)


def made_up_dataset(dataset: dict, made: MadeUp) -> dict:
    """Return a config that replaces a data set and reads made-up labels of real images.

    A wrapper (``ConcatDataset``, ``RepeatDataset``, ...) is kept around the data set that it wraps,
    or around the first of several.

    Raises:
        ValueError: No function is registered for this kind of data set.
    """
    kind = DATASETS.get(dataset['type'])
    if kind is None:
        raise InputError(f'{dataset["type"]}: no such data set is registered')
    makers = dict(_MAKERS)
    for base in kind.__mro__:  # most specific class first
        if base in makers:
            return makers[base](dataset, made)
    if isinstance(dataset.get('dataset'), Mapping):
        return {**dataset, 'dataset': made_up_dataset(dataset['dataset'], made)}
    if isinstance(dataset.get('datasets'), Sequence) and dataset['datasets']:
        default = {k: dataset[k] for k in ('pipeline',) if k in dataset}
        return {
            **dataset,
            'datasets': [made_up_dataset({**default, **dataset['datasets'][0]}, made)],
        }
    if (generic := _generic(kind)) is not None:
        return generic(dataset, made)
    raise InputError(
        f'--images: no labels can be made up for {dataset["type"]}; register a function with '
        'projects.common.preflight.makes_up'
    )


def write_instances(dataset: Mapping, made: MadeUp, per_image: int = 3) -> tuple[Path, list[str]]:
    """Write COCO instances with made-up boxes, whose outlines are the boxes themselves.

    Returns:
        The path of the file and the names of the classes.
    """
    classes = made.classes(dataset)
    images: list[dict] = []
    annotations: list[dict] = []
    for i in range(made.count):
        path = made.image(i)
        width, height = image_size(path)
        images.append(dict(id=i, file_name=str(path), width=width, height=height))
        for x1, y1, x2, y2 in made.boxes(width, height, per_image).tolist():
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=int(made.rng.integers(len(classes))) + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    segmentation=[[x1, y1, x2, y1, x2, y2, x1, y2]],
                    iscrowd=0,
                )
            )
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    path = made.path('instances.json')
    path.write_text(
        json.dumps(dict(info={}, images=images, annotations=annotations, categories=categories))
    )
    return path, classes


def _detection(dataset: dict, made: MadeUp) -> dict:
    """Replace any mmdet data set."""
    path, classes = write_instances(dataset, made)
    return dict(
        type='mmdet.CocoDataset',
        ann_file=str(path),
        data_prefix=dict(img=''),
        metainfo=dict(classes=classes),
        pipeline=dataset.get('pipeline') or [],
        test_mode=dataset.get('test_mode', False),
    )


def _classification(dataset: dict, made: MadeUp) -> dict:
    """Replace any mmpretrain data set with one label per image."""
    classes = made.classes(dataset)
    labels = made.rng.integers(len(classes), size=made.count)
    path = made.path('labels.txt')
    path.write_text(''.join(f'{made.image(i)} {label}\n' for i, label in enumerate(labels)))
    return dict(
        type='mmpretrain.CustomDataset',
        ann_file=str(path),
        data_prefix='',
        classes=classes,
        pipeline=dataset.get('pipeline') or [],
    )


def _generic(kind: Any) -> Maker | None:
    bases = {f'{base.__module__}.{base.__name__}' for base in kind.__mro__}
    if 'mmdet.datasets.base_det_dataset.BaseDetDataset' in bases:
        return _detection
    if 'mmpretrain.datasets.base_dataset.BaseDataset' in bases:
        return _classification
    return None
