"""Images of all kinds become what a viewer shows; too large ones are refused unread."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from projects.common.files.image_reader import as_rgb
from projects.common.files.images import check_size


def png_header(width: int, height: int) -> bytes:
    """A PNG that states its size and ends where its pixels would begin."""
    chunk = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    header = struct.pack('>I', 13) + chunk + struct.pack('>I', zlib.crc32(chunk))
    return b'\x89PNG\r\n\x1a\n' + header + struct.pack('>I', 100) + b'IDAT'


@pytest.fixture
def undecodable(monkeypatch):
    """Decoding any image fails the test."""

    def load(self):
        raise AssertionError('decoded')

    monkeypatch.setattr(ImageFile.ImageFile, 'load', load)


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('side', [9_500, 20_000, 2**31 - 1])
def test_large_picture_is_refused_by_its_header(side, tmp_path, undecodable):
    path = tmp_path / 'bomb.png'
    path.write_bytes(png_header(side, side))
    with pytest.raises(ValueError, match=r'bomb.png: .*expected at most 89,478,485'):
        check_size(path)


def test_size_and_limits(tmp_path, undecodable):
    path = tmp_path / 'a.png'
    path.write_bytes(png_header(40, 30))
    assert check_size(path) == (40, 30)
    assert check_size(path, 1200) == (40, 30)
    with pytest.raises(ValueError, match='a.png: 40 x 30 pixels; expected at most 1,199 in all'):
        check_size(path, 1199)
    with pytest.raises(ValueError, match='a.png: not readable'):
        check_size(path, formats=['JPEG'])
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(ValueError, match='text.png: not readable'):
        check_size(tmp_path / 'text.png')


def test_what_a_viewer_shows(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(rgb)

    def reopened(image, name, **options):
        image.save(tmp_path / name, **options)
        return np.asarray(as_rgb(Image.open(tmp_path / name)))

    assert (reopened(picture, 'a.png') == rgb).all()
    # each of EXIF's orientations: the stored pixels are those of a camera held so
    for orientation, stored in {
        2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.swapaxes(0, 1),
        6: rgb.swapaxes(0, 1)[::-1], 8: rgb.swapaxes(0, 1)[:, ::-1],
    }.items():  # fmt: skip
        exif = Image.Exif()
        exif[274] = orientation
        shown = reopened(Image.fromarray(np.ascontiguousarray(stored)), 'r.png', exif=exif)
        assert (shown == rgb).all(), orientation
    # 16 bits: the upper eight
    deep = rng.integers(0, 2**16, (4, 6), dtype=np.uint16)
    for name in ('deep.png', 'deep.tif'):
        assert (reopened(Image.fromarray(deep), name) == (deep // 256)[..., None]).all()
    # transparent parts are white, half transparent ones half white
    alpha = np.zeros((4, 6), np.uint8)
    alpha[0], alpha[1] = 255, 128
    shown = reopened(Image.fromarray(np.dstack([rgb, alpha])), 'alpha.png').astype(int)
    assert (shown[0] == rgb[0]).all() and (shown[2:] == 255).all()
    assert np.abs(shown[1] - (rgb[1] * (128 / 255) + 255 * (127 / 255))).max() <= 1
    # an animation's first frame; a palette; no colour; four inks
    frames = [Image.new('RGB', (6, 4), color) for color in ('red', 'lime')]
    shown = reopened(frames[0], 'a.gif', save_all=True, append_images=frames[1:])
    assert (shown == (255, 0, 0)).all()
    grey = picture.convert('L')
    assert (reopened(grey, 'g.png') == np.asarray(grey)[..., None]).all()
    inks = Image.new('CMYK', (6, 4), (0, 255, 255, 0))
    assert np.abs(reopened(inks, 'inks.jpg').astype(int) - (255, 0, 0)).max() <= 3
    for mode in ('I', 'F'):
        with pytest.raises(ValueError, match=f"mode '{mode}': expected 8 or 16 bits"):
            as_rgb(Image.new(mode, (6, 4)))
