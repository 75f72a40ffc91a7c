"""EEVG against token elimination, attention, head and losses written out by hand."""

from __future__ import annotations

import copy
import math

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
from projects.plvl.models import KeptTokens, TokenElimination

SENTENCES = ['the red circle', 'a small star left of the heart']
CONFIGS = 'configs/plvl/ablation/eevg_vit-b{}_4xb20-150e_refcocog-umd.py'
VARIANTS = ('', '-cmth', '-plvl', '-plvl-cmth')
TINY_BERT = dict(
    vocab_size=200,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
)
GRID = (4, 4)


def tiny_model(repo_root, variant: str = '', **options):
    """The config with small numbers and its 12 blocks."""
    cfg = Config.fromfile(repo_root / CONFIGS.format(variant))
    model = cfg.model
    model.text_encoder.update(max_tokens=16, bert=TINY_BERT)
    model.backbone.update(channels=32, num_heads=2, window_size=2, text_channels=32, cross_heads=2)
    model.backbone.update(pos_embed_grid=4, rel_pos_grid=4)
    model.decoder.update(visual_channels=32, text_channels=32, channels=32, num_heads=4)
    model.decoder.update(ffn_channels=48, pos_embed_grid=4, max_tokens=16)
    model.head.in_channels = 32
    if 'hidden_channels' in model.head:
        model.head.hidden_channels = 24
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    torch.manual_seed(0)
    built = MODELS.build(cfg.model)
    built.init_weights()
    built.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 200))
    return built


def batch(side: int = 64) -> dict:
    rng = np.random.default_rng(0)
    samples = []
    for text in SENTENCES:
        meta = dict(text=text, ori_shape=(48, 80), img_shape=(side, side), img_id=0)
        sample = DetDataSample(metainfo=meta)
        mask = np.zeros((1, side, side), np.uint8)
        mask[:, 10:30, 20:50] = 1
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[20.0, 10.0, 50.0, 30.0]]),
            labels=torch.zeros(1, dtype=torch.long),
            masks=BitmapMasks(mask, side, side),
        )
        samples.append(sample)
    images = [torch.from_numpy(rng.integers(0, 255, (3, side, side), np.uint8)) for _ in samples]
    return dict(inputs=images, data_samples=samples)


def run(model, mode: str):
    data = model.data_preprocessor(batch(), training=mode == 'loss')
    return model(**data, mode=mode)


# ------------------------------------------------------------------ token elimination by hand


def scores_by_hand(row: list[float], cells: list[int], grid: tuple[int, int]) -> list[float]:
    """Softmax, 3x3 means and scaling to [0, 1] of one image, cell by cell."""
    height, width = grid
    top = max(row)
    exps = [math.exp(value - top) for value in row]
    attention = dict(zip(cells, (e / sum(exps) for e in exps), strict=True))
    least = min(attention.values())
    means = []
    for cell in cells:
        r, c = divmod(cell, width)
        values = []
        for i in (r - 1, r, r + 1):
            for j in (c - 1, c, c + 1):
                if 0 <= i < height and 0 <= j < width:
                    values.append(attention.get(i * width + j, least))
                else:
                    values.append(attention[cell])
        means.append(sum(values) / 9)
    low, high = min(means), max(means)
    return [(value - low) / (high - low) for value in means]


def eliminate_by_hand(rows, cells, grid, threshold: float) -> tuple[list[set], list[set]]:
    """For each image the indexes that certainly stay and those that are to go."""
    scores = [scores_by_hand(r, c, grid) for r, c in zip(rows, cells, strict=True)]
    count = min(sum(s < threshold for s in score) for score in scores)
    stay, go = [], []
    for score in scores:
        order = sorted(range(len(score)), key=score.__getitem__)
        go.append(set(order[:count]))
        stay.append(set(order[count:]))
    return stay, go


def random_rows(batch_size: int, n: int, seed: int) -> torch.Tensor:
    """Logits with a few peaks, so that the means differ much and many are near the least."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(batch_size, n, generator=generator)
    rows[:, : n // 10] += 6
    return torch.stack([row[torch.randperm(n, generator=generator)] for row in rows])


@pytest.mark.parametrize('seed', range(4))
def test_elimination_is_that_by_hand(seed: int) -> None:
    """Two rounds: the second has cells whose tokens are gone, other ones in each image."""
    grid, threshold = (6, 9), 0.1
    cells = torch.arange(54).expand(3, -1)
    module = TokenElimination(threshold, keep_ratio=0.0)
    for round_ in range(2):
        logits = random_rows(3, cells.shape[1], 10 * round_ + seed)
        kept = module(logits, cells, grid)
        stay, go = eliminate_by_hand(logits.tolist(), cells.tolist(), grid, threshold)
        assert 0 < len(go[0]) < cells.shape[1]
        assert [set(k) for k in kept.tolist()] == stay
        assert kept.tolist() == [sorted(k) for k in kept.tolist()]  # spatial order
        cells = cells.gather(1, kept)
    assert cells[0].tolist() != cells[1].tolist()


def test_smallest_count_of_the_batch() -> None:
    """An image with a spread-out attention spares the tokens of one with a sharp one."""
    grid, cells = (6, 6), torch.arange(36).expand(2, -1)
    sharp = torch.zeros(36)
    sharp[0] = 9.0
    module = TokenElimination(0.3, keep_ratio=0.0)
    alone = [module(row[None], cells[:1], grid).shape[1] for row in (sharp, torch.arange(36) / 9)]
    together = module(torch.stack((sharp, torch.arange(36) / 9)), cells, grid)
    assert alone[0] < alone[1] == together.shape[1]


def test_corner_counts_itself_six_times() -> None:
    """A single peak in a corner: its mean is 6/9 of it, its neighbours' 1/9 of it."""
    from projects.plvl.models.token_elimination import neighbourhood_mean

    values = torch.zeros(1, 12)
    values[0, 0] = 9.0
    mean = neighbourhood_mean(values, torch.arange(12)[None], (3, 4)).view(3, 4)
    expected = torch.zeros(3, 4)
    expected[:2, :2] = 1.0
    expected[0, 0] = 6.0
    torch.testing.assert_close(mean, expected)


def test_a_tenth_of_those_to_go_stays() -> None:
    grid, threshold = (10, 10), 0.2
    logits, cells = random_rows(2, 100, 0), torch.arange(100).expand(2, -1)
    stay, go = eliminate_by_hand(logits.tolist(), cells.tolist(), grid, threshold)
    tenth = len(go[0]) // 10
    assert tenth >= 2
    module = TokenElimination(threshold).train()
    drawn = []
    for seed in range(30):
        torch.manual_seed(seed)
        kept = [set(k) for k in module(logits, cells, grid).tolist()]
        for k, s, g in zip(kept, stay, go, strict=True):
            assert s <= k
            assert len(k & g) == tenth and k <= s | g
        drawn.append(kept[0] & go[0])
    assert set().union(*drawn) > drawn[0]  # another draw each time
    assert len(set().union(*drawn)) > len(go[0]) / 2  # from all of them

    module.eval()
    first, second = module(logits, cells, grid), module(logits, cells, grid)
    assert torch.equal(first, second)
    for k, s, g in zip(first.tolist(), stay, go, strict=True):
        assert s <= set(k) and len(set(k) & g) == tenth


def test_the_last_token_stays() -> None:
    assert TokenElimination()(torch.zeros(2, 1), torch.zeros(2, 1).long(), (1, 1)).shape == (2, 1)


# ------------------------------------------------------------------------------ the decoder


def layer_norm(x, module):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return x * module.weight + module.bias


def attend(query, key, value, module, num_heads: int, padding=None):
    """Multi-head attention of one image with its full logits: output and logits (heads, q, k)."""
    w_q, w_k, w_v = module.in_proj_weight.chunk(3)
    b_q, b_k, b_v = module.in_proj_bias.chunk(3)
    q, k, v = query @ w_q.T + b_q, key @ w_k.T + b_k, value @ w_v.T + b_v
    size = q.shape[1] // num_heads
    outputs, all_logits = [], []
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        logits = q[:, part] @ k[:, part].T / math.sqrt(size)
        if padding is not None:
            logits[:, padding] = -math.inf
        all_logits.append(logits)
        outputs.append(logits.softmax(-1) @ v[:, part])
    merged = torch.cat(outputs, dim=1)
    out = merged @ module.out_proj.weight.T + module.out_proj.bias
    return out, torch.stack(all_logits)


def decode_by_hand(decoder, visual, text, text_mask, num_heads: int, threshold: float):
    """The whole decoder with full attention matrices; rows are dropped after the attention."""
    grid = visual.shape[1:3]
    tokens = [v.flatten(0, 1) @ decoder.visual_proj.weight.T for v in visual]
    tokens = [torch.cat((decoder.reg_token[0], t + decoder.visual_proj.bias)) for t in tokens]
    texts = [t @ decoder.text_proj.weight.T + decoder.text_proj.bias for t in text]
    cells = [list(range(grid[0] * grid[1]))] * len(tokens)
    for layer in decoder.layers:
        attended, rows = [], []
        for x, c in zip(tokens, cells, strict=True):
            placed = x + decoder.visual_pos[0, [0, *(i + 1 for i in c)]]
            out, logits = attend(placed, placed, x, layer.self_attn, num_heads)
            attended.append(out)
            rows.append(logits[:, 0, 1:].mean(0).tolist())
        stay, _ = eliminate_by_hand(rows, cells, grid, threshold)
        for i, (x, out) in enumerate(zip(tokens, attended, strict=True)):
            kept = sorted(stay[i])
            cells[i : i + 1] = [[cells[i][k] for k in kept]]
            index = [0, *(k + 1 for k in kept)]
            x = layer_norm(x[index] + out[index], layer.norm1)
            pos = decoder.visual_pos[0, [0, *(c + 1 for c in cells[i])]]
            keys = texts[i] + decoder.text_pos[0, : len(texts[i])]
            padding = text_mask[i] == 0
            out, _ = attend(x + pos, keys, texts[i], layer.multihead_attn, num_heads, padding)
            x = layer_norm(x + out, layer.norm2)
            hidden = (x @ layer.linear1.weight.T + layer.linear1.bias).clamp(min=0)
            out = hidden @ layer.linear2.weight.T + layer.linear2.bias
            tokens[i] = layer_norm(x + out, layer.norm3)
    return [layer_norm(x, decoder.norm) for x in tokens], cells


@torch.no_grad()
def test_decoder_is_that_by_hand() -> None:
    torch.manual_seed(0)
    decoder = MODELS.build(
        dict(
            type='TokenEliminationDecoder',
            visual_channels=12,
            text_channels=10,
            channels=16,
            num_heads=4,
            ffn_channels=24,
            pos_embed_grid=6,
            max_tokens=8,
            threshold=0.2,
            keep_ratio=0.0,
        )
    )
    decoder.init_weights()
    for parameter in decoder.parameters():  # biases and norms that show when they are left out
        parameter.add_(0.1 * torch.randn_like(parameter))
    decoder.eval()
    visual, text = 2 * torch.randn(2, 6, 6, 12), torch.randn(2, 7, 10)
    text_mask = torch.tensor([[1] * 4 + [0] * 3, [1] * 7])
    ours = decoder(visual, text, text_mask)
    tokens, cells = decode_by_hand(decoder, visual, text, text_mask, 4, 0.2)
    assert ours.cells.tolist() == cells
    assert 1 < len(cells[0]) < 36
    assert cells[0] != cells[1]
    for i in range(2):
        torch.testing.assert_close(ours.reg[i], tokens[i][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.visual[i], tokens[i][1:], rtol=1e-4, atol=1e-5)

    # What stands on padding is not read.
    text[0, 4:] += 1
    torch.testing.assert_close(decoder(visual, text, text_mask).visual, ours.visual)

    grid_map = ours.to_map()
    assert grid_map.shape == (2, 16, 6, 6)
    for i in range(2):
        for cell in range(36):
            expected = torch.zeros(16)
            if cell in cells[i]:
                expected = ours.visual[i, cells[i].index(cell)]
            assert torch.equal(grid_map[i, :, cell // 6, cell % 6], expected)


def test_full_rows_of_attention_are_never_made() -> None:
    """The queries of the tokens that go are not computed: SDPA sees the kept ones alone."""
    torch.manual_seed(0)
    decoder = MODELS.build(
        dict(type='TokenEliminationDecoder', channels=32, visual_channels=32, text_channels=32)
    ).eval()
    seen = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, value, *args, **kwargs):
        seen.append((query.shape[2], key.shape[2]))
        return attention(query, key, value, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.nn.functional, 'scaled_dot_product_attention', spy)
        tokens = decoder(4 * torch.randn(1, 28, 28, 32), torch.randn(1, 5, 32), torch.ones(1, 5))
    selfs = [pair for pair in seen if pair[1] != 5]
    assert len(selfs) == 3 and selfs[0][1] == 785
    for (queries, _), (_, keys) in zip(selfs, [*selfs[1:], (0, 1 + tokens.cells.shape[1])]):
        assert queries == keys
    assert selfs[-1][0] < 785


# --------------------------------------------------------------------------- head and losses


def kept_tokens(m: int = 5) -> KeptTokens:
    generator = torch.Generator().manual_seed(3)
    cells = torch.stack(
        [torch.randperm(12, generator=generator)[:m].sort().values for _ in range(2)]
    )
    reg, visual = (torch.randn(*s, generator=generator) for s in ((2, 8), (2, m, 8)))
    return KeptTokens(reg, visual, cells, (3, 4))


def tiny_head(**kwargs):
    torch.manual_seed(0)
    head = dict(type='TokenMLPHead', in_channels=8, hidden_channels=6, patch_size=4, **kwargs)
    return MODELS.build(head)


def mlp_by_hand(x, mlp):
    linears = [module for module in mlp if isinstance(module, torch.nn.Linear)]
    for i, linear in enumerate(linears):
        x = x @ linear.weight.T + linear.bias
        if i < len(linears) - 1:
            x = x.clamp(min=0)
    return x, len(linears)


@torch.no_grad()
def test_head_by_hand() -> None:
    head, tokens = tiny_head(), kept_tokens()
    outputs = head(tokens)
    box, num_layers = mlp_by_hand(tokens.reg, head.box_mlp)
    assert num_layers == 3
    torch.testing.assert_close(outputs['box'], box)

    canvas = torch.zeros(2, 12, 16)
    for i in range(2):
        for token, cell in zip(tokens.visual[i], tokens.cells[i].tolist(), strict=True):
            patch, num_layers = mlp_by_hand(token, head.mask_mlp)
            assert num_layers == 2
            row, column = divmod(cell, 4)
            for k in range(16):  # channel k of token (r, c) is pixel (4 r + k // 4, 4 c + k % 4)
                canvas[i, 4 * row + k // 4, 4 * column + k % 4] = patch[k]
    padded = torch.nn.functional.pad(canvas, (2, 2, 2, 2))
    kernel = head.mask_conv[-1]
    expected = torch.zeros(2, 12, 16) + kernel.bias
    for i in range(5):
        for j in range(5):
            expected += kernel.weight[0, 0, i, j] * padded[:, i : i + 12, j : j + 16]
    torch.testing.assert_close(outputs['mask'][:, 0], expected)

    results = head.predict(tokens)
    cx, cy, w, h = box.sigmoid().unbind(1)
    corners = torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), dim=1)
    torch.testing.assert_close(results['boxes_norm'], corners.clamp(0, 1))
    torch.testing.assert_close(results['mask_probs'], expected.sigmoid())


def test_losses_by_hand() -> None:
    head, tokens = tiny_head(), kept_tokens()
    truth = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 0.4]])
    masks = torch.zeros(2, 12, 16)
    masks[0, 3:9, 2:7] = 1
    masks[1, :4] = 1
    losses = head.loss(tokens, truth, masks)
    with torch.no_grad():
        outputs = head(tokens)
    l1 = giou = focal = dice = 0.0
    for i in range(2):
        x1, y1, x2, y2 = truth[i].tolist()
        target = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        cx, cy, w, h = outputs['box'][i].sigmoid().tolist()
        l1 += sum(abs(a - b) for a, b in zip((cx, cy, w, h), target, strict=True)) / 2
        a1, b1, a2, b2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
        inter = max(min(a2, x2) - max(a1, x1), 0) * max(min(b2, y2) - max(b1, y1), 0)
        union = w * h + (x2 - x1) * (y2 - y1) - inter
        hull = (max(a2, x2) - min(a1, x1)) * (max(b2, y2) - min(b1, y1))
        giou += (1 - inter / union + (hull - union) / hull) / 2
        p, t = outputs['mask'][i, 0].sigmoid().double(), masks[i].double()
        wrong = torch.where(t == 1, 1 - p, p)
        weight = torch.where(t == 1, 0.25, 0.75)
        focal += (weight * wrong**2 * -(1 - wrong).log()).mean().item() / 2
        dice += (1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)).item() / 2
    expected = dict(loss_bbox=0.1 * l1, loss_iou=0.1 * giou, loss_mask=focal, loss_dice=dice)
    assert {key: value.item() for key, value in losses.items()} == pytest.approx(expected, rel=1e-4)


# ------------------------------------------------------------------------------ the detector


@pytest.mark.parametrize('variant', VARIANTS)
def test_three_modes(repo_root, variant: str) -> None:
    model = tiny_model(repo_root, variant, **{'decoder.threshold': 0.3}).train()
    sum(run(model, 'loss').values()).backward()
    # DDP needs no search for unused parameters.
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    model.eval()
    with torch.no_grad():
        samples, again = run(model, 'predict'), run(model, 'predict')
        outputs = run(model, 'tensor')
    assert outputs['mask'].shape == (2, 1, 64, 64)
    assert ('box' in outputs) == ('cmth' not in variant) == ('center' not in outputs)
    for sample, other in zip(samples, again, strict=True):
        prediction = sample.pred_instances
        assert prediction.masks.shape == (1, 48, 80)
        assert prediction.scores.shape == (1,) and 0 <= prediction.scores.item() <= 1
        x1, y1, x2, y2 = prediction.bboxes[0].tolist()
        assert 0 <= x1 <= x2 <= 80 and 0 <= y1 <= y2 <= 48
        assert ('pred_score_map' in sample) == ('cmth' in variant)
        assert torch.equal(sample.pred_mask_probs, other.pred_mask_probs)


@torch.no_grad()
def test_only_the_kept_tokens_reach_the_convolutional_head(repo_root) -> None:
    model = tiny_model(repo_root, '-cmth', **{'decoder.threshold': 0.5}).eval()
    ids, mask = model.text_encoder.tokenize(SENTENCES)
    features = model.extract_feat(torch.randn(2, 3, 64, 64), ids, mask)
    assert features.shape == (2, 32, *GRID)
    empty = (features == 0).all(1).flatten(1).sum(1)
    assert empty[0] == empty[1] > 0


@torch.no_grad()
def test_where_the_sentence_enters(repo_root) -> None:
    """EEVG's backbone does not read it; with PLVL's it does, in blocks 3, 6, 9 and 12."""
    for variant in ('', '-plvl'):
        model = tiny_model(repo_root, variant).eval()
        images = torch.randn(1, 3, 64, 64)
        ids, mask = model.text_encoder.tokenize(SENTENCES)
        texts = model.text_encoder(ids, mask)
        visual = [model.backbone(images, text[None], mask[:1]) for text in texts]
        assert torch.equal(*visual) == (variant == '')
        seeing = [i for i, block in enumerate(model.backbone.blocks) if block.sees_language]
        assert seeing == ([] if variant == '' else [2, 5, 8, 11])
        outputs = [
            model._forward(images, input_ids=i[None], attention_mask=m[None])
            for i, m in zip(ids, mask, strict=True)
        ]
        assert not torch.allclose(outputs[0]['box'], outputs[1]['box'], atol=1e-4)


def test_losses_are_float32_under_autocast(repo_root) -> None:
    model = tiny_model(repo_root, **{'decoder.threshold': 0.3}).train()
    with torch.autocast('cpu', torch.bfloat16):
        losses = run(model, 'loss')
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())


def test_other_sizes_than_the_positions(repo_root) -> None:
    """An image of 96 x 64 pixels with positions made for 4 x 4 tokens."""
    model = tiny_model(repo_root).eval()
    with torch.no_grad():
        ids, mask = model.text_encoder.tokenize(SENTENCES[:1])
        outputs = model._forward(torch.randn(1, 3, 96, 64), input_ids=ids, attention_mask=mask)
    assert outputs['mask'].shape == (1, 1, 96, 64)


def test_parameter_count(repo_root) -> None:
    """218,072,094 (plvl.md, F) without BERT's pooler, which EEVG's forward pass never uses."""
    cfg = Config.fromfile(repo_root / CONFIGS.format(''))
    with torch.device('meta'):
        model = MODELS.build(copy.deepcopy(cfg.model))
    count = {
        name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()
    }
    pooler = 768 * 768 + 768
    assert count['text_encoder'] == 109_482_240 - pooler
    assert count['backbone'] == 85_889_024  # ViTDet-B: keys/vitdet_backbone_detectron2.txt
    assert sum(count.values()) + pooler == 218_072_094
