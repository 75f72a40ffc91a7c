"""``make quickstart PROJECT=rvse``: train a small RVSE++ to match captions and images."""

from __future__ import annotations

import json
import time
from copy import deepcopy
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from projects.common.cli.run import build_runner, prepare
from projects.common.files.image_reader import read_image
from projects.common.scenes import COLORS, SHAPES, SIZES, write_dataset
from projects.common.visualization import tile
from projects.rvse.text import Vocabulary
from projects.rvse.visualization import RetrievalVisualizer

from .shared import (
    ValidationImageHook,
    load_quietly,
    print_results,
    versions,
    write_summary,
)

CONFIG = 'configs/rvse/rvse_tiny_1xb32-3e_scenes.py'
SCENES = Path('work_dirs/quickstart/scenes')
QUERIES = 3  # per kind of query on the page
TOP = 5
PHRASES = [f'a {size} {color} {shape}' for size in SIZES for color in COLORS for shape in SHAPES]
SHOWN_PHRASES = ('a large red heart', 'a small green star', 'a large blue circle')


def main(work_dir: Path, seed: int) -> dict:
    """Run the quick start and return the content of ``<work_dir>/summary.json``.

    Args:
        work_dir: Folder for the results.
        seed: Seed of the training. The scenes are the same for all seeds.
    """
    print(f'1/4  Scenes: images with five captions each, in {SCENES}', flush=True)
    write_dataset(SCENES, num_train=8000, num_val=100, num_test=500, image_size=128, workers=2)

    print('2/4  Testing an untrained model on 500 scenes', flush=True)
    similarities = work_dir / 'similarities.npy'
    cfg = load_quietly(CONFIG, seed)
    cfg.test_cfg.similarity_file = str(similarities)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(SCENES)
    untrained = _test_untrained(cfg, work_dir / 'untrained')

    print(f'3/4  Training: {CONFIG}, seed {seed}', flush=True)
    prepare(cfg, CONFIG, launcher='none', work_dir=str(work_dir))
    runner = build_runner(cfg, hooks=[ValidationImageHook()])
    start = time.time()
    runner.train()
    train_seconds = time.time() - start

    print('4/4  Testing it on the same 500 scenes, which it has not seen', flush=True)
    start = time.time()
    metrics = runner.test()
    test_seconds = time.time() - start
    dataset = runner.test_dataloader.dataset
    scores = phrase_scores(runner.model, runner.test_dataloader)
    holds = phrase_truth(SCENES / 'annotations/instances_test.json')
    best = best_images(scores)
    page = work_dir / 'retrieval.png'
    _draw(dataset, np.load(similarities, mmap_mode='r'), scores, holds, page)
    summary = dict(
        rsum=metrics['matching/rsum'],
        rsum_untrained=untrained['matching/rsum'],
        recalls=_recalls(metrics),
        recalls_untrained=_recalls(untrained),
        phrases=dict(
            precision_at_5=100 * float(np.take_along_axis(holds, best, axis=1).mean()),
            chance=100 * float(holds.mean()),
        ),
        train_seconds=train_seconds,
        test_seconds=test_seconds,
        images=dataset.img_size,
        captions=dataset.text_size,
        seed=seed,
        versions=versions(),
    )
    path = work_dir / 'summary.json'
    summary = write_summary(path, summary)
    _print_table(summary, path, page)
    return summary


def _test_untrained(cfg: Config, work_dir: Path) -> dict:
    cfg = deepcopy(cfg)
    prepare(cfg, CONFIG, launcher='none', work_dir=str(work_dir))
    runner = build_runner(cfg)
    runner.model.init_weights()
    captions = Runner.build_dataloader(cfg.train_dataloader).dataset.captions()
    runner.model.text_encoder.set_vocabulary(Vocabulary.build(captions, min_count=1))
    return runner.test()


def _recalls(metrics: dict) -> dict[str, dict[str, float]]:
    return {
        way: {f'r{k}': metrics[f'matching/{way}/r{k}'] for k in (1, 5, 10)}
        for way in ('i2t', 't2i')
    }


@torch.no_grad()
def phrase_scores(model, dataloader) -> np.ndarray:
    """Compute the similarities (72, I) between all ``PHRASES`` and the images of the split."""
    model.eval()
    images = []
    for batch in dataloader:
        inputs = model.data_preprocessor(batch, False)['inputs']
        images.append(model.encode_images(inputs)[0])
    phrases, _ = model.encode_captions(PHRASES)
    return (phrases @ torch.cat(images).T).cpu().numpy()


def phrase_truth(ann_file: Path) -> np.ndarray:
    """Return a (72, I) bool mask: whether an image contains an object matching the phrase.

    Args:
        ann_file: Object annotations of the split, as written by :func:`write_dataset`.
    """
    content = json.loads(ann_file.read_text())
    column = {image['id']: i for i, image in enumerate(content['images'])}
    shapes = {category['id']: category['name'] for category in content['categories']}
    holds = np.zeros((len(PHRASES), len(column)), bool)
    for entry in content['annotations']:
        looks = entry['attributes']
        phrase = f'a {looks["size"]} {looks["color"]} {shapes[entry["category_id"]]}'
        holds[PHRASES.index(phrase), column[entry['image_id']]] = True
    return holds


def best_images(scores: np.ndarray) -> np.ndarray:
    """Return the indices (N, 5) of the largest ``scores`` (N, I) per row, best first."""
    return np.argsort(-scores, axis=1, kind='stable')[:, :TOP]


def _sample(
    query: str | list[str], scores: np.ndarray, holds: np.ndarray, **things: list[str]
) -> BaseDataElement:
    """Return a query, as :class:`RetrievalVisualizer` draws it, with its best answers."""
    best = best_images(scores[None])[0]
    found = {name: [values[i] for i in best] for name, values in things.items()}
    scored = dict(pred_score=scores[best].tolist(), correct=holds[best].tolist())
    return BaseDataElement(metainfo=dict(text=query, **found, **scored))


def _draw(
    dataset, similarities: np.ndarray, scores: np.ndarray, holds: np.ndarray, path: Path
) -> None:
    """Draw the results for phrases and for captions and images spread over the split."""
    images = [dataset.get_data_info(i) for i in range(len(dataset))]
    captions = [text for image in images for text in image['text']]
    owner = dataset.image_of_caption
    chosen = np.linspace(0, len(images), 2 * QUERIES, endpoint=False).astype(int)
    paths = [image['img_path'] for image in images]
    visualizer = RetrievalVisualizer(top_k=TOP)
    drawn = []
    for phrase in SHOWN_PHRASES:
        row = PHRASES.index(phrase)
        sample = _sample(phrase, scores[row], holds[row], pred_img_path=paths)
        drawn.append(visualizer.draw(None, sample, draw_gt=False))
    for i in chosen[::2]:
        caption = images[i]['gt_text_id'][0]
        right = np.arange(len(images)) == i
        sample = _sample(captions[caption], similarities[:, caption], right, pred_img_path=paths)
        drawn.append(visualizer.draw(None, sample, draw_gt=False))
    for i in chosen[1::2]:
        sample = _sample(images[i]['text'], similarities[i], owner == i, pred_text=captions)
        image = read_image(paths[i], channel_order='rgb')
        drawn.append(visualizer.draw(image, sample, draw_gt=False))
    mmcv.imwrite(tile(drawn)[..., ::-1], str(path))


def _print_table(summary: dict, path: Path, page: Path) -> None:
    phrases = summary['phrases']
    rows = [
        (f'{name}: R@{k}', summary['recalls'][way][f'r{k}'])
        for way, name in (('i2t', 'image to captions'), ('t2i', 'caption to images'))
        for k in (1, 5, 10)
    ]
    print_results(
        f'{summary["images"]} unseen scenes, {summary["captions"]} captions',
        rows,
        summary,
        f'RSUM {summary["rsum"]:.2f} of 600; untrained {summary["rsum_untrained"]:.2f}',
        f'phrases such as "{SHOWN_PHRASES[0]}": {phrases["precision_at_5"]:.1f} % of the first '
        f'{TOP} images hold one; chance {phrases["chance"]:.1f} %',
    )
    print(f'\nsummary:  {path}')
    print(f'images: {page}: queries with the best five answers, right ones marked')
