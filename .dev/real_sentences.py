"""Test and fit a PLVL of photographed scenes on real RefCOCO sentences, for docs/real_pictures.md.

    make quickstart DATA=photos
    python .dev/real_sentences.py SOURCE work_dirs/quickstart/plvl_photos/iter_2000.pth OUT

SOURCE holds RefCOCO in the layout of refer, `refcoco/` and `images/train2014/`. The model is tested
as it is, then after it was fitted to the split `train` with each seed. The vocabulary of the scenes
is kept, and pieces of the new sentences are added for the fit.
"""

from __future__ import annotations

import argparse
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, TestLoop

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / '.dev')]

from real_pictures import report

from projects.common.cli.run import build_runner, prepare
from projects.common.text.wordpiece import WordPieceTokenizer

CONFIG = 'configs/plvl/plvl_tiny-effnet_1xb16-2k_photo-scenes.py'
UNSEEN = ('val', 'testA', 'testB')
METRICS = ('rec_acc50', 'rec_miou', 'res_miou')
VOCABULARY = 1024  # rows of the text encoder's table


class AddWordsHook(Hook):
    """Add pieces of the training sentences to the vocabulary of the weights."""

    def before_train(self, runner: Runner) -> None:
        encoder, dataset = runner.model.text_encoder, runner.train_dataloader.dataset
        sentences = [dataset.get_data_info(i)['text'] for i in range(len(dataset))]
        known = list(encoder.tokenizer.vocabulary)
        learnt = WordPieceTokenizer.learn(sentences, VOCABULARY, encoder.lowercase).vocabulary
        known += [piece for piece in learnt if piece not in set(known)]
        encoder.set_tokenizer(WordPieceTokenizer(known[:VOCABULARY], encoder.lowercase))


def build(source: Path, checkpoint: Path, work_dir: Path, seed: int, iterations: int) -> Runner:
    cfg = Config.fromfile(ROOT / CONFIG)
    files = dict(
        data_root=str(source),
        data_prefix=dict(img='images/train2014/'),
        ann_file='refcoco/instances.json',
        split_file='refcoco/refs(unc).p',
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(files, split='train' if loader is cfg.train_dataloader else 'val')
    evaluator = dict(type='GroundingMetric')
    cfg.merge_from_dict(
        {
            'randomness.seed': seed,
            'train_cfg.max_iters': iterations,
            'train_cfg.val_interval': iterations,
            'optim_wrapper.optimizer.lr': 5e-4,
            'param_scheduler': [dict(type='PolynomialLR', power=1.0, by_epoch=False)],
            'val_evaluator': evaluator,
            'test_evaluator': evaluator,
            'load_from': str(checkpoint),
        }
    )
    prepare(cfg, CONFIG, 'none', str(work_dir))
    return build_runner(cfg, hooks=[AddWordsHook()])


def test(runner: Runner, splits: tuple[str, ...]) -> list[float]:
    """Return the metrics over all sentences of some splits."""
    found, counts = [], []
    for split in splits:
        loader = deepcopy(runner.cfg.test_dataloader)
        loader.dataset.split = split
        loop = TestLoop(runner, loader, runner.cfg.test_evaluator)
        metrics = loop.run()
        found.append([metrics[f'grounding/{name}'] for name in METRICS])
        counts.append(len(loop.dataloader.dataset))
    return np.average(found, axis=0, weights=counts).tolist()


def unknown(runner: Runner, splits: tuple[str, ...]) -> float:
    """Return the share of words that are spelled in pieces or letters, in percent."""
    known, words = set(runner.model.text_encoder.tokenizer.vocabulary), []
    for split in splits:
        dataset = deepcopy(runner.cfg.test_dataloader.dataset)
        dataset.split = split
        built = Runner.build_dataloader(
            dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                 dataset=dataset)
        ).dataset  # fmt: skip
        words += [w for i in range(len(built)) for w in built.get_data_info(i)['text'].split()]
    return 100 * float(np.mean([word.lower() not in known for word in words]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--iterations', type=int, default=300)
    args = parser.parse_args()
    torch.set_num_threads(1)
    after = []
    for seed in args.seeds:
        folder = args.out.resolve() / f'seed_{seed}'
        runner = build(args.source, args.checkpoint.resolve(), folder, seed, args.iterations)
        if not after:
            runner.call_hook('before_run')
            runner.load_or_resume()
            words = [unknown(runner, splits) for splits in (('train',), UNSEEN)]
            print(f'unknown words: train {words[0]:.0f} %, others {words[1]:.0f} %')
            report('before', [test(runner, ('train',)) + test(runner, UNSEEN)])
            runner = build(args.source, args.checkpoint.resolve(), folder, seed, args.iterations)
        runner.train()
        after.append(test(runner, ('train',)) + test(runner, UNSEEN))
        report(f'seed {seed}', after[-1:])
    report('after', after)


if __name__ == '__main__':
    main()
