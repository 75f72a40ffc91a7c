"""RVSE through the tools, as a user runs them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

import projects.rvse.register  # noqa: F401
from projects.rvse.datasets import write_regions
from projects.rvse.engine import MatchingVisualizationHook
from projects.rvse.text import Vocabulary

CONFIG = """
_base_ = ['{base}']
custom_imports = dict(imports=['projects.rvse.register'], allow_failed_imports=False)
default_scope = 'mmpretrain'
model = dict(
    type='ImageTextMatcher',
    image_encoder=dict(type='RegionFC', in_channels=12, channels=16),
    text_encoder=dict(type='BiGRUTextEncoder', vocab_size=30, word_channels=8, channels=16),
    similarity=dict(type='SCANSimilarity'))
test_dataloader = dict(
    batch_size=4, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='PrecompMatchingDataset', split='testall', data_root='{data}', test_mode=True,
        pipeline=[
            dict(type='LoadRegions'),
            dict(type='PackInputs', input_key='regions',
                 algorithm_keys=['text', 'image_id', 'gt_text_id'])]))
test_evaluator = dict(type='MatchingMetric')
test_cfg = dict(type='MatchingTestLoop', num_folds=3, fold_size=9, block_size=4)
"""


def test_two_processes_equal_one(tmp_path, repo_root, tool, free_port):
    """27 pictures do not divide by two: the sampler fills up, and nothing counts twice."""
    rng = np.random.default_rng(0)
    words = [f'w{i}' for i in range(20)]
    texts = [' '.join(rng.choice(words, rng.integers(2, 8))) for _ in range(27 * 5)]
    regions = [rng.normal(size=(rng.integers(2, 6), 12)).astype('f4') for _ in range(27)]
    write_regions(str(tmp_path / 'testall_ims.npy'), regions)
    (tmp_path / 'testall_caps.txt').write_text('\n'.join(texts))
    path = tmp_path / 'config.py'
    base = repo_root / 'configs/_base_/default_runtime.py'
    path.write_text(CONFIG.format(base=base, data=tmp_path))
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(path).model)
    model.text_encoder.set_vocabulary(Vocabulary.build(texts, min_count=1))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'w.pth')
    found = {}
    for processes in (1, 2):
        options = (
            *('--work-dir', tmp_path / f'work{processes}', '--out', tmp_path / f'{processes}.json'),
            *('--cfg-options', 'test_cfg.top_k=4'),
            f'test_cfg.similarity_file={tmp_path}/{processes}/sims.npy',
        )
        script = ('test.py', path, tmp_path / 'w.pth')
        if processes == 2:
            script = ('dist_test.sh', path, tmp_path / 'w.pth', '2')
        done = tool(*script, *options, PORT=free_port())
        assert done.returncode == 0, done.stderr[-3000:]
        logs = list((tmp_path / f'work{processes}').rglob('2*/2*.json'))
        found[processes] = [json.loads(log.read_text().splitlines()[-1]) for log in logs][0]
        assert not list((tmp_path / f'work{processes}').rglob('features_*'))
    metrics = [
        {key: value for key, value in found[n].items() if key.startswith('matching/')}
        for n in (1, 2)
    ]
    assert len(metrics[0]) == 22 and metrics[0] == metrics[1]
    one, two = (np.load(tmp_path / f'{n}/sims.npy') for n in (1, 2))
    assert one.shape == (27, 135) and one.std() > 1e-3
    # sums depend on how blocks fall, and in MKL on how memory is aligned
    np.testing.assert_allclose(one, two, atol=1e-5)

    # --out: every query with its best answers, by sorting the whole matrix
    answers = [json.loads((tmp_path / f'{n}.json').read_text()) for n in (1, 2)]
    assert [len(each) for each in answers] == [27 + 135] * 2
    for queries, S in zip(answers, (one, two)):
        owner = np.arange(135) // 5
        for i, image in enumerate(queries[:27]):
            best = np.argsort(-S[i])[:4]
            assert image['image_id'] == i and image['pred_text_id'] == best.tolist()
            assert image['pred_text'] == [texts[j] for j in best]
            assert image['correct'] == (owner[best] == i).tolist()
            np.testing.assert_allclose(image['pred_score'], S[i, best], rtol=1e-6)
            assert image['rank'] == 1 + (S[i] > S[i, owner == i].max()).sum()
        for j, caption in enumerate(queries[27:]):
            best = np.argsort(-S[:, j])[:4]
            assert caption['text'] == texts[j] and caption['pred_image_id'] == best.tolist()
            assert caption['rank'] == 1 + (S[:, j] > S[owner[j], j]).sum()


def test_pages_of_retrievals(tmp_path, repo_root, tool, shared_data):
    """--show-dir with images, and with features alone."""
    config = repo_root / 'configs/rvse/rvse_tiny_1xb40-60e_coco-sample.py'
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.text_encoder.set_vocabulary(Vocabulary.build(['a man on a bench'], min_count=1))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'w.pth')
    options = ('--work-dir', tmp_path / 'work', '--show-dir', tmp_path / 'pages', '--cfg-options')
    done = tool(
        *('test.py', config, tmp_path / 'w.pth', *options, 'test_dataloader.dataset.max_images=3'),
        COCO_SAMPLE_ROOT=str(shared_data / 'coco_sample') + '/',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = sorted((tmp_path / 'pages').glob('*.png'))
    assert [page.name[:6] for page in pages] == ['00000_', '00001_', '00002_']
    with Image.open(pages[0]) as page:
        assert (
            min(page.size) > 400 and len(page.convert('RGB').resize((64, 64)).getcolors(4096)) > 50
        )


def test_cards_stand_for_images(tmp_path):
    """A data set of features: the hook draws the ids, or images where it is told their names."""
    Image.new('RGB', (40, 30), 'red').save(tmp_path / 'a7.png')
    answers = [
        dict(image_id=0, ori_id='a7', rank=1, pred_text=['x'], pred_score=[0.5], correct=[True]),
        dict(text_id=0, text='x', rank=1, pred_image_id=[0], pred_score=[0.5], correct=[True]),
    ]
    runner = SimpleNamespace(
        test_loop=SimpleNamespace(answers=answers),
        test_dataloader=SimpleNamespace(dataset=SimpleNamespace(image_of_caption=np.array([0]))),
        work_dir=str(tmp_path),
        logger=SimpleNamespace(info=lambda text: None),
    )
    reds = {}
    for pattern in (None, str(tmp_path / '{ori_id}.png')):
        hook = MatchingVisualizationHook(draw=True, image_pattern=pattern)
        hook.after_test_epoch(runner)
        with Image.open(tmp_path / 'retrievals/00000_a7.png') as page:
            pixels = np.asarray(page.convert('RGB')).astype(int)
        reds[pattern] = (pixels - (255, 0, 0) == 0).all(-1).sum()
    assert reds.pop(None) == 0 and all(reds.values())
    with pytest.raises(ValueError, match='expected a path with {ori_id}'):
        MatchingVisualizationHook(image_pattern='x.jpg')
    runner.test_loop.answers = None
    with pytest.raises(TypeError, match='keeps no answers, expected test_cfg.type MatchingTest'):
        MatchingVisualizationHook(draw=True).after_test_epoch(runner)
