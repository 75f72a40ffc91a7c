"""Images as people have them: what they show is what is read, or one line says why not."""

from __future__ import annotations

import importlib.util
import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.structures import BaseDataElement
from PIL import Image

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.cli.report import user_message
from projects.common.hooks.visualization_hook import PredictionVisualizationHook
from projects.common.preflight.made_up import MadeUp, write_instances
from projects.common.text import WordPieceTokenizer
from projects.common.visualization import ArrayVisualizer
from projects.pdsl import WeakInstanceInferencer
from projects.pdsl.cues import BottomUpCue, CachedCue
from projects.pdsl.proposals import generate_proposals, list_images, selective_search
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer
from projects.rvse.retrieval import FaissStore, indexing
from projects.rvse.retrieval.image_stream import ReadImage
from projects.rvse.text import Vocabulary
from projects.rvse.visualization import RetrievalVisualizer
from projects.search_and_ground import draw_hits

# --------------------------------------------------------------------------------- the table

RNG = np.random.default_rng(0)
GREY = cv2.GaussianBlur(RNG.integers(0, 256, (40, 60), dtype=np.uint8), (0, 0), 2)
GREY = cv2.normalize(GREY, None, 0, 255, cv2.NORM_MINMAX)
RGB = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
DEEP = (GREY.astype(np.uint16) << 8) | RNG.integers(0, 256, GREY.shape, dtype=np.uint16)
ALPHA = np.zeros_like(GREY)
ALPHA[:20], ALPHA[20:30] = 255, 128
FLAT = np.broadcast_to(np.uint8([255, 0, 0]), RGB.shape)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def grey(array: np.ndarray) -> np.ndarray:
    return np.repeat(array[..., None], 3, axis=2)


def on_white(array: np.ndarray) -> np.ndarray:
    part = ALPHA[..., None] / 255
    return (array * part + 255 * (1 - part)).round().astype(np.uint8)


def saved(image: np.ndarray | Image.Image, form: str, **options) -> Callable[[], bytes]:
    def save() -> bytes:
        buffer = io.BytesIO()
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.save(buffer, form, **options)
        return buffer.getvalue()

    return save


def by_opencv(suffix: str, image: np.ndarray) -> Callable[[], bytes]:
    return lambda: cv2.imencode(suffix, image)[1].tobytes()


def turned(form: str, stored: np.ndarray, **options) -> Callable[[], bytes]:
    """A camera was held upright: orientation 6."""
    exif = Image.Exif()
    exif[274] = 6
    tag = dict(tiffinfo={274: 6}) if form == 'TIFF' else dict(exif=exif)
    return saved(stored, form, **tag, **options)


def animation(form: str, first=RGB, **options) -> Callable[[], bytes]:
    return saved(first, form, save_all=True, append_images=[Image.fromarray(255 - RGB)], **options)


PALETTE = Image.fromarray(RGB).quantize(16)
SHOWN = np.asarray(PALETTE.convert('RGB'))
HOLES = np.where((np.asarray(PALETTE) == 3)[..., None], 255, SHOWN).astype(np.uint8)
SIDEWAYS = np.rot90(RGB, -1)


@dataclass
class Kind:
    """What people have, and the RGB pixels that it shows."""

    name: str
    write: Callable[[], bytes]
    right: np.ndarray
    off_by: int = 0

    @property
    def bgr(self) -> np.ndarray:
        return np.ascontiguousarray(self.right[..., ::-1])


KINDS = [
    Kind('16-bit grey PNG (radiographs)', saved(DEEP, 'PNG'), grey(DEEP >> 8)),
    Kind('16-bit grey TIFF (microscopes)', saved(DEEP, 'TIFF'), grey(DEEP >> 8)),
    Kind(
        '16-bit TIFF whose zero is white',
        saved(DEEP, 'TIFF', tiffinfo={262: 0}),
        grey(255 - (DEEP >> 8)),
    ),
    Kind('16-bit grey PGM', by_opencv('.pgm', DEEP), grey(DEEP >> 8)),
    Kind('16-bit colour PNG', by_opencv('.png', np.dstack([DEEP] * 3)), grey(DEEP >> 8)),
    Kind('16-bit colour TIFF', by_opencv('.tif', np.dstack([DEEP] * 3)), grey(DEEP >> 8)),
    Kind('16-bit TIFF, turned', turned('TIFF', DEEP), grey(np.rot90(DEEP >> 8, -1))),
    Kind('PNG with alpha', saved(np.dstack([RGB, ALPHA]), 'PNG'), on_white(RGB), 1),
    Kind('TIFF with alpha', saved(np.dstack([RGB, ALPHA]), 'TIFF'), on_white(RGB), 1),
    Kind(
        'WebP with alpha',
        saved(np.dstack([RGB, ALPHA]), 'WEBP', lossless=True, exact=True),
        on_white(RGB),
        1,
    ),
    Kind('grey PNG with alpha', saved(np.dstack([GREY, ALPHA]), 'PNG'), on_white(grey(GREY)), 1),
    Kind('palette', saved(PALETTE, 'PNG'), SHOWN),
    Kind('palette with a transparent colour', saved(PALETTE, 'PNG', transparency=3), HOLES),
    Kind(
        'CMYK JPEG', saved(Image.new('CMYK', (60, 40), (0, 255, 255, 0)), 'JPEG', quality=95),
        FLAT, 4,
    ),
    Kind('CMYK TIFF', saved(Image.new('CMYK', (60, 40), (0, 255, 255, 0)), 'TIFF'), FLAT),
    Kind('1-bit TIFF (scans)', saved(GREY > 128, 'TIFF'), grey(np.uint8(255) * (GREY > 128))),
    Kind('TIFF, turned', turned('TIFF', RGB), SIDEWAYS),
    Kind('PNG, turned', turned('PNG', RGB), SIDEWAYS),
    Kind('WebP, turned by XMP', saved(RGB, 'WEBP', lossless=True, xmp=XMP), SIDEWAYS),
    Kind('animated GIF', animation('GIF', PALETTE), SHOWN),
    Kind('animated PNG', animation('PNG'), RGB),
    Kind('animated WebP', animation('WEBP', lossless=True), RGB),
    Kind('JPEG 2000', saved(RGB, 'JPEG2000'), RGB),
    Kind('AVIF', saved(RGB, 'AVIF', quality=100, subsampling='4:4:4'), RGB, 4),
]  # fmt: skip
ORDINARY = {
    'photo.jpg': saved(RGB, 'JPEG', quality=90),
    'turned.jpg': turned('JPEG', RGB),
    'rgb.png': saved(RGB, 'PNG'),
    'grey.png': saved(GREY, 'PNG'),
    'rgb.bmp': saved(RGB, 'BMP'),
    'photo.webp': saved(RGB, 'WEBP'),
}


def png_header(width: int, height: int) -> bytes:
    chunk = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    header = struct.pack('>I', 13) + chunk + struct.pack('>I', zlib.crc32(chunk))
    return b'\x89PNG\r\n\x1a\n' + header + struct.pack('>I', 100) + b'IDAT'


SCALED = (GREY / 255).astype(np.float32)
UNREADABLE = {  # name: content, what the line says
    'float.tif': (saved(SCALED, 'TIFF'), "32-bit values, 0 to 1, of mode 'F': expected 8 or 16"),
    'int32.tif': (saved(DEEP.astype(np.int32), 'TIFF'), "mode 'I': expected 8 or 16 bits"),
    'empty.png': (lambda: b'', r'not readable \(empty file\)'),
    'cut.jpg': (lambda: ORDINARY['photo.jpg']()[:-200], 'not readable .*truncated'),
    'cut.png': (lambda: ORDINARY['rgb.png']()[:600], 'not readable .*truncated'),
    'page.jpg': (lambda: b'<!DOCTYPE html><html></html>', 'no image of a known format'),
    'bomb.png': (lambda: png_header(20_000, 20_000), 'expected at most 89,478,485'),
    'folder.jpg': (None, 'Is a directory'),
    'dangling.jpg': (None, 'no such file, but a link to'),
}
if not importlib.util.find_spec('pillow_heif'):
    HEIC = b'\0\0\0\x18ftypheic' + bytes(40)
    UNREADABLE['iphone.heic'] = (lambda: HEIC, 'HEIC needs: pip install pillow-heif')


def write_unreadable(folder: Path, name: str) -> Path:
    path, content = folder / name, UNREADABLE[name][0]
    if content is not None:
        path.write_bytes(content())
    elif name == 'folder.jpg':
        path.mkdir()
    else:
        path.symlink_to(folder / 'store/ab12cd')
    return path


# ------------------------------------------------------------------------------------- models


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    """A tiny model of images and sentences, whose config reads with OpenCV."""
    pool = dict(type='GPO')
    model = dict(
        type='ImageTextMatcher',
        backbone=dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8),
        data_preprocessor=dict(type='ImgDataPreprocessor', mean=[120] * 3, std=[60] * 3),
        image_encoder=dict(type='RegionFC', in_channels=64, channels=16, pool=pool),
        text_encoder=dict(
            type='BiGRUTextEncoder', vocab_size=40, word_channels=8, channels=16, pool=pool
        ),
        similarity=dict(type='CosineSimilarity'),
    )
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(32, 32), keep_ratio=False),
        dict(type='mmpretrain.PackInputs', meta_keys=['img_path']),
    ]
    dataset = dict(type='x', pipeline=pipeline)
    cfg = Config(
        dict(default_scope='mmpretrain', model=model, test_dataloader=dict(dataset=dataset))
    )
    torch.manual_seed(0)
    built = MODELS.build(cfg.model)
    built.text_encoder.set_vocabulary(Vocabulary.build(['a red ball'], min_count=1))
    path = tmp_path_factory.mktemp('model') / 'best.pth'
    torch.save(dict(state_dict=built.state_dict(), meta=dict(cfg=cfg.pretty_text)), path)
    return path


@pytest.fixture(scope='module')
def search(checkpoint) -> dict[str, RetrievalInferencer]:
    """One inferencer for each decoder."""
    inferencer = RetrievalInferencer(weights=checkpoint, show_progress=False)
    cfg = inferencer.cfg.copy()
    cfg.test_dataloader.dataset.pipeline[0].imdecode_backend = 'pillow'
    return {
        'cv2': inferencer,
        'pillow': RetrievalInferencer(cfg, checkpoint, show_progress=False),
    }


@pytest.fixture(scope='module')
def ground(repo_root, tmp_path_factory) -> GroundingInferencer:
    cfg = Config.fromfile(repo_root / 'configs/plvl/plvl_tiny_1xb8-150e_refcoco.py')
    cfg.model.backbone.update(depth=2, global_indexes=(0, 1), language_indexes=(1,))
    cfg.model.decoder.num_layers = 1
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(['the red circle'], 99))
    path = tmp_path_factory.mktemp('plvl') / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return GroundingInferencer(cfg, path, device='cpu', show_progress=False)


@pytest.fixture(scope='module')
def weak(repo_root) -> WeakInstanceInferencer:
    cfg = Config.fromfile(repo_root / 'configs/pdsl/pdsl_tiny_1xb4-600_scenes.py')
    cfg.merge_from_dict({'model.test_cfg.rcnn.max_per_img': 5})
    torch.manual_seed(0)
    return WeakInstanceInferencer(cfg, device='cpu', show_progress=False)


# ------------------------------------------------------------------------------ inferencers


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.name)
def test_a_path_bytes_and_a_pil_image_give_one_answer(kind: Kind, search, tmp_path) -> None:
    """With either decoder, and the answer is that of the pixels that a viewer shows."""
    path = tmp_path / 'image.any'  # the content decides
    path.write_bytes(kind.write())
    inputs = [str(path), path, path.read_bytes(), Image.open(path)]
    seen = []
    for inferencer in search.values():
        for given in inputs:
            pixels = inferencer._load(given)[0]
            assert pixels.shape == kind.bgr.shape
            assert np.abs(pixels.astype(int) - kind.bgr).max() <= kind.off_by
            seen.append(pixels)
        answers = inferencer.encode_images([*inputs, seen[0]], batch_size=1)
        assert (answers == answers[0]).all()
    assert all(np.array_equal(pixels, seen[0]) for pixels in seen)


@pytest.mark.parametrize('name', ORDINARY)
def test_ordinary_images_are_those_of_mmcv(name: str, search, tmp_path) -> None:
    """As bytes and as PIL images, too."""
    import mmcv

    path = tmp_path / name
    path.write_bytes(ORDINARY[name]())
    for backend, inferencer in search.items():
        expected = mmcv.imread(path, backend=backend)
        for given in (path, path.read_bytes(), Image.open(path)):
            assert np.array_equal(inferencer._load(given)[0], expected)


def test_grounding_and_instances(ground, weak, tmp_path) -> None:
    kind = KINDS[7]
    path = tmp_path / 'image.png'
    path.write_bytes(kind.write())
    given = [path, path.read_bytes(), Image.open(path), weak._load(path)[0]]
    assert np.abs(given[3].astype(int) - kind.bgr).max() <= kind.off_by
    first, *others = ground(given, 'the red circle')['predictions']
    for other in others:
        assert {**first, 'image': None} == {**other, 'image': None}
    boxes = np.array([[2, 3, 50, 35], [0, 0, 20, 20.0]])
    first, *others = weak(given, [boxes] * 4)['predictions']
    assert first['labels']
    for other in others:
        assert {**first, 'image': None} == {**other, 'image': None}


def test_pixels_as_float_from_files_and_arrays_alike(checkpoint, tmp_path) -> None:
    """`to_float32` of the config counts for arrays, whose resizing would round otherwise."""
    cfg = RetrievalInferencer(weights=checkpoint).cfg
    cfg.test_dataloader.dataset.pipeline[0].to_float32 = True
    inferencer = RetrievalInferencer(cfg, checkpoint, show_progress=False)
    path = tmp_path / 'a.png'
    Image.fromarray(RGB).save(path)
    vectors = inferencer.encode_images([path, RGB[..., ::-1], Image.open(path)], batch_size=1)
    assert (vectors == vectors[0]).all()


@pytest.mark.parametrize('name', UNREADABLE)
def test_one_line_for_what_cannot_be_read(name: str, search, tmp_path) -> None:
    path = write_unreadable(tmp_path, name)
    for inferencer in search.values():
        with pytest.raises((ValueError, FileNotFoundError), match=UNREADABLE[name][1]) as error:
            inferencer.encode_images([path])
        line = user_message(error.value)
        assert line is not None and '\n' not in line and str(path) in line
    if path.is_file() and name != 'empty.png':
        with pytest.raises(ValueError, match=UNREADABLE[name][1]):
            search['cv2'].encode_images(path.read_bytes())


# --------------------------------------------------------------------------------- data sets

LOADERS = ('cv2', 'pillow')
SOURCES = {
    'grounding': (
        'a.jsonl',
        json.dumps(dict(image='a.any', sentence='x', bbox=[1, 1, 9, 9])),
        dict(type='JSONLinesGroundingDataset'),
    ),
    'tags': ('a.txt', 'a.any cat', dict(type='TagFileDataset')),
    'captions': ('a.txt', 'a.any\ta cat', dict(type='CaptionFileMatchingDataset')),
    'mmdet': (
        'a.json',
        json.dumps(
            dict(
                images=[dict(id=1, file_name='a.any', height=40, width=60)],
                annotations=[],
                categories=[dict(id=1, name='cat')],
            )
        ),
        dict(type='mmdet.CocoDataset', metainfo=dict(classes=('cat',)), data_prefix=dict(img='')),
    ),
}


def loaded(source: str, folder: Path, loader: dict) -> dict:
    """The first sample of a data set, whose only image is `a.any`."""
    name, text, cfg = SOURCES[source]
    (folder / name).write_text(text)
    cfg = dict(cfg, ann_file=name, data_root=str(folder), pipeline=[loader], test_mode=True)
    cfg.update(serialize_data=False)  # which collects garbage for a second
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(cfg)[0]


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.name)
def test_data_sets_read_what_inferencers_read(kind: Kind, search, tmp_path) -> None:
    """mmcv's transform stays in the pipeline; mmdet's own data sets name our file backend."""
    path = tmp_path / 'a.any'
    path.write_bytes(kind.write())
    expected = search['cv2']._load(kind.write())[0]
    for source in SOURCES:
        for backend in LOADERS:
            loader = dict(type='LoadImageFromFile', imdecode_backend=backend)
            if source == 'mmdet':
                loader['backend_args'] = dict(backend='any_image')
            sample = loaded(source, tmp_path, loader)
            assert np.array_equal(sample['img'], expected), (source, backend)
            if source == 'grounding':
                assert (sample['height'], sample['width']) == kind.right.shape[:2]


@pytest.mark.parametrize('source', ['grounding', 'tags', 'captions'])
def test_loaders_with_settings_of_their_own_stay_as_they_are(source: str, tmp_path) -> None:
    path = tmp_path / 'a.any'
    path.write_bytes(KINDS[0].write())
    raw = loaded(source, tmp_path, dict(type='LoadImageFromFile', color_type='unchanged'))
    assert np.array_equal(raw['img'], DEEP)
    path.write_bytes(turned('JPEG', RGB)())
    flag = 'color_ignore_orientation'
    sideways = loaded(source, tmp_path, dict(type='LoadImageFromFile', color_type=flag))
    assert sideways['img'].shape == RGB.shape


@pytest.mark.parametrize('name', [n for n in UNREADABLE if UNREADABLE[n][0] and n != 'bomb.png'])
@pytest.mark.parametrize('source', ['grounding', 'tags', 'captions'])
def test_data_sets_name_what_cannot_be_read(name: str, source: str, tmp_path) -> None:
    write_unreadable(tmp_path, name).rename(tmp_path / 'a.any')
    for backend in LOADERS:
        with pytest.raises(ValueError, match=UNREADABLE[name][1]) as error:
            loaded(source, tmp_path, dict(type='LoadImageFromFile', imdecode_backend=backend))
        line = user_message(error.value)
        assert line is not None and '\n' not in line and 'a.any' in line


@pytest.mark.parametrize(
    'pattern', ['pdsl_r18_4xb1-240k_coco.py', 'second_stage/*coco-pseudo.py', 'pretrain/*ws18*']
)
def test_our_configs_for_data_sets_of_mmdet_and_mmpretrain(pattern: str, repo_root) -> None:
    paths = sorted((repo_root / 'configs/pdsl').glob(pattern))
    assert paths
    for path in paths:
        cfg = Config.fromfile(path)
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            step = loader.dataset.pipeline[0]
            if not DATASETS.get(loader.dataset.type).__module__.startswith('projects.'):
                assert step.get('backend_args') == dict(backend='any_image'), path


# ------------------------------------------------------------------- proposals, cues, drawings


class Seen(BottomUpCue):
    """Keeps the image that a cue gets."""

    def __init__(self, name: str = 'seen') -> None:
        self.images: list[np.ndarray] = []
        self.name = name

    def fingerprint(self) -> str:
        return self.name

    def __call__(self, image, boxes, metainfo=None):
        self.images.append(image)
        return np.ones((len(boxes), *image.shape[:2]), dtype=bool)


@pytest.mark.parametrize('kind', [KINDS[7], KINDS[12], KINDS[18]], ids=lambda kind: kind.name)
def test_cues_and_proposals(kind: Kind, tmp_path) -> None:
    (tmp_path / 'images').mkdir()
    path = tmp_path / 'images/a.png'
    path.write_bytes(kind.write())
    seen = Seen()
    CachedCue(seen, tmp_path / 'cues').fill(path, [(0, 0, 9, 9)])
    (image,) = seen.images
    assert np.abs(image.astype(int) - kind.bgr).max() <= kind.off_by
    found = generate_proposals(list_images(path.parent), tmp_path / 'out', max_proposals=9)
    expected = selective_search(image, max_proposals=9)
    assert np.array_equal(found.read('a')[0], expected.astype(np.float32))


class Listed(list):
    """Samples as a data set has them."""

    get_data_info = list.__getitem__


class Plain(ArrayVisualizer):
    """Draws the image alone."""

    def draw(self, image, data_sample, draw_gt=True, draw_pred=True, **kwargs):
        return image


def test_pages_show_the_image(tmp_path) -> None:
    """Of a search, of predictions and of search and ground: as if the file were an ordinary one."""
    kind = KINDS[0]
    (tmp_path / 'odd.png').write_bytes(kind.write())
    Image.fromarray(kind.right.astype(np.uint8)).save(tmp_path / 'plain.png')
    drawn = []
    for name in ('odd.png', 'plain.png'):
        path = str(tmp_path / name)
        found = BaseDataElement(
            text='x', pred_img_path=[path], pred_ori_id=['1'], pred_score=[0.5], correct=[True]
        )
        page = RetrievalVisualizer().draw(kind.right.astype(np.uint8), found)
        hit = dict(name=path, score=0.5, grounding=dict(score=0.5, bbox=[1, 1, 9, 9]))
        sheet = draw_hits(dict(query='x', hits=[hit]))
        hook = PredictionVisualizationHook(test_out_dir=str(tmp_path / f'drawn_{name}'))
        dataset = Listed([dict(img_path=path)])
        runner = SimpleNamespace(
            test_dataloader=SimpleNamespace(dataset=dataset), iter=0, visualizer=Plain()
        )
        hook.before_test_epoch(runner)
        sample = BaseDataElement(metainfo=dict(img_path=path))
        hook.after_test_iter(runner, 0, outputs=[sample])
        (file,) = (tmp_path / f'drawn_{name}').rglob('*.jpg')
        drawn.append([page, sheet, np.asarray(Image.open(file))])
    for odd, plain in zip(*drawn, strict=True):
        assert np.array_equal(odd, plain)


def test_sizes_of_turned_images(tmp_path) -> None:
    """Annotations made up for images fit the images as they are read."""
    for form in ('JPEG', 'TIFF', 'PNG'):
        (tmp_path / f'{form}.img').write_bytes(turned(form, RGB)())
    made = MadeUp(sorted(tmp_path.glob('*.img')), tmp_path, 3, np.random.default_rng(0))
    path, _ = write_instances(dict(type='mmdet.CocoDataset', metainfo=dict(classes=('cat',))), made)
    images = json.loads(path.read_text())['images']
    assert {(image['width'], image['height']) for image in images} == {(40, 60)}


# ------------------------------------------------------------------------------------ indexing


@pytest.fixture
def gallery(tmp_path) -> Path:
    """Four good images, in subfolders and behind a link, and one of each unreadable kind."""
    folder = tmp_path / 'gallery'
    (folder / 'trip/day 1').mkdir(parents=True)
    for place in ('a.png', 'trip/b.png', 'trip/day 1/c.PNG'):
        Image.fromarray(RGB).save(folder / place, 'PNG')
    (tmp_path / 'elsewhere').mkdir()
    Image.fromarray(RGB).save(tmp_path / 'elsewhere/d.png')
    (folder / 'link').symlink_to(tmp_path / 'elsewhere')
    (folder / 'trip/back').symlink_to(folder)
    for name in UNREADABLE:
        write_unreadable(folder, name)
    for name in ('notes.txt', 'clip.mp4', 'clip2.mp4'):
        (folder / name).touch()
    return folder


def test_skip_damaged_skips_whatever_is_damaged(gallery, checkpoint, tmp_path, call_tool, log):
    options = ('--store', tmp_path / 's', '--weights', checkpoint, '--device', 'cpu')
    options += ('--cache-dir', tmp_path / 'c', '--skipped-file', tmp_path / 'skipped.tsv')
    done = call_tool('infer.py', 'retrieval', 'index', gallery, *options, '--skip-damaged')
    assert done.out.strip().splitlines()[-1].endswith('4 entries added or replaced, 4 in all')
    rows = [line.split('\t') for line in (tmp_path / 'skipped.tsv').read_text().splitlines()]
    assert sorted(Path(path).name for path, _ in rows) == SKIPPED
    text = '\n'.join(log)
    assert f'left out {len(SKIPPED)} images: ' in text and 'skipped.tsv' in text
    for count, reason in (
        (2, 'damaged or cut off'), (2, '32 bits a channel'), (1, 'empty file'),
        (1, 'too many pixels'), (1, 'no such file'), (1, 'no image of a known format (first'),
    ):  # fmt: skip
        assert f'{count} of them: {reason}' in text
    assert '3 files are left out' in text and '.mp4 2, .txt 1' in text


READABLE = ['a', 'b', 'c', 'd']
SKIPPED = sorted(name for name in UNREADABLE if name != 'folder.jpg')  # which is looked into


@pytest.mark.parametrize('task', ['ground', 'weak'])
def test_inference_skips_whatever_is_damaged(task, gallery, tmp_path, request, log) -> None:
    """With what is readable predicted, drawn and written, alone or beside others in a batch."""
    inferencer = request.getfixturevalue(task)
    question = 'the red circle' if task == 'ground' else None
    for batch_size in (1, 3):
        out, listed = tmp_path / f'out{batch_size}', tmp_path / f'{batch_size}.tsv'
        results = inferencer(
            *(gallery, question, batch_size), out_dir=out, skip_damaged=True, skipped_file=listed
        )
        assert sorted(Path(each['image']).stem for each in results['predictions']) == READABLE
        assert sorted(path.stem for path in (out / 'preds').iterdir()) == READABLE
        assert sorted(path.stem[0] for path in (out / 'vis').iterdir()) == READABLE
        rows = [line.split('\t') for line in listed.read_text().splitlines()]
        assert sorted(Path(path).name for path, _ in rows) == SKIPPED
        assert f'left out {len(SKIPPED)} images: ' in log[-1] and listed.name in log[-1]
    with pytest.raises((ValueError, FileNotFoundError), match='bomb.png: .* expected at most'):
        inferencer(gallery, question)
    with pytest.raises(ValueError, match='not readable'):
        inferencer(b'no file', question, skip_damaged=True)


@pytest.mark.parametrize('task', ['grounding', 'weak'])
def test_the_command_line_skips_too(task, gallery, ground, weak, monkeypatch, call_tool, log):
    """The inferencer of a command gets its options."""
    name = 'projects.plvl.GroundingInferencer'
    name, built = (name, ground) if task == 'grounding' else (
        'projects.pdsl.WeakInstanceInferencer', weak
    )  # fmt: skip
    monkeypatch.setattr(name, lambda *_, **__: built)
    monkeypatch.chdir(gallery.parent)
    words = ['the red circle'] if task == 'grounding' else []
    command = ('infer.py', task, gallery, *words, '--model', 'x', '--no-save-vis')
    assert 'gallery/' in call_tool(*command, rc=1).err
    assert not Path('work_dirs/skipped_images.tsv').exists()
    done = call_tool(*command, '--skip-damaged')
    assert f'{gallery}/trip/b.png' in done.out
    listed = Path('work_dirs/skipped_images.tsv').read_text().splitlines()
    assert len(listed) == len(SKIPPED) and any('left out' in line for line in log)


def test_without_the_option_the_first_one_stops_with_what_is_done(
    gallery, search, tmp_path
) -> None:
    paths = sorted(gallery.rglob('*.png'))
    paths = [gallery / 'a.png', gallery / 'trip/b.png', gallery / 'cut.png', *paths]
    with pytest.raises(ValueError, match=r'cut\.png: not readable'):
        search['cv2'].index(paths, tmp_path / 's', batch_size=1)
    with search['cv2'].open_store(tmp_path / 's', create=False) as store:
        assert len(store) == 2


def test_an_image_that_vanishes_is_no_sentence(search, tmp_path) -> None:
    Image.fromarray(RGB).save(tmp_path / 'a.png')
    names = [str(tmp_path / name) for name in ('a.png', 'gone.png')]
    for listed in (names[1:], names):
        with pytest.raises(FileNotFoundError, match='gone.png: no such file'):
            search['cv2'].index(listed, tmp_path / 's')
    assert search['cv2'].index(names, tmp_path / 't', skip_damaged=True) == 1
    with pytest.raises(FileNotFoundError, match='gone.png: no such file'):
        search['cv2'](names[1], tmp_path / 't')


def test_an_interrupted_index_has_what_was_encoded(search, tmp_path, monkeypatch) -> None:
    paths = [tmp_path / f'{i}.png' for i in range(6)]
    for i, path in enumerate(paths):
        Image.fromarray(RGB // (i + 1)).save(path)
    encode, calls = search['cv2'].model.encode_images, []
    opened = search['cv2'].open_store(tmp_path / 's')

    def interrupted(inputs):
        calls.append((len(inputs), len(opened)))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(inputs)

    monkeypatch.setattr(search['cv2'].model, 'encode_images', interrupted)
    monkeypatch.setattr(indexing, '_SAVE_INTERVAL', 0.0)
    monkeypatch.setattr(indexing, '_SAVE_SHARE', 1e9)
    with pytest.raises(KeyboardInterrupt):
        search['cv2'].index(paths, opened, batch_size=2)
    assert calls == [(2, 0), (2, 2), (2, 4)]  # saved as it grew
    with search['cv2'].open_store(tmp_path / 's', create=False) as store:
        assert len(store) == 4


@pytest.mark.parametrize(('factory', 'parts'), [('HNSW8', True), ('IVF1,Flat', False)])
def test_an_index_that_is_trained_gets_its_entries_at_once(
    factory: str, parts: bool, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(indexing, '_SAVE_INTERVAL', 0.0)
    monkeypatch.setattr(indexing, '_SAVE_SHARE', 1e9)
    added = []
    add = FaissStore.add
    monkeypatch.setattr(
        FaissStore, 'add', lambda s, n, v, t: added.append(len(n)) or add(s, n, v, t)
    )
    store = FaissStore(tmp_path / 's', 'x', factory=factory)
    vectors = np.random.default_rng(0).normal(size=(80, 4)).astype('f4')
    names = [f'{i}' for i in range(80)]
    stream = lambda part, _: (ReadImage(n, n, vectors[int(n)]) for n in part)  # noqa: E731
    assert indexing.index_images(names, store, stream) == 80
    assert added == ([1] * 80 if parts else [80])


def test_a_model_that_reads_no_images_skips_nothing(search, tmp_path, monkeypatch) -> None:
    Image.fromarray(RGB).save(tmp_path / 'a.png')
    monkeypatch.setattr(search['cv2'].model, 'backbone', None)
    with pytest.raises(ValueError, match='precomputed regions'):
        search['cv2'].index([tmp_path / 'a.png'], tmp_path / 's', skip_damaged=True)


def test_cached_answers_of_another_version_are_not_used(checkpoint, tmp_path) -> None:
    """Images that were read otherwise are encoded anew; ordinary ones are not."""
    inferencer = RetrievalInferencer(weights=checkpoint, cache_dir=tmp_path / 'c')
    for name, content, same in (
        ('odd.png', KINDS[7].write(), False),
        ('plain.png', ORDINARY['rgb.png'](), True),
    ):
        (tmp_path / name).write_bytes(content)
        old = np.zeros((1, 16), np.float32)
        inferencer.cache.put([inferencer.cache.key(b'images\0' + content)], old)
        assert (inferencer.encode_images([tmp_path / name]) == old).all() == same
