"""References, what is wrong with them, and the data set that takes any reader."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from mmengine.registry import DATASETS, FUNCTIONS

import projects.plvl.datasets  # noqa: F401  registers
from projects.plvl.datasets import GroundingDataset, Invalid, Reference, Sentence, Target

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]


def reference(**changes) -> Reference:
    fields = dict(
        file='a.csv', entry=7, image='a.jpg', sentences=[Sentence('a mug', 3), Sentence('it', 4)],
        targets=[Target([10, 10, 20, 10], 'xywh', ann_id=5)], image_id=1, ref_id=2, height=60,
        width=80,
    )  # fmt: skip
    return Reference(**{**fields, **changes})


def target(**changes) -> dict:
    return dict(targets=[replace(Target([10, 10, 20, 10], 'xywh'), **changes)])


WRONG_TYPES = {
    'image': (dict(image=None), 'image: expected a string, found None'),
    'image_id': (dict(image_id=1.5), 'image_id: expected a number or a string, found 1.5'),
    'ref_id': (dict(ref_id=True), 'ref_id: expected a number or a string, found True'),
    'height': (dict(height='60'), "height: expected a positive integer, found '60'"),
    'source': (dict(source=3), 'source: expected a string, found 3'),
    'ann_id': (target(ann_id=[1]), r'ann_id: expected a number or a string, found \[1\]'),
    'category': (target(category=3), 'category: expected a string, found 3'),
    'iscrowd': (target(iscrowd='a'), "iscrowd: expected a number, true or false, found 'a'"),
    'sent_id': (dict(sentences=[Sentence('a', [])]), 'sent_id: expected a number or a string'),
    'kind': (dict(sentences=[Sentence('a', 1, 3)]), 'kind: expected a string, found 3'),
    'targets': (dict(targets=[]), r'targets: expected one object .*, found \[\]'),
}
DAMAGE = {
    'invalid size': (dict(width=0), 'height, width: expected 1 to 1048576 pixels .*, found 60, 0'),
    'degenerate box': (target(box='1234'), "bbox: expected four finite numbers, found '1234'"),
    'invalid mask': (target(mask=[[1, 2, 3, 4]]), 'mask: expected a polygon with three points'),
}


@pytest.mark.parametrize('name', [*WRONG_TYPES, *DAMAGE])
def test_what_is_wrong_is_named(name):
    changes, message = {**WRONG_TYPES, **DAMAGE}[name]
    wrong = reference(**changes)
    num_sentences = len(wrong.sentences)
    (invalid,) = wrong.check()
    assert (invalid.file, invalid.entry, invalid.num_sentences) == ('a.csv', 7, num_sentences)
    assert invalid.reason == (name if name in DAMAGE else None)
    reason = f'{name}: ' if name in DAMAGE else ''
    with pytest.raises(ValueError, match=rf'^a\.csv:7: {reason}{message}'):
        raise invalid
    assert not wrong.sentences


def test_empty_sentences_alone_are_dropped():
    some = reference(sentences=[Sentence(' ', 3), Sentence(' it ', 4), Sentence(None, 5)])
    first, second = some.check()
    assert str(first) == "a.csv:7: empty sentence: sent_id 3: expected a text, found ' '"
    assert (second.field, second.num_sentences) == ('sent_id 5', 1)
    assert [sample['text'] for sample in some.samples()] == ['it']


def test_boxes_in_their_formats():
    by_hand = {
        'xywh': ([10, 10, 20, 10], None, [10, 10, 30, 20]),
        'xyxy': ([10, 10, 81, 20], None, [10, 10, 80, 20]),  # clipped
        'mask': (None, [SQUARE], [10, 10, 30, 20]),
    }
    for box_format, (box, mask, truth) in by_hand.items():
        each = reference(targets=[Target(box, box_format, mask)])
        assert not each.check()
        assert each.samples()[0]['instances'][0]['bbox'] == truth
    assert each.target.box_xywh() == [10, 10, 20, 10]


# ---- the data set


@FUNCTIONS.register_module()
def read_made_up_references(files, split, num=3):
    assert files['ann_file'].endswith('a.csv')
    for i in range(num):
        sentences = [Sentence(f'{split} {i}'), Sentence('it')]
        yield Reference(files['ann_file'], i, f'{i}.jpg', sentences, [Target([1, 2, 30, 40])])


def build(tmp_path, reader, **kwargs) -> GroundingDataset:
    (tmp_path / 'a.csv').touch()
    cfg = dict(type='GroundingDataset', data_root=str(tmp_path), ann_file='a.csv')
    return DATASETS.build(dict(cfg, reader=reader, check_images=False, **kwargs))


def infos(dataset) -> list[dict]:
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def test_readers_by_function_name_and_dict(tmp_path):
    name = 'read_made_up_references'
    of_two = functools.partial(read_made_up_references, num=2)
    for reader in (of_two, dict(type=name, num=2)):
        samples = infos(build(tmp_path, reader, split='val'))
        assert [sample['text'] for sample in samples] == ['val 0', 'it', 'val 1', 'it']
        # what the reader leaves out is numbered
        assert [(s['ref_id'], s['sent_id']) for s in samples] == [(0, 0), (0, 1), (1, 2), (1, 3)]
        assert [sample['img_id'] for sample in samples] == ['0.jpg', '0.jpg', '1.jpg', '1.jpg']
    assert len(build(tmp_path, name)) == 6
    with pytest.raises(ValueError, match="reader: no function 'read_none' is registered"):
        build(tmp_path, 'read_none')


def test_entries_that_cannot_be_read(tmp_path, log):
    lost = Invalid('ann_id', 'a known one', '9', 'no annotation', 'b.csv', 'row 3', 'lost.jpg', 4)

    def read(files, split, invalid=lost):
        yield from read_made_up_references(files, split, 1)
        yield invalid

    with pytest.raises(
        ValueError, match=r'^b\.csv: row 3: no annotation: ann_id: expected a known'
    ):
        build(tmp_path, read)
    dataset = build(tmp_path, read, skip_invalid=True)
    assert len(dataset) == 2 and '4 samples left out: 4 for no annotation (first: b.csv' in log[-1]
    # Its image is known, and is kept out of training like those of any other.
    assert [path.rpartition('/')[2] for path in dataset.image_keys] == ['0.jpg', 'lost.jpg']
    # Without a reason the file has another format, which skip_invalid does not cover.
    other = functools.partial(read, invalid=replace(lost, reason=None))
    with pytest.raises(ValueError, match=r'^b\.csv: row 3: ann_id: expected a known one, found 9$'):
        build(tmp_path, other, skip_invalid=True)
