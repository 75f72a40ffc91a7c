"""SAM and SAM 2 of transformers as cues, beside the calls of their documentation."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image
from transformers import (
    Sam2ImageProcessorFast,
    Sam2Processor,
    SamImageProcessor,
    SamImageProcessorFast,
    SamProcessor,
)

import projects.pdsl.register  # noqa: F401
from projects.common.build import build_quietly
from projects.common.errors import InputError
from projects.pdsl.cues import CachedCue, PromptedSegmenterCue
from projects.pdsl.proposals import write_store

SIDE = 64  # of the segmenters' input
DECODER = dict(
    hidden_size=32, mlp_dim=32, num_attention_heads=2, num_hidden_layers=1, iou_head_hidden_dim=16,
    iou_head_depth=2,
)  # fmt: skip
SEGMENTERS = {
    'sam': dict(
        model_type='sam',
        vision_config=dict(
            hidden_size=32, output_channels=32, num_hidden_layers=2, num_attention_heads=2,
            image_size=SIDE, patch_size=16, mlp_dim=32, window_size=2, global_attn_indexes=[1],
            num_pos_feats=16,
        ),
        prompt_encoder_config=dict(
            hidden_size=32, image_size=SIDE, patch_size=16, image_embedding_size=SIDE // 16,
            mask_input_channels=4,
        ),
        mask_decoder_config=DECODER,
    ),
    'sam2': dict(
        model_type='sam2',
        vision_config=dict(
            backbone_config=dict(
                model_type='sam2_hiera_det_model', hidden_size=16, image_size=[SIDE, SIDE],
                blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[16, 32, 64, 128],
                num_attention_heads_per_stage=[1, 1, 1, 1], window_size_per_stage=[4, 2, 2, 2],
                global_attention_blocks=[3],
            ),
            backbone_channel_list=[128, 64, 32, 16],
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
            fpn_hidden_size=32,
        ),
        prompt_encoder_config=dict(hidden_size=32, image_size=SIDE, patch_size=16,
                                   mask_input_channels=4),
        mask_decoder_config=DECODER,
    ),
}  # fmt: skip
BOXES = np.array([[4, 6, 40, 30], [20.5, 10, 70, 45.5], [0, 0, 80, 50]])


def picture(height: int = 50, width: int = 80) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height))


def cue_of(kind: str, **options) -> PromptedSegmenterCue:
    torch.manual_seed(0)
    cue = MODELS.build(
        dict(type='PromptedSegmenterCue', config=copy.deepcopy(SEGMENTERS[kind]), **options)
    )
    for parameter in cue.model.mask_decoder.parameters():  # masks that depend on the prompt
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return cue


def their_masks(kind: str, cue: PromptedSegmenterCue, prompts: tuple[str, ...]) -> np.ndarray:
    """The masks of one box at a time, with their processor, thresholded at a logit of 0."""
    square = dict(height=SIDE, width=SIDE)
    if kind == 'sam':
        settings = dict(size=dict(longest_edge=SIDE), pad_size=square)
        processor = SamProcessor(SamImageProcessor(**settings))
        processor.image_processor = SamImageProcessorFast(**settings)
    else:
        processor = Sam2Processor(Sam2ImageProcessorFast(size=square))
    rgb = Image.fromarray(picture()[..., ::-1])
    found = []
    for box in BOXES:
        given = {}
        if 'box' in prompts:
            given['input_boxes'] = [[box.tolist()]]
        if 'point' in prompts:
            point = [((box[:2] + box[2:]) / 2).tolist()]
            given['input_points'] = [[point]]
            given['input_labels'] = [[[1]]]
        inputs = processor(images=rgb, return_tensors='pt', **given)
        inputs = {
            key: value.float() if value.is_floating_point() else value
            for key, value in inputs.items()
            if not key.endswith('_sizes')
        }
        with torch.no_grad():
            outputs = cue.model(**inputs, multimask_output='box' not in prompts)
        logits = outputs.pred_masks[0, 0, outputs.iou_scores[0, 0].argmax()][None, None]
        logits = torch.nn.functional.interpolate(
            logits, (SIDE, SIDE), mode='bilinear', align_corners=False
        ) if kind == 'sam' else logits  # fmt: skip
        if kind == 'sam':
            logits = logits[..., : round(50 * SIDE / 80), :]  # without padding
        logits = torch.nn.functional.interpolate(
            logits, (50, 80), mode='bilinear', align_corners=False
        )
        found.append((logits[0, 0] > 0).numpy())
    return np.array(found)


def clipped(masks: np.ndarray) -> np.ndarray:
    """Masks within their boxes, or the boxes where nothing is left."""
    result = np.zeros_like(masks)
    for mask, out, (x1, y1, x2, y2) in zip(masks, result, BOXES):
        area = np.s_[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
        out[area] = mask[area] if mask[area].any() else True
    return result


@pytest.mark.parametrize('prompts', [('box',), ('point',), ('box', 'point')])
@pytest.mark.parametrize('kind', SEGMENTERS)
def test_masks_are_those_of_transformers(kind, prompts):
    cue = cue_of(kind, prompts=prompts)
    found = cue(picture(), BOXES)
    expected = their_masks(kind, cue, prompts)
    assert found.dtype == bool and found.shape == (3, 50, 80)
    assert np.array_equal(found, clipped(expected))
    assert not cue.model.training and not any(p.requires_grad for p in cue.model.parameters())


def test_special_boxes_and_one_encoding(monkeypatch):
    cue, calls = cue_of('sam2'), []
    encode = cue.model.get_image_embeddings
    monkeypatch.setattr(cue.model, 'get_image_embeddings', lambda *a: calls.append(1) or encode(*a))
    image = picture()
    boxes = np.array([[4, 6, 40, 30], [90, 5, 99, 9], [5, 5, 5, 9], [9, 9, 4, 4], [60, 40, 99, 99]])
    masks = cue(image, np.concatenate([boxes] * 20))  # more than one chunk
    assert len(calls) == 1 and np.array_equal(masks[:5], masks[-5:])
    assert masks[0].any() and masks[4].any() and not masks[1:4].any()
    assert not masks[4][:40].any() and not masks[4][:, :60].any()
    assert cue(image, np.zeros((0, 4))).shape == (0, 50, 80) and len(calls) == 1
    cue(image[::-1], boxes)
    assert len(calls) == 2
    assert copy.deepcopy(cue) is cue


def test_cache(tmp_path: Path):
    """Masks come from the cache, whose key holds weights and prompts."""
    image, file = picture(), tmp_path / 'a.png'
    cv2.imwrite(str(file), image)
    cue = cue_of('sam2')
    cached = CachedCue(cue, tmp_path / 'cues')
    masks = cached(image, BOXES.round(), dict(img_path=str(file)))
    assert np.array_equal(masks, cue(image, BOXES.round()))
    again = CachedCue(cue_of('sam2'), tmp_path / 'cues')
    again.cue._segment = None  # not asked
    assert np.array_equal(again(image, BOXES.round(), dict(img_path=str(file))), masks)
    assert cue_of('sam2', prompts=('point',)).fingerprint() != cue.fingerprint()
    other = cue_of('sam2')
    next(other.model.parameters()).add_(1)
    assert other.fingerprint() != cue.fingerprint()


def test_a_folder_and_the_detector(repo_root, tmp_path: Path, call_tool):
    """The detector neither trains nor saves the segmenter; masks are made ahead of training."""
    source = cue_of('sam')
    source.model.save_pretrained(tmp_path)
    source.processor.save_pretrained(tmp_path)
    cfg = Config.fromfile(repo_root / 'configs/pdsl/_base_/pdsl_tiny.py').model
    cfg.cue = dict(
        type='CachedCue',
        folder=str(tmp_path / 'cues'),
        cue=dict(type='PromptedSegmenterCue', pretrained=str(tmp_path)),
    )
    model = build_quietly(cfg, 'mmdet')
    assert np.array_equal(model.cue.cue(picture(), BOXES), source(picture(), BOXES))
    assert not [name for name in model.state_dict() if not name.startswith(('backbone', 'roi'))]
    images, config = tmp_path / 'images', tmp_path / 'own.py'
    images.mkdir()
    cv2.imwrite(str(images / 'a.png'), picture())
    write_store(tmp_path / 'store', [('a.png', BOXES, None)])
    config.write_text(
        "custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)\n"
        f'model = dict(cue={cfg.cue.to_dict()!r})\n'
    )
    tool = ('misc/precompute_cues.py', images, tmp_path / 'store', tmp_path / 'cues')
    call_tool(*tool, '--config', config)
    cached = CachedCue(PromptedSegmenterCue(str(tmp_path)), tmp_path / 'cues')
    cached.cue._segment = None  # not asked
    boxes = BOXES.round()
    masks = cached(picture(), boxes, dict(img_path=str(images / 'a.png')))
    assert np.array_equal(masks, source(picture(), boxes))
    call_tool(*tool, '--config', config, '--workers', 2, rc=1)
    (tmp_path / 'preprocessor_config.json').unlink()
    with pytest.raises(InputError, match=r'^cue.pretrained=.*image processor cannot be read'):
        PromptedSegmenterCue(str(tmp_path))


def test_what_is_refused():
    with pytest.raises(InputError, match=r"prompts=\('text',\), expected 'box', 'point' or both"):
        PromptedSegmenterCue('folder', prompts=('text',))
    with pytest.raises(FileNotFoundError, match='cue.pretrained: no folder /no/such/folder'):
        PromptedSegmenterCue('/no/such/folder')
    with pytest.raises(InputError, match=r'^cue: expected either pretrained or config$'):
        PromptedSegmenterCue()
