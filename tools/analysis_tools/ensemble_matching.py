"""Evaluate an ensemble of matching models: the mean of their similarities.

    python tools/test.py CONFIG_1 WEIGHTS_1 --cfg-options test_cfg.similarity_file=one.npy
    python tools/test.py CONFIG_2 WEIGHTS_2 --cfg-options test_cfg.similarity_file=two.npy
    python tools/analysis_tools/ensemble_matching.py one.npy two.npy --folds 5

The files are read block by block, so that COCO 5K takes little memory. All must belong to the same
split. Prints recalls, median and mean ranks in both directions, and RSUM, for each model and for
the ensemble.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_output_file, write_atomically

SHOWN = ('i2t/r1', 'i2t/r5', 'i2t/r10', 't2i/r1', 't2i/r5', 't2i/r10', 'rsum')


def evaluate(score, truth: dict, images: int, folds: int | None, progress: bool) -> dict:
    """Compute recalls and ranks, per fold as well if there are folds."""
    from projects.rvse.evaluation import check_folds, fold_summary, retrieval_ranks
    from projects.rvse.evaluation import retrieval_summary as summarize

    size = None
    if folds:
        size = images // folds
        check_folds(images, folds, size, truth['source'])
    ranks = retrieval_ranks(score, truth['image_of_caption'], images, size, progress=progress)
    summary = summarize(ranks.i2t, ranks.t2i)
    if folds:
        parts = fold_summary(ranks)
        summary.update({f'fold/{k}': float(np.mean([p[k] for p in parts])) for k in parts[0]})
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('similarities', nargs='+', metavar='FILE.npy', help='one of each model')
    parser.add_argument('--folds', type=int, help='also the mean of folds: 5 for COCO 1K')
    parser.add_argument('--out', metavar='FILE', help='write all figures as JSON')
    args = parser.parse_args()

    from projects.rvse.evaluation import matrix_scores, mean_scores, read_similarities

    if args.out:
        check_output_file(args.out)
    loaded = [read_similarities(path) for path in args.similarities]
    truth = loaded[0][1]
    for path, (_, other) in zip(args.similarities, loaded):
        names = {Path(split['source']).name for split in (other, truth)}
        texts = {split.get('captions') for split in (other, truth)} - {None}  # older files lack it
        owners = other['image_of_caption'] == truth['image_of_caption']
        if len(names) > 1 or len(texts) > 1 or not owners:
            raise InputError(
                f'{path}: of {other["source"]}, but {args.similarities[0]} is of {truth["source"]}'
            )
    scores = {path: matrix_scores(matrix) for path, (matrix, _) in zip(args.similarities, loaded)}
    names = dict(scores)
    if len(scores) > 1:
        names['ensemble'] = mean_scores(list(scores.values()))
    images = len(loaded[0][0])
    results = {
        name: evaluate(score, truth, images, args.folds, sys.stderr.isatty())
        for name, score in names.items()
    }
    for prefix in ('', 'fold/') if args.folds else ('',):
        if prefix:
            print(f'\nmean of {args.folds} folds')
        width = max(map(len, results))
        print(' ' * width, *(f'{key:>8}' for key in SHOWN))
        for name, found in results.items():
            print(f'{name:<{width}}', *(f'{found[prefix + key]:8.2f}' for key in SHOWN))
    if args.out:
        write_atomically(args.out, json.dumps(results, indent=2).encode())


if __name__ == '__main__':
    with report_user_errors():
        main()
