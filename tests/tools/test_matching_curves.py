"""Curves of matching losses: data from captions, runs that are kept, the table and the plot."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from projects.rvse.datasets import PrecompMatchingDataset
from projects.rvse.datasets.regions import RegionStore

DATA = 'dataset_converters/itm_caption_sets.py'
CURVES = 'analysis_tools/matching_curves.py'
NOUNS = ['dog', 'cat', 'man', 'boat', 'tree', 'ball', 'hat', 'car', 'road', 'house']


@pytest.fixture
def captions(tmp_path):
    """Five captions for each of 12 images: image i is of nouns i, i + 1 and i + 2."""
    lines = []
    for i in range(12):
        first, second, third = (NOUNS[(i + k) % 10] for k in range(3))
        lines += [f'A {first} is near the {second} .', f'The {third} .', f"{first}'s {second}"]
        lines += [f'A {first} and a {third} on the {second} .', f'It is a {third} .']
    path = tmp_path / 'captions.txt'
    path.write_text('\n'.join(lines) + '\n')
    return path


def test_a_word_is_one_vector(call_tool, captions, tmp_path):
    sets = ('--train', 8, '--test', 4, '--channels', 16)
    call_tool(DATA, captions, '--out', tmp_path / 'a', '--noise', 0, '--region-captions', 1, *sets)
    train = RegionStore(str(tmp_path / 'a/train_ims.npy'))
    assert train[0].shape == (2, 16)  # 'dog' and 'cat', no function words
    np.testing.assert_array_equal(train[0][1], train[1][0])  # both are 'cat'
    assert not np.array_equal(train[0][0], train[0][1])
    test = RegionStore(str(tmp_path / 'a/test_ims.npy'))
    np.testing.assert_array_equal(test[2][0], train[0][0])  # image 10 begins with 'dog' again

    cut = ('--same-size', '--regions', 5, '--content-words', 2)
    call_tool(DATA, captions, '--out', tmp_path / 'b', '--noise', 0.5, *cut, *sets)
    rows = RegionStore(str(tmp_path / 'b/train_ims.npy'))
    assert rows.features.shape == (8, 5, 16)
    assert not np.array_equal(rows[0][0], rows[0][3])  # a word again, with other noise
    data = PrecompMatchingDataset('train', str(tmp_path / 'b'), captions_per_image=2)
    assert data.captions()[:4] == ['dog man', 'man', 'cat boat', 'boat']


def test_bad_captions_are_named(call_tool, captions, tmp_path):
    out = ('--out', tmp_path / 'a')
    done = call_tool(DATA, captions, *out, rc=1)
    assert 'captions.txt: 60 lines, expected 5,000 or more' in done.err
    done = call_tool(DATA, captions, *out, '--region-captions', 5, rc=1)
    assert '--region-captions: 5, expected 1 to 4' in done.err


@pytest.mark.slow
def test_runs_are_kept_and_drawn(call_tool, captions, tmp_path):
    call_tool(
        DATA, captions, '--out', tmp_path / 'sets', '--train', 8, '--test', 4, '--regions', 12,
        '--same-size',
    )  # fmt: skip
    runs = tmp_path / 'runs'
    train = (
        CURVES, 'train', tmp_path / 'sets', '--out', runs, '--iters', 10, '--val-interval', 5,
        '--mask-repeats', '--cfg-options', 'train_dataloader.batch_size=4',
    )  # fmt: skip
    call_tool(*train, '--models', 'vse-fc', '--losses', 'triplet', '--seeds', 0)
    kept = json.loads((runs / 'vse-fc_triplet_0/test.json').read_text())
    (runs / 'vse-fc_triplet_1').mkdir()  # one that was stopped
    (runs / 'vse-fc_triplet_1/last.pth').touch()
    done = call_tool(*train, '--models', 'vse-fc', '--losses', 'triplet', '--seeds', 0, 1)
    assert 'vse-fc, triplet, seed 0' not in done.out and 'vse-fc, triplet, seed 1' in done.out
    assert json.loads((runs / 'vse-fc_triplet_0/test.json').read_text()) == kept
    assert not (runs / 'vse-fc_triplet_1/last.pth').exists()
    call_tool(*train, '--models', 'sgr', '--losses', 'selhn', '--seeds', 1)

    cfg = Config.fromfile(next((runs / 'sgr_selhn_1').glob('*.py')))
    assert (
        cfg.model.mask_repeats and cfg.model.loss.type == 'SelHNLoss' and cfg.randomness.seed == 1
    )
    assert cfg.param_scheduler[0].milestones == [7]
    cfg = Config.fromfile(next((runs / 'vse-fc_triplet_1').glob('*.py')))
    assert cfg.model.loss == dict(type='ITMTripletLoss', reduction='mean', loss_weight=0.25)

    log = next((runs / 'sgr_selhn_1').glob('*/vis_data/scalars.json')).read_text().splitlines()
    records = [json.loads(line) for line in log]
    assert [r['step'] for r in records if 'matching/rsum' in r] == [5, 10]
    assert {5, 10} <= {r['step'] for r in records if 'delta_s' in r}

    done = call_tool(CURVES, 'plot', runs, '--out', tmp_path / 'curves.png')
    a, b, c = (
        json.loads((runs / f'{run}/test.json').read_text())['matching/rsum']
        for run in ('vse-fc_triplet_0', 'vse-fc_triplet_1', 'sgr_selhn_1')
    )
    mean, std = f'{(a + b) / 2:.1f}', f'{abs(a - b) / 2**0.5:.1f}'
    assert f'| VSE (FC) | Triplet | 0, 1 | {a:.1f}, {b:.1f} | {mean} | {std} |' in done.out
    assert f'| SGR | SelHN | 1 | {c:.1f} | {c:.1f} | - |' in done.out
    assert cv2.imread(str(tmp_path / 'curves.png')) is not None

    done = call_tool(*train[:5], '--iters', 20, '--models', 'vse-fc', rc=1)
    assert 'vse-fc_triplet_0: model of the run that is there' in done.err
    done = call_tool(*train, '--models', 'vse', rc=1)
    assert "--models: 'vse', expected one of vse-fc, vse-mlp" in done.err
