"""Images that are not what they seem, names that lead elsewhere, and data of another data set."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, VISUALIZERS
from mmengine.structures import InstanceData

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.cli.report import user_message
from projects.common.hooks.visualization_hook import PredictionVisualizationHook
from projects.pdsl.proposals import write_store

LOAD = [dict(type='LoadImageFromFile')]
KINDS = {
    'grounding': (
        'a.jsonl',
        '{"image": "a.jpg", "sentence": "x", "bbox": [1, 1, 9, 9], "width": 60, "height": 40}',
        dict(type='JSONLinesGroundingDataset'),
    ),
    'tags': ('a.txt', 'a.jpg cat', dict(type='TagFileDataset')),
    'captions': ('a.txt', 'a.jpg\ta cat', dict(type='CaptionFileMatchingDataset')),
}


@pytest.fixture
def image() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def dataset_of(kind: str, folder: Path, pipeline: list = LOAD):
    name, text, cfg = KINDS[kind]
    (folder / name).write_text(text)
    (folder / 'a.jpg').touch()
    return DATASETS.build(
        dict(
            cfg,
            ann_file=name,
            data_root=str(folder),
            pipeline=pipeline,
            test_mode=True,
            serialize_data=False,
        )
    )


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('damage', ['cut.jpg', 'cut.png', 'html', 'empty'])
def test_broken_pictures_are_named(kind: str, damage: str, image, tmp_path) -> None:
    """In one line, whatever the decoder says."""
    dataset = dataset_of(kind, tmp_path)
    content = {'html': b'<!DOCTYPE html><html></html>', 'empty': b''}.get(damage)
    if content is None:
        content = cv2.imencode(damage[-4:], image)[1].tobytes()
        content = content[: len(content) * 6 // 10]
    (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.jpg.*: broken image: ') as error:
        dataset[0]
    line = user_message(error.value)
    assert line is not None and '\n' not in line


@pytest.mark.parametrize('kind', KINDS)
def test_the_content_of_a_picture_counts_not_its_name(kind: str, image, tmp_path) -> None:
    dataset = dataset_of(kind, tmp_path)
    (tmp_path / 'a.jpg').write_bytes(cv2.imencode('.png', image)[1].tobytes())
    assert np.array_equal(dataset[0]['img'], image)


# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize('split', ['../../evil', '/tmp/evil', 'a/b', '..', ''])
def test_splits_of_a_file_name_no_file_elsewhere(split: str, call_tool, tmp_path) -> None:
    record = dict(bbox=[1, 1, 9, 9], expressions=['x'], image_id=1, width=60, height=40)
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/instances.json').write_text(json.dumps({split: [record]}))
    before = set(tmp_path.rglob('*'))
    out = tmp_path / 'x/y/out'
    arguments = ('--from', 'seqtr', '--to', 'jsonl', '--out', out)
    done = call_tool(
        'dataset_converters/grounding.py', tmp_path / 'in/instances.json', *arguments, rc=1
    )
    assert 'cannot name a file' in done.err and 'Traceback' not in done.err
    assert {path for path in set(tmp_path.rglob('*')) - before if path.is_file()} == set()


def test_pictures_drawn_while_testing_stay_in_their_folder(image, tmp_path) -> None:
    path = tmp_path / 'data/..%2f..\\evil .jpg'
    path.parent.mkdir()
    path.write_bytes(cv2.imencode('.jpg', image)[1].tobytes())
    sample = DetDataSample(metainfo=dict(img_path=str(path), text='../../x', ori_shape=(40, 60)))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[1.0, 1, 9, 9]]), scores=torch.ones(1), labels=torch.zeros(1).long()
    )
    dataset = BaseDataset(lazy_init=True, serialize_data=False)
    dataset.data_list, dataset._fully_initialized = [dict(img_path=str(path))], True
    hook = PredictionVisualizationHook(test_out_dir=str(tmp_path / 'out'))
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=dataset),
        visualizer=VISUALIZERS.get('GroundingVisualizer')(),
        iter=0,
    )
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, outputs=[sample])
    (drawn,) = (path for path in tmp_path.rglob('*.jpg') if path.parent.name != 'data')
    assert drawn.parent == tmp_path / 'out' and drawn.stat().st_size > 0


# ------------------------------------------------------------------------------- other data sets


def test_proposals_of_another_data_set(image, tmp_path) -> None:
    """The first image that they lack is named, with the command that makes them."""
    write_store(tmp_path / 'voc', [('2007_000033', np.array([[1, 1, 9, 9]]), None)])
    step = dict(type='LoadStoredProposals', folder=str(tmp_path / 'voc'))
    dataset = dataset_of('tags', tmp_path, [*LOAD, step])
    (tmp_path / 'a.jpg').write_bytes(cv2.imencode('.jpg', image)[1].tobytes())
    with pytest.raises(ValueError, match=r'voc: no proposals of .*a\.jpg.*generate_proposals') as e:
        dataset[0]
    assert user_message(e.value)


COCO = {
    'images': [{'id': 1, 'file_name': 'a.jpg', 'height': 40, 'width': 60}],
    'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1, 'caption': 'x'}],
    'categories': [{'id': 1, 'name': 'cat'}],
}


@pytest.mark.parametrize('kind', ['COCOTagDataset', 'COCOCaptionsMatchingDataset'])
@pytest.mark.parametrize(
    ('field', 'change', 'words'),
    [
        ('images', {'file_name': 'b.jpg'}, r'images\[1\]: the id 1 is an earlier entry'),
        ('images', {'id': None}, r'images\[1\]: id: expected an integer or a text, found None'),
        ('annotations', {'image_id': 7}, 'image 7|image_id 7'),
    ],
)
def test_ids_that_do_not_fit(kind: str, field: str, change: dict, words: str, tmp_path) -> None:
    content = json.loads(json.dumps(COCO))
    content[field].append({**content[field][0], **change})
    (tmp_path / 'c.json').write_text(json.dumps(content))
    (tmp_path / 'a.jpg').touch()
    (tmp_path / 'b.jpg').touch()
    cfg = dict(type=kind, ann_file='c.json', data_root=str(tmp_path), serialize_data=False)
    with pytest.raises(ValueError, match=rf'c\.json: .*({words})'):
        DATASETS.build(cfg)
    content[field][1] = content[field][0]  # the same entry twice says nothing wrong
    if field != 'annotations':
        (tmp_path / 'c.json').write_text(json.dumps(content))
        assert len(DATASETS.build(cfg)) == 1


@pytest.mark.parametrize(
    ('field', 'key'),
    [('images', 'file_name'), ('images', 'id'), ('annotations', 'image_id'), ('categories', None)],
)
def test_missing_fields_are_named(field: str, key: str | None, tmp_path) -> None:
    content = json.loads(json.dumps(COCO))
    if key is None:
        del content[field]
    else:
        del content[field][0][key]
    (tmp_path / 'c.json').write_text(json.dumps(content))
    (tmp_path / 'a.jpg').touch()
    with pytest.raises(ValueError, match=rf"c\.json: .*no (field|list) '{key or field}'"):
        DATASETS.build(
            dict(type='COCOTagDataset', ann_file='c.json', data_root=str(tmp_path), pipeline=[])
        )
