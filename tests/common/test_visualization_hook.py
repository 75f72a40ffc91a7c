"""Which samples are drawn, and where the drawings go: files and visualization backends."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import projects.common.hooks.visualization_hook as module
from projects.common.visualization import ArrayVisualizer


class Plain(ArrayVisualizer):
    """Draw the image alone."""

    def draw(self, image, data_sample, draw_gt=True, draw_pred=True, **kwargs):
        return image


def dataset_of(paths: list[str]) -> BaseDataset:
    dataset = BaseDataset(lazy_init=True, serialize_data=False)
    dataset.data_list, dataset._fully_initialized = [dict(img_path=p) for p in paths], True
    return dataset


@pytest.fixture
def paths(tmp_path) -> list[str]:
    """Ten samples: two sentences each of five images, of which two have the same name."""
    names = ('train/01.png', 'val/01.png', 'val/02.png', 'val/03.png', 'val/04.png')
    for i, name in enumerate(names):
        path = tmp_path / 'data' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 8, 3), (10 * i, 0, 100), np.uint8))  # BGR
    return [str(tmp_path / 'data' / name) for name in names for _ in range(2)]


def run(hook, stage: str, paths: list[str], visualizer=None, step: int = 0, indices=None) -> None:
    loader = SimpleNamespace(dataset=dataset_of(paths))
    runner = SimpleNamespace(
        val_dataloader=loader, test_dataloader=loader, iter=step, visualizer=visualizer or Plain()
    )
    getattr(hook, f'before_{stage}_epoch')(runner)
    indices = list(range(len(paths)) if indices is None else indices)
    for start in range(0, len(indices), 3):
        batch = indices[start : start + 3]
        samples = [BaseDataElement(metainfo=dict(img_path=paths[i])) for i in batch]
        getattr(hook, f'after_{stage}_iter')(runner, start, None, samples)


def test_every_sample_of_a_test_has_its_file(tmp_path, paths, monkeypatch):
    expected = {
        f'{name}_{i}.jpg': 10 * number
        for number, name in enumerate(('train_01', 'val_01', 'val_02', 'val_03', 'val_04'))
        for i in range(2)
    }
    for world in (1, 2, 3):
        out = tmp_path / f'out{world}'
        monkeypatch.setattr(module, 'get_world_size', lambda world=world: world)
        for rank in range(world):
            monkeypatch.setattr(module, 'get_rank', lambda rank=rank: rank)
            padded = [*range(10), *range(-10 % world)]  # as the default sampler fills up
            hook = HOOKS.build(dict(type='PredictionVisualizationHook', test_out_dir=str(out)))
            run(hook, 'test', paths, indices=padded[rank::world])
        assert {p.name for p in out.iterdir()} == set(expected)
        for name, blue in expected.items():
            pixels = cv2.imread(str(out / name)).astype(int)
            assert np.abs(pixels - (blue, 0, 100)).max() < 9  # JPEG, in the right channel order


def test_validations_draw_the_same_samples_at_an_interval(paths):
    seen = []

    class Recorder(Plain):
        def add_image(self, name, image, step=0):
            seen.append((name, step))

    hook = HOOKS.build(dict(type='PredictionVisualizationHook', num_samples=4, interval=2))
    for step in (100, 200, 300):
        run(hook, 'val', paths, Recorder(), step)
    names = ['val_train_01', 'val_val_01', 'val_val_03', 'val_val_04']  # samples 0, 3, 6 and 9
    assert seen == [(name, step) for step in (100, 300) for name in names]
    seen.clear()
    run(hook, 'test', paths, Recorder())  # there is no folder
    run(HOOKS.build(dict(type='PredictionVisualizationHook', num_samples=0)), 'val', paths)
    assert seen == []
    run(HOOKS.build(dict(type='PredictionVisualizationHook', num_samples=99)), 'val', paths,
        Recorder())  # fmt: skip
    assert len({name for name, _ in seen}) == 10


def fake_wandb(folder: Path) -> ModuleType:
    wandb = ModuleType('wandb')
    wandb.logged = []
    wandb.Image = np.array
    wandb.init = lambda **kwargs: SimpleNamespace(config={})
    wandb.log = lambda values, commit: wandb.logged.extend(values)
    return wandb


def fake_mlflow(folder: Path) -> ModuleType:
    """Like MLflow's, `log_image` derives the format from the suffix and replaces equal names."""
    mlflow = ModuleType('mlflow')
    mlflow.MlflowException = RuntimeError
    mlflow.set_tracking_uri = mlflow.set_experiment = lambda name: None
    mlflow.get_experiment_by_name = lambda name: name
    mlflow.log_image = lambda image, file: Image.fromarray(image).save(folder / file)
    return mlflow


def test_every_backend_receives_the_images(tmp_path, paths, monkeypatch):
    (tmp_path / 'mlflow').mkdir()
    monkeypatch.setitem(sys.modules, 'wandb', fake_wandb(tmp_path))
    monkeypatch.setitem(sys.modules, 'mlflow', fake_mlflow(tmp_path / 'mlflow'))
    kinds = ('LocalVisBackend', 'TensorboardVisBackend', 'WandbVisBackend', 'MLflowVisBackend')
    visualizer = Plain(vis_backends=[dict(type=kind) for kind in kinds], save_dir=str(tmp_path))
    hook = HOOKS.build(dict(type='PredictionVisualizationHook', num_samples=2))
    for step in (5, 6):
        run(hook, 'val', paths, visualizer, step)
    visualizer.get_backend('TensorboardVisBackend').close()
    names = ('val_train_01', 'val_val_04')
    files = {f'{name}_{step}.png' for name in names for step in (5, 6)}
    folder = tmp_path / 'vis_data'
    for written in (folder / 'vis_image', tmp_path / 'mlflow'):
        assert {p.name for p in written.iterdir()} == files
    assert sys.modules['wandb'].logged == [*names, *names]
    events = EventAccumulator(str(folder))
    events.Reload()
    assert set(events.Tags()['images']) == set(names)
    assert [event.step for event in events.Images(names[0])] == [5, 6]


def test_a_visualizer_that_draws_nothing(paths):
    hook = HOOKS.build(dict(type='PredictionVisualizationHook', num_samples=1))
    with pytest.raises(ValueError, match='type=Visualizer: draws no samples'):
        run(hook, 'val', paths, Visualizer())


@pytest.mark.parametrize('wrong', [dict(interval=0), dict(num_samples=-1)])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match='expected >= '):
        HOOKS.build(dict(type='PredictionVisualizationHook', **wrong))
