"""Fetch photographed cut-outs and photographs for the quick starts on scenes of them.

The cut-outs are the photographs among the stamps of Tux Paint, from Debian's
tuxpaint-stamps-default; the backgrounds come with scikit-image and scikit-learn.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.scenes.cutouts import NAMES_FILE

PACKAGE = 'tuxpaint-stamps-default'
DEB = f'{PACKAGE}_2022.06.04-1_all.deb'
SHA256 = '6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34'
LICENSE = f"""\
{PACKAGE}: stamps of Tux Paint, (c) 2002-2022 Bill Kendrick and contributors.
License: GPL-2, https://www.gnu.org/licenses/old-licenses/gpl-2.0.html
What is made of them may be subject to it: do not publish these images under other terms.
"""
STAMPS = 'usr/share/tuxpaint/stamps/'
COPYRIGHT = f'usr/share/doc/{PACKAGE}/copyright'
MAX_BYTES = 20_000_000  # of a file in the package

# Folders of photographs, with the name of everything in them, or '' for that in the caption. Trees
# are left out, because they are in the photographs of the backgrounds.
FOLDERS = {
    'animals/birds': 'bird', 'animals/fish': '', 'animals/insects': 'insect', 'animals': '',
    'food/fruit': 'fruit', 'food/nuts': 'nut', 'food/vegetables': 'vegetable', 'food': '',
    'hobbies': '', 'household': '', 'plants/flowers': 'flower', 'plants/mushrooms': 'mushroom',
    'sports': '', 'vehicles': '',
}  # fmt: skip
# More general names for words of captions, so that no name is true of what has another one.
GENERAL = {
    'antelope': 'blackbuck gnu', 'ape': 'chimpanzee gorilla', 'ball': 'basketball football',
 'camel': 'dromedary', 'car': 'beetle', 'cow': 'bison bull yak zebu',
    'deer': 'caribou doe wapiti', 'dog': 'dingo', 'fish':
    'butterflyfish clownfish dolphinfish groper lionfish trout wrasse', 'goat': 'mountaingoat',
    'mushroom': 'cep', 'pig': 'boar boars', 'rodent': 'beaver capybara marmot mouse rat squirrel',
    'sheep': 'lamb ram', 'truck': 'dumper', 'whale': 'orca',
}  # fmt: skip
_NAME_OF = {word: name for name, words in GENERAL.items() for word in words.split()}
_OTHERS = ('slug', 'woodlouse', 'mushroom')  # not what their folder says
_ARTICLES = ('a', 'an', 'the', 'some', 'two')
_SETS = ('pair', 'head', 'bunch', 'string', 'baby', 'set')
DRAWN = ('cartoon', 'toys', 'plastic')  # folders of drawings and toys
MAX_FLAT = 0.5  # share of neighboring pixels of equal color, which drawings exceed
LEAST_SIDE = 40  # pixels

# Photographs that show nothing that stamps are named after. Those of a cat and of a flower do.
PHOTOGRAPHS = {
    'skimage': (
        'data/astronaut.png', 'data/brick.png', 'data/camera.png', 'data/coffee.png',
        'data/grass.png', 'data/gravel.png', 'data/hubble_deep_field.jpg', 'data/moon.png',
        'data/motorcycle_left.png', 'data/rocket.jpg',
    ),
    'sklearn': ('datasets/images/china.jpg',),
}  # fmt: skip


class Stamp(NamedTuple):
    """A stamp of the package.

    Attributes:
        path: Below the folder of stamps.
        image: Content of the PNG file.
        caption: In English.
        options: Lines of the file for Tux Paint.
    """

    path: PurePosixPath
    image: bytes
    caption: str
    options: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='folder: cutouts/ and backgrounds/ go there')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--deb', type=Path, help=f'a downloaded {DEB}')
    source.add_argument('--mirror', help='URL of a Debian mirror, for systems without apt-get')
    args = parser.parse_args()
    fetch(args.out, args.deb, args.mirror)


def fetch(out: Path, deb: Path | None = None, mirror: str | None = None) -> None:
    """Write cut-outs with their names and backgrounds, unless they are there."""
    print(LICENSE, flush=True)
    if (out / 'cutouts' / NAMES_FILE).is_file():  # written last
        print(f'{out}: cut-outs are there already')
        return
    photographs = copy_photographs(out / 'backgrounds')
    with tempfile.TemporaryDirectory() as folder:
        names = write_stamps(deb or download(Path(folder), mirror), out / 'cutouts')
    several = sum(count > 1 for count in names.values())
    print(
        f'{out}: {names.total()} cut-outs with {len(names)} names ({several} of several), '
        f'{photographs} backgrounds'
    )


def download(folder: Path, mirror: str | None) -> Path:
    """Download the package with apt-get, which checks its signature, or from a mirror."""
    if mirror is not None:
        url = f'{mirror.rstrip("/")}/pool/main/t/tuxpaint-stamps/{DEB}'
        path = folder / DEB
        print(f'downloading 161 MB: {url}', flush=True)
        try:
            with urllib.request.urlopen(url) as response, path.open('wb') as file:
                shutil.copyfileobj(response, file)
        except (OSError, ValueError) as error:
            raise InputError(f'--mirror {mirror}: cannot be downloaded ({error})') from None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != SHA256:
            raise InputError(f'{url}: found SHA-256 {digest}, expected {SHA256}')
        return path
    other = f'give a downloaded {DEB} with --deb, or the URL of a Debian mirror with --mirror'
    if shutil.which('apt-get') is None:
        raise InputError(f'found no apt-get; {other}')
    print(f'downloading 161 MB: apt-get download {PACKAGE}', flush=True)
    done = subprocess.run(
        ['apt-get', 'download', PACKAGE], cwd=folder, capture_output=True, text=True, check=False
    )
    found = list(folder.glob(f'{PACKAGE}_*.deb'))
    if done.returncode or not found:
        reason = ' '.join(done.stderr.split()) or 'nothing was downloaded'
        raise InputError(f'apt-get download {PACKAGE}: {reason}; {other}')
    return found[0]


def read_package(deb: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the regular files in a Debian package."""
    try:
        with deb.open('rb') as file:
            if file.read(8) != b'!<arch>\n':
                raise InputError(f'{deb}: found no Debian package')
            while header := file.read(60):  # of ar: name, times, owner, mode, size
                name, size = header[:16].decode().strip(' /'), int(header[48:58])
                if name.startswith('data.tar'):
                    with tarfile.open(fileobj=io.BytesIO(file.read(size))) as archive:
                        yield from _read_files(archive)
                    return
                file.seek(size + size % 2, io.SEEK_CUR)
    except (OSError, ValueError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'{deb}: cannot be read ({error})') from None
    raise InputError(f'{deb}: found no data.tar in the package')


def _read_files(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        wanted = member.name.endswith(('.png', '.svg', '.txt', '.dat', '/copyright'))
        content = archive.extractfile(member) if member.isfile() and wanted else None
        if content is not None and member.size <= MAX_BYTES:
            yield member.name.removeprefix('./'), content.read()


def write_stamps(deb: Path, out: Path) -> Counter[str]:
    """Write the photographs among the stamps, and return how many have each name.

    The names of the files are put together here, so nothing is written outside of ``out``.
    """
    files = dict(read_package(deb))
    rows = []
    for stamp in _stamps(files):
        name = name_of(stamp.path, stamp.caption)
        if name is None or not is_photograph(stamp.image):
            continue
        file = re.sub(r'[^\w.-]', '_', '_'.join(stamp.path.parts))
        out.mkdir(parents=True, exist_ok=True)
        (out / file).write_bytes(stamp.image)
        rows.append((file, name, 'no' if 'nomirror' in stamp.options else 'yes'))
    if not rows:
        raise InputError(f'{deb}: found no photographed stamps')
    (out / 'copyright').write_bytes(files.get(COPYRIGHT, LICENSE.encode()))
    with (out / NAMES_FILE).open('w', newline='') as file:
        csv.writer(file).writerows([('file', 'name', 'flip'), *sorted(rows)])
    return Counter(name for _, name, _ in rows)


def _stamps(files: dict[str, bytes]) -> Iterator[Stamp]:
    """Yield the stamps that are no vector graphics and have a caption."""
    for name, content in sorted(files.items()):
        stem = name.removesuffix('.png')
        caption = files.get(f'{stem}.txt')
        if name == stem or not name.startswith(STAMPS) or not caption or f'{stem}.svg' in files:
            continue
        options = files.get(f'{stem}.dat', b'').decode(errors='replace').split()
        first = caption.decode(errors='replace').splitlines()[0]
        yield Stamp(PurePosixPath(name.removeprefix(STAMPS)), content, first, tuple(options))


def name_of(path: PurePosixPath, caption: str) -> str | None:
    """Return what a stamp is called, or None if it is left out.

    The head noun of the caption, or a more general name for it, or that of its folder.

    Args:
        path: The stamp below the folder of stamps.
        caption: Such as 'A very poisonous lionfish!'
    """
    folder = next((f for f in FOLDERS if path.is_relative_to(f)), None)
    if folder is None or set(path.parts) & set(DRAWN):
        return None
    noun = head_noun(caption)
    if FOLDERS[folder] and noun not in _OTHERS:
        return FOLDERS[folder]
    return _NAME_OF.get(noun, noun) if noun else None


def head_noun(caption: str) -> str | None:
    """Return the noun of a caption: 'ball' of 'A cricket ball.', 'gnu' of 'The baby of a gnu.'

    Captions that do not begin with an article are sentences or names.
    """
    phrase = re.split(r'[.,;:!?(\N{EM DASH}]', caption.lower())[0]
    if phrase.split()[:1] not in ([article] for article in _ARTICLES):
        return None
    phrase = re.sub(r'[“”"\'’]\w*', lambda quote: quote[0][1:], phrase)
    phrase = re.split(r' (?:with|from|in|for|used|resembles|covered|to|that) ', phrase)[0]
    before, _, after = phrase.partition(' of ')
    words = (after if after and set(before.split()) & set(_SETS) else before).split()
    return words[-1] if words and words[-1].isalpha() else None


def is_photograph(content: bytes) -> bool:
    """Return whether an image is a photographed cut-out, and large enough.

    Drawings have areas of one color: more than half of neighboring pixels are equal.
    """
    with Image.open(io.BytesIO(content), formats=['PNG']) as image:
        if not image.has_transparency_data or max(image.size) < LEAST_SIDE:
            return False
        pixels = np.asarray(image.convert('RGBA'))
    opaque = pixels[..., 3] >= 200
    both = opaque[:, 1:] & opaque[:, :-1]
    equal = (pixels[:, 1:, :3] == pixels[:, :-1, :3]).all(axis=2) & both
    return bool(both.any() and not opaque.all() and equal.sum() <= MAX_FLAT * both.sum())


def copy_photographs(out: Path) -> int:
    """Copy the photographs of installed packages, and return their number."""
    out.mkdir(parents=True, exist_ok=True)
    copied = 0
    for package, files in PHOTOGRAPHS.items():
        found = importlib.util.find_spec(package)  # without importing it
        if found is None or not found.submodule_search_locations:
            raise InputError(f'found no package {package}; it is in requirements/runtime.txt')
        for file in files:
            path = Path(found.submodule_search_locations[0], file)
            if not path.is_file():
                raise InputError(f'{path}: found no such file in the installed {package}')
            shutil.copyfile(path, out / path.name)
            copied += 1
    return copied


if __name__ == '__main__':
    with report_user_errors():
        main()
