"""Run tools/misc/gpu_check.py with a defect put back: gpu_check_worker.py OPTIONS.

The environment variable ``DEFECT`` names defects; without it the tool runs as it is.
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


def separate_parameter_groups() -> None:
    """Make a group for each parameter, as MMEngine does."""
    from mmengine.optim import DefaultOptimWrapperConstructor

    from projects.common.optim.constructor import MergedOptimWrapperConstructor

    MergedOptimWrapperConstructor.add_params = DefaultOptimWrapperConstructor.add_params


def rois_in_half_precision() -> None:
    """Convert RoIs to the type of autocast, as layers without float32 of their own do."""
    from projects.common.roi_pool import PortableRoIExtractor

    right = PortableRoIExtractor.forward

    def forward(self, feats, rois, *args):
        if torch.is_autocast_enabled('cuda'):
            rois = rois.to(torch.get_autocast_dtype('cuda')).float()
        return right(self, feats, rois, *args)

    PortableRoIExtractor.forward = forward


def captions_are_copied_one_by_one() -> None:
    from projects.rvse.models import bigru_encoder

    def pad_ids(ids, padding, device):
        rows = [torch.tensor(row).to(device) for row in ids]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        return padded, torch.tensor([len(row) for row in ids], device=device)

    bigru_encoder.pad_ids = pad_ids


def images_without_proposals_are_left_out() -> None:
    """Return before the heads, whose parameters then have no gradient."""
    from projects.pdsl.models.roi_head import PDSLRoIHead
    from tools.gpu_check import processes

    right = PDSLRoIHead.loss

    def loss(self, x, rpn_results_list, *args, **kwargs):
        if not any(len(each.bboxes) for each in rpn_results_list):
            return dict(loss_mil=0 * x[0].sum())
        return right(self, x, rpn_results_list, *args, **kwargs)

    PDSLRoIHead.loss = loss
    processes.SECONDS = 20  # for which the other process waits


def norms_of_the_own_process() -> None:
    from tools.gpu_check import processes

    processes.convert_sync_batchnorm = lambda module, _: module


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
    for name in os.environ.get('DEFECT', '').split():
        globals()[name]()
    runpy.run_path(str(ROOT / 'tools/misc/gpu_check.py'), run_name='__main__')
