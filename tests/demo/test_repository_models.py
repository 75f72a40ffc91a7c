"""The models in demo/models answer right after the environment is set up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from demo import web
from projects.common.scenes import SHAPES, generate_scene, write_dataset
from projects.pdsl import WeakInstanceInferencer
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer

IMAGES = 8
PROJECTS = ('plvl', 'pdsl', 'rvse')


@pytest.fixture(scope='module')
def unseen(tmp_path_factory) -> Path:
    """Scenes of a seed that no quick start trains on."""
    folder = tmp_path_factory.mktemp('scenes')
    write_dataset(folder, 0, 0, IMAGES, image_size=128, seed=77, progress=False)
    return folder


@pytest.mark.parametrize('project', PROJECTS)
def test_small_and_found_without_a_quick_start(project, monkeypatch, tmp_path):
    monkeypatch.setattr(web, 'QUICKSTARTS', tmp_path)
    folder = web.find_weights(project, None)
    assert folder is not None
    assert folder.name == f'{project}-scenes'
    assert (folder / 'model.safetensors').stat().st_size <= 5e6
    assert (folder / 'README.md').is_file()


def test_the_quick_starts_own_model_comes_first(monkeypatch, tmp_path):
    monkeypatch.setattr(web, 'QUICKSTARTS', tmp_path)
    (tmp_path / 'plvl').mkdir()
    (tmp_path / 'plvl/best_x.pth').touch()
    assert web.find_weights('plvl', None) == tmp_path / 'plvl/best_x.pth'


def test_plvl_finds_what_sentences_name(unseen):
    ground = GroundingInferencer(weights=web.MODELS / 'plvl-scenes', show_progress=False)
    hits = []
    for index, path in enumerate(sorted((unseen / 'images').iterdir())):
        scene = generate_scene(index, seed=77, split='test', image_size=128)
        predictions = ground(path, [each.text for each in scene.sentences])['predictions']
        for sentence, prediction in zip(scene.sentences, predictions, strict=True):
            truth = torch.tensor([scene.objects[sentence.target].box], dtype=torch.float)
            hits.append(box_iou(truth, torch.tensor([prediction['bbox']])).item() >= 0.5)
    assert np.mean(hits) > 0.8  # a model without weights is right in a few percent


def test_pdsl_finds_the_shapes(unseen):
    weak = WeakInstanceInferencer(
        weights=web.MODELS / 'pdsl-scenes', proposal_options=dict(min_side=8), show_progress=False
    )
    found = []
    for index, path in enumerate(sorted((unseen / 'images').iterdir())):
        scene = generate_scene(index, seed=77, split='test', image_size=128)
        prediction = weak(path)['predictions'][0]
        kept = [i for i, score in enumerate(prediction['scores']) if score >= 0.3]
        classes = {prediction['classes'][i] for i in kept}
        present = {each.shape for each in scene.objects}
        assert classes <= set(SHAPES)
        found.append(len(classes & present) / len(classes | present))
    assert np.mean(found) > 0.6


def test_rvse_finds_the_captions_of_an_image(unseen):
    search = RetrievalInferencer(weights=web.MODELS / 'rvse-scenes', show_progress=False)
    content = json.loads((unseen / 'annotations/captions_test.json').read_text())
    files = {each['id']: each['file_name'] for each in content['images']}
    names = sorted(files.values())
    images = search.encode_pictures([unseen / 'images' / Path(name).name for name in names])
    ranks = []
    for each in content['annotations']:
        scores = images @ search.encode_sentences([each['caption']])[0]
        order = np.argsort(-np.asarray(scores))
        ranks.append(order.tolist().index(names.index(files[each['image_id']])))
    assert np.mean(np.array(ranks) == 0) > 0.5  # chance: 1 / 8
