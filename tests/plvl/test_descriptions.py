"""Sentences about boxes fit one object, and nobody can take them to mean another one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from projects.common.errors import InputError
from projects.plvl.datasets import JSONLinesGroundingDataset, Target
from projects.plvl.descriptions.colors import COLORS, color_shares, has_cast
from projects.plvl.descriptions.make import describe_photo, split_by_image, with_colors
from projects.plvl.descriptions.photo import Photo, PhotoObject, similar_nouns
from projects.plvl.descriptions.propose import Rules
from projects.plvl.descriptions.read_back import read_back
from projects.plvl.descriptions.sources import read_photos

W, H = 400, 300
EVERYTHING = 100


def thing(noun, x, y, w=40, h=40, **options) -> PhotoObject:
    """An object by the center and the sides of its box."""
    box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    return PhotoObject(noun, box, Target(list(box)), **options)


def photo(*objects) -> Photo:
    return Photo('a.jpg', W, H, objects)


def texts(picture: Photo, index: int, **rules) -> set[str]:
    """All sentences about an object."""
    target = picture.objects[index].target
    return {
        sentence.text
        for reference in describe_photo(picture, 0, EVERYTHING, Rules(**rules))
        if reference.targets[0] is target
        for sentence in reference.sentences
    }


def half(noun: str, side: str) -> set[str]:
    wordings = 'on the {} side', 'on the {} side of the picture', 'in the {} half of the picture'
    return {f'the {noun} {words.format(side)}' for words in wordings}


RED, BLUE = {'red': 0.8}, {'blue': 0.7}


# --------------------------------------------------------------------------------- what is said


def test_one_of_its_class():
    picture = photo(thing('dog', 100, 200), thing('car', 300, 200))
    assert texts(picture, 0) == {'the dog', *half('dog', 'left')}


def test_one_of_two():
    picture = photo(thing('dog', 100, 200), thing('dog', 300, 200))
    assert texts(picture, 0) == {'the left dog', 'the dog on the left', *half('dog', 'left')}
    assert {text.replace('left', 'right') for text in texts(picture, 0)} == texts(picture, 1)


def test_one_of_three_in_a_row():
    picture = photo(*(thing('cup', x, 150) for x in (60, 200, 330)))
    outer = {'the leftmost cup', 'the cup on the far left', 'the cup furthest to the left'}
    assert outer <= texts(picture, 0)
    second = {f'the second cup from the {side}' for side in ('left', 'right')}
    assert texts(picture, 1) == {'the middle cup', 'the cup in the middle', *second}


def test_order_from_top_to_bottom():
    picture = photo(thing('box', 200, 60), thing('box', 205, 240))
    assert texts(picture, 0) == {'the upper box', 'the top box'}
    assert texts(picture, 1) == {'the lower box', 'the bottom box'}
    assert texts(photo(thing('person', 200, 60), thing('person', 205, 240)), 0) == set()
    # rather left and right than above and below
    sideways = photo(thing('box', 100, 90), thing('box', 300, 210))
    assert not {text for text in texts(sideways, 0) if 'up' in text or 'top' in text}


@pytest.mark.parametrize(('gap', 'told'), [(0.079, False), (0.081, True)])
def test_nearly_equal_places_are_no_order(gap, told):
    """0.08 of the width: three narrow posts, of which the first two are near each other."""
    posts = [thing('post', x, 150, w=14, h=120) for x in (60, 60 + gap * W, 350)]
    assert ('the leftmost post' in texts(photo(*posts), 0)) == told
    assert 'the rightmost post' in texts(photo(*posts), 2)


def test_outermost_by_its_edge_too():
    """The center of the first boat is further left, but the second one begins there."""
    picture = photo(thing('boat', 160, 110, w=60), thing('boat', 200, 150, w=200, h=60))
    assert texts(picture, 0) == {'the smaller boat'}


@pytest.mark.parametrize(('side', 'told'), [(53, False), (54, True)])
def test_clearly_larger(side, told):
    """1.8 times the area: 40 x 40 and 53.7 x 53.7."""
    picture = photo(thing('cup', 190, 150), thing('cup', 215, 150, w=side, h=side))
    assert ({'the larger cup', 'the bigger cup'} <= texts(picture, 1)) == told
    assert ('the smaller cup' in texts(picture, 0)) == told
    wide = photo(thing('cup', 190, 150), thing('cup', 260, 150, w=120, h=40))
    assert 'the larger cup' not in texts(wide, 1)


def test_what_the_border_cuts_is_not_small():
    picture = photo(thing('cup', 20, 150), thing('cup', 150, 150, w=80, h=80))
    assert 'the smaller cup' not in texts(picture, 0)
    assert 'the larger cup' in texts(picture, 1)


def test_colors_only_where_they_tell_apart():
    cars = thing('car', 150, 200, shares=RED), thing('car', 170, 100, shares=BLUE)
    assert 'the red car' in texts(photo(*cars), 0)
    assert texts(photo(cars[0]), 0) >= {'the car'}
    assert not {text for text in texts(photo(cars[0]), 0) if 'red' in text}
    for other in ({}, {'red': 0.3}, {'orange': 0.5}, {'gray': 0.5, 'brown': 0.3}):
        picture = photo(cars[0], replace(cars[1], shares=other))
        assert 'the red car' not in texts(picture, 0), other
    unclear = photo(replace(cars[0], shares={'red': 0.55}), cars[1])
    assert 'the red car' not in texts(unclear, 0)


def test_clothes():
    people = [thing('person', x, 150, h=120, shares=c) for x, c in ((190, RED), (215, BLUE))]
    assert texts(photo(*people), 0) == {'the person in red'}


def test_neighbors():
    """Two dogs, of which one is at the car; the cat is on the other side."""
    picture = photo(
        thing('dog', 250, 200), thing('dog', 40, 200), thing('car', 315, 190, w=80, h=60)
    )
    beside = {f'the dog {word} the car' for word in ('next to', 'beside', 'right next to')}
    assert beside <= texts(picture, 0)
    assert not {text for text in texts(picture, 1) if 'car' in text}
    # left of the car are both
    assert not {text for text in texts(picture, 0) if 'left' in text and 'car' in text}
    twice = photo(*picture.objects[:2], thing('car', 315, 190, w=80, h=60), thing('car', 60, 50))
    assert not {text for text in texts(twice, 0) if 'car' in text}


def test_sides_of_a_neighbor():
    picture = photo(thing('dog', 60, 200), thing('dog', 290, 200), thing('car', 180, 190, w=80))
    assert {'the dog left of the car', 'the dog to the left of the car'} <= texts(picture, 0)
    assert {'the dog right of the car', 'the dog on the right of the car'} <= texts(picture, 1)


def test_what_somebody_carries_is_no_neighbor():
    picture = photo(
        thing('person', 100, 150, h=200, w=90),
        thing('backpack', 110, 120),
        thing('truck', 190, 120),
    )
    assert 'the truck' in texts(picture, 2)
    assert not {text for text in texts(picture, 2) if 'backpack' in text}
    assert not {text for text in texts(picture, 1) if 'truck' in text}


def test_groups_silence_their_class():
    dogs = thing('dog', 100, 200), thing('dog', 300, 200)
    crowd = thing('dog', 200, 100, w=300, crowd=True)
    picture = photo(*dogs, crowd, thing('car', 340, 120))
    assert [texts(picture, i) for i in range(3)] == [set()] * 3
    assert 'the car' in texts(picture, 3)
    assert not {text for text in texts(picture, 3) if 'dog' in text}


def test_difficult_and_small_objects_count_but_are_not_described():
    for options in (dict(hard=True), dict(w=10, h=10)):
        picture = photo(thing('dog', 100, 200), thing('dog', 300, 200, **options))
        assert 'the dog' not in texts(picture, 0)
        assert 'the left dog' in texts(picture, 0)
        assert texts(picture, 1) == set()


def test_similar_classes():
    picture = photo(thing('car', 150, 200), thing('truck', 180, 200))
    assert texts(picture, 0) == set()  # somebody calls the truck a car
    sides = photo(thing('car', 100, 200), thing('truck', 300, 200))
    assert texts(sides, 0) == half('car', 'left')
    pens = photo(thing('pen', 150, 200), thing('pencil', 180, 200))
    assert 'the pen' in texts(pens, 0)
    assert texts(pens, 0, similar=[('pen', 'pencil')]) == set()
    assert similar_nouns('pen', [('pen', 'pencil')]) == {'pen', 'pencil'}


def test_many_and_doubled_objects():
    row = [thing('cup', 25 + 43 * i, 150) for i in range(9)]
    assert texts(photo(*row), 0) == set()
    assert texts(photo(*row[:8]), 0)
    # two boxes at one place: an object annotated twice, or one before another
    double = photo(thing('cup', 100, 100), thing('cup', 102, 101), thing('cup', 300, 100))
    assert texts(double, 0) == texts(double, 1) == set()


def test_what_annotators_leave_out():
    picture = photo(thing('carrot', 100, 100), thing('toy', 300, 100))
    assert texts(picture, 0) == set() and 'the toy' in texts(picture, 1)
    assert 'the carrot' in texts(photo(thing('carrot', 100, 100, 80, 60)), 0)


def test_names_that_are_words_of_the_language():
    assert texts(photo(thing('left shoe', 100, 100)), 0) == set()
    shares = ({'orange': 1.0}, BLUE)
    orange = photo(*(thing('orange', x, 100, 70, 70, shares=c) for x, c in zip((100, 300), shares)))
    assert 'the left orange' in texts(orange, 0) and 'the orange orange' not in texts(orange, 0)
    assert 'the blue orange' in texts(orange, 1)


def test_several_sentences_are_of_several_kinds():
    picture = photo(
        thing('dog', 60, 200), thing('dog', 250, 190, w=70, h=70, shares=RED),
        thing('car', 345, 190, w=80, h=70),
    )  # fmt: skip
    (dog,) = (r for r in describe_photo(picture, 3, 3) if r.targets[0].box[0] == 215)
    assert len({sentence.kind for sentence in dog.sentences}) == 3
    assert len({sentence.text for sentence in dog.sentences}) == 3


# ---------------------------------------------------------------------------------- independence


def random_photo(rng: np.random.Generator) -> Photo:
    nouns = rng.choice(['dog', 'cup', 'car', 'boat', 'person'], 3, replace=False)
    objects = []
    for _ in range(rng.integers(2, 7)):
        w, h = rng.uniform(25, 110, 2)
        x, y = rng.uniform(w / 2, W - w / 2), rng.uniform(h / 2, H - h / 2)
        color = str(rng.choice(COLORS))
        share = float(rng.uniform(0.3, 1))
        objects.append(thing(str(rng.choice(nouns)), x, y, w, h, shares={color: share}))
    return photo(*objects)


def all_texts(picture: Photo) -> list[set[str]]:
    return [texts(picture, i) for i in range(len(picture.objects))]


SWAP = {'left': 'right', 'right': 'left', 'leftmost': 'rightmost', 'rightmost': 'leftmost'}


def mirrored(text: str) -> str:
    words = text.replace('right next to', 'right-next to').split()
    return ' '.join(SWAP.get(word, word) for word in words).replace(
        'right-next to', 'right next to'
    )


def test_a_mirrored_picture_swaps_left_and_right():
    rng = np.random.default_rng(5)
    count = 0
    for _ in range(25):
        picture = random_photo(rng)
        flipped = tuple(
            replace(o, box=(W - o.box[2], o.box[1], W - o.box[0], o.box[3]))
            for o in picture.objects
        )
        expected = [{mirrored(text) for text in each} for each in all_texts(picture)]
        assert all_texts(replace(picture, objects=flipped)) == expected
        count += sum(map(len, expected))
    assert count > 200


def test_slightly_other_boxes_mean_the_same():
    """Boxes of another annotator, up to 1 % of the image away: the sentences stay unambiguous."""
    rng = np.random.default_rng(6)
    kinds = set()
    row = photo(*(thing('cup', x, 150) for x in (60, 200, 330)))
    for picture in (row, *(random_photo(rng) for _ in range(40))):
        shifts = rng.uniform(-1, 1, (len(picture.objects), 4)) * 0.01 * np.array([W, H, W, H])
        moved = tuple(
            replace(o, box=tuple(np.add(o.box, shift))) for o, shift in zip(picture.objects, shifts)
        )
        for index, found in enumerate(all_texts(picture)):
            for text in found:
                assert read_back(text, replace(picture, objects=moved)) == [index], text
                kinds |= {word for word in text.split() if word != 'the'}
    assert {'second', 'middle', 'larger', 'smallest', 'beside', 'in', 'of', 'leftmost'} <= kinds


def test_sentences_do_not_depend_on_other_images_or_the_order():
    rng = np.random.default_rng(7)
    pictures = [replace(random_photo(rng), name=f'{i}.jpg') for i in range(8)]
    first = {p.name: describe_photo(p, 1) for p in pictures}
    again = {p.name: describe_photo(p, 1) for p in reversed(pictures)}
    assert first == again
    other = {p.name: describe_photo(p, 2) for p in pictures}
    assert first != other


FOUR = photo(
    thing('dog', 50, 100, shares=RED), thing('dog', 200, 110, w=60, h=60, shares=BLUE),
    thing('dog', 330, 90, shares=BLUE), thing('car', 205, 250, w=100), thing('cat', 20, 250),
)  # fmt: skip


@pytest.mark.parametrize(
    ('text', 'meant'),
    [
        ('the car', [3]),
        ('the dog', [0, 1, 2, 4]),  # somebody may call the cat so
        ('the red dog', [0, 4]),  # of unknown color
        ('the leftmost dog', [4]),
        ('the second dog from the left', [0]),
        ('the dog on the far right', [2]),
        ('the third dog from the right', [0]),
        ('the right dog', [0, 1, 2, 4]),  # there are not two
        ('the middle dog', [0, 1, 2, 4]),  # nor three
        ('the blue dog in the middle', [1]),
        ('the largest dog', [1]),
        ('the smallest dog', [0, 2, 4]),
        ('the dog at the top', [2]),
        ('the dog at the bottom', [4]),
        ('the dog next to the car', [1]),
        ('the dog left of the car', [0, 1, 4]),
        ('the dog on the right of the car', [2]),
        ('the car to the left of the dog', []),  # of which?
        ('the dog on the right side of the picture', [2]),
        ('the dog on the left side', [0, 4]),
        ('the dog in the right half of the picture', [2]),
    ],
)
def test_reading_on_its_own(text, meant):
    """By hand: centers are at x = 50, 200, 330, 205 and 20 in an image of 400 x 300 pixels."""
    assert read_back(text, FOUR) == meant


def test_unknown_words_are_an_error():
    with pytest.raises(ValueError, match="'shiny dog': no class"):
        read_back('the shiny dog', FOUR)


# ---------------------------------------------------------------------------------------- colors


PAINTS = {  # BGR
    'red': (30, 20, 200), 'orange': (20, 130, 240), 'yellow': (40, 220, 240),
    'green': (60, 160, 40), 'blue': (200, 80, 30), 'purple': (170, 40, 120),
    'pink': (190, 130, 250), 'brown': (30, 65, 110), 'black': (25, 22, 20),
    'white': (240, 242, 244), 'gray': (128, 130, 126),
}  # fmt: skip


@pytest.mark.parametrize('color', PAINTS)
def test_paints(color):
    image = np.full((H, W, 3), 90, np.uint8)
    image[100:200, 100:200] = PAINTS[color]
    shares = color_shares(image, thing('car', 150, 150, 100, 100))
    assert shares == {color: 1.0}


@pytest.mark.parametrize('paint', [(60, 160, 220), (200, 190, 170), (60, 62, 64), (148, 60, 150)])
def test_what_is_between_colors_has_none(paint):
    """A yellow orange, a bluish white, a dark gray and a purple pink."""
    image = np.full((H, W, 3), paint, np.uint8)
    assert max(color_shares(image, thing('car', 150, 150)).values(), default=0) == 0


def test_the_mask_says_which_pixels():
    image = np.full((H, W, 3), PAINTS['green'], np.uint8)
    image[100:200, 100:140] = PAINTS['red']
    obj = thing('car', 150, 150, 100, 100)
    assert color_shares(image, obj)['green'] > 0.5
    outline = [[100, 100, 140, 100, 140, 200, 100, 200]]
    masked = replace(obj, target=Target(list(obj.box), mask=outline))
    assert color_shares(image, masked) == {'red': 1.0}
    assert color_shares(image, thing('car', 150, 150, 4, 4)) == {}


def test_clothes_are_those_of_the_chest():
    image = np.full((H, W, 3), PAINTS['blue'], np.uint8)
    image[60:120] = PAINTS['red']
    person = thing('person', 100, 150, 60, 240)
    box = [70, 30, 130, 30, 130, 270, 70, 270]
    person = replace(person, target=Target(list(person.box), mask=[box]))
    assert color_shares(image, person)['red'] > 0.6
    lying = replace(person, box=(30.0, 100.0, 270.0, 160.0))
    assert color_shares(image, lying) == {}
    assert color_shares(image, thing('person', 100, 150, 60, 240)) == {}  # no outline


def test_colored_light(tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    image = rng.integers(60, 200, (H, W, 3)).astype(np.uint8)
    assert not has_cast(image)
    green = (image * [0.4, 1.0, 0.4]).astype(np.uint8)
    assert has_cast(green)
    cv2.imwrite(str(tmp_path / 'a.jpg'), green)
    assert with_colors(photo(thing('car', 150, 150)), tmp_path).objects[0].shares == {}
    cv2.imwrite(str(tmp_path / 'a.jpg'), green[:100])
    with pytest.raises(InputError, match='found 400x300 pixels, expected 400x100 as '):
        with_colors(photo(thing('car', 150, 150)), tmp_path)


# ---------------------------------------------------------------------------------------- sources


COCO = dict(
    images=[dict(id=7, file_name='b.jpg', width=W, height=H),
            dict(id=8, file_name='a.jpg', width=W, height=H)],
    categories=[dict(id=3, name='Traffic_Light')],
    annotations=[
        dict(id=1, image_id=7, category_id=3, bbox=[10, 20, 30, 40], iscrowd=0,
             segmentation=[[10, 20, 40, 20, 40, 60]]),
        dict(id=2, image_id=7, category_id=3, bbox=[100, 20, 30, 40], iscrowd=1,
             segmentation=dict(size=[H, W], counts=[100 * H, 500, 299 * H + H - 500])),
    ],
)  # fmt: skip

VOC = """<annotation><filename>a.jpg</filename><size><width>400</width><height>300</height></size>
<object><name>pottedplant</name><difficult>1</difficult>
<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object></annotation>
"""


def test_coco_json(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(COCO))
    (found,) = read_photos(path)  # one has no objects
    assert (found.name, found.width, found.height, found.image_id) == ('b.jpg', W, H, 7)
    light, crowd = found.objects
    assert (light.noun, light.box, light.crowd) == ('traffic light', (10, 20, 40, 60), False)
    assert crowd.crowd and light.target.category == 'Traffic_Light'
    assert light.mask(H, W).sum() == pytest.approx(600, abs=40)  # half of 30 x 40


def test_voc_xml(tmp_path):
    (tmp_path / 'a.xml').write_text(VOC)
    (found,) = read_photos(tmp_path)
    (plant,) = found.objects
    assert (found.name, plant.noun, plant.hard) == ('a.jpg', 'potted plant', True)
    assert plant.box == (10, 20, 40, 60)  # VOC counts from 1
    assert plant.mask(H, W) is None


def changed(**changes) -> dict:
    return {**COCO, 'annotations': [{**COCO['annotations'][0], **changes}]}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (changed(image_id=9), 'annotation 1: image_id: found 9, expected an id of images'),
        (changed(category_id=9), 'annotation 1: category_id: found 9, expected an id of categ'),
        (changed(bbox=[0, 0, 0, 5]), 'annotation 1: degenerate box: bbox'),
        (changed(bbox=[0, 0, 900, 5]), 'annotation 1: degenerate box: bbox'),
        ({**COCO, 'annotations': []}, 'found no object'),
        ({**COCO, 'categories': [dict(id=3, name=' ')]}, "name: found ' ', expected the name"),
        ({**COCO, 'images': [dict(i, file_name='b.jpg') for i in COCO['images']]},
         r'found the image b\.jpg 2 times'),
    ],
)  # fmt: skip
def test_wrong_coco_json(tmp_path, content, message):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as error:
        read_photos(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('<xmin>11</xmin>', '', 'object 1: bndbox/xmin: found None, expected a number'),
        ('<width>400', '<width>wide', "size/width: found 'wide', expected a number"),
        ('<width>400', '<width>0', 'size: invalid size'),
        ('<xmax>40', '<xmax>5', 'object 1: degenerate box'),
        ('pottedplant', ' ', 'object 1: name: found'),
    ],
)
def test_wrong_voc_xml(tmp_path, old, new, message):
    (tmp_path / 'a.xml').write_text(VOC.replace(old, new))
    with pytest.raises(InputError, match=rf'a\.xml: {message}'):
        read_photos(tmp_path)
    (tmp_path / 'a.xml').unlink()
    with pytest.raises(InputError, match='found no .xml file'):
        read_photos(tmp_path)


def test_splits_are_by_image_and_seed():
    names = [f'{i}.jpg' for i in range(50)]
    shares = dict(train=0.7, val=0.1, test=0.2)
    split = split_by_image(names, shares, 0)
    counts = {name: list(split.values()).count(name) for name in shares}
    assert counts == dict(train=35, val=5, test=10) and set(split) == set(names)
    assert split_by_image(names[::-1], shares, 0) == split
    assert split_by_image(names, shares, 1) != split
    assert set(split_by_image(names, dict(train=1.0), 0).values()) == {'train'}
    with pytest.raises(InputError, match='expected a sum of 1'):
        split_by_image(names, dict(train=0.7, val=0.1), 0)


# ------------------------------------------------------------------------------------------ tool


def test_tool_on_photographs(shared_data, tmp_path, call_tool):
    """What it writes is what a dataset reads."""
    sample = shared_data / 'coco_sample'
    source = sample / 'annotations/instances_val2017.json'
    options = (source, '--images', sample / 'val2017', '--val', 0.25)
    tool = 'dataset_converters/describe_boxes.py'
    printed = call_tool(tool, *options, '--out', tmp_path / 'a').out
    annotations = {a['id']: a for a in json.loads(source.read_text())['annotations']}
    images, count = {}, 0
    for split in ('train', 'val'):
        text = (tmp_path / f'a/{split}.jsonl').read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        images[split] = {line['image'] for line in lines}
        dataset = JSONLinesGroundingDataset(
            ann_file=f'{split}.jsonl', data_root=str(tmp_path / 'a'),
            data_prefix=dict(img=str(sample / 'val2017')), pipeline=[],
        )  # fmt: skip
        for sample_ in map(dataset.get_data_info, range(len(dataset))):
            annotation = annotations[sample_['ann_id']]
            x, y, w, h = annotation['bbox']
            box = sample_['instances'][0]['bbox']
            np.testing.assert_allclose(box, [x, y, x + w, y + h], atol=2)  # clipped
            assert not annotation['iscrowd'] and 'mask' in sample_['instances'][0]
            count += 1
        assert f'{split}: {len(dataset):,} sentences about ' in printed
    assert not images['train'] & images['val']
    assert count > 300
    again = call_tool(tool, *options, '--out', tmp_path / 'a', rc=1).err
    assert 'train.jsonl: exists already' in again


def test_tool_on_voc(shared_data, tmp_path, call_tool):
    sample = shared_data / 'voc_sample/VOCdevkit/VOC2012'
    printed = call_tool(
        'dataset_converters/describe_boxes.py', sample / 'Annotations',
        '--images', sample / 'JPEGImages', '--out', tmp_path, '--similar', 'cat,bird',
    ).out  # fmt: skip
    first = (tmp_path / 'train.jsonl').read_bytes()
    assert 'train: ' in printed and first
    again = ('--images', sample / 'JPEGImages', '--out', tmp_path, '--similar', 'bird,cat')
    call_tool('dataset_converters/describe_boxes.py', sample / 'Annotations', *again, '--overwrite')
    assert (tmp_path / 'train.jsonl').read_bytes() == first
    wrong = call_tool(
        'dataset_converters/describe_boxes.py', sample / 'Annotations',
        '--images', sample / 'JPEGImages', '--out', tmp_path / 'b', '--similar', 'cat,brid', rc=1,
    ).err  # fmt: skip
    assert "--similar: found 'brid', expected one of" in wrong
