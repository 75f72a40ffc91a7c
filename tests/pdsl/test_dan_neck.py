"""The neck of ImageNet's pretraining, whose layers the box head takes over."""

import torch
import torch.nn.functional as F

from projects.pdsl.models import DANNeck, PDSLBoxHead

SHAPE = dict(in_channels=4, fc_channels=(6, 5))


def test_forward_by_hand():
    neck = DANNeck(feat_size=3, dropout=0.5, **SHAPE).eval()
    neck.init_weights()
    other, last = torch.randn(2, 9, 3, 3), torch.randn(2, 4, 6, 6)
    (features,) = neck((other, last))
    pooled = torch.stack([last[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(
        0
    )  # the largest of each 2 x 2 cells
    x = pooled.flatten(1)
    for layer in neck.fcs:
        x = F.relu(x @ layer.weight.T + layer.bias)
    torch.testing.assert_close(features, x)
    assert features.shape == (2, 5)
    assert neck.fcs[0].weight.abs().max() < 6 * 0.005 and (neck.fcs[0].bias == 0.1).all()


def test_the_box_head_takes_its_layers(tmp_path):
    neck = DANNeck(feat_size=3, **SHAPE)
    weights = {f'neck.{key}': value for key, value in neck.state_dict().items()}
    torch.save({'state_dict': weights}, tmp_path / 'imagenet.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'imagenet.pth'), prefix='neck.')
    head = PDSLBoxHead(roi_feat_size=3, num_classes=3, init_cfg=pretrained, **SHAPE)
    head.init_weights()
    for key, value in neck.state_dict().items():
        assert torch.equal(head.state_dict()[key], value), key
