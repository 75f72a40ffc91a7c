"""Text models of transformers other than BERT as PLVL's text encoder."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

import projects.plvl.register  # noqa: F401
from projects.common.errors import InputError
from projects.common.text import (
    BERTTextEncoder,
    LearnVocabularyHook,
    TransformersTokenEncoder,
    WordPieceTokenizer,
)
from projects.plvl import GroundingInferencer
from projects.plvl.onnx_export import export_onnx

SENTENCES = ['the red circle', 'a small star left of the red heart', 'zebra']
SMALL = dict(
    hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    vocab_size=100, max_position_embeddings=24, pad_token_id=0,
)  # fmt: skip
KINDS = {
    'roberta': SMALL,
    'xlm-roberta': SMALL,
    'mpnet': SMALL,
    'distilbert': dict(
        dim=16, hidden_dim=32, n_layers=2, n_heads=2, vocab_size=100,
        max_position_embeddings=24, pad_token_id=0,
    ),
}  # fmt: skip


def publish(folder: Path, kind: str) -> torch.nn.Module:
    """Write the folder of a small random model and its tokenizer."""
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **KINDS[kind])).eval()
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=WordPieceTokenizer.learn(SENTENCES * 2, 100)._tokenizer._tokenizer,
        unk_token='[UNK]', pad_token='[PAD]', cls_token='[CLS]', sep_token='[SEP]',
        model_max_length=24,
    ).save_pretrained(folder)  # fmt: skip
    return model


@pytest.mark.parametrize('kind', KINDS)
def test_features_are_those_of_transformers(kind, tmp_path):
    """One sentence at a time, without padding, as their documentation calls them."""
    model = publish(tmp_path, kind)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    encoder = MODELS.build(
        dict(type='TransformersTokenEncoder', pretrained=str(tmp_path), max_tokens=12)
    ).eval()
    assert encoder.out_channels == 16
    ids, mask = encoder.tokenize(SENTENCES)
    assert ids.shape == mask.shape == (3, 12)
    with torch.no_grad():
        features = encoder(ids, mask)
        for sentence, found, kept in zip(SENTENCES, features, mask):
            tokens = tokenizer(sentence, return_tensors='pt')['input_ids']
            expected = model(input_ids=tokens).last_hidden_state[0]
            torch.testing.assert_close(found[kept == 1], expected, rtol=1e-4, atol=1e-5)
    long = ' '.join(['red'] * 11)
    assert encoder.too_long(long) and not encoder.too_long(long.removesuffix(' red'))
    assert encoder.tokenize([long])[1].all()


def small_config(repo_root: Path, folder: Path) -> Config:
    cfg = Config.fromfile(repo_root / 'configs/plvl/plvl_tiny_1xb16-3k_scenes.py')
    cfg.model.text_encoder = dict(
        type='TransformersTokenEncoder', pretrained=str(folder), max_tokens=12
    )
    cfg.merge_from_dict(
        {
            'model.backbone.text_channels': 16,
            'model.decoder.text_channels': 16,
        }
    )
    return cfg


def test_checkpoint_needs_no_folder(repo_root, tmp_path, log):
    """PLVL with RoBERTa: trained for a step, then used where its folder is gone."""
    publish(tmp_path / 'roberta', 'roberta')
    cfg = small_config(repo_root, tmp_path / 'roberta')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    images = torch.randn(2, 3, 32, 32)
    features = model.extract_feat(images, *model.text_encoder.tokenize(SENTENCES[:2]))
    features.square().mean().backward()
    unused = [name for name, p in model.text_encoder.named_parameters() if p.grad is None]
    assert not unused
    meta = dict(cfg=cfg.pretty_text)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'a.pth')
    shutil.rmtree(tmp_path / 'roberta')
    inferencer = GroundingInferencer(weights=tmp_path / 'a.pth', device='cpu', show_progress=False)
    again = inferencer.model
    with pytest.raises(InputError, match='only BERTTextEncoder is exported'):
        export_onnx(again, tmp_path / 'a.onnx', (64, 64))
    with torch.no_grad():
        tokens = again.text_encoder.tokenize(SENTENCES[:2])
        found = again.extract_feat(images, *tokens)
        expected = model.eval().extract_feat(images, *model.text_encoder.tokenize(SENTENCES[:2]))
    torch.testing.assert_close(found, expected)
    picture = np.zeros((40, 40, 3), np.uint8)
    log.clear()
    assert len(inferencer(picture, [SENTENCES[0], 'red ' * 20])['predictions']) == 2
    assert sum('cut off' in line for line in log) == 1


def test_what_is_refused(tmp_path):
    with pytest.raises(InputError, match='CLIPModel is a dual encoder, which learns an'):
        TransformersTokenEncoder(config=dict(model_type='clip', **{
            f'{part}_config': dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                   num_attention_heads=2) for part in ('text', 'vision')
        }))  # fmt: skip
    config = dict(KINDS['roberta'], model_type='roberta')
    encoder = TransformersTokenEncoder(config=config)  # as a checkpoint is loaded into it
    runner = SimpleNamespace(model=SimpleNamespace(text_encoder=encoder))
    with pytest.raises(RuntimeError, match='has no tokenizer: set tokenizer or pretrained'):
        LearnVocabularyHook().before_train(runner)
    publish(tmp_path, 'roberta')
    with pytest.raises(InputError, match='of type roberta, expected bert; .*TokenEncoder'):
        BERTTextEncoder(pretrained=str(tmp_path))
