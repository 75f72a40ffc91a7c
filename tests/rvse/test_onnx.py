"""Exported matchers against PyTorch, and without it."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

import projects.rvse.register  # noqa: F401
from projects.common.text import WordPieceTokenizer
from projects.rvse import RetrievalInferencer
from projects.rvse.models.gpo import sinusoids
from projects.rvse.onnx_export import compare, export_onnx
from projects.rvse.onnx_runner import ONNXMatcher

installed = all(importlib.util.find_spec(name) for name in ('onnx', 'onnxscript', 'onnxruntime'))
needs_onnx = pytest.mark.skipif(not installed, reason='onnx, onnxscript, onnxruntime not installed')
SENTENCES = ['a red circle', 'Two blue stars, left of a heart.', 'xylophone']


def region_matcher(text_encoder, **changes):
    torch.manual_seed(0)
    image_encoder = dict(
        type='RegionResidualMLP', in_channels=24, channels=16, pool=dict(type='GPO')
    )
    config = dict(
        type='ImageTextMatcher', image_encoder=image_encoder, text_encoder=text_encoder,
        similarity=dict(type='CosineSimilarity'),
    )  # fmt: skip
    return MODELS.build(ConfigDict({**config, **changes})).eval()


@pytest.fixture(scope='module')
def scenes(repo_root):
    """The published small model, of images and a GRU."""
    folder = repo_root / 'demo/models/rvse-scenes'
    return RetrievalInferencer(folder / 'config.py', folder, 'cpu', show_progress=False)


@pytest.fixture(scope='module')
def exported(scenes, tmp_path_factory):
    path = tmp_path_factory.mktemp('onnx') / 'rvse.onnx'
    steps = [dict(step='scale', size=[128, 128], keep_ratio=False, backend='cv2',
                  interpolation='bilinear')]  # fmt: skip
    export_onnx(scenes.model, path, (128, 128), steps=steps)
    return path


@needs_onnx
def test_equals_pytorch(scenes, exported):
    """Batches of 1 and 3, sentences of 2 to 17 tokens."""
    errors = compare(scenes.model, exported, (128, 128))
    assert list(errors) == ['image', 'text'] and 0 < max(errors.values()) < 1e-5


RUN = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'mmengine', 'mmcv', 'mmdet', 'transformers'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
import numpy as np
from projects.rvse.onnx_runner import ONNXMatcher
match = ONNXMatcher(sys.argv[2])
np.savez(sys.argv[5], images=match.encode_images(list(np.load(sys.argv[3])), batch_size=2),
         sentences=match.encode_sentences(json.loads(sys.argv[4]), batch_size=2))
assert 'torch' not in sys.modules
"""


@needs_onnx
def test_without_pytorch(scenes, exported, repo_root, tmp_path):
    """In a process that cannot import torch, embeddings are those of the inferencer."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, 90, 140, 3), dtype=np.uint8)
    np.save(tmp_path / 'images.npy', pictures)
    arguments = (repo_root, exported.with_suffix('.json'), tmp_path / 'images.npy',
                 json.dumps(SENTENCES), tmp_path / 'found.npz')  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-c', RUN, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / 'found.npz')
    images = scenes.encode_images(list(pictures))
    np.testing.assert_allclose(found['images'], images, rtol=0, atol=1e-5)
    sentences = scenes.encode_sentences(SENTENCES)
    np.testing.assert_allclose(found['sentences'], sentences, rtol=0, atol=1e-5)


@pytest.mark.slow
@needs_onnx
def test_regions_and_bert(tmp_path):
    bert = dict(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=32)  # fmt: skip
    text = dict(type='BERTCaptionEncoder', channels=16, pool=dict(type='GPO'),
                encoder=dict(bert=bert, max_tokens=12))  # fmt: skip
    model = region_matcher(text)
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 60))
    export_onnx(model, tmp_path / 'a.onnx', (0, 0))
    assert max(compare(model, tmp_path / 'a.onnx', (0, 0)).values()) < 1e-5
    match = ONNXMatcher(tmp_path / 'a.json')
    regions, lengths = torch.randn(3, 7, 24), torch.tensor([7, 2, 5])
    with torch.no_grad():
        images = model.image_encoder(regions, lengths)[0].numpy()
        sentences = model.encode_captions(SENTENCES)[0].numpy()
    found = match.encode_regions(regions.numpy(), lengths.numpy())
    np.testing.assert_allclose(found, images, rtol=0, atol=1e-5)
    np.testing.assert_allclose(match.encode_sentences(SENTENCES), sentences, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match='reads precomputed regions; use encode_regions'):
        match.encode_images([np.zeros((9, 9, 3), np.uint8)])
    with pytest.raises(ValueError, match=r'lengths of shape \(2,\): expected \(3,\)'):
        match.encode_regions(regions.numpy(), [1, 2])


def test_other_models_are_refused(tmp_path):
    text = dict(type='BiGRUTextEncoder', vocab_size=9, word_channels=4, channels=16)
    model = region_matcher(text, similarity=dict(type='SCANSimilarity'))
    with pytest.raises(ValueError, match='similarity SCANSimilarity: it compares every region'):
        export_onnx(model, tmp_path / 'a.onnx', (0, 0))


def test_encodings_of_ranks():
    """Sines in even and cosines in odd channels of growing wave lengths."""
    found = sinusoids(6, 5)
    assert found.shape == (6, 5)
    for position in range(6):
        for channel in range(5):
            angle = position / 10000 ** ((channel // 2 * 2) / 5)
            expected = np.cos(angle) if channel % 2 else np.sin(angle)
            assert found[position, channel].item() == pytest.approx(expected, abs=1e-6)
