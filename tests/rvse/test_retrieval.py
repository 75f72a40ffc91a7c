"""Galleries: stores against brute force and each other, the cache, the inferencer, the command."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

import projects.rvse.register  # noqa: F401
from projects.rvse import RetrievalInferencer
from projects.rvse.retrieval import EmbeddingCache, FaissStore, open_store
from projects.rvse.text import Vocabulary

SPACE = 'a' * 32
SENTENCES = ['a red ball', 'two dogs run', 'green grass', 'a dog on grass']


def unit_vectors(count: int, channels: int = 24, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, channels)).astype('f4')
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(names: list[str], vectors: np.ndarray, queries: np.ndarray, top_k: int) -> list:
    """Names and scores, best first."""
    scores = queries.astype('f8') @ vectors.astype('f8').T
    order = np.argsort(-scores, axis=1)[:, :top_k]
    return [[(names[i], row[i]) for i in best] for row, best in zip(scores, order)]


def check_hits(found, expected) -> None:
    assert len(found) == len(expected)
    for hits, best in zip(found, expected):
        assert [hit.name for hit in hits] == [name for name, _ in best]
        assert [hit.score for hit in hits] == pytest.approx([s for _, s in best], abs=1e-6)


@pytest.fixture(params=['faiss', 'milvus'])
def uri(request, tmp_path) -> str:
    return {'faiss': str(tmp_path / 'store'), 'milvus': f'milvus:{tmp_path}/store.db'}[
        request.param
    ]


def test_store_equals_brute_force(uri):
    """Added to in steps, an entry replaced, opened again: always exact."""
    names, vectors = [f'n{i} é' for i in range(60)], unit_vectors(60)
    queries = unit_vectors(7, seed=1)
    with open_store(uri, SPACE) as store:
        assert len(store) == 0
        with pytest.raises(ValueError, match='it is empty'):
            store.search(queries, 3)
        store.add(names[:40], vectors[:40])
        check_hits(store.search(queries, 5), brute_force(names[:40], vectors[:40], queries, 5))
        store.add(names[40:], vectors[40:])
        store.save()
    changed = vectors.copy()
    changed[3] = queries[0]
    with open_store(uri, SPACE) as store:
        assert len(store) == 60
        check_hits(store.search(queries, 60), brute_force(names, vectors, queries, 60))
        store.add([names[3]], queries[:1])
        assert len(store) == 60
        check_hits(store.search(queries, 4), brute_force(names, changed, queries, 4))
        with pytest.raises(ValueError, match=r'shape \(1, 5\), expected \(N, 24\)'):
            store.add(['x'], np.ones((1, 5), 'f4'))
        with pytest.raises(ValueError, match='NaN'):
            store.add(['x'], np.full((1, 24), np.nan, 'f4'))
        with pytest.raises(ValueError, match='2 names, 1 vectors'):
            store.add(['x', 'y'], queries[:1])
        store.save()
    with open_store(uri, SPACE) as store:
        check_hits(store.search(queries, 4), brute_force(names, changed, queries, 4))
    with pytest.raises(ValueError, match='another model or other weights'):
        open_store(uri, 'b' * 32)


ODD = ['a"b', "c'd", 'e\\f', 'g é\n', '%s {x}', '日本', '\ttab\r', 'name in ["a"]']


def test_entries_are_listed_read_and_removed(uri):
    """By names of any kind; what is left is found as by brute force."""
    names, vectors = [*ODD, *(f'n{i}' for i in range(30))], unit_vectors(38)
    states = [f's{i}' for i in range(38)]
    queries = unit_vectors(3, seed=1)
    with open_store(uri, SPACE) as store:
        assert store.names() == [] and store.states() == {} and 'n1' not in store
        with pytest.raises(ValueError, match="no entry 'n1'"):
            store.remove(['n1'])
        store.add(names, vectors, states)
        store.add(['n29'], vectors[:1])  # replaced by one of unknown state
        store.save()
    vectors[-1] = vectors[0]
    with open_store(uri, None) as store:
        assert store.names() == sorted(names)
        assert store.states() == dict(zip(names[:-1], states[:-1]))
        assert all(name in store for name in names)
        assert 'n30' not in store and None not in store and 'caf\udce9' not in store
        chosen = [5, 0, 36, 5]
        assert np.array_equal(store.vectors([names[i] for i in chosen]), vectors[chosen])
        assert store.vectors([]).shape == (0, 24)
        for gone in (['n30'], ['n1', 'n30']):
            with pytest.raises(ValueError, match="no entry 'n30'"):
                store.remove(gone)
            with pytest.raises(ValueError, match="no entry 'n30'"):
                store.vectors(gone)
        assert len(store) == 38
        store.remove([])
        store.remove([*ODD, 'n3', 'n3'])
        store.save()
    kept = [i for i in range(8, 38) if i != 11]
    left = [names[i] for i in kept]
    with open_store(uri, SPACE) as store:
        assert store.names() == sorted(left) and len(store) == 29 and 'n3' not in store
        assert store.states() == {names[i]: states[i] for i in kept[:-1]}
        check_hits(store.search(queries, 29), brute_force(left, vectors[kept], queries, 29))
        store.add(['n3'], queries[:1])
        check_hits(store.search(queries[:1], 1), [[('n3', 1.0)]])
        store.remove(store.names())
        store.save()
        with pytest.raises(ValueError, match='it is empty'):
            store.search(queries, 3)


def test_faiss_indices_without_removal(tmp_path):
    """Codes and graphs remove nothing and say so; what they hold is read, of codes roughly."""
    vectors = unit_vectors(200)
    names = [str(i) for i in range(200)]
    for factory, tolerance in (('HNSW8', 0), ('IVF4,Flat', 0), ('IVF2,SQ8', 0.02)):
        store = FaissStore(tmp_path / factory, SPACE, factory=factory)
        store.add(names, vectors)
        with pytest.raises(ValueError, match=f"index '{factory}' cannot remove entries"):
            store.remove(['3'])
        found = store.vectors(['7', '3'])
        np.testing.assert_allclose(found, vectors[[7, 3]], atol=tolerance)
        store.save()
        with open_store(tmp_path / factory, SPACE, factory=factory) as again:
            np.testing.assert_allclose(again.vectors(['7']), vectors[[7]], atol=tolerance)


def test_a_store_of_an_earlier_version(tmp_path):
    """Neither states nor a file of them: read, added to, saved."""
    with open_store(tmp_path / 's', SPACE) as store:
        store.add(['a'], unit_vectors(1))
        store.save()
    (tmp_path / 's/states.1.json').unlink()
    with open_store(tmp_path / 's', SPACE) as store:
        assert store.states() == {}
        store.add(['b'], unit_vectors(1, seed=1), ['x'])
        store.save()
    with open_store(tmp_path / 's', SPACE) as store:
        assert store.states() == {'b': 'x'} and store.names() == ['a', 'b']
    (tmp_path / 's/states.2.json').write_text('{"c": "x"}')
    with pytest.raises(ValueError, match='states of entries that it lacks'):
        open_store(tmp_path / 's', SPACE)


def test_milvus_equals_faiss(tmp_path):
    names, vectors = [str(i) for i in range(2500)], unit_vectors(2500)
    queries = unit_vectors(20, seed=2)
    found = []
    for uri in (f'faiss:{tmp_path}/f', f'milvus:{tmp_path}/m.db'):
        with open_store(uri, SPACE) as store:
            store.add(names, vectors)
            found.append(store.search(queries, 10))
    assert [[hit.name for hit in row] for row in found[0]] == [
        [hit.name for hit in row] for row in found[1]
    ]
    scores = [[[hit.score for hit in row] for row in rows] for rows in found]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def test_faiss_folder(tmp_path, monkeypatch):
    """An interrupted save leaves the store that was there; approximate indices, damage, names."""
    folder = tmp_path / 'store'
    vectors = unit_vectors(300)
    store = FaissStore(folder, SPACE)
    store.add(['a', 'b', 'a'], vectors[:3])  # a name that comes twice keeps its last vector
    assert len(store) == 2
    check_hits(store.search(vectors[2:3], 1), [[('a', 1.0)]])
    store.save()
    store.add(['c'], vectors[3:4])
    monkeypatch.setattr('projects.rvse.retrieval.faiss_store.write_atomically', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.save()
    monkeypatch.undo()
    again = FaissStore(folder, SPACE)
    assert len(again) == 2
    again.add(['d'], vectors[4:5])
    again.save()
    assert len(list(folder.iterdir())) == 4  # store.json, vectors, names, states
    with pytest.raises(ValueError, match="factory='HNSW8', but it has 'Flat'"):
        FaissStore(folder, SPACE, factory='HNSW8')
    near = FaissStore(tmp_path / 'hnsw', SPACE, factory='HNSW8')
    near.add([str(i) for i in range(300)], vectors)
    assert near.search(vectors[7:8], 1)[0][0].name == '7'
    with pytest.raises(ValueError, match="an index 'HNSW8' cannot replace it"):
        near.add(['7'], vectors[:1])
    next(folder.glob('vectors.*')).write_bytes(b'nothing')
    with pytest.raises(ValueError, match='damaged'):
        FaissStore(folder, SPACE)
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos/a.jpg').touch()
    with pytest.raises(ValueError, match='not empty and has no store.json'):
        FaissStore(tmp_path / 'photos', SPACE)


def test_uris_and_missing_engines(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='expected a folder, faiss:FOLDER'):
        open_store('redis://x', SPACE)
    for uri in (f'{tmp_path}/typo', f'milvus:{tmp_path}/typo.db'):
        with pytest.raises(FileNotFoundError, match='typo.*does not exist; index something first'):
            open_store(uri, SPACE, create=False)
        with pytest.raises(FileNotFoundError, match='typo.*does not exist'):
            open_store(uri, None)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match='expected a file that ends in .db'):
        open_store('milvus:here', SPACE)
    monkeypatch.setitem(sys.modules, 'faiss', None)
    monkeypatch.setitem(sys.modules, 'pymilvus', None)
    with pytest.raises(ModuleNotFoundError, match='pip install .* faiss-cpu'):
        open_store(tmp_path / 'x', SPACE)
    with pytest.raises(ModuleNotFoundError, match=r"'pymilvus\[milvus_lite\]'"):
        open_store(f'milvus:{tmp_path}/x.db', SPACE)


def test_cache_is_atomic_and_of_one_space(tmp_path):
    cache = EmbeddingCache(tmp_path / 'c', SPACE)
    vectors = unit_vectors(3)
    keys = [cache.key(text) for text in (b'a', b'b', b'c')]
    with pytest.raises(ValueError):
        cache.put(keys, vectors[:2])
    assert len(cache) == 0
    cache.put(keys, vectors)
    cache.close()
    cache = EmbeddingCache(tmp_path / 'c', SPACE)
    assert all(np.array_equal(cache.get(k), v) for k, v in zip(keys, vectors))
    assert cache.get(cache.key(b'd')) is None
    other = EmbeddingCache(tmp_path / 'c', 'b' * 32)
    assert other.get(other.key(b'a')) is None
    (tmp_path / 'd').mkdir()
    (tmp_path / 'd/embeddings.sqlite').write_bytes(b'x' * 5000)
    with pytest.raises(ValueError, match='no cache of embeddings'):
        EmbeddingCache(tmp_path / 'd', SPACE)


def tiny_config(backbone: bool = True, similarity: str = 'CosineSimilarity') -> Config:
    pool = dict(type='GPO')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(32, 32), keep_ratio=False),
        dict(type='mmpretrain.PackInputs', meta_keys=['img_path']),
    ]
    model = dict(
        type='ImageTextMatcher',
        image_encoder=dict(type='RegionFC', in_channels=64, channels=16, pool=pool),
        text_encoder=dict(
            type='BiGRUTextEncoder', vocab_size=40, word_channels=8, channels=16, pool=pool
        ),
        similarity=dict(type=similarity),
    )
    if backbone:
        model['backbone'] = dict(
            type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8
        )
        model['data_preprocessor'] = dict(
            type='ImgDataPreprocessor', mean=[120] * 3, std=[60] * 3, bgr_to_rgb=True
        )
    return Config(
        dict(
            default_scope='mmpretrain',
            model=model,
            test_dataloader=dict(dataset=dict(type='x', pipeline=pipeline)),
        )
    )


def write_checkpoint(path: Path, cfg: Config, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    model.text_encoder.set_vocabulary(Vocabulary.build(SENTENCES, min_count=1))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text)), path)
    return path


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> Path:
    """Images of noise, and a checkpoint with its config."""
    folder = tmp_path_factory.mktemp('retrieval')
    (folder / 'photos').mkdir()
    rng = np.random.default_rng(0)
    for i in range(7):
        array = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8) // (1 + i)
        Image.fromarray(array).save(folder / f'photos/{i}.png')
    write_checkpoint(folder / 'best.pth', tiny_config())
    return folder


def pictures_by_hand(inferencer: RetrievalInferencer, paths: list[Path]) -> np.ndarray:
    """Without the inferencer's code: PIL, the preprocessor's numbers, the model."""
    rows = []
    for path in paths:
        array = np.asarray(Image.open(path).convert('RGB'))
        import mmcv

        array = mmcv.imresize(array, (32, 32)).astype('f4')
        tensor = torch.from_numpy((array - 120) / 60).permute(2, 0, 1)[None]
        with torch.no_grad():
            rows.append(inferencer.model.encode_images(tensor)[0][0].numpy())
    return np.stack(rows)


def test_pictures_for_sentences_and_back(files, tmp_path):
    inferencer = RetrievalInferencer(weights=files / 'best.pth', show_progress=False)
    paths = sorted((files / 'photos').iterdir())
    by_hand = pictures_by_hand(inferencer, paths)
    with torch.no_grad():
        words = inferencer.model.encode_captions(SENTENCES)[0].numpy()
    names = [str(path) for path in paths]
    assert inferencer.index(files / 'photos', tmp_path / 's', batch_size=3) == 7
    found = inferencer(SENTENCES, tmp_path / 's', top_k=4)
    check = brute_force(names, by_hand, words, 4)
    for hits, best in zip(found, check):
        assert [hit.name for hit in hits] == [name for name, _ in best]
        assert [hit.score for hit in hits] == pytest.approx([s for _, s in best], abs=1e-5)
    # the other way round, in Milvus; an image as path, as BGR array and as PIL image
    (tmp_path / 'sentences.txt').write_text('\n'.join(SENTENCES) + '\n')
    store = f'milvus:{tmp_path}/s.db'
    assert inferencer.index(tmp_path / 'sentences.txt', store) == 4
    picture = Image.open(paths[2])
    queries = [str(paths[2]), np.asarray(picture)[..., ::-1].copy(), picture]
    best = brute_force(SENTENCES, words, by_hand[2:3], 2)[0]
    for hits in inferencer(queries, store, top_k=2):
        assert [hit.name for hit in hits] == [name for name, _ in best]
    # added to, and the same image again, changed
    shutil.copytree(files / 'photos', tmp_path / 'more')
    shutil.copy(tmp_path / 'more/1.png', tmp_path / 'more/0.png')
    assert inferencer.index([paths[0]], tmp_path / 's') == 0
    assert inferencer.index(tmp_path / 'more', tmp_path / 's') == 7
    with inferencer.open_store(tmp_path / 's') as opened:
        assert len(opened) == 14
        two = inferencer(str(paths[1]), opened, top_k=3)[0]
    assert {hit.name for hit in two} == {
        names[1], str(tmp_path / 'more/0.png'), str(tmp_path / 'more/1.png')
    }  # fmt: skip
    assert [hit.score for hit in two] == pytest.approx([1, 1, 1], abs=1e-5)


def test_cache_by_content(files, tmp_path, monkeypatch):
    shutil.copytree(files / 'photos', tmp_path / 'p')
    inferencer = RetrievalInferencer(
        weights=files / 'best.pth', cache_dir=tmp_path / 'c', show_progress=False
    )
    encoded = []
    encode = inferencer.model.encode_images
    monkeypatch.setattr(
        inferencer.model, 'encode_images', lambda x: (encoded.append(len(x)), encode(x))[1]
    )
    first = inferencer.encode_images(tmp_path / 'p')
    assert sum(encoded) == 7
    (tmp_path / 'p/0.png').rename(tmp_path / 'p/9.png')  # moved: the content is known
    again = inferencer.encode_images(tmp_path / 'p')
    assert sum(encoded) == 7
    assert np.array_equal(np.roll(first, -1, axis=0), again)
    Image.new('RGB', (40, 50)).save(tmp_path / 'p/3.png')
    assert not np.array_equal(inferencer.encode_images(tmp_path / 'p')[2], again[2])
    assert sum(encoded) == 8
    rows = sqlite3.connect(tmp_path / 'c/embeddings.sqlite').execute('SELECT * FROM embeddings')
    assert len(rows.fetchall()) == 8
    # other weights and another pipeline are other spaces
    write_checkpoint(tmp_path / 'other.pth', tiny_config(), seed=1)
    other = RetrievalInferencer(weights=tmp_path / 'other.pth', cache_dir=tmp_path / 'c')
    assert other.space != inferencer.space
    assert not np.array_equal(other.encode_images([tmp_path / 'p/1.png'])[0], again[0])
    cfg = tiny_config()
    cfg.test_dataloader.dataset.pipeline[1].scale = (64, 64)
    wide = RetrievalInferencer(cfg, files / 'best.pth')
    assert wide.space != inferencer.space
    assert RetrievalInferencer(tiny_config(), files / 'best.pth').space == inferencer.space


def test_what_cannot_be(files, tmp_path, log):
    write_checkpoint(tmp_path / 'regions.pth', tiny_config(backbone=False))
    regions = RetrievalInferencer(weights=tmp_path / 'regions.pth')
    assert regions.encode_sentences('a dog').shape == (1, 16)
    with pytest.raises(ValueError, match='trained on precomputed regions and cannot read images'):
        regions.encode_images(files / 'photos')
    cfg = tiny_config(similarity='SCANSimilarity')
    cfg.model.image_encoder.pool = cfg.model.text_encoder.pool = None
    write_checkpoint(tmp_path / 'scan.pth', cfg)
    with pytest.raises(ValueError, match='SCANSimilarity: .* needs a model with one embedding'):
        RetrievalInferencer(weights=tmp_path / 'scan.pth')
    with pytest.raises(ValueError, match='hold no vocabulary'):
        torch.save(dict(state_dict=MODELS.build(tiny_config().model).state_dict()),
                   tmp_path / 'bare.pth')  # fmt: skip
        RetrievalInferencer(tiny_config(), tmp_path / 'bare.pth')
    inferencer = RetrievalInferencer(weights=files / 'best.pth', show_progress=False)
    shutil.copytree(files / 'photos', tmp_path / 'p')
    content = (tmp_path / 'p/2.png').read_bytes()
    (tmp_path / 'p/2.png').write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match='2.png: not readable'):
        inferencer.index(tmp_path / 'p', tmp_path / 's')
    with inferencer.open_store(tmp_path / 's', create=False) as store:
        assert len(store) == 2  # those before it
    assert inferencer.index(tmp_path / 'p', tmp_path / 's', skip_damaged=True) == 4
    assert sum('left out' in line and '2.png' in line for line in log) == 1
    with pytest.raises(ValueError, match="sentence '': expected words"):
        inferencer('', tmp_path / 's')
    with pytest.raises(FileNotFoundError, match='no such folder'):
        inferencer.index(tmp_path / 'nowhere', tmp_path / 's')
    with pytest.raises(ValueError, match='is no file, but others are'):
        inferencer.index([files / 'photos/1.png', 'a dog'], tmp_path / 's')


def test_command(files, tmp_path, call_tool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ('--store', 'store', '--weights', files / 'best.pth', '--device', 'cpu')
    done = call_tool('infer.py', 'retrieval', 'index', files / 'photos', *options)
    assert done.out.strip().splitlines()[-1] == 'store: 7 entries added or replaced, 7 in all'
    assert (tmp_path / 'work_dirs/embeddings/embeddings.sqlite').is_file()
    done = call_tool(
        *('infer.py', 'retrieval', 'search', 'a dog', files / 'photos/3.png'),
        *('--top-k', 2, '--out', 'hits.json', *options),
    )
    lines = done.out.strip().splitlines()
    assert 'a dog' in lines
    assert f'    1.000  {files}/photos/3.png' in lines
    rows = json.loads((tmp_path / 'hits.json').read_text())
    assert [len(row['hits']) for row in rows] == [2, 2]
    assert rows[1]['hits'][0]['name'] == f'{files}/photos/3.png'
    done = call_tool('infer.py', 'retrieval', 'search', 'a dog', '--store', 'none',
                     '--weights', files / 'best.pth', rc=1)  # fmt: skip
    assert done.err.strip() == 'error: store none: does not exist; index something first'
    monkeypatch.setitem(sys.modules, 'pymilvus', None)
    done = call_tool('infer.py', 'retrieval', 'search', 'a dog', '--store', 'milvus:x.db',
                     '--weights', files / 'best.pth', rc=1)  # fmt: skip
    assert done.err.startswith('error: a store milvus:... needs') and done.err.count('\n') == 1
