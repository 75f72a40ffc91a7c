"""Visual Genome's index: equal to the file, shared, made once, and made anew where it must be."""

from __future__ import annotations

import collections
import json
import os
import pickle
import random
import tracemalloc
from pathlib import Path

import pytest
from mmengine.registry import DATASETS

import projects.plvl.datasets  # noqa: F401  registers
from projects.common.files.annotation_files import iter_json_list
from projects.plvl.datasets import region_index
from projects.plvl.datasets.region_index import RegionIndex

NAME = 'region_descriptions.json'
WORDS = ['left', 'the dog', 'ein grüner Hut', '赤い車', 'x' * 40, 'a "quoted" [bracket] \\ {brace}']


def write(root: Path, num_images: int = 40, seed: int = 0, regions_each: int = 8) -> None:
    """Random regions, of which some have no area, leave their image, or have no words."""
    rng = random.Random(seed)
    images, entries, region_id = [], [], 0
    for i in range(1, num_images + 1):
        width, height = rng.choice([(80, 60), (60, 90)])
        folder = rng.choice(['VG_100K', 'VG_100K_2'])
        images.append(
            dict(
                image_id=i, width=width, height=height, url=f'https://x/{folder}/{i}.jpg',
                coco_id=1000 + i if i % 3 == 0 else None, flickr_id=50 + i if i % 4 else None,
            )
        )  # fmt: skip
        regions = []
        for _ in range(rng.randrange(regions_each + 1)):
            region_id += 1
            x, y = rng.randrange(-4, width), rng.randrange(-4, height)
            regions.append(
                dict(
                    region_id=region_id, image_id=i, x=x, y=y,
                    width=rng.randrange(0, width - x + 6), height=rng.randrange(0, height - y + 6),
                    phrase=rng.choice([*WORDS, f' {rng.choice(WORDS)} ', '  ']),
                )
            )  # fmt: skip
        entries.append(dict(id=i, regions=regions))
    (root / NAME).write_text(json.dumps(entries, ensure_ascii=seed % 2 == 0))
    (root / 'image_data.json').write_text(json.dumps(images))


def build(root: Path, **kwargs):
    cfg = dict(
        type='VisualGenomeRegionDataset',
        data_root=str(root),
        ann_file=NAME,
        vg_image_data='image_data.json',
        check_images=False,
        skip_invalid=True,
    )
    return DATASETS.build({**cfg, **kwargs})


def expected(root: Path, missing: tuple[int, ...] = ()) -> tuple[list[dict], collections.Counter]:
    """Samples and what is left out, written out from the docstrings without any of our code."""
    images = {e['image_id']: e for e in json.loads((root / 'image_data.json').read_text())}
    samples, left_out = [], collections.Counter()
    for entry in json.loads((root / NAME).read_text()):
        for region in entry['regions']:
            image = images[region['image_id']]
            width, height = image['width'], image['height']
            x1, y1 = region['x'], region['y']
            x2, y2 = x1 + region['width'], y1 + region['height']
            box = [max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)]
            outside = min(x1, y1) < -2 or x2 > width + 2 or y2 > height + 2
            if region['image_id'] in missing:
                left_out['missing image'] += 1
            elif x2 <= x1 or y2 <= y1 or outside or box[2] <= box[0] or box[3] <= box[1]:
                left_out['degenerate box'] += 1
            elif not region['phrase'].strip():
                left_out['empty sentence'] += 1
            else:
                samples.append(
                    dict(
                        img_path='/'.join(image['url'].split('/')[-2:]),
                        img_id=region['image_id'], height=height, width=width,
                        text=region['phrase'].strip(), ref_id=region['region_id'],
                        sent_id=region['region_id'], ann_id=region['region_id'], kind=None,
                        subset=None, category=None, iscrowd=0,
                        instances=[dict(bbox=box, bbox_label=0, ignore_flag=0)],
                    )
                )  # fmt: skip
    return samples, left_out


def found(dataset, root: Path) -> list[dict]:
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    for i, info in enumerate(infos):
        assert info.pop('sample_idx') == i
        info['img_path'] = os.path.relpath(info['img_path'], root)
    return infos


def with_words(log: list[str], words: str) -> list[str]:
    return [message for message in log if words in message]


@pytest.mark.parametrize('seed', [0, 1])
def test_samples_are_those_of_the_file(tmp_path, seed):
    write(tmp_path, seed=seed)
    samples, left_out = expected(tmp_path)
    assert len(samples) > 60 and len(left_out) == 2
    for _ in range(2):  # with the index made, and found
        dataset = build(tmp_path)
        assert found(dataset, tmp_path) == samples
        assert {r: n for r, (n, _) in dataset.left_out.items()} == left_out
    assert (tmp_path / f'{NAME}.index').is_file()


def test_as_the_general_reader_finds_them(tmp_path):
    """What converters read region by region is what training gets at once."""
    write(tmp_path)
    dataset = build(tmp_path)
    at_once, left_out, keys = found(dataset, tmp_path), dataset.left_out, dataset.image_keys
    other = build(tmp_path, lazy_init=True)
    one_by_one = [s for reference in other.valid_references() for s in reference.samples()]
    for sample in one_by_one:
        sample['img_path'] = os.path.relpath(sample['img_path'], tmp_path)
    assert one_by_one == at_once
    assert other.left_out == left_out
    assert list(other.image_keys.items()) == list(keys.items())


def test_missing_images(tmp_path):
    write(tmp_path)
    (tmp_path / 'VG_100K').mkdir()
    (tmp_path / 'VG_100K_2').mkdir()
    missing = (2, 3, 17)
    for image in json.loads((tmp_path / 'image_data.json').read_text()):
        if image['image_id'] not in missing:
            (tmp_path / '/'.join(image['url'].split('/')[-2:])).touch()
    samples, left_out = expected(tmp_path, missing)
    dataset = build(tmp_path, check_images=True)
    assert found(dataset, tmp_path) == samples
    assert {reason: n for reason, (n, _) in dataset.left_out.items()} == left_out
    with pytest.raises(ValueError, match=r'entry \d+: region_id \d+.*skip_invalid=True'):
        build(tmp_path, check_images=True, skip_invalid=False)


def test_subsets_and_exclusion(tmp_path):
    write(tmp_path)
    whole = found(build(tmp_path), tmp_path)
    assert found(build(tmp_path, indices=5), tmp_path) == whole[:5]
    assert found(build(tmp_path, indices=[7, 3]), tmp_path) == [whole[7], whole[3]]
    assert found(build(tmp_path).get_subset(-4), tmp_path) == whole[-4:]
    out = {('coco', 1003), ('vg', 5)}
    dataset = build(tmp_path, lazy_init=True)
    dataset.excluded_images = frozenset(out)
    dataset.full_init()
    assert found(dataset, tmp_path) == [s for s in whole if s['img_id'] not in (3, 5)]
    counts = collections.Counter(s['img_id'] for s in whole)
    by_id = {int(Path(path).stem): n for path, n in dataset.sentence_counts.items()}
    assert {i: n for i, n in by_id.items() if n} == counts
    shuffled = build(tmp_path, sentence_shuffle='other_object', test_mode=True)
    texts = {s['ann_id']: s['text'] for s in whole}
    assert all(s['text'] != texts[s['ann_id']] for s in found(shuffled, tmp_path))


def test_pickled_it_is_a_path(tmp_path):
    write(tmp_path, num_images=300)
    dataset = build(tmp_path)
    dataset.image_keys.clear()
    data = pickle.dumps(dataset)
    assert len(data) < 4 * len(dataset) + 4_000  # 4 bytes a sample, and the settings
    assert found(pickle.loads(data), tmp_path) == found(dataset, tmp_path)


# ---- when it is made


def test_made_once_and_again_when_a_source_changes(tmp_path, log):
    write(tmp_path)
    first = found(build(tmp_path), tmp_path)
    assert len(with_words(log, 'making an index')) == 1
    assert found(build(tmp_path), tmp_path) == first
    assert len(with_words(log, 'making an index')) == 1 and not with_words(log, 'made anew')
    for name in (NAME, 'image_data.json'):
        # the same size and time: only its content tells
        status = (tmp_path / name).stat()
        text = (tmp_path / name).read_text()
        changed = text.replace('the dog', 'THE CAT').replace('VG_100K_2/', 'VG_100K_X/')
        (tmp_path / name).write_text(changed)
        os.utime(tmp_path / name, ns=(status.st_atime_ns, status.st_mtime_ns))
        samples, _ = expected(tmp_path)
        assert found(build(tmp_path), tmp_path) == samples != first
    assert len(with_words(log, 'files that have changed since; it is made anew')) == 2
    os.utime(tmp_path / NAME, ns=(0, 0))
    build(tmp_path)
    assert len(with_words(log, 'made anew')) == 3


@pytest.mark.parametrize(
    'damage',
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b'',
        lambda data: b'no index at all, but long enough to hold its last bytes' * 9,
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:],
        lambda data: data.replace(b'"regions": ', b'"regions":9'),
        lambda data: data.replace(b'"images": ', b'"images":-'),
    ],
)
def test_damaged_is_made_anew(tmp_path, log, damage):
    write(tmp_path)
    first = found(build(tmp_path), tmp_path)
    path = tmp_path / f'{NAME}.index'
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    with pytest.raises(ValueError, match='damaged index of regions'):
        RegionIndex(path)
    assert found(build(tmp_path), tmp_path) == first
    assert len(with_words(log, 'damaged index of regions')) == 1 and with_words(
        log, 'it is made anew'
    )
    assert path.read_bytes() == whole


def test_what_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    write(tmp_path)

    def break_off(self, sources):
        self._flush()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(region_index._Writer, 'finish', break_off)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['image_data.json', NAME]
    assert found(build(tmp_path), tmp_path) == expected(tmp_path)[0]


def test_beside_read_only_annotations_it_is_in_the_cache(tmp_path, monkeypatch):
    data, cache = tmp_path / 'data', tmp_path / 'cache'
    data.mkdir()
    write(data)
    monkeypatch.setenv('MMTRIAD_CACHE', str(cache))
    writes = region_index.open_atomically

    def refuse(*folders):
        def open_atomically(path):
            if Path(path).parent in folders:
                raise OSError(30, 'Read-only file system', str(path))
            return writes(path)

        monkeypatch.setattr(region_index, 'open_atomically', open_atomically)

    refuse(data, cache)
    with pytest.raises(PermissionError, match='neither beside it nor in the .*set MMTRIAD_CACHE'):
        build(data)
    refuse(data)
    assert found(build(data), data) == expected(data)[0]
    assert [path.name[16:] for path in cache.iterdir()] == [f'-{NAME}.index']
    assert not (data / f'{NAME}.index').exists()
    refuse(data, cache)  # found, not made
    assert found(build(data), data) == expected(data)[0]


def made_and_texts(root: Path) -> tuple[int, list[str]]:
    """How often this process made the index, and what it read."""
    calls, make = [], region_index._make

    def counted(*args):
        calls.append(args)
        make(*args)

    region_index._make = counted
    texts = [info['text'] for info in found(build(root), root)]
    return len(calls), texts


def test_several_processes_make_it_once(tmp_path):
    write(tmp_path, num_images=300)
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            code = 1
            try:
                (tmp_path / f'{number}.out').write_text(json.dumps(made_and_texts(tmp_path)))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    made, texts = zip(*(json.loads((tmp_path / f'{i}.out').read_text()) for i in range(4)))
    assert sum(made) == 1
    assert list(texts) == [[s['text'] for s in expected(tmp_path)[0]]] * 4


def test_files_of_another_form_make_no_index(tmp_path):
    def fails(message, entries=None, text=None):
        (tmp_path / NAME).write_text(json.dumps(entries) if text is None else text)
        with pytest.raises((ValueError, PermissionError), match=message) as error:
            build(tmp_path)
        assert '\n' not in str(error.value)
        assert not (tmp_path / f'{NAME}.index').exists()

    write(tmp_path)
    good = dict(image_id=1, region_id=5, x=1, y=1, width=5, height=5, phrase='a')
    fails('expected a list of entries with regions, found', dict(a=1))
    fails('expected a list of entries with regions, found', [3])
    fails('no usable sample: it holds none', [])
    fails('no usable sample: it holds none', [dict(regions=[])])
    fails(r"entry 1: no field 'regions'", [dict(regions=[good]), dict(id=3)])
    fails(r'entry 0: no image 99 in .*image_data\.json', [dict(regions=[{**good, 'image_id': 99}])])
    fails(r'entry 0: x: expected a number', [dict(regions=[{**good, 'x': None}])])
    fails(
        r'region_id: expected a number of 64 bits', [dict(regions=[{**good, 'region_id': 2**64}])]
    )
    fails(r'region_id: expected a number of 64 bits', [dict(regions=[{**good, 'region_id': 'a'}])])
    fails('not a JSON file', text=json.dumps([dict(regions=[good])])[:-1])
    # Of this form, and of no use: an index like any other.
    (tmp_path / NAME).write_text(json.dumps([dict(regions=[{**good, 'width': 10**400}])]))
    for _ in range(2):
        with pytest.raises(ValueError, match='no usable sample: .*degenerate box.* finite'):
            build(tmp_path)


def test_memory_is_bounded(tmp_path):
    """The peak is that of a part of the file, not of the file."""
    write(tmp_path, num_images=2_000, regions_each=40)
    entries = json.loads((tmp_path / NAME).read_text())
    tracemalloc.start()
    try:
        whole = json.loads((tmp_path / NAME).read_text())
        _, peak_whole = tracemalloc.get_traced_memory()
        del whole
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        dataset = build(tmp_path)
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        again = build(tmp_path)
        _, peak_again = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(again) == len(dataset) > 20_000
    num_regions = sum(len(entry['regions']) for entry in entries)
    assert peak - before < peak_whole / 3  # and does not grow with the number of regions
    # What stays: 4 bytes a region, and the images' names and ids.
    assert after - before < 4 * num_regions + 1_000 * 2_000
    assert peak_again - after < peak_whole / 3


# ---- reading a list piece by piece

TEXTS = [
    '[]', ' [ ] ', '[{}]', '[{"a": 1}, {"b": [2, {"c": "]}"}]}]',
    '\n[ {"ä": "\\u00e4 赤 \\\\" } ,{}]\t',
    '[{"x": 1.5e3, "y": true, "z": null}]', json.dumps([dict(i=i, s='é' * i) for i in range(20)]),
]  # fmt: skip


@pytest.mark.parametrize('chunk_size', [1, 2, 7, 64, 1 << 20])
@pytest.mark.parametrize('text', TEXTS)
def test_list_by_parts_is_the_list(tmp_path, text, chunk_size):
    path = tmp_path / 'a.json'
    path.write_text(text, encoding='utf-8')
    assert list(iter_json_list(path, chunk_size=chunk_size)) == json.loads(text)


@pytest.mark.parametrize('chunk_size', [3, 1 << 20])
@pytest.mark.parametrize('text', [TEXTS[3], TEXTS[4], TEXTS[5]])
def test_no_part_of_a_list_is_a_list(tmp_path, text, chunk_size):
    path = tmp_path / 'a.json'
    data = text.strip().encode()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r'^\S+a\.json: ') as error:
            list(iter_json_list(path, chunk_size=chunk_size))
        assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'expected a list of dicts, found nothing'),
        ('{"a": 1}', 'expected a list of dicts, found a file that begins with'),
        ('[1, 2]', "expected a list of dicts, found '1, 2.*' in the list"),
        ('[{},]', r'not a JSON file \(Expecting value: char 4\)'),
        ('[,{}]', r'not a JSON file \(Expecting value: char 1\)'),
        ('[{} {}]', r"not a JSON file \(Expecting ',' delimiter: char 4\)"),
        ('[{}] x', r'not a JSON file \(Extra data: char 5\)'),
        ('[{}, {"a": tru}' + ' ' * 50 + ']', r'not a JSON file \(Expecting value: char 11\)'),
        ('[{"a": %s}]' % ('[' * 200_000), 'nested too deeply'),
        ('[{"a": %s}]' % ('9' * 5_000), 'not a JSON file'),
    ],
)
@pytest.mark.parametrize('chunk_size', [5, 1 << 20])
def test_list_errors(tmp_path, text, message, chunk_size):
    path = tmp_path / 'a.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        list(iter_json_list(path, chunk_size=chunk_size))
    assert str(error.value).startswith(str(path)) and len(str(error.value)) < 400


def test_list_that_is_not_utf8(tmp_path):
    path = tmp_path / 'a.json'
    for chunk_size in (1, 4, 100):
        path.write_bytes(b'[{"a": "' + 'é'.encode() + b'\xff"}]')
        with pytest.raises(ValueError, match=r'not UTF-8 text \(.* at byte 10\)'):
            list(iter_json_list(path, chunk_size=chunk_size))
    with pytest.raises(FileNotFoundError):
        next(iter_json_list(tmp_path / 'none.json'))
