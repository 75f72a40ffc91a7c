"""PDSL: proposals, cues, inference and training, by number of boxes and image size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.ops import nms

import projects.pdsl.register  # noqa: F401
from projects.pdsl.cues import CachedCue, GrabCutCue
from projects.pdsl.cues.grabcut import grabcut_rectangle
from projects.pdsl.cues.roi_targets import crop_masks
from projects.pdsl.models import use_no_cue
from projects.pdsl.models.detections import detections
from projects.pdsl.models.pseudo_labels import PseudoGroundTruth, assign, sample_seeds
from projects.pdsl.proposals import selective_search, tidy

from . import measure
from .measure import Row, Settings, Stage, Step

FULL = 'pdsl/pdsl_r18_4xb1-100k_voc12'
TINY = 'pdsl/pdsl_tiny_1xb4-600_scenes'
SCALES = range(480, 1217, 32)  # short sides in training (section 4.3)
CLASSES = 3  # in an image
ROIS = 6  # proposals that learn from a mask
cv2.setNumThreads(1)  # GrabCutCue has its own threads


def steps(settings: Settings) -> Iterator[Step]:
    """Yield all steps of PDSL."""
    make = partial(Step, 'pdsl', against="PyTorch's products")
    few, counts = (30, (30,)) if settings.quick else (500, (500, 1000, 2000))
    for side in settings.sizes((320, 480, 640), (64,)):
        yield make('proposals', 'longer side', side, partial(proposals, side, settings),
                   against="OpenCV's quality mode")  # fmt: skip
    for count in settings.sizes((3, 10, 30), (2,)):
        for kind in ('exact', 'cached'):
            yield make(f'{kind} cues', 'masks', count, partial(cues, kind, count, settings),
                       against='the released code, box by box')  # fmt: skip
    for count in counts:
        side = 64 if settings.quick else 688
        yield make('inference', 'proposals', count, partial(inference, side, count, settings))
    for side in settings.sizes((480, 688, 1152), (64,)):
        run = partial(inference, side, few, settings)
        yield make('inference by size', 'short side', side, run)
    for count in counts:
        yield make('training step', 'proposals', count, partial(training, count, settings))
    for count in sorted({few, counts[-1]}):
        yield make('training step in chunks of 256', 'proposals', count,
                   partial(chunks, count, settings), against='all RoIs at once')  # fmt: skip


# ---------------------------------------------------------------------------- proposals and cues


def proposals(side: int, settings: Settings) -> Row:
    image = mmcv.imrescale(mmcv.imread(str(measure.photographs()[0])), (side, side))
    search = partial(selective_search, image, max_proposals=None)
    best = partial(search, quality=True)
    return measure.compare(search, best, settings)


@lru_cache(maxsize=1)
def views(quick: bool) -> list[tuple[np.ndarray, np.ndarray, dict]]:
    """Return two augmented views of a photograph (H, W, 3), their seeds (s, 4), and metainfo.

    The pseudo ground truth consists of the same proposals in both views, as for a model that has
    settled: the largest ones that do not overlap much, which gives each of them many neighbors.
    """
    np.random.seed(0)
    path = str(measure.photographs()[0])
    image = mmcv.imread(path)
    shape = image.shape[:2]
    boxes, scores = tidy(selective_search(image, max_proposals=100 if quick else 2000), None)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    fitting = np.flatnonzero(areas <= 0.5 * shape[0] * shape[1])
    apart = nms(*(torch.from_numpy(a[fitting]).float() for a in (boxes, areas)), 0.3)
    truth = torch.from_numpy(fitting)[apart[:CLASSES]]
    pipeline = Compose(
        [
            dict(type='RandomChoiceResize', scales=[(2000, s) for s in SCALES],
                 resize_type='mmdet.Resize', keep_ratio=True),
            dict(type='mmdet.RandomFlip', prob=0.5),
            dict(type='mmdet.RandomCrop', crop_type='relative_range', crop_size=(0.9, 0.9),
                 allow_negative_crop=True),
            dict(type='ProjectProposals', deduplicate=False, min_side=0),
        ]
    )  # fmt: skip
    made = []
    for _ in range(2):
        view = pipeline(
            dict(img=image, img_path=path, img_shape=shape, ori_shape=shape, ori_proposals=boxes,
                 ori_proposals_scores=scores)
        )  # fmt: skip
        projected = torch.from_numpy(view['proposals'])
        ones = torch.ones(len(truth))
        pseudo = PseudoGroundTruth(projected[truth], torch.arange(len(truth)), ones, ones, truth)
        seeds = sample_seeds(assign(projected, pseudo, len(truth)), 10).unique()
        made.append((view['img'], projected[seeds].numpy(), view))
    return made


def published_cue(image: np.ndarray, boxes: np.ndarray, max_side: int = 400) -> np.ndarray:
    """Compute masks like the released code: box by box, resizing the image each time."""
    height, width = image.shape[:2]
    masks = np.zeros((len(boxes), height, width), bool)
    for box, out in zip(boxes, masks):
        scale = min(1.0, max_side / max(height, width))
        small = cv2.resize(image, (round(width * scale), round(height * scale)))
        rectangle = grabcut_rectangle(box, image.shape[:2], small.shape[:2])
        if rectangle is None:
            continue
        mask = np.zeros(small.shape[:2], np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, mask, rectangle, *models, 5, cv2.GC_INIT_WITH_RECT)
        found = np.where(mask % 2 == 1, 1.0, 0.0).astype(np.float32)
        out[:] = cv2.resize(found, (width, height)) >= 0.5
    return masks


def cues(kind: str, count: int, settings: Settings) -> list[Row]:
    """Measure the crops of one training iteration; cached masks also by bytes per mask."""
    (first, seeds, meta), (image, others, other_meta) = views(settings.quick)
    boxes = others[:count]
    nearest = np.repeat(np.arange(count), ROIS)
    shifts = np.random.default_rng(0).uniform(-4, 4, (len(nearest), 4))
    rois = (boxes[nearest] + shifts).clip(0, np.tile(image.shape[1::-1], 2)).astype(np.float32)

    def published() -> Tensor:
        masks = torch.from_numpy(published_cue(image, boxes))
        return crop_masks(masks, torch.from_numpy(nearest), torch.from_numpy(rois), 28)

    exact = GrabCutCue(num_threads=settings.threads)
    if kind == 'exact':
        ours = partial(exact.crops, image, boxes, other_meta, rois, nearest, 28)
        return [measure.compare(ours, published, settings)]
    with tempfile.TemporaryDirectory() as folder:
        cue = CachedCue(exact, folder)
        cue(first, seeds[:count], meta)  # warm: the cache has seen another view of the image
        ours = partial(cue.crops, image, boxes, other_meta, rois, nearest, 28)
        row = measure.compare(ours, published, settings)
        size = sum(path.stat().st_size for path in Path(folder).rglob('*.npz')) / count
    height, width = meta['ori_shape']
    per_mask = dict(ours=size, baseline=height * width / 8, unit='bytes', repeats=1)
    return [dict(per_mask, stage='bytes per mask', against='one bit per pixel'), row]


# --------------------------------------------------------------------------------------- network


def build_model(quick: bool, device: str) -> nn.Module:
    init_default_scope('mmdet')
    return measure.build(TINY if quick else FULL, device, use_no_cue)


model_of = lru_cache(maxsize=1)(build_model)


@lru_cache(maxsize=1)
def boxes_of(path: str) -> np.ndarray:
    return tidy(selective_search(mmcv.imread(path), max_proposals=None), None, 2000)[0]


@torch.inference_mode()
def inference(side: int, count: int, settings: Settings) -> list[Row]:
    """Measure everything but the proposals, which have their own rows."""
    model = model_of(settings.quick, settings.device).eval()
    path = str(measure.photographs()[0])
    run = partial(infer, model, path, boxes_of(path)[:count], side)
    return measure.compare_stages(run, measure.plain_products()(run), settings)


def infer(model: nn.Module, path: str, boxes: np.ndarray, side: int, stage: Stage) -> None:
    """Run ``model.test_step`` stage by stage, for an image file and its proposals (n, 4)."""
    head = model.roi_head

    def prepare() -> dict:
        original = mmcv.imread(path)
        image = mmcv.imrescale(original, (2000, side))
        scale = (image.shape[1] / original.shape[1], image.shape[0] / original.shape[0])
        meta = dict(img_shape=image.shape[:2], ori_shape=original.shape[:2], scale_factor=scale)
        scaled = torch.from_numpy(boxes * np.array(scale * 2)).float()
        instances = InstanceData(bboxes=scaled, scores=torch.zeros(len(boxes)))
        sample = DetDataSample(metainfo=meta, proposals=instances)
        tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        return model.data_preprocessor(dict(inputs=[tensor], data_samples=[sample]), False)

    batch = stage('read, resize, normalize', prepare)
    (sample,) = batch['data_samples']
    meta, candidates = sample.metainfo, sample.proposals.bboxes
    x = stage('backbone', model.extract_feat, batch['inputs'])
    pooled = stage('RoIPool', head.bbox_roi_extractor, x, bbox2roi([candidates]))

    def classify() -> tuple[Tensor, Tensor]:
        features = head.bbox_head.extract(pooled)
        zeros = features.new_zeros(len(features), head.num_classes)
        return head.bbox_head(candidates, features, zeros)

    scores = stage('fully connected layers and heads', classify)
    result = stage('NMS', detections, *scores, meta['img_shape'], head.test_cfg)
    rois = bbox2roi([result.bboxes])
    masks = stage('mask branch', lambda: head._mask_forward(x, rois)['mask_preds'])

    def paste() -> None:
        result.bboxes = result.bboxes / result.bboxes.new_tensor(meta['scale_factor']).repeat(2)
        unscaled = dict(meta, scale_factor=(1.0, 1.0))
        head.mask_head.predict_by_feat([masks], [result], [unscaled], head.test_cfg, rescale=True)

    stage('paste masks', paste)


def random_proposals(count: int, height: int, width: int) -> Tensor:
    """Return boxes (count, 4), XYXY: half around three objects, half anywhere."""
    rng = np.random.default_rng(0)
    objects = np.array([[0.1, 0.1, 0.45, 0.6], [0.5, 0.2, 0.95, 0.7], [0.3, 0.5, 0.7, 0.95]])
    near = objects[np.arange(count // 2) % 3] + rng.uniform(-0.05, 0.05, (count // 2, 4))
    corners = np.sort(rng.uniform(0, 1, (count - len(near), 2, 2)), axis=1).reshape(-1, 4)
    corners[:, 2:] += 0.02
    boxes = np.concatenate((near, corners)).clip(0, 1) * np.array([width, height] * 2)
    return torch.from_numpy(boxes).float()


def rectangles(image: np.ndarray, boxes: np.ndarray, metainfo: dict) -> np.ndarray:
    """Return the boxes themselves as masks, a cue of negligible cost."""
    masks = np.zeros((len(boxes), *image.shape[:2]), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int).tolist()):
        mask[y1 : y2 + 1, x1 : x2 + 1] = True
    return masks


@lru_cache(maxsize=1)
def training_of(quick: bool, device: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = build_model(quick, device).train()
    model.learning, model.cue = 'parallel', rectangles
    trained = [p for p in model.parameters() if p.requires_grad]
    # tiny steps, so that all timed steps have the same foreground proposals
    return model, torch.optim.SGD(trained, lr=1e-12, momentum=0.9)


@lru_cache(maxsize=1)
def batch_of(count: int, quick: bool, device: str) -> dict:
    """Return a preprocessed batch of one noise image with proposals."""
    width, height = (64, 48) if quick else (800, 608)
    noise = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), generator=noise, dtype=torch.uint8)
    meta = dict(img_shape=(height, width), img_path='noise', tags=list(range(CLASSES)))
    boxes = random_proposals(count, height, width).to(device)
    instances = InstanceData(bboxes=boxes, scores=torch.zeros(count, device=device))
    sample = DetDataSample(metainfo=meta, proposals=instances)
    model, _ = training_of(quick, device)
    return model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), True)


def step(count: int, settings: Settings, stage: Stage, chunk: int = 0) -> None:
    model, optimizer = training_of(settings.quick, settings.device)
    batch = batch_of(count, settings.quick, settings.device)
    model.roi_head.chunk_size = chunk
    # Dropout affects the number of foreground proposals, each of which has a mask.
    torch.manual_seed(0)
    measure.training_step(lambda: sum(model(**batch, mode='loss').values()), optimizer, stage)


def training(count: int, settings: Settings) -> list[Row]:
    """Measure the network alone, without the cues, which have their own rows."""
    run = partial(step, count, settings)
    return measure.compare_stages(run, measure.plain_products()(run), settings)


def chunks(count: int, settings: Settings) -> Row:
    """Measure pooling the features of few RoIs at a time, which trades time for memory."""
    run = partial(step, count, settings, measure.ignore_stages)
    return measure.compare(partial(run, chunk=256 if count > 256 else 10), run, settings)
