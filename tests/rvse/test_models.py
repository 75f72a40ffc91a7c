"""Matching models: pooling, augmentation, encoders, the three modes."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

import projects.rvse.register  # noqa: F401
from projects.rvse.models import augment_words, drop_regions
from projects.rvse.models.gru import run_gru
from projects.rvse.models.sequences import length_mask
from projects.rvse.text import Vocabulary

CAPTIONS = ['a dog runs', 'two dogs run fast', 'a red ball', 'grass']


def build(name: str, **kwargs):
    module = MODELS.build(dict(type=name, **kwargs))
    if hasattr(module, 'init_weights'):
        module.init_weights()
    return module


def matcher(
    image_encoder: str = 'RegionResidualMLP',
    similarity: str | dict = 'CosineSimilarity',
    pool: bool = True,
    loss: str = 'SelHNLoss',
    **kwargs,
):
    torch.manual_seed(0)
    gpo = dict(type='GPO') if pool else None
    model = build(
        'ImageTextMatcher',
        image_encoder=dict(type=image_encoder, in_channels=12, channels=16, pool=gpo),
        text_encoder=dict(
            type='BiGRUTextEncoder', vocab_size=20, word_channels=8, channels=16, pool=gpo
        ),
        similarity=dict(type=similarity) if isinstance(similarity, str) else similarity,
        loss=dict(type=loss),
        **kwargs,
    )
    model.text_encoder.set_vocabulary(Vocabulary.build(CAPTIONS, min_count=1))
    return model


def samples(captions=CAPTIONS):
    return [DataSample(text=text) for text in captions]


def test_gpo_pools_sorted_channels():
    """With weights on the first rank GPO is the maximum, with equal weights the mean."""
    gpo = build('GPO')
    assert sum(p.numel() for p in gpo.parameters()) == 12704  # the released module's
    features = torch.randn(3, 5, 4)
    lengths = torch.tensor([5, 2, 3])
    with torch.no_grad():
        gpo.linear.weight.zero_()
        pooled, weights = gpo(features, lengths)
    for row, (values, n) in enumerate(zip(features, lengths.tolist())):
        torch.testing.assert_close(pooled[row], values[:n].mean(dim=0))
        assert weights[row].tolist() == pytest.approx([1 / n] * n + [0] * (5 - n))
    first = F.one_hot(torch.zeros(3, dtype=torch.long), 5).float()
    gpo.pool_weights = lambda lengths, size: first
    for row, (values, n) in enumerate(zip(features, lengths.tolist())):
        torch.testing.assert_close(gpo(features, lengths)[0][row], values[:n].max(dim=0).values)


@torch.no_grad()
def test_gpo_does_not_read_pads():
    gpo = build('GPO')
    features = torch.randn(4, 7, 6)
    lengths = torch.tensor([3, 7, 1, 5])
    noisy = features.clone()
    for row, n in enumerate(lengths.tolist()):
        noisy[row, n:] = 1e3 * torch.randn(7 - n, 6)
    together = gpo(noisy, lengths)[0]
    torch.testing.assert_close(together, gpo(features, lengths)[0])
    for row, n in enumerate(lengths.tolist()):
        alone = gpo(features[row : row + 1, :n], lengths[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone[0])


def test_gpo_without_packing():
    """Sizes that stay on a GPU: the numbers and gradients of packed sequences."""
    torch.manual_seed(0)
    gpo = build('GPO').double()
    lengths = torch.tensor([5, 2, 9, 5, 1])
    encoding = gpo._encoding(9)
    packed = run_gru(gpo.gru, encoding.expand(5, -1, -1), lengths)
    inside = length_mask(lengths, 9)[..., None]
    found = sum(states * inside for states in gpo._states(encoding, lengths))
    expected = sum(packed.chunk(2, dim=-1))
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    gradients = [
        torch.autograd.grad((states * weight).sum(), list(gpo.gru.parameters()))
        for states in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_parameters_of_the_released_image_encoder():
    """Table of the released code: 3,164,064 with the 2,048 of a batch norm that is never used."""
    encoder = build('RegionResidualMLP', in_channels=2048, channels=1024, pool=dict(type='GPO'))
    assert sum(p.numel() for p in encoder.parameters()) == 3_164_064 - 2_048
    bound = (6 / (2048 + 1024)) ** 0.5
    assert encoder.fc.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert not encoder.fc.bias.any()


@torch.no_grad()
def test_image_encoders_of_figure_2():
    """What the region features are, written out from the figure."""
    x = torch.randn(2, 3, 12)

    def mlp(module, x):  # linear, batch norm, ReLU, linear
        hidden = module.layers[0](x)
        norm = module.bns[0]
        hidden = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        hidden = hidden * norm.weight + norm.bias
        return module.layers[1](hidden.clamp(min=0))

    expected = {
        'RegionFC': lambda m: m.fc(x),
        'RegionFCMLP': lambda m: mlp(m.mlp, m.fc(x)),
        'RegionResidualMLP': lambda m: m.fc(x) + mlp(m.mlp, m.fc(x)),
        'RegionParallelMLP': lambda m: m.fc(x) + mlp(m.mlp, x),
    }
    for name, formula in expected.items():
        encoder = build(name, in_channels=12, channels=8).eval()
        if hasattr(encoder, 'mlp'):
            encoder.mlp.bns[0].running_mean.normal_()
            encoder.mlp.bns[0].running_var.uniform_(0.5, 2)
        torch.testing.assert_close(encoder.region_features(x), formula(encoder))
        embeddings, _ = encoder(x, torch.tensor([3, 2]))
        norms = embeddings.norm(dim=-1)
        torch.testing.assert_close(norms, torch.tensor([[1.0, 1, 1], [1, 1, 0]]))


def test_drop_regions():
    torch.manual_seed(0)
    features = torch.arange(1.0, 401).reshape(100, 4, 1)
    lengths = torch.tensor([4, 3, 2, 1] * 25)
    kept, sizes = drop_regions(features, lengths, 0.2)
    assert sizes.min() == 1 and (sizes <= lengths).all()
    for row in range(100):
        values = kept[row, :, 0].tolist()
        alive = values[: sizes[row]]
        assert alive == sorted(alive)  # in order
        assert set(alive) <= set(features[row, : lengths[row], 0].tolist())
        assert not any(values[sizes[row] :])
    many, sizes = drop_regions(torch.ones(2000, 36, 1), torch.full((2000,), 36), 0.2)
    assert sizes.float().mean().item() == pytest.approx(36 * 0.8, rel=0.01)
    _, sizes = drop_regions(features, lengths, 1.0)
    assert sizes.tolist() == [1] * 100


def test_augment_words():
    torch.manual_seed(0)
    ids = torch.full((4000, 10), 7)
    lengths = torch.full((4000,), 10)
    changed, sizes = augment_words(ids, lengths, 50, torch.arange(4, 50), rate=0.2)
    total = 4000 * 10
    assert (changed == 50).sum().item() / total == pytest.approx(0.10, rel=0.05)  # half of 20%
    deleted = 1 - sizes.sum().item() / total
    assert deleted == pytest.approx(0.08, rel=0.05)  # 40%
    valid = torch.arange(changed.shape[1]) < sizes[:, None]
    replaced = (valid & (changed != 7) & (changed != 50)).sum().item() / total
    assert replaced == pytest.approx(0.02 * 45 / 46, rel=0.1)  # 10%, and one of 46 draws a 7
    assert set(changed[valid].tolist()) == set(range(4, 51))  # no <pad>, <start>, <end>, <unk>
    assert not changed[~valid].any()


def test_tokens_of_a_word_share_its_fate():
    torch.manual_seed(0)
    ids = torch.tensor([[2, 10, 11, 12, 20, 3, 0]]).repeat(500, 1)
    words = torch.tensor([[0, 1, 1, 1, 4, 5, 5]]).repeat(500, 1)
    exempt = torch.tensor([[1, 0, 0, 0, 0, 1, 1]]).bool().repeat(500, 1)
    lengths = torch.full((500,), 6)
    changed, sizes = augment_words(
        ids, lengths, 4, torch.arange(4), 0.9, words=words, exempt=exempt
    )
    shapes = set()
    for row, size in zip(changed.tolist(), sizes.tolist()):
        tokens = row[:size]
        assert tokens[0] == 2 and tokens[-1] == 3
        long_word = tuple(t if t == 4 or t >= 10 else 'random' for t in tokens[1:-1] if t != 20)
        shapes.add(long_word[:3] if size >= 5 else None)
    assert {(4, 4, 4), (10, 11, 12), ('random',) * 3} <= shapes
    assert {int(size) for size in sizes.unique()} == {2, 3, 5, 6}  # none, short, long, both


def test_bert_words_begin_without_hashes():
    """The long word's three pieces are masked, replaced or deleted together; [CLS] stays."""
    from projects.common.text import WordPieceTokenizer

    tokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'dog', 'run', '##n', '##ing']
    config = dict(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    encoder = build('BERTCaptionEncoder', encoder=dict(bert=config), channels=8, mask_rate=0.9)
    encoder.encoder.set_tokenizer(WordPieceTokenizer(tokens))
    ids, lengths = encoder.tokenize(['dog running'] * 300)
    assert ids[0].tolist() == [2, 5, 6, 7, 8, 3] and lengths[0] == 6
    changed, sizes = encoder._augment(ids, lengths)
    assert {int(size) for size in sizes.unique()} == {2, 3, 5, 6}
    assert (changed[:, 0] == 2).all()
    whole = changed[sizes == 6]
    masked = (whole[:, 2:5] == 4).sum(dim=1)
    assert (masked == 3).any() and (masked[whole[:, 2] == 4] >= 1).all()
    features, _ = encoder.train()(ids, lengths)
    assert torch.isfinite(features).all()


def test_pools_without_weights():
    """Mean and last vector of ragged sets, by slices; pads are not read."""
    features = torch.randn(3, 5, 4)
    lengths = torch.tensor([5, 1, 3])
    sets = [row[:n] for row, n in zip(features, lengths)]
    for i, n in enumerate(lengths):
        features[i, n:] = torch.nan
    mean, weights = build('MeanPool')(features, lengths)
    torch.testing.assert_close(mean, torch.stack([each.mean(dim=0) for each in sets]))
    assert weights[2].tolist() == pytest.approx([1 / 3] * 3 + [0] * 2)
    last, weights = build('LastPool')(features, lengths)
    assert torch.equal(last, torch.stack([each[-1] for each in sets]))
    assert weights.argmax(dim=1).tolist() == [4, 0, 2]


def test_vsepp_by_hand():
    """Mean of the projected regions, and the last state of a GRU that reads forwards."""
    cfg = Config.fromfile('configs/rvse/vsepp_hn_1xb128-30e_f30k.py').model
    cfg.image_encoder.update(in_channels=12, channels=8)
    cfg.text_encoder.update(vocab_size=9, word_channels=5, channels=8)
    model = MODELS.build(cfg).eval()
    regions = [torch.randn(n, 12) for n in (4, 2)]
    ids, lengths = torch.tensor([[1, 4, 2, 0], [1, 5, 6, 2]]), torch.tensor([3, 4])
    with torch.no_grad():
        images = torch.stack(
            [F.linear(r.mean(dim=0), *model.image_encoder.fc.parameters()) for r in regions]
        )
        rnn, states = model.text_encoder.rnn, []
        for row, n in zip(ids, lengths):
            h = torch.zeros(8)
            for word in model.text_encoder.embed(row[:n]):
                gates = [
                    F.linear(x, w, b).chunk(3)
                    for x, w, b in (
                        (word, rnn.weight_ih_l0, rnn.bias_ih_l0),
                        (h, rnn.weight_hh_l0, rnn.bias_hh_l0),
                    )
                ]
                (ri, zi, ni), (rh, zh, nh) = gates
                z = (zi + zh).sigmoid()
                h = (1 - z) * (ni + (ri + rh).sigmoid() * nh).tanh() + z * h
            states.append(h)
        found = model.encode_images(regions)[0], model.text_encoder(ids, lengths)[0]
    torch.testing.assert_close(found[0], F.normalize(images))
    torch.testing.assert_close(found[1], F.normalize(torch.stack(states)))


def test_random_words_are_real_words():
    """Not [unused], not special, not the end of a word; of a BiGRU, of its own vocabulary."""
    from projects.common.text import WordPieceTokenizer
    from projects.rvse.text import Vocabulary

    special = ['[PAD]', '[unused0]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    tokens = [*special, '[', 'dog', 'run', '##n', '##ing', 'cat']
    config = dict(
        vocab_size=14,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    encoder = build('BERTCaptionEncoder', encoder=dict(bert=config), channels=8, mask_rate=0.9)
    encoder.encoder.set_tokenizer(WordPieceTokenizer(tokens))
    torch.manual_seed(0)
    ids, lengths = encoder.tokenize(['dog dog dog'] * 500)
    found = {tokens[i] for i in encoder._augment(ids, lengths)[0].unique().tolist()}
    assert found == {'[PAD]', '[CLS]', '[SEP]', '[MASK]', '[', 'dog', 'run', 'cat'}
    encoder.encoder.set_tokenizer(WordPieceTokenizer([*tokens, 'new']))
    assert (encoder._augment(ids, lengths)[0] == 12).any()  # the tables follow the tokenizer

    gru = build('BiGRUTextEncoder', vocab_size=20, word_channels=4, channels=4, mask_rate=0.9)
    gru.set_vocabulary(Vocabulary.build(['a dog runs'], min_count=1))
    seen = []
    gru.embed.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    gru.train()(*gru.tokenize(['dog dog dog'] * 500))
    # pad, start, end, the three words, and <mask> in the embedding's last row
    assert set(seen[0].unique().tolist()) == {0, 1, 2, 4, 5, 6, 19}


@pytest.mark.parametrize(
    'image_encoder', ['RegionFC', 'RegionFCMLP', 'RegionResidualMLP', 'RegionParallelMLP']
)
def test_modes(image_encoder):
    model = matcher(image_encoder)
    regions = [torch.randn(n, 12) for n in (5, 3, 4, 1)]
    losses = model(regions, samples(), mode='loss')
    assert set(losses) == {'loss', 'delta_s', 'triplet_share'}
    losses['loss'].backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None]
    assert not unused
    assert model.image_encoder.fc.weight.grad.abs().sum() > 0

    model.eval()
    with torch.no_grad():
        feats = model(regions, samples())
        assert feats['image_feat'].shape == feats['text_feat'].shape == (4, 16)
        pictures, captions = model(regions, samples(), mode='predict')
    cosines = feats['image_feat'] @ feats['text_feat'].T
    torch.testing.assert_close(torch.stack([p.pred_score for p in pictures]), cosines)
    torch.testing.assert_close(torch.stack([c.pred_score for c in captions]), cosines.T)
    with pytest.raises(ValueError, match="mode='train'"):
        model(regions, samples(), mode='train')


@torch.no_grad()
def test_embeddings_do_not_depend_on_the_batch():
    """Ragged images and captions, encoded together and alone."""
    model = matcher().eval()
    regions = [torch.randn(n, 12) for n in (5, 3, 4, 1)]
    together = model(regions, samples())
    for i, caption in enumerate(CAPTIONS):
        alone = model(regions[i : i + 1], samples([caption]))
        for what in ('image_feat', 'text_feat'):
            torch.testing.assert_close(alone[what][0], together[what][i], atol=1e-6, rtol=0)


@torch.no_grad()
def test_predict_all_as_mmpretrain_asks():
    """Five captions an image: labels of both directions are those of the samples."""
    model = matcher().eval()
    data = [
        DataSample(text=CAPTIONS[:2], gt_text_id=[0, 1], gt_image_id=[0, 0]),
        DataSample(text=CAPTIONS[2:], gt_text_id=[2, 3], gt_image_id=[1, 1]),
    ]
    feats = model([torch.randn(5, 12), torch.randn(2, 12)], data)
    pictures, captions = model.predict_all(feats, data, num_images=2, num_texts=4)
    assert [p.gt_label.tolist() for p in pictures] == [[0, 1], [2, 3]]
    assert [c.gt_label.tolist() for c in captions] == [[0], [0], [1], [1]]
    assert [c.text for c in captions] == CAPTIONS
    for sample in (*pictures, *captions):
        assert sample.pred_label.item() == sample.pred_score.argmax().item()


def test_repeats_are_no_negatives():
    """With captions of one image marked, the loss is that of the marked matrix."""
    model = matcher(loss='HardNegativeLoss', mask_repeats=True).eval()
    data = samples()
    for sample, image_id in zip(data, 'abab'):
        sample.set_metainfo(dict(image_id=image_id))
    regions = torch.randn(4, 5, 12)
    scores = model.score(model(regions, data))
    far = scores.masked_fill(torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1]] * 2).bool(), -9)
    far[2, 0] = far[3, 1] = -9
    far[2, 2], far[3, 3] = scores[2, 2], scores[3, 3]
    assert model.loss(regions, data)['loss'] == model.criterion(far)
    with pytest.raises(ValueError, match='mask_repeats needs image_id'):
        model.loss(regions, samples())


@pytest.mark.parametrize('loss', ['HardNegativeLoss', 'SelHNLoss', 'ITMTripletLoss'])
def test_several_captions_are_pairs_that_share_a_picture(loss):
    """A sample with captions is as many samples with the same image, marked as repeats."""
    model = matcher(loss=loss, mask_repeats=True).eval()
    regions = torch.randn(2, 5, 12)
    pairs = samples()
    for sample, image_id in zip(pairs, 'aaab'):
        sample.set_metainfo(dict(image_id=image_id))
    expected = model.loss(regions[[0, 0, 0, 1]], pairs)
    grouped = [DataSample(text=CAPTIONS[:3]), DataSample(text=CAPTIONS[3])]
    model.mask_repeats = False
    found = model.loss(regions, grouped)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def test_vocabulary_travels_with_the_weights():
    model = matcher()
    other = build('BiGRUTextEncoder', vocab_size=20, word_channels=8, channels=16)
    with pytest.raises(RuntimeError, match='no vocabulary'):
        other.tokenize(CAPTIONS)
    state = model.text_encoder.state_dict()
    other.load_state_dict({k: v for k, v in state.items() if not k.startswith('gpool')})
    assert other.vocabulary.words == model.text_encoder.vocabulary.words
    with pytest.raises(ValueError, match=r'needs \d+ rows, but vocab_size is 5'):
        build('BiGRUTextEncoder', vocab_size=5).set_vocabulary(other.vocabulary)
    with pytest.raises(ValueError, match='set vocab_file'):
        build('BiGRUTextEncoder')


def test_bad_input_names_the_sample():
    model = matcher()
    with pytest.raises(ValueError, match=r'inputs\[1\]: shape \(0, 12\)'):
        model([torch.randn(3, 12), torch.randn(0, 12)], samples()[:2])
    for text in ([], 3, [3]):
        data = [DataSample(text=CAPTIONS[0]), DataSample(text=text)]
        with pytest.raises(ValueError, match=r'data_samples\[1\].text: .* expected a caption or'):
            model(torch.randn(2, 3, 12), data, mode='loss')


def test_grid_features_of_a_backbone():
    """Cells of the feature map are the regions."""
    model = matcher()
    plain = torch.nn.Conv2d(3, 12, 4, stride=4)
    model.backbone = plain
    model.eval()
    images = torch.randn(2, 3, 8, 12)
    with torch.no_grad():
        cells = plain(images).flatten(2).transpose(1, 2)  # (2, 6, 12)
        expected = model.image_encoder(cells, torch.tensor([6, 6]))[0]
        torch.testing.assert_close(model(images, samples()[:2])['image_feat'], expected)


# SGR with HardNegativeLoss stands at 2 * B * margin for more steps than a test may take (Figure 1).
@pytest.mark.parametrize(
    ('name', 'loss'),
    [
        ('SCAN', 'HardNegativeLoss'),
        ('BFAN', 'SSPLoss'),
        ('SGR', 'SelHNLoss'),
        ('SAF', 'SelHNLoss'),
    ],
)
def test_cross_attention_models_train(name, loss):
    """A few steps on one batch lower its loss, and every parameter has a gradient."""
    similarity = dict(type=f'{name}Similarity')
    if name in ('SGR', 'SAF'):
        similarity.update(channels=16, sim_channels=8, num_regions=5, dropout=0.0)
    model = matcher('RegionFC', similarity, pool=False, loss=loss).train()
    regions = torch.randn(4, 5, 12)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        value = model(regions, samples(), mode='loss')['loss']
        value.backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None]
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.7 * losses[0], losses
