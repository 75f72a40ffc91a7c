"""The losses that need more than a matrix really train: AOQ, NCR and Meta-SPN, from configs."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from sklearn.mixture import GaussianMixture

import projects.rvse.register  # noqa: F401
from projects.rvse.datasets import OfflineNegativesDataset, pairs_then_negatives
from projects.rvse.engine import (
    CleanSplitHook,
    CoTrainLoop,
    OfflineMiningHook,
    clean_split_hook,
)
from projects.rvse.losses import clean_probability

from .small_configs import small

WORDS = ('red', 'blue', 'round', 'flat', 'small', 'large', 'old', 'new')
IMAGES = 24


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """Images of three attributes each; every caption names them, so all pairs can be told."""
    folder = tmp_path_factory.mktemp('precomp')
    generator = np.random.default_rng(0)
    meaning = generator.normal(size=(len(WORDS), 12)).astype('f4')
    features, lines = [], []
    for _ in range(IMAGES):
        chosen = generator.choice(len(WORDS), 3, replace=False)
        noise = 0.1 * generator.normal(size=(4, 12))
        features.append(meaning[[*chosen, chosen[0]]] + noise)
        for _ in range(5):
            lines.append(' '.join(WORDS[i] for i in generator.permutation(chosen)))
    for split in ('train', 'dev', 'test'):
        np.save(folder / f'{split}_ims.npy', np.stack(features).astype('f4'))
        (folder / f'{split}_caps.txt').write_text('\n'.join(lines) + '\n')
    return folder


def losses_of(runner: Runner) -> list[float]:
    history = runner.message_hub.get_scalar('train/loss').data[0]
    return [float(value) for value in history]


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory) -> dict:
    """BFAN with hard negatives: the variant of AOQ goes on from it, and it may mine."""
    folder = tmp_path_factory.mktemp('base')
    cfg = small('bfan-prob_hn_1xb128-15e_f30k', data, folder, epochs=1)
    Runner.from_cfg(cfg).train()
    cfg.dump(folder / 'miner.py')
    return dict(config=str(folder / 'miner.py'), checkpoint=str(folder / 'epoch_1.pth'))


def similarities(checkpoint: str, model, dataset) -> torch.Tensor:
    """(I, T) of the training set by a checkpoint's model, own pairs at -inf."""
    model = copy.deepcopy(model)
    model.load_state_dict(torch.load(checkpoint, weights_only=False)['state_dict'])
    model.eval()
    with torch.no_grad():
        images = model.encode_images([dataset[5 * i]['inputs'] for i in range(IMAGES)])
        S = model.similarity(*images, *model.encode_captions(dataset.captions()))
    owner = torch.from_numpy(dataset.image_of_caption)
    return S.masked_fill(torch.arange(IMAGES)[:, None] == owner, -torch.inf)


def check_mined(S: torch.Tensor, dataset: OfflineNegativesDataset) -> None:
    # captions of one image have the same words and, but for their order, the same scores
    for scores, mined in ((S, dataset.captions_mined), (S.T, dataset.images_mined)):
        found = scores.gather(1, mined)
        torch.testing.assert_close(found, scores.topk(mined.shape[1]).values, atol=1e-5, rtol=0)


def test_aoq_from_hn(data, tmp_path, trained):
    cfg = small('bfan-prob_aoq-from-hn_1xb128-15e_f30k', data, tmp_path / 'aoq', epochs=6)
    cfg.load_from = trained['checkpoint']
    runner = Runner.from_cfg(cfg)
    runner.train()
    dataset = runner.train_dataloader.dataset.dataset  # inside what ReproducibilityHook wraps
    assert isinstance(dataset, OfflineNegativesDataset)
    check_mined(similarities(trained['checkpoint'], runner.model, dataset.dataset), dataset)

    batch = pairs_then_negatives([dataset[i] for i in (0, 7)])
    assert len(batch['inputs']) == 4
    texts = [sample.text for sample in batch['data_samples']]
    captions = dataset.captions()
    assert texts[:2] == [captions[0], captions[7]]
    assert texts[2] in {captions[i] for i in dataset.captions_mined[0]}
    assert texts[3] in {captions[i] for i in dataset.captions_mined[1]}
    candidates = {int(i) for i in dataset.images_mined[7]}
    assert any(
        torch.equal(batch['inputs'][3], dataset.dataset[5 * i]['inputs']) for i in candidates
    )

    losses = losses_of(runner)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def aoq_config(data: Path, work_dir: Path, miner: dict | None, epochs: int = 1) -> Config:
    cfg = small('bfan-prob_aoq_1xb128-15e_f30k', data, work_dir, epochs)
    cfg.custom_hooks[-1].pop('miner')
    cfg.custom_hooks[-1].miner = miner
    return cfg


def test_one_draw_chooses_caption_and_image(data, tmp_path):
    """Of 300 captions and 60 images rank n comes with n // 5; the third sample are the owners."""
    cfg = aoq_config(data, tmp_path, None)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    owner = dataset.image_of_caption
    captions = torch.arange(115).expand(IMAGES, -1)  # as if they were negatives
    images = torch.arange(1, IMAGES).expand(len(owner), -1)
    dataset.set_negatives(captions, images)
    texts = dataset.captions()
    regions = [dataset.dataset[5 * i]['inputs'] for i in range(IMAGES)]
    np.random.seed(0)
    seen = set()
    for _ in range(60):
        pair, mined, owners = dataset[3]
        assert torch.equal(pair['inputs'], regions[0]) and pair['data_samples'].text == texts[3]
        caption = mined['data_samples'].text_id
        (image,) = (i for i in range(IMAGES) if torch.equal(mined['inputs'], regions[i]))
        assert image == 1 + caption // 5  # 115 captions, 23 images
        assert torch.equal(owners['inputs'], regions[owner[caption]])
        assert owner[owners['data_samples'].text_id] == image
        seen.add(owners['data_samples'].text_id % 5)
    assert seen == set(range(5))


class Recorder(Hook):
    """Keeps every batch of a training, and the model before it."""

    priority = 'VERY_LOW'  # behind the hook that makes a vocabulary

    def before_train(self, runner) -> None:
        self.start = copy.deepcopy(runner.model)
        self.batches: list = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.batches.append(data_batch)


def hand_step(parameters: list, optimizer, loss: torch.Tensor, max_norm: float) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()


def check_equal(found, expected) -> None:
    for (name, a), b in zip(found.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f'{n}: {m}')


def test_aoq_steps_as_written_by_hand(data, tmp_path, trained):
    """The whole recipe from scratch for an epoch: six terms in plain PyTorch, Adam, a clip."""
    cfg = aoq_config(data, tmp_path, trained)
    assert cfg.load_from is None and cfg.optim_wrapper.optimizer.type == 'Adam'
    runner = Runner.from_cfg(cfg)
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    dataset = runner.train_dataloader.dataset.dataset
    check_mined(similarities(trained['checkpoint'], runner.model, dataset.dataset), dataset)

    model = recorder.start
    model.train()
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=cfg.optim_wrapper.optimizer.lr)
    assert len(recorder.batches) == 10
    losses = []
    for batch in recorder.batches:
        texts = [sample.text for sample in batch['data_samples']]
        assert len(texts) == 36  # 12 pairs, 12 that were mined, 12 owners
        images = model.encode_images(batch['inputs'])
        S = model.similarity(*images, *model.encode_captions(texts))
        total = 0
        for i in range(12):
            s_p, m, o = S[i, i], 12 + i, 24 + i
            rest = [j for j in range(12) if j != i]
            for on, off in ((S[i, rest].max(), S[i, m]), (S[rest, i].max(), S[m, i])):
                weight = 1.5 - (off - on) / 0.3
                total += weight * (on - s_p + 0.2).clamp(min=0) + (off - s_p).clamp(min=0)
            total += (S[m, m] - s_p).clamp(min=0) + (S[o, o] - s_p).clamp(min=0)
        losses.append(total.item())
        hand_step(parameters, optimizer, total, 2.0)
    assert losses_of(runner) == pytest.approx(losses, rel=1e-4)
    check_equal(runner.model, model)


def mine(data: Path, work_dir: Path, miner: dict | None, **kwargs) -> OfflineNegativesDataset:
    """What the hook gives a data set, without a training."""
    cfg = aoq_config(data, work_dir, miner)
    cfg.custom_hooks[-1].update(kwargs)
    runner = Runner.from_cfg(cfg)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    for hook in runner.hooks:
        if type(hook).__name__ in ('BuildVocabularyHook', 'OfflineMiningHook'):
            hook.before_train(runner)
    return runner.train_dataloader.dataset


def test_negatives_of_files(data, tmp_path, trained):
    """Similarities, features and released candidates of another model."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(IMAGES, 6)).astype('f4')
    captions = generator.normal(size=(5 * IMAGES, 6)).astype('f4')
    files = {name: str(tmp_path / f'{name}.npy') for name in ('i', 'c', 'S', 'i2t', 't2i')}
    np.save(files['i'], images)
    np.save(files['c'], captions)
    np.save(files['S'], images @ captions.T)
    S = torch.from_numpy(images @ captions.T)
    own = torch.arange(IMAGES)[:, None] == torch.arange(5 * IMAGES) // 5
    S = S.masked_fill(own, -torch.inf)
    by_features = mine(data, tmp_path / 'a', dict(features=[files['i'], files['c']]))
    by_matrix = mine(data, tmp_path / 'b', dict(similarity=files['S']))
    np.save(files['i2t'], S.topk(20).indices.numpy().astype('i4'))
    np.save(files['t2i'], S.T.topk(9).indices.numpy().astype('i4'))
    by_candidates = mine(data, tmp_path / 'c', dict(candidates=[files['i2t'], files['t2i']]))
    for dataset in (by_features, by_matrix, by_candidates):
        assert torch.equal(dataset.captions_mined, S.topk(5).indices)
        assert torch.equal(dataset.images_mined, S.T.topk(5).indices)

    np.save(files['i2t'], S.topk(20).indices.numpy()[:-1])
    with pytest.raises(ValueError, match=r'i2t.npy: shape \(23, 20\), expected \(24, top_capt'):
        mine(data, tmp_path / 'd', dict(candidates=[files['i2t'], files['t2i']]))
    np.save(files['i2t'], np.zeros((IMAGES, 20), 'i4'))
    with pytest.raises(ValueError, match='i2t.npy: row 0 names what belongs to it'):
        mine(data, tmp_path / 'd', dict(candidates=[files['i2t'], files['t2i']]))
    with pytest.raises(ValueError, match=r'S.npy: shape \(24, 120\), expected 120 rows'):
        mine(data, tmp_path / 'd', dict(features=[files['i'], files['S']]))
    with pytest.raises(FileNotFoundError, match='none.npy: no such file'):
        mine(data, tmp_path / 'd', dict(similarity='none.npy'))
    with pytest.raises(FileNotFoundError, match='none.pth: no such file; train miner first'):
        mine(data, tmp_path / 'd', dict(trained, checkpoint='none.pth'))
    with pytest.raises(ValueError, match="miner has \\['model'\\], expected one of: candidates"):
        mine(data, tmp_path / 'd', dict(model='x'))


def test_negatives_know_what_they_were_mined_for(data, tmp_path, trained):
    work_dir = tmp_path / 'run'
    first = mine(data, work_dir, trained)
    again = mine(data, work_dir, trained)
    assert torch.equal(first.images_mined, again.images_mined)
    with pytest.raises(ValueError, match='offline_negatives.npz: mined_by: miner with .*expected'):
        mine(data, work_dir, None)
    with pytest.raises(ValueError, match='5 captions and 5 images each, expected 4 and 5'):
        mine(data, work_dir, trained, top_captions=4)
    other = tmp_path / 'other'
    other.mkdir()
    for path in data.iterdir():
        text = path.suffix == '.txt'
        content = path.read_bytes()
        (other / path.name).write_bytes(content.replace(b'red', b'pink') if text else content)
    with pytest.raises(ValueError, match='offline_negatives.npz: mined_for: .*other training data'):
        mine(other, work_dir, trained)


def test_aoq_needs_its_hook_and_its_dataset(data, tmp_path):
    cfg = aoq_config(data, tmp_path, None)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    with pytest.raises(RuntimeError, match='OfflineMiningHook'):
        dataset[0]
    cfg.train_dataloader.dataset.dataset.all_captions = True
    with pytest.raises(ValueError, match='24 samples, expected one for each of 120 captions'):
        DATASETS.build(cfg.train_dataloader.dataset)

    class Other:
        train_dataloader = type('Loader', (), {'dataset': [1]})

    with pytest.raises(TypeError, match='dataset is a list, expected OfflineNegativesDataset'):
        OfflineMiningHook().before_train(Other)


def test_aoq_refuses_another_batch(data, tmp_path):
    model = MODELS.build(aoq_config(data, tmp_path, None).model)
    with pytest.raises(ValueError, match='a batch of 4, expected B pairs and 2 x B samples'):
        model.loss([torch.zeros(4, 12)] * 4, [DataSample(text='red')] * 4)


# ------------------------------------------------------------------------------------------ NCR


def by_hand(matcher, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """S of a batch, and the sum of all hinges (B,) of both directions."""
    texts = [sample.text for sample in batch['data_samples']]
    images = matcher.encode_images(batch['inputs'])
    S = matcher.similarity(*images, *matcher.encode_captions(texts))
    sums = []
    for i in range(len(S)):
        rest = [j for j in range(len(S)) if j != i]
        rows = (S[i, rest] - S[i, i] + 0.2).clamp(min=0).sum()
        sums.append(rows + (S[rest, i] - S[i, i] + 0.2).clamp(min=0).sum())
    return S, torch.stack(sums)


@torch.no_grad()
def predicted(matcher, batch) -> torch.Tensor:
    matcher.eval()
    _, sums = by_hand(matcher, batch)
    left = (0.2 - sums / len(sums) / 2).clamp(0, 0.2)
    return (left / left.sort().values[-(len(left) // 10 + 1) :].mean()).clamp(0, 1)


def labelled_loss(S: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    total = 0
    for i in range(len(S)):
        rest = [j for j in range(len(S)) if j != i]
        margin = 0.2 * (10 ** labels[i] - 1) / 9
        total += (S[i, rest].max() - S[i, i] + margin).clamp(min=0)
        total += (S[rest, i].max() - S[i, i] + margin).clamp(min=0)
    return total


def split_by_hand(matcher, dataset, seed: int, epoch: int) -> np.ndarray:
    """Probabilities that pairs match, of losses over batches in the loop's random order."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed + epoch))
    losses = np.zeros(len(dataset))
    matcher.eval()
    assert len(order) % 9 == 3  # the last batch is filled up with the first pairs
    for start in range(0, len(order), 9):
        rows = torch.cat([order, order[:6]])[start : start + 9]
        samples = [dataset[int(i)] for i in rows]
        batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        with torch.no_grad():
            found = by_hand(matcher, batch)[1].double().numpy() / 9
        new = len(order) - start
        losses[rows[:new]] = found[:new]
    losses = (losses - losses.min()) / (losses.max() - losses.min())
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
    probability = mixture.fit(losses[:, None]).predict_proba(losses[:, None])
    return probability[:, mixture.means_.argmin()]


@pytest.mark.filterwarnings('ignore::sklearn.exceptions.ConvergenceWarning')
def test_ncr_steps_as_written_by_hand(data, tmp_path, monkeypatch):
    """Warm-up, splits, labels and every step of both networks, each with an Adam of its own."""
    cfg = small('sgr_ncr_1xb128-45e_f30k', data, tmp_path, epochs=4)
    cfg.train_cfg.update(warm_up_epochs=2, val_begin=9)
    cfg.train_dataloader.batch_size = 9
    runner = Runner.from_cfg(cfg)
    for matcher in runner.model.matchers:  # float64, so that rounding cannot move a pair
        matcher.double().image_encoder.register_forward_pre_hook(
            lambda encoder, args: (args[0].double(), *args[1:])
        )
    recorder = Recorder()
    runner.register_hook(recorder)
    steps = []  # of the networks in order, with their batches
    own = CoTrainLoop.run_iter
    monkeypatch.setattr(
        CoTrainLoop,
        'run_iter',
        lambda loop, idx, batch, others=None: (
            steps.append((loop.epoch, loop.runner.model.active, batch, others)),
            own(loop, idx, batch, others),
        ),
    )
    runner.train()
    dataset = runner.train_dataloader.dataset.dataset
    networks = list(recorder.start.matchers)
    optimizers = [torch.optim.Adam(m.parameters(), lr=5e-3) for m in networks]
    assert cfg.optim_wrapper.clip_grad.max_norm == 2.0
    recorder.start.share_vocabulary()

    losses, probabilities, at = [], None, -1
    seen: dict = {}
    for epoch, k, batch, others in steps:
        if epoch != at and epoch >= 2:
            probabilities = [split_by_hand(m, dataset, runner.seed, epoch) for m in networks]
        at = epoch
        net, other, parameters = networks[k], networks[1 - k], list(networks[k].parameters())
        ids = [sample.text_id for sample in batch['data_samples']]
        seen.setdefault((epoch, k), []).extend(ids)
        if epoch < 2:
            assert others is None
            net.train()
            S, sums = by_hand(net, batch)
            loss = sums.sum() / len(S)
            losses.append(loss.item())
            hand_step(parameters, optimizers[k], loss, 2.0)
            continue
        weights = torch.from_numpy(probabilities[1 - k][ids])
        assert (weights > 0.5).all()
        targets = weights + (1 - weights) * predicted(net, batch)
        assert (others is None) == (epoch < 3)  # the first of two epochs, not in the second half
        if others is not None:
            rest = [sample.text_id for sample in others['data_samples']]
            assert (probabilities[1 - k][rest] <= 0.5).all()
            mean = (predicted(net, others) + predicted(other, others)) / 2
        net.train()
        loss = labelled_loss(by_hand(net, batch)[0], targets)
        losses.append(loss.item())
        hand_step(parameters, optimizers[k], loss, 2.0)
        if others is not None:
            net.train()
            hand_step(parameters, optimizers[k], labelled_loss(by_hand(net, others)[0], mean), 2.0)
    # the first network's whole epoch, then the second's
    assert list(seen) == [(epoch, k) for epoch in range(4) for k in range(2)]
    for (epoch, _), ids in seen.items():
        expected = range(len(dataset))
        if epoch >= 2:
            assert len(ids) == len(set(ids)) < len(dataset)
        else:
            assert sorted(ids) == list(expected)
    assert losses_of(runner) == pytest.approx(losses, rel=1e-5)
    check_equal(runner.model.matchers, recorder.start.matchers)


def test_ncr_resumes(data, tmp_path):
    """Stopped after the second of three epochs, then resumed: the weights of a straight run."""
    found = []
    for name, stops in (('straight', (3,)), ('resumed', (2, 3))):
        for stop in stops:
            cfg = small('sgr_ncr_1xb128-45e_f30k', data, tmp_path / name, epochs=3)
            cfg.train_cfg.update(warm_up_epochs=1, val_begin=9)
            cfg.resume = stop != stops[0]
            cfg.experiment_name += str(stop)
            runner = Runner.from_cfg(cfg)
            runner.register_hook(StopAfter(stop))
            runner.train()
            assert runner.epoch == stop
        found.append(runner.model)
    for a, b in zip(found[0].parameters(), found[1].parameters(), strict=True):
        assert torch.equal(a, b)


class StopAfter(Hook):
    """Ends a training after so many epochs, as early stopping does."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def after_train_epoch(self, runner) -> None:
        runner.train_loop.stop_training = runner.epoch + 1 == self.epochs


def test_ncr_without_warm_up(data, tmp_path):
    """The split is the first that reads captions: both networks have the vocabulary by then."""
    cfg = small('sgr_ncr_1xb128-45e_f30k', data, tmp_path, epochs=1)
    cfg.train_cfg.update(warm_up_epochs=0, val_begin=9)
    runner = Runner.from_cfg(cfg)
    runner.train()
    vocabularies = [m.text_encoder.vocabulary for m in runner.model.matchers]
    assert vocabularies[0] is vocabularies[1] is not None
    assert np.isfinite(losses_of(runner)).all()


def test_ncr_needs_its_model(data, tmp_path):
    cfg = small('sgr_ncr_1xb128-45e_f30k', data, tmp_path, epochs=3)
    cfg.train_cfg.warm_up_epochs = 3
    with pytest.raises(ValueError, match='warm_up_epochs=3, expected less than max_epochs=3'):
        Runner.from_cfg(cfg).train()
    cfg.train_cfg.warm_up_epochs = 1
    cfg.optim_wrapper.accumulative_counts = 2
    with pytest.raises(ValueError, match='accumulative_counts=2, expected 1'):
        Runner.from_cfg(cfg).train()
    cfg.model = cfg.model.matcher
    cfg.custom_hooks.pop()
    with pytest.raises(TypeError, match='the model is a ImageTextMatcher, expected CoTrained'):
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('name', ['sgr_ncr-joint_1xb128-40e_f30k', 'saf_ncr-joint_1xb128-30e_f30k'])
def test_ncr_joint(data, tmp_path, name, monkeypatch):
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
    losses = clean_split_hook.pair_losses
    computed = []
    monkeypatch.setattr(
        clean_split_hook, 'pair_losses', lambda *a: computed.append(losses(*a)) or computed[-1]
    )
    runner.train()
    assert [labels is not None for _, labels in seen] == [False, False, True, True]
    assert [own_loss for own_loss, _ in seen] == [False, False, True, True]
    for (_, labels), pair_losses in zip(seen[2:], computed):
        for network in (0, 1):
            p = clean_probability(pair_losses[1 - network].numpy(), max_iter=50, tol=1e-4)
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
    runner.model.train()
    with pytest.raises(ValueError, match='a batch of 3 pairs, expected 4 or more'):
        runner.model.train_step(few, runner.optim_wrapper)
