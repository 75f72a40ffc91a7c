"""The paper's own model on a real image."""

import os

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner

import projects.plvl.register  # noqa: F401
from projects.common.text import WordPieceTokenizer


def test_one_step_and_one_prediction(repo_root, shared_data, monkeypatch) -> None:
    """448 x 448 pixels, 40 tokens, BERT's own vocabulary, the paper's optimizer."""
    monkeypatch.setenv('DATA_ROOT', str(shared_data / 'refcoco_sample'))
    assert not os.environ.get('PLVL_BERT')
    cfg = Config.fromfile(repo_root / 'configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    vocabulary = shared_data / 'text/bert-base-uncased-vocab.txt'
    model.text_encoder.set_tokenizer(WordPieceTokenizer.from_file(vocabulary))

    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(train) == 41
    wrapper = Runner.build_optim_wrapper(_Stub(model), cfg.optim_wrapper)
    rates = {group['lr'] for group in wrapper.optimizer.param_groups}
    assert {round(rate, 9) for rate in rates} == {5e-6, 1e-5, 2.5e-5}
    before = model.backbone.blocks[2].cross_attn.in_proj_weight.detach().clone()
    sample = train[0]
    assert sample['inputs'].shape == (3, 448, 448)
    model.train()
    losses = model.train_step(
        dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]), wrapper
    )
    assert all(value.isfinite() for value in losses.values())
    assert not torch.equal(before, model.backbone.blocks[2].cross_attn.in_proj_weight)

    test = DATASETS.build(cfg.val_dataloader.dataset)[0]
    model.eval()
    batch = dict(inputs=[test['inputs']], data_samples=[test['data_samples']])
    with torch.no_grad():
        (result,) = model.test_step(batch)
    height, width = result.ori_shape
    assert result.pred_instances.masks.shape == (1, height, width)
    assert result.pred_score_map.shape == (28, 28)
    x1, y1, x2, y2 = result.pred_instances.bboxes[0].tolist()
    assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height


class _Stub:
    """What Runner.build_optim_wrapper reads of a runner."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
