"""Released weights to ours and back, and files that are something else."""

import argparse
import importlib.util
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import projects.plvl.register  # noqa: F401
from projects.common.text import WordPieceTokenizer
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.common.weights.convert import KeyMap, read_weights
from projects.plvl.released_weights import convert_plvl, convert_vitdet, empty_model

SMALL = """
_base_ = {base!r}
model = dict(
    text_encoder=dict(bert=dict(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40)),
    backbone=dict(
        channels=16, depth=3, num_heads=2, text_channels=16, cross_heads=2, adapter_channels=4,
        global_indexes=(1, 2), language_indexes=(2,)),
    decoder=dict(visual_channels=16, text_channels=16, channels=16, num_heads=2, ffn_channels=8),
    head=dict(in_channels=16, patch_size=16),
)
"""


@pytest.fixture(scope='module')
def keys(shared_reference):
    """Tensors of a key list of the reference folder."""
    spec = importlib.util.spec_from_file_location('detweights', shared_reference / 'detweights.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def load(*names):
        return {
            key: torch.from_numpy(np.asarray(value))
            for name in names
            for key, value in module.state_dict(shared_reference / f'keys/{name}.txt').items()
        }

    return load


@pytest.fixture(scope='module')
def paper_model(repo_root):
    return empty_model(Config.fromfile(repo_root / 'configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py'))


@pytest.fixture
def small_config(repo_root, tmp_path):
    path = tmp_path / 'small.py'
    path.write_text(SMALL.format(base=str(repo_root / 'configs/plvl/_base_/plvl_vit-b.py')))
    return path


def small_model(config):
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    for buffer in model.buffers():  # so that each of them differs
        if buffer.is_floating_point():
            buffer.normal_()
    return model


def same(first, second):
    """Equal names and bits."""
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.dtype == second[key].dtype and torch.equal(value, second[key]), key


def test_released_checkpoint(keys, paper_model):
    """All 542 tensors of the released list; the sums of parameters are NOTES-plvl.md's."""
    released = keys('plvl_checkpoint')
    ours = convert_plvl(released, paper_model)
    model_keys = set(paper_model.state_dict())
    assert ours.weights.keys() == model_keys
    assert sum(released[key].numel() for key in ours.dropped) == 590_592 + 394_010 + 12_288
    assert len(released) == 542 == len(ours.dropped) + len(ours.weights) - 1  # the vocabulary
    total = sum(value.numel() for value in ours.weights.values())
    assert total == 218_017_855 - 996_890  # with 2,310 statistics

    back = convert_plvl(ours.weights, paper_model, 'released', original=released)
    assert not back.made
    same(back.weights, released)
    alone = convert_plvl(ours.weights, paper_model, 'released')
    assert set(alone.made) == set(ours.dropped)
    assert {k: v.shape for k, v in alone.weights.items()} == {
        k: v.shape for k, v in released.items()
    }
    same(convert_plvl(alone.weights, paper_model).weights, ours.weights)


def test_round_trip_of_files(call_tool, small_config, tmp_path):
    """Ours -> released -> ours through the tool, the vocabulary included."""
    model = small_model(small_config)
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(['a red dog', 'the cat'], 60))
    ours, released, again = (tmp_path / f'{name}.pth' for name in ('ours', 'released', 'again'))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=3)), ours)
    done = call_tool(
        'model_converters/plvl.py', ours, released, '--to', 'released', '--config', small_config
    )
    assert '12 tensors made' in done.out and 'prompt_norms.0.weight' in done.out
    written = torch.load(released, weights_only=True)
    assert written['epoch'] == 3
    assert 'visumodel.backbone.0.body.blocks.1.mlp.fc2.bias' in written['model']
    # As the released training leaves it: its command line beside the weights.
    torch.save({**written, 'args': argparse.Namespace(lr=1e-4, data_root='x')}, released)
    done = call_tool('model_converters/plvl.py', released, again, '--config', small_config)
    assert '12 tensors dropped' in done.out and 'mask_cnn.bias' in done.out
    result = load_checkpoint_file(again)
    same(result['state_dict'], model.state_dict())
    fresh = small_model(small_config)
    fresh.load_state_dict(result['state_dict'])
    assert fresh.text_encoder.tokenizer.vocabulary == model.text_encoder.tokenizer.vocabulary


def test_vocabulary_file(call_tool, small_config, tmp_path):
    model = small_model(small_config)
    released = convert_plvl(model.state_dict(), model, 'released').weights
    torch.save(dict(model=released, epoch=0), tmp_path / 'released.pth')
    tokenizer = WordPieceTokenizer.learn(['a red dog'], 60)
    tokenizer.save(tmp_path / 'vocab.txt')
    arguments = (tmp_path / 'released.pth', tmp_path / 'ours.pth', '--config', small_config)
    done = call_tool('model_converters/plvl.py', *arguments)
    assert 'no vocabulary: give --vocab' in done.out
    done = call_tool('model_converters/plvl.py', *arguments, '--vocab', tmp_path / 'vocab.txt')
    assert 'no vocabulary' not in done.out
    model.load_state_dict(load_checkpoint_file(tmp_path / 'ours.pth')['state_dict'])
    assert model.text_encoder.tokenizer.vocabulary == tokenizer.vocabulary


def test_vitdet(keys, paper_model, call_tool, tmp_path):
    """detectron2's file, as it is, through the tool; then into the backbone."""
    weights = keys('vitdet_backbone_detectron2', 'vitdet_fpn_detectron2_ignored')
    arrays = {key: value.numpy() for key, value in weights.items()}
    arrays['roi_heads.box_head.0.fc1.weight'] = np.zeros((2, 2), np.float32)
    arrays['pixel_mean'] = np.zeros((3, 1, 1), np.float32)
    source, target = tmp_path / 'model_final.pkl', tmp_path / 'vitdet.pth'
    with open(source, 'wb') as file:
        pickle.dump({'model': arrays, '__author__': 'third party'}, file)
    done = call_tool('model_converters/vitdet.py', source, target)
    assert '32 tensors of the detector dropped: backbone.simfp_' in done.out
    assert '40 tensors of the backbone are not in ViTDet' in done.out
    state = load_checkpoint_file(target)['state_dict']
    assert len(state) == 171 and sum(value.numel() for value in state.values()) == 85_889_024
    assert torch.equal(state['blocks.3.mlp.0.bias'], weights['backbone.net.blocks.3.mlp.fc1.bias'])
    rest = paper_model.backbone.state_dict().keys() - state.keys()
    assert state.keys() < paper_model.backbone.state_dict().keys() and len(rest) == 40
    assert all('cross_attn' in key or 'adapter' in key for key in rest)


def test_converted_vitdet_is_loaded_by_init_weights(small_config, tmp_path):
    cfg = Config.fromfile(small_config).model.backbone
    trained = MODELS.build(cfg)
    rules = KeyMap([('backbone.net.', '')])
    theirs = {
        'pos_embed': 'pos_embed',
        'patch_embed.': 'patch_embed.proj.',
        '.mlp.0.': '.mlp.fc1.',
        '.mlp.2.': '.mlp.fc2.',
    }
    weights = {}
    for key, value in trained.state_dict().items():
        if 'cross_attn' in key or 'adapter' in key:
            continue
        for ours, name in theirs.items():
            key = key.replace(ours, name)
        weights[rules.to_theirs(key)] = value
    done = convert_vitdet(weights, trained)
    torch.save(dict(state_dict=done.weights), tmp_path / 'vitdet.pth')
    cfg.pretrained = str(tmp_path / 'vitdet.pth')
    backbone = MODELS.build(cfg)
    backbone.init_weights()
    same({key: backbone.state_dict()[key] for key in done.weights}, done.weights)


def test_resnet_is_refused(keys, call_tool, tmp_path):
    """In one line; so are Caffe2's names and a checkpoint of nothing."""
    for name in ('resnet_ws18', 'resnet_ws18_imagenet_pkl'):
        path = tmp_path / 'R-18.pkl'
        with open(path, 'wb') as file:
            pickle.dump({'model': {key: v.numpy() for key, v in keys(name).items()}}, file)
        done = call_tool('model_converters/vitdet.py', path, tmp_path / 'out.pth', rc=1)
        (line,) = done.err.strip().splitlines()
        assert line.startswith(f'error: {path} is no ViTDet checkpoint')
        assert '171 tensors backbone.net.* expected' in line and '(first: ' in line
        assert len(line) < 300
    assert not (tmp_path / 'out.pth').exists()


def test_mismatch_names_the_first_of_each_kind(keys, paper_model):
    weights = keys('vitdet_backbone_detectron2')
    weights['backbone.net.blocks.2.attn.rel_pos_h'] = torch.zeros(27, 64)
    del weights['backbone.net.blocks.4.norm1.bias']
    weights['backbone.net.norm.weight'] = torch.zeros(768)
    with pytest.raises(ValueError) as caught:
        convert_vitdet(weights, paper_model.backbone, 'v.pkl')
    assert str(caught.value) == (
        'v.pkl is no ViTDet checkpoint for this backbone: of 171 tensors '
        '1 missing (first: backbone.net.blocks.4.norm1.bias); '
        '1 unexpected (first: backbone.net.norm.weight); '
        '1 misshapen (first: backbone.net.blocks.2.attn.rel_pos_h is (27, 64), expected (127, 64))'
    )


def test_models_without_a_released_counterpart(repo_root, small_config):
    """Another grouping has tensors of the same names and shapes, and another meaning."""
    model = small_model(small_config)
    model.head.groups = (('mask', 'center'), ('offset', 'size'))
    with pytest.raises(ValueError, match='the released layout has'):
        convert_plvl({}, model)
    tiny = empty_model(Config.fromfile(repo_root / 'configs/plvl/plvl_tiny_1xb8-150e_refcoco.py'))
    with pytest.raises(ValueError, match='the released layout has no such tensor'):
        convert_plvl({}, tiny)


class Hostile:
    def __reduce__(self):
        return print, ('run',)


@pytest.mark.parametrize('suffix', ['.pkl', '.pth'])
def test_nothing_is_unpickled_freely(suffix, tmp_path):
    path = tmp_path / f'weights{suffix}'
    content = {'model': {'a': np.zeros(2, np.float32)}, 'extra': Hostile()}
    if suffix == '.pkl':
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(pickle.UnpicklingError, match='print'):
        read_weights(path)
    assert list(read_weights(path, trust=True)[0]) == ['a']


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({}, 'holds no weights'),
        ([1, 2], 'holds no weights'),
        ({'model': {'a': 'text'}}, "entry 'a' is of type str, expected a tensor"),
    ],
)
def test_files_without_weights(content, message, tmp_path):
    path = tmp_path / 'file.pkl'
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_weights(path)


def test_prefix_of_ddp(tmp_path):
    path = tmp_path / 'ddp.pth'
    torch.save({'state_dict': {'module.a': torch.ones(1), 'module.b': torch.ones(2)}}, path)
    assert list(read_weights(path)[0]) == ['a', 'b']
