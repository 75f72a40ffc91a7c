"""Tools that make proposals and masks of them."""

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from projects.pdsl.cues import CachedCue, GrabCutCue
from projects.pdsl.cues.store import file_digest
from projects.pdsl.proposals import (
    ProposalStore,
    generate_proposals,
    list_images,
    read_proposals,
    selective_search,
)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'images'
    (folder / 'more').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, name in enumerate(['a.png', 'b.png', 'more/c.png']):
        image = np.full((50, 60, 3), 90, np.uint8)
        cv2.circle(image, (20 + 5 * i, 25), 12, (30, 30, 220), -1)
        image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), image)
    return folder


@pytest.fixture
def run(call_tool, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return call_tool


def test_proposals_cues_and_conversion(run, pictures, tmp_path, monkeypatch):
    # Two ranks, one after the other: the second one packs.
    command = ('misc/generate_proposals.py', pictures, 'p', '--max-proposals', '6')
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '0')
    assert 'others are not' in run(*command).out
    assert not (tmp_path / 'p' / 'index.json').exists()
    monkeypatch.setenv('RANK', '1')
    assert 'of 3 images' in run(*command).out
    monkeypatch.delenv('RANK')
    monkeypatch.delenv('WORLD_SIZE')
    store = ProposalStore(tmp_path / 'p')
    assert store.names == ['a', 'b', 'more/c']
    expected = selective_search(cv2.imread(str(pictures / 'b.png')), max_proposals=6)
    assert np.array_equal(store.read('b')[0], expected)
    assert not (tmp_path / 'p' / 'parts').exists()
    assert 'another max_proposals (6)' in run(*command[:-1], '5', rc=1).err

    command = ('misc/precompute_cues.py', pictures, 'p', 'cues', '--max-proposals', '3')
    assert 'masks of 9 proposals of 3 images' in run(*command).out
    cache = CachedCue(GrabCutCue(), tmp_path / 'cues').store
    files = list(cache.folder.rglob('*.npz'))
    assert len(files) == 3
    times = [file.stat().st_mtime_ns for file in files]
    image = cv2.imread(str(pictures / 'a.png'))
    boxes = [tuple(box) for box in np.rint(store.read('a')[0][:3]).astype(int).tolist()]
    found = cache.read(file_digest(pictures / 'a.png'), boxes)
    assert np.array_equal([found[box] for box in boxes], GrabCutCue()(image, np.array(boxes)))
    files[0].unlink()
    run(*command)  # computes that image alone
    assert [file.stat().st_mtime_ns for file in files[1:]] == times[1:] and files[0].is_file()

    run('dataset_converters/proposals.py', 'p', 'p.pkl', '--to', 'mmdet', '--images', pictures)
    entries = {name: boxes for name, boxes, _ in read_proposals(tmp_path / 'p.pkl')}
    assert np.array_equal(
        next(boxes for name, boxes in entries.items() if name.startswith('more/c.')),
        store.read('more/c')[0],
    )


def test_several_sources_in_one_conversion(run, tmp_path):
    """MCG's archives of Segmentation and SBD, which have images in common."""
    boxes = {
        'seg': {'2007_a': [[1, 2, 11, 22]], '2007_b': [[1, 1, 9, 9]]},
        'sbd': {'2007_b': [[3, 3, 30, 30]], '2008_c': [[5, 6, 7, 18]]},
    }
    for folder, content in boxes.items():
        (tmp_path / folder).mkdir()
        for name, rows in content.items():
            savemat(tmp_path / folder / f'{name}.mat', dict(boxes=rows, scores=[[0.5]]))
    command = ('dataset_converters/proposals.py', 'seg', 'sbd')
    line = run(*command, 'both', rc=1).err.strip().splitlines()[-1]
    assert "sbd: image '2007_b' is in seg as well" in line and '--on-duplicate first' in line
    assert not (tmp_path / 'both/index.json').exists()
    out = run(*command, 'both', '--on-duplicate', 'first').out
    assert '1 images taken from the first' in out and 'of 3 images' in out
    store = ProposalStore(tmp_path / 'both')
    assert store.names == ['2007_a', '2007_b', '2008_c']
    assert store.read('2007_b')[0].tolist() == [[0, 0, 8, 8]]  # of the first, x before y, from 0
    assert store.read('2008_c')[0].tolist() == [[5, 4, 17, 6]]
    cells = np.empty((1, 1), dtype=object)
    for split in ('train', 'val'):
        cells[0, 0] = np.array([[1, 1, 5, 5]])
        savemat(tmp_path / f'{split}.mat', dict(boxes=cells))
        (tmp_path / f'{split}.txt').write_text(f'{split}_picture\n')
    names = ('--names', 'train.txt', '--names', 'val.txt')
    run(command[0], 'train.mat', 'val.mat', 'split', *names)
    assert ProposalStore(tmp_path / 'split').names == ['train_picture', 'val_picture']
    line = run(command[0], 'train.mat', 'val.mat', 'x', *names[:2], rc=1).err.strip()
    assert '--names: 1 image sets of 2 sources' in line.splitlines()[-1]


def test_generation_goes_on_where_it_was(pictures, tmp_path, monkeypatch):
    from projects.pdsl.proposals import generate

    paths = list_images(pictures)
    searched = []
    real = generate.selective_search

    def search(image, **options):
        if len(searched) == 2:
            raise KeyboardInterrupt
        searched.append(image)
        return real(image, **options)

    monkeypatch.setattr(generate, 'selective_search', search)
    with pytest.raises(KeyboardInterrupt):
        generate_proposals(paths, tmp_path / 'p')
    with pytest.raises(FileNotFoundError):  # incomplete, so it cannot be read
        ProposalStore(tmp_path / 'p')
    searched[:] = searched[:1]
    assert len(generate_proposals(paths, tmp_path / 'p')) == 3 and len(searched) == 2
    generate_proposals(paths, tmp_path / 'p')  # complete: nothing is searched
    assert len(searched) == 2


def test_pictures_of_an_image_set(pictures, tmp_path):
    (tmp_path / 'set.txt').write_text('more/c -1\na.png 1\n')
    assert list(list_images(pictures, tmp_path / 'set.txt')) == ['more/c', 'a']
    (tmp_path / 'set.txt').write_text('d\n')
    with pytest.raises(FileNotFoundError, match="image 'd' is not in"):
        list_images(pictures, tmp_path / 'set.txt')
    (tmp_path / 'set.txt').write_text('\n')
    with pytest.raises(ValueError, match='no images'):
        list_images(pictures, tmp_path / 'set.txt')


@pytest.mark.slow
def test_several_processes(tool, pictures, tmp_path):
    for script, *arguments in (
        ('misc/generate_proposals.py', pictures, 'p', '--workers', '2'),
        ('misc/precompute_cues.py', pictures, 'p', 'c', '--max-proposals', '2', '--workers', '2'),
    ):
        done = tool(script, *arguments)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / 'c').rglob('*.npz'))) == 3
    one = generate_proposals(list_images(pictures), tmp_path / 'one')
    two = ProposalStore(tmp_path / 'p')
    assert all(np.array_equal(one.read(name)[0], two.read(name)[0]) for name in one.names)
