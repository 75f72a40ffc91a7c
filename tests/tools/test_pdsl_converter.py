"""The converter of released ResNet-WS backbones and PDSL checkpoints, from the shell's side."""

import pytest
import torch
from mmengine.registry import MODELS

import projects.pdsl.register  # noqa: F401
from projects.common.files.unpickle import load_pickle
from projects.common.weights.convert import read_weights

TOOL = 'model_converters/pdsl.py'


def listed(reference, name):
    """A key list as tensors of a value each, which cost neither memory nor disk."""
    found = {}
    for line in (reference.root / f'keys/{name}.txt').read_text().splitlines():
        if not line.startswith('#'):
            key, shape = (*line.split('\t'), '')[:2]
            sizes = [int(size) for size in shape.split(',') if size]
            kind = torch.long if key.endswith('num_batches_tracked') else torch.float32
            found[key] = torch.tensor(len(found), dtype=kind).expand(sizes)
    return found


def values(weights):
    return {key: (tuple(value.shape), value.flatten()[0].item()) for key, value in weights.items()}


@pytest.fixture
def pth(reference, tmp_path):
    """The ImageNet training's file: all names below ``module.``."""
    state = listed(reference, 'resnet_ws18_imagenet_pth')
    raw = {
        'module.' + key.replace('roi_heads.box_head.', 'neck.').removeprefix('module.'): value
        for key, value in state.items()
    }
    path = tmp_path / 'resnet18_wsl_119_iter.pth'
    torch.save(dict(epoch=119, arch='resnet18_ws', state_dict=raw), path)
    return path


def test_backbone_there_and_back(call_tool, reference, pth, tmp_path):
    ours, back = tmp_path / 'ours.pth', tmp_path / 'back.pth'
    assert '138 tensors' in call_tool(TOOL, pth, ours).out
    backbone = MODELS.build(
        dict(
            type='ResNetWS',
            depth=18,
            init_cfg=dict(type='Pretrained', checkpoint=str(ours), prefix='backbone.'),
        )
    )
    backbone.init_weights()  # as PDSL_PRETRAINED is read
    expected = listed(reference, 'resnet_ws18_imagenet_pth')['backbone.res3.1.conv2.weight']
    assert torch.equal(backbone.layer2[1].conv2.weight, expected)
    call_tool(TOOL, ours, back, '--to', 'released')
    assert values(read_weights(back)[0]) == values(read_weights(pth)[0])
    line = call_tool(TOOL, ours, back, rc=1).err.strip().splitlines()
    assert len(line) == 1 and 'is in our layout already; --to released' in line[0]


@pytest.mark.slow
def test_pickle_there_and_back(call_tool, pth, tmp_path):
    """480 MB: a pickle holds every number."""
    ours, pkl, again = (tmp_path / name for name in ('ours.pth', 'd2.pkl', 'again.pth'))
    call_tool(TOOL, pth, ours)
    call_tool(TOOL, ours, pkl, '--to', 'released')
    content = load_pickle(pkl)
    assert content['__author__'] == 'Caffe2' and 'res5_1_branch2b_bn_riv' in content['model']
    call_tool(TOOL, pkl, again)
    first, second = (values(read_weights(path)[0]) for path in (ours, again))
    counters = {key for key in first if key.endswith('num_batches_tracked')}
    assert first.keys() == second.keys()  # the counters, which a pickle has not, start at 0
    assert {k: v for k, v in first.items() if k not in counters} == {
        k: v for k, v in second.items() if k not in counters
    }


def test_model_there_and_back(call_tool, reference, tmp_path):
    state = {**listed(reference, 'resnet_ws18'), **listed(reference, 'pdsl_heads')}
    theirs, ours, back = (tmp_path / name for name in ('theirs.pth', 'ours.pth', 'back.pth'))
    means = dict(pixel_mean=torch.zeros(3, 1, 1), pixel_std=torch.ones(3, 1, 1))
    torch.save(dict(model={**state, **means}, iteration=59999), theirs)
    out = call_tool(TOOL, theirs, ours).out
    assert 'pdsl_r18-released_4xb1-60k_voc12.py: 20 classes, 4 refinement and 4' in out
    assert '2 tensors dropped' in out and 'pixel_mean' in out
    call_tool(TOOL, ours, back, '--to', 'released')
    assert values(read_weights(back)[0]) == values(state)
    config = 'configs/pdsl/pdsl_r18_4xb1-100k_voc12.py'  # the paper's M^0 has one channel
    line = call_tool(TOOL, theirs, ours, '--config', config, rc=1).err.strip().splitlines()
    assert len(line) == 1 and 'misshapen (first: roi_heads.mask_head.predictor.weight' in line[0]


def test_other_files_are_one_line(call_tool, tmp_path):
    path = tmp_path / 'x.pth'
    torch.save({'conv1.weight': torch.zeros(1)}, path)
    line = call_tool(TOOL, path, tmp_path / 'y.pth', rc=1).err.strip().splitlines()
    assert len(line) == 1 and 'x.pth: neither a ResNet-WS nor a PDSL' in line[0]
    assert not (tmp_path / 'y.pth').exists()
