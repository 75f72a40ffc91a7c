"""Measure what a variant of an exported model costs in accuracy, without PyTorch.

    python tools/deployment/compare_onnx.py plvl.json plvl-fp16.json plvl-int8.json --images photos/

The first description is the reference; its predictions count as right. For every other one a row
says how large its files are, how long an image takes (median) and how far it agrees:

- PLVL: mean IoU of the boxes and of the masks, and the largest difference of a score. Every
  sentence is grounded in every image.
- PDSL: largest difference of an image score; the share of the reference instances with a score of
  at least 0.3 (or the best one) that are found again, of the same class at an IoU of at least 0.5;
  and the mean IoU of their masks. Proposals are those of Selective Search.
- RVSE++ and SelHN: least cosine between embeddings of the same image, and of the same sentence;
  the share of sentences with the same best image.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from projects.common.cli.report import report_user_errors
from projects.common.deployment.images import load_image
from projects.common.deployment.sidecar import read_sidecar
from projects.common.errors import InputError
from projects.common.files.annotation_files import read_lines
from projects.common.files.images import images_in

SENTENCES = ('the person', 'a red circle', 'the large one on the left', 'a dog on the grass')
SHOWN = 0.3  # score from which instances are drawn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('reference', help='description (.json) of the float32 networks')
    parser.add_argument('variants', nargs='+', help='descriptions to compare with it')
    parser.add_argument('--images', required=True, help='image or folder')
    parser.add_argument('--most', type=int, default=32, help='images read (default: %(default)s)')
    parser.add_argument('--sentences', help='text file, one a line (default: four of our own)')
    parser.add_argument('--threads', type=int, default=1, help='default: %(default)s')
    args = parser.parse_args()
    if args.most < 1:
        raise InputError(f'--most {args.most}: expected 1 or more')

    project = read_sidecar(args.reference)['project']
    for variant in args.variants:
        read_sidecar(variant, project)
    paths = images_in(args.images) if Path(args.images).is_dir() else [args.images]
    images = [load_image(path) for path in paths[: args.most]]
    sentences = list(SENTENCES)
    if args.sentences:
        sentences = [line.strip() for line in read_lines(args.sentences) if line.strip()]
    run, agreement = FUNCTIONS[project]
    # found once, so that every description gets the same
    given = _proposals(args.reference, images) if project == 'pdsl' else sentences
    reference, times = run(args.reference, images, given, args.threads)
    print(
        f'{args.reference}: {_describe(args.reference, times)}, reference on {len(images)} images'
    )
    for variant in args.variants:
        found, times = run(variant, images, given, args.threads)
        rows = agreement(reference, found)
        text = ', '.join(f'{name} {value:.5f}' for name, value in rows.items())
        print(f'{variant}: {_describe(variant, times)}, {text}')


def _describe(path: str, times: Sequence[float]) -> str:
    description = read_sidecar(path)
    size = sum(file.stat().st_size for file in description['networks'].values()) / 2**20
    return (
        f'{description["dtype"]}, {size:.1f} MiB, {statistics.median(times) * 1e3:.1f} ms an image'
    )


def _timed(function: Any, images: Sequence) -> tuple[list, list[float]]:
    """Return the results for images and the seconds that each took."""
    results, times = [], []
    for image in images:
        start = time.perf_counter()
        results.append(function(image))
        times.append(time.perf_counter() - start)
    return results, times


# ------------------------------------------------------------------------------------ projects


def run_plvl(path: str, images: Sequence, sentences: Sequence[str], threads: int) -> tuple:
    from projects.plvl.onnx_runner import ONNXGrounder

    ground = ONNXGrounder(path, threads)
    found, times = _timed(lambda image: ground(image, sentences), images)
    return [each for of_image in found for each in of_image], times


def agree_plvl(reference: Sequence[dict], found: Sequence[dict]) -> dict[str, float]:
    rows: dict[str, float] = {}
    pairs = list(zip(reference, found))
    if 'bbox' in reference[0]:
        rows['mean box IoU'] = _mean(box_iou(a['bbox'], b['bbox']) for a, b in pairs)
    if 'mask' in reference[0]:
        rows['mean mask IoU'] = _mean(mask_iou(a['mask'], b['mask']) for a, b in pairs)
    rows['largest score difference'] = max(abs(a['score'] - b['score']) for a, b in pairs)
    return rows


def _proposals(description: str, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the proposals (n, 4) of Selective Search for each image."""
    from projects.pdsl.proposals.selective_search import selective_search

    limit = read_sidecar(description)['proposals'].get('max_proposals')
    return [selective_search(image, max_proposals=limit) for image in images]


def run_pdsl(
    path: str, images: Sequence, proposals: Sequence[np.ndarray], threads: int
) -> tuple[list, list[float]]:
    from projects.pdsl.onnx_runner import ONNXInstanceSegmenter

    segment = ONNXInstanceSegmenter(path, threads)
    return _timed(lambda pair: segment(*pair), list(zip(images, proposals)))


def agree_pdsl(reference: Sequence[dict], found: Sequence[dict]) -> dict[str, float]:
    again, masks, scores = [], [], []
    for ours, theirs in zip(reference, found):
        scores.append(np.abs(np.subtract(ours['image_scores'], theirs['image_scores'])).max())
        shown = sum(score >= SHOWN for score in ours['scores']) or min(1, len(ours['scores']))
        for i in range(shown):
            same = [
                (box_iou(ours['bboxes'][i], theirs['bboxes'][j]), j)
                for j, label in enumerate(theirs['labels'])
                if label == ours['labels'][i]
            ]
            overlap, j = max(same, default=(0.0, -1))
            again.append(overlap >= 0.5)
            if again[-1] and 'masks' in ours:
                masks.append(mask_iou(ours['masks'][i], theirs['masks'][j]))
    rows = {'largest image score difference': float(max(scores))}
    if again:
        rows[f'found again of {len(again)}'] = _mean(again)
    return {**rows, 'mean mask IoU': _mean(masks)} if masks else rows


def run_rvse(path: str, images: Sequence, sentences: Sequence[str], threads: int) -> tuple:
    from projects.rvse.onnx_runner import ONNXMatcher

    match = ONNXMatcher(path, threads)
    found, times = _timed(match.encode_images, images)
    return (np.concatenate(found), match.encode_sentences(sentences)), times


def agree_rvse(reference: tuple, found: tuple) -> dict[str, float]:
    pairs = list(zip(('image', 'sentence'), reference, found))
    rows = {f'least cosine of an {name}'.replace('an s', 'a s'): float((a * b).sum(1).min())
            for name, a, b in pairs}  # fmt: skip
    best = [(texts @ images.T).argmax(1) for images, texts in (reference, found)]
    return {**rows, 'same best image': _mean(best[0] == best[1])}


FUNCTIONS = {
    'plvl': (run_plvl, agree_plvl),
    'pdsl': (run_pdsl, agree_pdsl),
    'rvse': (run_rvse, agree_rvse),
}


def _mean(values: Any) -> float:
    return float(np.mean([float(value) for value in values]))


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the IoU of two boxes, XYXY; 1 if neither has an area."""
    sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    common = sides[0] * sides[1]
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - common
    return common / union if union > 0 else 1.0


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the IoU of two masks; 1 if both are empty."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0


if __name__ == '__main__':
    with report_user_errors():
        main()
