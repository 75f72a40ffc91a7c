"""Released checkpoints to ours and back, and files that are something else."""

import argparse
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import projects.rvse.register  # noqa: F401
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.rvse.released_weights import (
    as_released_list,
    check_options,
    empty_matcher,
    from_released,
    read_released,
    to_released,
)
from projects.rvse.text import Vocabulary

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


def config(name: str, reduced: bool) -> Config:
    """The model of a released layout, at the size of the goldens or of the paper."""
    sizes = dict(channels=64) if reduced else {}
    region = dict(in_channels=48, **sizes) if reduced else {}
    word = dict(word_channels=32, **sizes) if reduced else {}
    family, _, text = name.partition('_')
    pool = dict(pool=GPO) if family in ('vse', 'rvse') else {}
    encoder = {'vse': 'RegionParallelMLP', 'rvse': 'RegionResidualMLP'}.get(family, 'RegionFC')
    if text == 'bert':
        bert = dict(encoder=dict(bert=BERT)) if reduced else {}
        text_encoder = dict(type='BERTCaptionEncoder', **bert, **sizes, **pool)
    else:
        # an embedding of another size: the checkpoint's number of rows counts
        text_encoder = dict(type='BiGRUTextEncoder', vocab_size=7, **word, **pool)
    similarity = dict(
        type={'scan': 'SCANSimilarity', 'bfan': 'BFANSimilarity'}.get(family, 'CosineSimilarity')
    )
    if family in ('sgr', 'saf'):
        similarity = dict(type=f'{family.upper()}Similarity')
        similarity.update(dict(sim_channels=16, channels=64) if reduced else {})
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageTextMatcher',
                image_encoder=dict(type=encoder, **region, **pool),
                text_encoder=text_encoder,
                similarity=similarity,
            ),
        )
    )


NAMES = ('vse_bigru', 'vse_bert', 'rvse_bigru', 'rvse_bert', 'scan', 'bfan', 'sgr', 'saf')
DEAD = {'vse_bigru': 5, 'rvse_bigru': 5, 'vse_bert': 7, 'rvse_bert': 7}


def released_model(reference, name: str) -> list[dict[str, torch.Tensor]]:
    """The list of state dicts, keys as the released files have them."""
    parts: list[dict] = [{}, {}]
    state = reference.state_dict(reference.root / f'keys/reduced_{name}.txt', seed=0)
    for key, value in state.items():
        place, key = key.split(':', 1)
        if int(place) == len(parts):
            parts.append({})
        parts[int(place)][key] = torch.from_numpy(value)
    return parts


def same(first, second) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.dtype == second[key].dtype and torch.equal(value, second[key]), key


@pytest.fixture
def tool(repo_root, monkeypatch, capsys):
    """Runs the converter in this process: exit code, output, errors."""

    def run(*arguments):
        script = str(repo_root / 'tools/model_converters/rvse.py')
        monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(script, run_name='__main__')
        except SystemExit as end:
            code = end.code
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return run


@pytest.mark.parametrize('name', NAMES)
def test_full_size_lists(shared_reference, name):
    """Every key and shape of the published sizes, without memory for them."""
    weights = {}
    for line in (shared_reference / f'keys/{name}_f30k.txt').read_text().splitlines():
        if not line.startswith('#'):
            key, _, shape = line.partition('\t')
            shape = [int(size) for size in shape.split(',') if size]
            weights[key.replace(':module.', ':')] = torch.empty(shape, device='meta')
    rows = len(weights['1:embed.weight']) if '1:embed.weight' in weights else None
    model = empty_matcher(config(name, reduced=False), rows)
    ours = from_released(weights, model)
    assert ours.weights.keys() == model.state_dict().keys()
    assert len(ours.dropped) == DEAD.get(name, 0)
    back = to_released(ours.weights, model)
    assert {k: v.shape for k, v in back.weights.items()} == {k: v.shape for k, v in weights.items()}


@pytest.mark.parametrize('name', NAMES)
def test_round_trip_of_files(reference, tool, tmp_path, name):
    """Released -> ours -> released through the tool, bit by bit; ours loads strictly."""
    parts = released_model(reference, name)
    source, ours, back = (tmp_path / f'{n}.pth' for n in ('released', 'ours', 'back'))
    options = argparse.Namespace(margin=0.2, data_name='f30k_precomp', workers=10)
    content = dict(epoch=3, model=parts, best_rsum=1.0, opt=options, Eiters=9)
    torch.save(content, source, _use_new_zipfile_serialization=False)  # as torch 1.x wrote
    cfg = config(name, reduced=True)
    cfg.dump(str(tmp_path / 'config.py'))
    done = tool(tmp_path / 'config.py', source, ours)
    assert done.code == 0, done.err
    assert ('tensors dropped' in done.out) == (name in DEAD)
    state = load_checkpoint_file(ours)['state_dict']
    if 'vocab_size' in cfg.model.text_encoder:
        cfg.model.text_encoder.vocab_size = 50
    model = MODELS.build(cfg.model)
    model.load_state_dict(state)
    done = tool(tmp_path / 'config.py', ours, back, '--to', 'released', '--original', source)
    assert done.code == 0 and 'tensors made' not in done.out, done.err
    written = torch.load(back, weights_only=True)['model']
    assert len(written) == len(parts)
    for first, second in zip(written, parts):
        same(first, second)
    done = tool(tmp_path / 'config.py', ours, back, '--to', 'released')
    assert ('tensors made' in done.out) == (name in DEAD)
    same(from_released(read_released(back)[0], model).weights, state)


def test_vocabulary_travels(reference, tool, tmp_path):
    torch.save(dict(model=released_model(reference, 'scan')), tmp_path / 'released.pth')
    config('scan', reduced=True).dump(str(tmp_path / 'config.py'))
    vocabulary = Vocabulary.build(['a dog runs', 'two dogs'], min_count=1)
    vocabulary.save(tmp_path / 'vocab.json')
    arguments = (tmp_path / 'config.py', tmp_path / 'released.pth', tmp_path / 'ours.pth')
    assert 'no vocabulary: give --vocab' in tool(*arguments).out
    done = tool(*arguments, '--vocab', tmp_path / 'vocab.json')
    assert done.code == 0 and 'no vocabulary' not in done.out
    cfg = config('scan', reduced=True)
    cfg.model.text_encoder.vocab_size = 50
    model = MODELS.build(cfg.model)
    model.load_state_dict(load_checkpoint_file(tmp_path / 'ours.pth')['state_dict'])
    assert model.text_encoder.vocabulary.words == vocabulary.words


def test_position_ids_of_old_transformers(reference):
    model = empty_matcher(config('vse_bert', reduced=True))
    parts = released_model(reference, 'vse_bert')
    weights = {
        f'{i}:{key.removeprefix("module.")}': value
        for i, part in enumerate(parts)
        for key, value in part.items()
    }
    with_ids = dict(weights, **{'1:bert.embeddings.position_ids': torch.arange(32)[None]})
    ours = from_released(with_ids, model)
    assert '1:bert.embeddings.position_ids' in ours.dropped
    same(ours.weights, from_released(weights, model).weights)
    written = as_released_list(to_released(ours.weights, model, original=with_ids).weights, model)
    assert all(key.startswith('module.') for part in written for key in part)


class Evil:
    def __reduce__(self):
        return (print, ('this must not run',))


def test_files_that_are_something_else(reference, tool, tmp_path, capsys):
    cfg = config('scan', reduced=True)
    cfg.dump(str(tmp_path / 'config.py'))
    source = tmp_path / 'x.pth'

    def convert(content) -> str:
        torch.save(content, source)
        done = tool(tmp_path / 'config.py', source, tmp_path / 'y.pth')
        assert done.code == 1 and len(done.err.strip().splitlines()) == 1
        assert 'this must not run' not in done.out
        assert not (tmp_path / 'y.pth').exists()
        return done.err

    parts = released_model(reference, 'scan')
    assert 'expected an entry model, a list' in convert(dict(model=parts[0]))
    assert 'model[1] is no state dict' in convert(dict(model=[parts[0], [1, 2]]))
    assert 'print' in convert(dict(model=parts, opt=argparse.Namespace(x=Evil())))
    short = {key: value for key, value in parts[1].items() if key != 'rnn.bias_hh_l0'}
    assert '1 missing (first: 1:rnn.bias_hh_l0)' in convert(dict(model=[parts[0], short]))
    other = released_model(reference, 'sgr')
    assert 'unexpected (first: 1:cap_rnn.' in convert(dict(model=other))
    wide = dict(parts[0], **{'fc.bias': torch.zeros(63)})
    assert '0:fc.bias is (63,), expected (64,)' in convert(dict(model=[wide, parts[1]]))
    options = argparse.Namespace(cross_attn='i2t', agg_func='Mean', lambda_softmax=4.0)
    assert "opt.cross_attn is 'i2t', but the config has 't2i'" in convert(
        dict(model=parts, opt=options)
    )


def test_options_tell_models_without_weights_apart():
    scan = empty_matcher(config('scan', reduced=True))
    check_options(None, scan)
    check_options(argparse.Namespace(cross_attn='t2i', agg_func='Mean', lambda_softmax=9.0), scan)
    with pytest.raises(ValueError, match="opt.agg_func is 'LogSumExp'"):
        check_options(argparse.Namespace(agg_func='LogSumExp'), scan)
    with pytest.raises(ValueError, match="opt.focal_type is 'prob', but the config has 'equal'"):
        check_options(
            argparse.Namespace(focal_type='prob'), empty_matcher(config('bfan', reduced=True))
        )
