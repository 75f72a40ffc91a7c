"""Metrics of GRES and GREC on cases whose values are written out here."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from projects.plvl.evaluation import GeneralizedGroundingMetric
from projects.plvl.evaluation.generalized_metric import count_matches

SIDE = 10


def mask(*boxes):
    """A mask (10, 10) of pixels in boxes x1 y1 x2 y2."""
    found = np.zeros((SIDE, SIDE), np.uint8)
    for x1, y1, x2, y2 in boxes:
        found[y1:y2, x1:x2] = 1
    return found


def sample(true, predicted, index=0, scores=None, union=True, **meta):
    """Boxes are their own masks."""
    sample = DetDataSample(
        metainfo=dict(img_id=index, ref_id=index, sent_id=index, text=f'{index}', **meta)
    )
    masks = np.stack([mask(box) for box in true]) if true else np.zeros((0, SIDE, SIDE), np.uint8)
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(true, dtype=torch.float32).reshape(-1, 4),
        masks=BitmapMasks(masks, SIDE, SIDE),
    )
    boxes = torch.tensor(predicted, dtype=torch.float32).reshape(-1, 4)
    scores = torch.ones(len(boxes)) if scores is None else torch.tensor(scores)
    sample.pred_instances = InstanceData(bboxes=boxes, scores=scores)
    if union:
        sample.set_field(torch.from_numpy(mask(*predicted)[None].astype(bool)), 'pred_union_mask')
    else:
        each = [torch.from_numpy(mask(box).astype(bool)) for box in predicted]
        sample.pred_instances.masks = torch.stack(each)
    return sample.to_dict()


def evaluate(samples, **kwargs):
    metric = GeneralizedGroundingMetric(**kwargs)
    metric.process({}, samples)
    found = metric.evaluate(size=len(samples))
    return {key.removeprefix('grounding/'): value for key, value in found.items()}


LEFT, RIGHT = [0, 0, 4, 10], [5, 0, 10, 10]  # 40 and 50 pixels
CASES = [
    # Both objects found: IoU 1, F1 1.
    ([LEFT, RIGHT], [RIGHT, LEFT]),
    # One of two found: IoU 40 / 90, F1 2 / 3.
    ([LEFT, RIGHT], [LEFT]),
    # Nothing there and nothing found (TP): IoU 1, F1 1.
    ([], []),
    # Nothing there, 40 pixels found (FN): IoU 0, adds 40 to the unions.
    ([], [LEFT]),
    # Something there and nothing found (FP): IoU 0, adds 50 to the unions.
    ([RIGHT], []),
    # Four fifths of an object: IoU 40 / 50, F1 1.
    ([RIGHT], [[5, 0, 9, 10]]),
]


def test_hand_made_cases():
    found = evaluate([sample(*case, index=i) for i, case in enumerate(CASES)])
    expected = dict(
        grec_pr50=100 * 3 / 6,  # the first, the third and the last
        grec_n_acc=100 * 1 / 2,
        grec_t_acc=100 * 3 / 4,
        gres_giou=100 * (1 + 40 / 90 + 1 + 0 + 0 + 40 / 50) / 6,
        gres_ciou=100 * (90 + 40 + 0 + 0 + 0 + 40) / (90 + 90 + 0 + 40 + 50 + 50),
        gres_n_acc=100 * 1 / 2,
        gres_t_acc=100 * 3 / 4,
        # of the four sentences with a target
        gres_p70=100 * 2 / 4,
        gres_p80=100 * 2 / 4,
        gres_p90=100 * 1 / 4,
    )
    assert found == pytest.approx(expected, abs=1e-9)


def test_against_sets_of_pixels():
    rng = np.random.default_rng(0)

    def boxes(count):
        corners = np.sort(rng.integers(0, 5, (count, 2, 2)), axis=1)
        return [[*a, *(b + 1)] for a, b in 2 * corners // 1]

    cases = [(boxes(rng.integers(0, 3)), boxes(rng.integers(0, 3))) for _ in range(60)]
    found = evaluate([sample(*case, index=i) for i, case in enumerate(cases)])
    ious, inter, union = [], 0, 0
    for true, predicted in cases:
        a, b = ({(y, x) for x1, y1, x2, y2 in side for y in range(y1, y2) for x in range(x1, x2)}
                for side in (true, predicted))  # fmt: skip
        ious.append(len(a & b) / len(a | b) if a else float(not b))
        inter, union = inter + len(a & b), union + len(a | b)
    assert found['gres_giou'] == pytest.approx(100 * np.mean(ious))
    assert found['gres_ciou'] == pytest.approx(100 * inter / union)
    empty = [not predicted for true, predicted in cases if not true]
    assert found['gres_n_acc'] == found['grec_n_acc'] == pytest.approx(100 * np.mean(empty))


def test_matching_is_one_to_one():
    # The largest overlap, 0.9, takes the first row and column; 0.6 is left for the others.
    assert count_matches(np.array([[0.9, 0.7], [0.8, 0.6]])) == 2
    # 0.9 takes the first row and column; what is left, 0.4, is too little.
    assert count_matches(np.array([[0.9, 0.7], [0.8, 0.4]])) == 1
    assert count_matches(np.array([[0.5], [0.5]])) == 1  # two predictions for one object
    assert count_matches(np.array([[0.49]])) == 0
    assert count_matches(np.zeros((0, 3))) == count_matches(np.zeros((2, 0))) == 0


def test_a_box_too_many_is_wrong():
    found = evaluate([sample([LEFT], [LEFT, RIGHT], scores=[0.9, 0.2])])
    assert found['grec_pr50'] == 0  # F1 = 2 / 3
    found = evaluate([sample([LEFT], [LEFT, RIGHT], scores=[0.9, 0.2])], score_thr=0.3)
    assert found['grec_pr50'] == 100


def test_giou_as_released():
    # IoU 50 / 100; the smallest box around both is their union, so GIoU equals it. Apart from it:
    # boxes of 4 x 8 and 4 x 10 shifted by (0, 0) and (1, 0): intersection 24, union 48, hull 50,
    # IoU 0.5 and GIoU 0.5 - 2 / 50.
    case = sample([[0, 0, 4, 8]], [[1, 0, 5, 10]])
    assert evaluate([case])['grec_pr50'] == 100
    assert evaluate([case], overlap='giou')['grec_pr50'] == 0


def test_a_few_pixels_count_as_none():
    cases = [sample([], [[0, 0, 7, 7]], 0), sample([], [[0, 0, 10, 5]], 1)]  # 49 and 50 pixels
    assert evaluate(cases)['gres_n_acc'] == 0
    found = evaluate(cases, min_pixels=50)
    assert found['gres_n_acc'] == found['gres_giou'] == 50


def test_masks_of_single_objects_are_joined():
    case = ([LEFT, RIGHT], [LEFT, [5, 0, 10, 8]])
    joined, apart = (evaluate([sample(*case, union=union)]) for union in (True, False))
    assert joined == apart
    assert joined['gres_giou'] == pytest.approx(100 * (40 + 40) / 90)


def test_groups_subsets_and_repeats():
    samples = [
        sample(*case, index=i, kind='none' if not case[0] else 'some', subset=f's{i % 2}')
        for i, case in enumerate(CASES)
    ]
    found = evaluate([*samples, samples[0]], group_by='kind')  # a repeated sample counts once
    assert found['grec_pr50'] == 50
    assert found['grec_pr50/none'] == found['gres_giou/none'] == 50
    assert found['grec_pr50/some'] == pytest.approx(100 * 2 / 4)
    assert found['s0/grec_n_acc'] == 100 and found['s1/grec_n_acc'] == 0


def test_boxes_only_and_masks_only():
    boxes = sample(*CASES[0])
    del boxes['pred_union_mask']
    assert set(evaluate([boxes])) == {'grec_pr50', 'grec_t_acc'}
    masks = sample(*CASES[2])
    masks['pred_instances'] = {}
    assert evaluate([masks]) == dict(gres_giou=100, gres_ciou=100, gres_n_acc=100)
    unknown = sample(*CASES[0], with_mask=False)
    assert 'gres_giou' not in evaluate([unknown])


def test_bad_input():
    for kwargs, message in (
        (dict(overlap='diou'), "overlap='diou': expected 'iou' or 'giou'"),
        (dict(protocol='released'), 'protocol is an argument of GroundingMetric'),
    ):
        with pytest.raises(ValueError, match=message):
            GeneralizedGroundingMetric(**kwargs)
    wrong = sample(*CASES[0])
    wrong['pred_union_mask'] = torch.zeros(1, 4, 4)
    with pytest.raises(ValueError, match=r"'0': predicted mask of shape \(4, 4\), ground truth"):
        evaluate([wrong])
    nothing = sample(*CASES[0])
    nothing['pred_instances'] = {}
    del nothing['pred_union_mask']
    with pytest.raises(ValueError, match='has no bboxes, and there is no mask'):
        evaluate([nothing])
