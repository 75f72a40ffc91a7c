"""The published data sets get into the tree that the configs read, also after a kill."""

from __future__ import annotations

import io
import os
import time
import zipfile
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import numpy as np
import pytest
import torchvision.datasets
from mmengine.config import Config

from projects.common.errors import InputError
from tools.misc import dataset_catalog, download_dataset
from tools.misc.dataset_catalog import DATA_SETS

ENTITIES = 'flickr30k-entities'
FILES = {file.name: file for data_set in DATA_SETS.values() for file in data_set.files}


def zipped(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace('__', '/'), data)
    return content.getvalue()


@pytest.fixture
def mirror(file_server):
    """A mirror of Flickr30K Entities."""
    noise = np.random.default_rng(0).bytes(3 * 2**20)
    content = dict(Annotations__1_xml=b'<annotation/>', Sentences__1_txt=b'A dog .', x=noise)
    file_server.add('annotations.zip', zipped(**content))
    for split in ('train', 'val', 'test'):
        file_server.add(f'{split}.txt', f'{split}\n'.encode())
    return file_server


def files_below(root):
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob('*')
        if path.is_file() and '.downloads' not in path.parts
    )


TREE = [
    'flickr30k_entities/Annotations/1_xml', 'flickr30k_entities/Sentences/1_txt',
    'flickr30k_entities/test.txt', 'flickr30k_entities/train.txt', 'flickr30k_entities/val.txt',
]  # fmt: skip


def test_download_and_once_more(mirror, tmp_path, call_tool):
    options = (ENTITIES, '--mirror', mirror.url, '--data-root', tmp_path, '--yes')
    printed = call_tool('misc/download_dataset.py', *options, '--delete-archives').out
    assert files_below(tmp_path) == TREE
    assert (tmp_path / 'flickr30k_entities/val.txt').read_bytes() == b'val\n'
    assert not list((tmp_path / '.downloads').glob('*.zip'))
    order = ['terms: non-commercial', 'annotations.zip', '3.1 MB', 'to download: 3.1 MB',
             'to check the data', 'verify_data.py configs/plvl/plvl_vit-b-rec']  # fmt: skip
    assert sorted(order, key=printed.index) == order
    assert 'shannon.cs.illinois.edu' in printed  # the images need a form
    asked = len(mirror.requests)
    printed = call_tool('misc/download_dataset.py', *options).out
    assert printed.count('there already') == 4 and 'to download: 0 bytes' in printed
    assert len(mirror.requests) == asked


def test_killed_and_resumed(mirror, tmp_path, tool):
    """SIGKILL in the middle of a transfer; the next run gets the rest alone."""
    whole = mirror.files['/annotations.zip']
    whole.pause = 0.02
    options = (ENTITIES, '--mirror', mirror.url, '--data-root', tmp_path / 'data', '--yes')
    part = tmp_path / 'data/.downloads/annotations.zip.part'
    process = tool.start('misc/download_dataset.py', *options)
    end = time.monotonic() + 150
    while not (part.exists() and part.stat().st_size > 2**20):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate()
    arrived = part.stat().st_size
    assert 2**20 < arrived < len(whole.data)
    assert not files_below(tmp_path / 'data')
    whole.pause = 0
    done = tool('misc/download_dataset.py', *options)
    assert done.returncode == 0, done.stderr
    assert mirror.ranges()[-4:] == [f'bytes={arrived}-', None, None, None]
    assert files_below(tmp_path / 'data') == TREE
    assert (tmp_path / 'data/.downloads/annotations.zip').read_bytes() == whole.data


def test_terms_have_to_be_accepted(mirror, tmp_path, monkeypatch, capsys):
    options = [ENTITIES, '--mirror', mirror.url, '--data-root', str(tmp_path)]
    stdin = type('Stdin', (), {'isatty': lambda self: self.terminal})()
    monkeypatch.setattr(download_dataset.sys, 'stdin', stdin)
    stdin.terminal = False
    with pytest.raises(InputError, match='--yes does so in scripts'):
        download_dataset.main(options)
    stdin.terminal = True
    monkeypatch.setattr('builtins.input', lambda question: '')
    with pytest.raises(InputError, match='were not accepted; nothing was downloaded'):
        download_dataset.main(options)
    assert {method for method, _, _ in mirror.requests} == {'HEAD'}
    assert 'terms: ' in capsys.readouterr().out and not files_below(tmp_path)
    monkeypatch.setattr('builtins.input', lambda question: 'Y ')
    assert download_dataset.main(options) == 0
    assert files_below(tmp_path) == TREE


def test_a_file_that_is_gone_is_one_line(mirror, tmp_path, call_tool):
    del mirror.files['/val.txt']
    options = (ENTITIES, '--mirror', mirror.url, '--data-root', tmp_path, '--yes')
    error = call_tool('misc/download_dataset.py', *options, rc=1).err
    assert error == f'error: {mirror.url}/val.txt: found status 404 Not Found, expected 200\n'


def test_verify_runs_the_check(mirror, tmp_path, monkeypatch):
    calls = []

    def run(command, cwd, env, check):
        calls.append((command[1:], env['DATA_ROOT']))
        return type('Done', (), {'returncode': 1})

    monkeypatch.setattr(download_dataset.subprocess, 'run', run)
    options = [ENTITIES, '--mirror', mirror.url, '--data-root', str(tmp_path), '--yes', '--verify']
    assert download_dataset.main(options) == 1
    config = 'configs/plvl/plvl_vit-b-rec_4xb20-150e_flickr30k.py'
    assert calls == [(['tools/misc/verify_data.py', config], f'{tmp_path}{os.sep}')]


def test_list_and_wrong_names(call_tool):
    printed = call_tool('misc/download_dataset.py', '--list').out
    assert all(f'\n{name}: ' in f'\n{printed}' for name in DATA_SETS)
    assert printed.count('terms: ') == len(DATA_SETS)
    assert all(name in printed for name in FILES)
    wrong = call_tool('misc/download_dataset.py', 'coco', rc=2).err
    assert 'found coco, expected names of coco2014, coco2017' in wrong
    assert 'expected either NAME ... or --list' in call_tool('misc/download_dataset.py', rc=2).err


def test_annotations_only():
    args = download_dataset.parse_args(['refcoco', '--annotations-only'])
    assert [f.name for f in download_dataset.wanted(DATA_SETS['refcoco'], args)] == ['refcoco.zip']


# ------------------------------------------------------------------------------------- the table


def test_the_table_is_consistent():
    """Records and mirrors know a file by its name, so it means one file."""
    every = {file for data_set in DATA_SETS.values() for file in data_set.files}
    assert len({file.name for file in every}) == len(every) > 20
    for file in every:
        assert all(urlsplit(url).scheme in ('http', 'https') for url in file.urls)
        for path in (path for place in file.places for path in place):
            assert not PurePosixPath(path).is_absolute() and '..' not in PurePosixPath(path).parts


def test_checksums_are_those_of_torchvision():
    voc = torchvision.datasets.voc.DATASET_YEAR_DICT
    for entry in (voc['2007'], voc['2007-test'], voc['2012']):
        file = FILES[entry['filename']]
        assert file.urls == (entry['url'],)
        assert file.digest == f'md5:{entry["md5"]}'
        assert file.places == ((entry['base_dir'],) * 2,)
    sbd = torchvision.datasets.SBDataset
    assert FILES[sbd.filename].urls == (sbd.url,)
    assert FILES[sbd.filename].digest == f'md5:{sbd.md5}'
    assert {f.name for f in FILES.values() if f.digest} == {
        sbd.filename, *(voc[year]['filename'] for year in ('2007', '2007-test', '2012'))
    }  # fmt: skip


def paths_in(dataset) -> set[str]:
    """What a dataset of a config reads below the data root, which is 'data'."""
    if dataset.get('datasets'):
        return set().union(*(paths_in(each) for each in dataset.datasets))
    root = dataset.get('data_root', '')
    fields = [dataset.get(f) for f in ('ann_file', 'split_file', 'exclude')]
    fields.append((dataset.get('data_prefix') or {}).get('img'))
    return {os.path.normpath(os.path.join(root, field)) for field in fields if field}


@pytest.mark.parametrize('name', [name for name, each in DATA_SETS.items() if each.verify])
def test_configs_read_what_the_table_provides(name, repo_root, monkeypatch):
    monkeypatch.delenv('DATA_ROOT', raising=False)
    places = {below for file in FILES.values() for _, below in file.places}
    places |= {link for data_set in DATA_SETS.values() for link, _ in data_set.links}
    by_hand = {'images/flickr30k', 'SBD/train_9118.txt'}  # a form; a computed file
    for command in DATA_SETS[name].verify:
        tool, config = command.split()[1:]
        assert (repo_root / tool).is_file()
        cfg = Config.fromfile(repo_root / config)
        read = paths_in(cfg.train_dataloader.dataset) | paths_in(cfg.test_dataloader.dataset)
        assert read
        for path in read:
            assert path.startswith('data/')
            pure = PurePosixPath(path.removeprefix('data/'))
            holds_them = any(PurePosixPath(place).is_relative_to(pure) for place in places)
            provided = any(pure.is_relative_to(place) for place in places | by_hand)
            assert provided or holds_them, path


def test_image_set_of_the_released_code(tmp_path):
    make = dataset_catalog.make_train_9118
    assert 'it needs sbd' in make(tmp_path)
    sbd, voc = tmp_path / 'SBD', tmp_path / 'VOCdevkit/VOC2012/ImageSets/Segmentation'
    sbd.mkdir()
    assert 'it needs voc2012' in make(tmp_path)
    voc.mkdir(parents=True)
    names = [f'2008_{i:06d}' for i in range(9128)]
    (sbd / 'train.txt').write_text('\n'.join(names[5000:]) + '\n')
    (sbd / 'val.txt').write_text('\n'.join(names[:5000]))
    (voc / 'trainval.txt').write_text('\n'.join([*names[:10], '2007_000032']) + '\n')
    assert make(tmp_path) == f'{sbd}/train_9118.txt: 9,118 images'
    assert (sbd / 'train_9118.txt').read_text().split('\n') == [*names[10:], '']
    (voc / 'trainval.txt').write_text('\n'.join(names[:9]))
    with pytest.raises(InputError, match='found 9,119 images for it, expected 9,118'):
        make(tmp_path)
