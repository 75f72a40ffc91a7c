"""Labels on their way to a file."""

import json
import tracemalloc

import pytest
import torch
from mmengine.structures import InstanceData

from projects.pdsl.pseudo_label_export import (
    LabelParts,
    image_names,
    image_record,
    select_pseudo_labels,
)


def records(count, ids=None, counts='x' * 20):
    return [
        dict(
            id=index if ids is None else ids[index],
            image=dict(file_name=f'{index}.jpg', height=4, width=5),
            annotations=[
                dict(category_id=1 + index % 2, segmentation=dict(size=[4, 5], counts=counts))
                for _ in range(index % 3)
            ],
            missing=int(index == 4),
        )
        for index in range(count)
    ]


def merged(path, rows, size=3):
    parts = LabelParts(path, len(rows), dict(score=0.5), size)
    for indices in parts.missing():
        parts.write(indices[0], [rows[index] for index in indices])
    return parts.merge(('cat', 'dog')), json.loads(path.read_text())


@pytest.mark.parametrize(
    'ids, found',
    [(list('abcdefg'), range(1, 8)), ([5, 3, 9, 1, 8, 2, 7],) * 2, ([1] * 7, range(1, 8))],
)
def test_ids(tmp_path, ids, found):
    """Those of images stay where they are different integers."""
    summary, content = merged(tmp_path / 'x.json', records(7, ids))
    assert [image['id'] for image in content['images']] == list(found)
    owners = [image['id'] for i, image in enumerate(content['images']) for _ in range(i % 3)]
    assert [each['image_id'] for each in content['annotations']] == owners
    assert [each['id'] for each in content['annotations']] == list(range(1, len(owners) + 1))
    assert content['categories'] == [dict(id=1, name='cat'), dict(id=2, name='dog')]
    assert (summary.pictures, summary.missing) == (7, 1)
    assert summary.instances == {0: 3, 1: 3}
    assert not list(tmp_path.glob('*.parts'))


def test_no_picture_has_a_label(tmp_path):
    rows = [dict(each, annotations=[]) for each in records(2)]
    assert merged(tmp_path / 'x.json', rows)[1]['annotations'] == []


def test_memory_is_that_of_a_part(tmp_path):
    rows = records(300, counts='x' * 20_000)  # 6 MB
    parts = LabelParts(tmp_path / 'x.json', len(rows), {}, 5)
    for indices in parts.missing():
        parts.write(indices[0], [rows[index] for index in indices])
    del rows
    tracemalloc.start()
    parts.merge(('cat', 'dog'))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / 'x.json').stat().st_size > 5e6 and peak < 1.5e6


def test_best_of_a_tag_with_a_mask_stays(tmp_path):
    masks = torch.ones(4, 8, 8, dtype=torch.bool)
    masks[2] = False
    instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 4, 4], [0, 0, 0.5, 4], [1, 1, 5, 5], [2, 2, 6, 6]]),
        labels=torch.tensor([0, 1, 1, 1]),
        scores=torch.tensor([0.9, 0.3, 0.2, 0.1]),
        masks=masks,
    )
    assert select_pseudo_labels(instances, [0, 1], 0.5).tolist() == [0, 3]
    assert select_pseudo_labels(instances, [0, 1], 0.5, at_least_one=False).tolist() == [0]
    info = dict(img_id=7, img_path=str(tmp_path / 'a/b.jpg'), tags=[0, 1, 3])
    (name,) = image_names(_Images([info]), tmp_path)
    record = image_record(info, (8, 8), instances[[0, 3]], name)
    assert record['missing'] == 1 and record['image']['file_name'] == 'a/b.jpg'
    assert [each['area'] for each in record['annotations']] == [64, 64]
    with pytest.raises(ValueError, match='not below'):
        image_names(_Images([info]), tmp_path / 'c')


class _Images(list):
    def get_data_info(self, index):
        return self[index]
