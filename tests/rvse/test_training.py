"""The losses that need more than a matrix really train: AOQ, NCR and Meta-SPN, from configs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner

import projects.rvse  # noqa: F401
from projects.rvse.datasets import OfflineNegativesDataset, pairs_then_negatives
from projects.rvse.engine import CleanSplitHook, OfflineMiningHook

ROOT = Path(__file__).resolve().parents[2]
WORDS = ('red', 'blue', 'round', 'flat', 'small', 'large', 'old', 'new')
PICTURES = 24


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """Pictures of three attributes each; every caption names them, so all pairs can be told."""
    folder = tmp_path_factory.mktemp('precomp')
    generator = np.random.default_rng(0)
    meaning = generator.normal(size=(len(WORDS), 12)).astype('f4')
    features, lines = [], []
    for _ in range(PICTURES):
        chosen = generator.choice(len(WORDS), 3, replace=False)
        noise = 0.1 * generator.normal(size=(4, 12))
        features.append(meaning[[*chosen, chosen[0]]] + noise)
        for _ in range(5):
            lines.append(' '.join(WORDS[i] for i in generator.permutation(chosen)))
    for split in ('train', 'dev', 'test'):
        np.save(folder / f'{split}_ims.npy', np.stack(features).astype('f4'))
        (folder / f'{split}_caps.txt').write_text('\n'.join(lines) + '\n')
    return folder


def small(name: str, data: Path, work_dir: Path, epochs: int) -> Config:
    """The config of a table's row with small numbers and the data of this test."""
    cfg = Config.fromfile(ROOT / 'configs/rvse' / f'{name}.py')
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'WARNING'
    cfg.randomness.seed = 0
    matcher = cfg.model.get('matcher', cfg.model)
    matcher.image_encoder.update(in_channels=12, channels=16)
    matcher.text_encoder.update(vocab_size=20, word_channels=8, channels=16, word_dropout=0.0)
    if matcher.similarity.type in ('SGRSimilarity', 'SAFSimilarity'):
        matcher.similarity.update(channels=16, sim_channels=8, num_regions=4, dropout=0.0)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=12, num_workers=0, persistent_workers=False)
        dataset = loader.dataset.get('dataset', loader.dataset)
        dataset.data_root = str(data)
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.param_scheduler = None
    cfg.optim_wrapper.optimizer.lr = 5e-3
    for hook in cfg.custom_hooks:
        if hook.type == 'BuildVocabularyHook':
            hook.min_count = 1
        if hook.type == 'OfflineMiningHook':
            hook.update(top=5, block_size=7)
        if hook.type == 'CleanSplitHook':
            hook.warm_up_epochs = 2
    cfg.default_hooks.logger.interval = 1
    cfg.experiment_name = f'{name}_{work_dir.name}'
    return cfg


def losses_of(runner: Runner) -> list[float]:
    history = runner.message_hub.get_scalar('train/loss').data[0]
    return [float(value) for value in history]


@pytest.fixture
def trained_base(data, tmp_path) -> str:
    """BFAN with hard negatives, which AOQ goes on from."""
    cfg = small('bfan-prob_hn_1xb128-15e_f30k', data, tmp_path / 'base', epochs=1)
    Runner.from_cfg(cfg).train()
    return str(tmp_path / 'base' / 'epoch_1.pth')


def test_aoq(data, tmp_path, trained_base):
    cfg = small('bfan-prob_aoq_1xb128-15e_f30k', data, tmp_path / 'aoq', epochs=6)
    cfg.load_from = trained_base
    runner = Runner.from_cfg(cfg)
    runner.train()
    dataset = runner.train_dataloader.dataset.dataset  # inside what ReproducibilityHook wraps
    assert isinstance(dataset, OfflineNegativesDataset)
    owner = torch.from_numpy(dataset.image_of_caption)

    # What was mined is what the loaded model scores highest, in one matrix.
    model = runner.model
    weights = torch.load(trained_base, weights_only=False)['state_dict']
    model.load_state_dict(weights)
    model.eval()
    with torch.no_grad():
        pictures = model.encode_images([dataset.dataset[5 * i]['inputs'] for i in range(PICTURES)])
        S = model.similarity(*pictures, *model.encode_captions(dataset.captions()))
    S = S.masked_fill(torch.arange(PICTURES)[:, None] == owner, -torch.inf)
    # captions of one picture have the same words and, but for their order, the same scores
    found = S.gather(1, dataset.captions_mined)
    torch.testing.assert_close(found, S.topk(5, dim=1).values, atol=1e-5, rtol=0)
    found = S.T.gather(1, dataset.pictures_mined)
    torch.testing.assert_close(found, S.T.topk(5, dim=1).values, atol=1e-5, rtol=0)

    batch = pairs_then_negatives([dataset[i] for i in (0, 7)])
    assert len(batch['inputs']) == 4
    texts = [sample.text for sample in batch['data_samples']]
    captions = dataset.captions()
    assert texts[:2] == [captions[0], captions[7]]
    assert texts[2] in {captions[i] for i in dataset.captions_mined[0]}
    assert texts[3] in {captions[i] for i in dataset.captions_mined[1]}
    candidates = {int(i) for i in dataset.pictures_mined[7]}
    assert any(
        torch.equal(batch['inputs'][3], dataset.dataset[5 * i]['inputs']) for i in candidates
    )

    losses = losses_of(runner)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_aoq_needs_its_hook_and_its_dataset(data, tmp_path):
    cfg = small('bfan-prob_aoq_1xb128-15e_f30k', data, tmp_path, epochs=1)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    with pytest.raises(RuntimeError, match='OfflineMiningHook'):
        dataset[0]

    class Other:
        train_dataloader = type('Loader', (), {'dataset': [1]})

    with pytest.raises(TypeError, match='dataset is a list, expected OfflineNegativesDataset'):
        OfflineMiningHook().before_train(Other)


@pytest.mark.parametrize('name', ['sgr_ncr_1xb128-40e_f30k', 'saf_ncr_1xb128-30e_f30k'])
def test_ncr(data, tmp_path, name):
    """After the warm-up each network's labels come of the other's losses."""
    cfg = small(name, data, tmp_path, epochs=4)
    runner = Runner.from_cfg(cfg)
    seen = []
    own = CleanSplitHook.before_train_epoch

    def watch(hook, runner):
        own(hook, runner)
        seen.append((runner.model.warm_up_loss is None, runner.model.labels))

    hook = next(h for h in runner.hooks if isinstance(h, CleanSplitHook))
    hook.before_train_epoch = watch.__get__(hook)
    losses = hook._pair_losses
    computed = []
    hook._pair_losses = lambda *a: computed.append(losses(*a)) or computed[-1]
    runner.train()
    assert [labels is not None for _, labels in seen] == [False, False, True, True]
    assert [own_loss for own_loss, _ in seen] == [False, False, True, True]
    from projects.rvse.losses import clean_probability

    for (_, labels), pair_losses in zip(seen[2:], computed):
        for network in (0, 1):
            p = clean_probability(pair_losses[1 - network].numpy())
            expected = np.where(p > 0.5, 1.0, p)
            np.testing.assert_allclose(labels[network].numpy(), expected)
    first, second = (m.image_encoder.fc.weight for m in runner.model.matchers)
    assert not torch.equal(first, second)
    rows = losses_of(runner)
    assert np.isfinite(rows).all() and rows[19] < rows[0]  # warm-up: 2 epochs of 10 iterations
    # Tested is the mean of both.
    runner.model.eval()
    with torch.no_grad():
        batch = runner.val_dataloader.dataset[0]
        arguments = ([batch['inputs']], [batch['data_samples']])
        found = runner.model.extract_feat(*arguments)
        S = runner.model.similarity(
            *(found[k] for k in ('image_feat', 'image_lengths', 'text_feat', 'text_lengths'))
        )
        each = [m.score(m.extract_feat(*arguments)) for m in runner.model.matchers]
    torch.testing.assert_close(S, (each[0] + each[1]) / 2)


def test_meta_spn(data, tmp_path):
    """Both the matcher and the network that weighs its pairs learn."""
    cfg = small('bfan-equal_meta-spn_1xb128-15e_f30k', data, tmp_path, epochs=5)
    runner = Runner.from_cfg(cfg)
    before = [p.detach().clone() for p in runner.model.criterion.parameters()]
    runner.train()
    after = list(runner.model.criterion.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, after))
    hinge = [float(v) for v in runner.message_hub.get_scalar('train/meta_hinge').data[0]]
    assert np.mean(hinge[-10:]) < 0.8 * np.mean(hinge[:10])
    batch = next(iter(runner.train_dataloader))
    few = {key: value[:3] for key, value in batch.items()}
    with pytest.raises(ValueError, match='a batch of 3 pairs, expected 4 or more'):
        runner.model.train_step(few, runner.optim_wrapper)
