import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import METRICS
from mmengine.structures import InstanceData
from torchvision.ops import box_iou as torchvision_box_iou

from projects.common.cli.run import leave_process_group
from projects.plvl.evaluation import GroundingMetric
from projects.plvl.evaluation.grounding_metric import box_iou, mask_areas

SHAPE = (40, 50)


def _box(rng, scale=1.0):
    x = np.sort(rng.uniform(0, SHAPE[1], 2))
    y = np.sort(rng.uniform(0, SHAPE[0], 2))
    return [x[0], y[0], x[1] + 1, y[1] + 1]


def _sample(index, gt_box, pred_box, gt_mask=None, pred_mask=None, **meta):
    """A data sample as the evaluator passes it to a metric."""
    sample = DetDataSample(
        metainfo=dict(
            img_path=f'{index % 3}.jpg', img_id=index % 3, ref_id=index, sent_id=index,
            ann_id=index, text=f'thing {index}', ori_shape=SHAPE,
            with_mask=gt_mask is not None, **meta,
        )
    )  # fmt: skip
    empty = np.zeros((1, *SHAPE), dtype=np.uint8)
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.tensor([gt_box], dtype=torch.float32)),
        masks=BitmapMasks(empty if gt_mask is None else gt_mask[None].astype(np.uint8), *SHAPE),
    )
    sample.pred_instances = InstanceData(scores=torch.ones(1))
    if pred_box is not None:
        sample.pred_instances.bboxes = torch.tensor([pred_box], dtype=torch.float32)
    if pred_mask is not None:
        sample.pred_instances.masks = torch.from_numpy(pred_mask[None].astype(bool))
    return sample.to_dict()


def _random_samples(count, seed=0, **meta):
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        gt_box = _box(rng)
        pred_box = [v + rng.normal(0, 4) for v in gt_box]
        centre, radius = rng.uniform(10, 30, 2), rng.uniform(4, 12)
        rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
        gt_mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        pred_mask = np.roll(gt_mask, rng.integers(-6, 7, 2), axis=(0, 1))
        samples.append(_sample(index, gt_box, pred_box, gt_mask, pred_mask, **meta))
    return samples


def _evaluate(samples, **kwargs):
    metric = GroundingMetric(**kwargs)
    for start in range(0, len(samples), 4):
        metric.process({}, samples[start : start + 4])
    return metric.evaluate(size=len(samples))


def _pixels(mask):
    return {(int(r), int(c)) for r, c in zip(*np.nonzero(mask))}


def _brute_force(samples):
    """The metrics written out with sets of pixels and torchvision's box IoU."""
    rec, res, inter_sum, union_sum = [], [], 0, 0
    for sample in samples:
        rec.append(
            float(
                torchvision_box_iou(
                    sample['pred_instances']['bboxes'].double(),
                    sample['gt_instances']['bboxes'].tensor.double(),
                )
            )
        )
        truth = _pixels(sample['gt_instances']['masks'].masks[0])
        pred = _pixels(sample['pred_instances']['masks'][0].numpy())
        inter_sum += len(truth & pred)
        union_sum += len(truth | pred)
        res.append(len(truth & pred) / len(truth | pred))
    expected = {
        'grounding/rec_miou': 100 * np.mean(rec),
        'grounding/res_miou': 100 * np.mean(res),
        'grounding/res_oiou': 100 * inter_sum / union_sum,
    }
    for threshold in (50, 60, 70, 80, 90):
        expected[f'grounding/rec_acc{threshold}'] = 100 * np.mean(np.array(rec) >= threshold / 100)
        expected[f'grounding/res_p{threshold}'] = 100 * np.mean(np.array(res) >= threshold / 100)
    return expected


def test_against_brute_force():
    samples = _random_samples(60)
    metrics = _evaluate(samples)
    expected = _brute_force(samples)
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        assert metrics[key] == pytest.approx(value, abs=1e-9), key
        assert type(metrics[key]) is float
    assert 5 < expected['grounding/rec_acc50'] < 95 and 5 < expected['grounding/res_p50'] < 95


def test_box_iou_against_torchvision():
    rng = np.random.default_rng(0)
    boxes = np.array([_box(rng) for _ in range(200)])
    expected = torchvision_box_iou(torch.tensor(boxes[:100]), torch.tensor(boxes[100:])).diagonal()
    found = [box_iou(a, b) for a, b in zip(boxes[:100], boxes[100:])]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


def test_boxes_without_area_are_no_nan():
    assert box_iou([5, 5, 5, 5], [5, 5, 5, 5]) == 0.0
    assert box_iou([8, 8, 2, 2], [1, 1, 9, 9]) == 0.0


def test_mask_areas():
    a, b = np.zeros((4, 5), np.uint8), np.zeros((4, 5), bool)
    a[:2], b[1:3] = 255, True
    assert mask_areas(a, b) == (5, 15)


def test_threshold_is_inclusive():
    gt = np.zeros(SHAPE, bool)
    gt[:10, :10] = True
    half = gt.copy()
    half[:10, 5:10] = False
    metrics = _evaluate([_sample(0, [0, 0, 10, 10], [0, 0, 5, 10], gt, half)])
    assert metrics['grounding/rec_acc50'] == metrics['grounding/res_p50'] == 100
    assert metrics['grounding/rec_acc60'] == metrics['grounding/res_p60'] == 0
    assert metrics['grounding/res_miou'] == metrics['grounding/res_oiou'] == 50


def test_empty_masks():
    full, none = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    box = [0, 0, 5, 5]
    both_empty = _evaluate([_sample(0, box, box, none, none)])
    assert both_empty['grounding/res_miou'] == both_empty['grounding/res_oiou'] == 100
    missed = _evaluate([_sample(0, box, box, full, none)])
    assert missed['grounding/res_miou'] == missed['grounding/res_oiou'] == 0
    mixed = _evaluate([_sample(0, box, box, none, none), _sample(1, box, box, full, full)])
    assert mixed['grounding/res_miou'] == mixed['grounding/res_oiou'] == 100
    assert not any(math.isnan(v) for m in (both_empty, missed, mixed) for v in m.values())


def test_samples_without_mask_count_for_boxes_only():
    samples = _random_samples(6)
    rng = np.random.default_rng(1)
    extra = [_sample(10 + i, _box(rng), [0, 0, 1, 1], None, np.ones(SHAPE, bool)) for i in range(3)]
    with_extra, without = _evaluate(samples + extra), _evaluate(samples)
    for key, value in without.items():
        if '/res_' in key:
            assert with_extra[key] == value
    ratio = with_extra['grounding/rec_acc50'] / without['grounding/rec_acc50']
    assert ratio == pytest.approx(6 / 9)
    only_boxes = _evaluate(extra)
    assert not any('/res_' in key for key in only_boxes)


def test_models_with_one_branch():
    samples = _random_samples(5)
    for sample in samples:
        del sample['pred_instances']['masks']
    assert {key.split('/')[1][:3] for key in _evaluate(samples)} == {'rec'}
    samples = _random_samples(5)
    for sample in samples:
        del sample['pred_instances']['bboxes']
    assert {key.split('/')[1][:3] for key in _evaluate(samples)} == {'res'}


def test_best_scored_prediction_counts():
    sample = _random_samples(1)[0]
    truth = sample['gt_instances']['bboxes'].tensor
    sample['pred_instances']['bboxes'] = torch.cat([truth + 20, truth, truth + 9])
    sample['pred_instances']['scores'] = torch.tensor([0.1, 0.9, 0.3])
    del sample['pred_instances']['masks']
    assert _evaluate([sample])['grounding/rec_miou'] == pytest.approx(100)
    sample['pred_instances']['bboxes'] = torch.zeros(0, 4)
    sample['pred_instances']['scores'] = torch.zeros(0)
    assert _evaluate([sample])['grounding/rec_miou'] == 0


def test_group_by():
    kinds = ['size', 'position', None]
    samples = [_random_samples(9, kind=kinds[i % 3])[i] for i in range(9)]
    metrics = _evaluate(samples, group_by='kind')
    for kind in kinds[:2]:
        part = _evaluate([s for s in samples if s['kind'] == kind])
        for key in ('rec_acc50', 'res_miou'):
            assert metrics[f'grounding/{key}/{kind}'] == part[f'grounding/{key}']
    assert sum(key.count('/') == 2 for key in metrics) == 4
    assert metrics['grounding/rec_miou'] == _evaluate(samples)['grounding/rec_miou']


def test_subsets():
    samples = _random_samples(12, kind='size')
    for i, sample in enumerate(samples):
        sample['subset'] = ('refcoco_val', 'refcoco_testA', None)[i % 3]
    metrics = _evaluate(samples, group_by='kind')
    for name in ('refcoco_val', 'refcoco_testA'):
        alone = [dict(s, subset=None) for s in samples if s['subset'] == name]
        expected = _evaluate(alone, group_by='kind')
        assert 'grounding/rec_acc50/size' in expected
        found = {k: v for k, v in metrics.items() if k.startswith(f'grounding/{name}/')}
        assert found == {k.replace('/', f'/{name}/', 1): v for k, v in expected.items()}
    # Over all sentences, whether they name a subset or not.
    for sample in samples:
        del sample['subset']
    overall = _evaluate(samples, group_by='kind')
    assert {key: metrics[key] for key in overall} == overall
    # A sentence of two subsets counts in each.
    twins = [samples[0], dict(samples[0])]
    for name, sample in zip(('a', 'b'), twins):
        sample['subset'] = name
    both = _evaluate([*twins, *twins])
    assert both['grounding/a/rec_miou'] == both['grounding/b/rec_miou'] > 0


def test_released_protocol():
    # Boxes are clamped to the image; masks are compared in the network's square frame.
    frame = (32, 32)
    samples, expected = _random_samples(8), []
    rng = np.random.default_rng(3)
    for sample in samples:
        probs = torch.from_numpy(rng.random(frame, dtype=np.float32))
        truth = sample['gt_instances']['masks'].masks[0]
        probs = 0.3 * probs + 0.5 * torch.from_numpy(
            cv2.resize(truth, frame[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)
        )
        sample['pred_mask_probs'] = probs
        # Nearest, written out: pixel i of the frame shows pixel floor(i * size / frame).
        rows = np.arange(frame[0]) * SHAPE[0] // frame[0]
        columns = np.arange(frame[1]) * SHAPE[1] // frame[1]
        squashed, cut = _pixels(truth[rows][:, columns]), _pixels(probs.numpy() >= 0.5)
        expected.append(len(squashed & cut) / len(squashed | cut))
        sample['gt_instances']['bboxes'] = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        sample['pred_instances']['bboxes'] = torch.tensor([[-10.0, 0.0, 10.0, 10.0]])
    metrics = _evaluate(samples, protocol='released')
    assert metrics['grounding/res_miou'] == pytest.approx(100 * np.mean(expected), abs=1e-9)
    assert metrics['grounding/rec_miou'] == 100
    assert _evaluate(samples)['grounding/rec_miou'] == 50


def test_wrong_input_is_one_line():
    def fails(message, change, **kwargs):
        sample = _random_samples(1)[0]
        change(sample)
        with pytest.raises(ValueError, match=message) as error:
            _evaluate([sample], **kwargs)
        assert '\n' not in str(error.value)

    fails('no pred_instances', lambda s: s.pop('pred_instances'))
    fails("0.jpg, 'thing 0'", lambda s: s.pop('pred_instances'))
    fails('no gt_instances', lambda s: s.pop('gt_instances'))
    fails(
        'neither bboxes nor masks',
        lambda s: [s['pred_instances'].pop(key) for key in ('bboxes', 'masks')],
    )
    fails('no metainfo key', lambda s: None, group_by='kind')
    fails('needs pred_mask_probs', lambda s: None, protocol='released')
    fails(
        r'shape \(4, 4\), ground truth \(40, 50\)',
        lambda s: s['pred_instances'].update(masks=torch.ones(1, 4, 4, dtype=torch.bool)),
    )
    fails('2 ground-truth boxes', lambda s: s['gt_instances'].update(bboxes=torch.zeros(2, 4)))
    with pytest.raises(ValueError, match="protocol='paper'"):
        METRICS.build(dict(type='GroundingMetric', protocol='paper'))


def test_repeated_samples_count_once():
    samples = _random_samples(7)
    metric = GroundingMetric()
    metric.process({}, samples + samples[:2])
    assert metric.evaluate(size=9) == _evaluate(samples)
    # Equal sentences about one object under different ids are different samples.
    twins = _random_samples(2)
    twins[1].update({key: twins[0][key] for key in ('img_path', 'img_id', 'ref_id', 'text')})
    metric.process({}, twins)
    assert len(metric.results) == 2
    assert metric.evaluate(size=2)['grounding/rec_miou'] == _evaluate(twins)['grounding/rec_miou']
    # Without ids nothing is dropped.
    anonymous = _random_samples(4)
    for sample in anonymous:
        for key in ('img_path', 'img_id', 'ref_id', 'sent_id', 'ann_id', 'text'):
            sample.pop(key)
    assert _evaluate(anonymous)['grounding/rec_miou'] == pytest.approx(
        _brute_force(anonymous)['grounding/rec_miou']
    )


def _evaluate_as_one_of_many(out_file):
    """What each process of the test below runs; its rank comes from the environment."""
    from mmengine.dataset import DefaultSampler

    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo')
    samples = _random_samples(7, kind='size')
    metric = GroundingMetric(group_by='kind')
    # 7 samples over 2 processes: the sampler repeats one of them.
    indices = list(DefaultSampler(samples, shuffle=False, round_up=True))
    results = []
    # The second size is what a loop passes that does not know of the repetition.
    for size in (7, 2 * len(indices)):
        for index in indices:
            metric.process({}, [samples[index]])
        results.append(metric.evaluate(size=size))
    with open(out_file, 'w') as file:
        json.dump(dict(indices=indices, results=results), file)
    leave_process_group()


def test_two_processes_equal_one(tmp_path):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    root = str(Path(__file__).parents[2])
    processes = []
    for rank in range(2):
        env = dict(
            os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2',
            MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), PYTHONPATH=root,
            OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
        )  # fmt: skip
        command = [sys.executable, __file__, str(tmp_path / f'{rank}.json')]
        processes.append(subprocess.Popen(command, env=env, cwd=tmp_path))
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    single = _evaluate(_random_samples(7, kind='size'), group_by='kind')
    outputs = [json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2)]
    assert sorted(outputs[0]['indices'] + outputs[1]['indices']) == [0, 0, 1, 2, 3, 4, 5, 6]
    for output in outputs:
        assert output['results'] == [single, single]  # exactly, not approximately


if __name__ == '__main__':
    _evaluate_as_one_of_many(sys.argv[1])
