"""Ranks and recalls against brute force, published loops' outputs and hand-made cases."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

from projects.rvse.datasets import PrecompMatchingDataset, write_regions
from projects.rvse.evaluation import (
    FeatureFile,
    check_folds,
    fold_summary,
    matrix_scores,
    mean_scores,
    rank_summary,
    retrieval_ranks,
    retrieval_summary,
)
from projects.rvse.evaluation import ranks as ranks_module

FIELDS = ('r1', 'r5', 'r10', 'medr', 'meanr')


def brute_ranks(sims: np.ndarray, owner: np.ndarray) -> tuple[list[int], list[int]]:
    """One query after the other, in plain loops; ties go against the true match."""
    i2t = []
    for image, row in enumerate(sims):
        best = max(row[c] for c in range(len(owner)) if owner[c] == image)
        i2t.append(sum(row[c] >= best for c in range(len(owner)) if owner[c] != image))
    t2i = []
    for caption, image in enumerate(owner):
        column = sims[:, caption]
        t2i.append(sum(column[i] >= column[image] for i in range(len(sims)) if i != image))
    return i2t, t2i


@pytest.fixture(scope='module')
def golden(shared_reference: Path):
    return np.load(shared_reference / 'goldens' / 'itm_eval.npz')


def ranks_of(sims: np.ndarray, **kwargs):
    owner = np.arange(sims.shape[1]) // (sims.shape[1] // sims.shape[0])
    return retrieval_ranks(matrix_scores(sims), owner, len(sims), **kwargs)


@pytest.mark.parametrize('block_size', [1, 7, 256])
@pytest.mark.parametrize('name', ['a20', 'c50_full'])
def test_published_loops(golden, name, block_size):
    ranks = ranks_of(golden[f'{name}_sims'], block_size=block_size)
    assert ranks.i2t.tolist() == golden[f'{name}_i2t_ranks0'].tolist()
    assert ranks.t2i.tolist() == golden[f'{name}_t2i_ranks0'].tolist()
    for way in ('i2t', 't2i'):
        summary = rank_summary(getattr(ranks, way))
        assert [summary[f] for f in FIELDS] == pytest.approx(golden[f'{name}_{way}'], abs=1e-9)
    summary = retrieval_summary(ranks.i2t, ranks.t2i)
    assert summary['rsum'] == pytest.approx(float(golden[f'{name}_rsum']), abs=1e-9)


@pytest.mark.parametrize('block_size', [3, 10, 64])
def test_published_folds(golden, block_size):
    ranks = ranks_of(golden['c50_full_sims'], fold_size=10, block_size=block_size)
    rows = []
    for fold in fold_summary(ranks):
        i2t, t2i = ([fold[f'{way}/{f}'] for f in FIELDS] for way in ('i2t', 't2i'))
        rows.append([*i2t, *t2i, np.mean(i2t[:3]), np.mean(t2i[:3]), fold['rsum']])
    assert np.allclose(rows, golden['c50_folds'], atol=1e-9, rtol=0)
    assert np.allclose(np.mean(rows, axis=0), golden['c50_folds_mean'], atol=1e-9, rtol=0)
    assert np.mean(rows, axis=0)[-1] == pytest.approx(470.4)  # reference/NOTES-itm.md
    assert ranks.i2t.tolist() == golden['c50_full_i2t_ranks0'].tolist()


@pytest.mark.parametrize('block_size', [1, 4, 100])
def test_ragged_shuffled_and_tied(block_size):
    rng = np.random.default_rng(0)
    owner = np.concatenate([np.arange(11), rng.integers(0, 11, 30)])
    rng.shuffle(owner)
    sims = rng.integers(0, 6, (11, 41)).astype(np.float32)  # few values: many ties
    ranks = retrieval_ranks(matrix_scores(sims), owner, 11, block_size=block_size)
    i2t, t2i = brute_ranks(sims, owner)
    assert ranks.i2t.tolist() == i2t
    assert ranks.t2i.tolist() == t2i


def test_folds_are_problems_of_their_own():
    rng = np.random.default_rng(1)
    owner = np.sort(np.concatenate([np.arange(12), rng.integers(0, 12, 20)]))
    sims = rng.normal(size=(12, 32))
    ranks = retrieval_ranks(matrix_scores(sims), owner, 12, fold_size=4, block_size=3)
    for fold in range(3):
        captions = np.flatnonzero(owner // 4 == fold)
        part = sims[fold * 4 : fold * 4 + 4][:, captions]
        i2t, t2i = brute_ranks(part, owner[captions] - 4 * fold)
        assert ranks.fold_i2t[ranks.fold_of_image == fold].tolist() == i2t
        assert ranks.fold_t2i[ranks.fold_of_caption == fold].tolist() == t2i


def test_equal_scores_find_nothing():
    ranks = ranks_of(np.zeros((20, 100)))
    summary = retrieval_summary(ranks.i2t, ranks.t2i)
    assert summary['rsum'] == 0


def test_every_pair_is_scored_once_in_small_blocks():
    seen = np.zeros((30, 150), dtype=int)
    largest = 0

    def score(images, captions):
        nonlocal largest
        seen[np.ix_(images.numpy(), captions.numpy())] += 1
        largest = max(largest, len(images) * len(captions))
        return torch.zeros(len(images), len(captions))

    retrieval_ranks(score, np.arange(150) // 5, 30, fold_size=10, block_size=4)
    assert (seen == 1).all()
    assert largest == 4 * 20


class ThreadedDist:
    """The processes of a launcher as threads: each sees its own rank, sums meet at a barrier."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.barrier = threading.Barrier(world)
        self.local = threading.local()
        self.parts: dict[int, torch.Tensor] = {}

    def get_rank(self) -> int:
        return self.local.rank

    def get_world_size(self) -> int:
        return self.world

    def all_reduce(self, tensor: torch.Tensor) -> None:
        self.parts[self.local.rank] = tensor.clone()
        self.barrier.wait()
        tensor.copy_(sum(self.parts[rank] for rank in range(self.world)))
        self.barrier.wait()


def test_processes_agree_with_one(monkeypatch):
    sims = np.random.default_rng(2).normal(size=(23, 115))
    alone = ranks_of(sims, block_size=4)
    fake = ThreadedDist(3)
    monkeypatch.setattr(ranks_module, 'dist', fake)
    found = {}

    def process(rank: int) -> None:
        fake.local.rank = rank
        found[rank] = ranks_of(sims, block_size=4)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for rank in range(3):
        assert found[rank].i2t.tolist() == alone.i2t.tolist()
        assert found[rank].t2i.tolist() == alone.t2i.tolist()


def test_ensemble_is_the_mean_matrix(golden):
    one = golden['c50_full_sims']
    two = np.random.default_rng(3).normal(size=one.shape)
    owner = np.arange(250) // 5
    ensemble = mean_scores([matrix_scores(one), matrix_scores(two)])
    ranks = retrieval_ranks(ensemble, owner, 50, block_size=8)
    i2t, t2i = brute_ranks((one + two) / 2, owner)
    assert (ranks.i2t.tolist(), ranks.t2i.tolist()) == (i2t, t2i)
    with pytest.raises(ValueError, match='found no models'):
        mean_scores([])


def test_median_as_published():
    # floor(median) + 1: the median of 0, 1 is 0.5, which counts as rank 1.
    assert rank_summary(np.array([0, 1]))['medr'] == 1
    assert rank_summary(np.array([0, 1, 9, 10])) == {
        'r1': 25.0, 'r5': 50.0, 'r10': 75.0, 'medr': 6.0, 'meanr': 6.0,
    }  # fmt: skip


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='NaN among images 0 to 1'):
        ranks_of(np.full((2, 10), np.nan))
    with pytest.raises(ValueError, match='image 1 of 2 has no caption'):
        retrieval_ranks(matrix_scores(np.zeros((2, 2))), [0, 0], 2)
    with pytest.raises(ValueError, match='indices 0 to 5 for 2 images'):
        retrieval_ranks(matrix_scores(np.zeros((2, 2))), [0, 5], 2)
    with pytest.raises(ValueError, match='no whole number of folds of 3'):
        ranks_of(np.zeros((4, 20)), fold_size=3)
    with pytest.raises(ValueError, match=r'shape \(1, 1\) for 2 images and 2 captions'):
        retrieval_ranks(lambda i, c: torch.zeros(1, 1), [0, 1], 2)


def test_five_folds_of_the_wrong_file():
    check_folds(5000, 5, 1000, 'data/coco_precomp/testall_ims.npy')
    with pytest.raises(ValueError, match='expected testall_ims.npy') as error:
        check_folds(1000, 5, 1000, 'data/coco_precomp/test_ims.npy')
    assert '1,000 images, but 5 folds of 1,000 need 5,000' in str(error.value)
    with pytest.raises(ValueError, match='1,014 images') as error:
        check_folds(1014, 5, 1000, 'data/f30k_precomp/dev_ims.npy')
    assert 'testall' not in str(error.value)


def test_feature_file_keeps_rows_and_order(tmp_path):
    rng = torch.Generator().manual_seed(0)
    rows = [torch.randn(n, 6, generator=rng) for n in (3, 1, 4, 2)]
    store = FeatureFile(str(tmp_path), 'x')
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    store.add([2, 0], padded[[2, 0]], torch.tensor([4, 3]))
    store.add([3, 1], padded[[3, 1]], torch.tensor([2, 1]))
    store.share(4)
    features, lengths = store[torch.tensor([1, 2])]
    assert lengths.tolist() == [1, 4]
    assert torch.equal(features, padded[[1, 2]])
    assert (tmp_path / 'x.0.f32').stat().st_size == 10 * 6 * 4  # no padding
    store.close()
    assert not list(tmp_path.iterdir())
    store = FeatureFile(str(tmp_path), 'y')
    store.add([0], torch.ones(1, 6), torch.tensor([36]))
    with pytest.raises(ValueError, match='1 of 2 entries were not encoded, the first is 1'):
        store.share(2)


class WordOverlap(BaseModel):
    """A matcher without weights: a word is a one-hot vector, an image the mean of its regions."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise AssertionError('the loop encodes with extract_feat')

    def extract_feat(self, inputs, data_samples):
        texts = [text for sample in data_samples for text in sample.text]
        words = [torch.eye(8)[[int(word) for word in text.split()]] for text in texts]
        return dict(
            image_feat=torch.nn.utils.rnn.pad_sequence(list(inputs), batch_first=True),
            image_lengths=torch.tensor([len(item) for item in inputs]),
            text_feat=torch.nn.utils.rnn.pad_sequence(words, batch_first=True),
            text_lengths=torch.tensor([len(word) for word in words]),
        )

    def similarity(self, images, image_lengths, captions, caption_lengths):
        images = images.sum(1) / image_lengths[:, None]
        return images @ (captions.sum(1) / caption_lengths[:, None]).T


def test_loop_equals_brute_force(tmp_path):
    rng = np.random.default_rng(4)
    regions = [rng.normal(size=(rng.integers(1, 5), 8)).astype('f4') for _ in range(12)]
    texts = [' '.join(map(str, rng.integers(0, 8, rng.integers(1, 6)))) for _ in range(60)]
    write_regions(str(tmp_path / 'test_ims.npy'), regions)
    (tmp_path / 'test_caps.txt').write_text('\n'.join(texts))
    pack = dict(
        type='mmpretrain.PackInputs',
        input_key='regions',
        algorithm_keys=['text', 'image_id', 'gt_text_id'],
    )
    dataset = PrecompMatchingDataset(
        'test', str(tmp_path), pipeline=[dict(type='LoadRegions'), pack], test_mode=True
    )
    loader = dict(
        dataset=dataset,
        batch_size=5,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    runner = Runner(
        model=WordOverlap(),
        work_dir=str(tmp_path / 'work'),
        val_dataloader=loader,
        val_evaluator=dict(type='MatchingMetric'),
        val_cfg=dict(type='MatchingValLoop', num_folds=3, fold_size=4, block_size=5),
        test_dataloader=loader,
        test_evaluator=dict(type='MatchingMetric'),
        test_cfg=dict(
            type='MatchingTestLoop',
            num_folds=3,
            fold_size=4,
            block_size=3,
            similarity_file=str(tmp_path / 'out' / 'sims.npy'),
        ),
        default_scope='mmpretrain',
    )
    metrics = runner.test()
    assert runner.val() == pytest.approx(metrics)
    images = np.stack([item.mean(0) for item in regions])
    captions = np.stack([np.eye(8)[list(map(int, text.split()))].mean(0) for text in texts])
    sims = images @ captions.T
    saved = np.load(tmp_path / 'out' / 'sims.npy')
    assert np.allclose(saved, sims, atol=1e-6)
    assert not list((tmp_path / 'work').glob('features_*'))
    i2t, t2i = brute_ranks(saved, np.arange(60) // 5)
    assert metrics['matching/i2t/r5'] == pytest.approx(100 * np.mean(np.array(i2t) < 5))
    assert metrics['matching/t2i/meanr'] == pytest.approx(np.mean(t2i) + 1)
    part = [brute_ranks(saved[f : f + 4, 5 * f : 5 * f + 20], np.arange(20) // 5)
            for f in (0, 4, 8)]  # fmt: skip
    assert metrics['matching/fold/t2i/r1'] == pytest.approx(
        np.mean([100 * np.mean(np.array(t2i) < 1) for _, t2i in part])
    )
    runner.test_loop.num_folds = 5
    with pytest.raises(ValueError, match='12 images, but 5 folds of 4 need 20.*testall_caps.txt'):
        runner.test()
