"""Objects keep their colors, the rest is dimmed, and text fits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import ImageFont

from projects.common.files.names import unique_names
from projects.common.visualization import (
    Panel,
    color_of,
    draw_objects,
    draw_page,
    load_font,
    resize_to,
    text,
    tile,
    wrap,
)

RED = (255, 0, 0)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)


def disk(radius: int = 50, center: tuple[int, int] = (200, 150)) -> np.ndarray:
    mask = np.zeros((300, 400), np.uint8)
    cv2.circle(mask, center, radius, 1, -1)
    return mask


def spread(image: np.ndarray) -> float:
    return float(image.astype(float).std(axis=(0, 1)).mean())


def test_the_inside_keeps_its_colors_and_the_outside_is_dimmed(image):
    mask = disk()
    before = image.copy()
    drawn = draw_objects(image, [[150, 100, 251, 201]], [mask], [RED])
    inside = mask.astype(bool)
    assert (drawn[inside] == image[inside]).all()  # bit for bit, although the box is tight
    far = ~cv2.dilate(mask, np.ones((41, 41))).astype(bool)
    assert drawn[far].mean() < 0.75 * image[far].mean()
    assert spread(drawn[:60]) < 0.5 * spread(image[:60])
    # The outline: the color between white and dark, going out from the object.
    row = drawn[150, 251:262].astype(int)
    white, red = (row.min(1) > 200).nonzero()[0], (np.abs(row - RED).max(1) < 60).nonzero()[0]
    assert len(white) and len(red) and white[0] < red[0] < (row.max(1) < 60).nonzero()[0][0]
    np.testing.assert_array_equal(image, before)


def test_several_objects_in_colors_of_their_own(image):
    masks = [disk(40, (100, 150)), disk(40, (280, 150))]
    drawn = draw_objects(image, [None, None], masks, [color_of(0), color_of(1)], ['first', 'last'])
    for mask, color in zip(masks, (color_of(0), color_of(1))):
        around = cv2.dilate(mask, np.ones((15, 15))).astype(bool) & ~mask.astype(bool)
        assert (np.abs(drawn[around].astype(int) - color).max(1) < 12).sum() > 100
        assert (drawn[mask.astype(bool)] == image[mask.astype(bool)]).all()
    assert len({color_of(i) for i in range(10)}) == 10
    nothing = draw_objects(image, [], [], [])
    np.testing.assert_array_equal(nothing, image)


def test_a_box_without_a_mask_shows_its_inside(image):
    drawn = draw_objects(image, [[50, 50, 100, 120]], [None], [RED])
    np.testing.assert_array_equal(drawn[52:118, 52:98], image[52:118, 52:98])
    assert spread(drawn[200:]) < 0.5 * spread(image[200:])
    scaled = draw_objects(image, [[25, 25, 50, 60]], [None], [RED], shape=(150, 200))
    np.testing.assert_array_equal(scaled, drawn)


@pytest.mark.parametrize('box', [[0, 0, 400, 300], [-50, -50, 900, 900], [5, 5, 5.2, 5.2]])
def test_boxes_at_and_beyond_the_border_show(image, box):
    drawn = draw_objects(image, [box], [None], [RED])
    assert (np.abs(drawn.astype(int) - RED).max(2) < 12).sum() > 20


def test_masks_of_any_size_are_smooth_and_never_lost(image):
    small = cv2.resize(disk(), (40, 30), interpolation=cv2.INTER_AREA)
    drawn = draw_objects(image, [None], [small], [RED])
    kept = (drawn == image).all(2)
    assert (kept & disk().astype(bool)).sum() > 0.8 * disk().sum()
    pixel = np.zeros((3, 4), bool)
    pixel[1, 2] = True
    assert (draw_objects(image, [None], [pixel], [RED]) == image).all(2)[150, 250]


def test_labels_stay_inside_and_apart(image):
    black = np.zeros_like(image)
    boxes = [[0, 0, 60, 60], [4, 0, 64, 60], [360, 260, 400, 300]]
    drawn = draw_objects(black, boxes, [None] * 3, [(1, 250, 1)] * 3, ['person 0.99'] * 3)
    plates = cv2.morphologyEx((drawn[..., 1] > 240).astype(np.uint8), cv2.MORPH_OPEN, np.ones(3))
    height = sum(load_font(12, bold=True).getmetrics())
    assert plates.sum() > 3 * 0.5 * height * load_font(12, bold=True).getlength('person 0.99')


@pytest.mark.parametrize(
    ('size', 'expected'),
    [((128, 128), (320, 320)), ((480, 640), (480, 640)), ((1000, 2000), (320, 640)),
     ((3, 2000), (1, 640))],
)  # fmt: skip
def test_sizes(size, expected):
    assert resize_to(np.zeros((*size, 3), np.uint8), 320, 640).shape[:2] == expected


def test_sentences_are_wrapped_within_the_page():
    font = load_font(20)
    text = 'a ' + 'very long sentence ' * 20 + 'W' * 100 + ' 猫の左 ünïcødé <b>%s</b> $x$'
    lines = wrap(text, font, 300)
    assert all(font.getlength(line) <= 300 for line in lines)
    assert ''.join(lines).replace(' ', '') == text.replace(' ', '')
    assert wrap('', font, 300) == ['']
    for width in (16, 320):  # a page is wide enough for words, whatever the image
        panel = Panel(np.zeros((64, width, 3), np.uint8))
        short, long = draw_page([panel], 'cup'), draw_page([panel], text)
        assert long.shape[1] == short.shape[1] >= 300 and long.shape[0] > short.shape[0] + 100
        assert (long[:, :8] == 255).all() and (long[:, -8:] == 255).all()  # the margins


CHINESE = '红色的圆'


def is_box(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """Whether a character is drawn as one that cannot exist."""
    return bytes(font.getmask(character)) == bytes(font.getmask('\uffff'))


@pytest.fixture
def fonts(monkeypatch) -> list[str]:
    """The installed fonts, which a test may change."""
    installed = sorted(font_manager.findSystemFonts())
    monkeypatch.setattr(font_manager, 'findSystemFonts', lambda: installed)
    monkeypatch.setattr(text, '_reported', set())
    text._installed_font.cache_clear()
    yield installed
    text._installed_font.cache_clear()


def test_latin_text_keeps_its_font(fonts):
    for words in ('', 'Ünïcødé “cup” ✓', 'Ελληνικά и русский'):
        assert load_font(20, text=words).getname()[0] == 'DejaVu Sans'


def test_a_font_that_has_the_characters(fonts, log):
    """As far as one is installed; whether it draws them is compared with the box of no glyph."""
    able = [path for path in fonts if not is_box(ImageFont.truetype(path, 20), '红')]
    if not able:
        pytest.skip('no installed font has Chinese characters')
    font = load_font(20, text=f'the {CHINESE}')
    assert not any(is_box(font, character) for character in f'the{CHINESE}') and not log
    black = np.zeros((100, 180, 3), np.uint8)
    pages = [draw_page([Panel(black)], words) for words in (CHINESE, CHINESE[::-1])]
    assert (pages[0] != pages[1]).any()
    labels = [
        draw_objects(black, [[5, 5, 90, 90]], [None], [RED], [words])
        for words in (CHINESE, CHINESE[::-1])
    ]
    assert (labels[0] != labels[1]).any()


def test_what_no_font_has_is_said_once(fonts, log, tmp_path):
    fonts[:] = [str(tmp_path / 'damaged.ttf'), str(tmp_path / 'LastResort.otf')]
    (tmp_path / 'damaged.ttf').write_bytes(b'no font')
    for _ in range(2):
        font = load_font(20, text=f'the {CHINESE}\u200d')
        assert font.getname()[0] == 'DejaVu Sans'
    load_font(20, bold=True, text=CHINESE[:2])
    (line,) = log
    assert line.startswith(f'{"".join(sorted(CHINESE))!r}: 4 characters that no installed font has')


def test_the_font_that_lacks_least(fonts, log, tmp_path):
    """A font made here has two of the characters, and Latin ones none."""
    path = tmp_path / 'some.ttf'
    make_font(path, CHINESE[:2])
    fonts[:] = [str(path)]
    assert load_font(20, text=CHINESE).path == str(path)
    assert len(log) == 1 and log[0].startswith(repr(''.join(sorted(CHINESE[2:]))))
    assert load_font(20, text=f'red circle {CHINESE[0]}').getname()[0] == 'DejaVu Sans'


def make_font(path: Path, characters: str) -> None:
    """Write a font with a square for each character."""
    names = ['.notdef', *(f'uni{ord(c):04X}' for c in characters)]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): n for c, n in zip(characters, names[1:])})
    pen = TTGlyphPen(None)
    for move, point in zip(
        (pen.moveTo, pen.lineTo, pen.lineTo), ((0, 0), (0, 700), (700, 700)), strict=True
    ):
        move(point)
    pen.closePath()
    glyph = pen.glyph()
    builder.setupGlyf(dict.fromkeys(names, glyph))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable(dict(familyName='Some', styleName='Regular'))
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def test_pages_and_tiles():
    black = np.zeros((100, 180, 3), np.uint8)
    page = draw_page([Panel(black, 'a', 'b', RED), Panel(black[:50])], columns=1)
    assert page.shape[1] == 180 + 2 * 10
    left, top = 10, page.shape[0] - 2 * 110 - round(14 * 1.7)
    assert not page[top : top + 100, left : left + 180].any()
    assert (page[top + 50, left - 2] == RED).all()
    sheet = tile([black, black[:50], black[:30]], columns=2)
    assert sheet.shape == (130, 360, 3)
    assert (sheet[50:100, 180:] == 255).all() and not sheet[100:130, :180].any()


def test_unique_names():
    paths = ['d/train/1.png', 'd/val/1.png', 'd/val/1.png', 'd/val/1.jpg', 'd/val_1.png', 'd/Val/1']
    names = unique_names(paths)
    assert names[:3] == ['train_1', 'val_1_0', 'val_1_1'] == unique_names(paths)[:3]
    assert len({name.lower() for name in names}) == len(paths)
    assert unique_names([]) == [] and unique_names(['/x/y.z.png']) == ['y.z']
    evil = unique_names(['a/..%2f..\\evil .jpg', 'a/\n.png', 'a/' + 'x' * 300 + '.png'])
    assert all(name == name.strip('./\\ ') and 0 < len(name) <= 120 for name in evil)
