"""tools/analysis_tools/calibrate.py, and the inferencers on what it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from projects.common.calibration import Calibration
from projects.common.scenes import write_dataset
from projects.common.weights.published import read_published
from projects.pdsl import WeakInstanceInferencer
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer

SCRIPT = 'analysis_tools/calibrate.py'
CONFIG = """
custom_imports = dict(imports=['projects.plvl.register'], allow_failed_imports=False)
default_scope = 'mmdet'
model = dict(type='PLVL')
val_dataloader = dict(dataset=dict(
    type='JSONLinesGroundingDataset', data_root='{root}', ann_file='data.jsonl',
    data_prefix=dict(img=''), test_mode=True, pipeline=[]))
test_dataloader = val_dataloader
"""
BOX = [10, 10, 50, 50]


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """Forty images with five sentences each, whose boxes are right in as many cases as not."""
    rng = np.random.default_rng(0)
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / 'one.png')
    lines, dump = [], []
    for i in range(40):
        name = f'{i}.png'
        shutil.copy(tmp_path / 'one.png', tmp_path / name)
        for j in range(5):
            text, score = f'thing {j}', float(rng.uniform(0.3, 0.7))
            right = rng.random() < 1 / (1 + np.exp(-20 * (score - 0.5)))
            lines.append(dict(image=name, sentence=text, bbox=BOX))
            box = BOX if right else [60, 60, 90, 90]
            found = dict(bboxes=[box], scores=[score], labels=[0])
            dump.append(dict(img_path=name, text=text, pred_instances=found))
    (tmp_path / 'data.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    (tmp_path / 'config.py').write_text(CONFIG.format(root=tmp_path))
    from projects.plvl.datasets import JSONLinesGroundingDataset

    data = JSONLinesGroundingDataset(
        ann_file='data.jsonl', data_root=str(tmp_path), test_mode=True, pipeline=[]
    )
    for i, entry in enumerate(dump):
        sample = data.get_data_info(i)
        assert sample['text'] == entry['text']
        entry.update({key: sample[key] for key in ('img_path', 'img_id', 'ref_id', 'sent_id',
                                                   'ann_id')})  # fmt: skip
    (tmp_path / 'dump.json').write_text(json.dumps(dump))
    content = dict(state_dict=dict(w=torch.ones(2)), meta=dict(epoch=3), optimizer=dict(a=1))
    torch.save(content, tmp_path / 'best.pth')
    return tmp_path


def test_a_checkpoint(case, call_tool):
    files = (case / 'config.py', case / 'best.pth')
    given = ('--predictions', case / 'dump.json')
    out = case / 'out/calibrated.pth'
    shown = call_tool(SCRIPT, *files, *given, '--out', out, '--plot', case / 'plots/one.png').out
    assert '200 predictions of 40 images' in shown and 'box IoU >= 0.5' in shown
    content = torch.load(out, weights_only=True)
    assert content['meta']['epoch'] == 3 and content['optimizer'] == dict(a=1)
    assert torch.equal(content['state_dict']['w'], torch.ones(2))
    calibration = Calibration.from_dict(content['meta']['calibration'], 'x', 'grounding')
    # The chance of 20 * (s - 0.5) has about five times the slope of the logit of s, near 0.5.
    assert 3 < calibration.scale < 8
    report = calibration.report
    assert report['after']['ece'] < report['before']['ece']
    assert f'threshold {calibration.threshold:.3f}: precision' in shown
    assert Image.open(case / 'plots/one.png').size[0] > 800
    # On the same data, the stored parameters, which were fitted to all of it, are measured.
    figures = case / 'figures.json'
    call_tool(SCRIPT, files[0], out, *given, '--check', '--report', figures)
    checked = json.loads(figures.read_text())
    scores = [e['pred_instances']['scores'][0] for e in json.loads(given[1].read_text())]
    right = [e['pred_instances']['bboxes'][0] == BOX for e in json.loads(given[1].read_text())]
    p = calibration(np.array(scores))
    assert checked['after']['brier'] == pytest.approx(np.mean((p - np.array(right)) ** 2))
    assert checked['before'] == pytest.approx(report['before'])
    call_tool(SCRIPT, *files, *given, '--out', out, '--precision', 0.9)
    stricter = torch.load(out, weights_only=True)['meta']['calibration']['threshold']
    assert np.mean(np.array(right)[p >= stricter]) >= 0.9
    assert np.mean(np.array(right)[p >= stricter - 0.05]) < 0.95


def test_errors_are_one_line(case, call_tool):
    files = (case / 'config.py', case / 'best.pth')
    given = ('--predictions', case / 'dump.json')

    def error(*arguments) -> str:
        (line,) = call_tool(SCRIPT, *arguments, rc=1).err.strip().splitlines()
        return line

    assert 'best.pth: not calibrated; --out calibrates it' in error(*files, *given, '--check')
    out = ('--out', case / 'out.pth')
    assert 'none.json: no such file' in error(*files, '--predictions', 'none.json', *out)
    assert 'none.pth: no such file' in error(files[0], 'none.pth', *out)
    torch.save(dict(w=torch.ones(2)), case / 'bare.pth')
    assert 'bare.pth: no entry state_dict' in error(files[0], case / 'bare.pth', *given, *out)
    dump = json.loads(given[1].read_text())
    for entry in dump:
        entry['pred_instances']['bboxes'] = [BOX]
    given[1].write_text(json.dumps(dump))
    assert '200 of 200 predictions are correct' in error(*files, *given, *out)
    assert not out[1].exists()


def test_similarities(call_tool, repo_root, tmp_path):
    """Pairs of a matching model; the published folder stays as it is besides."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), 5)
    matrix = 0.3 * (owner[None] == np.arange(30)[:, None]) + rng.normal(0.3, 0.15, (30, 150))
    np.save(tmp_path / 'pairs.npy', matrix.astype(np.float32))
    truth = dict(source='x', image_of_caption=owner.tolist())
    (tmp_path / 'pairs.json').write_text(json.dumps(truth))
    config = repo_root / 'configs/rvse/rvse_tiny_1xb32-3e_scenes.py'
    source = repo_root / 'demo/models/rvse-scenes'
    out = tmp_path / 'calibrated'
    call_tool(SCRIPT, config, source, '--predictions', tmp_path / 'pairs.npy', '--out', out)
    weights, meta = read_published(out)
    calibration = Calibration.from_dict(meta['calibration'], 'x', 'matching')
    assert calibration.report['predictions'] == 4500 and calibration.report['correct'] == 150
    # Normal scores with equal spread: scale = 0.3 / 0.15^2, and log odds of 1 / 29 in the middle.
    assert calibration.scale == pytest.approx(0.3 / 0.15**2, rel=0.15)
    assert calibration.bias == pytest.approx(-np.log(29) - 0.45 * 0.3 / 0.15**2, rel=0.15)
    before, _ = read_published(source)
    assert all(torch.equal(weights[key], before[key]) for key in before)
    names = {path.name for path in out.iterdir()}
    assert names == {path.name for path in source.iterdir()} | {'calibration.json'}


# ------------------------------------------------------------------------- inferencers


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp('scenes')
    write_dataset(folder, 0, 0, 3, image_size=128, seed=77, progress=False)
    return sorted((folder / 'images').iterdir())


def calibrated(name: str, kind: str, folder: Path, repo_root: Path, **values) -> Path:
    """A copy of a published model with a calibration, or without one."""
    out = Path(shutil.copytree(repo_root / f'demo/models/{name}-scenes', folder / name))
    (out / 'calibration.json').unlink(missing_ok=True)
    if values:
        content = Calibration(kind, **values).to_dict()
        (out / 'calibration.json').write_text(json.dumps(content))
    return out


def test_grounding(scenes, repo_root, tmp_path):
    common = dict(device='cpu', show_progress=False)
    values = dict(scale=2.0, bias=-1.0, threshold=0.6)
    plain, other = (
        GroundingInferencer(weights=calibrated('plvl', 'grounding', tmp_path / sub, repo_root, **v),
                            **common)
        for sub, v in (('a', {}), ('b', values))
    )  # fmt: skip
    sentences = ['the red circle', 'the largest star', 'the heart']
    first = plain(scenes[0], sentences)['predictions']
    second = other(scenes[0], sentences)['predictions']
    calibration = Calibration('grounding', **values)
    assert plain.calibration is None and other.calibration == calibration
    for a, b in zip(first, second, strict=True):
        assert set(b) - set(a) == {'raw_score', 'accepted'}
        assert b['raw_score'] == a['score'] and a['bbox'] == b['bbox']
        assert b['score'] == pytest.approx(float(calibration(np.array(a['score']))), abs=1e-6)
        assert b['accepted'] == (b['score'] >= 0.6)
    (sample,) = other(scenes[0], 'the heart', return_datasamples=True)['predictions']
    assert float(sample.pred_instances.scores[0]) == pytest.approx(second[2]['score'])


def test_instances(scenes, repo_root, tmp_path):
    common = dict(device='cpu', show_progress=False, proposal_options=dict(min_side=8))
    values = dict(scale=3.0, bias=0.5, threshold=0.55)
    plain, other = (
        WeakInstanceInferencer(
            weights=calibrated('pdsl', 'instances', tmp_path / sub, repo_root, **v), **common
        )
        for sub, v in (('a', {}), ('b', values))
    )
    assert (plain.score_thr, other.score_thr) == (0.3, 0.55)
    proposals = np.array([[10, 10, 60, 60], [20, 30, 90, 100], [5, 60, 50, 120]], np.float32)
    (first,) = plain(scenes[0], proposals)['predictions']
    (second,) = other(scenes[0], proposals)['predictions']
    assert 'raw_scores' not in first and second['raw_scores'] == first['scores']
    expected = Calibration('instances', **values)(np.array(first['scores']))
    np.testing.assert_allclose(second['scores'], expected, atol=1e-6)
    assert second['bboxes'] == first['bboxes'] and len(first['bboxes']) > 0


def test_retrieval(scenes, repo_root, tmp_path):
    values = dict(scale=10.0, bias=-5.0, threshold=0.5)
    plain, other = (
        RetrievalInferencer(
            weights=calibrated('rvse', 'matching', tmp_path / sub, repo_root, **v),
            device='cpu', show_progress=False,
        )
        for sub, v in (('a', {}), ('b', values))
    )  # fmt: skip
    images = [str(path) for path in scenes]
    other.index(images, tmp_path / 'store')
    query = 'a red circle'
    (first,) = plain(query, tmp_path / 'store')  # the same space: the weights are the same
    (second,) = other(query, tmp_path / 'store')
    assert [hit.name for hit in first] == [hit.name for hit in second]
    for a, b in zip(first, second):
        assert a.probability is None and a.score == b.score
        assert b.probability == pytest.approx(1 / (1 + np.exp(5 - 10 * b.score)))
        assert 'probability' in b.as_dict() and 'probability' not in a.as_dict()
    middle = second[1].probability
    (few,) = other(query, tmp_path / 'store', min_probability=middle)
    assert [hit.name for hit in few] == [hit.name for hit in second[:2]]
    # No calibration of images with images, nor of several terms.
    for unlike in (images[0], 'a red circle + a star'):
        assert {hit.probability for hit in other(unlike, tmp_path / 'store')[0]} == {None}
        with pytest.raises(ValueError, match='several terms, or an image to find images with'):
            other(unlike, tmp_path / 'store', min_probability=0.5)
    with pytest.raises(ValueError, match='min_probability=0.5: the weights are not calibrated'):
        plain(query, tmp_path / 'store', min_probability=0.5)


def test_a_calibration_of_another_kind(repo_root, tmp_path):
    values = dict(scale=1.0, bias=0.0, threshold=0.5)
    folder = calibrated('plvl', 'matching', tmp_path, repo_root, **values)
    with pytest.raises(ValueError, match="calibration.kind: found 'matching', expected 'ground"):
        GroundingInferencer(weights=folder, device='cpu')
    (folder / 'calibration.json').write_text('{"kind": "grounding", "scale": -1}')
    with pytest.raises(ValueError, match='calibration.json: calibration.scale: found -1'):
        GroundingInferencer(weights=folder, device='cpu')


def test_publishing_keeps_the_calibration(call_tool, repo_root, tmp_path):
    """From a checkpoint; publishing other weights into the folder removes it again."""
    weights, meta = read_published(repo_root / 'demo/models/rvse-scenes')
    meta.pop('calibration', None)
    calibration = Calibration('matching', 9.0, -5.0, 0.25, dict(event='x')).to_dict()
    torch.save(dict(state_dict=weights, meta=meta), tmp_path / 'plain.pth')
    torch.save(
        dict(state_dict=weights, meta=dict(meta, calibration=calibration)), tmp_path / 'best.pth'
    )
    out = ('--out', tmp_path / 'mine')
    shown = call_tool('misc/publish_model.py', tmp_path / 'best.pth', *out).out
    assert 'calibration.json' in shown
    assert read_published(tmp_path / 'mine')[1]['calibration'] == calibration
    call_tool('misc/publish_model.py', tmp_path / 'plain.pth', *out)
    assert 'calibration' not in read_published(tmp_path / 'mine')[1]
