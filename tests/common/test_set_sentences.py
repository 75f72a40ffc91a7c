"""Sentences about several objects and none, read again by a parser of their words."""

import json
import re

import pytest

from projects.common.scenes import generate_scene, write_dataset

WORDS = {
    'small': ('size', 'small'), 'little': ('size', 'small'), 'smaller': ('size', 'small'),
    'large': ('size', 'large'), 'big': ('size', 'large'),
    'plain': ('texture', 'plain'), 'solid': ('texture', 'plain'),
    'striped': ('texture', 'striped'), 'stripes': ('texture', 'striped'),
    'spotted': ('texture', 'spotted'), 'dotted': ('texture', 'spotted'),
    'spots': ('texture', 'spotted'),
    **{c: ('color', c) for c in ['red', 'orange', 'yellow', 'green', 'blue', 'purple']},
    **{s: ('shape', s) for s in ['circle', 'square', 'triangle', 'star', 'cross', 'heart']},
    **{f'{s}s': ('shape', s) for s in ['circle', 'square', 'triangle', 'star', 'heart']},
    'crosses': ('shape', 'cross'),
}  # fmt: skip
FILLERS = {
    'the', 'a', 'an', 'all', 'both', 'of', 'two', 'three', 'four', 'five', 'six', 'with', 'that',
    'is', 'and', 'shape', 'object', 'thing', 'one', 'shapes', 'objects', 'things', 'ones',
}  # fmt: skip
RELATION = re.compile(
    r' (?:(?:to |on |that is )?(?:the )?(left|right) of|(?:that is )?(above|below)|'
    r'(higher|lower) than|(under)) '
)
NUMBERS = {'two': 2, 'both': 2, 'three': 3, 'four': 4, 'five': 5, 'six': 6}


def fitting(text, objects):
    """Indices of the objects with all properties that a text without relations names."""
    wanted = set()
    for word in text.split():
        assert word in WORDS or word in FILLERS, (word, text)
        if word in WORDS:
            wanted.add(WORDS[word])
    return [i for i, obj in enumerate(objects) if all(getattr(obj, f) == v for f, v in wanted)]


def resolved(text, objects):
    """Indices of the objects that a sentence fits in its weakest reading."""
    parts = RELATION.split(text)
    if len(parts) == 1:
        return fitting(text, objects)
    first, *words, second = parts
    word = next(word for word in words if word)
    axis = 0 if word in ('left', 'right') else 1
    sign = -1 if word in ('left', 'above', 'higher') else 1
    anchors = [objects[i].center[axis] for i in fitting(second, objects)]
    return [
        i
        for i in fitting(first, objects)
        if any((objects[i].center[axis] - at) * sign > 0 for at in anchors)
    ]


@pytest.fixture(scope='module')
def scenes():
    return [generate_scene(i, seed=3, image_size=64, generalized=True) for i in range(120)]


def test_sentences_fit_what_they_say(scenes):
    counts = {'several': 0, 'none': 0}
    relations = 0
    for scene in scenes:
        for sentence in scene.set_sentences:
            assert resolved(sentence.text, scene.objects) == list(sentence.targets), sentence
            assert (len(sentence.targets) >= 2) == (sentence.kind == 'several')
            for word, number in NUMBERS.items():
                if word in sentence.text.split():
                    assert len(sentence.targets) == number
            counts[sentence.kind] += 1
            relations += bool(RELATION.search(sentence.text))
        texts = [sentence.text for sentence in scene.set_sentences]
        assert len(set(texts)) == len(texts)
    assert counts['none'] == 2 * len(scenes) and counts['several'] > len(scenes)
    assert 0.15 < relations / counts['none'] < 0.6


def test_none_is_not_told_by_its_words(scenes):
    """Words of sentences about none also occur in the others, or one could guess by the words."""
    single = ' '.join(s.text for scene in scenes for s in scene.sentences).split()
    none = {w for scene in scenes for s in scene.set_sentences if not s.targets
            for w in s.text.split()}  # fmt: skip
    assert none <= set(single)


def test_the_rest_of_a_scene_is_the_same(scenes):
    for i in (0, 17):
        plain = generate_scene(i, seed=3, image_size=64)
        assert plain.set_sentences == ()
        assert (plain.image == scenes[i].image).all()
        assert plain.objects == scenes[i].objects and plain.captions == scenes[i].captions
        assert plain.sentences == scenes[i].sentences


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_files(tmp_path):
    counts = dict(num_train=3, num_val=1, num_test=2, image_size=64, progress=False)
    write_dataset(tmp_path / 'plain', **counts)
    summary = write_dataset(tmp_path / 'sets', generalized=True, **counts)
    plain, sets = files(tmp_path / 'plain'), files(tmp_path / 'sets')
    refs = json.loads(sets.pop('scenes/grefs(scenes).json'))
    assert plain.pop('scenes.json') != sets.pop('scenes.json')
    assert plain == sets
    assert 'grefs' not in ''.join(plain)
    annotations = json.loads(plain['scenes/instances.json'])['annotations']
    image_of = {entry['id']: entry['image_id'] for entry in annotations}
    for ref in refs:
        assert ref['no_target'] == (ref['ann_id'] == [-1])
        assert ref['no_target'] or {image_of[i] for i in ref['ann_id']} == {ref['image_id']}
    sentences = [s for ref in refs for s in ref['sentences']]
    assert [s['sent_id'] for s in sentences] == list(range(len(sentences)))
    assert summary['sentences'] == len(sentences)
    assert summary['sentences_by_kind']['none'] == 12
    # The objects of a sentence are those that the parser finds, through all ids.
    by_id = {entry['id']: i for i, entry in enumerate(annotations)}
    for index, split in enumerate(['train'] * 3 + ['val'] + ['test'] * 2):
        of_split = index - (0, 3, 4)[('train', 'val', 'test').index(split)]
        scene = generate_scene(of_split, split=split, image_size=64, generalized=True)
        ids = [e['id'] for e in annotations if e['image_id'] == index + 1]
        found = {s['sent']: ref['ann_id'] for ref in refs if ref['image_id'] == index + 1
                 for s in ref['sentences']}  # fmt: skip
        for sentence in scene.set_sentences:
            assert found[sentence.text] == ([ids[i] for i in sentence.targets] or [-1])
    assert len(by_id) == len(annotations)
    # A folder without these sentences is generated anew if they are asked for.
    write_dataset(tmp_path / 'plain', generalized=True, **counts)
    assert files(tmp_path / 'plain') == files(tmp_path / 'sets')
