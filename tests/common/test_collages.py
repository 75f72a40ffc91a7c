"""Scenes of cut-outs: sentences are read back, masks composited again, files compared."""

from __future__ import annotations

import json
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
from projects.common.scenes import collage, write_collages
from projects.common.scenes.captions import plural
from projects.common.scenes.collage import collage_vocabulary, make_collage
from projects.common.scenes.cutouts import (
    find_backgrounds,
    find_cutouts,
    frequent,
    hold_out,
    hold_out_cutouts,
    read_cutout,
)

ROOT = Path(__file__).resolve().parents[2]
SIDE = 64
COLORS = {'red': (30, 30, 220), 'green': (40, 200, 40), 'blue': (220, 60, 30)}  # BGR
SMALL = dict(num_train=20, num_val=4, num_test=6, num_test_seen=6, image_size=SIDE, progress=False)


def draw_cutout(path, color, kind, side=40):
    """A disc, a bar or a ring with a soft edge and garbage where alpha is 0."""
    image = np.full((side, side + 6, 4), (255, 0, 255, 0), np.uint8)
    alpha = np.zeros((side * 4, (side + 6) * 4), np.uint8)
    middle = ((side + 6) * 2, side * 2)
    if kind == 'bar':
        cv2.rectangle(alpha, (10, side), ((side + 4) * 4, side * 3), 255, -1)
    else:
        cv2.circle(alpha, middle, side * 2 - 8, 255, 30 if kind == 'ring' else -1)
    image[..., 3] = cv2.resize(alpha, (side + 6, side), interpolation=cv2.INTER_AREA)
    image[image[..., 3] > 0, :3] = color
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Five discs, four bars and two rings, of which one color is unknown; four photographs."""
    root = tmp_path_factory.mktemp('things')
    rows = ['file,name,color,flip']
    for name, count in (('disc', 5), ('bar', 4), ('key ring', 2)):
        for i in range(count):
            color = list(COLORS)[i % 3]
            draw_cutout(root / 'cutouts' / f'{name}{i}.png', COLORS[color], name.split()[-1])
            rows.append(f'{name}{i}.png,{name},{color if i != 3 else ""},{"no" if i else "yes"}')
    (root / 'cutouts' / 'names.csv').write_text('\n'.join(rows))
    rng = np.random.default_rng(0)
    (root / 'backgrounds').mkdir()
    for i in range(4):
        grain = rng.integers(90, 150, (90 + i, 120, 3), np.uint8)
        cv2.imwrite(str(root / 'backgrounds' / f'{i}.png'), cv2.blur(grain, (5, 5)))
    return root


@pytest.fixture(scope='module')
def written(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp('set') / 'one'
    write_collages(out, folders / 'cutouts', folders / 'backgrounds', workers=1, **SMALL)
    return out


@pytest.fixture(scope='module')
def scenes(folders):
    """Scenes with what was pasted for each, in order."""
    cutouts, adjectives = find_cutouts(folders / 'cutouts')
    pools = {name: [c for c in cutouts if c.name == name] for name in {c.name for c in cutouts}}
    backgrounds = find_backgrounds(folders / 'backgrounds', SIDE)
    pasted = []
    with pytest.MonkeyPatch.context() as patch:

        def paste(image, each, original=collage.paste_patch):
            pasted[-1].append(each)
            original(image, each)

        patch.setattr(collage, 'paste_patch', paste)
        made = []
        for i in range(120):
            pasted.append([])
            rng = np.random.default_rng(i)
            made.append(make_collage(rng, pools, backgrounds, SIDE, collage_vocabulary(adjectives)))
    return list(zip(made, pasted))


# A reader of sentences that knows nothing of how they were made.

SIZES = dict.fromkeys(('small', 'little', 'smaller', 'smallest'), 'small')
SIZES |= dict.fromkeys(('large', 'big', 'larger', 'bigger', 'largest', 'biggest'), 'large')
FILLERS = {'the', 'a', 'an', 'that', 'is', 'object', 'thing', 'one'}
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
WAY_OF = {'leftmost': 'left', 'rightmost': 'right'}
WAY_OF |= dict.fromkeys(('topmost', 'top', 'highest', 'higher', 'upper'), 'up')
WAY_OF |= dict.fromkeys(('lowest', 'lower', 'bottom'), 'down')


def describe(words):
    found = {}
    for word in words.replace('key ring', 'key_ring').split():
        if word in FILLERS:
            continue
        field = 'size' if word in SIZES else 'color' if word in COLORS else 'name'
        assert field not in found, words
        found[field] = SIZES.get(word, word.replace('_', ' '))
    assert found.get('name', 'disc') in ('disc', 'bar', 'key ring'), words
    return found


def fitting(objects, words):
    """Objects that fit for sure; no object may fit or not depending on a color nobody knows."""
    found = describe(words)
    sure = []
    for i, obj in enumerate(objects):
        known = {'size': obj.size, 'name': obj.name, 'color': dict(obj.properties).get('color')}
        answers = {None if known[f] is None else known[f] == v for f, v in found.items()}
        assert False in answers or None not in answers, words
        if False not in answers:
            sure.append(i)
    return sure


def middle(obj, axis):
    return (obj.box[axis] + obj.box[axis + 2]) / 2 / SIDE


def referred(objects, text):
    """Indices of the objects that a sentence is true of, and its kind."""
    if match := RELATION.fullmatch(text):
        axis, sign = WAYS[match['side'] or ('up' if match['up'] else 'down')]
        (anchor,) = fitting(objects, match['anchor'])
        group = [i for i in fitting(objects, match['target']) if i != anchor]
        assert len(group) > 1
        limit = middle(objects[anchor], axis)
        return [i for i in group if (middle(objects[i], axis) - limit) * sign > 0], 'relation'
    match = ORDINAL.fullmatch(text) or BEHIND.fullmatch(text) or BEFORE.fullmatch(text)
    if match:
        nth = {'second': 2, 'third': 3}[match['nth']] if 'nth' in match.groupdict() else 1
        axis, sign = WAYS[WAY_OF.get(match['way'], match['way'])]
        group = fitting(objects, match['rest'])
        assert len(group) > 1
        ordered = sorted(group, key=lambda i: -sign * middle(objects[i], axis))
        # Nothing depends on a hair's breadth.
        steps = [middle(objects[i], axis) for i in ordered]
        gaps = np.abs(np.diff(steps))
        assert gaps[max(0, nth - 2) : nth].min() >= 0.06 - 1e-9
        return [ordered[nth - 1]], 'position'
    return fitting(objects, text), 'size' if 'size' in describe(text) else 'attribute'


def test_sentences_fit_one_object(scenes):
    kinds = Counter()
    mentioned = Counter()
    for scene, _ in scenes:
        assert 3 <= len(scene.objects) <= 5
        assert 4 <= len(scene.sentences) <= 6
        for sentence in scene.sentences:
            found, kind = referred(scene.objects, sentence.text)
            assert found == [sentence.target], (sentence, scene.objects)
            assert kind == sentence.kind, sentence
            kinds[kind] += 1
            mentioned.update(sentence.text.split())
            if kind == 'size':
                rest = [w for w in sentence.text.split() if w not in SIZES]
                assert len(fitting(scene.objects, ' '.join(rest))) > 1
    assert set(kinds) == {'attribute', 'size', 'position', 'relation'}
    assert {'disc', 'bar', 'ring', 'red', 'green', 'blue', 'second'} <= set(mentioned)


def test_masks_are_what_is_visible(scenes):
    hidden = 0
    for scene, pasted in scenes:
        assert len(pasted) == len(scene.objects) == len(scene.masks)
        owner = np.full((SIDE, SIDE), -1)
        areas = []
        for number, patch in enumerate(pasted):
            x, y = patch.origin
            area = 0
            for row, column in zip(*np.nonzero(patch.alpha >= 0.5)):
                if 0 <= y + row < SIDE and 0 <= x + column < SIDE:
                    owner[y + row, x + column] = number
                    area += 1
            areas.append(area)
        for number, (obj, mask) in enumerate(zip(scene.objects, scene.masks)):
            assert np.array_equal(mask, owner == number)
            rows, columns = np.nonzero(mask)
            assert obj.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert obj.area == mask.sum()
            assert obj.visible == pytest.approx(obj.area / areas[number])
            assert obj.visible >= 0.6
            hidden += obj.visible < 1
    assert hidden > 20  # objects do hide others


def test_pixels_are_the_cutouts(scenes):
    """The inside of a mask has the color of its cut-out; what is transparent never shows."""
    for scene, _ in scenes[:40]:
        for obj, mask in zip(scene.objects, scene.masks):
            inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
            if inside.sum() > 20 and obj.name != 'key ring':
                index = int(re.findall(r'\d', obj.cutout)[0]) % 3
                color = np.array(list(COLORS.values())[index], float)
                mean = scene.image[inside].mean(axis=0)
                cosine = mean @ color / np.linalg.norm(mean) / np.linalg.norm(color)
                assert cosine > 0.98, (obj, mean)
        magenta = (scene.image[..., [0, 2]].min(axis=2) > 200) & (scene.image[..., 1] < 60)
        assert not magenta.any()


def test_sizes(scenes):
    for scene, _ in scenes:
        for obj in scene.objects:
            side = max(obj.box[2] - obj.box[0], obj.box[3] - obj.box[1]) / SIDE
            if obj.visible == 1:
                low, high = {'small': (0.20, 0.27), 'large': (0.36, 0.48)}[obj.size]
                assert low - 3 / SIDE <= side <= high + 3 / SIDE, obj


def test_captions_count_right(scenes):
    numbers = dict(a=1, an=1, two=2, three=3, four=4, five=5)
    inventories = 0
    for scene, _ in scenes:
        assert len(scene.captions) == 5
        assert scene.tags == tuple(sorted({o.name for o in scene.objects}))
        counted = Counter(o.name for o in scene.objects)
        for caption in scene.captions:
            parts = [part.split(' ', 1) for part in re.split(r', | and ', caption)]
            if all(len(p) == 2 and p[0] in numbers for p in parts):
                said = Counter()
                for number, words in parts:
                    noun = words if numbers[number] == 1 else re.sub(r's$', '', words)
                    said[noun] += numbers[number]
                if set(said) <= set(counted) and said.total() == len(scene.objects):
                    inventories += 1
                    assert said == counted, caption
            if match := re.search(r'(\w+) objects, (\w+) of them large', caption):
                large = 1 if match[2] == 'one' else numbers[match[2]]
                assert numbers[match[1]] == len(scene.objects)
                assert large == sum(o.size == 'large' for o in scene.objects)
    assert inventories >= len(scenes)


def test_plurals():
    for noun, expected in {
        'cross': 'crosses', 'fish': 'fish', 'cherry': 'cherries', 'toy': 'toys', 'knife': 'knives',
        'tennis ball': 'tennis balls', 'sheep': 'sheep', 'mouse': 'mice', 'star': 'stars',
    }.items():  # fmt: skip
        assert plural(noun) == expected


def test_held_out_objects_are_not_in_training(written):
    manifest = json.loads((written / 'scenes.json').read_text())
    held = {file for files in manifest['held_out_cutouts'].values() for file in files}
    assert set(manifest['held_out_cutouts']) == {'bar', 'disc', 'key ring'}
    assert all(len(files) == 1 for files in manifest['held_out_cutouts'].values())
    assert len(manifest['held_out_backgrounds']) == 1
    shown = {}
    for split in ('train', 'val', 'test', 'test_seen'):
        coco = json.loads((written / f'annotations/instances_{split}.json').read_text())
        shown[split] = {a['attributes']['cutout'] for a in coco['annotations']}
    assert not shown['train'] & held
    assert not shown['test_seen'] & held
    assert shown['val'] <= held
    assert shown['test'] == held
    assert shown['test_seen'] <= shown['train']


def test_annotations(written):
    coco = COCO(str(written / 'scenes/instances.json'))
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == ['bar', 'disc', 'key ring']
    assert len(coco.imgs) == 36
    for image in coco.imgs.values():
        owner = np.zeros((SIDE, SIDE), int)
        assert (written / 'images' / image['file_name']).is_file()
        for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
            mask = coco.annToMask(annotation)
            owner += mask
            x, y, w, h = annotation['bbox']
            rows, columns = np.nonzero(mask)
            assert (x, y) == (columns.min(), rows.min())
            assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
            assert annotation['area'] == mask.sum()
        assert owner.max() == 1


def read_all(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_files_do_not_depend_on_workers(written, folders, tmp_path):
    arguments = (folders / 'cutouts', folders / 'backgrounds')
    write_collages(tmp_path / 'two', *arguments, workers=2, **SMALL)
    assert read_all(written) == read_all(tmp_path / 'two')
    before = read_all(tmp_path / 'two')
    write_collages(tmp_path / 'two', *arguments, seed=1, **SMALL)
    after = read_all(tmp_path / 'two')
    same = {p for p in before if p.suffix == '.png' and before[p] == after[p]}
    assert set(before) == set(after) and not same


def test_names_of_files_and_folders(tmp_path):
    for file in ('dog.png', 'dog_2.png', 'fire_truck-10.png', 'cat/1.png', 'cat/black_3.png'):
        draw_cutout(tmp_path / file, (0, 0, 255), 'disc')
    cutouts, adjectives = find_cutouts(tmp_path)
    names = {cutout.file: cutout.name for cutout in cutouts}
    assert names == {
        'dog.png': 'dog', 'dog_2.png': 'dog', 'fire_truck-10.png': 'fire truck',
        'cat/1.png': 'cat', 'cat/black_3.png': 'cat',
    }  # fmt: skip
    assert adjectives == ()


def test_shares_that_are_held_out(tmp_path):
    rng = np.random.default_rng(0)
    assert hold_out(1, 0.5, rng) == set()
    assert len(hold_out(2, 0.01, rng)) == 1
    assert len(hold_out(10, 0.2, rng)) == 2
    assert len(hold_out(3, 0.99, rng)) == 2
    assert hold_out(10, 0.0, rng) == set()
    for i in range(10):
        draw_cutout(tmp_path / f'dog_{i}.png', (0, 0, 255), 'disc')
    draw_cutout(tmp_path / 'cat.png', (0, 0, 255), 'disc')
    cutouts, _ = find_cutouts(tmp_path)
    splits = [hold_out_cutouts(cutouts, 0.2, seed) for seed in range(6)]
    for seen, held in splits:
        assert [c.name for c in held] == ['dog', 'dog']
        assert {c.file for c in seen} | {c.file for c in held} == {c.file for c in cutouts}
    assert len({tuple(c.file for c in held) for _, held in splits}) > 1
    with pytest.raises(InputError, match='^dir: found 1 name with at least 2 cut-outs, expected'):
        frequent(cutouts, 2, 'dir')


TABLES = {
    'file,title\na.png,x': "found columns ['file', 'title'], expected 'file' and 'name'",
    'file,name\na.png,x\na.png,y': ":3: found 'a.png' a second time",
    'file,name\nb.png,x': ':2: found no file',
    'file,name\na.png,': ":2: found the name '', expected words",
    'file,name\na.png,x,y': ':2: found 3 cells, expected 2',
    'file,name\na.png,small dog': "found the name 'small dog', expected none with a word",
    'file,name,flip\na.png,x,maybe': ":2: flip: found 'maybe', expected 'yes' or 'no'",
    'file,name,size\na.png,x,big': "expected no 'size' and no 'cutout'",
    'file,name\n': 'found no rows, expected cut-outs',
}


@pytest.mark.parametrize(('table', 'message'), TABLES.items())
def test_bad_tables(tmp_path, table, message):
    draw_cutout(tmp_path / 'a.png', (0, 0, 255), 'disc')
    (tmp_path / 'names.csv').write_text(table)
    with pytest.raises(InputError) as error:
        find_cutouts(tmp_path)
    assert message in str(error.value) and '\n' not in str(error.value)


def test_bad_images(tmp_path):
    cv2.imwrite(str(tmp_path / 'opaque.png'), np.zeros((20, 20, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'empty.png'), np.zeros((20, 20, 4), np.uint8))
    (tmp_path / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\n' + b'x' * 30)
    for name, message in {
        'opaque.png': 'found no alpha channel (mode RGB)',
        'empty.png': 'found 0 x 0 pixels with an alpha of at least 128',
        'broken.png': 'not readable',
    }.items():
        with pytest.raises(InputError) as error:
            read_cutout(str(tmp_path / name))
        assert message in str(error.value) and name in str(error.value)
        assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'image_size': 100}, '0.png: found 120 x 90 pixels, expected at least 100 x 100'),
        ({'held_out': 1.0}, 'held_out: found 1.0, expected a share from 0 to less than 1'),
        (
            {'min_cutouts': 9},
            'cutouts: found 0 names with at least 9 cut-outs, expected at least 2',
        ),
        ({'num_test_seen': -1}, 'num_test_seen: found -1'),
    ],
)
def test_bad_arguments(folders, tmp_path, change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        write_collages(
            tmp_path / 'set',
            folders / 'cutouts',
            folders / 'backgrounds',
            **(SMALL | change),
        )
    assert not (tmp_path / 'set').exists()


def test_nothing_held_out(folders, tmp_path):
    summary = write_collages(
        tmp_path, folders / 'cutouts', folders / 'backgrounds', held_out=0, **SMALL
    )
    assert summary['counts'] == {'train': 20, 'val': 4, 'test': 6, 'test_seen': 0}
    assert summary['held_out_cutouts'] == {} and summary['held_out_backgrounds'] == []


def test_command_line(folders, tmp_path):
    command = [sys.executable, str(ROOT / 'tools/misc/generate_scenes.py'), str(tmp_path / 'set')]
    command += ['--train', '3', '--val', '1', '--test', '1', '--size', '64', '--quiet']
    command += ['--test-seen', '1', '--cutouts', str(folders / 'cutouts')]
    command += ['--backgrounds', str(folders / 'backgrounds')]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '6 images' in done.stdout and '3 names, 11 cut-outs, 3 of them held out' in done.stdout
