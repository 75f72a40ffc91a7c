"""Fetching cut-outs: a package made here, of photographs, drawings and files that do not belong."""

from __future__ import annotations

import csv
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from projects.common.errors import InputError
from projects.common.scenes.cutouts import find_cutouts, read_cutout
from tools.misc import fetch_cutouts

STAMPS = './usr/share/tuxpaint/stamps/'


def png(kind='photograph', side=60):
    rng = np.random.default_rng(side)
    pixels = rng.integers(0, 255, (side, side, 4), np.uint8)
    if kind == 'drawing':
        pixels[..., :3] = (200, 30, 30)
    pixels[..., 3] = 0
    pixels[8:-8, 8:-8, 3] = 255
    file = io.BytesIO()
    mode = 'RGB' if kind == 'opaque' else 'RGBA'
    Image.fromarray(pixels).convert(mode).save(file, 'PNG')
    return file.getvalue()


FILES = {
    'animals/birds/owl.png': png(),
    'animals/birds/owl.txt': b'An owl.\nde.utf8=Eine Eule.\n',
    'animals/birds/owl.dat': b'nomirror\n',
    'animals/birds/tux.png': png('drawing'),
    'animals/birds/tux.txt': b'A penguin.',
    'animals/birds/cartoon/duck.png': png(),
    'animals/birds/cartoon/duck.txt': b'A duck.',
    'animals/birds/hen.png': png(),
    'animals/birds/hen.svg': b'<svg/>',
    'animals/birds/hen.txt': b'A hen.',
    'animals/birds/owl_mirror.png': png(),  # without a caption
    'animals/birds/kiwi.png': png(side=30),  # small
    'animals/birds/kiwi.txt': b'A kiwi.',
    'animals/birds/wall.png': png('opaque'),
    'animals/birds/wall.txt': b'A wall.',
    'animals/fish/lion fish.png': png(side=80),
    'animals/fish/lion fish.txt': b'A very poisonous lionfish!',
    'symbols/a.png': png(),
    'symbols/a.txt': b'A letter.',
    '../../../../../evil.png': png(),
    '../../../../../evil.txt': b'An owl.',
}


def write_deb(path, files=FILES, data='data.tar.xz'):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w:xz') as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(STAMPS + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(STAMPS + 'animals/birds/link.png')
        link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
        tar.addfile(link)
    parts = {'debian-binary': b'2.0\n', 'control.tar.gz': b'abc', data: archive.getvalue()}
    with open(path, 'wb') as file:
        file.write(b'!<arch>\n')
        for name, content in parts.items():
            file.write(f'{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n'.encode())
            file.write(content + b'\n' * (len(content) % 2))


def test_photographs_get_names(tmp_path):
    deb, out = tmp_path / 'stamps.deb', tmp_path / 'out' / 'cutouts'
    write_deb(deb)
    names = fetch_cutouts.write_stamps(deb, out)
    assert names == {'bird': 1, 'fish': 1}
    assert {path.name for path in out.iterdir()} == {
        'animals_birds_owl.png', 'animals_fish_lion_fish.png', 'copyright', 'names.csv'
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {'stamps.deb', 'out'}
    rows = list(csv.DictReader((out / 'names.csv').open()))
    assert rows == [
        dict(file='animals_birds_owl.png', name='bird', flip='no'),
        dict(file='animals_fish_lion_fish.png', name='fish', flip='yes'),
    ]
    cutouts, _ = find_cutouts(out)
    assert [(cutout.name, cutout.flip) for cutout in cutouts] == [('bird', False), ('fish', True)]
    assert read_cutout(cutouts[0].path).shape == (44, 44, 4)
    assert b'GPL-2' in (out / 'copyright').read_bytes()


@pytest.mark.parametrize(
    ('caption', 'noun'),
    [
        ('A dog.', 'dog'),
        ('A very poisonous lionfish!', 'lionfish'),
        ('A peacock (a male peafowl).', 'peacock'),
        ('The baby of a gnu.', 'gnu'),
        ('A pair of cherries.', 'cherries'),
        ('A glass of water.', 'glass'),
        ('A “Granny Smith” apple.', 'apple'),
        ('A flower covered in dew drops.', 'flower'),
        ('A football used in Australian Rules.', 'football'),
        ('A UK post box. Put your letter in here!', 'box'),
        ('Remember to flush the toilet!', None),
        ('Boom!!!', None),
    ],
)
def test_head_nouns(caption, noun):
    assert fetch_cutouts.head_noun(caption) == noun


def test_general_names_exclude_one_another():
    words = [word for words in fetch_cutouts.GENERAL.values() for word in words.split()]
    assert len(set(words)) == len(words)
    assert not set(words) & set(fetch_cutouts.GENERAL)


def test_license_is_shown_first(tmp_path, capsys, monkeypatch):
    write_deb(tmp_path / 'stamps.deb')
    monkeypatch.setattr(fetch_cutouts, 'copy_photographs', lambda out: 3)
    fetch_cutouts.fetch(tmp_path / 'out', tmp_path / 'stamps.deb')
    printed = capsys.readouterr().out
    assert printed.index('GPL-2') < printed.index('2 cut-outs with 2 names')
    monkeypatch.setattr(fetch_cutouts, 'download', None)  # is not asked for again
    fetch_cutouts.fetch(tmp_path / 'out')
    assert 'are there already' in capsys.readouterr().out


def test_photographs_of_installed_packages(tmp_path):
    assert fetch_cutouts.copy_photographs(tmp_path) == 11
    assert len(list(tmp_path.iterdir())) == 11
    assert all(min(Image.open(path).size) >= 400 for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'PK\x03\x04', 'found no Debian package'),
        (b'!<arch>\n', 'found no data.tar in the package'),
        (b'!<arch>\n' + b'data.tar.xz'.ljust(48) + b'10'.ljust(12) + b'x' * 10, 'cannot be read'),
    ],
)
def test_bad_packages(tmp_path, content, message):
    deb = tmp_path / 'stamps.deb'
    deb.write_bytes(content)
    with pytest.raises(InputError, match=f'stamps.deb: {message}'):
        fetch_cutouts.write_stamps(deb, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_mirrors(tmp_path, monkeypatch):
    folder = tmp_path / 'mirror/pool/main/t/tuxpaint-stamps'
    folder.mkdir(parents=True)
    deb = folder / fetch_cutouts.DEB
    write_deb(deb)
    (tmp_path / 'here').mkdir()
    mirror = (tmp_path / 'mirror').as_uri()
    with pytest.raises(InputError, match='found SHA-256 .*, expected 6db6c1bf'):
        fetch_cutouts.download(tmp_path / 'here', mirror)
    with pytest.raises(InputError, match='--mirror nowhere: cannot be downloaded'):
        fetch_cutouts.download(tmp_path / 'here', 'nowhere')
    monkeypatch.setattr(fetch_cutouts.shutil, 'which', lambda name: None)
    with pytest.raises(InputError, match='found no apt-get; give a downloaded'):
        fetch_cutouts.download(tmp_path / 'here', None)
