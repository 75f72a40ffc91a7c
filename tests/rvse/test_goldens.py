"""Matching models against outputs of the released code on the same deterministic weights.

``pytest -s tests/rvse/test_goldens.py`` prints the largest error of each file and its tolerance.
"""

import pytest
import torch
from mmengine.registry import MODELS

import projects.rvse.register  # noqa: F401

GPO = dict(type='GPO')
BERT = dict(
    vocab_size=50,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=32,
    type_vocab_size=2,
)
BIGRU_TEXT = dict(type='BiGRUTextEncoder', vocab_size=50, word_channels=32, channels=64)
BERT_TEXT = dict(type='BERTCaptionEncoder', encoder=dict(bert=BERT), channels=64, pool=GPO)
VSE = {
    'vse_bigru': ('RegionParallelMLP', dict(BIGRU_TEXT, pool=GPO)),
    'vse_bert': ('RegionParallelMLP', BERT_TEXT),
    'rvse_bigru': ('RegionResidualMLP', dict(BIGRU_TEXT, pool=GPO)),
    'rvse_bert': ('RegionResidualMLP', BERT_TEXT),
}


def load(reference, model, name: str, dtype: torch.dtype):
    """Loads every released tensor but those that nothing reads (second BN, BERT's pooler)."""
    released = reference.state_dict(reference.root / f'keys/reduced_{name}.txt', seed=0)
    state = {}
    for key, value in released.items():
        index, key = key.split(':', 1)
        key = key.removeprefix('module.').replace('cap_rnn.', 'rnn.')
        if key.startswith(('mlp.bns.1.', 'bert.pooler.')):
            continue
        part = ('image_encoder.', 'text_encoder.', 'similarity.')[int(index)]
        key = key.replace('bert.', 'encoder.bert.', 1) if key.startswith('bert.') else key
        state[part + key] = torch.from_numpy(value)
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert all(key.endswith('_extra_state') for key in missing.missing_keys)
    return model.eval().to(dtype)


def build(image_encoder: str, text_encoder: dict, similarity: dict, **kwargs):
    return MODELS.build(
        dict(
            type='ImageTextMatcher',
            image_encoder=dict(type=image_encoder, in_channels=48, channels=64, **kwargs),
            text_encoder=text_encoder,
            similarity=similarity,
        )
    )


def tolerance(dtype: torch.dtype, what: str, float64: float = 1e-12) -> tuple[str, float]:
    if dtype == torch.float64:
        return f'{what}_f64', float64
    return what, 5e-6 if what.endswith(('sum', 'max', 'lse', 'lse20')) else 2e-6


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', VSE)
@torch.no_grad()
def test_vse_family(reference, name, dtype):
    golden = reference.golden(f'{name}_seed0')
    image_encoder, text_encoder = VSE[name]
    model = build(image_encoder, text_encoder, dict(type='CosineSimilarity'), pool=GPO)
    load(reference, model, name, dtype)
    regions = torch.from_numpy(golden['images']).to(dtype)
    ids, lengths = torch.from_numpy(golden['tokens']), torch.from_numpy(golden['lengths'])

    def check(ours, what):
        golden.check(ours, *tolerance(dtype, what, 2e-7))  # the encoding of ranks is float32

    images, image_lengths = model.encode_images(regions)
    captions, caption_lengths = model.text_encoder(ids, lengths)
    check(images, 'img_embs')
    check(captions, 'cap_embs')
    scores = model.similarity(images, image_lengths, captions, caption_lengths)
    what, limit = tolerance(dtype, 'sims', 2e-7)
    golden.check(scores.double(), what, limit)
    check(model.image_encoder.gpool.pool_weights(image_lengths, 36), 'img_pool_weights')
    check(model.text_encoder.gpool.pool_weights(lengths, 14), 'cap_pool_weights')
    if dtype == torch.float32:
        check(model.image_encoder.region_features(regions), 'img_features')

    ragged = torch.from_numpy(golden['img_lengths_ragged']).tolist()
    images, image_lengths = model.encode_images([r[:n] for r, n in zip(regions, ragged)])
    check(images, 'img_embs_ragged')
    check(model.image_encoder.gpool.pool_weights(image_lengths, 36), 'img_pool_weights_ragged')
    what, limit = tolerance(dtype, 'sims_ragged', 2e-7)
    scores = model.similarity(images, image_lengths, captions, caption_lengths)
    golden.check(scores.double(), what, limit)


def words_and_regions(golden, model, dtype):
    """Embeddings that the released similarity was computed from, checked on the way."""
    images, image_lengths = model.encode_images(torch.from_numpy(golden['images']).to(dtype))
    captions, lengths = model.text_encoder(
        torch.from_numpy(golden['tokens']), torch.from_numpy(golden['lengths'])
    )
    golden.check(images, *tolerance(dtype, 'img_embs'))
    golden.check(captions, *tolerance(dtype, 'cap_embs'))
    return images, image_lengths, captions, lengths


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@torch.no_grad()
def test_scan(reference, dtype):
    golden = reference.golden('scan_seed0')
    model = build('RegionFC', BIGRU_TEXT, dict(type='SCANSimilarity'))
    inputs = words_and_regions(golden, load(reference, model, 'scan', dtype), dtype)
    for direction in ('t2i', 'i2t'):
        for aggregation in ('AVG', 'LSE', 'max', 'sum'):
            similarity = MODELS.build(
                dict(type='SCANSimilarity', direction=direction, aggregation=aggregation)
            )
            what = f'sims_{direction}_{aggregation.lower()}'
            golden.check(similarity(*inputs), *tolerance(dtype, what))
    coco = dict(type='SCANSimilarity', direction='i2t', aggregation='LSE', lambda_lse=20)
    golden.check(MODELS.build(coco)(*inputs), *tolerance(dtype, 'sims_i2t_lse20'))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@torch.no_grad()
def test_bfan(reference, dtype):
    golden = reference.golden('bfan_seed0')
    model = build('RegionFC', BIGRU_TEXT, dict(type='BFANSimilarity'))
    inputs = words_and_regions(golden, load(reference, model, 'bfan', dtype), dtype)
    for focus in ('equal', 'prob'):
        similarity = MODELS.build(dict(type='BFANSimilarity', focus=focus))
        golden.check(similarity(*inputs), *tolerance(dtype, f'sims_{focus}'))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', ['sgr', 'saf'])
@torch.no_grad()
def test_sgraf(reference, name, dtype):
    golden = reference.golden(f'{name}_seed0')
    similarity = dict(type=f'{name.upper()}Similarity', channels=64, sim_channels=16)
    model = build('RegionFC', BIGRU_TEXT, similarity)
    load(reference, model, name, dtype)
    inputs = words_and_regions(golden, model, dtype)
    images, _, captions, lengths = inputs
    similarity = model.similarity
    golden.check(similarity(*inputs), *tolerance(dtype, 'sims'))
    whole_images = similarity.v_global_w(images)
    whole_captions = similarity.t_global_w(captions, lengths)
    golden.check(whole_images, *tolerance(dtype, 'img_global'))
    golden.check(whole_captions, *tolerance(dtype, 'cap_global'))
    images = torch.cat([whole_images[:, None], images], dim=1)
    terms = similarity.image_terms(images)
    vectors = [
        similarity.similarity_vectors(images, terms, torch.cat([whole[None], words[:n]])[None])
        for whole, words, n in zip(whole_captions, captions, lengths.tolist())
    ]
    vectors = torch.cat(vectors, dim=1)
    golden.check(vectors, *tolerance(dtype, 'sim_vecs'))
    golden.check(similarity.sim_eval_w(vectors).squeeze(-1), *tolerance(dtype, 'logits'))
