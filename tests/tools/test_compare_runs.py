"""The tools that read files of tools/test.py: intervals, comparisons, groups, ground truths."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from projects.rvse.datasets import COCOCaptionsMatchingDataset
from projects.rvse.evaluation import best_answers, coco_extended, matrix_scores, retrieval_ranks

COMPARE, ANALYZE = 'analysis_tools/compare_runs.py', 'analysis_tools/analyze_retrieval.py'
GROUNDING = """
custom_imports = dict(imports=['projects.plvl.register'], allow_failed_imports=False)
default_scope = 'mmdet'
model = dict(type='PLVL')
test_dataloader = dict(dataset=dict(
    type='JSONLinesGroundingDataset', data_root='{root}', ann_file='data.jsonl',
    data_prefix=dict(img=''), test_mode=True, pipeline=[]))
"""
MATCHING = """
custom_imports = dict(imports=['projects.rvse.register'], allow_failed_imports=False)
default_scope = 'mmpretrain'
model = dict(type='ImageTextMatcher')
test_dataloader = dict(dataset=dict(
    type='COCOCaptionsMatchingDataset', data_root='{root}', ann_file='caps.json',
    check_images=False, test_mode=True, pipeline=[]))
"""
BOX = [10, 10, 50, 50]
IMAGES, EACH = 20, 3


@pytest.fixture
def grounding(tmp_path: Path) -> Path:
    """Sixty sentences; run 'a' is right in half of the images, run 'b' in one more of four."""
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / 'one.png')
    lines, runs = [], {'a': [], 'b': []}
    for i in range(IMAGES):
        shutil.copy(tmp_path / 'one.png', tmp_path / f'{i}.png')
        for j in range(EACH):
            lines.append(dict(image=f'{i}.png', sentence=f'thing {j}', bbox=BOX))
            for name, right in (('a', i % 2 == 0), ('b', i % 2 == 0 or i % 4 == 1)):
                box = BOX if right else [0, 50, 9, 60]
                runs[name].append(dict(bboxes=[box], scores=[0.5], labels=[0]))
    (tmp_path / 'data.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    (tmp_path / 'config.py').write_text(GROUNDING.format(root=tmp_path))
    from projects.plvl.datasets import JSONLinesGroundingDataset

    data = JSONLinesGroundingDataset(
        ann_file='data.jsonl', data_root=str(tmp_path), test_mode=True, pipeline=[]
    )
    for name, found in runs.items():
        dump = []
        for i, instances in enumerate(found):
            sample = data.get_data_info(i)
            keys = ('img_path', 'img_id', 'ref_id', 'sent_id', 'ann_id', 'text')
            dump.append(dict({k: sample[k] for k in keys}, pred_instances=instances))
        (tmp_path / f'{name}.json').write_text(json.dumps(dump))
    return tmp_path


def test_intervals_and_comparison_of_grounding(grounding, call_tool):
    files, out = [grounding / f'{name}.json' for name in 'ab'], grounding / 'out.json'
    shown = call_tool(COMPARE, grounding / 'config.py', files[0], '--out', out).out
    assert '20 images, 2,000 samples of them, seed 0' in shown
    found = json.loads(out.read_text())['metrics']['rec_acc50']
    assert found['value'] == 50
    # The share of 20 images, of which half are right: mean 0.5, deviation sqrt(0.25 / 20).
    reach = 196 * np.sqrt(0.25 / IMAGES)
    assert (found['low'], found['high']) == pytest.approx((50 - reach, 50 + reach), abs=3)
    shown = call_tool(COMPARE, grounding / 'config.py', *files, '--out', out).out
    assert 'rec_acc50' in shown and '+25.00' in shown
    both = json.loads(out.read_text())['metrics']['rec_acc50']
    assert (both['first'], both['second'], both['difference']) == (50, 75, 25)
    assert 0 < both['low'] < 25 < both['high'] and both['p_value'] < 0.05
    call_tool(COMPARE, grounding / 'config.py', files[0], files[0], '--out', out)
    same = json.loads(out.read_text())['metrics']['rec_acc50']
    assert (same['difference'], same['p_value']) == (0, 1)


def test_errors_are_one_line(grounding, call_tool):
    def error(*arguments) -> str:
        (line,) = call_tool(COMPARE, *arguments, rc=1).err.strip().splitlines()
        return line

    config, file = grounding / 'config.py', grounding / 'a.json'
    assert 'none.json: no such file' in error(config, 'none.json')
    dump = json.loads(file.read_text())
    (grounding / 'short.json').write_text(json.dumps(dump[:-1]))
    assert "short.json: no prediction for 'thing 2'" in error(config, grounding / 'short.json')
    assert '10 bootstrap samples: expected at least 100' in error(config, file, '--resamples', 10)
    (grounding / 'toy.py').write_text(
        config.read_text().replace("type='PLVL'", "type='mmdet.RetinaNet'")
    )
    assert "model.type: found 'mmdet.RetinaNet', expected a model of projects/" in error(
        grounding / 'toy.py', file
    )


# ---------------------------------------------------------------------------- matching


@pytest.fixture
def matching(tmp_path: Path) -> Path:
    """Captions of twelve images, with COCO's ids, and the answers and similarities of a test."""
    images = [dict(id=100 + i, file_name=f'{i}.jpg') for i in range(12)]
    annotations = [
        dict(id=1000 + 10 * i + j, image_id=100 + i,
             caption=f'a red dog number {i} {j}' + ' in the long grass of a park' * (j % 2))
        for i in range(12) for j in range(2)
    ]  # fmt: skip
    (tmp_path / 'caps.json').write_text(json.dumps(dict(images=images, annotations=annotations)))
    (tmp_path / 'config.py').write_text(MATCHING.format(root=tmp_path))
    data = COCOCaptionsMatchingDataset(
        ann_file='caps.json', data_root=str(tmp_path), check_images=False, test_mode=True,
        pipeline=[],
    )  # fmt: skip
    owner = data.image_of_caption
    noise = np.random.default_rng(0).normal(0, 0.6, (12, 24))
    matrix = ((owner[None] == np.arange(12)[:, None]) + noise).astype(np.float32)
    np.save(tmp_path / 'sims.npy', matrix)
    truth = dict(source='caps.json', image_of_caption=owner.tolist())
    (tmp_path / 'sims.json').write_text(json.dumps(truth))
    ranks = retrieval_ranks(matrix_scores(matrix), owner, 12, top_k=3)
    (tmp_path / 'answers.json').write_text(json.dumps(best_answers(data, ranks)))
    return tmp_path


def test_recalls_and_groups(matching, call_tool):
    config, answers, out = (matching / n for n in ('config.py', 'answers.json', 'out.json'))
    matrix = np.load(matching / 'sims.npy')
    first = matrix.argmax(0) == np.arange(24) // 2
    call_tool(COMPARE, config, answers, '--out', out)
    found = json.loads(out.read_text())['metrics']
    assert found['t2i/r1']['value'] == pytest.approx(100 * first.mean())
    assert 0 < found['t2i/r1']['low'] < found['t2i/r1']['value'] < found['t2i/r1']['high']
    shown = call_tool(ANALYZE, config, answers, '--out', out, '--resamples', 200).out
    groups = json.loads(out.read_text())
    assert groups['All']['all captions']['t2i/r1']['value'] == pytest.approx(100 * first.mean())
    length = groups['Caption length (words)']
    assert {name: each['captions'] for name, each in length.items()} == {
        '6 to 8': 12, '13 to 15': 12
    }  # fmt: skip
    assert length['6 to 8']['t2i/r1']['value'] == pytest.approx(100 * first[::2].mean())
    assert length['13 to 15']['t2i/r1']['value'] == pytest.approx(100 * first[1::2].mean())
    assert groups['Kinds of words'].keys() == {'colors', 'sizes'}
    assert 'Frequent words' in shown and 'dog' in groups['Frequent words']


def test_other_ground_truths(matching, call_tool, monkeypatch):
    """With a small package in place of the real one: every caption is true of two images."""
    i2t = {100 + i: [1000 + 10 * i + j for j in range(2)] for i in range(12)}
    t2i = {c: [i] for i, captions in i2t.items() for c in captions}
    more = {c: [i, 100 + (i - 99) % 12] for c, (i,) in t2i.items()}
    truths = dict(coco_gts=dict(i2t=i2t, t2i=t2i), eccv_gts=dict(i2t=i2t, t2i=more))
    made = SimpleNamespace(**truths, coco_ids=np.array(list(t2i)))
    monkeypatch.setitem(sys.modules, 'eccv_caption', SimpleNamespace(Metrics=lambda: made))
    monkeypatch.setattr(coco_extended, 'IMAGES', 12)
    monkeypatch.setattr(coco_extended, 'CAPTIONS', 24)
    files = (matching / 'config.py', matching / 'sims.npy')
    out = matching / 'out.json'
    shown = call_tool(ANALYZE, *files, '--truth', 'coco', 'eccv', '--out', out).out
    found = {name: each['value'] for name, each in json.loads(out.read_text()).items()}
    best, owner = np.load(files[1]).argmax(0), np.arange(24) // 2
    assert found['coco/t2i/r1'] == pytest.approx(100 * np.mean(best == owner))
    either = (best == owner) | (best == (owner + 1) % 12)
    assert found['eccv/t2i/r1'] == pytest.approx(100 * np.mean(either))
    assert found['eccv/t2i/r1'] > found['coco/t2i/r1'] and 'eccv/i2t/map_at_r' in shown


def test_data_that_is_not_coco(matching, call_tool):
    pytest.importorskip('eccv_caption', reason='eccv-caption is not installed')
    files = (matching / 'config.py', matching / 'sims.npy')
    (line,) = call_tool(ANALYZE, *files, '--truth', 'cxc', rc=1).err.strip().splitlines()
    assert "of 24 captions are not of COCO's test split" in line


def test_without_the_package(matching, call_tool, monkeypatch):
    monkeypatch.setitem(sys.modules, 'eccv_caption', None)
    files = (matching / 'config.py', matching / 'sims.npy')
    (line,) = call_tool(ANALYZE, *files, '--truth', 'cxc', rc=1).err.strip().splitlines()
    assert line == (
        "error: ECCV Caption and CxC: no module 'eccv_caption'; pip install eccv-caption==0.1.0"
    )
    assert '--truth takes similarities' in call_tool(ANALYZE, files[0], 'a.json', '--truth', 'cxc',
                                                     rc=2).err  # fmt: skip


def test_ids_of_captions(tmp_path):
    """Karpathy's file names them, too; a caption that is left out takes its id along."""
    from projects.rvse.datasets import KarpathyMatchingDataset

    sentences = [dict(raw=' ', sentid=5), dict(raw='a dog', sentid=6), dict(raw='it', sentid=7)]
    entry = dict(filename='a.jpg', split='test', cocoid=3, sentences=sentences)
    path = tmp_path / 'dataset_coco.json'
    path.write_text(json.dumps(dict(images=[entry])))
    options = dict(check_images=False, test_mode=True, skip_invalid_captions=True)
    made = KarpathyMatchingDataset(str(path), 'test', **options)
    assert (made.caption_ids, made.captions()) == (['6', '7'], ['a dog', 'it'])
    assert 'caption_ids' not in made.get_data_info(0)
    del sentences[1]['sentid']
    path.write_text(json.dumps(dict(images=[entry])))
    assert KarpathyMatchingDataset(str(path), 'test', **options).caption_ids is None
