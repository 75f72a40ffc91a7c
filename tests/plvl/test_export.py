"""The ONNX graph against PyTorch, and what is said where the exporter is not installed."""

import importlib.util
import json
import subprocess
import sys
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS

from projects.common.deployment import network
from projects.common.deployment.export import EXPORTER
from projects.common.text import WordPieceTokenizer
from projects.plvl import onnx_export
from projects.plvl.models.relative_position import symbolic_matrix
from projects.plvl.onnx_runner import ONNXGrounder

SENTENCES = ['the red circle', 'a small star left of the heart']
installed = all(importlib.util.find_spec(name) for name in (*EXPORTER, *network.RUNTIME))
needs_onnx = pytest.mark.skipif(not installed, reason='onnx, onnxscript, onnxruntime not installed')


def small_model(repo_root, config='configs/plvl/_base_/plvl_tiny.py', **options):
    """With a local block, and a grid that its window and the position tables do not fit."""
    cfg = Config.fromfile(repo_root / config)
    cfg.merge_from_dict(
        {
            'model.backbone.depth': 3,
            'model.backbone.global_indexes': (1, 2),
            'model.backbone.language_indexes': (2,),
            'model.decoder.num_layers': 1,
            **options,
        }
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for block in model.backbone.blocks:  # zeros, as they start, would show no mistake
        torch.nn.init.normal_(block.attn.rel_pos_h)
        torch.nn.init.normal_(block.attn.rel_pos_w)
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 200))
    return model.eval()


@pytest.fixture(scope='module')
def exported(repo_root, tmp_path_factory):
    model = small_model(repo_root)
    path = tmp_path_factory.mktemp('onnx') / 'model.onnx'
    onnx_export.export_onnx(model, path, (96, 160))
    return model, path


@needs_onnx
def test_equals_pytorch(exported):
    """Batches of 1, 2 and 5 and other sizes from a file written with a batch of 2, 96 x 160."""
    model, path = exported
    errors = onnx_export.compare(model, path, (96, 160), batches=(1, 2, 5))
    assert list(errors) == ['box', 'score', 'mask_logits']
    assert max(errors.values()) < 1e-4
    for size in ((128, 96), (256, 256)):  # one where the tables of positions fit
        assert max(onnx_export.compare(model, path, size, batches=(1, 2)).values()) < 1e-4


@pytest.mark.parametrize(('mode', 'rank'), [('linear', 1), ('bicubic', 2)])
@pytest.mark.parametrize('new', [3, 7, 12])
def test_interpolation_by_operations_on_tensors(mode, rank, new):
    """The columns of the matrix are what PyTorch interpolates of unit vectors."""
    unit = torch.eye(7)[None] if rank == 1 else torch.eye(7)[None, :, :, None]
    size = new if rank == 1 else (new, 1)
    expected = torch.nn.functional.interpolate(unit, size=size, mode=mode)[0].reshape(7, new).T
    torch.testing.assert_close(symbolic_matrix(mode, 7, new, unit), expected, rtol=0, atol=1e-6)


RUN = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'mmengine', 'mmcv', 'mmdet', 'transformers'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
import numpy as np
from projects.plvl.onnx_runner import ONNXGrounder
found = ONNXGrounder(sys.argv[2])(np.load(sys.argv[3]), json.loads(sys.argv[4]))
assert 'torch' not in sys.modules
np.savez(sys.argv[5], boxes=[f['bbox'] for f in found], scores=[f['score'] for f in found],
         masks=[f['mask'] for f in found])
"""


@needs_onnx
def test_without_pytorch(exported, repo_root, tmp_path):
    """In a process that cannot import torch, the class finds what the detector predicts."""
    model, path = exported
    picture = np.random.default_rng(1).integers(0, 255, (75, 111, 3), dtype=np.uint8)
    np.save(tmp_path / 'image.npy', picture)
    arguments = (repo_root, path.with_suffix('.json'), tmp_path / 'image.npy',
                 json.dumps(SENTENCES), tmp_path / 'found.npz')  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-c', RUN, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / 'found.npz')
    stretched = cv2.resize(picture, (160, 96), interpolation=cv2.INTER_LINEAR)
    samples = [DetDataSample(metainfo=dict(text=t, ori_shape=(75, 111))) for t in SENTENCES]
    inputs = [torch.from_numpy(stretched).permute(2, 0, 1)] * 2
    with torch.no_grad():
        expected = model.test_step(dict(inputs=inputs, data_samples=samples))
    for i, sample in enumerate(expected):
        instance = sample.pred_instances
        np.testing.assert_allclose(found['boxes'][i], instance.bboxes[0].numpy(), atol=1e-2)
        np.testing.assert_allclose(found['scores'][i], instance.scores[0].numpy(), atol=1e-5)
        assert (found['masks'][i] != instance.masks[0].numpy()).mean() < 1e-3


@needs_onnx
def test_wrong_files_and_inputs_are_named(exported, tmp_path):
    _, path = exported
    with pytest.raises(ValueError, match='a network; expected the .json file beside it'):
        ONNXGrounder(path)
    content = json.loads(path.with_suffix('.json').read_text())
    for change, message in (
        ({'project': 'rvse'}, "project: found 'rvse', expected 'plvl'"),
        ({'networks': {'grounding': '../model.onnx'}}, 'networks.grounding: found'),
        ({'mean': None}, 'mean: found None'),
        ({'version': 9}, 'version: found 9, expected 1'),
    ):
        (tmp_path / 'a.json').write_text(json.dumps({**content, **change}))
        with pytest.raises(ValueError, match=message):
            ONNXGrounder(tmp_path / 'a.json')
    (tmp_path / 'a.json').write_text(json.dumps(content))
    with pytest.raises(FileNotFoundError, match='no such file as model.onnx beside it'):
        ONNXGrounder(tmp_path / 'a.json')
    with pytest.raises(ValueError, match="sentence ' ': expected words"):
        ONNXGrounder(path.with_suffix('.json'))(np.zeros((9, 9, 3), np.uint8), ' ')


@needs_onnx
def test_equals_predictions_of_a_picture(exported, tmp_path):
    """RGB pixels and the vocabulary beside the file give what the detector predicts."""
    import onnxruntime

    model, path = exported
    rng = np.random.default_rng(0)
    image_bgr = rng.integers(0, 255, (96, 160, 3), dtype=np.uint8)
    samples = [DetDataSample(metainfo=dict(text=SENTENCES[1], ori_shape=(96, 160)))]
    data = dict(inputs=[torch.from_numpy(image_bgr).permute(2, 0, 1)], data_samples=samples)
    with torch.no_grad():
        (expected,) = model.test_step(data)
    tokenizer = WordPieceTokenizer.from_file(f'{path}.vocab.txt')
    ids, mask = tokenizer(SENTENCES[1:], model.text_encoder.max_tokens)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    box, score, mask_logits = session.run(
        ['box', 'score', 'mask_logits'],
        {
            'image': image_bgr[None, ..., ::-1].transpose(0, 3, 1, 2).astype(np.float32),
            'input_ids': ids.numpy(),
            'attention_mask': mask.numpy(),
        },
    )
    instance = expected.pred_instances
    np.testing.assert_allclose(box[0] * [160, 96, 160, 96], instance.bboxes[0].numpy(), atol=1e-2)
    np.testing.assert_allclose(score, instance.scores.numpy(), atol=1e-5)
    probability = 1 / (1 + np.exp(-mask_logits[0]))
    np.testing.assert_allclose(probability, expected.pred_mask_probs.numpy(), atol=1e-5)


@pytest.mark.slow
@needs_onnx
def test_head_for_boxes_alone(repo_root, tmp_path):
    groups = (('center',), ('offset', 'size'))
    model = small_model(repo_root, **{'model.head.groups': groups})
    onnx_export.export_onnx(model, tmp_path / 'rec.onnx', (64, 64), any_size=False)
    errors = onnx_export.compare(model, tmp_path / 'rec.onnx', (64, 64))
    assert list(errors) == ['box', 'score'] and max(errors.values()) < 1e-4


@pytest.mark.slow
@needs_onnx
def test_paper_model(repo_root, tmp_path):
    """Of full size, at 448 x 448 pixels, where windows and stretched positions are the paper's."""
    cfg = Config.fromfile(repo_root / 'configs/plvl/_base_/plvl_vit-b.py')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    model.init_weights()
    for block in model.backbone.blocks:
        torch.nn.init.normal_(block.attn.rel_pos_h, std=0.1)
        torch.nn.init.normal_(block.attn.rel_pos_w, std=0.1)
    path = tmp_path / 'model.onnx'
    onnx_export.export_onnx(model, path, (448, 448))
    assert max(onnx_export.compare(model, path, (320, 480), batches=(1,)).values()) < 5e-5
    errors = onnx_export.compare(model, path, (448, 448), batches=(1, 2))
    path.unlink()
    assert max(errors.values()) < 5e-5


def test_what_to_install(monkeypatch, repo_root, tmp_path):
    find_spec = importlib.util.find_spec
    hidden = ('onnxscript', 'onnxruntime')
    monkeypatch.setattr(
        network.importlib.util,
        'find_spec',
        lambda name: None if name in hidden else find_spec(name) if name != 'onnx' else True,
    )
    model = small_model(repo_root)
    with pytest.raises(ImportError, match='needs onnxscript: pip install onnxscript'):
        onnx_export.export_onnx(model, tmp_path / 'model.onnx', (64, 64))
    with pytest.raises(ImportError, match='needs onnxruntime: pip install onnxruntime'):
        onnx_export.compare(model, tmp_path / 'model.onnx', (64, 64))
    assert not list(tmp_path.iterdir())


def test_other_models_are_refused(repo_root):
    model = small_model(repo_root)
    model.head = torch.nn.Identity()
    with pytest.raises(ValueError, match='PLVL with Identity: only PLVL with CollaborativeHead'):
        onnx_export.GroundingGraph(model)
    model.head = MODELS.build(dict(type='GeneralizedHead', in_channels=32, patch_size=8))
    with pytest.raises(ValueError, match='PLVL with GeneralizedHead: only PLVL with Collab'):
        onnx_export.GroundingGraph(model)


@pytest.fixture
def run_tool(repo_root, tmp_path, call_tool):
    """The tool on a small model."""
    cfg = Config.fromfile(repo_root / 'configs/plvl/plvl_tiny_1xb8-150e_refcoco.py')
    cfg.merge_from_dict({'model.backbone.depth': 2, 'model.decoder.num_layers': 1})
    cfg.merge_from_dict(
        {'model.backbone.global_indexes': (1,), 'model.backbone.language_indexes': (1,)}
    )
    cfg.dump(tmp_path / 'config.py')
    model = MODELS.build(cfg.model)
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 200))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')

    files = (tmp_path / 'config.py', tmp_path / 'weights.pth', tmp_path / 'out/model.onnx')
    return partial(call_tool, 'deployment/export_onnx.py', *files)


@needs_onnx
@pytest.mark.parametrize('options', [(), pytest.param(('--fixed-size',), marks=pytest.mark.slow)])
def test_tool(run_tool, tmp_path, options):
    done = run_tool('--tolerance', '0', *options, rc=1)
    assert 'model.onnx: ' in done.out and 'model.json: ' in done.out
    assert 'mask_logits: largest difference from PyTorch' in done.out
    assert 'differs from PyTorch by more than 0.0' in done.err.splitlines()[-1]
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'model.json',
        'model.onnx',
        'model.onnx.vocab.txt',
    ]


@pytest.mark.slow
@needs_onnx
def test_tool_within_the_tolerance(run_tool):
    assert 'mask_logits: largest difference from PyTorch' in run_tool().out


def test_tool_says_what_to_install(run_tool, monkeypatch, tmp_path):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        network.importlib.util,
        'find_spec',
        lambda name: None if name.startswith('onnx') else find_spec(name),
    )
    error = run_tool(rc=1).err
    assert error.strip().splitlines()[-1] == (
        'error: the export to ONNX needs onnx, onnxscript, onnxruntime: '
        'pip install onnx onnxscript onnxruntime'
    )
    assert not (tmp_path / 'out').exists()
