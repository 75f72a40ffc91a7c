"""Batched similarities against the published loops, one caption at a time."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

import projects.rvse.register  # noqa: F401
from benchmarks import published_loops as published

CASES = {
    'SCAN t2i AVG': (
        dict(type='SCANSimilarity', direction='t2i', aggregation='AVG'),
        published.scan('t2i', 'AVG', 9, 6),
    ),
    'SCAN t2i LSE': (
        dict(type='SCANSimilarity', direction='t2i', aggregation='LSE'),
        published.scan('t2i', 'LSE', 9, 6),
    ),
    'SCAN i2t AVG': (
        dict(type='SCANSimilarity', direction='i2t', aggregation='AVG'),
        published.scan('i2t', 'AVG', 4, 5),
    ),
    'SCAN i2t LSE': (
        dict(type='SCANSimilarity', direction='i2t', aggregation='LSE'),
        published.scan('i2t', 'LSE', 4, 5),
    ),
    'BFAN equal': (dict(type='BFANSimilarity', focus='equal'), published.bfan('equal')),
    'BFAN prob': (dict(type='BFANSimilarity', focus='prob'), published.bfan('prob')),
}


def embeddings(images=6, regions=9, captions=23, words=17, channels=32, dtype=torch.float32):
    """Correlated unit vectors, so that attention is not flat; noise where captions have ended."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, 1, channels, generator=generator, dtype=torch.float64)
    made = []
    for shape in ((images, regions), (captions, words)):
        noise = torch.randn(*shape, channels, generator=generator, dtype=torch.float64)
        made.append(F.normalize(common + noise, dim=-1).to(dtype))
    lengths = torch.randint(2, words + 1, (captions,), generator=generator)
    return made[0], torch.full((images,), regions), made[1], lengths


@pytest.mark.parametrize(('dtype', 'limit'), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize('case', CASES)
@torch.no_grad()
def test_equals_the_published_loop(case, dtype, limit):
    config, score = CASES[case]
    images, image_lengths, captions, lengths = embeddings(dtype=dtype)
    ours = MODELS.build(config)(images, image_lengths, captions, lengths)
    loop = published.loop(score, images, captions, lengths)
    assert ours.shape == (6, 23)
    torch.testing.assert_close(ours, loop, atol=limit, rtol=0)
    assert loop.std() > 100 * limit  # the scores differ by more than the tolerance


@pytest.mark.parametrize('case', CASES)
def test_gradient_equals_the_loop(case):
    config, score = CASES[case]
    images, image_lengths, captions, lengths = embeddings(dtype=torch.float64)
    images.requires_grad_()
    captions.requires_grad_()
    factors = torch.randn(6, 23, dtype=torch.float64)
    ours = MODELS.build(config)(images, image_lengths, captions, lengths)
    loop = published.loop(score, images, captions, lengths)
    for mine, its in zip(
        torch.autograd.grad((ours * factors).sum(), (images, captions)),
        torch.autograd.grad((loop * factors).sum(), (images, captions)),
    ):
        torch.testing.assert_close(mine, its, atol=1e-10, rtol=0)


@pytest.mark.parametrize('case', CASES)
@torch.no_grad()
def test_blocks_make_no_difference(case):
    """One pair at a time, and all at once."""
    config, _ = CASES[case]
    inputs = embeddings(dtype=torch.float64)
    whole = MODELS.build(config)
    pairs = MODELS.build(dict(config, workspace=1))
    pairs.spread = 1.0
    whole.spread = 100.0
    torch.testing.assert_close(whole(*inputs), pairs(*inputs), atol=1e-12, rtol=0)


@pytest.mark.parametrize('case', CASES)
@torch.no_grad()
def test_ragged_pictures(case):
    """Images with fewer regions score as they do alone, whatever fills their pads."""
    config, score = CASES[case]
    images, _, captions, lengths = embeddings(dtype=torch.float64)
    image_lengths = torch.tensor([9, 4, 6, 9, 2, 7])
    similarity = MODELS.build(config)
    ours = similarity(images, image_lengths, captions, lengths)
    for i, n in enumerate(image_lengths.tolist()):
        alone = published.loop(score, images[i : i + 1, :n], captions, lengths)
        torch.testing.assert_close(ours[i], alone[0], atol=1e-12, rtol=0)
    refilled, words = images.clone(), captions.clone()
    for i, n in enumerate(image_lengths.tolist()):
        refilled[i, n:] = 7.0
    for i, n in enumerate(lengths.tolist()):
        words[i, n:] = -3.0
    again = similarity(refilled, image_lengths, words, lengths)
    torch.testing.assert_close(ours, again, atol=1e-12, rtol=0)


@pytest.mark.parametrize('case', CASES)
def test_degenerate_sets_are_finite(case):
    """One region, one word, equal weights: BFAN's masks would keep nothing."""
    config, _ = CASES[case]
    images = F.normalize(torch.ones(2, 3, 8), dim=-1).requires_grad_()
    captions = F.normalize(torch.ones(3, 4, 8), dim=-1).requires_grad_()
    scores = MODELS.build(config)(images, torch.tensor([3, 1]), captions, torch.tensor([1, 4, 2]))
    scores.sum().backward()
    for tensor in (scores, images.grad, captions.grad):
        assert torch.isfinite(tensor).all()
    if config.get('aggregation', 'AVG') == 'AVG':
        best = 2.0 if 'BFAN' in case else 1.0
        torch.testing.assert_close(scores, torch.full((2, 3), best))


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="direction='both'"):
        MODELS.build(dict(type='SCANSimilarity', direction='both'))
    with pytest.raises(ValueError, match="aggregation='Mean'"):
        MODELS.build(dict(type='SCANSimilarity', aggregation='Mean'))
    with pytest.raises(ValueError, match="focus='none'"):
        MODELS.build(dict(type='BFANSimilarity', focus='none'))


def sgraf(kind: str, **kwargs):
    torch.manual_seed(0)
    config = dict(channels=32, sim_channels=8, num_regions=9, **kwargs)
    module = MODELS.build(
        dict(type={'sgr': 'SGRSimilarity', 'saf': 'SAFSimilarity'}[kind], **config)
    )
    module.init_weights()
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm1d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    module.sim_eval_w.weight.data *= 50  # scores that differ by more than the tolerance
    return module.double().eval()


@pytest.mark.parametrize('kind', ['sgr', 'saf'])
def test_sgraf_equals_the_published_loop(kind):
    images, image_lengths, captions, lengths = embeddings(dtype=torch.float64)
    images.requires_grad_()
    captions.requires_grad_()
    module = sgraf(kind)
    ours = module(images, image_lengths, captions, lengths)
    loop = published.loop(published.sgraf(module, kind, images), images, captions, lengths)
    torch.testing.assert_close(ours, loop, atol=1e-10, rtol=0)
    assert loop.std() > 1e-3
    factors = torch.randn(6, 23, dtype=torch.float64)
    wanted = (images, captions, module.sim_tranloc_w.weight, module.sim_tranglo_w.weight)
    for mine, its in zip(
        torch.autograd.grad((ours * factors).sum(), wanted),
        torch.autograd.grad((loop * factors).sum(), wanted),
    ):
        torch.testing.assert_close(mine, its, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize('kind', ['sgr', 'saf'])
@torch.no_grad()
def test_sgraf_single_precision_and_blocks(kind):
    images, image_lengths, captions, lengths = embeddings(dtype=torch.float64)
    module = sgraf(kind)
    double = module(images, image_lengths, captions, lengths)
    noisy = captions.clone()
    for i, n in enumerate(lengths.tolist()):
        noisy[i, n:] = 5.0
    torch.testing.assert_close(module(images, image_lengths, noisy, lengths), double)
    module.workspace = 1
    torch.testing.assert_close(module(images, image_lengths, captions, lengths), double)
    module.workspace = 2**24
    single = module.float()(images.float(), image_lengths, captions.float(), lengths)
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=0)
    half = module(images.half(), image_lengths, captions.half(), lengths)
    assert half.dtype == torch.float32 and torch.isfinite(half).all()


@pytest.mark.parametrize('kind', ['sgr', 'saf'])
def test_sgraf_trains(kind):
    images, image_lengths, captions, lengths = embeddings()
    module = sgraf(kind).float().train()
    scores = module(images, image_lengths, captions, lengths)
    scores.sum().backward()
    for name, parameter in module.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    with pytest.raises(ValueError, match='images of 4 to 9 regions, expected 9'):
        module(images, torch.tensor([9, 4, 9, 9, 9, 9]), captions, lengths)
