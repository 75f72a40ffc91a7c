"""RVSE through the tools, as a user runs them."""

import json

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import projects.rvse  # noqa: F401
from projects.rvse.datasets import write_regions
from projects.rvse.text import Vocabulary

CONFIG = """
_base_ = ['{base}']
custom_imports = dict(imports=['projects.rvse'], allow_failed_imports=False)
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
            *('--work-dir', tmp_path / f'work{processes}', '--cfg-options'),
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
