"""Training as a whole: what it reads, accumulation, and kills while masks are written."""

import copy
import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from projects.common.scenes import write_dataset
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.pdsl.cues import CachedCue, GrabCutCue, MaskStore
from projects.pdsl.cues.store import file_digest
from projects.pdsl.proposals import generate_proposals, list_images

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'heart')
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadStoredProposals', folder='proposals', max_proposals=40),
    dict(type='mmdet.Resize', scale=(64, 64)),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='ProjectProposals', min_side=4),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'img_shape', 'tags', 'homography_matrix', 'ori_proposals'),
    ),
]


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    """Eight scenes of 64 pixels with proposals, as COCO json and as a VOCdevkit."""
    root = tmp_path_factory.mktemp('scenes')
    write_dataset(root, num_train=8, num_val=0, num_test=0, image_size=64, progress=False)
    generate_proposals(list_images(root / 'images'), root / 'proposals', max_proposals=40)
    content = json.loads((root / 'annotations/instances_train.json').read_text())
    (root / 'Annotations').mkdir()
    names = {category['id']: category['name'] for category in content['categories']}
    for image in content['images']:
        tree = ElementTree.Element('annotation')
        for annotation in content['annotations']:
            if annotation['image_id'] == image['id']:
                entry = ElementTree.SubElement(tree, 'object')
                ElementTree.SubElement(entry, 'name').text = names[annotation['category_id']]
                box = ElementTree.SubElement(entry, 'bndbox')
                x, y, width, height = annotation['bbox']
                values = (x, y, x + width, y + height)
                for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), values):
                    ElementTree.SubElement(box, side).text = str(value)
        name = Path(image['file_name'])
        ElementTree.ElementTree(tree).write(root / f'Annotations/{name.stem}.xml')
        picture = cv2.imread(str(root / 'images' / name))
        cv2.imwrite(str(root / f'images/{name.stem}.jpg'), picture)
    stems = sorted(path.stem for path in (root / 'Annotations').iterdir())
    (root / 'train.txt').write_text('\n'.join(stems))
    return root


DATASETS = {
    'coco': dict(type='COCOTagDataset', ann_file='annotations/instances_train.json'),
    'voc': dict(type='VOCTagDataset', ann_file='train.txt', metainfo=dict(classes=CLASSES)),
}


def config(root: Path, work_dir: Path, dataset: str = 'coco', **changes) -> Config:
    """The tiny model, all randomness derived from the seed, in few iterations."""
    repo = Path(__file__).parents[2]
    (path,) = (repo / 'configs/pdsl').glob('pdsl_tiny_*_scenes.py')
    cfg = Config.fromfile(path)
    pipeline = [dict(step) for step in PIPELINE]
    # The JPEG copies of the VOCdevkit are another encoding of the images with the proposals.
    pipeline[1].update(folder=str(root / 'proposals'), check_content=dataset == 'coco')
    changes = {
        'model.cue': dict(_delete_=True, type='GrabCutCue', iterations=1, num_threads=1),
        'model.roi_head.num_seeds': 2,
        'train_dataloader': dict(
            _delete_=True,
            batch_size=2,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            dataset=dict(
                **DATASETS[dataset],
                data_root=str(root),
                data_prefix=dict(img='images'),
                pipeline=pipeline,
            ),
        ),
        'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=3),
        'param_scheduler': [],
        'default_hooks.checkpoint': dict(_delete_=True, type='AtomicCheckpointHook', interval=-1),
        'log_level': 'WARNING',
        'randomness': dict(_delete_=True, seed=3),
        'work_dir': str(work_dir),
        **changes,
    }
    cfg.merge_from_dict(copy.deepcopy(changes))  # which removes `_delete_` from what it gets
    for name in ('val', 'test'):
        for part in ('cfg', 'dataloader', 'evaluator'):
            cfg.pop(f'{name}_{part}')
    for key in ('custom_hooks', 'visualizer'):
        cfg.pop(key, None)
    cfg.experiment_name = f'{work_dir.name}-{dataset}'
    return cfg


def train(cfg: Config) -> dict[str, torch.Tensor]:
    """Weights after training."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def scramble_coco(path: Path) -> None:
    """Other boxes, masks and areas; some objects twice; the classes of each image as before."""
    rng = np.random.default_rng(0)
    content = json.loads(path.read_text())
    for annotation in list(content['annotations']):
        x, y = rng.uniform(0, 50, 2).tolist()
        mask = [x, y, x + 9, y, x + 4, y + 9]
        annotation.update(bbox=[x, y, 9.0, 9.0], segmentation=[mask], area=40.5)
        content['annotations'].append(dict(annotation, id=annotation['id'] + 10_000))
    path.write_text(json.dumps(content))


def scramble_voc(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for path in folder.iterdir():
        tree = ElementTree.parse(path)
        for side in tree.iter('bndbox'):
            for value in side:
                value.text = str(rng.integers(1, 60))
        tree.write(path)


@pytest.mark.parametrize('dataset', ['coco', 'voc'])
def test_no_box_and_no_mask_is_learnt_from(root, tmp_path, dataset):
    """Other boxes and masks, the same tags: the same weights, bit for bit.

    And other tags give other weights, so that the comparison means something.
    """
    import shutil

    first = train(config(root, tmp_path / 'first', dataset))
    other = tmp_path / 'other'
    shutil.copytree(root, other)
    scramble_coco(other / 'annotations/instances_train.json')
    scramble_voc(other / 'Annotations')
    second = train(config(other, tmp_path / 'second', dataset))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    if dataset == 'coco':
        path = other / 'annotations/instances_train.json'
        content = json.loads(path.read_text())
        for annotation in content['annotations']:
            annotation['category_id'] = annotation['category_id'] % 6 + 1
        path.write_text(json.dumps(content))
        third = train(config(other, tmp_path / 'third', dataset))
        assert not all(torch.equal(first[key], third[key]) for key in first)


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
@pytest.mark.parametrize('norm', ['GN', 'frozen BN'])
def test_accumulation_equals_a_batch(root, tmp_path, reduction, norm):
    """Four images one by one and four at once: equal weights after two steps, but for rounding.

    Equal are the images and their augmentation, exactly, and the weights up to the order in which
    numbers are summed (a thousandth of the step). It takes a norm that does not depend on the batch
    (group norm, or batch norm with the statistics frozen), no dropout, whose draws differ, images
    of one size, whose padding is none, and a reduction that is one in the number of images: 'sum'
    and 'mean' are, 'batch_mean' (as released) is not.
    """
    norms = {
        'GN': dict(_delete_=True, type='GN', num_groups=8),
        'frozen BN': dict(_delete_=True, type='BN', requires_grad=False),
    }
    common = {
        'model.backbone.norm_cfg': norms[norm],
        'model.backbone.norm_eval': norm != 'GN',
        **{
            f'model.roi_head.loss_{name}.reduction': reduction for name in ('mil', 'refine', 'mask')
        },
        'model.roi_head.bbox_head.dropout': 0.0,
        'optim_wrapper': dict(
            _delete_=True,
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=1e-3 if reduction == 'mean' else 1e-5, momentum=0.9),
        ),
    }
    four = config(root, tmp_path / 'four', **common)
    four.train_dataloader.batch_size = 4
    four.train_cfg.max_iters = 2
    one = config(root, tmp_path / 'one', **common)
    one.train_dataloader.batch_size = 1
    one.train_cfg.max_iters = 8
    one.optim_wrapper.accumulative_counts = 4
    torch.manual_seed(0)
    start = Runner.from_cfg(config(root, tmp_path / 'start', **common))
    start.model.init_weights()
    before = start.model.state_dict()
    weights = [before, train(four), train(one)]
    before, four, one = (
        torch.cat([each[key].flatten() for key in sorted(each) if each[key].is_floating_point()])
        for each in weights
    )
    # single elements differ by more where rounding lets another pixel win a max-pooling
    assert 0 < (one - four).norm() < 1e-3 * (four - before).norm()


# -------------------------------------------------------------------------------------- kills


STAGES = ('before', 'half', 'written', 'renaming', 'renamed')
KILLED = """
import os, signal, sys
import numpy as np
from projects.common.files import atomic as files
from projects.pdsl.cues import store as module

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Half:
    def __init__(self, path, mode):
        self.file = open(path, mode)
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.file.close()
    def write(self, data):
        self.file.write(bytes(data)[: len(data) // 2])
        self.file.flush()
        die()

def opened(path):
    return Half if path.suffix == '.partial' else open  # and not the lock

def write_and_die(folder, stage):
    replace = os.replace
    store = module.MaskStore(folder, 'x')
    masks = {(i, 0, i + 1, 1): np.full((40, 40), i % 2 == 0) for i in range(20)}
    store.add('ab12', {box: masks[box] for box in list(masks)[:10]})
    if stage == 'before':
        module.write_atomically = lambda *_: die()
    elif stage == 'half':
        files.open = lambda path, mode: opened(path)(path, mode)
    elif stage == 'written':
        os.fsync = lambda _: die()
    elif stage == 'renaming':
        os.replace = lambda *_: die()
    elif stage == 'renamed':
        os.replace = lambda *names: (replace(*names), die())
    store.add('ab12', {box: masks[box] for box in list(masks)[10:]})

for stage in sys.argv[2:]:
    child = os.fork()  # importing once is enough
    if not child:
        write_and_die(f'{sys.argv[1]}/{stage}', stage)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_kill_at_every_stage_of_a_write(tmp_path, repo_root):
    """SIGKILL before, within and after each step of a write: what was there is there, and whole."""
    masks = {(i, 0, i + 1, 1): np.full((40, 40), i % 2 == 0) for i in range(20)}
    done = subprocess.run(
        [sys.executable, '-c', KILLED, tmp_path, *STAGES],
        cwd=repo_root,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(STAGES), done.stderr[-2000:]
    for stage in STAGES:
        store = MaskStore(tmp_path / stage, 'x')
        found = store.read('ab12', list(masks))
        assert len(found) == (20 if stage == 'renamed' else 10), stage
        assert all(np.array_equal(found[box], masks[box]) for box in found), stage
        leftover = list(store.folder.rglob('*.partial'))
        assert len(leftover) == (stage in ('half', 'written', 'renaming')), stage
        store.add('ab12', masks)  # the lock is free again, and the leftover in nobody's way
        found = MaskStore(tmp_path / stage, 'x').read('ab12', list(masks))
        assert len(found) == 20 and all(np.array_equal(found[box], masks[box]) for box in found)
        assert not list(store.folder.rglob('*.partial'))


TRAINING = """
import os, signal, sys
from mmengine.config import Config
from projects.common.files import atomic as files
from projects.pdsl.cues import store
sys.path.insert(0, sys.argv[1])
from test_training import train
import torch
torch.set_num_threads(1)
cfg = Config.fromfile(sys.argv[2])
left = int(sys.argv[3])

def write(path, data):
    global left
    left -= 1
    if left == 0:
        with open(path.with_name('.' + path.name + '.partial'), 'wb') as file:
            file.write(bytes(data)[: len(data) // 2])
            file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    files.write_atomically(path, data)

store.write_atomically = write
train(cfg)
"""


@pytest.mark.slow
def test_training_goes_on_after_a_kill_during_a_cache_write(root, tmp_path, repo_root):
    """SIGKILL in the middle of writing masks; resumed, the weights are those of a run without."""
    cue = dict(type='GrabCutCue', iterations=1, num_threads=1)

    def cached(folder: str) -> Config:
        return config(
            root,
            tmp_path / folder,
            **{
                'model.cue': dict(
                    _delete_=True, type='CachedCue', cue=cue, folder=str(tmp_path / folder / 'cues')
                ),
                'default_hooks.checkpoint': dict(
                    _delete_=True, type='AtomicCheckpointHook', by_epoch=False, interval=1
                ),
            },
        )

    expected = train(cached('whole'))
    cfg = cached('killed')
    cfg.dump(tmp_path / 'config.py')
    here = str(Path(__file__).parent)
    # each image is a write, the first one a second: the kill is in the second iteration
    killed = subprocess.run(
        [sys.executable, '-c', TRAINING, here, tmp_path / 'config.py', '5'],
        cwd=repo_root,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    folder = tmp_path / 'killed'
    assert list((folder / 'cues').rglob('*.partial'))
    assert (folder / 'iter_1.pth').is_file() and not (folder / 'iter_3.pth').exists()
    # all that the cache has is what the cue gives
    store = CachedCue(cue, folder / 'cues').store
    pictures = {file_digest(path): path for path in (root / 'images').iterdir()}
    assert list(store.folder.rglob('*.npz'))
    for file in store.folder.rglob('*.npz'):
        path = pictures[file.stem]
        boxes = sorted(store.boxes(file.stem))
        masks = store.read(file.stem, boxes)
        again = GrabCutCue(iterations=1)(cv2.imread(str(path)), np.array(boxes))
        assert all(np.array_equal(masks[box], mask) for box, mask in zip(boxes, again))
    cfg.resume, cfg.load_from = True, str(folder / 'iter_1.pth')
    found = train(cfg)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    saved = load_checkpoint_file(folder / 'iter_3.pth')['state_dict']
    assert all(torch.equal(saved[key], expected[key]) for key in expected)
