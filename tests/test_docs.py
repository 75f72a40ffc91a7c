"""The documentation names what is there, and its code runs.

`make docs` builds the site and checks its links; these tests need no build.
"""

import importlib
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mmengine.registry
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import (
    DATASETS,
    FUNCTIONS,
    MODELS,
    TASK_UTILS,
    Registry,
    init_default_scope,
)

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.text import WordPieceTokenizer

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ('*.md', 'docs/**/*.md', 'projects/*/README.md', 'configs/*/README.md')
    for path in ROOT.glob(pattern)
)
EQUATIONS = {'plvl': 7, 'pdsl': 8, 'rvse': 16}


def hook(name: str):
    """A module of docs/hooks, which is no package."""
    spec = importlib.util.spec_from_file_location(f'hook_{name}', ROOT / f'docs/hooks/{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def classes():
    return hook('classes')


# ------------------------------------------------------------------------------------- links


def without_code(text: str) -> str:
    return re.sub(r'^ *(`{3,}).*?^ *\1', '', text, flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """Of a page's headings, as the repository's page makes them."""
    headings = re.findall(r'^#+ (.*)$', without_code(path.read_text()), re.M)
    text = [re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading).lower() for heading in headings]
    return {re.sub(r'[^\w\- ]', '', each).strip().replace(' ', '-') for each in text}


@pytest.mark.parametrize('page', PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', without_code(page.read_text())):
        if re.match(r'[a-z]+:', target):
            continue
        name, _, anchor = target.partition('#')
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f'{page}: {target}'
        assert file.is_relative_to(ROOT), f'{page}: {target}'
        if anchor and file.suffix == '.md':
            assert anchor in anchors(file), f'{page}: {target}'


def test_links_are_turned_to_the_site():
    turn = hook('repository')
    assert turn.site_path('docs/plvl.md') == 'plvl.md'
    assert turn.site_path('projects/plvl') == 'projects/plvl/README.md'
    assert turn.site_path('tools/train.py') == 'source/tools/train.py.md'
    assert turn.site_path('docs/images/scenes.jpg') == 'images/scenes.jpg'
    page = type('Page', (), {'file': type('File', (), {'src_uri': 'projects/plvl/README.md'})})
    text = (
        '[a](../../docs/faq.md#x) [b](../common/optim/muon.py)\n```\n[c](../../docs/faq.md)\n```\n'
    )
    assert turn.on_page_markdown(text, page, None, None) == (
        '[a](../../faq.md#x) [b](../../source/projects/common/optim/muon.py.md)\n'
        '```\n[c](../../docs/faq.md)\n```\n'
    )


@pytest.mark.slow
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    """With the command of `make docs`; a page that is in no menu fails it, too."""
    (command,) = re.findall(
        r'^\t@(PYTHON.*/mkdocs build.*)$', (ROOT / 'Makefile').read_text(), re.M
    )
    command = command.replace('$(VENV)/mkdocs', f'{sys.executable} -m mkdocs')
    for path in ROOT.iterdir():
        if path.name not in ('docs', 'mkdocs.yml', 'site'):
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(ROOT / 'docs', tmp_path / 'docs')
    shutil.copy(ROOT / 'mkdocs.yml', tmp_path)
    (tmp_path / 'docs/bad.md').write_text('[a](gone.md) [b](faq.md#gone) [c](../tools/gone.py)\n')
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    for found in ("'gone.md'", "'#gone'", "'../tools/gone.py'", '  - bad.md'):
        assert found in done.stderr
    assert 'Aborted with 4 warnings' in done.stdout + done.stderr, done.stderr


# -------------------------------------------------------------------------------- references


def registered() -> dict[str, str]:
    """Dotted names of all classes and functions of ours in MMEngine's root registries.

    Not those that take the place of one of MMEngine's in our tools, as 'Pretrained' does.
    """
    found = {}
    for registry in vars(mmengine.registry).values():
        if isinstance(registry, Registry):
            for name, entry in registry.module_dict.items():
                if entry.__module__.startswith('projects.') and name != 'Pretrained':
                    found[name] = f'{entry.__module__}.{entry.__qualname__}'
    return found


def test_every_registered_class_is_in_the_config_reference(classes):
    pages = {
        path.stem: re.findall(r'<!-- classes: (\w+) -->', path.read_text())
        for path in (ROOT / 'docs/reference').glob('*.md')
    }
    text = '\n'.join(classes.classes_of(project) for found in pages.values() for project in found)
    sections = set(re.findall(r'^::: (\S+)$', text, re.M))
    ours = registered()
    assert len(ours) > 80
    functions = {path for path in ours.values() if not path.rpartition('.')[2][0].isupper()}
    assert set(ours.values()) - functions <= sections


def test_documented_arguments_are_arguments(classes):
    compared = 0
    for each in classes.documented():
        cls = getattr(importlib.import_module(each.module), each.name)
        if '__init__' not in vars(cls):
            continue
        parameters = inspect.signature(cls.__init__).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue  # may document its bases' arguments
        block = re.search(r'^Args:\n((?:    .*\n?|\n)*)', inspect.getdoc(cls), re.M)
        names = re.findall(r'^    (\w+):', block[1], re.M) if block else []
        assert set(names) <= set(parameters), each.path
        compared += len(names)
    assert compared > 150


def test_every_tool_is_in_the_command_reference(call_tool):
    commands = hook('commands')
    text = commands.commands()
    sections = dict(re.findall(r'^### `tools/(\S+)`\n(.*?)(?=^##|\Z)', text, re.M | re.S))
    expected = {
        path.relative_to(ROOT / 'tools').as_posix()
        for path in (ROOT / 'tools').rglob('*')
        if path.suffix == '.sh' or (path.suffix == '.py' and '__name__ == ' in path.read_text())
    }
    assert set(sections) == expected
    for tool in ('train.py', 'misc/print_config.py', 'dataset_converters/grounding.py'):
        shown = call_tool(tool, '--help').out
        assert re.findall(r'--[a-z-]+', shown)
        for option in set(re.findall(r'--[a-z-]+', shown)) - {'--help'}:
            assert option in sections[tool], (tool, option)
    assert '#### `infer.py grounding`' in text
    assert '<' not in re.sub(r'`[^`]*`|```.*?```', '', text, flags=re.S)


# --------------------------------------------------------------------------------- equations


@pytest.mark.parametrize('name', EQUATIONS)
def test_equations_stand_beside_code_that_exists(name):
    text = (ROOT / f'docs/{name}.md').read_text()
    parts = re.split(r'\\tag\{(\d+)\}', text)
    assert [int(number) for number in parts[1::2]] == list(range(1, EQUATIONS[name] + 1))
    link = r'\[`([\w.]+)`\]\((\.\./projects/[\w/]+\.py)\)'
    for number, after in zip(parts[1::2], parts[2::2]):
        if (name, number) not in {('rvse', '5'), ('rvse', '6')}:  # autograd's, said after 7
            assert 'In code:' in after, f'{name}: Eq. {number}'
    found = re.findall(link, text)
    assert len(found) > EQUATIONS[name]
    for names, file in found:
        module = file.removeprefix('../').removesuffix('.py').replace('/', '.')
        entry = importlib.import_module(module)
        for part in names.split('.'):
            entry = getattr(entry, part)  # raises where it is gone


# ----------------------------------------------------------------------------------- recipes


@pytest.fixture(scope='module')
def recipes(tmp_path_factory):
    """The blocks of extending.md as files, and the package they make on the path."""
    folder = tmp_path_factory.mktemp('recipes')
    text = (ROOT / 'docs/extending.md').read_text()
    blocks = re.findall(r'^```python\n# (\S+\.py)\n(.*?)^```', text, re.M | re.S)
    assert len(blocks) == text.count('```python') == 8
    for name, code in blocks:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        base = (ROOT / name).parent.as_posix()
        path.write_text(code.replace("_base_ = './", f"_base_ = '{base}/"))
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for module in [each for each in sys.modules if each.partition('.')[0] == 'my_lab']:
        del sys.modules[module]
    names = ('AttentionBoxHead', 'SoftmaxMatchingLoss', 'MeanBoxMiner', 'read_csv')
    for registry in (MODELS, TASK_UTILS, FUNCTIONS):
        for name in names:
            registry._module_dict.pop(name, None)


def load(recipes, pattern: str) -> Config:
    (path,) = recipes.glob(f'configs/*/{pattern}.py')
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    return cfg


def test_recipes_register_all_that_they_name(recipes):
    """In a new process, because this one has registered the projects."""
    code = (
        'import sys\n'
        'from mmengine.config import Config\n'
        'from mmengine.registry import DATASETS, MODELS, init_default_scope\n'
        'for name in sys.argv[1:]:\n'
        '    cfg = Config.fromfile(name)\n'
        '    init_default_scope(cfg.default_scope)\n'
        '    print(MODELS.get(cfg.model.type), DATASETS.get(cfg.train_dataloader.dataset.type))\n'
    )
    configs = sorted(recipes.glob('configs/*/*.py'))  # one per recipe
    path = f'{recipes}{os.pathsep}{ROOT}'
    done = subprocess.run(
        [sys.executable, '-c', code, *configs],
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == len(configs) == 4
    assert 'None' not in done.stdout


def test_head_recipe(recipes):
    head_cfg = load(recipes, '*attention*').model.head
    cfg = Config.fromfile(ROOT / 'configs/plvl/_base_/plvl_tiny.py')
    head_cfg.in_channels = cfg.model.decoder.channels
    cfg.model.head = head_cfg
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(['the red circle'], 100))
    features = torch.randn(3, head_cfg.in_channels, 5, 7)
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0, 0, 1, 1], [0.4, 0.4, 0.6, 0.5]])
    losses = model.head.loss(features, boxes)
    predicted = model.head(features)['boxes']
    assert losses['loss_bbox'].item() == pytest.approx((predicted - boxes).abs().mean().item())
    sum(losses.values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.head.parameters())

    from mmdet.structures import DetDataSample

    samples = [DetDataSample(metainfo=dict(text='the red circle', ori_shape=(60, 80)))]
    (found,) = model.eval().predict(torch.randn(1, 3, 128, 128), samples)
    box = found.pred_instances.bboxes[0]
    assert (box >= 0).all()
    assert (box <= torch.tensor([80.0, 60, 80, 60])).all()
    assert found.pred_score_map.sum().item() == pytest.approx(1, abs=1e-4)


def test_loss_recipe(recipes):
    loss = MODELS.build(load(recipes, '*softmax*').model.loss)
    S = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    value = loss(S)
    target = torch.arange(6)
    expected = (F.cross_entropy(S / 0.07, target) + F.cross_entropy(S.T / 0.07, target)) / 2
    torch.testing.assert_close(value, expected)
    assert torch.autograd.grad(value, S)[0].isfinite().all()


def test_miner_recipe(recipes):
    from projects.pdsl.models.pseudo_labels import ImagePredictions, mine_top_boxes

    cfg = load(recipes, '*mean-box*').model.roi_head
    cfg.bbox_head.fc_channels = (8, 8)
    head = MODELS.build(cfg)
    assert type(head.miner).__name__ == 'MeanBoxMiner' and head.miner.iou_thr == 0.7
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [30, 30, 40, 40], [0, 0, 10, 6]])
    scores = torch.tensor([[0.6, 0.1], [0.2, 0.0], [0.1, 0.9], [0.3, 0.2]])
    image = ImagePredictions(boxes, torch.tensor([0, 1]), torch.tensor([0.5, 0.7]), scores, boxes)
    truth = head.label(image).truth
    expected = torch.tensor([[0, 0, 10, (0.6 * 10 + 0.2 * 8) / 0.8], [30, 30, 40, 40]])
    torch.testing.assert_close(truth.boxes, expected)
    assert torch.equal(truth.scores, mine_top_boxes(image).scores)
    none = ImagePredictions(boxes[:0], image.tags, image.image_scores, scores[:0], boxes[:0])
    assert head.label(none).assignment.labels.shape == (0,)


def test_data_set_recipe(recipes, tmp_path):
    import cv2
    import numpy as np

    dataset = load(recipes, '*my-csv').train_dataloader.dataset
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.png'), np.zeros((40, 50, 3), np.uint8))
    table = 'image,x,y,width,height,sentence\na.png,5,6,10,20,"a mug, red"\n'
    (tmp_path / 'train.csv').write_text(table)
    dataset.data_root = str(tmp_path)
    built = DATASETS.build(dataset)
    assert len(built) == 1
    info = built.get_data_info(0)
    assert info['text'] == 'a mug, red'
    assert info['instances'][0]['bbox'] == [5, 6, 15, 26]
    assert built[0]['inputs'].shape == (3, 448, 448)

    (tmp_path / 'train.csv').write_text(table.replace('10,20', '0,20'))
    with pytest.raises(ValueError, match=r'train\.csv:2: degenerate box: bbox: expected'):
        DATASETS.build(dataset)
