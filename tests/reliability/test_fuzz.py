"""Any input gives a result or one line that names the file, and runs nothing.

Each reader of the repository reads valid files of which Hypothesis has changed values, removed or
repeated entries, and damaged bytes. Allowed is a result, or an error of the kinds that the tools
print as one line (``InputError``, ``FileNotFoundError``, ``UnpicklingError``, ...),
of one line, with the path in it.

`make test` draws a few inputs for each reader, the same ones each time. For longer runs::

    FUZZ_SECONDS=150 FUZZ_LOG=fuzz.jsonl python -m pytest tests/reliability/test_fuzz.py

draws new ones for so many seconds of the processor for each reader and writes down how many there
were.
"""

from __future__ import annotations

import argparse
import base64
import copy
import io
import json
import logging
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from mmengine.registry import DATASETS

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.cli.config import load_config
from projects.common.cli.options import add_run_options
from projects.common.cli.overrides import check_cfg_options
from projects.common.cli.report import USER_KINDS
from projects.common.config_text import parse_config_text
from projects.common.errors import InputError
from projects.common.files.array_files import _MAT_READER
from projects.common.files.unpickle import load_legacy_torch, load_pickle
from projects.common.hooks.checkpoint_hook import find_resumable
from projects.common.text import WordPieceTokenizer
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.common.weights.convert import read_weights
from projects.pdsl.cues.store import MaskStore
from projects.pdsl.proposals import ProposalStore, read_proposals, tidy, write_store
from projects.rvse.datasets.butd import butd_offsets, read_butd
from projects.rvse.retrieval import EmbeddingCache, open_store
from projects.rvse.text import Vocabulary

SECONDS = float(os.environ.get('FUZZ_SECONDS', 0))
FAST_EXAMPLES = 15
REFUSALS = (InputError, *USER_KINDS)


# ------------------------------------------------------------------------------- what may not run


class Hostile:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ('true',)

    def __repr__(self) -> str:
        return 'Hostile()'


class _Watch:
    """Notes commands that this process starts; an audit hook cannot be taken off again."""

    EVENTS = ('os.system', 'os.exec', 'os.fork', 'os.posix_spawn', 'subprocess.Popen')

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple) -> None:
        own = event == 'subprocess.Popen' and arguments[1] == [sys.executable, '-c', _MAT_READER]
        if self.on and event in self.EVENTS and not own:
            self.seen.append(f'{event}{arguments}')

    def __enter__(self) -> None:
        self.on, self.seen = True, []

    def __exit__(self, *_: Any) -> None:
        self.on = False


WATCH = _Watch()


# ------------------------------------------------------------------------------------- valid files


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _torch(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _mat(**arrays: Any) -> bytes:
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, arrays)
    return buffer.getvalue()


def _crashing_mat() -> bytes:
    """One changed byte, the type of an array's numbers, makes scipy's reader crash."""
    data = bytearray(_mat(boxes=np.ones((2, 4)), scores=np.array([1.0, 0.5])))
    assert data[184] == 9  # float64
    data[184] = 36
    return bytes(data)


CRASHING_MAT = _crashing_mat()


def _lines(rows: list) -> bytes:
    if not isinstance(rows, list):
        rows = [rows]
    return '\n'.join(json.dumps(row) for row in rows).encode()


ENCODERS: dict[str, Callable[[Any], bytes]] = {
    '.json': lambda document: json.dumps(document).encode(),
    '.jsonl': _lines,
    '.p': lambda document: pickle.dumps(document, protocol=2),
    '.pkl': lambda document: pickle.dumps(document, protocol=4),
    '.pth': _torch,
    '.tar': lambda document: _torch(document, legacy=True),
}


def encode(name: str, document: Any) -> bytes:
    if isinstance(document, bytes):
        return document
    if isinstance(document, str):
        return document.encode()
    return ENCODERS[Path(name).suffix](document)


PNG = cv2.imencode('.png', np.full((60, 80), 255, np.uint8))[1].tobytes()
SQUARE = [[2.0, 2.0, 30.0, 2.0, 30.0, 20.0, 2.0, 20.0]]
RLE = {'size': [60, 80], 'counts': [4000, 300, 500]}
COCO = {
    'images': [
        {'id': 1, 'file_name': 'a.jpg', 'height': 60, 'width': 80},
        {'id': 2, 'file_name': 'b.jpg', 'height': 60, 'width': 80},
    ],
    'annotations': [
        {'id': 10, 'image_id': 1, 'category_id': 3, 'bbox': [2, 2, 28, 18], 'iscrowd': 0,
         'segmentation': SQUARE, 'caption': 'a red mug'},
        {'id': 11, 'image_id': 2, 'category_id': 3, 'bbox': [2, 2, 70, 50], 'iscrowd': 1,
         'segmentation': RLE, 'caption': 'a plate'},
    ],
    'categories': [{'id': 3, 'name': 'mug'}],
}  # fmt: skip
REFS = [
    {
        'ref_id': i, 'ann_id': 10 + i, 'image_id': 1 + i, 'category_id': 3, 'split': 'train',
        'file_name': 'a_0.jpg', 'sent_ids': [i],
        'sentences': [{'sent_id': i, 'sent': 'red mug', 'raw': 'Red mug', 'tokens': ['red']}],
    }
    for i in range(2)
]  # fmt: skip
JSON_LINES = [
    {'image': 'a.jpg', 'sentence': 'the red mug', 'bbox': [4, 5, 30, 40], 'object_id': 3},
    {'image': 'b.jpg', 'sentences': ['left', 'right'], 'mask': SQUARE, 'width': 80, 'height': 60},
    {'image': 'b.jpg', 'sentence': 'a plate', 'mask': RLE, 'kind': 'x', 'category': 'plate'},
    {'image': 'a.jpg', 'sentence': 'a', 'mask': 'm.png', 'bbox': [1, 1, 9, 9], 'meta': {'a': 1}},
]
SEQTR = {
    'train': [
        {'bbox': [2, 2, 28, 18], 'expressions': ['zebra', 'the zebra'], 'mask': SQUARE,
         'image_id': 154, 'width': 80, 'height': 60, 'data_source': 'coco'},
        {'bbox': [2, 2, 28, 18], 'expressions': ['cup'], 'image_id': 5, 'file_name': 'b.jpg',
         'ref_id': 3, 'ann_id': 4, 'sent_ids': [7], 'kinds': ['k'], 'iscrowd': 0},
    ],
    'val': [],
}  # fmt: skip
TRANSVG = [
    ('a.jpg', '225429.pth', [4.5, 3.2, 22.6, 19.3], 'man on right', [('r1', ['man'])]),
    ('b.jpg', 'coco', [4.5, 3.2, 22.6, 19.3, [4.0, 4.0, 9.0, 4.0, 9.0, 9.0]], 'dog', []),
    ('c.jpg', [1.0, 2.0, 30.0, 40.0], 'phrase'),
]
VG_REGIONS = [
    {'id': 1, 'regions': [
        {'region_id': 5, 'image_id': 1, 'x': 4, 'y': 5, 'width': 8, 'height': 13,
         'phrase': 'the clock'}]},
]  # fmt: skip
VG_IMAGES = [
    {'image_id': 1, 'url': 'https://x/VG_100K_2/1.jpg', 'width': 80, 'height': 60,
     'coco_id': 7, 'flickr_id': None},
]  # fmt: skip
KARPATHY = {
    'images': [
        {'filepath': 'val2014', 'filename': 'a.jpg', 'imgid': 1, 'cocoid': 5, 'split': split,
         'sentences': [{'raw': 'A woman.', 'tokens': ['a'], 'sentid': 8}]}
        for split in ('train', 'restval')
    ]
}  # fmt: skip
ENTITIES_XML = """<annotation><filename>36979.jpg</filename>
<size><width>80</width><height>60</height><depth>3</depth></size>
<object><name>1</name><name>2</name>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>
<object><name>3</name><scene>1</scene></object></annotation>"""
VOC_XML = """<annotation><filename>a.jpg</filename>
<size><width>80</width><height>60</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"""
BOXES = np.array([[1, 2, 30, 40], [5, 5, 20, 20]], dtype=np.float32)
DETECTRON = {
    'boxes': [BOXES, BOXES], 'objectness_logits': [np.array([1.0, 0.5])] * 2, 'ids': [1, 'b'],
    'bbox_mode': 0,
}  # fmt: skip
MMDET = {'a.jpg': {'bboxes': BOXES, 'scores': np.array([1.0, 0.5])}, 'b.jpg': np.ones((2, 5))}
WEIGHTS = {
    'meta': {'epoch': 1, 'cfg': 'a = 1'},
    'state_dict': {'module.w': torch.ones(2), 'module.b': torch.zeros(1)},
    'optimizer': {'state': {}, 'param_groups': [{'lr': 0.1}]},
    'message_hub': {'runtime_info': {'iter': np.int64(3)}},
}
CONFIG_TEXT = "model = dict(type='A', layers=[1, 2.5, None], on=True)\nlr = 0.1\nname = 'x'\n"


def _butd() -> str:
    numbers = (
        base64.b64encode(np.ones((2, n), np.float32).tobytes()).decode('ascii') for n in (4, 3)
    )
    return '\t'.join(['17', '80', '60', '2', *numbers]) + '\n'


# ------------------------------------------------------------------------------------- the readers


def _dataset(**cfg: Any) -> Callable[[Path], Any]:
    """Builds a data set, strictly and leaving damaged samples out, and reads all of its entries."""

    def read(folder: Path) -> None:
        modes = [dict(skip_invalid=skip) for skip in (False, True)] if grounding else [{}]
        for mode in modes:
            options = dict(data_root=str(folder), pipeline=[], serialize_data=False)  # faster
            dataset = DATASETS.build({**cfg, **options, **mode})
            for i in range(len(dataset)):
                dataset.get_data_info(i)

    grounding = cfg['type'].endswith(('GroundingDataset', 'EntitiesDataset', 'RegionDataset'))
    return read


def _mask_store(folder: Path) -> None:
    store = MaskStore(folder, 'x')
    path = store.path('ab12')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((folder / 'masks.npz').read_bytes())
    store.read('ab12', sorted(store.boxes('ab12')))


def _masks() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = MaskStore(folder, 'x')
        masks = {(i, 0, i + 5, 9): np.eye(20, 30, i, dtype=bool) for i in range(3)}
        store.add('ab12', masks)
        return store.path('ab12').read_bytes()


def _proposals(name: str, format: str | None = None) -> Callable[[Path], Any]:
    """As tools/dataset_converters/proposals.py reads them."""
    return lambda folder: [
        tidy(boxes, scores)
        for _, boxes, scores in read_proposals(
            folder / name, format, ['a'] if format == 'selective_search' else None
        )
    ]


def _proposal_store() -> dict[str, Any]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_store(folder, [('a', BOXES, np.array([1.0, 0.5])), ('b', BOXES, None)])
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    files['index.json'] = json.loads(files['index.json'])
    return files


def _read_store(folder: Path) -> None:
    store = ProposalStore(folder)
    for name in store.names:
        store.read(name)


def _faiss_store() -> dict[str, Any]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        with open_store(folder, 'space') as store:
            store.add(['a', 'b'], np.eye(2, 4, dtype=np.float32), ['1 2 ab', '3 4 cd'])
            store.save()
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    for name in files:
        if name.endswith('.json'):
            files[name] = json.loads(files[name])
    return files


def _read_faiss(folder: Path) -> None:
    with open_store(folder, 'space', create=False) as store:
        store.search(np.ones((1, 4), np.float32), 2)
        store.vectors(store.names())
        store.states()


def _cache() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(folder, 'space')
        cache.put([cache.key(b'a')], np.ones((1, 4), np.float32))
        cache.close()
        return Path(folder, 'embeddings.sqlite').read_bytes()


def _read_cache(folder: Path) -> None:
    cache = EmbeddingCache(folder, 'space')
    try:
        cache.get(cache.key(b'a'))
        len(cache)
    finally:
        cache.close()


class Reader(NamedTuple):
    """A reader and valid files for it: JSON-like documents, text or bytes."""

    files: dict[str, Any]
    read: Callable[[Path], Any]


READERS = {
    'refer': Reader(
        {'instances.json': COCO, 'refs(me).p': REFS},
        _dataset(type='ReferGroundingDataset', ann_file='instances.json', split='train',
                 split_file='refs(me).p', check_images=False),
    ),
    'json_lines': Reader(
        {'train.jsonl': JSON_LINES, 'm.png': PNG},
        _dataset(type='JSONLinesGroundingDataset', ann_file='train.jsonl', check_images=False),
    ),
    'json_lines_with_pictures': Reader(
        {'train.jsonl': JSON_LINES, 'm.png': PNG, 'a.jpg': PNG, 'b.jpg': PNG},
        _dataset(type='JSONLinesGroundingDataset', ann_file='train.jsonl'),
    ),
    'seqtr': Reader(
        {'instances.json': SEQTR},
        _dataset(type='SeqTRGroundingDataset', ann_file='instances.json', split='train',
                 check_images=False),
    ),
    'transvg': Reader(
        {'a_train.pth': TRANSVG},
        _dataset(type='TransVGGroundingDataset', ann_file='a_train.pth', check_images=False),
    ),
    'transvg_legacy': Reader(
        {'a_train.tar': TRANSVG},
        _dataset(type='TransVGGroundingDataset', ann_file='a_train.tar', check_images=False),
    ),
    'visual_genome': Reader(
        {'region_descriptions.json': VG_REGIONS, 'image_data.json': VG_IMAGES},
        _dataset(type='VisualGenomeRegionDataset', ann_file='region_descriptions.json',
                 vg_image_data='image_data.json', check_images=False),
    ),
    'flickr30k_entities': Reader(
        {'train.txt': '36979\n', 'Annotations/36979.xml': ENTITIES_XML,
         'Sentences/36979.txt': '[/EN#1/people Two young guys] with [/EN#2/other a dog] .\n'},
        _dataset(type='Flickr30kEntitiesDataset', ann_file='train.txt', check_images=False),
    ),
    'coco_tags': Reader(
        {'instances.json': COCO, 'a.jpg': b'', 'b.jpg': b''},
        _dataset(type='COCOTagDataset', ann_file='instances.json'),
    ),
    'voc_tags': Reader(
        {'train.txt': 'a\n', 'Annotations/a.xml': VOC_XML, 'JPEGImages/a.jpg': b''},
        _dataset(type='VOCTagDataset', ann_file='train.txt'),
    ),
    'sbd_tags': Reader(
        {'train.txt': 'a\n', 'img/a.jpg': b'',
         'cls/a.mat': _mat(GTcls={'CategoriesPresent': np.array([[1], [3]])})},
        _dataset(type='SBDTagDataset', ann_file='train.txt'),
    ),
    'json_tags': Reader(
        {'tags.json': [{'file_name': 'a.jpg', 'tags': ['cat', 'dog']}], 'a.jpg': b''},
        _dataset(type='TagFileDataset', ann_file='tags.json'),
    ),
    'csv_tags': Reader(
        {'tags.csv': 'file_name,tags\na.jpg,cat,dog\n"b.jpg",cat\n', 'a.jpg': b'', 'b.jpg': b''},
        _dataset(type='TagFileDataset', ann_file='tags.csv'),
    ),
    'text_tags': Reader(
        {'tags.txt': 'a.jpg cat dog\nb.jpg\tcat\n', 'a.jpg': b'', 'b.jpg': b''},
        _dataset(type='TagFileDataset', ann_file='tags.txt'),
    ),
    'precomputed': Reader(
        {'test_caps.txt': 'a dog\na cat\na cow\na bird\n', 'test_ids.txt': '7\n8\n',
         'test_ims.npy': _npy(np.ones((4, 3), np.float32)),
         'test_offsets.npy': _npy(np.array([0, 1, 4]))},
        _dataset(type='PrecompMatchingDataset', split='test', captions_per_image=2),
    ),
    'karpathy': Reader(
        {'dataset.json': KARPATHY},
        _dataset(type='KarpathyMatchingDataset', ann_file='dataset.json', split='train',
                 check_images=False),
    ),
    'coco_captions': Reader(
        {'captions.json': COCO, 'a.jpg': b'', 'b.jpg': b''},
        _dataset(type='COCOCaptionsMatchingDataset', ann_file='captions.json'),
    ),
    'caption_lines': Reader(
        {'captions.txt': 'a.jpg#0\ta dog\na.jpg#1\tthe dog\nb.jpg\ta cat\n'},
        _dataset(type='CaptionFileMatchingDataset', ann_file='captions.txt', check_images=False),
    ),
    'caption_json_lines': Reader(
        {'captions.jsonl': [{'image': 'a.jpg', 'caption': ['a', 'b']}], 'a.jpg': b''},
        _dataset(type='CaptionFileMatchingDataset', ann_file='captions.jsonl'),
    ),
    'butd': Reader(
        {'a.tsv': _butd()},
        lambda folder: (list(read_butd(str(folder / 'a.tsv'))),
                        butd_offsets(str(folder / 'a.tsv'))),
    ),
    'vocabulary': Reader(
        {'vocab.json': {'word2idx': {'<pad>': 0, '<start>': 1, '<end>': 2, '<unk>': 3, 'a': 4},
                        'idx2word': {}, 'idx': 5}},
        lambda folder: Vocabulary.from_file(folder / 'vocab.json').encode('a b'),
    ),
    'word_pieces': Reader(
        {'vocab.txt': '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n'},
        lambda folder: WordPieceTokenizer.from_file(folder / 'vocab.txt')(['a b'], 5),
    ),
    'proposals_detectron': Reader({'p.pkl': DETECTRON}, _proposals('p.pkl')),
    'proposals_mmdet': Reader({'p.pkl': MMDET}, _proposals('p.pkl')),
    'proposals_mcg': Reader({'m/a.mat': _mat(boxes=BOXES, scores=[1.0, 0.5])}, _proposals('m')),
    'proposals_selective_search': Reader(
        {'s.mat': _mat(boxes=np.array([BOXES, None], dtype=object)[:1], images=['a'])},
        _proposals('s.mat', 'selective_search'),
    ),
    'proposals_store': Reader(_proposal_store(), _read_store),
    'masks': Reader({'masks.npz': _masks()}, _mask_store),
    'faiss': Reader(_faiss_store(), _read_faiss),
    'embedding_cache': Reader({'embeddings.sqlite': _cache()}, _read_cache),
    'pickle': Reader({'x.p': [REFS, DETECTRON]}, lambda folder: load_pickle(folder / 'x.p')),
    'torch_legacy': Reader({'x.tar': TRANSVG}, lambda folder: load_legacy_torch(folder / 'x.tar')),
    'checkpoint': Reader({'x.pth': WEIGHTS}, lambda folder: load_checkpoint_file(folder / 'x.pth')),
    'checkpoint_legacy': Reader(
        {'x.tar': WEIGHTS}, lambda folder: load_checkpoint_file(folder / 'x.tar')
    ),
    'weights': Reader({'x.pth': WEIGHTS}, lambda folder: read_weights(folder / 'x.pth')),
    'weights_pickled': Reader(
        {'x.pkl': {'model': {'a': np.ones(2, np.float32)}, '__author__': 'x'}},
        lambda folder: read_weights(folder / 'x.pkl'),
    ),
    'last_checkpoint': Reader(
        {'last_checkpoint': 'epoch_1.pth', 'epoch_1.pth': WEIGHTS}, find_resumable
    ),
    'config_in_checkpoint': Reader(
        {'config.txt': CONFIG_TEXT},
        lambda folder: parse_config_text(
            (folder / 'config.txt').read_text(errors='replace'), str(folder)
        ),
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------ changed documents

ODD = [
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e9, 1e308, float('nan'), float('inf'), 2**31,
    2**63, 10**30, '', ' ', '0', 'nan', 'a\nb', '../../a', '/', '.', 'a\0b', '\ud800', 'ä\u2028',
    'x' * 5000, [], {}, [[]], [None], [0, 0, 0, 0], [1e9, 1e9, 2e9, 2e9], [[1] * 5],
    [[0, 0, 1e9, 0, 1e9, 1e9]], {'size': [2**31, 2**31], 'counts': 'x'},
    {'size': [60, 80], 'counts': [4800]}, {'size': [60, 80], 'counts': '0' * 99},
]  # fmt: skip
SCALARS = st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=6) | st.booleans()
PLAIN = st.recursive(
    SCALARS,
    lambda part: (
        st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=4), part, max_size=3)
    ),
    max_leaves=6,
)
ARRAYS = st.sampled_from(
    [
        np.zeros(0), np.zeros((3, 4)), np.full((2, 4), np.nan), np.arange(3), np.array('x'),
        np.array([{}, None], dtype=object), np.zeros((2, 5), '>f2'), np.ones(2, bool),
        np.float64(1),
    ]
)  # fmt: skip
PICKLED = (
    PLAIN | ARRAYS | st.binary(max_size=6) | st.tuples(SCALARS) | st.sets(st.integers(), max_size=2)
    | st.builds(Hostile) | st.sampled_from([os.system, range(3), 2j, slice(1), Path('a')])
)  # fmt: skip
SAVED = PICKLED | st.sampled_from([torch.ones(2), torch.zeros(0), torch.float32])


def _places(node: Any, path: tuple = ()) -> Iterator[tuple]:
    """Keys and indices that lead to each part of a document."""
    yield path
    children = node.items() if isinstance(node, dict) else ()
    if isinstance(node, (list, tuple)):
        children = enumerate(node)
    for key, child in children:
        yield from _places(child, (*path, key))


def _put(node: Any, path: tuple, change: Callable[[Any, Any], None], value: Any) -> Any:
    """The document with one part changed; tuples are made anew."""
    if not path:
        return value
    key, *rest = path
    kind = type(node)
    node = list(node) if isinstance(node, tuple) else node
    if rest:
        node[key] = _put(node[key], tuple(rest), change, value)
    else:
        change(node, key)
    return tuple(node) if kind is tuple else node


@st.composite
def documents(draw: st.DrawFn, document: Any, values: st.SearchStrategy) -> Any:
    """A document with up to three parts replaced, removed, or put in twice."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(_places(document))))
        value = copy.deepcopy(draw(values))  # it may be changed in its turn
        action = draw(st.sampled_from(['replace', 'replace', 'remove', 'repeat']))

        def change(node: Any, key: Any, action: str = action, value: Any = value) -> None:
            if action == 'remove':
                del node[key]
            elif action == 'repeat' and isinstance(node, list):
                node.insert(key, copy.deepcopy(node[key]))
            elif action == 'repeat':
                node[draw(st.text(max_size=4))] = value
            else:
                node[key] = value

        document = _put(document, path, change, value)
    return document


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes as they are, cut short, with some of them changed, or other ones altogether."""
    kind = draw(st.sampled_from(['whole', 'whole', 'cut', 'change', 'insert', 'other']))
    if kind == 'other':
        return draw(st.binary(max_size=60))
    if not data or kind == 'whole':
        return data
    # torch.save does not write equal content in equally many bytes
    places = st.integers(0, 2**20).map(lambda number: number % len(data))
    place = draw(places)
    if kind == 'cut':
        return data[:place]
    if kind == 'insert':
        odd = [b'\xff', b'[' * 20000, b'9' * 5000, b'\0', b'cposix\nsystem\n(Vtrue\ntR.', b'\n']
        return data[:place] + draw(st.sampled_from(odd) | st.binary(max_size=8)) + data[place:]
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(places)] = draw(st.integers(0, 255))
    return bytes(changed)


@st.composite
def inputs(draw: st.DrawFn, files: dict[str, Any]) -> dict[str, bytes]:
    """The files of a reader, one or all of them changed; a file may be missing."""
    chosen = draw(st.sampled_from([*files, None]))
    made = {}
    for name, document in files.items():
        if chosen not in (name, None):
            made[name] = encode(name, document)
            continue
        if not isinstance(document, (str, bytes)):
            binary = name.endswith(('.p', '.pkl'))
            values = SAVED if name.endswith(('.pth', '.tar')) else PICKLED if binary else PLAIN
            document = draw(documents(document, values))
        made[name] = draw(damaged(encode_any(name, document)))
    if chosen is not None and draw(st.integers(0, 30)) == 0:
        del made[chosen]
    return made


def encode_any(name: str, document: Any) -> bytes:
    """As :func:`encode`; a document that became text or bytes is still a document."""
    suffix = Path(name).suffix
    return ENCODERS[suffix](document) if suffix in ENCODERS else encode(name, document)


def write(folder: Path, files: dict[str, bytes], known: dict[str, Any]) -> None:
    for name in known:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in files:
            path.write_bytes(files[name])
        else:
            path.unlink(missing_ok=True)


def check(reader: Reader, folder: Path) -> None:
    """Reads, and looks at what comes of it."""
    with WATCH, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            reader.read(folder)
        except REFUSALS as error:
            message = str(error)
            assert str(folder) in message, f'{type(error).__name__} without the file: {message!r}'
            assert '\n' not in message, f'more than one line: {message!r}'
    assert not WATCH.seen


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings that count damaged samples are not looked at here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def fuzz(name: str, strategy: st.SearchStrategy, one: Callable[[Any], None]) -> None:
    """Calls ``one`` with many examples; adds their number to ``FUZZ_LOG`` where it is set."""
    count = 0

    def counted(example: Any) -> None:
        nonlocal count
        count += 1
        one(example)

    options = dict(
        max_examples=300 if SECONDS else FAST_EXAMPLES,
        database=DirectoryBasedExampleDatabase('work_dirs/hypothesis') if SECONDS else None,
        deadline=None,
        phases=[p for p in Phase if SECONDS or p is not Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    start, cpu = time.monotonic(), time.process_time()
    try:
        while True:
            turn = time.time_ns() if SECONDS else 0
            seed(turn)(settings(**options)(given(strategy)(counted)))()
            if time.process_time() - cpu >= SECONDS:
                break
    finally:
        if 'FUZZ_LOG' in os.environ:
            row = dict(
                reader=name,
                examples=count,
                seconds=round(time.monotonic() - start, 1),
                cpu_seconds=round(time.process_time() - cpu, 1),
            )
            with open(os.environ['FUZZ_LOG'], 'a') as file:
                file.write(json.dumps(row) + '\n')


@pytest.mark.timeout(0 if SECONDS else 300)
@pytest.mark.parametrize('name', READERS)
def test_any_file(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    folder = tmp_path / 'files'

    def one(files: dict[str, bytes]) -> None:
        write(folder, files, reader.files)
        check(reader, folder)

    write(folder, {file: encode(file, content) for file, content in reader.files.items()},
          reader.files)  # fmt: skip
    reader.read(folder)  # the valid files are valid
    fuzz(name, inputs(reader.files), one)


# What was found, each as short as it can be. Before, they raised something else (IndexError,
# OSError, OverflowError, RecursionError, RuntimeError, TypeError, UnicodeDecodeError, tokenize's,
# zipfile's and SQLite's errors), did not name the file, or, a polygon of RefCOCO's far outside of
# its image, ended the process with a segmentation fault in pycocotools.
# What a zip archive ends with: its directory is in volume 1, and there are 2, of which this is 0.
SEVERAL_VOLUMES = (
    b'PK\x06\x06' + bytes(52)
    + b'PK\x06\x07' + bytes((1, 0, 0, 0)) + bytes(8) + bytes((2, 0, 0, 0))
    + b'PK\x05\x06' + bytes(18)
)  # fmt: skip
FOUND = [
    ('refer', {'refs(me).p': [dict(REFS[0], ref_id=np.zeros((3, 4)))]}),
    ('refer', {'refs(me).p': [dict(REFS[0], sentences=[None])]}),
    ('refer', {'refs(me).p': [{'split': 'train'}]}),
    ('refer', {'instances.json': b'[' * 20000}),
    ('refer', {'instances.json': b'{"images": ' + b'9' * 5000 + b'}'}),
    ('refer', {'instances.json': {'images': [{}], 'annotations': []}}),
    ('refer', {'instances.json': {**COCO, 'categories': [{'id': [], 'name': 'x'}]}}),
    *(
        (
            'refer',
            {'instances.json': {**COCO, 'annotations': [dict(COCO['annotations'][0], **odd)]}},
        )
        for odd in (
            {'segmentation': [[0, 0, 1e9, 0, 1e9, 1e9]]},
            {'segmentation': {'size': [2**31, 2**31], 'counts': [0, 2**62]}},
            {'bbox': [0, 0, 10**400, 1]},
        )
    ),
    ('json_lines', {'train.jsonl': b'\xff'}),
    ('json_lines', {'train.jsonl': [dict(JSON_LINES[0], width=10**30, height=1)]}),
    ('seqtr', {'instances.json': {'train': [dict(SEQTR['train'][0], iscrowd='x')]}}),
    ('seqtr', {'instances.json': {'train': [dict(SEQTR['train'][0], iscrowd=None)]}}),
    ('transvg', {'a_train.pth': b'PK\x05\x06' + bytes(18)}),
    ('transvg', {'a_train.pth': [('a.jpg', {'a': 1}, 'x')]}),
    ('transvg', {'a_train.pth': SEVERAL_VOLUMES}),
    ('transvg_legacy', {'a_train.tar': [('a.jpg', np.array('x'), 'x')]}),
    ('last_checkpoint', {'epoch_1.pth': SEVERAL_VOLUMES}),
    ('flickr30k_entities', {'train.txt': '/'}),
    ('flickr30k_entities', {'Sentences/36979.txt': f'[/EN#{"9" * 5000}/people x]'}),
    ('refer', {'refs(me).p': [dict(REFS[0], split=np.zeros(0)), *REFS]}),
    ('config_in_checkpoint', {'config.txt': b'a = ' + b'[' * 20000}),
    ('visual_genome', {'image_data.json': [dict(VG_IMAGES[0], url=None)]}),
    ('visual_genome', {'region_descriptions.json': 7}),
    ('flickr30k_entities', {'train.txt': b'9' * 5000}),
    ('flickr30k_entities', {'Annotations/36979.xml': b'<?xml version="1.0" encoding="x"?><a/>'}),
    ('voc_tags', {'train.txt': b'9' * 5000}),
    ('voc_tags', {'train.txt': b'a\xff'}),
    ('sbd_tags', {'cls/a.mat': b'x'}),
    ('coco_tags', {'instances.json': {**COCO, 'images': [{'id': 1, 'file_name': {}}]}}),
    ('csv_tags', {'tags.csv': b'a.jpg,\0'}),
    ('csv_tags', {'tags.csv': b'.'}),
    ('json_tags', {'tags.json': {'': []}}),
    ('karpathy', {'dataset.json': {'images': [dict(KARPATHY['images'][0], filepath={})]}}),
    (
        'coco_captions',
        {'captions.json': {**COCO, 'annotations': [{'image_id': [], 'caption': ''}]}},
    ),
    ('word_pieces', {'vocab.txt': b'\xff'}),
    ('proposals_detectron', {'p.pkl': dict(DETECTRON, boxes=None)}),
    ('proposals_detectron', {'p.pkl': dict(DETECTRON, bbox_mode=np.zeros(2))}),
    ('proposals_detectron', {'p.pkl': dict(DETECTRON, objectness_logits=[[1e43, 0.5]] * 2)}),
    ('proposals_mmdet', {'p.pkl': {'a.jpg': {'bboxes': 'x'}}}),
    ('proposals_store', {'scores.npy': b"\x93NUMPY\x01\x00\x04\x00{'[["}),
    ('proposals_store', {'index.json': {'format': 'mmtriad-proposals-1', 'names': [[]]}}),
    ('faiss', {'store.json': []}),
    ('faiss', {'names.1.json': {'0': 'a', '7': 'b'}}),
    ('faiss', {'states.1.json': {'a': 1}}),
    ('faiss', {'states.1.json': ['a']}),
    ('vocabulary', {'vocab.json': {'word2idx': [True]}}),
    (
        'proposals_store',
        {
            'index.json': dict(
                READERS['proposals_store'].files['index.json'], names=['a', 'a', 'a', 'b']
            )
        },
    ),
    ('pickle', {'x.p': b'c\x1b[2J\nevil\n.'}),
    ('pickle', {'x.p': b'\x80\x04\x8c\x03a\nb\x8c\x01c\x93.'}),
    ('embedding_cache', {'embeddings.sqlite': _cache()[:4200] + b'x' * 4000}),
    ('checkpoint', {'x.pth': b'a'}),
    ('pickle', {'x.p': b'Fx\n.'}),
    ('weights_pickled', {'x.pkl': {'model': {'a': np.ones(2, np.longdouble)}}}),
    ('weights_pickled', {'x.pkl': {'model': {'a': np.ones(2, '>f4')}}}),
    ('torch_legacy', {'x.tar': b''}),
    ('last_checkpoint', {'last_checkpoint': b'\xff\0'}),
    ('proposals_mcg', {'m/a.mat': CRASHING_MAT}),
    ('json_lines_with_pictures', {'m.png': b''}),
]


@pytest.mark.parametrize('case', range(len(FOUND)))
def test_found_by_fuzzing(case: int, tmp_path: Path) -> None:
    name, changed = FOUND[case]
    reader, folder = READERS[name], tmp_path / 'files'
    files = {file: encode(file, content) for file, content in reader.files.items()}
    for file, content in changed.items():
        is_raw = isinstance(content, bytes)
        files[file] = content if is_raw else encode_any(file, content)
    write(folder, files, reader.files)
    check(reader, folder)


# --------------------------------------------------------------------------------- config overrides


KEYS = st.sampled_from(
    [
        'model', 'model.backbone', 'model.backbone.depth', 'train_dataloader.batch_size',
        'randomness.seed', 'optim_wrapper.clip_grad.max_norm', 'default_hooks.logger.interval',
        'data_root', 'x', '0', 'a.b.c', 'train_dataloader.dataset.pipeline.0.type',
        'train_dataloader.dataset.pipeline.99', '..', '.a', 'a.',
    ]
)  # fmt: skip
VALUES = st.sampled_from(
    ['1', '-1', '1e999', 'True', 'None', '[', ']', '(', '[1,2', '[[1,2],(3,4)]', "'a", '"', '{}']
)


def test_any_override(repo_root: Path, capsys) -> None:
    """`--cfg-options` in any words ends in a config or in one line, of argparse or of ours."""
    cfg = load_config(repo_root / 'configs/pdsl/pdsl_tiny_1xb4-600_scenes.py')
    parser = argparse.ArgumentParser()
    add_run_options(parser, example='a=1')
    word = st.builds('{}={}'.format, KEYS | st.text(max_size=6), VALUES | st.text(max_size=6))

    def one(words: list[str]) -> None:
        with WATCH:
            try:
                options = parser.parse_args(['--cfg-options', *words]).cfg_options
                check_cfg_options(cfg, options)
            except SystemExit as end:
                assert end.code == 2
                assert 'error: ' in capsys.readouterr().err
            except InputError as error:
                assert '\n' not in str(error) and '--cfg-options' in str(error)
            else:
                changed = copy.deepcopy(cfg)
                changed.merge_from_dict(options)
        assert not WATCH.seen

    fuzz('overrides', st.lists(word | st.text(max_size=8), min_size=1, max_size=3), one)
