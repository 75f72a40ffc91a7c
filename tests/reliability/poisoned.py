"""A toy whose chosen samples give a loss that is NaN, or no gradient in its place."""

import torch
from mmengine.registry import DATASETS, FUNCTIONS, MODELS
from mmengine.structures import BaseDataElement
from toy import ToyDataset, ToyModel


@DATASETS.register_module()
class PoisonedDataset(ToyDataset):
    """Samples with ids; those in `poison` are marked."""

    def __init__(self, poison=(), length: int = 24) -> None:
        super().__init__(size=24)
        self.poison = set(poison)
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        sample = super().__getitem__(index)
        info = dict(img_id=index, img_path=f'images/{index}.jpg', poisoned=index in self.poison)
        return dict(inputs=sample, data_samples=BaseDataElement(metainfo=info))


@MODELS.register_module()
class PoisonedModel(ToyModel):
    """Its loss is NaN for a batch with a marked sample; with `zero` it has no gradient instead."""

    def __init__(self, zero: bool = False, **kwargs) -> None:
        super().__init__(dropout=0.0, **kwargs)
        self.zero = zero

    def forward(self, inputs, data_samples, mode='tensor'):
        if mode != 'loss':
            return super().forward(**inputs, mode=mode)
        loss = super().forward(**inputs, mode='loss')['loss']
        if any(sample.poisoned for sample in data_samples):
            loss = loss.detach() * 0 + 0 * self.layers[0].weight.sum()
            loss = loss if self.zero else loss * torch.nan
        return dict(loss_a=loss, loss_b=torch.ones(()))


@FUNCTIONS.register_module()
def poisoned_collate(batch: list) -> dict:
    """Inputs stacked, data samples in a list."""
    inputs = torch.utils.data.default_collate([sample['inputs'] for sample in batch])
    return dict(inputs=inputs, data_samples=[sample['data_samples'] for sample in batch])
