"""``make quickstart PROJECT=rvse``: train a small RVSE++ to match captions and images."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from projects.common.cli.run import build_runner, prepare
from projects.common.scenes import COLORS, SHAPES, SIZES, write_dataset
from projects.rvse.text import Vocabulary
from projects.rvse.visualization import Answers, draw_answers

from .shared import (
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
    print(f'1/4  Scenes: pictures with five captions each, in {SCENES}', flush=True)
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
    runner = build_runner(cfg)
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


def _answers(query, scores: np.ndarray, things: Sequence, right: np.ndarray) -> Answers:
    best = best_images(scores[None])[0]
    return Answers(query, [things[i] for i in best], right[best].tolist(), scores[best].tolist())


def _draw(
    dataset, similarities: np.ndarray, scores: np.ndarray, holds: np.ndarray, path: Path
) -> None:
    """Draw the results for phrases and for captions and images spread over the split."""
    images = [dataset.get_data_info(i) for i in range(len(dataset))]
    captions = [text for image in images for text in image['text']]
    owner = dataset.image_of_caption
    chosen = np.linspace(0, len(images), 2 * QUERIES, endpoint=False).astype(int)
    paths = [image['img_path'] for image in images]
    rows = [PHRASES.index(phrase) for phrase in SHOWN_PHRASES]
    by_caption = [_answers(PHRASES[row], scores[row], paths, holds[row]) for row in rows]
    for i in chosen[::2]:
        caption = images[i]['gt_text_id'][0]
        right = np.arange(len(images)) == i
        by_caption.append(_answers(captions[caption], similarities[:, caption], paths, right))
    by_image = [_answers(paths[i], similarities[i], captions, owner == i) for i in chosen[1::2]]
    title = f'The best {TOP} of {len(images)} images, and of {len(captions):,} captions'
    draw_answers(by_caption, by_image, path, title)


def _print_table(summary: dict, path: Path, page: Path) -> None:
    phrases = summary['phrases']
    rows = [
        (f'{name}: R@{k}', summary['recalls'][way][f'r{k}'])
        for way, name in (('i2t', 'picture to captions'), ('t2i', 'caption to pictures'))
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
    print(f'pictures: {page}: queries with the best five answers, right ones marked')
