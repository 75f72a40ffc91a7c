"""The analysis of predictions against counts by hand, on generated scenes."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from projects.common.prediction_dump import encode_mask
from projects.plvl.datasets import JSONLinesGroundingDataset
from projects.plvl.evaluation.analysis_page import plot_groups
from projects.plvl.evaluation.grounding_analysis import (
    analyze,
    match_predictions,
    summarize,
    worst_failures,
)
from projects.plvl.evaluation.returned_boxes import Returned, count_returned

# Images of 100 x 100 pixels: sentence, box, category, IoU of the prediction, its score.
SAMPLES = [
    ('the left dog', [0, 0, 10, 10], 'dog', 1.0, 0.9),
    ('dog', [20, 20, 60, 60], 'dog', 0.6, 0.8),
    ('a cat on <b>top</b> & "left" of it', [0, 0, 50, 50], 'cat', 0.0, 0.7),
    ('a cat', [50, 50, 60, 60], 'cat', 0.0, 0.95),
    ('a cat again', [50, 50, 60, 60], 'cat', 0.3, 0.5),
    ('the second cat from the right side of the large table', [0, 0, 100, 100], 'cat', 0.5, 0.4),
]
CONFIG = """
custom_imports = dict(imports=['projects.plvl.register'], allow_failed_imports=False)
default_scope = 'mmdet'
test_dataloader = dict(dataset=dict(
    type='JSONLinesGroundingDataset', data_root='{root}', ann_file='data.jsonl',
    data_prefix=dict(img=''), test_mode=True, pipeline=[]))
"""


def predicted_box(box: list[float], iou: float) -> list[float]:
    """A box whose IoU with ``box`` is given: its left part, or another place."""
    x1, y1, x2, y2 = box
    return [x1, y1, x1 + iou * (x2 - x1), y2] if iou else [90, 70, 95, 72]


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A data set of rectangles and a dump of predictions with known overlaps."""
    rng = np.random.default_rng(0)
    lines = []
    for i, (sentence, box, category, _, _) in enumerate(SAMPLES):
        name = f'{box[0]}_{box[1]}_{box[2]}.png'
        Image.fromarray(rng.integers(0, 255, (100, 100, 3), dtype=np.uint8)).save(tmp_path / name)
        mask = np.zeros((100, 100), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        line = dict(image=name, sentence=sentence, bbox=box, category=category)
        if i != 3:
            line['mask'] = encode_mask(mask)
        lines.append(line)
    (tmp_path / 'data.jsonl').write_text('\n'.join(json.dumps(line) for line in lines))
    (tmp_path / 'config.py').write_text(CONFIG.format(root=tmp_path))
    dump = []
    for sample, (_, box, _, iou, score) in zip(load(tmp_path), SAMPLES, strict=True):
        x1, y1, x2, y2 = predicted_box(box, iou)
        mask = np.zeros((100, 100), bool)
        mask[round(y1) : round(y2), round(x1) : round(x2)] = True
        kept = {key: sample[key] for key in ('img_path', 'img_id', 'ref_id', 'sent_id', 'ann_id')}
        instances = dict(bboxes=[[x1, y1, x2, y2]], scores=[score], labels=[0])
        instances['masks'] = [encode_mask(mask)]
        score_map = np.linspace(0, 1, 64).reshape(8, 8).tolist()
        dump.append(
            dict(**kept, text=sample['text'], pred_instances=instances, pred_score_map=score_map)
        )
    (tmp_path / 'dump.json').write_text(json.dumps(dump[::-1]))  # the order does not matter
    return tmp_path


def load(folder: Path) -> list[dict]:
    dataset = read(folder)
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def read(folder: Path) -> JSONLinesGroundingDataset:
    return JSONLinesGroundingDataset(
        ann_file='data.jsonl', data_root=str(folder), test_mode=True, pipeline=[]
    )


@pytest.fixture
def records(case: Path):
    return match_predictions(read(case), json.loads((case / 'dump.json').read_text()), 'dump')


def test_overlaps(records) -> None:
    assert [record.box_iou for record in records] == pytest.approx([s[3] for s in SAMPLES])
    expected = [1, 0.6, 0, None, 0.3, 0.5]
    assert [record.mask_iou for record in records] == [
        value if value is None else pytest.approx(value) for value in expected
    ]
    assert [record.size for record in records] == pytest.approx([1, 16, 25, 1, 1, 100])


def test_groups_by_hand(records) -> None:
    groups = {
        title: {group.name: group for group in members}
        for title, members in analyze(records).items()
    }
    size, length, direction, category = groups.values()
    assert list(groups)[0].startswith('Object size') and list(groups)[-1] == 'Category'
    counts = {name: (group.count, round(group.accuracy, 2)) for name, group in size.items()}
    assert counts == {
        'below 2 %': (3, 33.33),
        '10 to 20 %': (1, 100),
        '20 to 40 %': (1, 0),
        '40 % and more': (1, 100),
    }
    counts = {name: group.count for name, group in length.items()}
    assert counts == {'1': 1, '2': 1, '3': 2, '9 to 12': 2}
    counts = {name: (group.count, group.accuracy) for name, group in direction.items()}
    assert counts == {
        'left, right': (3, pytest.approx(200 / 3)),
        'top, bottom': (1, 0),
        'order': (1, 100),
        'none of these': (3, pytest.approx(100 / 3)),
    }
    assert list(category) == ['cat', 'dog']  # the frequent one first
    cats = category['cat']
    assert (cats.count, cats.accuracy) == (4, 25)
    assert cats.box_miou == pytest.approx(100 * (0 + 0 + 0.3 + 0.5) / 4)
    assert cats.mask_miou == pytest.approx(100 * (0 + 0.3 + 0.5) / 3)
    # Wilson's interval of 1 in 4, from its quadratic equation.
    z, p, n = 1.959963985, 0.25, 4
    roots = np.roots([1 + z**2 / n, -(2 * p + z**2 / n), p**2])
    assert (cats.low, cats.high) == pytest.approx(tuple(100 * np.sort(roots)))


def test_worst_failures(records) -> None:
    """Least overlap, then most confident; one of the two sentences about the same cat."""
    worst = [record.sample['text'] for record in worst_failures(records, 9)]
    assert worst == ['a cat', 'a cat on <b>top</b> & "left" of it']
    assert len(worst_failures(records, 1)) == 1


def test_long_names_fit_the_plot(records) -> None:
    """Labels stay inside the figure and off their neighbours, whatever categories are called."""
    for record, name in zip(records, ('a very long category of things', '$x_1$ and $', 'cat') * 2):
        record.sample['category'] = name
    figure = plot_groups(analyze(records), summarize('all', records))
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    for axes in figure.axes:
        labels = [label.get_window_extent() for label in axes.get_yticklabels()]
        assert all(box.x0 >= 0 and box.x1 < width and 0 <= box.y0 < height for box in labels)
        ordered = sorted(labels, key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 for low, high in zip(ordered, ordered[1:]))


class Page(HTMLParser):
    """Images, text and tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == 'img':
            self.pictures.append(dict(attrs)['src'])

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def run(tool, case: Path, *arguments: str) -> subprocess.CompletedProcess:
    files = (case / 'config.py', case / 'dump.json')
    return tool(
        'analysis_tools/analyze_grounding.py', *files, '--out-dir', case / 'out', *arguments
    )


def test_page(tool, case: Path) -> None:
    done = run(tool, case, '--title', '<script>alert(1)</script>')
    assert done.returncode == 0, done.stderr
    assert '6 sentences, accuracy at IoU 0.5: 50.00 %' in done.stdout
    assert re.search(r'dog +2 +100\.0', done.stdout)
    figures = json.loads((case / 'out/groups.json').read_text())
    assert figures['all']['accuracy'] == 50 and len(figures['groups']) == 4
    assert Image.open(case / 'out/groups.png').size[0] > 800
    text = (case / 'out/index.html').read_text()
    page = Page()
    page.feed(text)
    # Nothing from elsewhere, and nothing that a sentence or title could start.
    assert not {'script', 'b', 'link', 'iframe'} & {tag for tag, _ in page.tags}
    assert not [v for _, attrs in page.tags for v in attrs.values() if v and v.startswith('http')]
    assert '<script>alert(1)</script>' in page.texts
    assert any(attrs.get('alt') == SAMPLES[2][0] for _, attrs in page.tags)
    assert len(page.pictures) == 1 + 2
    for picture in page.pictures:
        kind, encoded = re.fullmatch(r'data:image/(png|jpeg);base64,(.+)', picture).groups()
        Image.open(io.BytesIO(base64.b64decode(encoded))).load()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda dump: dump[1:], 'no prediction for'),
        (lambda dump: [*dump, {**dump[0], 'text': 'other'}], '1 predictions are of no sample'),
        (lambda dump: {'a': 1}, 'expected a list of predictions'),
        (lambda dump: [{'text': 'x'}], 'an entry without pred_instances'),
    ],
)
def test_dumps_of_something_else(change, message: str, case: Path) -> None:
    dump = change(json.loads((case / 'dump.json').read_text()))
    with pytest.raises(ValueError, match=message):
        match_predictions(read(case), dump, 'dump.json')


def test_returned_boxes_by_hand(case: Path) -> None:
    """Two, none, one and three boxes, of sentences with and without direction words."""
    dump = json.loads((case / 'dump.json').read_text())[::-1]  # in the order of SAMPLES
    away = [90, 70, 95, 72]
    for entry, (_, box, *_), places in zip(
        dump, SAMPLES, ('rw', '', 'r', 'wwr', 'w', 'r'), strict=True
    ):
        boxes = [box if place == 'r' else away for place in places]
        entry['pred_num_returned'] = len(boxes)
        boxes = boxes or [box]  # below the threshold: right, but not returned
        entry['pred_instances'].update(
            bboxes=boxes, scores=[0.5] * len(boxes), masks=entry['pred_instances']['masks'] * 3
        )
    records = match_predictions(read(case), dump, 'dump')
    ((title, groups),) = count_returned(records).items()
    assert title == 'Direction words'
    third = pytest.approx(100 / 3)
    assert groups == [
        Returned('all sentences', 6, 8 / 6, *map(pytest.approx, (100 / 6, 200 / 6, 400 / 6, 50))),
        Returned('left, right', 3, pytest.approx(4 / 3), 0, third, 100, 100),
        Returned('top, bottom', 1, 1, 0, 0, 100, 100),
        Returned('order', 1, 1, 0, 0, 100, 100),
        Returned('none of these', 3, pytest.approx(4 / 3), third, third, third, 0),
    ]
    dump[2]['pred_num_returned'] = 9
    with pytest.raises(ValueError, match='boxes for .* but pred_num_returned is 9'):
        count_returned(match_predictions(read(case), dump, 'dump'))
    del dump[2]['pred_num_returned']
    with pytest.raises(ValueError, match='no pred_num_returned for .* which others have'):
        count_returned(match_predictions(read(case), dump, 'dump'))


def test_a_model_that_finds_nothing_is_wrong(case: Path) -> None:
    dump = json.loads((case / 'dump.json').read_text())
    for entry in dump:
        entry['pred_instances'] = dict(bboxes=[], scores=[], labels=[])
    records = match_predictions(read(case), dump, 'dump')
    assert [record.iou for record in records] == [0] * 6
    assert summarize('all', records).accuracy == 0 and len(worst_failures(records, 9)) == 5
    assert count_returned(records) == {}


def test_errors_are_one_line(tool, case: Path) -> None:
    (case / 'dump.json').write_text('{"a": ')
    done = run(tool, case)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert 'dump.json: not a JSON file' in done.stderr


def test_models_with_masks_alone(case: Path) -> None:
    dump = json.loads((case / 'dump.json').read_text())
    for entry in dump:
        del entry['pred_instances']['bboxes']
    records = match_predictions(read(case), dump, 'dump')
    assert len(records) == 5  # the sample without a mask has nothing to compare
    overall = summarize('all', records)
    assert overall.box_miou is None and overall.accuracy == 60
    assert coco_mask.decode(dump[0]['pred_instances']['masks'][0]).shape == (100, 100)
