"""Our modules against outputs of the released code on the same deterministic weights.

``pytest -s tests/plvl/test_goldens.py`` prints the largest error of each file and its tolerance.
"""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torchvision.ops import box_convert

import projects.plvl.register  # noqa: F401
from projects.plvl.models import center_heatmaps, gaussian_radius
from projects.plvl.models.language_guided_block import LanguageGuidedBlock
from projects.plvl.models.relative_position import (
    relative_position_table,
    resize_position_embedding,
)
from projects.plvl.released_keys import PLVL_KEYS
from projects.plvl.released_weights import convert_plvl


@pytest.fixture(scope='module')
def released(reference):
    state = reference.state_dict(reference.root / 'keys/plvl_checkpoint.txt', seed=0)
    return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}


def load(module: nn.Module, released: dict, prefix: str) -> nn.Module:
    """Loads the released tensors whose name in our model begins with ``prefix``, strictly."""
    state = {}
    for key, value in released.items():
        ours = PLVL_KEYS.to_ours(key)
        if ours and ours.startswith(prefix):
            state[ours[len(prefix) :]] = value
    wanted = module.state_dict().keys()
    # as released, blocks without language have a norm for it too
    state = {k: v for k, v in state.items() if k in wanted or not k.startswith('adapter.')}
    missing = module.load_state_dict(state, strict=False)
    assert not [key for key in missing.missing_keys if not key.endswith('_extra_state')]
    assert not [key for key in missing.unexpected_keys if '.adapter.norm.' not in key]
    return module.eval()


def block(local: bool) -> LanguageGuidedBlock:
    return LanguageGuidedBlock(
        channels=768,
        num_heads=12,
        mlp_ratio=4,
        drop_path=0,
        window_size=14 if local else 0,
        rel_pos_grid=14 if local else 64,
        text_channels=None if local else 768,
        cross_heads=8,
        cross_dropout=0.1,
        adapter_channels=64,
    )


@torch.no_grad()
def test_local_block(reference, released):
    golden = reference.golden('plvl_block_window')
    module = load(block(local=True), released, 'backbone.blocks.0.')
    x = reference.array('block_window', (2, 28, 28, 768))
    golden.check(module(x, None, None)[:, ::3, ::3, ::8], 'out', 5e-5)
    golden.check(module(x * 0.01, None, None)[:, ::3, ::3, ::8], 'small_out', 5e-5)
    for name, shape in (('pad', (1, 20, 22, 768)), ('one', (1, 14, 14, 768))):
        x = reference.array(f'block_window_{name}', shape)
        golden.check(module(x, None, None)[:, ::2, ::2, ::8], f'{name}_out', 5e-5)


@torch.no_grad()
def test_global_block(reference, released):
    golden = reference.golden('plvl_block_global')
    module = load(block(local=False), released, 'backbone.blocks.2.')
    text = reference.array('block_global_text', (2, 40, 768))
    golden.check(module.adapter(text)[:, ::3, ::16], 'adapter', 5e-5)
    for prefix, side, step in (('', 28, 4), ('g14_', 14, 2)):
        x = reference.array(f'block_global_{side}', (2, side, side, 768))
        golden.check(module(x, text, None)[:, ::step, ::step, ::8], f'{prefix}out', 5e-5)


def test_positions(reference):
    golden = reference.golden('plvl_block_pos')
    embed = reference.array('abs_pos', (1, 197, 768))
    for name, size in (('28', (28, 28)), ('20x31', (20, 31)), ('14', (14, 14))):
        ours = resize_position_embedding(embed, size)
        golden.check(ours[:, ::3, ::3, ::16], f'abs_pos_{name}', 1e-5)
    for key in (k for k in golden if k.startswith('rel_pos')):
        _, _, length, size = key.split('_')
        table = relative_position_table(
            reference.array(f'rel_pos{length}', (int(length), 64)), int(size)
        )
        golden.check(table[::3, ::3, ::4], key, 1e-5)


@torch.no_grad()
def test_decoder(reference, released):
    golden = reference.golden('plvl_block_decoder')
    module = load(MODELS.build(dict(type='LanguageFusionDecoder')), released, 'decoder.')
    tokens = reference.array('dec_tgt', (784, 2, 512)).transpose(0, 1)
    memory = reference.array('dec_mem', (40, 2, 512)).transpose(0, 1)
    padding = torch.from_numpy(golden['text_pad'])
    layer = module.decoder.layers[0]
    masked = layer(tokens, memory, memory_key_padding_mask=padding)
    golden.check(masked.transpose(0, 1)[::7, :, ::8], 'out', 5e-5)
    golden.check(layer(tokens, memory).transpose(0, 1)[::7, :, ::8], 'nomask_out', 5e-5)
    out = module.decoder(tokens, memory, memory_key_padding_mask=padding)
    golden.check(out.transpose(0, 1)[::7, :, ::8], 'decoder_out', 5e-5)


@torch.no_grad()
def test_head(reference, released):
    golden = reference.golden('plvl_block_head')
    head = load(MODELS.build(dict(type='CollaborativeHead')), released, 'head.')
    tokens = reference.array('head_tokens', (2, 784, 512))
    features = tokens.transpose(1, 2).unflatten(2, (28, 28))
    outputs, results = head(features), head.predict(features)
    golden.check(outputs['center'], 'score_logits', 5e-5)
    golden.check(outputs['size'], 'size_logits', 5e-5)
    golden.check(outputs['offset'], 'offset_map', 5e-5)
    golden.check(outputs['mask'][..., ::4, ::4], 'mask_logits_s4', 5e-5)
    golden.check(outputs['mask'][..., 200:264, 200:264], 'mask_logits_crop', 5e-5)
    golden.check(results['score_maps'][:, None], 'score_map', 2e-5)
    golden.check(results['mask_probs'][:, None, ::8, ::8], 'mask_prob_s8', 2e-5)
    golden.check(head.decode(outputs)[0], 'boxes', 5e-6)
    assert results['score_maps'].flatten(1).argmax(1).tolist() == golden['argmax'].tolist()

    saturated = head.predict(features * 60)['score_maps']
    golden.check(saturated[:, None], 'sat_score_map', 1e-5)


def test_decoding(reference):
    golden = reference.golden('plvl_block_head')
    head = MODELS.build(dict(type='CollaborativeHead'))
    score = torch.full((3, 1, 28, 28), 0.1).logit()
    for sample, row, column in ((0, 3, 17), (1, 27, 27), (2, 0, 0), (2, 5, 5)):
        score[sample, 0, row, column] = 2.0
    outputs = {
        'center': score,
        'size': reference.array('decode_size', (3, 2, 28, 28)),
        'offset': reference.array('decode_offset', (3, 2, 28, 28)),
    }
    golden.check(head.decode(outputs)[0], 'decode_boxes', 5e-6)


def test_center_targets(reference):
    golden = reference.golden('plvl_block_losses')
    boxes = torch.from_numpy(golden['edge_boxes'])
    ours = center_heatmaps(boxes, (28, 28), clamp_center=False)
    golden.check(ours, 'edge_heatmaps', 1e-6)
    radius = gaussian_radius(boxes[:, 2] * 28, boxes[:, 3] * 28)
    golden.check(radius, 'edge_radius_float', 1e-4)
    assert (ours == 1).flatten(1).sum(1).tolist() == golden['edge_num_pos'].tolist()
    clamped = center_heatmaps(boxes, (28, 28))
    assert (clamped == 1).flatten(1).sum(1).tolist() == [1] * 13  # no positive is lost


def released_losses(reference, **kwargs):
    golden = reference.golden('plvl_block_losses')
    head = MODELS.build(dict(type='CollaborativeHead', clamp_center=False, **kwargs))
    gt_boxes = torch.from_numpy(golden['gt_boxes_cxcywh'])
    score = (2 * reference.array('loss_score', (3, 1, 28, 28))).requires_grad_()
    boxes = torch.from_numpy(golden['pred_boxes_cxcywh']).requires_grad_()
    mask = (2 * reference.array('loss_mask', (3, 1, 56, 56))).requires_grad_()
    logits = nn.functional.interpolate(mask, scale_factor=8, mode='nearest')
    xy = (torch.arange(448) + 0.5) / 448
    cx, cy, w, h = gt_boxes[:, :, None, None].unbind(1)
    masks = ((xy - cx) / (w / 2)) ** 2 + ((xy[:, None] - cy) / (h / 2)) ** 2 <= 1
    assert masks.flatten(1).sum(1).tolist() == golden['gt_mask_sum'].tolist()
    head.decode = lambda outputs, cells=None: (boxes[:, 0], None)
    losses = head._loss_boxes({'center': score}, box_convert(gt_boxes, 'cxcywh', 'xyxy'))
    losses.update(head._loss_masks(logits, masks, None))
    return golden, losses, (boxes, score, mask)


def test_released_losses(reference):
    golden, losses, inputs = released_losses(
        reference, loss_mask=dict(type='DoubleSigmoidFocalLoss')
    )
    names = dict(
        center='focal_loss_box',
        bbox='l1_loss',
        iou='giou_loss',
        mask='focal_loss_seg',
        dice='dice_loss',
    )
    for ours, theirs in names.items():
        golden.check_relative(losses[f'loss_{ours}'].item(), f'loss_{theirs}', 1e-5)
    total = sum(losses.values())
    golden.check_relative(total.item(), 'loss_total', 1e-5)
    total.backward()
    for tensor, name in zip(inputs, ('pred_boxes', 'score_logits', 'mask_logits_56'), strict=True):
        np.testing.assert_allclose(tensor.grad, golden[f'grad_{name}'], rtol=1e-4, atol=1e-6)


def test_paper_mask_loss(reference):
    golden, losses, _ = released_losses(reference)
    golden.check_relative(losses['loss_mask'].item(), 'alt_mask_focal_single_sigmoid', 1e-5)


@pytest.mark.parametrize('name', ['plvl_seed0', 'plvl_seed0_sharp'])
@torch.no_grad()
def test_full_model(reference, released, name):
    golden = reference.golden(name)
    sharp = name.endswith('sharp')
    state = dict(released)
    if sharp:
        for key, value in state.items():
            if key.endswith(('.attn.qkv.weight', 'in_proj_weight')):
                value = value.clone()
                value[: len(value) // 3] *= 4
                state[key] = value
            elif key.endswith('body.pos_embed'):
                state[key] = value * 200
    model = MODELS.build(
        dict(
            type='PLVL',
            text_encoder=dict(type='BERTTextEncoder'),
            backbone=dict(type='LanguageGuidedViT'),
            decoder=dict(type='LanguageFusionDecoder'),
            head=dict(type='CollaborativeHead'),
        )
    )
    model.load_state_dict(convert_plvl(state, model).weights)
    model.eval()
    blocks, layers = {}, {}
    for i, block in enumerate(model.backbone.blocks):
        block.register_forward_hook(lambda _, __, out, i=i: blocks.__setitem__(i, out))
    for i, layer in enumerate(model.decoder.decoder.layers):
        layer.register_forward_hook(lambda _, __, out, i=i: layers.__setitem__(i, out))
    images = reference.array('image', (2, 3, 448, 448))
    ids = torch.from_numpy(golden['token_ids'])
    mask = torch.from_numpy(golden['text_mask'])
    text = model.text_encoder(ids, mask)
    golden.check(text[:, ::3, ::16], 'text_features', 3e-5)
    features = model.extract_feat(images, ids, mask)
    for i in (0, 2, 5, 8, 11):
        golden.check(
            blocks[i].flatten(1, 2)[:, ::29, ::32], f'vit_block{i}', 1e-3 if sharp else 2e-4
        )
    tolerance = 5e-4 if sharp else 5e-5
    for i, tokens in layers.items():
        golden.check(tokens.transpose(0, 1)[::29, :, ::16], f'dec_layer{i}', tolerance)
    tokens = features.flatten(2).permute(2, 0, 1)
    golden.check(tokens[::7, :, ::16], 'visual_tokens', tolerance)
    outputs = model.head(features)
    tolerance = 2e-4 if sharp else 2e-5
    golden.check(outputs['center'], 'score_logits', tolerance)
    golden.check(outputs['size'], 'size_logits', tolerance)
    golden.check(outputs['offset'], 'offset_map', tolerance)
    tolerance = 2e-4 if sharp else 5e-5
    golden.check(outputs['mask'][..., ::4, ::4], 'mask_logits_s4', tolerance)
    golden.check(outputs['mask'][..., 200:248, 200:248], 'mask_logits_crop', tolerance)
    boxes = model.head.decode(outputs)[0]
    golden.check(boxes[:, None], 'pred_boxes', 5e-5 if sharp else 5e-6)
    assert outputs['center'].flatten(1).argmax(1).tolist() == golden['argmax'].tolist()
