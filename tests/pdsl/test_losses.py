"""The registered losses against Eq. 2 to 8 in NumPy, proposal by proposal."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

import projects.pdsl.register  # noqa: F401
from projects.pdsl.models.pseudo_labels import (
    Assignment,
    ImagePredictions,
    PseudoGroundTruth,
    PseudoLabels,
)

CLASSES = 3


class Image:
    """Random predictions and labels of one image; about a third of the proposals is background."""

    def __init__(self, count, seed, size=4):
        rng = np.random.default_rng(seed)
        self.scores = rng.dirichlet(np.ones(CLASSES + 1), count)
        self.labels = rng.integers(0, CLASSES + 1, count)
        self.weights = rng.uniform(0.1, 1, count) * (rng.random(count) > 0.2)
        self.matched = rng.integers(0, 2, count)
        self.truth_scores = rng.random(2)
        self.rows = np.flatnonzero(self.labels < CLASSES)
        self.logits = rng.normal(size=(count, CLASSES + 1))
        self.deltas = 2 * rng.normal(size=(count, CLASSES, 4))
        self.targets = rng.normal(size=(len(self.rows), 4))
        self.masks = rng.normal(size=(3, len(self.rows), size, size))  # M^0 to M^2
        self.cue = (rng.random((len(self.rows), size, size)) > 0.5).astype(float)

    def pseudo_labels(self):
        as_tensor = torch.as_tensor
        boxes = torch.zeros(len(self.labels), 4)
        predictions = ImagePredictions(
            boxes, torch.arange(2), torch.zeros(CLASSES), as_tensor(self.scores), boxes
        )
        truth = PseudoGroundTruth(
            torch.zeros(2, 4),
            torch.arange(2),
            as_tensor(self.truth_scores),
            torch.ones(2),
            torch.arange(2),
        )
        given = Assignment(
            as_tensor(self.labels),
            as_tensor(self.weights),
            as_tensor(self.matched),
            torch.zeros(2, len(self.labels)),
            as_tensor(self.rows),
        )
        return PseudoLabels(predictions, truth, given)


IMAGES = [Image(12, 0), Image(7, 1)]
LABELS = [image.pseudo_labels() for image in IMAGES]
REDUCTIONS = ('mean', 'batch_mean', 'sum')


def tensors(name):
    return [torch.as_tensor(getattr(image, name)) for image in IMAGES]


def mask_logits():
    return [torch.as_tensor(np.concatenate([image.masks[m] for image in IMAGES])) for m in range(3)]


def reduced(sums, counts, reduction):
    sums, counts = np.array(sums), np.array(counts)
    return {
        'mean': (sums / counts).mean(),
        'batch_mean': sums.sum() / counts.sum(),
        'sum': sums.mean(),
    }[reduction]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cross_entropy(target, prob):
    return -(target * np.log(prob) + (1 - target) * np.log(1 - prob))


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_mil(reduction):
    """Eq. 2."""
    loss = MODELS.build(dict(type='MILLoss', reduction=reduction, loss_weight=3.0))
    scores = [image.scores[:, :CLASSES] / len(image.scores) for image in IMAGES]
    tags = [[0, 2], [1]]
    sums = []
    for s0, present in zip(scores, tags):
        y = s0.sum(0)
        t = np.isin(np.arange(CLASSES), present)
        sums.append(cross_entropy(t, y).sum())
    found = loss([torch.as_tensor(s0) for s0 in scores], [torch.tensor(each) for each in tags])
    assert found.item() == pytest.approx(3 * reduced(sums, [CLASSES] * 2, reduction))


@pytest.mark.parametrize('reduction', REDUCTIONS)
@pytest.mark.parametrize(('beta', 'weighted'), [(1.0, True), (0.0, False)])
def test_refinement(reduction, beta, weighted):
    """Eq. 3."""
    loss = MODELS.build(
        dict(
            type='RefinementLoss',
            reduction=reduction,
            smooth_l1_beta=beta,
            weighted_regression=weighted,
            loss_weight=3.0,
        )
    )
    cls, reg = [], []
    for image in IMAGES:
        total = 0
        for logits, label, weight in zip(image.logits, image.labels, image.weights):
            total -= weight * np.log(np.exp(logits[label]) / np.exp(logits).sum())
        cls.append(total)
        total = 0
        for row, target in zip(image.rows, image.targets):
            error = np.abs(image.deltas[row, image.labels[row]] - target)
            if beta:
                error = np.where(error < beta, error**2 / (2 * beta), error - beta / 2)
            total += error.sum() * (image.weights[row] if weighted else 1)
        reg.append(total)
    deltas = [each.flatten(1) for each in tensors('deltas')]
    found = loss(tensors('logits'), deltas, LABELS, tensors('targets'))
    counts = [(image.weights > 0).sum() for image in IMAGES]
    assert found['cls'].item() == pytest.approx(3 * reduced(cls, counts, reduction))
    counts = [len(image.labels) for image in IMAGES]
    assert found['reg'].item() == pytest.approx(3 * reduced(reg, counts, reduction))
    assert loss(tensors('logits'), None, LABELS, None).keys() == {'cls'}


@pytest.mark.parametrize('reduction', REDUCTIONS)
@pytest.mark.parametrize(('soft', 'weighted'), [(True, True), (False, False)])
def test_pseudo_masks(reduction, soft, weighted):
    """Eq. 5."""
    loss = MODELS.build(
        dict(
            type='PseudoMaskLoss',
            reduction=reduction,
            soft_targets=soft,
            weighted=weighted,
            loss_weight=3.0,
        )
    )
    found = loss(mask_logits(), torch.cat(tensors('cue')), LABELS)
    assert found.keys() == {0, 1, 2}
    for m in range(3):
        sums = []
        for image in IMAGES:
            target = sigmoid(image.masks[m - 1]) if m else image.cue
            if m and not soft:
                target = (target >= 0.5).astype(float)
                assert target.any(axis=(1, 2)).all()
            weights = image.weights[image.rows] if m and weighted else np.ones(len(image.rows))
            terms = cross_entropy(target, sigmoid(image.masks[m])).sum(axis=(1, 2))
            sums.append((weights * terms).sum())
        counts = [len(image.rows) * 16 for image in IMAGES]
        assert found[m].item() == pytest.approx(3 * reduced(sums, counts, reduction))


@pytest.mark.parametrize('reduction', ['mean', 'batch_mean'])
@pytest.mark.parametrize('target', ['proposal', 'pseudo_gt'])
@pytest.mark.parametrize('average', ['foreground', 'proposals'])
@pytest.mark.parametrize('agnostic', [True, False])
def test_correlation(reduction, target, average, agnostic):
    """Eq. 7 and 8."""
    loss = MODELS.build(
        dict(
            type='InstanceCorrelationLoss',
            target=target,
            average=average,
            agnostic=agnostic,
            reduction=reduction,
            loss_weight=3.0,
        )
    )
    found = loss(mask_logits(), LABELS)
    assert found.keys() == ({0, 1, 2} if agnostic else {1, 2})
    for m in found:
        sums, counts = [], []
        for image in IMAGES:
            activation = np.log(np.exp(5 * sigmoid(image.masks[m])).mean(axis=(1, 2))) / 5
            wanted = image.scores[image.rows, image.labels[image.rows]]
            if target == 'pseudo_gt':
                wanted = image.truth_scores[image.matched[image.rows]]
            sums.append(np.abs(activation - wanted + 1e-6).sum())
            counts.append(len(image.rows) if average == 'foreground' else len(image.labels))
        assert found[m].item() == pytest.approx(3 * reduced(sums, counts, reduction))


def test_targets_get_no_gradient():
    """The term of M^m moves M^m, and not M^(m-1), its target."""
    masks = [each.clone().requires_grad_() for each in mask_logits()]
    losses = MODELS.build(dict(type='PseudoMaskLoss'))(masks, torch.cat(tensors('cue')), LABELS)
    for m, loss in losses.items():
        gradients = torch.autograd.grad(loss, masks, retain_graph=True, allow_unused=True)
        assert [gradient is not None for gradient in gradients] == [i == m for i in range(3)]
