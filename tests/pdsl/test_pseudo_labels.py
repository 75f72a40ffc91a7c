"""Mining, assignment and seeds: by hand, and against brute force."""

import math

import pytest
import torch
from mmengine.registry import TASK_UTILS
from torchvision.ops import box_iou

import projects.pdsl.register  # noqa: F401
from projects.pdsl.models.pseudo_labels import (
    ImagePredictions,
    PseudoGroundTruth,
    PseudoLabels,
    assign,
    mine_self_training_boxes,
    mine_top_boxes,
    sample_seeds,
)


def predictions(count=60, classes=3, tags=(0, 2), shared=False, background=True, seed=0):
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(count, classes, 2, generator=rng) * 40
    boxes = torch.cat((low, low + 5 + torch.rand(count, classes, 2, generator=rng) * 30), -1)
    return ImagePredictions(
        proposals=boxes[:, 0],
        tags=torch.tensor(tags, dtype=torch.long),
        image_scores=torch.linspace(0.2, 0.8, classes),
        scores=torch.rand(count, classes + background, generator=rng),
        boxes=boxes[:, 0] if shared else boxes,
    )


def test_top_boxes_by_hand():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 8], [30, 30, 40, 40], [0, 0, 10, 4.9]])
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.3], [0.1, 0.1, 0.95], [0, 0.2, 0.1]])
    y = torch.tensor([0.25, 0.5, 0.75])
    truth = mine_top_boxes(ImagePredictions(boxes, torch.tensor([0, 2]), y, scores, boxes))
    assert truth.source.tolist() == [0, 2] and truth.weights.tolist() == [0.25, 0.75]
    found = assign(boxes, truth, num_classes=3)
    assert found.labels.tolist() == [0, 0, 2, 3]  # 0.49 < 0.5: background
    assert found.weights.tolist() == [0.25, 0.25, 0.75, 0.25]  # background has one too
    assert sample_seeds(found, 1).tolist() == [0, 2]
    seeds = sample_seeds(found, 10)  # no class filter; overlap decides
    assert seeds.tolist() == [0, 1, 2, 2, 0, 1]


def brute_force_self_training(image, top_ratio, nms_iou):
    """Algorithm 1 of MIST, box after box: (label, proposal) of all that is kept."""
    found = []
    for label in image.tags.tolist():
        boxes = image.boxes if image.boxes.dim() == 2 else image.boxes[:, label]
        ranked = sorted(range(len(boxes)), key=lambda i: -image.scores[i, label].item())
        kept = []
        for i in ranked[: math.ceil(top_ratio * len(boxes))]:
            if all(box_iou(boxes[i, None], boxes[j, None]).item() <= nms_iou for j in kept):
                kept.append(i)
        found += [(label, i) for i in kept]
    return found


@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize(
    ('top_ratio', 'nms_iou'), [(0.15, 0.2), (0.01, 0.2), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0)]
)
def test_self_training_by_brute_force(shared, top_ratio, nms_iou):
    image = predictions(shared=shared)
    miner = TASK_UTILS.build(dict(type='SelfTrainingMiner', top_ratio=top_ratio, nms_iou=nms_iou))
    truth = miner(image)
    expected = brute_force_self_training(image, top_ratio, nms_iou)
    assert list(zip(truth.labels.tolist(), truth.source.tolist())) == expected
    assert len(expected) > 2 or top_ratio == 0.01
    for k, (label, i) in enumerate(expected):
        box = image.boxes[i] if shared else image.boxes[i, label]
        assert torch.equal(truth.boxes[k], box)
        assert truth.scores[k] == image.scores[i, label]
        assert truth.weights[k] == image.image_scores[label]


def test_the_best_of_self_training_are_the_top_boxes():
    """With a single candidate the two ways of mining are one."""
    image = predictions()
    top, single = mine_top_boxes(image), mine_self_training_boxes(image, top_ratio=1e-6)
    for name in vars(top):
        assert torch.equal(getattr(top, name), getattr(single, name))


@pytest.mark.parametrize('kind', ['TopBoxMiner', 'SelfTrainingMiner'])
@pytest.mark.parametrize(('count', 'tags'), [(0, (0, 2)), (5, ()), (0, ())])
def test_nothing_to_mine(kind, count, tags):
    image = predictions(count=count, tags=tags)
    truth = TASK_UTILS.build(dict(type=kind))(image)
    assert truth.boxes.shape == (0, 4)
    assert all(len(value) == 0 for value in vars(truth).values())
    found = TASK_UTILS.build(dict(type='OverlapAssigner'))(image.proposals, truth, 3)
    assert found.labels.tolist() == [3] * count and not len(found.foreground)
    assert not len(sample_seeds(found, 10))


def test_assigner_takes_its_threshold():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5]])
    truth = PseudoGroundTruth(boxes[:1], *torch.tensor([[1], [1], [1], [0]]))
    for threshold, labels in ((0.5, [1, 1, 1]), (0.6, [1, 1, 4]), (0.9, [1, 4, 4])):
        assigner = TASK_UTILS.build(dict(type='OverlapAssigner', iou_thr=threshold))
        assert assigner(boxes, truth, 4).labels.tolist() == labels


def test_foreground_of_pseudo_labels():
    image = predictions(count=30)
    truth = mine_self_training_boxes(image)
    labels = PseudoLabels(image, truth, assign(image.proposals, truth, 3, 0.3))
    rows = labels.foreground.tolist()
    assert 2 < len(rows) < 30
    overlaps = box_iou(truth.boxes, image.proposals)
    for k, i in enumerate(rows):
        nearest = overlaps[:, i].argmax()
        label = truth.labels[nearest]
        assert labels.foreground_labels[k] == label
        assert labels.foreground_weights[k] == image.image_scores[label]
        assert labels.foreground_scores[k] == image.scores[i, label]
        assert torch.equal(labels.foreground_proposals[k], image.proposals[i])
        assert torch.equal(labels.matched_boxes[k], truth.boxes[nearest])
        assert labels.matched_scores[k] == truth.scores[nearest]
