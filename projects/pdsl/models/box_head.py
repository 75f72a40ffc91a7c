"""The detection branch: WSDDN's two streams and the refinement heads (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import TASK_UTILS
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.common.errors import InputError


@MODELS.register_module()
class PDSLBoxHead(BaseModule):
    """Score proposals by two fully connected layers, two streams and refinement heads.

    Args:
        in_channels: Channels of the RoI features.
        roi_feat_size: Their height and width.
        num_classes: n_c.
        fc_channels: Outputs of the fully connected layers; ResNet-50 and 101 have (2048, 4096).
        dropout: Rate after each of them.
        num_refinements: n_r, 0 to 5 in the paper.
        with_reg: Whether refinement heads move boxes; COCO's experiments do not.
        bbox_coder: What boxes are to proposals.
    """

    refinements: Any  # an nn.ModuleList of ModuleDicts: 'cls', and 'reg' where boxes are moved

    def __init__(
        self,
        in_channels: int = 512,
        roi_feat_size: int = 7,
        num_classes: int = 20,
        fc_channels: Sequence[int] = (4096, 4096),
        dropout: float = 0.5,
        num_refinements: int = 4,
        with_reg: bool = True,
        bbox_coder: dict = dict(  # noqa: B006
            type='mmdet.DeltaXYWHBBoxCoder',
            target_stds=(0.1, 0.1, 0.2, 0.2),
            clip_border=False,
        ),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_classes < 1 or num_refinements < 0:
            raise InputError(
                f'bbox_head: num_classes {num_classes}, num_refinements {num_refinements}; '
                'expected at least 1 and 0'
            )
        self.num_classes = num_classes
        self.with_reg = with_reg
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        sizes = [in_channels * roi_feat_size**2, *fc_channels]
        self.fcs = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes[:-1], sizes[1:]))
        self.dropout = nn.Dropout(dropout)
        self.classification = nn.Linear(sizes[-1], num_classes)
        self.detection = nn.Linear(sizes[-1], num_classes)
        self.refinements = nn.ModuleList()
        for _ in range(num_refinements):
            head = nn.ModuleDict({'cls': nn.Linear(sizes[-1], num_classes + 1)})
            if with_reg:
                head['reg'] = nn.Linear(sizes[-1], 4 * num_classes)
            self.refinements.append(head)

        self.optional_in_pretrained: dict[str, str] = {
            r'(classification|detection|refinements)\b': 'scores and boxes, which start anew'
        }

    def init_weights(self) -> None:
        """Initialize as released.

        The fully connected layers, which matter from scratch only, have a standard deviation of
        0.005 and a bias of 0.1; the two streams are Xavier's, and what refines starts small.
        """
        for layer in self.fcs:
            nn.init.normal_(layer.get_parameter('weight'), std=0.005)
            nn.init.constant_(layer.get_parameter('bias'), 0.1)
        for layer in (self.classification, self.detection):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for head in self.refinements:
            for name, layer in head.items():
                nn.init.normal_(layer.weight, std=0.01 if name == 'cls' else 0.001)
                nn.init.zeros_(layer.bias)
        super().init_weights()

    def prediction_layers(self) -> list[nn.Module]:
        """Return the layers that make logits (see tools/preflight.py)."""
        return [self.classification, self.detection, *(head['cls'] for head in self.refinements)]

    def extract(self, roi_features: Tensor) -> Tensor:
        """Proposal features (n, D) of RoI features (n, C, s, s)."""
        x = roi_features.flatten(1)
        return self.after_first(self.fcs[0](x)) if len(self.fcs) else x

    def after_first(self, x: Tensor) -> Tensor:
        """Proposal features (n, D) of what the first layer made of RoI features."""
        x = self.dropout(x.relu())
        for layer in self.fcs[1:]:
            x = self.dropout(layer(x).relu())
        return x

    def streams(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits (n, n_c) of the classification and of the detection stream."""
        return in_float32(self.classification(features)), in_float32(self.detection(features))

    def refine(self, features: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Compute each refinement head's logits (n, n_c + 1) and deltas (n, 4 n_c) or None."""
        return [
            (
                in_float32(head['cls'](features)),
                in_float32(head['reg'](features)) if self.with_reg else None,
            )
            for head in self.refinements
        ]

    def decode(self, proposals: Tensor, deltas: Tensor | None) -> Tensor:
        """Return boxes (n, n_c, 4), XYXY in pixels; the proposals (n, 4) if ``deltas`` is None."""
        if deltas is None or proposals.shape[0] == 0:  # len() would fix a graph's size
            return proposals[:, None].expand(-1, self.num_classes, -1)
        return self.bbox_coder.decode(proposals, deltas).unflatten(1, (self.num_classes, 4))

    def forward(self, proposals: Tensor, features: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Average the predictions of the refinement heads (section 3.2, testing).

        Args:
            proposals: (n, 4), XYXY in pixels.
            features: (n, D), of :meth:`extract`.
            scores: (n, n_c), S^0, which stand where there is no refinement head.

        Returns:
            Probabilities (n, n_c + 1), the last of the background, and boxes (n, n_c, 4).
        """
        refined = self.refine(features)
        if not refined:
            return torch.cat((scores, scores.new_zeros(scores.shape[0], 1)), 1), self.decode(
                proposals, None
            )
        probs = torch.stack([logits.softmax(1) for logits, _ in refined]).mean(0)
        moves = [deltas for _, deltas in refined if deltas is not None]
        return probs, self.decode(proposals, torch.stack(moves).mean(0) if moves else None)


def in_float32(outputs: Tensor) -> Tensor:
    """Convert what a layer returned under autocast to float32, before scores, boxes and losses.

    A score in bfloat16 cannot be between 0.996 and 1, and the loss of y = 1 is infinite.
    """
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
