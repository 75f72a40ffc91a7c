"""Searching real folders: which files are read, encoded, found, folded, sorted and named.

Each case says what people have, and what is right.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image
from torch import nn

from projects.common.errors import InputError
from projects.common.files.image_reader import as_rgb
from projects.common.files.reduced_decoding import decode_reduced
from projects.common.scenes import generate_scene
from projects.common.text import WordPieceTokenizer
from projects.rvse import Reranker, RetrievalInferencer
from projects.rvse.retrieval import image_stream, indexing
from projects.rvse.text import Vocabulary

SENTENCES = ['a large red circle', 'a small yellow heart above a star', 'two green squares']
CASES = []


def case(kind: str, have: str, right: str) -> Callable:
    """Add a function of the fixture ``field`` to the table."""

    def add(check: Callable) -> Callable:
        CASES.append(pytest.param(check, id=f'{kind}: {have}: {right}'))
        return check

    return add


@pytest.fixture(scope='module')
def search(repo_root) -> RetrievalInferencer:
    return RetrievalInferencer(
        weights=repo_root / 'demo/models/rvse-scenes', device='cpu', show_progress=False
    )


@pytest.fixture
def field(search, repo_root, tmp_path, call_tool, log, monkeypatch) -> SimpleNamespace:
    """A folder with eight scenes, a model, and what enters its encoder and is read."""
    monkeypatch.chdir(tmp_path)
    for i in range(8):
        draw(f'photos/{i}.png', i)
    field = SimpleNamespace(
        search=search, folder=tmp_path, run=call_tool, log=log, monkeypatch=monkeypatch,
        weights=repo_root / 'demo/models/rvse-scenes', encoded=0, read=[],
    )  # fmt: skip
    encode, read = search.model.encode_images, image_stream.read_content

    def counted(inputs):
        field.encoded += len(inputs)
        return encode(inputs)

    monkeypatch.setattr(search.model, 'encode_images', counted)
    monkeypatch.setattr(
        image_stream, 'read_content', lambda path: (field.read.append(str(path)), read(path))[1]
    )
    return field


# -------------------------------------------------------------------------------------- helpers


def draw(path: str | Path, seed: int, age: float = 60.0) -> np.ndarray:
    """Write a scene, last changed ``age`` seconds ago, and return it (H, W, 3) in RGB."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = generate_scene(seed, image_size=64).image[..., ::-1]
    Image.fromarray(image).save(path)
    os.utime(path, (time.time() - age,) * 2)
    return image


def write_jpeg(path: Path, size: tuple[int, int], orientation: int = 1, seed: int = 0) -> Path:
    """Write a JPEG of (width, height), with details that a reduction must not garble."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), np.uint8)
    image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(path, 'JPEG', exif=exif, quality=92)
    return path


def by_hand(search: RetrievalInferencer, image: np.ndarray) -> np.ndarray:
    """The embedding of an RGB image, without the inferencer's code: OpenCV and the model."""
    small = cv2.resize(image, (128, 128), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    tensor = torch.from_numpy((small - np.float32(mean)) / np.float32(std)).permute(2, 0, 1)
    with torch.no_grad():
        return search.model.encode_images(tensor[None])[0][0].numpy()


def vectors_of(field, store: str, names: list[str]) -> np.ndarray:
    with field.search.open_store(store, create=False) as opened:
        return opened.vectors(names)


def check_vectors(field, store: str, images: dict[str, np.ndarray]) -> None:
    """The store has these entries with the embeddings of these images, and no others."""
    with field.search.open_store(store, create=False) as opened:
        assert opened.names() == sorted(images)
    expected = np.stack([by_hand(field.search, image) for image in images.values()])
    np.testing.assert_allclose(vectors_of(field, store, list(images)), expected, atol=1e-4)


def scenes(count: int = 8) -> dict[str, np.ndarray]:
    return {
        f'photos/{i}.png': generate_scene(i, image_size=64).image[..., ::-1] for i in range(count)
    }


def write_scan(field, path: Path) -> Path:
    """A matcher with cross attention, as training leaves it, that knows the same words."""
    cfg = Config.fromfile(field.weights / 'config.py')
    cfg.model.similarity = dict(type='SCANSimilarity', direction='t2i')
    cfg.model.image_encoder = dict(type='RegionFC', in_channels=128, channels=128)
    cfg.model.text_encoder.update(pool=None, vocab_size=64)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.text_encoder.set_vocabulary(Vocabulary.build(SENTENCES, min_count=1))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text)), path)
    return path


# ----------------------------------------------------------------------------------- re-indexing


@case('again', 'a folder that has not changed', 'no file is read')
def _(field) -> None:
    assert field.search.index('photos', 'store') == 8
    check_vectors(field, 'store', scenes())
    field.read.clear()
    field.encoded = 0
    assert field.search.index('photos', 'store') == 0
    assert not field.read and not field.encoded
    assert any('8 of 8 images have not changed' in line for line in field.log)
    check_vectors(field, 'store', scenes())


@case('again', 'two new images and a changed one', 'three are read and encoded, in one batch')
def _(field) -> None:
    for store in ('store', f'milvus:{field.folder}/m.db'):
        for i in range(8):
            draw(f'photos/{i}.png', i)
        field.search.index([f'photos/{i}.png' for i in range(6)], store)
        field.read.clear()
        field.encoded = 0
        images = {**scenes(), 'photos/3.png': draw('photos/3.png', 30, age=30)}
        assert field.search.index('photos', store) == 3
        assert sorted(field.read) == ['photos/3.png', 'photos/6.png', 'photos/7.png']
        assert field.encoded == 3
        check_vectors(field, store, images)


@case('again', 'files with new dates but the same content', 'read once, never encoded')
def _(field) -> None:
    field.search.index('photos', 'store')
    for path in Path('photos').iterdir():
        os.utime(path, (1, 1))
    field.encoded = 0
    field.read.clear()
    with field.monkeypatch.context() as patch:
        patch.setattr(field.search, '_load_sample', lambda *_: pytest.fail('decoded in vain'))
        assert field.search.index('photos', 'store') == 0
    assert len(field.read) == 8 and not field.encoded
    assert field.search.index('photos', 'store') == 0
    assert len(field.read) == 8
    check_vectors(field, 'store', scenes())


@case('again', 'an image changed a moment after it was indexed', 'noticed, at the same size')
def _(field) -> None:
    old, new = Path('photos/0.png').read_bytes(), draw('b.png', 50)
    content = Path('b.png').read_bytes()
    size = max(len(old), len(content)) + 8
    now = time.time_ns()
    Path('photos/0.png').write_bytes(old.ljust(size, b'\0'))
    os.utime('photos/0.png', ns=(now, now))  # a clock of seconds shows no change
    field.search.index('photos', 'store')
    Path('photos/0.png').write_bytes(content.ljust(size, b'\0'))
    os.utime('photos/0.png', ns=(now, now))
    assert field.search.index('photos', 'store') == 1
    check_vectors(field, 'store', {**scenes(), 'photos/0.png': new})


@case('again', 'files that were renamed, without a cache', 'not encoded again')
def _(field) -> None:
    field.search.index('photos', 'store')
    Path('photos/0.png').rename('photos/z.png')
    field.encoded = 0
    assert field.search.index('photos', 'store') == 1
    assert field.search.prune('store') == ['photos/0.png']
    assert not field.encoded
    images = scenes()
    images['photos/z.png'] = images.pop('photos/0.png')
    check_vectors(field, 'store', images)


@case('again', 'names that have been exchanged, between saves or not', 'each has its own')
def _(field) -> None:
    for interval in (30.0, 0.0):
        field.monkeypatch.setattr(indexing, '_SAVE_INTERVAL', interval)
        field.monkeypatch.setattr(indexing, '_SAVE_SHARE', 1e9)
        for i in range(8):
            draw(f'photos/{i}.png', i)
        store = f'store{interval}'
        field.search.index('photos', store, batch_size=1)
        # 0 -> 1 -> 2 -> 3 -> 0, and 4 is new while 5 has what it had
        for name in '0123':
            Path(f'photos/{name}.png').rename(f'{name}.png')
        for name, other in zip('0123', '1230'):
            Path(f'{name}.png').rename(f'photos/{other}.png')
        Path('photos/4.png').replace('photos/5.png')
        new = draw('photos/4.png', 40)
        field.encoded = 0
        field.search.index('photos', store, batch_size=1)
        assert field.encoded == 1
        old = list(scenes().values())
        images = dict(zip(scenes(), [old[3], *old[:3], new, old[4], *old[6:]]))
        check_vectors(field, store, images)


@case('again', 'one image in many folders', 'encoded once')
def _(field) -> None:
    for folder in 'abcde':
        shutil.copytree('photos', f'all/{folder}')
    assert field.search.index('all', 'store', batch_size=3) == 40
    assert field.encoded == 8
    images = {f'all/{f}/{Path(n).name}': i for n, i in scenes().items() for f in 'abcde'}
    check_vectors(field, 'store', images)
    field.encoded = 0
    vectors = field.search.encode_images(sorted(images), batch_size=3)
    assert field.encoded == 8
    np.testing.assert_allclose(vectors, vectors_of(field, 'store', sorted(images)), atol=1e-5)


@case('again', 'an approximate index that replaces nothing', 'unchanged images do not matter')
def _(field) -> None:
    with field.search.open_store('store', factory='HNSW8') as store:
        field.search.index('photos', store)
        draw('photos/8.png', 8)
        assert field.search.index('photos', store) == 1
        draw('photos/3.png', 30, age=30)
        with pytest.raises(InputError, match="'photos/3.png' is there already"):
            field.search.index('photos', store)


@case('again', 'an index that an earlier version has made', 'read and encoded once more')
def _(field) -> None:
    field.search.index('photos', 'store')
    Path('store/states.1.json').unlink()
    assert field.search.index('photos', 'store') == 8
    assert field.search.index('photos', 'store') == 0


# A process of its own: a fork of this one has the threads of other tests, stopped anywhere.
KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from projects.rvse import RetrievalInferencer
search = RetrievalInferencer(weights=sys.argv[1], device='cpu', cache_dir='cache')
encode, batches = search.model.encode_images, []

def killed(inputs):
    batches.append(len(inputs))
    if len(batches) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(inputs)

search.model.encode_images = killed
search.index('photos', 'store', batch_size=2)
"""


@case('kill', 'SIGKILL while images are encoded', 'the cache has all that were, none twice')
def _(field) -> None:
    done = subprocess.run([sys.executable, '-c', KILLED, field.weights], cwd=field.folder)
    assert done.returncode == -signal.SIGKILL
    field.monkeypatch.setattr(
        field.search, 'cache', image_stream.EmbeddingCache('cache', field.search.space)
    )
    assert field.search.index('photos', 'store', batch_size=2) == 8
    assert field.encoded == 2  # those that were in the encoder
    check_vectors(field, 'store', scenes())


@case('progress', 'an output that is no terminal', 'a line after the first second')
def _(field) -> None:
    slow = field.search.model.encode_images
    field.monkeypatch.setattr(
        field.search.model, 'encode_images', lambda x: (time.sleep(0.6), slow(x))[1]
    )
    field.monkeypatch.setattr(field.search, 'show_progress', True)
    lines: list[str] = []
    field.monkeypatch.setattr(
        'builtins.print', lambda *text, **_: lines.append(' '.join(map(str, text)))
    )
    field.search.index('photos', 'store', batch_size=2)
    assert [line for line in lines if line.startswith('images: 3/8')]
    assert not [line for line in lines if line.startswith('images: 4/8')]  # not each of them


@case('reading', 'many images', 'several are read at a time, and a few ahead')
def _(field) -> None:
    together, most, waiting = 0, 0, threading.Barrier(2, timeout=20)
    lock = threading.Lock()

    def read(i: int) -> int:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        if i < 2:
            waiting.wait()  # never passes if they come one by one
        with lock:
            together -= 1
        return i

    taken: list[int] = []
    items = (taken.append(i) or i for i in range(50))
    results = image_stream.read_ahead(read, items, ahead=5, threads=2)
    assert next(results) == 0 and len(taken) == 6
    assert list(results) == list(range(1, 50)) and most == 2


@case('reading', 'an opened PIL image that is given several times', 'one thread loads it')
def _(field) -> None:
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (200, 250, 3), np.uint8), (1500, 1200))
    Image.fromarray(pixels).save('large.png')
    vectors = field.search.encode_images([Image.open('large.png')] * 6)
    np.testing.assert_allclose(vectors, [by_hand(field.search, pixels)] * 6, atol=1e-4)


# ---------------------------------------------------------------------------------- large JPEGs


@case('JPEG', 'a path, its bytes, an opened PIL image', 'one answer, by reduced decoding')
def _(field) -> None:
    for orientation in (1, 3, 6):
        path = write_jpeg(Path(f'{orientation}.jpg'), (1100, 700), orientation)
        opened = Image.open(path)
        given = [str(path), path.read_bytes(), opened]
        first, *others = (field.search.encode_images([each])[0] for each in given)
        assert all(np.array_equal(first, other) for other in others)
        assert opened.size == (1100, 700)  # the caller's own is as it was
        with Image.open(path) as half:
            half.draft(None, (128, 128))
            assert half.size == (275, 175)  # a quarter; an eighth is less than 128 high
            pixels = np.asarray(as_rgb(half))
        np.testing.assert_allclose(first, by_hand(field.search, pixels), atol=1e-4)
        full = by_hand(field.search, np.asarray(as_rgb(Image.open(path))))
        assert first @ full > 0.8 and not np.allclose(first, full, atol=1e-4)


@case('JPEG', 'a sideways one', 'what the model reads decides, upright')
def _(field) -> None:
    content = write_jpeg(Path('a.jpg'), (1200, 800), orientation=6).read_bytes()
    upright = {(800, 1200): (300, 145)}  # a half is 400 wide; a quarter 300 high, but 200 wide
    found = decode_reduced(content, 'a.jpg', lambda *size: upright[size])
    with Image.open('a.jpg') as half:
        half.draft(None, (600, 400))
        np.testing.assert_array_equal(found[..., ::-1], np.asarray(as_rgb(half)))
    assert found.shape == (600, 400, 3)


@case('JPEG', 'one that is less than twice as large as the input', 'every pixel counts')
def _(field) -> None:
    for size in ((255, 1000), (1000, 255), (128, 128)):
        path = write_jpeg(Path('a.jpg'), size)
        pixels = cv2.imread(str(path))[..., ::-1]
        found = field.search.encode_images([path])[0]
        np.testing.assert_allclose(found, by_hand(field.search, pixels), atol=1e-4)


@case('JPEG', 'a large one that is cut off, or has too many pixels', 'one line names it')
def _(field) -> None:
    path = write_jpeg(Path('a.jpg'), (1200, 800))
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(InputError, match=r'image a\.jpg: not readable'):
        field.search.index([path], 'store')
    field.monkeypatch.setattr(field.search, 'max_pixels', 500_000)
    write_jpeg(Path('b.jpg'), (1200, 800))
    with pytest.raises(InputError, match=r'image b\.jpg: 1,200 x 800 pixels; expected at most'):
        field.search.index(['b.jpg'], 'store')


@case('JPEG', 'an index made without reduced decoding', 'belongs to another space')
def _(field) -> None:
    cfg = Config.fromfile(field.weights / 'config.py')
    step = cfg.test_dataloader.dataset.pipeline[1]
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='mmpretrain.CenterCrop', crop_size=9))
    unknown = RetrievalInferencer(cfg, field.weights, 'cpu')
    assert unknown.resized is None and field.search.resized is not None
    assert step.scale == (128, 128) == field.search.resized(4000, 3000)


# --------------------------------------------------------------------------------------- entries


@case('entries', 'images that were deleted', 'a line names those found; --prune removes them')
def _(field) -> None:
    options = ('--weights', field.weights, '--device', 'cpu')
    field.run('infer.py', 'retrieval', 'index', 'photos', '--store', 'store', *options)
    for i in (2, 5):
        Path(f'photos/{i}.png').unlink()
    hits = field.search(SENTENCES[0], 'store', top_k=8)[0]
    assert len(hits) == 8
    (line,) = [line for line in field.log if 'gone' in line]
    assert '2 of the images found are gone: photos/2.png, photos/5.png' in line
    done = field.run('infer.py', 'retrieval', 'list', '--store', 'store', '--gone')
    assert done.out.split() == ['photos/2.png', 'photos/5.png']
    done = field.run(
        *('infer.py', 'retrieval', 'search', SENTENCES[0], '--store', 'store', '--top-k', 8),
        *('--prune', *options),
    )
    assert 'store: 2 entries removed, whose images are gone' in done.out
    assert done.out.count('photos/') == 6 and 'photos/2.png' not in done.out
    check_vectors(field, 'store', {k: v for k, v in scenes().items() if k[7] not in '25'})


@case('entries', 'a store asked from another folder', 'not all of it is pruned')
def _(field) -> None:
    field.search.index('photos', 'store')
    Path('elsewhere').mkdir()
    field.monkeypatch.chdir('elsewhere')
    with pytest.raises(InputError, match=r"all 8 images of the store are gone, such as 'photos/0"):
        field.search.prune('../store')
    with field.search.open_store('../store', create=False) as store:
        assert len(store) == 8


@case('entries', 'a folder removed with `retrieval index --prune`', 'only its images are gone')
def _(field) -> None:
    shutil.copytree('photos', 'more')
    for name in ('photos', 'more'):
        field.search.index(name, 'store')
    shutil.rmtree('more')
    done = field.run(
        *('infer.py', 'retrieval', 'index', 'photos', '--store', 'store', '--prune'),
        *('--weights', field.weights, '--device', 'cpu'),
    )
    assert 'store: 8 entries removed, whose images are gone' in done.out
    assert done.out.strip().endswith('store: 0 entries added or replaced, 8 in all')
    check_vectors(field, 'store', scenes())


@case('entries', 'names to remove, without a model', 'listed, removed, or one line')
def _(field) -> None:
    for store in ('store', f'milvus:{field.folder}/m.db'):
        field.search.index('photos', store)
        place = ('--store', store)
        done = field.run('infer.py', 'retrieval', 'list', *place)
        assert done.out.split() == sorted(scenes())
        done = field.run('infer.py', 'retrieval', 'remove', 'photos/1.png', 'photos/7.png', *place)
        assert done.out.strip().endswith('2 entries removed, 6 left')
        done = field.run('infer.py', 'retrieval', 'remove', 'photos/1.png', *place, rc=1)
        assert done.err.strip() == f"error: store {store}: no entry 'photos/1.png'"
        left = {k: v for k, v in scenes().items() if k[7] not in '17'}
        check_vectors(field, store, left)
    done = field.run('infer.py', 'retrieval', 'list', '--store', 'none', rc=1)
    assert done.err.strip() == 'error: store none: does not exist; index something first'


@case('entries', 'sentences', 'never gone, removed by their text')
def _(field) -> None:
    field.search.index(SENTENCES, 'store')
    field.search('photos/0.png', 'store')
    assert field.search.prune('store') == [] and not [line for line in field.log if 'gone' in line]
    field.search.remove(SENTENCES[1], 'store')
    with field.search.open_store('store', create=False) as store:
        assert store.names() == sorted([SENTENCES[0], SENTENCES[2]])
        assert SENTENCES[0] in store and SENTENCES[1] not in store


# --------------------------------------------------------------------------------------- results


@case('results', 'a query that nothing fits', 'a threshold leaves out what is less similar')
def _(field) -> None:
    field.search.index('photos', 'store')
    every = field.search(SENTENCES, 'store', top_k=8)
    words = field.search.encode_sentences(SENTENCES)
    cosines = words @ np.stack([by_hand(field.search, image) for image in scenes().values()]).T
    least = float(np.median(cosines))
    found = field.search(SENTENCES, 'store', top_k=8, min_similarity=least)
    for hits, row, before in zip(found, cosines, every):
        assert [hit.name for hit in hits] == [
            hit.name for hit in before if row[int(hit.name[7])] >= least
        ]
    done = field.run(
        *('infer.py', 'retrieval', 'search', SENTENCES[0], '--store', 'store'),
        *('--min-similarity', 1, '--weights', field.weights, '--device', 'cpu'),
    )
    assert f'{SENTENCES[0]}: nothing is similar enough' in done.out


@case('results', 'many copies of one image', 'one answer with their number')
def _(field) -> None:
    for i in range(30):  # the same scene, stored at other qualities
        image = Image.fromarray(generate_scene(0, image_size=64).image[..., ::-1])
        image.save(f'photos/0 copy {i:02}.jpg', quality=60 + i)
    field.search.index('photos', 'store')
    query = 'photos/0.png'
    with field.search.open_store('store', create=False) as store:
        names = store.names()
        vectors = store.vectors(names)
    scores = vectors @ by_hand(field.search, generate_scene(0, image_size=64).image[..., ::-1])
    expected: list[tuple[int, list[str]]] = []  # brute force: each into the first it resembles
    for i in np.argsort(-scores, kind='stable'):
        for leader, folded in expected:
            if vectors[leader] @ vectors[i] >= 0.9:
                folded.append(names[i])
                break
        else:
            expected.append((i, []))
    assert len(expected[0][1]) >= 30 > 2 * 4
    for top_k in (1, 3, len(expected)):
        (hits,) = field.search(query, 'store', top_k=top_k, fold_duplicates=0.9)
        assert [hit.name for hit in hits] == [names[i] for i, _ in expected[:top_k]]
        assert sorted(hits[0].duplicates) == sorted(expected[0][1])
    done = field.run(
        *('infer.py', 'retrieval', 'search', query, '--store', 'store', '--out', 'hits.json'),
        *('--weights', field.weights, '--device', 'cpu', '--fold-duplicates', '0.9'),
    )
    assert f'photos/0.png (and {len(expected[0][1])} like it)' in done.out
    saved = json.loads(Path('hits.json').read_text())[0]['hits'][0]
    assert sorted(saved['duplicates']) == sorted(expected[0][1])
    with pytest.raises(InputError, match='fold_duplicates=98: expected a cosine'):
        field.search(query, 'store', fold_duplicates=98)


@case('results', 'words that a model has not learnt', 'a line names them')
def _(field) -> None:
    field.search.index('photos', 'store')
    field.search(['a red zebra, above a Zebra and a qwx!', 'a red circle'], 'store')
    (line,) = [line for line in field.log if 'does not know' in line]
    assert line.endswith("the model does not know 'zebra', 'qwx'")
    tokenizer = WordPieceTokenizer(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'do', '##g'])
    assert tokenizer.unknown_words('A dog, a cät') == [',', 'cät']


@case('results', 'a second model with cross attention', 'sorts the first ones, as by brute force')
def _(field) -> None:
    reranker = Reranker(weights=write_scan(field, field.folder / 'scan.pth'), device='cpu')
    field.search.index('photos', 'store')
    names = sorted(scenes())
    expected = np.zeros((8, 3))
    for i, image in enumerate(scenes().values()):  # pair by pair, by the formula of SCAN t2i
        small = cv2.resize(image, (128, 128)).astype(np.float32)
        mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
        pixels = torch.from_numpy((small - np.float32(mean)) / np.float32(std)).permute(2, 0, 1)
        with torch.no_grad():
            regions = reranker.model.encode_images(pixels[None])[0][0].double()
            for j, sentence in enumerate(SENTENCES):
                words = reranker.model.encode_captions([sentence])[0][0].double()
                weights = (words @ regions.T).clamp(min=0)
                weights = torch.where(words @ regions.T > 0, weights, 0.1 * words @ regions.T)
                weights = weights / (weights.norm(dim=0, keepdim=True) + 1e-8)
                context = (9 * weights).softmax(dim=1) @ regions
                expected[i, j] = torch.cosine_similarity(words, context, dim=1).mean()
    np.testing.assert_allclose(reranker(names, SENTENCES, batch_size=3), expected, atol=1e-4)
    found = field.search(SENTENCES, 'store', top_k=3, reranker=reranker, rerank=5)
    first = field.search(SENTENCES, 'store', top_k=5)
    for j, hits in enumerate(found):
        candidates = [names.index(hit.name) for hit in first[j]]
        order = sorted(candidates, key=lambda i: -expected[i, j])[:3]
        assert [hit.name for hit in hits] == [names[i] for i in order]
        assert [hit.score for hit in hits] == pytest.approx(expected[order, j], abs=1e-4)
    done = field.run(
        *('infer.py', 'retrieval', 'search', SENTENCES[0], '--store', 'store', '--top-k', 3),
        *('--rerank', 5, '--rerank-weights', 'scan.pth'),
        *('--weights', field.weights, '--device', 'cpu'),
    )
    lines = [f'    {hit.score:.3f}  {hit.name}' for hit in found[0]]
    assert done.out.strip().splitlines()[-3:] == [line.rstrip() for line in lines]
    # the other way round, and what cannot be
    field.search.index(SENTENCES, 'sentences')
    hits = field.search('photos/4.png', 'sentences', top_k=3, reranker=reranker)[0]
    order = np.argsort(-expected[4])
    assert [hit.name for hit in hits] == [SENTENCES[j] for j in order]
    with pytest.raises(InputError, match="the entry 'photos/.*' are both images"):
        field.search('photos/4.png', 'store', reranker=reranker)
    with pytest.raises(InputError, match='are both sentences'):
        field.search('a red circle', 'sentences', reranker=reranker)
    with pytest.raises(InputError, match='rerank=2: expected at least top_k=5'):
        field.search('a red circle', 'store', reranker=reranker, rerank=2)
    for name in names[1:]:
        Path(name).unlink()
    (hits,) = field.search('a red circle', 'store', reranker=reranker)
    assert [hit.name for hit in hits] == names[:1]
    assert any('left out, because the reranker reads images' in line for line in field.log)


class BagOfWords(nn.Module):
    """A text encoder of another maker: the documented methods and nothing else."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(97, channels)

    def tokenize(self, captions):
        rows = [[len(word) * 7 % 97 for word in caption.split()] for caption in captions]
        lengths = torch.tensor([len(row) for row in rows])
        return nn.utils.rnn.pad_sequence(list(map(torch.tensor, rows)), True), lengths

    def forward(self, ids, lengths):
        rows = [self.embed(row[:n][None]) for row, n in zip(ids, lengths)]
        return nn.functional.normalize(torch.cat(rows), dim=1), lengths


@case('results', 'a text encoder of another maker', '`tokenize` and `forward` suffice')
def _(field) -> None:
    field.monkeypatch.setitem(MODELS.module_dict, 'BagOfWords', BagOfWords)
    cfg = Config.fromfile(field.weights / 'config.py')
    cfg.model.text_encoder = dict(type='BagOfWords', channels=128)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text)), 'bag.pth')
    search = RetrievalInferencer(cfg, 'bag.pth', 'cpu', show_progress=False)
    search.index('photos', 'store')
    (hits,) = search('any words at all', 'store', top_k=8)
    with torch.no_grad():
        ids = torch.tensor([[3 * 7, 5 * 7, 2 * 7, 3 * 7]])
        words = nn.functional.normalize(model.text_encoder.embed(ids), dim=1)[0].numpy()
    scores = [by_hand(search, image) @ words for image in scenes().values()]
    assert [hit.name for hit in hits] == [f'photos/{i}.png' for i in np.argsort(scores)[::-1]]
    assert not [line for line in field.log if 'does not know' in line]
    for change, message in (
        (dict(tokenize=None), 'BagOfWords: it has no method `tokenize`'),
        (dict(forward=lambda self, ids, n: (torch.zeros(1, 2, 3), n)), r'shape \(1, 2, 3\)'),
    ):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in change.items():
                patch.setattr(BagOfWords, name, value)
            with pytest.raises(InputError, match=message):
                RetrievalInferencer(cfg, 'bag.pth', 'cpu').encode_sentences('a dog')


@pytest.mark.parametrize('check', CASES)
def test_search(check: Callable, field) -> None:
    check(field)
