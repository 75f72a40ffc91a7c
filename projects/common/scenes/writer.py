"""Write scenes in the formats of real data: the refer layout and COCO JSON.

`write_dataset` and `write_collages` create these files in their folder::

    images/{split}_{index:06d}.png
    scenes/instances.json           COCO, all splits
    scenes/refs(scenes).p           refer layout, every sentence with its kind
    scenes/grefs(scenes).json       gRefCOCO's layout, if generalized: also sentences about several
                                    objects and none
    annotations/instances_{split}.json, captions_{split}.json    COCO
    annotations/tags_{split}.json   {file name: [class names]}
    scenes.json                     arguments and generator version; written last
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from ..errors import InputError
from ..files.atomic import write_atomically
from ..hooks.progress import progress_bar
from ..processes import worker_processes
from .generate import SPLITS, ShapeScenes
from .scene import SHAPES, Scene, SceneSentence
from .set_refs import SetReferences, sentence_entries

GENERATOR = 'mmtriad-scenes'
VERSION = 2  # increment for every change that affects the generated data
MANIFEST = 'scenes.json'
ALL_SPLITS = (*SPLITS, 'test_seen')  # the last one only of cut-outs

_APACHE = {
    'id': 1, 'name': 'Apache-2.0', 'url': 'https://www.apache.org/licenses/LICENSE-2.0'
}  # fmt: skip


class Source(Protocol):
    """Describe what generates the scenes of a data set; other processes get a copy."""

    def scene(self, split: str, index: int) -> Scene:
        """Generate a scene of a split."""


def write_dataset(
    out_dir: str | os.PathLike[str],
    num_train: int = 8000,
    num_val: int = 500,
    num_test: int = 500,
    image_size: int = 128,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
    generalized: bool = False,
) -> dict[str, Any]:
    """Generate the data set, or return at once if it already exists.

    The files do not depend on the number of workers.

    Args:
        out_dir: A new or empty folder, or one written by this function before. The content of the
            latter is kept if its arguments are the same, and replaced otherwise.
        num_train: Number of training images.
        num_val: Number of validation images.
        num_test: Number of test images.
        image_size: Side of the images in pixels, 64 to 1024.
        seed: Seed of the data set.
        workers: Number of processes that draw.
        progress: Whether to show a progress bar.
        generalized: Whether to also write sentences about several objects and none. Everything
            else is the same without them.

    Returns:
        The content of the manifest: arguments, and counts per split and per kind of sentence.

    Raises:
        FileExistsError: `out_dir` holds other files.
        ValueError: An argument is out of range.
    """
    counts = dict(zip(SPLITS, (num_train, num_val, num_test)))
    check_arguments(counts, image_size, seed, workers)
    arguments = {'image_size': image_size, 'seed': seed}
    if generalized:
        arguments['generalized'] = True
    source = ShapeScenes(image_size, seed, generalized)
    return write_scenes(out_dir, source, SHAPES, counts, arguments, workers, progress)


def check_arguments(counts: Mapping[str, int], image_size: int, seed: int, workers: int) -> None:
    """Raise an InputError if an argument that all kinds of scenes have is out of range."""
    for split, count in counts.items():
        if count < 0:
            raise InputError(f'num_{split}: found {count}, expected a number from 0')
    if not 64 <= image_size <= 1024:
        raise InputError(f'image_size: found {image_size}, expected 64 to 1024 pixels')
    if seed < 0 or workers < 1:
        raise InputError(
            f'seed, workers: found {seed}, {workers}, expected seed from 0 and workers from 1'
        )


def write_scenes(
    out_dir: str | os.PathLike[str],
    source: Source,
    classes: Sequence[str],
    counts: Mapping[str, int],
    arguments: Mapping[str, Any],
    workers: int = 1,
    progress: bool = True,
    license: Mapping[str, Any] = _APACHE,
) -> dict[str, Any]:
    """Write the scenes of a source, or return at once if they are there already.

    Args:
        out_dir: See :func:`write_dataset`.
        source: Generates the scenes.
        classes: Names of the classes, in the order of their ids.
        counts: Number of scenes of every split.
        arguments: What the scenes depend on besides, with ``image_size``, for the manifest.
        workers: Number of processes that draw.
        progress: Whether to show a progress bar.
        license: Entry of COCO's list of licenses.

    Returns:
        The content of the manifest.

    Raises:
        FileExistsError: `out_dir` holds other files.
        InputError: A process was killed.
    """
    out = Path(out_dir)
    expected = {'generator': GENERATOR, 'version': VERSION, 'counts': dict(counts), **arguments}
    found = _read_manifest(out)
    if found is not None:
        if found.get('complete') and all(found.get(k) == v for k, v in expected.items()):
            return found
        _clear(out)
    _write_json(out / MANIFEST, dict(expected, complete=False))

    tasks = [(split, index) for split, count in counts.items() for index in range(count)]
    draw = partial(_draw, images=str(_made(out / 'images')), source=source)
    generalized = arguments.get('generalized', False)
    collected = _Collector(arguments['image_size'], list(counts), classes, license, generalized)
    quiet: dict[str, Any] = {} if progress else dict(style='lines', interval=math.inf)
    with progress_bar(len(tasks), 'scenes', 'scene', **quiet) as bar:
        for (split, _), record in zip(tasks, _map(draw, tasks, workers)):
            collected.add(split, record)
            bar.update()
    collected.write(out)
    summary = dict(expected, **collected.summary(), complete=True)
    _write_json(out / MANIFEST, summary)
    return summary


def _map(function: Any, tasks: list[Any], workers: int) -> Iterator[Any]:
    if workers == 1 or len(tasks) < 2 * workers:
        yield from map(function, tasks)
        return
    with worker_processes(workers, 0, 'draws all scenes again') as pool:
        yield from pool.map(function, tasks, chunksize=16)


def _draw(task: tuple[str, int], images: str, source: Source) -> dict[str, Any]:
    """Draw and save one image, and return the data for the annotation files."""
    split, index = task
    scene = source.scene(split, index)
    name = f'{split}_{index:06d}.png'
    path = os.path.join(images, name)
    if not cv2.imwrite(path, scene.image, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f'{path}: cannot be written')
    objects = []
    for obj, mask in zip(scene.objects, scene.masks):
        rle = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
        rle['counts'] = rle['counts'].decode('ascii')
        objects.append((obj, rle))
    return {
        'file_name': name,
        'objects': objects,
        'sentences': scene.sentences,
        'set_sentences': scene.set_sentences,
        'captions': scene.captions,
        'tags': list(scene.tags),
    }


class _Collector:
    """Assign ids in order and build the annotation files."""

    def __init__(
        self,
        image_size: int,
        splits: Sequence[str],
        classes: Sequence[str],
        license: Mapping[str, Any],
        generalized: bool,
    ) -> None:
        self.image_size = image_size
        self.splits = splits
        self.license = license
        self.categories: list[dict[str, Any]] = [
            {'id': i, 'name': name, 'supercategory': 'shape' if name in SHAPES else 'object'}
            for i, name in enumerate(classes, start=1)
        ]
        self.category_ids = {entry['name']: entry['id'] for entry in self.categories}
        self.images: dict[str, list[dict[str, Any]]] = {s: [] for s in splits}
        self.annotations: dict[str, list[dict[str, Any]]] = {s: [] for s in splits}
        self.captions: dict[str, list[dict[str, Any]]] = {s: [] for s in splits}
        self.tags: dict[str, dict[str, list[str]]] = {s: {} for s in splits}
        self.refs: list[dict[str, Any]] = []
        self.sets = SetReferences() if generalized else None
        self.kinds: Counter[str] = Counter()
        self.num_images = self.num_annotations = self.num_captions = self.num_sentences = 0

    def add(self, split: str, record: dict[str, Any]) -> None:
        self.num_images += 1
        image_id = self.num_images
        file_name = record['file_name']
        side = self.image_size
        self.images[split].append(
            {'id': image_id, 'file_name': file_name, 'height': side, 'width': side, 'license': 1}
        )
        self.tags[split][file_name] = record['tags']
        for caption in record['captions']:
            self.num_captions += 1
            self.captions[split].append(
                {'id': self.num_captions, 'image_id': image_id, 'caption': caption}
            )
        for index, (obj, rle) in enumerate(record['objects']):
            self.num_annotations += 1
            x1, y1, x2, y2 = obj.box
            category_id = self.category_ids[obj.category]
            self.annotations[split].append(
                {
                    'id': self.num_annotations,
                    'image_id': image_id,
                    'category_id': category_id,
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'area': obj.area,
                    'iscrowd': 0,
                    'segmentation': rle,
                    'attributes': obj.attributes(),
                }
            )
            sentences = [s for s in record['sentences'] if s.target == index]
            if sentences:
                self._add_ref(split, image_id, category_id, file_name, sentences)
        if self.sets is not None:
            end = self.num_annotations + 1
            ann_ids = range(end - len(record['objects']), end)
            sentences = [*record['sentences'], *record['set_sentences']]
            self.sets.add(split, file_name, image_id, ann_ids, sentences)

    def _add_ref(
        self,
        split: str,
        image_id: int,
        category_id: int,
        file_name: str,
        sentences: list[SceneSentence],
    ) -> None:
        entries = sentence_entries(sentences, self.num_sentences)
        self.num_sentences += len(entries)
        self.kinds.update(sentence.kind for sentence in sentences)
        self.refs.append(
            {
                'ref_id': len(self.refs),
                'ann_id': self.num_annotations,
                'image_id': image_id,
                'split': split,
                'category_id': category_id,
                'file_name': file_name,
                'sent_ids': [entry['sent_id'] for entry in entries],
                'sentences': entries,
            }
        )

    def write(self, out: Path) -> None:
        annotations, scenes = _made(out / 'annotations'), _made(out / 'scenes')
        for split in self.splits:
            head = self._head(self.images[split])
            _write_json(
                annotations / f'instances_{split}.json',
                dict(head, annotations=self.annotations[split], categories=self.categories),
            )
            _write_json(
                annotations / f'captions_{split}.json',
                dict(head, annotations=self.captions[split]),
            )
            _write_json(annotations / f'tags_{split}.json', self.tags[split])
        everything = self._head([i for s in self.splits for i in self.images[s]])
        everything['annotations'] = [a for s in self.splits for a in self.annotations[s]]
        everything['categories'] = self.categories
        _write_json(scenes / 'instances.json', everything)
        # A pickle records which equal strings are the same object, which depends on how the records
        # arrived from the workers. A round trip through JSON removes this dependence.
        refs = json.loads(json.dumps(self.refs))
        with open(scenes / 'refs(scenes).p', 'wb') as file:
            pickle.dump(refs, file, protocol=2)

        if self.sets is not None:
            _write_json(scenes / 'grefs(scenes).json', self.sets.entries)

    def _head(self, images: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            'info': {'description': 'MMTriad scenes', 'version': str(VERSION)},
            'licenses': [dict(self.license)],
            'images': images,
        }

    def summary(self) -> dict[str, Any]:
        sets = self.sets
        return {
            'images': self.num_images,
            'objects': self.num_annotations,
            'refs': len(self.refs) if sets is None else len(sets.entries),
            'sentences': self.num_sentences if sets is None else sets.num_sentences,
            'captions': self.num_captions,
            'sentences_by_kind': dict(sorted((self.kinds if sets is None else sets.kinds).items())),
        }


def _read_manifest(out: Path) -> dict[str, Any] | None:
    """Read the manifest of a scenes folder, or return None if the folder is new or empty."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise FileExistsError(f'{out}: found a file, expected a folder')
    try:
        manifest = json.loads((out / MANIFEST).read_text())
        if manifest['generator'] == GENERATOR:
            return manifest
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if any(out.iterdir()):
        raise FileExistsError(
            f'{out}: found a folder with other content, expected a new or empty one or one with '
            f'generated scenes ({MANIFEST})'
        )
    return None


def _clear(out: Path) -> None:
    """Remove the files of an earlier run, and nothing else."""
    ours = re.compile(r'({})_\d{{6}}\.png'.format('|'.join(ALL_SPLITS)))
    if (out / 'images').is_dir():
        for path in (out / 'images').iterdir():
            if ours.fullmatch(path.name):
                path.unlink()
    kinds = ('instances', 'captions', 'tags')
    names = [f'annotations/{k}_{s}.json' for k in kinds for s in ALL_SPLITS]
    refs = ('scenes/refs(scenes).p', 'scenes/grefs(scenes).json')
    for name in (*names, 'scenes/instances.json', *refs):
        (out / name).unlink(missing_ok=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content).encode())
