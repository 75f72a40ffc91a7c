"""Metrics of weak supervision against brute force."""

import numpy as np
import pytest
import torch
from mmdet.evaluation import VOCMetric
from pycocotools import mask as coco_mask

from projects.pdsl.evaluation import CorLocMetric, InstanceCocoMetric, TagMetric

CLASSES = ('cat', 'dog', 'cow')
SIZE = 40


def random_box(rng):
    x, y = rng.integers(0, 26, 2)
    return [int(x), int(y), int(x + rng.integers(6, 15)), int(y + rng.integers(6, 15))]


def ellipse(box):
    x1, y1, x2, y2 = box
    ys, xs = np.mgrid[:SIZE, :SIZE] + 0.5
    return ((2 * xs - x1 - x2) / (x2 - x1)) ** 2 + ((2 * ys - y1 - y2) / (y2 - y1)) ** 2 <= 1


def make_samples(seed=0, count=12):
    """Images with objects, some difficult, and detections near some of them and elsewhere."""
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        instances, boxes, labels = [], [], []
        for _ in range(rng.integers(1, 5)):
            box, label = random_box(rng), int(rng.integers(len(CLASSES)))
            rle = coco_mask.encode(np.asfortranarray(ellipse(box).astype(np.uint8)))
            instances.append(
                dict(bbox=box, bbox_label=label, ignore_flag=int(rng.random() < 0.2), mask=rle)
            )
            for _ in range(rng.integers(0, 3)):
                moved = np.array(box) + rng.integers(-2, 3, 4)
                boxes.append(np.clip(moved, 0, SIZE).tolist())
                labels.append(label if rng.random() < 0.8 else int(rng.integers(len(CLASSES))))
        for _ in range(rng.integers(0, 4)):
            boxes.append(random_box(rng))
            labels.append(int(rng.integers(len(CLASSES))))
        scores = rng.permutation(200)[: len(boxes)] / 200 + index / 1e4  # all differ
        pred = dict(
            bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.long),
            scores=torch.tensor(scores, dtype=torch.float64),
            masks=torch.from_numpy(np.array([ellipse(b) for b in boxes]).reshape(-1, SIZE, SIZE)),
            image_scores=torch.from_numpy(rng.permutation(100)[:3] / 100),
        )
        split = [[each for each in instances if each['ignore_flag'] == flag] for flag in (0, 1)]
        gt, ignored = (
            dict(
                bboxes=torch.tensor([each['bbox'] for each in part]).reshape(-1, 4),
                labels=torch.tensor([each['bbox_label'] for each in part], dtype=torch.long),
            )
            for part in split
        )
        samples.append(
            dict(
                img_id=index,
                ori_shape=(SIZE, SIZE),
                instances=instances,
                pred_instances=pred,
                gt_instances=gt,
                ignored_instances=ignored,
            )
        )
    return samples


def evaluate(metric, samples):
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    return metric.evaluate(size=len(samples))


def box_area(box, extra=0):
    return max(box[2] - box[0] + extra, 0) * max(box[3] - box[1] + extra, 0)


def box_iou(a, b, extra=0, crowd=False):
    common = box_area([*np.maximum(a[:2], b[:2]), *np.minimum(a[2:], b[2:])], extra)
    return common / (box_area(a, extra) + (0 if crowd else box_area(b, extra) - common))


def true_positives(samples, label, overlap, threshold, ignore, prefer_unmatched=True):
    """By falling score: 1 for a hit, 0 for a false alarm; and the number of objects."""
    rows = []
    total = 0
    for sample in samples:
        objects = [each for each in sample['instances'] if each['bbox_label'] == label]
        flags = [bool(each['ignore_flag']) and ignore for each in objects]
        total += flags.count(False)
        pred = sample['pred_instances']
        taken = set()
        order = sorted(
            (i for i, each in enumerate(pred['labels'].tolist()) if each == label),
            key=lambda i: -pred['scores'][i],
        )
        for i in order:
            ious = [overlap(sample, i, *pair) for pair in zip(objects, flags)]
            score = float(pred['scores'][i])
            if prefer_unmatched:  # COCO: the best object that is free; ignored ones last
                free = [
                    (not flags[j], ious[j], j)
                    for j in range(len(objects))
                    if ious[j] >= threshold and (j not in taken or flags[j])
                ]
                real = max((each for each in free if each[0]), default=None)
                best = real or max(free, default=None)
                if best is None:
                    rows.append((score, 0))
                elif best[0]:
                    taken.add(best[2])
                    rows.append((score, 1))
            else:  # VOC: the best object, and a false alarm where it is taken
                j = int(np.argmax(ious)) if ious else -1
                if not ious or ious[j] < threshold:
                    rows.append((score, 0))
                elif not flags[j]:
                    rows.append((score, int(j not in taken)))
                    taken.add(j)
    rows.sort(key=lambda row: -row[0])
    return [hit for _, hit in rows], total


def precision_at(hits, total, recall):
    """The best precision at this recall or more, up to rounding."""
    best, found = 0.0, 0
    for rank, hit in enumerate(hits, 1):
        found += hit
        if found / total >= recall - 1e-12:
            best = max(best, found / rank)
    return best


def coco_ap(samples, overlap, threshold, ignore):
    values = []
    for label in range(len(CLASSES)):
        hits, total = true_positives(samples, label, overlap, threshold, ignore)
        if total:
            values.append(np.mean([precision_at(hits, total, r / 100) for r in range(101)]))
    return float(np.mean(values))


def segm(sample, i, each, crowd=False):
    """IoU; the share of the detection that lies inside where the object is ignored (COCO)."""
    found = sample['pred_instances']['masks'][i].numpy()
    truth = coco_mask.decode(each['mask']).astype(bool)
    return (found & truth).sum() / (found.sum() if crowd else (found | truth).sum())


def bbox(sample, i, each, crowd=False):
    found = sample['pred_instances']['bboxes'][i].numpy()
    return box_iou(found, np.array(each['bbox']), crowd=crowd)


@pytest.mark.parametrize('use_ignored', [False, True])
def test_coco_ap(use_ignored):
    samples = make_samples()
    metric = InstanceCocoMetric(metric=['bbox', 'segm'], use_ignored=use_ignored)
    found = evaluate(metric, samples)
    ignore = not use_ignored
    for name, overlap in (('bbox', bbox), ('segm', segm)):
        for key, threshold in (('25', 0.25), ('50', 0.5), ('70', 0.7), ('75', 0.75)):
            wanted = coco_ap(samples, overlap, threshold, ignore)
            assert found[f'coco/{name}_mAP_{key}'] == pytest.approx(wanted, abs=6e-4)
        wanted = np.mean([coco_ap(samples, overlap, t / 100, ignore) for t in range(50, 100, 5)])
        assert found[f'coco/{name}_mAP'] == pytest.approx(wanted, abs=6e-4)
    assert 0 < found['coco/segm_mAP_75'] < found['coco/segm_mAP_50'] < found['coco/segm_mAP_25']
    assert [each['ignore_flag'] for each in samples[0]['instances']] == [
        each['ignore_flag'] for each in make_samples()[0]['instances']
    ]


@pytest.mark.parametrize('kind', ['rle', 'uncompressed', 'polygon'])
def test_size_of_an_object_is_that_of_its_mask(kind):
    """A thin object in a box of medium size is a small one, of boxes and of masks."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[2:38, 18:22] = 1  # 144 pixels; its box, 36 x 36, has more than 32 x 32
    encoded = coco_mask.encode(np.asfortranarray(mask))
    if kind == 'uncompressed':
        runs = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0))
        counts = np.diff(runs, prepend=0, append=SIZE * SIZE)
        encoded = dict(size=[SIZE, SIZE], counts=counts[counts > 0].tolist())
    if kind == 'polygon':
        encoded = [[18, 2, 22, 2, 22, 38, 18, 38]]
    box = [2, 2, 38, 38]
    pred = dict(
        bboxes=torch.tensor([box], dtype=torch.float32),
        labels=torch.tensor([0]),
        scores=torch.tensor([0.9]),
        masks=torch.from_numpy(mask[None].astype(bool)),
    )
    ann = dict(bbox=box, bbox_label=0, ignore_flag=0, mask=encoded)
    samples = [dict(img_id='a', ori_shape=(SIZE, SIZE), instances=[ann], pred_instances=pred)]
    found = evaluate(InstanceCocoMetric(metric=['bbox', 'segm']), samples)
    for key in ('bbox', 'segm'):
        assert found[f'coco/{key}_mAP_s'] == pytest.approx(1)
        assert found[f'coco/{key}_mAP_m'] == found[f'coco/{key}_mAP_l'] == -1  # none there


def test_difficult_objects_count_where_they_should():
    samples = make_samples()
    strict, full = (
        evaluate(InstanceCocoMetric(metric='segm', use_ignored=flag), make_samples())
        for flag in (False, True)
    )
    assert any(each['ignore_flag'] for sample in samples for each in sample['instances'])
    assert strict['coco/segm_mAP_50'] != full['coco/segm_mAP_50']


@pytest.mark.parametrize('mode', ['area', '11points'])
def test_voc_map(mode):
    """mmdet's metric, as our configs use it: VOC's boxes hold their last pixel."""
    samples = make_samples(4)
    found = evaluate(VOCMetric(iou_thrs=0.5, eval_mode=mode), samples)

    def inclusive(sample, i, each, difficult):
        return box_iou(sample['pred_instances']['bboxes'][i].numpy(), np.array(each['bbox']), 1)

    values = []
    for label in range(len(CLASSES)):
        hits, total = true_positives(samples, label, inclusive, 0.5, True, False)
        if mode == '11points':
            # whether a recall of 3 / 10 reaches 0.3 is a matter of rounding in mmdet
            assert total % 5
            values.append(np.mean([precision_at(hits, total, r / 10) for r in range(11)]))
        else:  # every hit raises the recall by 1 / total
            steps = range(1, sum(hits) + 1)
            values.append(sum(precision_at(hits, total, k / total) for k in steps) / total)
    assert found['pascal_voc/mAP'] == pytest.approx(np.mean(values), abs=1e-6)


def test_corloc():
    samples = make_samples(2)
    found = evaluate(CorLocMetric(classwise=True), samples)
    by_class = []
    for label, name in enumerate(CLASSES):
        right = pictures = 0
        for sample in samples:
            objects = [each for each in sample['instances'] if each['bbox_label'] == label]
            if all(each['ignore_flag'] for each in objects):
                continue
            pictures += 1
            pred = sample['pred_instances']
            rows = [i for i, each in enumerate(pred['labels'].tolist()) if each == label]
            if rows:
                top = max(rows, key=lambda i: pred['scores'][i])
                right += any(bbox(sample, top, each) > 0.5 for each in objects)
        by_class.append(100 * right / pictures)
        assert found[f'weak/corloc/{name}'] == pytest.approx(by_class[-1])
    assert found['weak/corloc'] == pytest.approx(np.mean(by_class))
    assert 0 < found['weak/corloc'] < 100


def test_corloc_counts_the_best_detection_alone():
    gt = [dict(bbox=[0, 0, 10, 10], bbox_label=0, ignore_flag=0)]
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    for scores, wanted in (([0.9, 0.8], 100.0), ([0.8, 0.9], 0.0)):
        pred = dict(bboxes=boxes, labels=torch.zeros(2).long(), scores=torch.tensor(scores))
        sample = dict(pred_instances=pred, instances=gt)
        assert evaluate(CorLocMetric(), [sample]) == {'weak/corloc': wanted}
    # exactly half is not more than half
    half = dict(bboxes=boxes[:1] * 1, labels=torch.zeros(1).long(), scores=torch.ones(1))
    sample = dict(pred_instances=half, instances=[dict(gt[0], bbox=[0, 0, 10, 5])])
    assert evaluate(CorLocMetric(), [sample]) == {'weak/corloc': 0.0}


@pytest.mark.parametrize('with_tags', [False, True])
def test_tag_map(with_tags):
    samples = make_samples(3)
    scores = np.array([sample['pred_instances']['image_scores'].numpy() for sample in samples])
    present = np.zeros(scores.shape, dtype=bool)
    for row, sample in zip(present, samples):
        tags = sorted({each['bbox_label'] for each in sample['instances']})
        row[tags] = True
        if with_tags:
            sample['tags'] = tags
            del sample['instances']
    scores += np.arange(len(scores))[:, None] * 1e-9  # all differ
    for sample, row in zip(samples, scores):
        sample['pred_instances']['image_scores'] = torch.from_numpy(row)
    order = np.argsort(-scores, axis=0)
    wanted = []
    for label in range(len(CLASSES)):
        hits = present[order[:, label], label]
        wanted.append(np.mean([hits[: rank + 1].mean() for rank in np.flatnonzero(hits)]))
    found = evaluate(TagMetric(), samples)
    assert found['weak/tag_map'] == pytest.approx(100 * np.mean(wanted))


def test_what_metrics_ask_for():
    sample = make_samples()[0]
    for key, metric, words in (
        ('instances', CorLocMetric(), "no 'instances'"),
        ('instances', TagMetric(), "neither 'tags' nor 'instances'"),
    ):
        with pytest.raises(ValueError, match=words):
            metric.process({}, [{k: v for k, v in sample.items() if k != key}])
    bare = dict(sample, pred_instances={})
    with pytest.raises(ValueError, match="no 'image_scores'"):
        TagMetric().process({}, [bare])


def test_tags_that_tell_nothing(log):
    """Every class in all images or in none: the other metrics of a test are not lost."""
    sample = make_samples()[0]
    sample['pred_instances']['image_scores'] = torch.rand(len(CLASSES))
    metric = TagMetric()
    metric.process({}, [sample])
    assert np.isnan(metric.evaluate(size=1)['weak/tag_map'])
    assert any('no class is in some images' in line for line in log)
