"""Scenes: the sentences are read back from their words, boxes and masks measured by hand."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import pickletools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from projects.common.errors import InputError
from projects.common.scenes import KINDS, generate_scene, write_dataset, writer
from projects.common.scenes.scene import ObjectSpec, finish_objects

ROOT = Path(__file__).resolve().parents[2]
SIDE = 128
SMALL = {'num_train': 20, 'num_val': 4, 'num_test': 4, 'image_size': SIDE, 'progress': False}


@pytest.fixture(scope='module')
def scenes():
    return [generate_scene(index, seed=3) for index in range(500)]


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp('scenes') / 'set'
    write_dataset(out, workers=2, **SMALL)
    return out


def read_all(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


# A reader of the sentences' words that knows nothing of how they were made.

WORDS = {}
for field, table in {
    'shape': 'circle square triangle star cross heart',
    'color': 'red orange yellow green blue purple',
    'texture': 'plain striped spotted',
    'size': 'small large',
}.items():
    WORDS.update({word: (field, word) for word in table.split()})
WORDS.update(dict.fromkeys(('little', 'smaller', 'smallest'), ('size', 'small')))
WORDS.update(dict.fromkeys(('big', 'bigger', 'biggest', 'larger', 'largest'), ('size', 'large')))
WORDS.update(solid=('texture', 'plain'), dotted=('texture', 'spotted'))
WORDS.update(stripes=('texture', 'striped'), spots=('texture', 'spotted'))
FILLERS = {'the', 'a', 'an', 'with', 'that', 'is', 'and', 'shape', 'object', 'thing', 'one'}

WAYS = {'left': (0, -1), 'right': (0, 1), 'up': (1, -1), 'down': (1, 1)}
RELATION = re.compile(
    r'(?P<target>.+?) (?:that is )?(?:(?:to the |on the )?(?P<side>left|right) of'
    r'|(?P<up>above|higher than)|(?P<down>below|under|lower than)) (?P<anchor>the .+)'
)
ORDINAL = re.compile(r'the (?P<nth>second|third) (?P<rest>.+) from the (?P<way>left|right)')
BEHIND = re.compile(
    r'(?P<rest>.+) (?:on the far|furthest to the|on the|at the) (?P<way>left|right|top|bottom)'
)
BEFORE = re.compile(
    r'the (?P<way>leftmost|left|rightmost|right|topmost|top|highest|higher|upper'
    r'|lowest|lower|bottom) (?P<rest>.+)'
)
WAY_WORDS = {'leftmost': 'left', 'rightmost': 'right'}
WAY_WORDS.update(dict.fromkeys(('topmost', 'top', 'highest', 'higher', 'upper'), 'up'))
WAY_WORDS.update(dict.fromkeys(('lowest', 'lower', 'bottom'), 'down'))


def properties(words):
    """{'color': 'red', ...} of a noun phrase; an unknown word is an error."""
    found = {}
    for word in words.split():
        if word in FILLERS:
            continue
        field, value = WORDS[word]
        assert field not in found, words
        found[field] = value
    return found


def fitting(objects, found):
    return [
        i for i, obj in enumerate(objects) if all(getattr(obj, f) == v for f, v in found.items())
    ]


def read(text):
    """(properties, place or None, relation or None) of a sentence."""
    if match := RELATION.fullmatch(text):
        way = match['side'] or ('up' if match['up'] else 'down')
        return properties(match['target']), None, (way, properties(match['anchor']))
    if match := ORDINAL.fullmatch(text):
        place = {'second': 2, 'third': 3}[match['nth']]
        return properties(match['rest']), (match['way'], place), None
    if match := (BEHIND.fullmatch(text) or BEFORE.fullmatch(text)):
        way = WAY_WORDS.get(match['way'], match['way'])
        return properties(match['rest']), (way, 1), None
    return properties(text), None, None


def middle(obj, axis):
    return (obj.box[axis] + obj.box[axis + 2]) / 2 / SIDE


def test_sentences_fit_one_object_and_need_their_kind(scenes):
    kinds = Counter()
    for scene in scenes:
        objects = scene.objects
        assert 3 <= len(objects) <= 7
        assert 4 <= len(scene.sentences) <= 6
        assert len({s.target for s in scene.sentences}) >= 2
        assert len({s.text for s in scene.sentences}) == len(scene.sentences)
        for sentence in scene.sentences:
            kinds[sentence.kind] += 1
            assert sentence.text == sentence.text.lower().strip()
            found, place, relation = read(sentence.text)
            group = fitting(objects, found)
            assert sentence.target in group, sentence
            if place:
                kind = 'position'
                check_place(objects, group, sentence.target, place)
            elif relation:
                kind = 'relation'
                check_relation(objects, group, sentence.target, relation, sentence.text)
            elif 'size' in found:
                kind = 'size'
                assert group == [sentence.target], sentence
                rest = fitting(objects, {f: v for f, v in found.items() if f != 'size'})
                assert len(rest) > 1, sentence
                check_comparison(sentence.text, len(rest))
            else:
                kind = 'attribute'
                assert group == [sentence.target], sentence
                for field, value in found.items():
                    # Of several words none is enough.
                    assert len(found) == 1 or len(fitting(objects, {field: value})) > 1, sentence
            assert sentence.kind == kind, sentence
    assert set(kinds) == set(KINDS)
    for kind, count in kinds.items():
        assert 0.18 <= count / kinds.total() <= 0.35, (kind, count / kinds.total())


def check_place(objects, group, target, place):
    way, nth = place
    axis, sign = WAYS[way]
    assert len(group) > 1
    steps = {i: -sign * middle(objects[i], axis) for i in group}
    assert sorted(group, key=steps.get).index(target) == nth - 1
    assert all(abs(steps[i] - steps[target]) >= 0.06 - 1e-9 for i in group if i != target)
    if nth == 1:
        edges = {i: -sign * objects[i].box[axis + (2 if sign > 0 else 0)] for i in group}
        assert edges[target] == min(edges.values())


def check_relation(objects, group, target, relation, text):
    way, anchor_words = relation
    axis, sign = WAYS[way]
    (anchor,) = fitting(objects, anchor_words)
    if text.split()[-1] == 'one':
        # 'the square right of the blue one' may mean the blue square, too.
        assert objects[anchor].shape == objects[target].shape
    assert anchor != target
    offset = [middle(objects[target], k) - middle(objects[anchor], k) for k in (0, 1)]
    assert offset[axis] * sign >= 0.08 - 1e-9
    assert offset[axis] * sign >= abs(offset[1 - axis]) - 1e-9
    rivals = [i for i in group if i not in (target, anchor)]
    assert rivals
    for i in rivals:
        assert (middle(objects[i], axis) - middle(objects[anchor], axis)) * sign <= -0.02 + 1e-9


def check_comparison(text, rivals):
    words = set(text.split())
    if words & {'smaller', 'larger', 'bigger'}:
        assert rivals == 2, text
    if words & {'smallest', 'largest', 'biggest'}:
        assert rivals > 2, text


def test_vocabulary_is_moderate(scenes):
    words = {w for scene in scenes for s in scene.sentences for w in s.text.split()}
    assert 50 <= len(words) <= 80


def test_boxes_are_tight_and_masks_do_not_overlap(scenes):
    for scene in scenes[:100]:
        assert scene.masks.sum(axis=0).max() == 1
        for obj, mask in zip(scene.objects, scene.masks):
            ys, xs = np.nonzero(mask)
            assert obj.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert obj.area == len(xs)
            assert obj.visible >= 0.85
            if obj.visible == 1:
                side = max(obj.box[2] - obj.box[0], obj.box[3] - obj.box[1]) / SIDE
                low, high = {'small': (0.17, 0.22), 'large': (0.29, 0.37)}[obj.size]
                # A pixel on either side: pointed corners do not fill theirs.
                assert low - 3 / SIDE <= side <= high + 1 / SIDE, obj
        for i, a in enumerate(scene.objects):
            for b in scene.objects[:i]:
                cover = np.zeros((2, SIDE, SIDE), dtype=bool)
                for plane, (x1, y1, x2, y2) in zip(cover, (a.box, b.box)):
                    plane[y1:y2, x1:x2] = True
                assert cover.all(axis=0).sum() < 0.1 * cover.any(axis=0).sum()


def test_occlusion_by_hand():
    spec = ObjectSpec('square', 'red', 'plain', 'small', (0.5, 0.5), 0.2, 0.0)
    full = np.zeros((2, 40, 40), dtype=bool)
    full[0, 5:15, 5:15] = True
    full[1, 10:20, 13:23] = True  # hides 2 x 5 of the first's 100 pixels
    objects, masks = finish_objects([spec, spec], full)
    assert [o.area for o in objects] == [90, 100]
    assert objects[0].visible == pytest.approx(0.9)
    assert objects[0].box == (5, 5, 15, 15)
    assert not masks[0][10:15, 13:15].any()
    full[1, 5:20, 13:23] = True  # 20 of 100
    assert finish_objects([spec, spec], full) is None


def test_colours_can_be_told_apart(scenes):
    hues = {'red': 356, 'orange': 25, 'yellow': 51, 'green': 132, 'blue': 213, 'purple': 280}
    seen = Counter()
    for scene in scenes[:200]:
        hsv = cv2.cvtColor(scene.image, cv2.COLOR_BGR2HSV)
        for obj, mask in zip(scene.objects, scene.masks):
            inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) > 0
            colorful = hsv[inside & (hsv[..., 1] > 90)]
            # The mean direction, because red lies on both sides of 0.
            angles = np.deg2rad(colorful[:, 0] * 2.0)
            hue = np.rad2deg(np.arctan2(np.sin(angles).mean(), np.cos(angles).mean())) % 360
            nearest = min(hues, key=lambda c: min(abs(hue - hues[c]), 360 - abs(hue - hues[c])))
            assert nearest == obj.color, (obj, hue)
            seen[nearest] += 1
    assert set(seen) == set(hues)


NUMBERS = {
    w: n for n, w in enumerate(['a', 'two', 'three', 'four', 'five', 'six', 'seven'], start=1)
}
NUMBERS['an'] = 1


def test_captions_are_true(scenes):
    inventories = relations = totals = 0
    between = re.compile(
        r'(?:there is )?(an? .+?) (?:is )?((?:to the )?(?:left|right) of|above|below|under)'
        r' (an? .+?)(?: and ((?:to the )?(?:left|right) of|above|below|under) (an? .+))?'
    )
    for scene in scenes:
        assert len(set(scene.captions)) == 5
        for caption in scene.captions:
            if match := re.fullmatch(r'(.+) on a (dark|grey|light) background', caption):
                inventories += 1
                counted = Counter()
                for part in re.split(r', | and ', match[1]):
                    number, color, noun = part.split()
                    noun = noun if NUMBERS[number] == 1 else re.sub(r'(?<=cross)es$|s$', '', noun)
                    counted[color, noun] += NUMBERS[number]
                assert counted == Counter((o.color, o.shape) for o in scene.objects)
                level = scene.image[~scene.masks.any(axis=0)].mean() / 255
                assert match[2] == ('dark' if level < 0.4 else 'light' if level > 0.62 else 'grey')
            elif match := between.fullmatch(caption):
                relations += 1
                first, way, second, way2, third = match.groups()
                claims = [(way, second)] + ([(way2, third)] if way2 else [])
                assert any(
                    all(holds(scene, i, w, words) for w, words in claims)
                    for i in fitting(scene.objects, properties(first))
                ), caption
            elif match := re.search(r'(\w+) shapes, (\w+) of them large', caption):
                totals += 1
                assert NUMBERS[match[1]] == len(scene.objects)
                large = 1 if match[2] == 'one' else NUMBERS[match[2]]
                assert large == sum(o.size == 'large' for o in scene.objects)
    assert inventories == len(scenes)
    assert relations == 2 * len(scenes)
    assert totals > len(scenes) / 2
    assert len({c for scene in scenes for c in scene.captions}) > 0.98 * 5 * len(scenes)


def holds(scene, i, way, words):
    way = {'above': 'up', 'below': 'down', 'under': 'down'}.get(way) or way.split()[-2]
    axis, sign = WAYS[way]
    own = middle(scene.objects[i], axis)
    return any(
        (own - middle(scene.objects[j], axis)) * sign >= 0.08 - 1e-9
        for j in fitting(scene.objects, properties(words))
        if j != i
    )


def test_tags_are_the_classes(scenes):
    for scene in scenes:
        assert list(scene.tags) == sorted({o.shape for o in scene.objects})


@pytest.mark.parametrize('side', [64, 200, 448, 1024])
def test_other_sizes(side):
    scene = generate_scene(0, image_size=side)
    assert scene.image.shape == (side, side, 3)
    assert scene.image.dtype == np.uint8
    assert scene.masks.shape == (len(scene.objects), side, side)
    for obj in scene.objects:
        longer = max(obj.box[2] - obj.box[0], obj.box[3] - obj.box[1]) / side
        assert (longer > 0.24) == (obj.size == 'large')


def test_files_do_not_depend_on_workers(written, tmp_path):
    write_dataset(tmp_path / 'one', workers=1, **SMALL)
    assert read_all(written) == read_all(tmp_path / 'one')
    write_dataset(tmp_path / 'other', workers=1, seed=1, **SMALL)
    images = [
        {hashlib.md5(p.read_bytes()).digest() for p in (folder / 'images').iterdir()}
        for folder in (written, tmp_path / 'other')
    ]
    assert len(images[0]) == 28  # no image repeats across splits
    assert not images[0] & images[1]


def test_a_worker_that_ends_is_an_error_and_no_endless_wait():
    with pytest.raises(InputError, match=r'one of 2 processes was killed.*__main__'):
        list(writer._map(os._exit, [1] * 4, 2))


def test_coco_files(written):
    coco = COCO(str(written / 'scenes' / 'instances.json'))
    assert len(coco.imgs) == 28
    assert [c['id'] for c in coco.dataset['categories']] == [1, 2, 3, 4, 5, 6]
    assert {'info', 'licenses', 'images', 'annotations', 'categories'} <= set(coco.dataset)
    for image_id, image in coco.imgs.items():
        split, number = re.fullmatch(r'(train|val|test)_(\d{6})\.png', image['file_name']).groups()
        scene = generate_scene(int(number), split=split)
        pixels = cv2.imread(str(written / 'images' / image['file_name']))
        assert np.array_equal(pixels, scene.image)
        assert (image['height'], image['width']) == pixels.shape[:2]
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
        assert len(annotations) == len(scene.objects)
        for annotation, obj, mask in zip(annotations, scene.objects, scene.masks):
            assert np.array_equal(coco.annToMask(annotation).astype(bool), mask)
            assert coco.cats[annotation['category_id']]['name'] == obj.shape
            x, y, w, h = annotation['bbox']
            assert (x, y, x + w, y + h) == obj.box
            assert annotation['area'] == mask.sum()
            assert annotation['iscrowd'] == 0
            assert annotation['attributes'] == {
                'color': obj.color,
                'texture': obj.texture,
                'size': obj.size,
            }


def test_split_files(written):
    everything = json.loads((written / 'scenes' / 'instances.json').read_text())
    annotations = []
    for split, count in {'train': 20, 'val': 4, 'test': 4}.items():
        folder = written / 'annotations'
        instances = json.loads((folder / f'instances_{split}.json').read_text())
        annotations += instances['annotations']
        names = {image['id']: image['file_name'] for image in instances['images']}
        assert len(names) == count
        classes = {c['id']: c['name'] for c in instances['categories']}
        present = {name: set() for name in names.values()}
        for annotation in instances['annotations']:
            present[names[annotation['image_id']]].add(classes[annotation['category_id']])
        tags = json.loads((folder / f'tags_{split}.json').read_text())
        assert {name: set(t) for name, t in tags.items()} == present
        captions = json.loads((folder / f'captions_{split}.json').read_text())
        assert Counter(c['image_id'] for c in captions['annotations']) == dict.fromkeys(names, 5)
    assert annotations == everything['annotations']


def test_refs(written):
    content = (written / 'scenes' / 'refs(scenes).p').read_bytes()
    operations = list(pickletools.genops(content))
    assert operations[0][1] == 2  # protocol
    # Plain containers only: nothing that a restricted unpickler has to admit.
    assert not {op.name for op, _, _ in operations} & {'GLOBAL', 'REDUCE', 'NEWOBJ', 'BUILD'}
    refs = pickle.loads(content)
    instances = json.loads((written / 'scenes' / 'instances.json').read_text())
    annotations = {a['id']: a for a in instances['annotations']}
    images = {i['id']: i for i in instances['images']}
    assert len({r['ref_id'] for r in refs}) == len(refs)
    assert len({r['ann_id'] for r in refs}) == len(refs)
    sent_ids = [i for r in refs for i in r['sent_ids']]
    assert len(set(sent_ids)) == len(sent_ids)
    for ref in refs:
        annotation = annotations[ref['ann_id']]
        assert annotation['image_id'] == ref['image_id']
        assert annotation['category_id'] == ref['category_id']
        assert images[ref['image_id']]['file_name'] == ref['file_name']
        assert ref['file_name'].startswith(ref['split'] + '_')
        assert [s['sent_id'] for s in ref['sentences']] == ref['sent_ids']
        for sentence in ref['sentences']:
            assert sentence['tokens'] == sentence['sent'].split()
            assert sentence['kind'] in KINDS
    described = Counter(r['image_id'] for r in refs)
    assert set(described) == set(images)
    assert min(described.values()) >= 2


def test_kept_redone_or_refused(tmp_path):
    out = tmp_path / 'set'
    few = dict(SMALL, num_train=3, num_val=1, num_test=1)
    summary = write_dataset(out, **few)
    assert summary['images'] == 5
    assert sum(summary['sentences_by_kind'].values()) == summary['sentences']
    before = read_all(out)

    # The same arguments: nothing is touched.
    stamp = (out / 'images' / 'train_000000.png').stat().st_mtime_ns
    assert write_dataset(out, **few) == summary
    assert (out / 'images' / 'train_000000.png').stat().st_mtime_ns == stamp

    # An interrupted run: its manifest does not say complete.
    manifest = json.loads((out / 'scenes.json').read_text())
    (out / 'scenes.json').write_text(json.dumps(dict(manifest, complete=False)))
    (out / 'images' / 'train_000001.png').write_bytes(b'half a pict')
    write_dataset(out, **few)
    assert read_all(out) == before

    # Other arguments: no old image stays, a foreign file does.
    (out / 'images' / 'mine.png').write_bytes(b'')
    write_dataset(out, **dict(few, num_train=2))
    names = sorted(os.listdir(out / 'images'))
    assert names == [
        'mine.png', 'test_000000.png', 'train_000000.png', 'train_000001.png', 'val_000000.png'
    ]  # fmt: skip

    foreign = tmp_path / 'foreign'
    foreign.mkdir()
    (foreign / 'thesis.txt').write_text('precious')
    with pytest.raises(FileExistsError, match='foreign: found a folder with other content'):
        write_dataset(foreign, **few)
    assert os.listdir(foreign) == ['thesis.txt']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'image_size': 32}, 'image_size: found 32'),
        ({'num_val': -1}, 'num_val: found -1'),
        ({'workers': 0}, 'workers: found 0, 0'),
    ],
)
def test_bad_arguments(tmp_path, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_dataset(tmp_path / 'set', **dict(SMALL, **change))
    assert not (tmp_path / 'set').exists()


def test_command_line(tmp_path):
    command = [sys.executable, str(ROOT / 'tools/misc/generate_scenes.py'), str(tmp_path / 'set')]
    command += ['--train', '2', '--val', '1', '--test', '1', '--size', '64', '--quiet']
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '4 images' in done.stdout
    command[2] = str(ROOT / 'tools')
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
