"""What people type, start and resume, and what is right: a value, or one line before the work."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, MODELS
from mmengine.visualization import Visualizer
from transformers import BertConfig, BertModel

from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.report import user_message
from projects.common.errors import InputError
from projects.common.text import BERTTextEncoder
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.pdsl.cues import CachedCue, GrabCutCue
from projects.pdsl.datasets import TagFileDataset

ROOT = Path(__file__).resolve().parents[2]
DATASET = 'train_dataloader.dataset'


BARE = """
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
model = dict(type='PDSL', roi_head=dict(type='PDSLRoIHead'))
train_dataloader = dict(
    dataset=dict(
        type='COCOTagDataset', data_root='data', ann_file='tags.json',
        data_prefix=dict(img='images/'), filter_cfg=None))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=None)
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A config that leaves all it can to the defaults."""
    path = tmp_path / 'bare.py'
    path.write_text(BARE)
    return path


def typed(config: Path, *words: str) -> Config:
    """The config with what stands behind --cfg-options."""
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    return load_config(config, parser.parse_args(['--cfg-options', *words]).cfg_options)


def at(cfg: Config, key: str):
    node = cfg._cfg_dict
    for part in key.split('.'):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def error_line(done) -> str:
    """The one line that a tool ended with."""
    err = getattr(done, 'stderr', None) or done.err
    assert 'Traceback' not in err, err
    (line,) = [line for line in err.splitlines() if 'error:' in line]
    return line


# --------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ('key', 'text', 'right'),
    [
        # what is there: None, a path, a name, a list, nothing
        (f'{DATASET}.data_root', '/my pictures/a,b', '/my pictures/a,b'),
        (f'{DATASET}.data_root', 'my images', 'my images'),
        (f'{DATASET}.data_prefix.img', 'summer, 2024', 'summer, 2024'),
        ('work_dir', 'runs, second try', 'runs, second try'),
        ('load_from', "/it's mine/best (2).pth", "/it's mine/best (2).pth"),
        (f'{DATASET}.ann_file', "'C:\\new tags.json'", 'C:\\new tags.json'),
        (
            f'{DATASET}.metainfo.classes',
            "('dining table','tv monitor')",
            ('dining table', 'tv monitor'),
        ),
        (f'{DATASET}.metainfo.classes', 'dining table, tv', ['dining table', 'tv']),
        (f'{DATASET}.metainfo.classes', "'dining table','tv'", ['dining table', 'tv']),
        (f'{DATASET}.metainfo.classes', '(cat)', ('cat',)),
        (f'{DATASET}.metainfo.classes', "['1','02']", ['1', '02']),
        (
            'param_scheduler',
            "dict(type='LinearLR',start_factor=0.1,end=5), {'type': 'ConstantLR', 'begin': 5}",
            [dict(type='LinearLR', start_factor=0.1, end=5), dict(type='ConstantLR', begin=5)],
        ),
    ],
)
def test_values_arrive_as_typed(key: str, text: str, right, bare: Path) -> None:
    found = at(typed(bare, f'{key}={text}'), key)
    assert found == right and type(found) is type(right)


@pytest.mark.parametrize(
    'text',
    ['1,2', '[1,2]', '[(1,2),(3,4)]', '(1,)', '(1)', '[[a,b],(c,)]', 'a,b', 'a, b', '1e-3',
     'None', 'true', '[]', '', '1,', '{}.pth', "'a','b'", '[1, 2.5, x]'],
)  # fmt: skip
def test_what_mmengine_users_type_means_the_same(text: str, bare: Path) -> None:
    expected = DictAction._parse_iterable(text)
    found = typed(bare, f'randomness={text}').randomness  # nothing is there
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('[dict(type=ConstantLR)]', 'dict(type=ConstantLR) is not a dict of Python literals'),
        ("[dict(type='ConstantLR'", 'brackets or quotes are not closed'),
    ],
)
def test_a_dict_that_is_none_is_one_line(text: str, words: str, bare, call_tool) -> None:
    option = f'param_scheduler={text}'
    assert words in error_line(
        call_tool('misc/print_config.py', bare, '--cfg-options', option, rc=2)
    )


# ----------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ('words', 'key', 'right'),
    [
        (
            ['model.roi_head.loss_mask.loss_weight=0.5'],
            'model.roi_head.loss_mask',
            dict(type='PseudoMaskLoss', loss_weight=0.5),
        ),
        ([f'{DATASET}.filter_cfg.filter_empty=True'], f'{DATASET}.filter_cfg.filter_empty', True),
        ([f'{DATASET}.metainfo.classes=[cat]'], f'{DATASET}.metainfo.classes', ['cat']),
        (['optim_wrapper.clip_grad.max_norm=5'], 'optim_wrapper.clip_grad', dict(max_norm=5)),
        (
            ['optim_wrapper.dtype=bfloat16', 'optim_wrapper.type=AmpOptimWrapper'],
            'optim_wrapper.dtype',
            'bfloat16',
        ),
        (
            ['optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=0.1'],
            'optim_wrapper.paramwise_cfg.custom_keys',
            dict(backbone=dict(lr_mult=0.1)),
        ),
    ],
)
def test_documented_dicts_can_be_set(words: list[str], key: str, right, bare: Path) -> None:
    assert at(typed(bare, *words), key) == right


@pytest.mark.parametrize(
    ('key', 'words'),
    [
        ('model.roi_head.loss_weights.mask', 'is now model.roi_head.loss_mil.loss_weight'),
        ('optim_wrapper.dtype', "an argument of AmpOptimWrapper; set 'optim_wrapper.type'"),
        (f'{DATASET}.filter_cfg.filter_emty', f"nearest: '{DATASET}.filter_cfg.filter_empty'"),
        (f'{DATASET}.filter_cfg.filter_empty_gt', f"nearest: '{DATASET}.filter_cfg.filter_empty'"),
        ('model.roi_head.num_seeds.x', "set 'model.roi_head.num_seeds' as a whole"),
        ('optim_wrapper.clip_grad.max_nrom', "nearest: 'optim_wrapper.clip_grad.max_norm'"),
    ],
)
def test_a_refusal_names_another_key(key: str, words: str, bare: Path) -> None:
    with pytest.raises(InputError) as error:
        typed(bare, f'{key}=1')
    message = str(error.value)
    assert message.startswith(f'--cfg-options {key}: ') and words in message
    assert f"nearest: '{key}'" not in message and '\n' not in message


def test_amp_takes_the_arguments_of_its_wrapper(toy_config, call_tool) -> None:
    options = (toy_config(), '--amp', 'fp16', '--cfg-options')
    done = call_tool('train.py', *options, 'optim_wrapper.loss_scale=128', rc=1)
    assert 'needs a GPU' in error_line(done)  # it comes after the overrides
    done = call_tool('train.py', *options, 'optim_wrapper.dtype=bfloat16', rc=1)
    assert '--amp sets optim_wrapper.dtype' in error_line(done)


# ------------------------------------------------------------------------- ports, processes, GPUs


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        yield str(other.getsockname()[1])


@pytest.fixture
def rank(monkeypatch) -> Callable[[str], None]:
    """Sets what torchrun and Open MPI tell the last of four processes, and the port."""

    def set_environment(port: str) -> None:
        names = dict(RANK='3', WORLD_SIZE='4', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        local = dict(LOCAL_RANK='3', OMPI_COMM_WORLD_LOCAL_RANK='3', SLURM_LOCALID='3')
        for name, value in {**names, **local}.items():
            monkeypatch.setenv(name, value)

    return set_environment


def test_a_taken_port_of_dist_train(taken_port, toy_config, tool, call_tool) -> None:
    done = tool('dist_train.sh', toy_config(), '2', MASTER_PORT=taken_port)
    assert done.returncode == 1
    line = error_line(done)
    assert f'port {taken_port} is in use' in line and 'PORT=29501' in line
    options = ('--nproc_per_node=2', f'--master_port={taken_port}', 'train.py')  # of PORT
    assert error_line(call_tool('misc/launch.py', *options, rc=1)) == line


def test_a_taken_port_of_another_launcher(
    taken_port, rank, monkeypatch, toy_config, call_tool
) -> None:
    rank(taken_port)
    monkeypatch.setenv('RANK', '0')  # it listens
    line = error_line(call_tool('train.py', toy_config(), '--launcher', 'pytorch', rc=1))
    assert f'port {taken_port} is in use' in line and 'MASTER_PORT=29501' in line


def test_a_launcher_without_its_environment(toy_config, call_tool) -> None:
    line = error_line(call_tool('train.py', toy_config(), '--launcher', 'pytorch', rc=1))
    assert 'RANK, WORLD_SIZE' in line and 'torchrun' in line


@pytest.mark.parametrize('launcher', ['dist_train.sh', 'pytorch', 'mpi', 'slurm'])
def test_more_processes_than_gpus(
    launcher: str, monkeypatch, toy_config, call_tool, free_port, rank
) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    if launcher == 'dist_train.sh':
        options = ('--nproc_per_node=4', f'--master_port={free_port()}', 'train.py')
        done = call_tool('misc/launch.py', *options, rc=1)
    else:
        rank(free_port())
        done = call_tool('train.py', toy_config(), '--launcher', launcher, rc=1)
    message = error_line(done)
    assert '4 processes for 2 GPUs' in message and 'start at most 2' in message


# ---------------------------------------------------------------------------- read-only folders


def on_read_only_disk(full_disk, disk: Path, before: Callable, work: Callable) -> None:
    """Runs ``work`` where the disk has become read-only after ``before``."""

    def both(disk: Path) -> None:
        before(disk)
        libc = ctypes.CDLL(None, use_errno=True)
        read_only, remount = 1, 32
        assert not libc.mount(None, os.fsencode(disk), None, read_only | remount, None)
        work(disk)

    found = full_disk.on_small_disk(disk, both)
    if found is None:
        pytest.skip('no disk of its own can be had here')
    assert not found, found


class CountedCue(GrabCutCue):
    """Boxes, filled; counts those that it was asked for."""

    count = 0

    def __call__(self, image, boxes, metainfo=None):
        self.count += len(boxes)
        masks = np.zeros((len(boxes), *image.shape[:2]), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, np.asarray(boxes, int)):
            mask[y1:y2, x1:x2] = True
        return masks


def test_masks_of_a_read_only_data_folder(full_disk, tmp_path, monkeypatch, log) -> None:
    monkeypatch.setenv('MMTRIAD_CACHE', str(tmp_path / 'cache'))
    image = tmp_path / 'a.png'
    shutil.copy(next((ROOT / 'docs').rglob('*.png')), image)
    first, second = (1, 1, 5, 5), (2, 2, 9, 9)

    def work(disk: Path) -> None:
        for expected in (1, 0):  # the second time all are there
            cue = CachedCue(CountedCue(), disk / 'cues')
            found = cue.fill(image, [first, second])
            assert found[second].sum() == 49 and cue.cue.count == expected
        assert len([line for line in log if 'cannot be written' in line]) == 1
        assert str(tmp_path / 'cache') in ''.join(log)

    def before(disk: Path) -> None:
        CachedCue(CountedCue(), disk / 'cues').fill(image, [first])

    on_read_only_disk(full_disk, tmp_path / 'disk', before, work)


def test_outputs_into_a_read_only_folder(full_disk, tmp_path) -> None:
    def work(disk: Path) -> None:
        try:
            (disk / 'work_dirs').mkdir()
        except OSError as error:
            assert user_message(error) == f'{disk}/work_dirs: Read-only file system'

    on_read_only_disk(full_disk, tmp_path / 'disk', lambda disk: None, work)


# ----------------------------------------------------------------------------------------- BERT


@pytest.fixture
def no_vocabulary(tmp_path: Path) -> Path:
    folder = tmp_path / 'bert'
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertModel(BertConfig(vocab_size=40, **sizes)).save_pretrained(folder)
    return folder


def test_a_bert_without_vocabulary_is_one_line(no_vocabulary, toy_config, call_tool) -> None:
    extra = f"model = dict(type='BERTTextEncoder', pretrained={str(no_vocabulary)!r})"
    line = error_line(call_tool('train.py', toy_config(extra), rc=1))
    assert str(no_vocabulary) in line
    assert 'vocab.txt or tokenizer.json' in line and 'text_encoder.vocab_file' in line


def test_its_weights_are_not_read_before(no_vocabulary, monkeypatch) -> None:
    monkeypatch.setattr(BertModel, 'from_pretrained', lambda *_, **__: pytest.fail('read'))
    (no_vocabulary / 'tokenizer.json').write_text('{')
    with pytest.raises(InputError, match='its vocabulary cannot be read'):
        BERTTextEncoder(pretrained=str(no_vocabulary))
    with pytest.raises(FileNotFoundError, match='no such vocabulary'):
        BERTTextEncoder(pretrained=str(no_vocabulary), vocab_file=str(no_vocabulary / 'v.txt'))


# ------------------------------------------------------------------------------------- resuming

TWO_EPOCHS = 'train_cfg = dict(by_epoch=True, max_epochs=2)\n'
EVERY_FOUR = "optim_wrapper = dict(accumulative_counts=4, optimizer=dict(type='AdamW', lr=0.01))\n"


@pytest.fixture
def train(toy_config, call_tool, tmp_path: Path):
    """Runs train.py in this process, on the toy config with lines at its end."""

    def run(extra: str, *arguments, name: str, rc: int = 0):
        for kind in (MessageHub, Visualizer):
            kind._instance_dict.clear()
        config = toy_config(f'experiment_name = {name + repr(arguments)!r}\n{TWO_EPOCHS}{extra}')
        return call_tool('train.py', config, '--work-dir', tmp_path / name, *arguments, rc=rc)

    return run


def first_epoch(tmp_path: Path, name: str, **meta) -> Path:
    """A folder with the first checkpoint of the run 'straight', its meta changed."""
    checkpoint = load_checkpoint_file(tmp_path / 'straight/epoch_1.pth')
    checkpoint['meta'].update(meta)
    (tmp_path / name).mkdir()
    torch.save(checkpoint, tmp_path / name / 'epoch_1.pth')
    return tmp_path / name


def about_resuming(done) -> list[str]:
    return re.findall(r'--resume \S+epoch_1\.pth: (.*)', done.out)


def weights(path: Path) -> torch.Tensor:
    return torch.cat([each.flatten() for each in load_checkpoint_file(path)['state_dict'].values()])


def test_resuming_with_other_processes(train, tmp_path) -> None:
    train('', name='straight')
    first_epoch(tmp_path, 'same', world_size=2, batch_size=2)
    lines = about_resuming(train('', '--resume', name='same'))
    assert lines == [
        'trained by 2 processes with batches of 2, now by 1 process with batches of 4: the samples '
        'of an iteration are the same; dropout and batch statistics differ'
    ]
    first_epoch(tmp_path, 'fewer', world_size=2, batch_size=4, epoch_length=3, iter=3)
    done = train('', '--resume', name='fewer', rc=0)
    (line,) = about_resuming(done)
    for words in (
        '2 processes with batches of 4, now by 1 process with batches of 4',
        '4 samples in place of 8',
        '6 iterations in place of 3',
        'train_dataloader.batch_size=8',
    ):
        assert words in line
    assert load_checkpoint_file(tmp_path / 'fewer/epoch_2.pth')['meta']['iter'] == 12


@pytest.mark.parametrize(
    ('batch_size', 'said'),
    [
        (4, None),
        (8, '12 samples have been seen, the order goes on after 24: the 12 after them are left'),
        (2, '12 samples have been seen, the order goes on after 6: the last 6 of them come again'),
    ],
)
def test_the_place_in_the_order_of_samples(
    batch_size, said, train, toy_config, tmp_path, monkeypatch
) -> None:
    """The line says what the data set is then asked for."""
    asked: list[int] = []
    toy_config()  # registers the classes
    toy = DATASETS.get('ToyDataset')
    load = toy.__getitem__
    monkeypatch.setattr(
        toy,
        '__getitem__',
        lambda self, i: (asked.append(i) if self.size == 24 else None) or load(self, i),
    )
    iterations = (
        "train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)\n"
        'train_cfg = dict(by_epoch=False, max_iters=12, val_interval=100)\n'
        'default_hooks = dict(checkpoint=dict(\n'
        '    by_epoch=False, interval=3, save_best=None, max_keep_ckpts=-1))\n'
    )
    train(iterations, name='straight')
    order = asked[:48]
    (tmp_path / 'on').mkdir()
    shutil.copy(tmp_path / 'straight/iter_3.pth', tmp_path / 'on')
    asked.clear()
    options = ('--resume', tmp_path / 'on/iter_3.pth', '--cfg-options')
    done = train(iterations, *options, f'train_dataloader.batch_size={batch_size}', name='on')
    assert asked[:batch_size] == order[3 * batch_size : 4 * batch_size]
    lines = re.findall(r'--resume \S+iter_3\.pth: (.*)', done.out)
    assert (said is None) == (not lines)
    assert said is None or any(line.startswith(said) for line in lines)


def test_resuming_within_accumulation_is_exact(train, tmp_path) -> None:
    train(EVERY_FOUR, name='straight')
    first_epoch(tmp_path, 'resumed')
    (line,) = about_resuming(train(EVERY_FOUR, '--resume', name='resumed'))
    assert 'stopped after 2 iterations of an update of 4; their gradients come from the' in line
    assert torch.equal(*(weights(tmp_path / n / 'epoch_2.pth') for n in ('straight', 'resumed')))


def test_gradients_of_several_processes_are_said_to_be_lost(train, tmp_path) -> None:
    train(EVERY_FOUR, name='straight')
    folder = first_epoch(tmp_path, 'lost')
    checkpoint = load_checkpoint_file(folder / 'epoch_1.pth')
    del checkpoint['gradients']  # as several processes save it
    torch.save(checkpoint, folder / 'epoch_1.pth')
    (line,) = about_resuming(train(EVERY_FOUR, '--resume', name='lost'))
    assert 'their gradients are lost, and the next update is made without them' in line


# -------------------------------------------------------------------------------------- classes

CLASSIFIER = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmpretrain.models', 'mmdet.datasets'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier', backbone=dict(type='LeNet5'), neck=None,
    head=dict(type='LinearClsHead', num_classes=2, in_channels=84))
dataset = dict(
    type='mmdet.CocoDataset', ann_file={file!r}, metainfo=dict(classes=('cat', 'dog')),
    data_prefix=dict(img=''), pipeline=[])
for each in (train_dataloader, val_dataloader, test_dataloader):
    each['dataset'] = dataset
"""


@pytest.fixture
def classifier(toy_config, tmp_path: Path):
    """Writes a config of two classes whose data has these categories, with lines at its end."""

    def write(*names: str, extra: str = '') -> Path:
        file = tmp_path / 'instances.json'
        categories = [dict(id=i, name=name) for i, name in enumerate(names, 1)]
        images = [dict(id=1, file_name='a.jpg', width=4, height=4)]
        boxes = [dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 2, 2], area=4, iscrowd=0)]
        file.write_text(json.dumps(dict(images=images, annotations=boxes, categories=categories)))
        return toy_config(CLASSIFIER.format(file=str(file)) + extra)

    return write


HEAD = 'model["head"]["num_classes"] = 3\n'
TRAINED = "train_dataloader['dataset'] = dict(dataset, metainfo=dict(classes=('cat', 'cow')))\n"


@pytest.mark.parametrize(
    ('names', 'extra', 'words'),
    [
        (('cat', 'dog'), HEAD, 'head.num_classes is 3'),
        (('cat', 'dogs'), '', "no category 'dog', one of the classes; it has cat, dogs; nearest"),
        (('dog', 'cat'), '', 'in the order dog, cat and the classes in the order cat, dog'),
        (('cat', 'dog', 'dog'), '', "two categories have the name 'dog'"),
        (('cat', 'cow', 'dog'), TRAINED, "class 1 is 'cow', but 'dog' in val_dataloader"),
    ],
)
def test_classes_that_do_not_fit(names, extra, words, classifier, call_tool) -> None:
    """Before the first iteration, which would fail here: there are no images."""
    config = classifier(*names, extra=extra)
    assert words in error_line(call_tool('train.py', config, rc=1))
    checked = call_tool('misc/verify_data.py', config, rc=1).out
    assert re.search(f'^CLASSES .*{re.escape(words)}', checked, re.M)


def test_categories_without_a_class_are_named(classifier, call_tool, log) -> None:
    config = classifier('bird', 'cat', 'cow', 'dog', extra=HEAD)
    done = call_tool('train.py', config, rc=1)
    found = [line for line in done.out.splitlines() if 'are not among the 2 classes' in line]
    assert found and 'annotations are left out: bird, cow' in found[0]


def test_classes_of_a_checkpoint_in_another_order(classifier, call_tool, tmp_path) -> None:
    config = classifier('cat', 'dog')
    model = MODELS.build(Config.fromfile(config).model)
    meta = dict(dataset_meta=dict(classes=('dog', 'cat')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'x.pth')
    done = call_tool('test.py', config, tmp_path / 'x.pth', rc=1)
    assert "x.pth: class 0 is 'dog', but 'cat' in test_dataloader" in error_line(done)


def test_classes_that_no_image_has(tmp_path, log) -> None:
    (tmp_path / 'a.jpg').touch()
    (tmp_path / 'tags.txt').write_text('a.jpg cat\n')
    classes = ('cat', 'dining table')
    TagFileDataset('tags.txt', str(tmp_path), metainfo=dict(classes=classes), pipeline=[])
    (line,) = [line for line in log if 'in none of its images' in line]
    assert line.endswith('1 classes are in none of its images: dining table')
