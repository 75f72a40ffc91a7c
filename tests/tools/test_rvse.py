"""RVSE through the tools, as a user runs them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import MODELS, VISUALIZERS, init_default_scope
from PIL import Image

import projects.rvse.register  # noqa: F401
from projects.common.hooks import visualization_hook
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


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, repo_root, tool, free_port):
    """27 images do not divide by two: the sampler fills up, and nothing counts twice."""
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


def test_drawings_of_retrievals(tmp_path, repo_root, tool, shared_data):
    """--show-dir writes a file for each image and each caption."""
    config = repo_root / 'configs/rvse/rvse_tiny_1xb40-60e_coco-sample.py'
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.text_encoder.set_vocabulary(Vocabulary.build(['a man on a bench'], min_count=1))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'w.pth')
    options = ('--work-dir', tmp_path / 'work', '--show-dir', tmp_path / 'drawn', '--cfg-options')
    done = tool(
        *('test.py', config, tmp_path / 'w.pth', *options, 'test_dataloader.dataset.max_images=3'),
        COCO_SAMPLE_ROOT=str(shared_data / 'coco_sample') + '/',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = [path.stem for path in (tmp_path / 'drawn').iterdir()]
    assert len(names) == 3 * (1 + 5)
    for image in {name.split('_')[0] for name in names}:
        kinds = ['image', *(f'caption_{i}' for i in range(5))]
        assert {f'{image}_{kind}' for kind in kinds} <= set(names)


def test_images_are_represented_by_their_ids(tmp_path):
    """A data set of features: the hook draws the ids, or images where it is told their names."""
    Image.new('RGB', (40, 30), 'red').save(tmp_path / 'a7.png')
    info = dict(image_id=0, ori_id='a7')
    answers = [
        dict(info, rank=1, pred_text=['x'], pred_score=[0.5], correct=[True]),
        dict(text_id=0, text='x', rank=1, pred_image_id=[0], pred_ori_id=['a7'], pred_score=[0.5],
             correct=[True]),
    ]  # fmt: skip
    dataset = BaseDataset(lazy_init=True, serialize_data=False)
    dataset.data_list, dataset._fully_initialized = [info], True
    dataset.image_of_caption = np.array([0])
    loop, loader = SimpleNamespace(answers=answers), SimpleNamespace(dataset=dataset)
    runner = SimpleNamespace(
        test_loop=loop,
        val_loop=loop,
        test_dataloader=loader,
        val_dataloader=loader,
        visualizer=VISUALIZERS.get('RetrievalVisualizer')(),
        logger=SimpleNamespace(info=lambda text: None),
        iter=0,
    )
    for pattern, expected in ((None, 0), (str(tmp_path / '{ori_id}.png'), 2)):
        hook = MatchingVisualizationHook(
            image_pattern=pattern, test_out_dir=str(tmp_path / 'drawn')
        )
        hook.before_test_epoch(runner)
        assert hook.draws_answers
        hook.after_test_epoch(runner)
        drawn = sorted((tmp_path / 'drawn').iterdir())
        assert [path.name for path in drawn] == ['a7_caption_0.jpg', 'a7_image.jpg']
        reds = 0
        for path in drawn:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert('RGB')).astype(int)
            reds += (np.abs(pixels - (255, 0, 0)).max(-1) < 20).sum() > 1000
        assert reds == expected
    assert not MatchingVisualizationHook().draws_answers
    with pytest.raises(ValueError, match='expected a path with {ori_id}'):
        MatchingVisualizationHook(image_pattern='x.jpg')
    with pytest.MonkeyPatch.context() as patch:  # another process keeps the answers, too
        patch.setattr(visualization_hook, 'get_rank', lambda: 1)
        hook = MatchingVisualizationHook()
        hook.before_val_epoch(runner)
        hook.after_val_epoch(runner)
        assert hook.draws_answers
    loop.answers = None
    hook = MatchingVisualizationHook()
    hook.before_val_epoch(runner)
    with pytest.raises(TypeError, match='keeps no answers, expected val_cfg.type MatchingValLoop'):
        hook.after_val_epoch(runner)
