"""Released weights and ours: names and shapes of every published layout, both ways, strictly."""

import re

import pytest
import torch

from projects.pdsl.released_weights import (
    config_of_weights,
    convert_detector,
    convert_imagenet,
    find_kind,
    find_layout,
)

CLASSIFIER = {'linear.weight': (1000, 4096), 'linear.bias': (1000,)}


def listed(reference, name):
    """A key list as tensors without memory, each with a value of its own."""
    found = {}
    for line in (reference.root / f'keys/{name}.txt').read_text().splitlines():
        if line.startswith('#'):
            continue
        key, shape = (*line.split('\t'), '')[:2]
        sizes = [int(size) for size in shape.split(',') if size]
        counter = key.endswith('num_batches_tracked')
        value = torch.tensor(len(found), dtype=torch.long if counter else torch.float32)
        found[key] = value.expand(sizes)
    return found


def raw(pth):
    """The ``.pth`` before the released code converts it; read_weights takes ``module.`` off."""
    return {
        re.sub(r'^roi_heads\.box_head\.', 'neck.', key).removeprefix('module.'): value
        for key, value in pth.items()
    }


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].shape == value.shape and found[key].flatten()[0] == value.flatten()[0]


@pytest.mark.parametrize('depth', [18, 50, 101])
def test_imagenet_both_ways(reference, depth):
    """Every file of the published layouts through ours, back to itself and to the other one."""
    pkl = listed(reference, f'resnet_ws{depth}_imagenet_pkl')
    pth = listed(reference, f'resnet_ws{depth}_imagenet_pth')
    assert find_layout(pkl) == 'caffe2' and find_kind(pkl) == 'imagenet'
    assert find_layout(pth) == 'released for detection' and find_kind(pth) == 'imagenet'
    assert find_layout(raw(pth)) == 'released'
    from_pth, from_pkl = convert_imagenet(pth), convert_imagenet(pkl)
    same(convert_imagenet(raw(pth)).weights, from_pth.weights)
    assert find_layout(from_pth.weights) == 'ours' and from_pth.made == ()
    assert all(key.endswith('num_batches_tracked') for key in from_pkl.made)
    same(convert_imagenet(from_pth.weights, 'released').weights, raw(pth))
    same(convert_imagenet(from_pkl.weights, 'caffe2').weights, pkl)
    # the .pkl has no classifier, the .pth no other names for what both have
    assert from_pth.weights.keys() - from_pkl.weights.keys() == {'head.fc.weight', 'head.fc.bias'}
    both = convert_imagenet(from_pth.weights, 'caffe2')
    assert both.weights.keys() - pkl.keys() == {'pred_w', 'pred_b'}
    assert all(key.endswith('num_batches_tracked') for key in both.dropped)
    assert {k: v.shape for k, v in both.weights.items() if k in pkl} == {
        k: v.shape for k, v in pkl.items()
    }


def test_imagenet_names_by_hand(reference):
    """The two lists of the released files are in one order, in which their names correspond."""
    pkl = listed(reference, 'resnet_ws50_imagenet_pkl')
    detection = list(listed(reference, 'resnet_ws50'))
    ours = convert_imagenet(pkl).weights
    released = convert_imagenet(ours, 'released').weights
    for theirs, name in zip(pkl, detection):
        assert released[name].flatten()[0] == pkl[theirs].flatten()[0], (theirs, name)
    assert (
        ours['backbone.layer2.3.bn3.running_var'].flatten()[0]
        == (pkl['res3_3_branch2c_bn_riv'].flatten()[0])
    )


def test_affine_norms_have_unit_statistics(reference):
    """Of a .pkl whose norms were merged: as detectron2's frozen norm then computes."""
    pkl = listed(reference, 'resnet_ws18_imagenet_pkl')
    affine = {k: v for k, v in pkl.items() if not k.endswith(('_bn_rm', '_bn_riv'))}
    momentum = {'stem_conv1_w_momentum': torch.zeros(64, 3, 3, 3)}  # Caffe2's solver leaves them
    done = convert_imagenet({**affine, **momentum})
    assert done.weights['backbone.stem.1.running_mean'].tolist() == [0] * 64
    variance = done.weights['backbone.stem.1.running_var']
    torch.testing.assert_close((variance + 1e-5).rsqrt(), torch.ones(64), rtol=0, atol=1e-7)
    assert 'backbone.layer1.0.bn1.running_var' in done.made
    partly = {k: v for k, v in pkl.items() if k != 'res2_0_branch2a_bn_rm'}
    with pytest.raises(ValueError, match='1 missing .first: res2_0_branch2a_bn_rm'):
        convert_imagenet(partly)


@pytest.mark.parametrize(
    'keys', [('resnet_ws18', 'pdsl_heads'), ('resnet_ws50', 'pdsl_heads_r50')], ids=['r18', 'r50']
)
def test_detector_both_ways(reference, keys):
    theirs = {k: v for name in keys for k, v in listed(reference, name).items()}
    assert find_layout(theirs) == 'released' and find_kind(theirs) == 'detector'
    path, cfg = config_of_weights(theirs)
    assert path.stem == f'pdsl_r{keys[0].removeprefix("resnet_ws")}-released_4xb1-60k_voc12'
    means = dict(pixel_mean=torch.zeros(3, 1, 1), pixel_std=torch.ones(3, 1, 1))
    done = convert_detector({**theirs, **means}, cfg)
    assert done.dropped == ('pixel_mean', 'pixel_std')
    assert find_layout(done.weights) == 'ours' and find_kind(done.weights) == 'detector'
    same(convert_detector(done.weights, cfg, 'released').weights, theirs)
    again, same_cfg = config_of_weights(done.weights)
    assert again == path and same_cfg.model == cfg.model


def test_detector_of_other_classes(reference):
    """COCO's, whose box layers were never trained, and one with the paper's M^0."""
    theirs = {
        k: v for name in ('resnet_ws18', 'pdsl_heads') for k, v in listed(reference, name).items()
    }
    other = {}
    for key, value in theirs.items():
        sizes = list(value.shape)
        if 'predictor' in key or 'cls_score' in key:
            sizes[0] += 60
        if '.bbox_pred.' not in key:
            other[key] = value.flatten()[0].expand(sizes)
    for name in ('weight', 'bias'):
        key = f'roi_heads.mask_head.predictor.{name}'
        other[key] = other[key][:1]
    _, cfg = config_of_weights(other)
    head = cfg.model.roi_head
    assert head.bbox_head.num_classes == head.mask_head.num_classes == 80
    assert head.mask_head.class_agnostic and not head.bbox_head.with_reg
    unused = {'roi_heads.box_refinery_2.bbox_pred.bias': torch.zeros(320)}
    done = convert_detector({**other, **unused}, cfg)
    assert done.dropped == tuple(unused)
    same(convert_detector(done.weights, cfg, 'released').weights, other)


def test_what_does_not_fit_is_named(reference):
    pth = listed(reference, 'resnet_ws18_imagenet_pth')
    with pytest.raises(ValueError, match='x.pth: neither a ResNet-WS nor a PDSL.*first: conv1.we'):
        find_layout({'conv1.weight': torch.zeros(1)}, 'x.pth')
    with pytest.raises(ValueError, match='res4 has 1 blocks of 2 convolutions'):
        convert_imagenet({k: v for k, v in pth.items() if 'res4.1' not in k}, what='x.pth')
    with pytest.raises(
        ValueError, match=r'x.pth is no ResNet18-WS: .* 1 missing \(first: backbone.s'
    ):
        convert_imagenet({k: v for k, v in pth.items() if k != 'backbone.stem.conv2.weight'},
                         what='x.pth')  # fmt: skip
    with pytest.raises(ValueError, match=r'1 unexpected \(first: extra\)'):
        convert_imagenet({**pth, 'extra': torch.zeros(1)})
    heads = {**listed(reference, 'resnet_ws18'), **listed(reference, 'pdsl_heads')}
    _, cfg = config_of_weights(heads)
    lacking = {k: v for k, v in heads.items() if k != 'roi_heads.box_predictor.det.bias'}
    with pytest.raises(ValueError, match=r'1 missing \(first: roi_heads.box_predictor.det.bias'):
        convert_detector(lacking, cfg)
    ours = convert_detector(heads, cfg).weights
    ours['roi_head.bbox_head.fcs.0.weight'] = torch.zeros(1).expand(4096, 100352)
    with pytest.raises(ValueError, match='misshapen .first: roi_head.bbox_head.fcs.0.weight'):
        convert_detector(ours, cfg, 'released')
