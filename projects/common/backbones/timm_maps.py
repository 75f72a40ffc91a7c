"""Feature maps of a model of timm."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from ..errors import InputError
from ..weights.loading import record_loading
from ..weights.matching import Match
from ..weights.sources import weight_files
from .feature_maps import FeatureMaps

__all__ = ['TimmFeatureMaps']


@MODELS.register_module()
class TimmFeatureMaps(FeatureMaps):
    """Compute feature maps with a model of timm, by its ``features_only``.

    ``mmpretrain.TIMMBackbone`` gives the same maps; this class also loads weights from a file or
    folder and keeps batch normalization fixed.

    Args:
        name: As listed by ``timm.list_models()``.
        pretrained: Weights of timm: a file, a folder, ``package:NAME/PATH``, or a Hugging Face Hub
            id such as ``timm/resnet50.a1_in1k``. None starts from random weights.
        out_indices: Indices of the maps, as in timm.
        norm_eval: Keep the statistics of batch normalization and do not train its parameters.
        frozen: Do not train the model.
        options: Further arguments of ``timm.create_model``, such as ``output_stride=8``, or
            ``dynamic_img_size=True`` for a ViT.

    Raises:
        FileNotFoundError: The file or folder does not exist.
        InputError: timm is not installed, does not have the model or does not take the options, or
            the weights do not fit.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        out_indices: Sequence[int] = (-1,),
        norm_eval: bool = True,
        frozen: bool = False,
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        try:
            import timm
        except ModuleNotFoundError:
            raise InputError('backbone: needs the package timm; pip install timm') from None
        if pretrained:
            (file,) = weight_files('backbone.pretrained', pretrained)
            options.update(pretrained=True, pretrained_cfg_overlay=dict(file=str(file)))
        try:
            with _missing_weights() as missing:
                model = timm.create_model(
                    name, features_only=True, out_indices=tuple(out_indices), **options
                )
        except FileNotFoundError:
            raise
        except Exception as error:  # timm raises almost any exception
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f'backbone: timm cannot build {name!r}: {reason}') from None
        super().__init__(model, norm_eval, frozen, init_cfg)
        if pretrained:
            names = sorted(model.state_dict())
            plain = {key.removeprefix('model.').replace('.', '_') for key in names}
            lacking = [key for key in missing if key.replace('.', '_') in plain]
            if lacking:
                raise InputError(
                    f'backbone.pretrained={pretrained!r}: {len(names) - len(lacking)} of '
                    f'{len(names)} tensors of {name} match; the first that does not is '
                    f'{lacking[0]}, which the weights lack'
                )
            record_loading(pretrained, name, Match(len(names), names))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute feature maps (B, C, h, w) of images (B, 3, H, W), normalized."""
        return tuple(self.model(images))


@contextlib.contextmanager
def _missing_weights() -> Iterator[list[str]]:
    """Collect the names that timm logs as missing in a file, which it does not treat as an error.

    What a file has beyond the maps, such as a classifier, is not worth a warning here.
    """
    found: list[str] = []

    def read(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith('Missing keys ('):
            found.extend(text.partition('(')[2].partition(')')[0].split(', '))
        return record.levelno > logging.INFO and not text.startswith('Unexpected keys')

    logger = logging.getLogger('timm.models._builder')
    level = logger.level
    logger.addFilter(read)
    logger.setLevel(logging.INFO)
    try:
        yield found
    finally:
        logger.setLevel(level)
        logger.removeFilter(read)
