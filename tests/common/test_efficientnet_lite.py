"""EfficientNet-Lite0 as a backbone, with random weights."""

import pytest
import torch
from mmengine.registry import MODELS

import projects.plvl.register
from projects.common.backbones.efficientnet_lite import EfficientNetLite
from projects.common.errors import InputError
from projects.plvl.models import LanguageGuidedViT


def shaken(model):
    """Make statistics of batch normalization count, and features of usual size."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.02, 0.1)
    return model.eval()


def test_stages():
    model = EfficientNetLite(out_indices=(2, 3, 4, 5))
    maps = model(torch.zeros(2, 3, 64, 96))
    assert [tuple(each.shape) for each in maps] == [
        (2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6), (2, 320, 2, 3)
    ]  # fmt: skip
    assert model.out_channels == 320
    assert EfficientNetLite(out_indices=(4,)).out_channels == 112
    whole = EfficientNetLite()
    assert tuple(whole(torch.zeros(2, 3, 64, 64)).shape) == (2, 1280, 2, 2)


def test_dilated_maps_hold_the_strided_ones():
    strided = shaken(EfficientNetLite(out_indices=(4,)))
    dilated = EfficientNetLite(out_indices=(4,), output_stride=8).eval()
    dilated.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 192, 192)
    with torch.no_grad():
        (few,), (many,) = strided(images), dilated(images)
    assert few.shape[2:] == (12, 12) and many.shape[2:] == (24, 24)
    # Every second cell sees the same pixels; at the border, the padding differs.
    inside = slice(5, -4)
    found, expected = many[:, :, 1::2, 1::2][..., inside, inside], few[..., inside, inside]
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.std()))


def test_frozen_and_kept_statistics():
    frozen = EfficientNetLite(out_indices=(3,), frozen=True)
    assert (
        not frozen.training
        and not frozen.train().training
        and not any(p.requires_grad for p in frozen.parameters())
    )
    model = EfficientNetLite(out_indices=(3,), norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    assert model.training and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(output_stride=12), 'backbone.output_stride: 12, expected 4, 8, 16 or 32'),
        (dict(logits=True, out_indices=(4,)), 'logits and out_indices are both set'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        EfficientNetLite(**options)


def vit(**stem):
    torch.manual_seed(0)
    return LanguageGuidedViT(
        patch_size=16, channels=16, depth=2, num_heads=2, window_size=2, global_indexes=(1,),
        language_indexes=(1,), text_channels=8, cross_heads=2, adapter_channels=4,
        pos_embed_grid=4, rel_pos_grid=4, stem=dict(type='EfficientNetLite', **stem),
    )  # fmt: skip


def test_as_the_stem_of_the_language_guided_backbone():
    backbone = vit(out_indices=(4,), frozen=True)
    fresh = EfficientNetLite(out_indices=(4,)).state_dict()
    before = {k: v.clone() for k, v in backbone.patch_embed.stem.state_dict().items()}
    backbone.init_weights()
    images, text = torch.randn(2, 3, 64, 96), torch.randn(2, 5, 8)
    tokens = backbone(images, text, torch.ones(2, 5))
    assert tokens.shape == (2, 4, 6, 16)
    tokens.square().sum().backward()
    assert backbone.patch_embed.projection.weight.grad.abs().sum() > 0
    after = backbone.patch_embed.stem.state_dict()
    assert all(torch.equal(after[name], fresh[name]) for name in fresh if 'running' in name)
    assert all(torch.equal(before[name], after[name]) for name in before)
    # The tokens come from the stem's map: features of 0 leave the positions alone.
    backbone.eval()
    with torch.no_grad():
        backbone.patch_embed.projection.weight.zero_()
        backbone.patch_embed.projection.bias.zero_()
        other = backbone(images + 1, text, torch.ones(2, 5))
        torch.testing.assert_close(other, backbone(images, text, torch.ones(2, 5)))


def test_stem_of_another_stride():
    with pytest.raises(InputError, match='backbone.stem: 8 x 8 cells of 64 x 64 pixels, but a pat'):
        vit(out_indices=(3,))


def test_registered_without_the_matching_project():
    assert MODELS.get('EfficientNetLite') is EfficientNetLite
    assert projects.plvl.register
