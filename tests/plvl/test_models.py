"""PLVL's modules on the CPU, small, against formulas written out here."""

import copy
import io

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

import projects.plvl.register  # noqa: F401
from projects.common.text import WordPieceTokenizer
from projects.plvl.models import center_focal_loss, center_heatmaps
from projects.plvl.models.language_guided_block import RelativePositionAttention
from projects.plvl.models.relative_position import folded_attention, relative_position_table

SENTENCES = ['the red circle', 'a small star left of the heart']


def tiny_model(repo_root, **options):
    cfg = Config.fromfile(repo_root / 'configs/plvl/_base_/plvl_tiny.py')
    cfg.merge_from_dict(options)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 200))
    return model


def batch(sizes=((96, 160), (128, 128)), with_mask=(True, True), side=128):
    """Two images of ``side`` pixels; boxes and masks in that frame."""
    rng = np.random.default_rng(0)
    samples = []
    for size, text, known in zip(sizes, SENTENCES, with_mask, strict=True):
        sample = DetDataSample(
            metainfo=dict(
                text=text, ori_shape=size, img_shape=(side, side), with_mask=known, img_id=0
            )
        )
        mask = np.zeros((1, side, side), np.uint8)
        mask[:, 30:70, 40:90] = 1
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[40.0, 30.0, 90.0, 70.0]]),
            labels=torch.zeros(1, dtype=torch.long),
            masks=BitmapMasks(mask, side, side),
        )
        samples.append(sample)
    images = [
        torch.from_numpy(rng.integers(0, 255, (3, side, side), dtype=np.uint8)) for _ in sizes
    ]
    return dict(inputs=images, data_samples=samples)


def run(model, mode, data):
    data = model.data_preprocessor(data, training=mode == 'loss')
    return model(**data, mode=mode)


@pytest.mark.parametrize(
    ('groups', 'losses'),
    [
        ((('center', 'mask'), ('offset', 'size')), 'center bbox iou mask dice'),
        ((('mask',), ('center', 'offset', 'size')), 'center bbox iou mask dice'),
        ((('center',), ('offset', 'size')), 'center bbox iou'),
        ((('mask',),), 'mask dice'),
    ],
    ids=['paper', 'other-grouping', 'REC', 'RES'],
)
def test_three_modes(repo_root, groups, losses):
    model = tiny_model(repo_root, **{'model.head.groups': groups})
    model.train()
    values = run(model, 'loss', batch())
    assert sorted(values) == sorted(f'loss_{name}' for name in losses.split())
    sum(values.values()).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    # BERT's word embeddings get a gradient too; DDP needs no search for unused parameters.
    assert not unused

    model.eval()
    with torch.no_grad():
        samples = run(model, 'predict', batch())
        outputs = run(model, 'tensor', batch())
    assert sorted(outputs) == sorted(task for group in groups for task in group)
    for sample, (height, width) in zip(samples, ((96, 160), (128, 128)), strict=True):
        prediction = sample.pred_instances
        assert prediction.scores.shape == prediction.labels.shape == (1,)
        assert 0 <= prediction.scores.item() <= 1
        assert ('bboxes' in prediction) == ('center' in outputs)
        assert ('masks' in prediction) == ('mask' in outputs)
        if 'bboxes' in prediction:
            x1, y1, x2, y2 = prediction.bboxes[0].tolist()
            assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height
            assert sample.pred_score_map.shape == (8, 8)
        if 'masks' in prediction:
            assert prediction.masks.shape == (1, height, width)
            assert prediction.masks.dtype == torch.bool
            assert sample.pred_mask_probs.shape == (64, 64)


def test_boxes_are_those_of_the_maps(repo_root):
    """Eq. 5 by hand on the maps of the tensor mode, then scaled to the original pixels."""
    model = tiny_model(repo_root).eval()
    with torch.no_grad():
        maps = run(model, 'tensor', batch())
        samples = run(model, 'predict', batch())
    for i, sample in enumerate(samples):
        height, width = sample.ori_shape
        prob = maps['center'][i, 0].sigmoid()
        row, column = divmod(int(prob.argmax()), 8)
        ox, oy = maps['offset'][i, :, row, column].tolist()
        w, h = maps['size'][i, :, row, column].sigmoid().clamp(1e-4, 1 - 1e-4).tolist()
        cx, cy = (column + ox) / 8, (row + oy) / 8
        box = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, 1)
        expected = box * [width, height, width, height]
        np.testing.assert_allclose(sample.pred_instances.bboxes[0], expected, atol=1e-3)
        np.testing.assert_allclose(sample.pred_instances.scores, prob.max(), atol=1e-6)


def test_samples_without_masks_leave_the_mask_losses(repo_root):
    """A batch where one mask is unknown has the mask losses of the other alone."""
    model = tiny_model(repo_root)
    model.eval()  # batch normalisation by running statistics: samples do not mix
    data = batch(with_mask=(True, False))
    both = run(model, 'loss', data)
    data = batch()
    first = run(model, 'loss', {key: value[:1] for key, value in data.items()})
    torch.testing.assert_close(both['loss_mask'], first['loss_mask'])
    torch.testing.assert_close(both['loss_dice'], first['loss_dice'])
    none = run(model, 'loss', batch(with_mask=(False, False)))
    assert none['loss_mask'].item() == none['loss_dice'].item() == 0
    assert none['loss_mask'].requires_grad


def test_losses_are_float32_under_autocast(repo_root):
    model = tiny_model(repo_root).train()
    with torch.autocast('cpu', torch.bfloat16):
        losses = run(model, 'loss', batch())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())


def test_checkpointing_changes_nothing(repo_root):
    gradients = []
    for with_cp in (False, True):
        model = tiny_model(repo_root, **{'model.backbone.with_cp': with_cp}).train()
        torch.manual_seed(1)  # the text encoder's dropout
        sum(run(model, 'loss', batch()).values()).backward()
        gradients.append(model.backbone.pos_embed.grad)
    torch.testing.assert_close(*gradients)


def test_attention_equals_its_formula():
    """Softmax(q k^T / sqrt(d) + R_h + R_w) v with the relative positions looked up one by one."""
    torch.manual_seed(0)
    height, width, channels, heads = 3, 5, 8, 2
    module = RelativePositionAttention(channels, heads, rel_pos_grid=5)
    torch.nn.init.normal_(module.rel_pos_w)
    module.rel_pos_h = torch.nn.Parameter(torch.randn(2 * height - 1, channels // heads))
    x = torch.randn(1, height, width, channels)
    q, k, v = module.qkv(x).reshape(height * width, 3, heads, channels // heads).unbind(1)
    out = torch.zeros(height * width, heads, channels // heads)
    for head in range(heads):
        logits = torch.zeros(height * width, height * width)
        for i in range(height * width):
            for j in range(height * width):
                dy, dx = i // width - j // width, i % width - j % width
                bias = module.rel_pos_h[dy + height - 1] + module.rel_pos_w[dx + width - 1]
                logits[i, j] = q[i, head] @ k[j, head] / 2 + q[i, head] @ bias  # sqrt(4) = 2
        out[:, head] = logits.softmax(-1) @ v[:, head]
    expected = module.proj(out.reshape(1, height, width, channels))
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)

    # what inference in bfloat16 on a CPU computes it by
    by_head = [part.permute(1, 0, 2)[None] for part in (q, k, v)]
    tables = [
        relative_position_table(module.rel_pos_h, height),
        relative_position_table(module.rel_pos_w, width),
    ]
    folded = folded_attention(*by_head, *tables)[0].transpose(0, 1)
    torch.testing.assert_close(folded, out, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        short = copy.deepcopy(module).bfloat16()(x.bfloat16())
    assert (short.float() - expected).norm() < 0.02 * expected.norm()


@torch.no_grad()
def test_which_tokens_a_block_sees(repo_root):
    """Local blocks see their window, global ones everything; only language blocks the sentence."""
    options = {'global_indexes': (1, 3), 'language_indexes': (3,)}
    options = {f'model.backbone.{key}': value for key, value in options.items()}
    model = tiny_model(repo_root, **options).eval()
    x = torch.randn(1, 8, 8, 128)
    text, other = torch.randn(2, 1, 20, 128)
    changed = x.clone()
    changed[0, 7, 7] = torch.randn(128)  # in the last of the four windows
    for i, block in enumerate(model.backbone.blocks):
        difference = (block(x, text, None) - block(changed, text, None)).abs().sum(-1)[0]
        is_global = i in (1, 3)
        assert (difference[:4, :4].max() > 0) == is_global
        assert difference[4:, 4:].min() > 0
        reads = (block(x, text, None) - block(x, other, None)).abs().max() > 0
        assert reads == block.sees_language == (i == 3)
    assert model.backbone.first_language_block == 3


@torch.no_grad()
def test_padding_tokens_are_not_read_when_masked(repo_root):
    model = tiny_model(repo_root).eval()
    images = torch.randn(1, 3, 128, 128)
    ids, mask = model.text_encoder.tokenize(SENTENCES[:1])
    longer = ids.clone()
    longer[mask == 0] = 7
    ours = model.backbone(images, model.text_encoder(ids, mask), mask)
    torch.testing.assert_close(ours, model.backbone(images, model.text_encoder(longer, mask), mask))


def test_sentences_are_read(repo_root):
    model = tiny_model(repo_root).eval()
    data = batch(sizes=((128, 128), (128, 128)))
    data['inputs'][1] = data['inputs'][0]
    with torch.no_grad():
        center = run(model, 'tensor', data)['center']
    assert not torch.allclose(center[0], center[1], atol=1e-4)


@torch.no_grad()
def test_sentences_of_a_picture_share_the_blocks_before_language(repo_root):
    """Two sentences on one image, one on another: equal to single predictions, at less work."""
    options = {'model.backbone.language_indexes': (2, 3)}
    model = tiny_model(repo_root, **options).eval()
    data = batch(sizes=((128, 128), (96, 160)))
    first, second = data['inputs']
    texts = [*SENTENCES, SENTENCES[0]]
    sizes = [(128, 128), (128, 128), (96, 160)]

    def samples(indexes):
        return [
            DetDataSample(
                metainfo=dict(text=texts[i], ori_shape=sizes[i], img_shape=(128, 128), img_id=0)
            )
            for i in indexes
        ]

    images = [first, first.clone(), second]
    rows = []
    for block in model.backbone.blocks:
        block.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    together = run(model, 'predict', dict(inputs=images, data_samples=samples(range(3))))
    assert rows == [2, 2, 3, 3]
    for i, ours in enumerate(together):
        data = dict(inputs=[images[i]], data_samples=samples([i]))
        (alone,) = run(model, 'predict', data)
        height, width = sizes[i]
        scale = torch.tensor([width, height, width, height])
        torch.testing.assert_close(
            ours.pred_instances.bboxes / scale,
            alone.pred_instances.bboxes / scale,
            rtol=0,
            atol=1e-5,
        )
        for name in ('pred_score_map', 'pred_mask_probs'):
            torch.testing.assert_close(ours.get(name), alone.get(name), rtol=0, atol=1e-5)
    # the same image again, but not beside its first occurrence: right, if not cheaper
    rows.clear()
    apart = dict(inputs=[first, second, first], data_samples=samples([0, 2, 1]))
    results = run(model, 'predict', apart)
    assert rows == [3, 3, 3, 3]
    torch.testing.assert_close(
        results[2].pred_score_map, together[1].pred_score_map, rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_backbones_without_language_run_once_an_image(repo_root):
    cfg = dict(type='mmdet.ResNet', depth=18, num_stages=1, strides=(1,), dilations=(1,))
    backbone = MODELS.build(
        dict(type='LanguageFreeBackbone', backbone={**cfg, 'out_indices': (0,)})
    )
    images = torch.randn(2, 3, 32, 32)
    tokens = backbone.eval()(images)
    repeated = backbone(images, repeats=torch.tensor([2, 1]))
    assert torch.equal(repeated, tokens[[0, 0, 1]])


def test_center_focal_loss_by_hand():
    prob = torch.tensor([[0.5, 0.2], [0.9, 0.1]])
    target = torch.tensor([[1.0, 0.5], [0.0, 0.0]])
    expected = -(
        0.5**2 * np.log(0.5)
        + 0.5**4 * 0.2**2 * np.log(0.8 + 1e-5)
        + 0.9**2 * np.log(0.1 + 1e-5)
        + 0.1**2 * np.log(0.9 + 1e-5)
    )
    loss, positives = center_focal_loss(prob, target)
    assert positives.item() == 1
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)


def test_heatmap_of_a_far_corner_keeps_its_positive():
    boxes = torch.tensor([[0.99, 0.99, 0.02, 0.02], [0.5, 0.5, 0.4, 0.2]])
    heat = center_heatmaps(boxes, (28, 28))
    assert heat[0, 27, 27] == 1
    assert heat[1, 14, 14] == 1
    released = center_heatmaps(boxes, (28, 28), clamp_center=False)
    assert (released[0] == 1).sum() == 0


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('backbone.global_indexes', (2, 6), 'global_indexes: 6, but depth is 4'),
        ('backbone.global_indexes', (0, 2, 3), 'block 1 is not in global_indexes'),
        ('backbone.stem', ((8, 4), (8, 2)), 'its strides make 8 pixels, but a patch has 16'),
        ('head.groups', (('center', 'masks'),), "unknown task 'masks'"),
        ('head.groups', (('center',), ('offset',)), 'center, offset and size together'),
        ('head.groups', (('mask', 'mask'),), "'mask' stands 2 times"),
        ('head.decode_at', 'argmax', "'argmax'; expected 'prediction' or 'target'"),
        ('text_encoder.vocab_file', 'none/vocab.txt', 'none/vocab.txt: no such vocabulary file'),
    ],
)
def test_wrong_config(repo_root, option, value, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        tiny_model(repo_root, **{f'model.{option}': value})


def test_vocabulary_travels_with_the_weights(repo_root):
    model = tiny_model(repo_root)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = tiny_model(repo_root)
    fresh.text_encoder.tokenizer = None
    with pytest.raises(RuntimeError, match='no vocabulary'):
        fresh.text_encoder.tokenize(SENTENCES)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    ids = [m.text_encoder.tokenize(SENTENCES)[0] for m in (model, fresh)]
    assert torch.equal(*ids)


def test_too_large_a_vocabulary_is_refused(repo_root):
    with pytest.raises(ValueError, match='but bert.vocab_size is 12'):
        tiny_model(repo_root, **{'model.text_encoder.bert.vocab_size': 12})


def test_parameter_counts(repo_root):
    """Of the paper's model, by part: reference/NOTES-plvl.md."""
    cfg = Config.fromfile(repo_root / 'configs/plvl/_base_/plvl_vit-b.py')
    model = MODELS.build(cfg.model)
    count = {
        name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()
    }
    dead_norms, pooler = 8 * 1536, 590_592
    assert count['backbone'] == 95_753_472 - dead_norms
    assert count['text_encoder'] == 109_482_240 - pooler
    assert count['decoder'] == 9_464_320 + 2 * 393_728
    assert count['head'] == 2_134_047
    assert sum(count.values()) == 217_018_655
