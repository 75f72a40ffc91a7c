"""Names and identities as people have them: a table of cases, each through public tools or classes.

A case states its kind, what people have, and what is right.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.structures import InstanceData
from scipy.io import savemat

import projects.pdsl.register
import projects.rvse.register  # noqa: F401
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.inferencer import write_predictions
from projects.pdsl.proposals import (
    ProposalStore,
    generate_proposals,
    list_images,
    selective_search,
    write_store,
)
from projects.rvse import RetrievalInferencer
from projects.rvse.datasets import write_precomputed
from projects.rvse.retrieval import open_store
from projects.rvse.retrieval.milvus_store import MilvusStore

LATIN = 'caf\udce9'  # 'café' in Latin-1, as Python decodes the name of such a file
HALF_EMOJI = '\ud83d'
BOX = np.array([[1, 2, 9, 9]], np.float32)
CASES = []


def case(kind: str, have: str, right: str) -> Callable:
    """Add a function of the fixture ``field`` to the table."""

    def add(check: Callable) -> Callable:
        CASES.append(pytest.param(check, id=f'{kind}: {have}: {right}'))
        return check

    return add


@pytest.fixture
def field(tmp_path, call_tool, log, monkeypatch, capsys) -> SimpleNamespace:
    """A folder, in which the tools run as from the shell."""
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(
        folder=tmp_path, run=call_tool, log=log, monkeypatch=monkeypatch, capsys=capsys
    )


# -------------------------------------------------------------------------------------- helpers


def draw(path: str | Path, seed: int = 0, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """Write a noisy image of a disc, which is another one for each seed, and return it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 60, (*size, 3), np.uint8)
    cv2.circle(image, (8 + 3 * seed % 16, 12), 6, (40, 200, 90), -1)
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
    return image


def load(store: str, path: str | Path, img_id: object = None, **options) -> np.ndarray:
    """Return the proposals that a pipeline loads for an image."""
    step = dict(type='LoadStoredProposals', folder=store, **options)
    results = Compose([dict(type='LoadImageFromFile'), step])(
        dict(img_path=str(path), img_id=img_id)
    )
    return results['ori_proposals']


def tags(folder: Path, kind: str, ann_file: str, pipeline=(), **options):
    """Build a data set of tags."""
    return DATASETS.build(
        dict(
            type=kind, ann_file=ann_file, data_root=str(folder), pipeline=list(pipeline), **options
        )
    )


def coco(path: Path, files: dict[int, str], categories: dict[int, str], size=(24, 32)) -> None:
    """Write COCO json with one object of each category in each image."""
    images = [dict(id=i, file_name=f, height=size[0], width=size[1]) for i, f in files.items()]
    annotations = [
        dict(id=100 * i + c, image_id=i, category_id=c, bbox=[1, 2, 8, 7], area=56, iscrowd=0)
        for i in files
        for c in categories
    ]
    kinds = [dict(id=c, name=name) for c, name in categories.items()]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=kinds)))


def old_store(folder: Path, names: list[str], **note) -> None:
    """Write a store as versions before this one did."""
    write_store(folder, [(name, BOX + i, None) for i, name in enumerate(names)])
    index = dict(format='mmtriad-proposals-1', names=names)
    (folder / 'index.json').write_text(json.dumps(index))
    if note:
        (folder / 'settings.json').write_text(json.dumps(note))


def last_line(done) -> str:
    assert 'Traceback' not in done.err
    return done.err.strip().splitlines()[-1]


# ------------------------------------------------------------------------------------ proposals


@case('proposals', 'COCO ids 1 to 4 of 1, 10, 2 and 3.png', 'each image has its own boxes')
def _(field) -> None:
    files = {i: f'{name}.png' for i, name in enumerate((1, 10, 2, 3), 1)}
    images = {i: draw(f'images/{name}', seed=i) for i, name in files.items()}
    coco(field.folder / 'a.json', files, {1: 'cat'})
    field.run('misc/generate_proposals.py', 'images', 'store')
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadStoredProposals', folder='store')]
    dataset = tags(field.folder, 'COCOTagDataset', 'a.json', steps, data_prefix=dict(img='images'))
    for sample in map(dataset.__getitem__, range(4)):
        expected = selective_search(images[sample['img_id']])
        assert np.array_equal(sample['ori_proposals'], expected)


@case(
    'proposals', 'train/000001 and val/000001 of one size', 'val is refused by the store of train'
)
def _(field) -> None:
    draw('train/000001.png', seed=1)
    draw('val/000001.png', seed=2)
    generate_proposals(list_images('train'), 'store')
    assert len(load('store', 'train/000001.png', '000001'))
    with pytest.raises(InputError, match=r"store: '000001' .* another image file than val/000001"):
        load('store', 'val/000001.png', '000001')


@case('proposals', 'train/000001 and val/000001 of two sizes', 'one line with both sizes')
def _(field) -> None:
    draw('train/000001.png', size=(24, 32))
    draw('val/000001.png', size=(30, 20))
    generate_proposals(list_images('train'), 'store')
    with pytest.raises(InputError, match=r'of 32 x 24 pixels, but val/000001.png has 20 x 30'):
        load('store', 'val/000001.png')


@case('proposals', 'aug/000001 beside 000001', 'each image has its own boxes')
def _(field) -> None:
    for name, seed in (('000001', 1), ('aug/000001', 2)):
        draw(f'images/{name}.png', seed)
    generate_proposals(list_images('images'), 'store')
    for name in ('000001', 'aug/000001'):
        expected = ProposalStore('store').read(name)[0]
        assert np.array_equal(load('store', f'images/{name}.png', '000001'), expected)


@case('proposals', 'images that were written anew', 'refused, and made for the new ones')
def _(field) -> None:
    draw('images/a.png', seed=1)
    field.run('misc/generate_proposals.py', 'images', 'store')
    draw('images/a.png', seed=2)
    with pytest.raises(InputError, match='has other content'):
        load('store', 'images/a.png')
    line = last_line(field.run('misc/generate_proposals.py', 'images', 'store', rc=1))
    assert 'a.png has changed since its proposals were made; give a new folder' in line


@case('proposals', 'the same images as JPEG', 'refused, or accepted with check_content=False')
def _(field) -> None:
    image = draw('png/a.png')
    generate_proposals(list_images('png'), 'store')
    Path('jpg').mkdir()
    cv2.imwrite('jpg/a.jpg', image)
    with pytest.raises(InputError, match='set check_content=False'):
        load('store', 'jpg/a.jpg')
    expected = ProposalStore('store').read('a')[0]
    assert np.array_equal(load('store', 'jpg/a.jpg', check_content=False), expected)


@case('proposals', 'ids of COCO', 'found by id, not by a file name that is a number')
def _(field) -> None:
    content = dict(boxes=[BOX, BOX + 1], scores=[[1.0], [1.0]], indexes=[2, 3])
    Path('p.pkl').write_bytes(pickle.dumps(content))
    field.run('dataset_converters/proposals.py', 'p.pkl', 'store')
    draw('2.png')
    assert np.array_equal(load('store', '2.png', img_id=3), BOX + 1)
    with pytest.raises(InputError, match=r'no proposals of 2.png \(id None; the store has ids'):
        load('store', '2.png')


@case('proposals', 'ids of VOC as integers', 'found under VOC names with --voc-ids')
def _(field) -> None:
    content = dict(boxes=[BOX, BOX + 1], scores=[[1.0], [1.0]], indexes=[12, 2008000002])
    Path('p.pkl').write_bytes(pickle.dumps(content))
    field.run('dataset_converters/proposals.py', 'p.pkl', 'store', '--voc-ids')
    for shift, name in enumerate(('000012', '2008_000002')):
        draw(f'JPEGImages/{name}.jpg')
        assert np.array_equal(load('store', f'JPEGImages/{name}.jpg', name), BOX + shift)
    Path('p.pkl').write_bytes(pickle.dumps({'a.jpg': BOX}))
    done = field.run('dataset_converters/proposals.py', 'p.pkl', 'x', '--voc-ids', rc=1)
    assert 'the names of p.pkl are paths, expected ids' in last_line(done)


@case('proposals', 'an image set for a .mat that names its images', 'never overrides them')
def _(field) -> None:
    cells = np.empty((1, 2), object)
    cells[0, :] = [np.array([[1, 1, 5, 5]]), np.array([[2, 2, 6, 6]])]
    savemat('s.mat', dict(boxes=cells, images=np.array(['a', 'b'], object)))
    tool = ('dataset_converters/proposals.py', 's.mat')
    Path('set.txt').write_text('b\na\n')
    line = last_line(field.run(*tool, 'x', '--names', 'set.txt', rc=1))
    assert (
        "s.mat: names its own images, such as ['a']" in line and not Path('x/index.json').exists()
    )
    Path('set.txt').write_text('a\nb\n')
    field.run(*tool, 'x', '--names', 'set.txt')
    assert ProposalStore('x').read('a')[0].tolist() == [[0, 0, 4, 4]]


@case('proposals', 'an image set for other formats', 'refused, as it means nothing')
def _(field) -> None:
    Path('set.txt').write_text('a\n')
    Path('p.pkl').write_bytes(pickle.dumps({'b.jpg': BOX}))
    tool = ('dataset_converters/proposals.py', 'p.pkl', 'x', '--names', 'set.txt')
    assert "proposals of the format 'mmdet' name their images" in last_line(field.run(*tool, rc=1))


@case('proposals', 'an image set with names that have blanks', 'the whole line is the name')
def _(field) -> None:
    cells = np.empty((1, 2), object)
    cells[0, :] = [np.array([[1, 1, 5, 5]]), np.array([[2, 2, 6, 6]])]
    savemat('s.mat', dict(boxes=cells))
    Path('set.txt').write_text('my cat  1\nmy dog -1\n')  # VOC's image set of a class
    field.run('dataset_converters/proposals.py', 's.mat', 'x', '--names', 'set.txt')
    assert ProposalStore('x').names == ['my cat', 'my dog']


@case('proposals', 'a store of an earlier version', 'file names are tried, a line says so')
def _(field) -> None:
    old_store(field.folder / 'store', ['a', '7'])
    draw('a.png')
    assert np.array_equal(load('store', 'a.png', img_id=1), BOX)
    assert any('does not say what its names are' in line for line in field.log)


@case('proposals', 'an old store where id and file name differ', 'one line, and a field mends it')
def _(field) -> None:
    old_store(field.folder / 'store', ['1', '2'])
    draw('1.png')
    with pytest.raises(InputError, match=r"both '1' \(file name\) and '2' \(id\) may be 1\.png"):
        load('store', '1.png', img_id=2)
    index = json.loads(Path('store/index.json').read_text())
    for keys, shift in (('ids', 1), ('names', 0)):
        Path('store/index.json').write_text(json.dumps(dict(index, keys=keys)))
        assert np.array_equal(load('store', '1.png', img_id=2), BOX + shift)


@case('proposals', 'an old store of generate_proposals.py', 'its names are paths, ids do not count')
def _(field) -> None:
    old_store(field.folder / 'store', ['1', '2'], method='selective_search-1')
    draw('1.png')
    assert np.array_equal(load('store', '1.png', img_id=2), BOX)
    assert not any('does not say' in line for line in field.log)


@case('proposals', 'boxes of an image that was larger', 'refused without a known size')
def _(field) -> None:
    write_store(field.folder / 'store', [('a', BOX + 30, None)])
    draw('a.png')
    with pytest.raises(InputError, match='boxes reach x = 39 and y = 39, but .* 32 x 24 pixels'):
        load('store', 'a.png')


@case('proposals', 'a conversion with the images at hand', 'the store refuses other images')
def _(field) -> None:
    for split, seed in (('train', 1), ('val', 2)):
        draw(f'{split}/a.jpg', seed)
    Path('p.pkl').write_bytes(pickle.dumps({'train/a.jpg': BOX}))
    field.run('dataset_converters/proposals.py', 'p.pkl', 'store', '--images', 'train')
    assert np.array_equal(load('store', 'train/a.jpg'), BOX)
    shutil.copy('val/a.jpg', 'train/a.jpg')
    with pytest.raises(InputError, match='has other content'):
        load('store', 'train/a.jpg')
    coco(field.folder / 'a.json', {7: 'a.jpg'}, {1: 'cat'}, size=(24, 31))
    Path('p.pkl').write_bytes(pickle.dumps(dict(boxes=[BOX], scores=[[1]], indexes=[7])))
    field.run('dataset_converters/proposals.py', 'p.pkl', 'ids', '--images', 'a.json')
    with pytest.raises(InputError, match='of 31 x 24 pixels, but val/a.jpg has 32 x 24'):
        load('ids', 'val/a.jpg', img_id=7)


@case('proposals', 'verify_data.py', 'it refuses what training refuses')
def _(field) -> None:
    draw('train/a.png', seed=1)
    generate_proposals(list_images('train'), 'store')
    draw('train/a.png', seed=2)
    Path('tags.json').write_text('{"a.png": ["cat"]}')
    Path('config.py').write_text("""
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
train_dataloader = dict(dataset=dict(
    type='TagFileDataset', ann_file='tags.json', data_prefix=dict(img='train'),
    pipeline=[dict(type='LoadStoredProposals', folder='store')]))
""")
    done = field.run('misc/verify_data.py', 'config.py', rc=1)
    assert 'has other content' in done.out and '(1 images in all)' in done.out


@case('masks', 'train/000001 and val/000001', 'each image has its own masks, of its size')
def _(field) -> None:
    masks = np.zeros((2, 24, 32), bool)
    masks[0, 2:9, 1:9] = masks[1, 2:6, 1:9] = True
    for split, mask in zip(('train', 'val'), masks):
        Path('masks', split).mkdir(parents=True)
        np.savez(f'masks/{split}/000001.npz', masks=mask[None])
    cue = MODELS.build(dict(type='SegmentFileCue', folder='masks', min_iou=0.1))
    image = np.zeros((24, 32, 3), np.uint8)
    for split, mask in zip(('train', 'val'), masks):
        found = cue(image, BOX, dict(img_path=f'images/{split}/000001.png', ori_shape=(24, 32)))
        assert np.array_equal(found[0], mask)
    with pytest.raises(InputError, match='are they those of another image'):
        meta = dict(img_path='val/000001.png', ori_shape=(48, 64), homography_matrix=np.eye(3) / 2)
        cue(image, BOX, meta)


@case('features', "BUTD's ids that are also names of files", 'one line, and --key says which')
def _(field) -> None:
    row = base64.b64encode(np.ones((1, 4), '<f4')).decode()
    lines = []
    for number in (1, 2):
        features = base64.b64encode(np.full((1, 8), number, '<f4')).decode()
        lines.append('\t'.join((str(number), '640', '480', '1', row, features)))
    Path('a.tsv').write_text('\n'.join(lines) + '\n')
    sentences = [dict(raw=f'a cat {i}') for i in range(5)]
    images = [
        dict(filename=f'{name}.jpg', imgid=number, split='test', sentences=sentences)
        for number, name in ((1, 2), (2, 1))
    ]
    Path('dataset_flickr30k.json').write_text(json.dumps(dict(images=images)))
    tool = ('dataset_converters/itm.py', 'precomp', 'dataset_flickr30k.json', '--tsv', 'a.tsv')
    tool += ('--splits', 'test', '--out')
    line = last_line(field.run(*tool, 'x', rc=1))
    assert 'ids and file names of the images lead to different features' in line
    for key, first in (('id', 1), ('name', 2)):
        field.run(*tool, key, '--key', key)
        assert np.load(f'{key}/test_ims.npy')[0, 0, 0] == first


@case('features', 'test_caps.txt of two data sets', 'their scores are not averaged')
def _(field) -> None:
    for name, words in (('f30k', 'a dog'), ('coco', 'a cat')):
        Path(name).mkdir()
        images = [dict(text=[f'{words} {i}'], ori_id=str(i)) for i in range(2)]
        write_precomputed(name, 'test', [np.ones((1, 4), np.float32)] * 2, images)
    from projects.rvse.evaluation import matching_loop

    for name in ('f30k', 'coco'):
        dataset = DATASETS.build(
            dict(
                type='PrecompMatchingDataset', split='test', data_root=name,
                captions_per_image=1, test_mode=True,
            )
        )  # fmt: skip
        score = matching_loop._saved(lambda i, c: torch.ones(2, 2), dataset, Path(f'{name}.npy'))
        score(torch.arange(2), torch.arange(2))
    done = field.run('analysis_tools/ensemble_matching.py', 'f30k.npy', 'coco.npy', rc=1)
    assert 'coco.npy: of coco/test_caps.txt, but f30k.npy is of f30k/test_caps.txt' in last_line(
        done
    )


@case('metrics', 'a/000001 and b/000001 in one test set', 'their objects are not mixed up')
def _(field) -> None:
    metric = METRICS.build(dict(type='InstanceCocoMetric', metric='bbox'))
    metric.dataset_meta = dict(classes=('cat',))
    box = torch.from_numpy(BOX)
    found = dict(bboxes=box, scores=torch.ones(1), labels=torch.zeros(1).long())
    truth = [dict(bbox=BOX[0].tolist(), bbox_label=0, ignore_flag=0)]
    for folder in 'ab':
        sample = dict(img_id='000001', img_path=f'{folder}/000001.jpg', ori_shape=(24, 32))
        metric.process({}, [dict(sample, pred_instances=found, instances=truth)])
    with pytest.raises(InputError, match=r'a/000001.jpg and b/000001.jpg have one img_id'):
        metric.evaluate(size=2)


# ---------------------------------------------------------------------------------------- links


class Detector(torch.nn.Module):
    """Find the box ``BOX`` of the first tag in every image."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def test_step(self, batch: dict) -> list[DetDataSample]:
        (sample,) = batch['data_samples']
        self.seen.append(os.path.basename(sample.img_path))
        found = dict(bboxes=torch.from_numpy(BOX), scores=torch.ones(1))
        sample.pred_instances = InstanceData(labels=torch.tensor(sample.tags[:1]), **found)
        return [sample]


def export(field, *arguments, rc: int = 0) -> SimpleNamespace:
    """Run export_pseudo_labels.py with a model that costs nothing."""
    config = Path('config.py')
    config.write_text("""
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
model = dict(type='PDSL', roi_head=dict(type='PDSLRoIHead'), test_cfg=dict(rcnn=dict()))
load = [dict(type='LoadImageFromFile'), dict(type='LoadStoredProposals', folder='store')]
pack = [dict(type='ProjectProposals'),
        dict(type='mmdet.PackDetInputs', meta_keys=('img_path', 'ori_shape', 'img_shape'))]
train_dataloader = dict(dataset=dict(
    type='TagFileDataset', ann_file='tags.json', data_prefix=dict(img='images'), pipeline=load))
test_dataloader = dict(dataset=dict(type='mmdet.CocoDataset', pipeline=load + pack))
""")
    Path('weights.pth').touch()
    detector = Detector()
    for name, value in (
        ('projects.common.build.build_quietly', lambda *_: detector),
        ('projects.common.weights.convert.read_weights', lambda *_: ({}, {})),
        ('projects.common.weights.convert.check_weights', lambda *_: None),
        ('projects.pdsl.models.use_no_cue', lambda *_: None),
    ):
        field.monkeypatch.setattr(name, value)
    options = ('--device', 'cpu', '--part-size', '1', *arguments)
    done = field.run(
        'misc/export_pseudo_labels.py', config, 'weights.pth', 'out.json', *options, rc=rc
    )
    return SimpleNamespace(out=done.out, err=done.err, seen=detector.seen)


def tagged(*names: str) -> None:
    Path('tags.json').write_text(json.dumps({name: ['cat'] for name in names}))
    write_store('store', [(Path(name).with_suffix('').as_posix(), BOX, None) for name in names])


def exported_names() -> list[str]:
    return [image['file_name'] for image in json.loads(Path('out.json').read_text())['images']]


@case('links', 'each image a link into a blob store', 'labels are exported under the given names')
def _(field) -> None:
    Path('images').mkdir()
    for number, name in enumerate(('a.png', 'b.png')):
        draw(f'blobs/{number:02d}/f00', seed=number)
        os.symlink(f'../blobs/{number:02d}/f00', f'images/{name}')
    tagged('a.png', 'b.png')
    export(field)
    assert exported_names() == ['a.png', 'b.png']


@case('links', 'two links to one file', 'they stay two images')
def _(field) -> None:
    draw('images/blob')
    for name in ('a.png', 'b.png'):
        os.symlink('blob', f'images/{name}')
    tagged('a.png', 'b.png')
    export(field)
    assert exported_names() == ['a.png', 'b.png']


@case('links', 'a folder that is a link, and a root without it', 'names are relative to the root')
def _(field) -> None:
    draw('disk/images/more/a.png')
    draw('disk/elsewhere/b.png')
    os.symlink('disk/images', 'images')
    os.symlink('../elsewhere', 'disk/images/linked')
    tagged('more/a.png')
    export(field, '--image-root', 'disk/images')
    assert exported_names() == ['more/a.png']
    os.remove('out.json')
    tagged('more/a.png', 'linked/b.png')
    export(field)
    assert exported_names() == ['more/a.png', 'linked/b.png']


@case('links', 'an image that is not below --image-root', 'one line before anything is predicted')
def _(field) -> None:
    draw('images/a.png')
    Path('root').mkdir()
    tagged('a.png')
    done = export(field, '--image-root', 'root', rc=1)
    assert 'images/a.png: not below' in last_line(done) and not done.seen


@case('links', 'linked subfolders, and one that leads back', 'their images are found, once each')
def _(field) -> None:
    draw('elsewhere/a.png')
    draw('images/b.png')
    os.symlink('../elsewhere', 'images/linked')
    os.symlink('..', 'elsewhere/back')
    assert {'b', 'linked/a'} <= set(list_images('images'))


@case('links', 'a model published into a link', 'it has the name of the link')
def _(field) -> None:
    Path('work_dirs/iter_600').mkdir(parents=True)
    os.symlink('work_dirs/iter_600', 'plvl-shapes')
    config = "model = dict(type='PDSL')\n"
    torch.save(dict(state_dict=dict(x=torch.zeros(2)), meta=dict(cfg=config)), 'a.pth')
    field.run('misc/publish_model.py', 'a.pth', '--out', 'plvl-shapes')
    assert Path('plvl-shapes/README.md').read_text().count('plvl-shapes')


# ---------------------------------------------------------------------------------------- names


@case('names', 'blanks, and another encoding', 'proposals are made and found')
def _(field) -> None:
    names = ['my cat', ' around ', LATIN]
    for seed, name in enumerate(names):
        draw(f'images/{name}.png', seed)
    field.run('misc/generate_proposals.py', 'images', 'store')
    assert sorted(ProposalStore('store').names) == sorted(names)
    for name in names:
        assert len(load('store', f'images/{name}.png'))
    Path('set.txt').write_bytes(os.fsencode(f'my cat\n{LATIN}.png\n'))
    assert list(list_images('images', 'set.txt')) == ['my cat', LATIN]


@case('names', 'another encoding in an index', 'saved and found again')
def _(field) -> None:
    names = [f'photos/{LATIN}.jpg', 'photos/ü.jpg']
    with open_store('store', 'a' * 32) as store:
        store.add(names, np.eye(2, 4, dtype=np.float32))
        store.save()
    with open_store('store', 'a' * 32, create=False) as store:
        hits = store.search(np.eye(2, 4, dtype=np.float32), 1)
    assert [hit.name for (hit,) in hits] == names


@case('names', 'names that a store cannot hold', 'refused before anything is encoded')
def _(field) -> None:
    draw(f'photos/{LATIN}.png')
    inferencer = object.__new__(RetrievalInferencer)
    inferencer._stream = lambda _: lambda *_: pytest.fail('encoded before names were checked')
    inferencer.show_progress = False
    store = object.__new__(MilvusStore)
    store.place, store._has_states = 'a.db', False
    with pytest.raises(InputError, match=r"'photos/caf\\udce9.png' is not UTF-8, which Milvus"):
        inferencer.index('photos', store)


@case('names', 'another encoding in predictions', 'the JSON file is written and read back')
def _(field) -> None:
    write_predictions(Path('a.json'), [dict(image=LATIN, sentence='ein Bär')])
    text = Path('a.json').read_text(encoding='utf-8')
    assert 'ein Bär' in text and json.loads(text)[0]['image'] == LATIN


@case('names', 'another encoding on standard output', 'printed with escapes')
def _(field) -> None:
    with report_user_errors():
        print(LATIN)
    assert field.capsys.readouterr().out == 'caf\\udce9\n'


@case('names', 'half an emoji in a caption', 'refused before features are computed')
def _(field) -> None:
    def features():
        pytest.fail('computed before captions were checked')
        yield

    with pytest.raises(InputError, match='expected one line of text in UTF-8'):
        write_precomputed('.', 'test', features(), [dict(text=[HALF_EMOJI], ori_id='1')])
    inferencer = object.__new__(RetrievalInferencer)
    with pytest.raises(InputError, match='expected words in UTF-8'):
        inferencer.encode_sentences(HALF_EMOJI)


@case('names', 'blanks around file names in a table', 'the file that exists is meant')
def _(field) -> None:
    for name in ('a.png', ' b.png'):
        draw(name)
    Path('tags.csv').write_text(' a.png ,cat\n b.png,dog \n')
    dataset = tags(field.folder, 'TagFileDataset', 'tags.csv')
    paths = [dataset.get_data_info(i)['img_path'] for i in range(2)]
    assert [os.path.basename(path) for path in paths] == ['a.png', ' b.png']
    assert dataset.metainfo['classes'] == ('cat', 'dog')


# ----------------------------------------------------------------------------------- categories


@case('categories', 'one name under two ids', 'one line with both')
def _(field) -> None:
    draw('a.png')
    coco(field.folder / 'a.json', {1: 'a.png'}, {1: 'cat', 7: 'cat '})
    with pytest.raises(
        InputError, match=r"a\.json: categories: the name 'cat' has the ids 1 and 7"
    ):
        tags(field.folder, 'COCOTagDataset', 'a.json')


@case('categories', 'one name under two ids in a test set of mmdet', 'verify_data.py says so')
def _(field) -> None:
    draw('a.png')
    coco(field.folder / 'a.json', {1: 'a.png'}, {1: 'cat', 7: 'cat', 9: 'dog'})
    Path('config.py').write_text("""
default_scope = 'mmdet'
test_dataloader = dict(dataset=dict(
    type='CocoDataset', ann_file='a.json', data_prefix=dict(img=''), test_mode=True,
    metainfo=dict(classes=('cat', 'dog')), pipeline=[]))
""")
    done = field.run('misc/verify_data.py', 'config.py', rc=1)
    assert "the name 'cat' has the ids 1 and 7" in done.out


@case('categories', 'blanks around a name in COCO json', 'it is the class of the config')
def _(field) -> None:
    draw('a.png')
    coco(field.folder / 'a.json', {1: 'a.png'}, {1: 'dog', 2: ' cat'})
    for classes in (('cat', 'dog'), ('cat ', 'dog')):
        dataset = tags(field.folder, 'COCOTagDataset', 'a.json', metainfo=dict(classes=classes))
        assert dataset.get_cat_ids(0) == [0, 1]


@case('categories', 'blanks around a name in VOC xml', 'training and testing read it alike')
def _(field) -> None:
    draw('VOC2012/JPEGImages/a.jpg')
    box = '<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>'
    size = '<size><width>32</width><height>24</height></size>'
    Path('VOC2012/Annotations').mkdir()
    Path('VOC2012/Annotations/a.xml').write_text(
        f'<annotation>{size}<object><name> cat\n</name>{box}</object></annotation>'
    )
    Path('VOC2012/set.txt').write_text('a\n')
    trained = tags(field.folder / 'VOC2012', 'VOCTagDataset', 'set.txt')
    tested = DATASETS.build(
        dict(
            type='VOCInstanceDataset', ann_file='VOC2012/set.txt', mask_subdir=None,
            data_prefix=dict(sub_data_root='VOC2012/'), test_mode=True, pipeline=[],
        )
    )  # fmt: skip
    (instance,) = tested.get_data_info(0)['instances']
    assert trained.get_cat_ids(0) == [instance['bbox_label']]


@case('categories', 'blanks around tags in JSON', 'read as in CSV')
def _(field) -> None:
    draw('a.png')
    found = []
    Path('tags.json').write_text('{"a.png": ["cat ", "sea  horse"]}')
    Path('tags.csv').write_text('a.png,cat , sea  horse\n')
    for name in ('tags.json', 'tags.csv'):
        dataset = tags(field.folder, 'TagFileDataset', name)
        found.append((dataset.metainfo['classes'], dataset.get_cat_ids(0)))
    assert found == [(('cat', 'sea  horse'), [0, 1])] * 2
    Path('tags.json').write_text('{"a.png": ["cat", " "]}')
    with pytest.raises(InputError, match="tags of 'a.png'"):
        tags(field.folder, 'TagFileDataset', 'tags.json')


@case('categories', 'a class twice in the config', 'one line')
def _(field) -> None:
    draw('a.png')
    Path('tags.json').write_text('{"a.png": ["cat"]}')
    meta = dict(classes=('cat', 'dog', 'cat '))
    with pytest.raises(InputError, match=r"tags\.json: two classes are called 'cat'"):
        tags(field.folder, 'TagFileDataset', 'tags.json', metainfo=meta)


# ---------------------------------------------------------------------------- finished work stays


@case('work', 'a damaged image among thousands', 'proposals of the others are made and kept')
def _(field) -> None:
    for seed, name in enumerate('abc'):
        draw(f'images/{name}.png', seed)
    Path('images/b.png').write_bytes(b'no image')
    os.symlink('nowhere.png', 'images/d.png')
    tool = ('misc/generate_proposals.py', 'images', 'store')
    line = last_line(field.run(*tool, rc=1))
    assert '(2 images cannot be read, the others are done' in line
    searched = []
    field.monkeypatch.setattr(
        'projects.pdsl.proposals.generate.selective_search',
        lambda image, **_: searched.append(image) or BOX,
    )
    assert 'of 2 images' in field.run(*tool, '--skip-damaged').out
    assert ProposalStore('store').names == ['a', 'c'] and not searched
    assert 'left out, such as' in last_line(field.run(*tool, rc=1))


@case('work', 'a damaged image among those of the cues', 'masks of the others are made and kept')
def _(field) -> None:
    for seed, name in enumerate('ab'):
        draw(f'images/{name}.png', seed)
    generate_proposals(list_images('images'), 'store')
    Path('images/a.png').write_bytes(b'no image')
    tool = ('misc/precompute_cues.py', 'images', 'store', 'cues', '--max-proposals', '1')
    done = field.run(*tool, '--iterations', '1', rc=1)
    assert '1 of 2 images cannot be read' in last_line(done)
    assert 'masks of 1 proposals of 1 images' in done.out
    assert 'a.png' in field.run(*tool, '--iterations', '1', '--skip-damaged').out


@case('work', 'a damaged image among those that are labelled', 'the others are labelled once')
def _(field) -> None:
    for seed, name in enumerate('abc'):
        draw(f'images/{name}.png', seed)
    tagged('a.png', 'b.png', 'c.png')
    Path('images/b.png').write_bytes(b'no image')
    done = export(field, rc=1)
    assert done.seen == ['a.png', 'c.png'] and '1 images cannot be read' in last_line(done)
    done = export(field, '--skip-damaged')
    assert not done.seen and '1 images left out' in done.out
    assert exported_names() == ['a.png', 'c.png']


@case('work', 'links to nothing, folders and lost images among tags', 'left out, with the reason')
def _(field) -> None:
    for seed, name in enumerate('ab'):
        draw(f'images/{name}.png', seed)
    os.symlink('nowhere.png', 'images/link.png')
    field.run('misc/generate_proposals.py', 'images', 'store', '--skip-damaged')
    Path('images/folder.png').mkdir()
    tags_of = {f'{name}.png': ['cat'] for name in ('a', 'b', 'folder', 'link', 'lost')}
    Path('tags.json').write_text(json.dumps(tags_of))
    Path('images/b.png').unlink()  # with proposals, unlike the others
    assert "'images/b.png' does not exist" in last_line(export(field, rc=1))
    done = export(field, '--skip-damaged')
    assert done.seen == exported_names() == ['a.png'] and '4 images left out' in done.out
    for reason in (
        'b.png: no such file', 'folder.png: not readable (Is a directory)',
        'link.png: no such file, but a link to nowhere.png', 'lost.png: no such file',
    ):  # fmt: skip
        assert f'left out: images/{reason}\n' in done.out
    Path('out.json').unlink()
    tags_of.pop('a.png')
    Path('tags.json').write_text(json.dumps(tags_of))
    assert "'images/b.png' does not exist" in last_line(export(field, '--skip-damaged', rc=1))


@case('work', 'images that the proposals left out', 'left out of the cues as well')
def _(field) -> None:
    draw('images/a.png')
    os.symlink('nowhere.png', 'images/link.png')
    field.run('misc/generate_proposals.py', 'images', 'store', '--skip-damaged')
    tool = ('misc/precompute_cues.py', 'images', 'store', 'cues', '--max-proposals', '1')
    line = last_line(field.run(*tool, '--iterations', '1', rc=1))
    assert "store: no proposals of image 'link'" in line
    done = field.run(*tool, '--iterations', '1', '--skip-damaged')
    assert 'left out: images/link.png: no such file, but a link' in done.out
    assert 'masks of 1 proposals of 1 images' in done.out


@case('work', 'an image without proposals at the end', 'one line before anything is predicted')
def _(field) -> None:
    for name in 'ab':
        draw(f'images/{name}.png')
    tagged('a.png')
    Path('tags.json').write_text('{"a.png": ["cat"], "b.png": ["cat"]}')
    done = export(field, rc=1)
    assert 'store: no proposals of' in last_line(done) and not done.seen


@case('work', 'arguments that cannot be meant', 'refused at the start')
def _(field) -> None:
    draw('images/a.png')
    generate_proposals(list_images('images'), 'store')
    for tool, *arguments in (
        ('generate_proposals', 'x', '--max-proposals', '0'),
        ('generate_proposals', 'x', '--max-side', '0'),
        ('precompute_cues', 'store', 'x', '--max-proposals', '-1'),
        ('precompute_cues', 'store', 'x', '--iterations', '0'),
    ):
        line = last_line(field.run(f'misc/{tool}.py', 'images', *arguments, rc=1))
        assert f'found {arguments[-1]}, expected at least' in line
    assert not Path('x').exists()


@case('work', 'an index where nothing can be written', 'refused before anything is encoded')
def _(field) -> None:
    draw('photos/a.png')
    Path('file').touch()
    inferencer = object.__new__(RetrievalInferencer)
    inferencer._stream = lambda _: lambda *_: pytest.fail('encoded before the place was checked')
    inferencer.show_progress = False
    with (
        open_store('file/store', 'a' * 32) as store,
        pytest.raises(InputError, match='file/store: cannot be written to'),
    ):
        inferencer.index('photos', store)
    with pytest.raises(InputError, match='expected a name of a folder in UTF-8'):
        open_store(LATIN, 'a' * 32)


@pytest.mark.parametrize('check', CASES)
def test_names(check: Callable, field) -> None:
    check(field)
