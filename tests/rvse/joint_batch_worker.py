"""Train small matchers on parts of a batch in several processes, and store what they computed.

``python joint_batch_worker.py WORLD FOLDER`` writes ``FOLDER/WORLD_RANK.pt`` with a dict of cases:
losses of all steps, gradients of the first step and similarities after the last.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

import projects.rvse.register  # noqa: F401
from projects.rvse.text import Vocabulary

WORDS = ('a', 'red', 'blue', 'round', 'flat', 'small', 'large', 'dog', 'cat', 'runs', 'sits')
PAIRS, STEPS = 16, 10  # pairs of the joint batch

LOSSES = {
    'ITMTripletLoss': {},
    'HardNegativeLoss': dict(reduction='sum'),
    'SemiHardNegativeLoss': dict(reduction='mean'),
    'SCTLoss': dict(reduction='batch_mean'),
    'SelHNLoss': dict(reduction='mean'),
    'SSPLoss': {},
}


def cases() -> dict[str, dict]:
    """Return the config of the model of each case."""
    found = {name: matcher(dict(type=name, **more)) for name, more in LOSSES.items()}
    selhn = dict(type='SelHNLoss', normalizer='negatives', reduction='sum', eps=0.05)
    scan = dict(type='SCANSimilarity', direction='t2i')
    found['SelHN, as released'] = matcher(selhn)
    found['SelHN, cross attention'] = matcher(selhn, scan)
    found['SelHN, repeated images'] = matcher(selhn, mask_repeats=True)
    found['SelHN, several captions'] = matcher(selhn, scan)
    found['AOQ'] = matcher(dict(type='AOQLoss'), type='OfflineNegativesMatcher')
    found['NCR'] = dict(type='CoTrainedMatcher', matcher=matcher(dict(type='NCRLoss')))
    found['Meta-SPN'] = matcher(
        dict(type='MetaSPNLoss', hidden=8),
        dict(type='BFANSimilarity'),
        type='MetaWeightedMatcher',
        virtual_lr=0.05,
    )
    return found


def matcher(loss: dict, similarity: dict | None = None, **kwargs) -> dict:
    pool = None if similarity else dict(type='GPO')
    encoder = dict(type='RegionResidualMLP', in_channels=12, channels=16, pool=pool)
    text = dict(
        type='BiGRUTextEncoder',
        vocab_size=20,
        word_channels=8,
        channels=16,
        pool=pool,
        word_dropout=0.0,
    )
    return {
        'type': 'ImageTextMatcher',
        'image_encoder': encoder,
        'text_encoder': text,
        'similarity': similarity or dict(type='CosineSimilarity'),
        'loss': loss,
        **kwargs,
    }


def _same(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
    return module


def samples(name: str, rank: int, world: int) -> dict:
    """Return the part of the joint batch of a process; the parts of all processes are the batch."""
    generator = torch.Generator().manual_seed(3)
    groups = 3 if name == 'AOQ' else 1
    own = slice(rank, PAIRS, world)  # as MMEngine's samplers deal them out
    inputs, found = [], []
    for _ in range(groups):
        images, captions = [], []
        for i in range(PAIRS):
            # images and captions of other lengths in other processes
            regions = 3 + int(torch.randint(4, (), generator=generator))
            images.append(torch.randn(regions, 12, dtype=torch.float64, generator=generator))
            words = 2 + (i * 5) % 9
            chosen = torch.randint(len(WORDS), (6, words), generator=generator).tolist()
            captions.append([' '.join(WORDS[k] for k in row) for row in chosen])
        for i in range(PAIRS)[own]:
            several = name == 'SelHN, several captions'
            text = captions[i][: 1 + i % 3] if several else captions[i][0]
            correspondence = (i % 4) / 3
            inputs.append(images[i])
            found.append(
                DataSample(text=text, image_id=f'image {i // 2}', correspondence=correspondence)
            )
    return dict(inputs=inputs, data_samples=found)


class RecordingWrapper(OptimWrapper):
    """Keep the gradients of the first step."""

    def __init__(self, optimizer, model: torch.nn.Module, gradients: dict) -> None:
        super().__init__(optimizer)
        self.model, self.gradients = model, gradients

    def step(self, **kwargs) -> None:
        if not self.gradients:
            for key, parameter in self.model.named_parameters():
                if parameter.grad is not None:
                    self.gradients[key] = parameter.grad.clone()
        super().step(**kwargs)


def train(name: str, cfg: dict, rank: int, world: int) -> dict:
    torch.manual_seed(0)
    model = MODELS.build(cfg).double()
    for part in getattr(model, 'matchers', [model]):
        part.text_encoder.set_vocabulary(Vocabulary.build([' '.join(WORDS)], min_count=1))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            # batch norms of parts of a batch differ: use the stored statistics
            module.train(False).train = partial(_same, module)
    if name == 'NCR':
        model.active = 1
        for parameter in model.matchers[0].parameters():
            parameter.requires_grad_(False)
    joint = MMDistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD(joint.parameters(), lr=0.01)
    gradients: dict[str, torch.Tensor] = {}
    wrapper = RecordingWrapper(optimizer, model, gradients)
    data = samples(name, rank, world)
    if name == 'NCR':
        predicted = model.predict_labels(1, model.data_preprocessor(data, True))
    joint.train()
    losses = []
    for _ in range(STEPS):
        log = joint.train_step(data, wrapper)
        losses.append({key: float(value.detach()) for key, value in log.items()})
    model.eval()
    with torch.no_grad():
        everything = samples(name, 0, 1)
        features = model.extract_feat(list(everything['inputs']), everything['data_samples'])
        scores = model.similarity(
            *(features[k] for k in ('image_feat', 'image_lengths', 'text_feat', 'text_lengths'))
        )
    return dict(
        losses=losses,
        gradients=gradients,
        scores=scores,
        labels=predicted if name == 'NCR' else None,
    )


def run(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if world > 1:
        store = torch.distributed.FileStore(str(folder / f'store_{world}'), world)
        torch.distributed.init_process_group('gloo', store=store, rank=rank, world_size=world)
    found = {name: train(name, cfg, rank, world) for name, cfg in cases().items()}
    torch.save(found, folder / f'{world}_{rank}.pt')
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def main(world: int, folder: Path) -> None:
    children = []
    for rank in range(1, world):
        pid = os.fork()
        if not pid:
            run(rank, world, folder)
            os._exit(0)
        children.append(pid)
    run(0, world, folder)
    if any(os.waitpid(pid, 0)[1] for pid in children):
        sys.exit('a process failed')


if __name__ == '__main__':
    main(int(sys.argv[1]), Path(sys.argv[2]))
