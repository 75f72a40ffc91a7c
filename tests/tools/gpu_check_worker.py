"""Run tools/misc/gpu_check.py with a defect put back: gpu_check_worker.py OPTIONS.

The environment variable ``DEFECT`` names the defect; without it the tool runs as it is.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def muon_ignores_the_scaler() -> None:
    """AdamW's fused implementation takes over what a scaler does; Muon's part knows nothing."""
    from projects.common.optim.muon import MuonAdamW

    right = MuonAdamW.__init__

    def init(self, *args, **kwargs) -> None:
        right(self, *args, **kwargs)
        self._step_supports_amp_scaling = True

    MuonAdamW.__init__ = init


def step_reads_every_parameter() -> None:
    from projects.common.optim.muon import MuonAdamW

    right = MuonAdamW.step

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    parameter.grad.flatten()[0].item()
        return right(self, closure)

    MuonAdamW.step = step


def bicubic_position_tables() -> None:
    """Stretch the position table by an operator whose gradient has no fixed order."""
    from projects.plvl.models.language_guided_vit import LanguageGuidedViT

    right = LanguageGuidedViT.embed

    def embed(self, *args, **kwargs):
        x = right(self, *args, **kwargs)
        maps = x.permute(0, 3, 1, 2)
        grown = F.interpolate(maps, scale_factor=2.0, mode='bicubic')
        return x + 0 * grown[:, :, ::2, ::2].permute(0, 2, 3, 1)

    LanguageGuidedViT.embed = embed


def cosines_in_half_precision() -> None:
    from projects.rvse.models.cosine import CosineSimilarity

    def forward(self, images, image_lengths, captions, caption_lengths):
        return F.linear(images, captions)

    CosineSimilarity.forward = forward


def negatives_of_the_own_process() -> None:
    from projects.rvse.models.matcher import ImageTextMatcher

    right = ImageTextMatcher.__init__

    def init(self, *args, **kwargs) -> None:
        right(self, *args, **kwargs)
        self.gather_negatives = False

    ImageTextMatcher.__init__ = init


if __name__ == '__main__':
    torch.set_num_threads(1)
    if name := os.environ.get('DEFECT'):
        globals()[name]()
    runpy.run_path(str(ROOT / 'tools/misc/gpu_check.py'), run_name='__main__')
