"""Feature maps of a model of torchvision."""

from __future__ import annotations

from typing import Any

import torchvision
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from ..errors import InputError
from ..weights.loading import load_weights
from ..weights.sources import read_source
from .feature_maps import FeatureMaps

__all__ = ['TorchvisionFeatureMaps', 'torchvision_model']


@MODELS.register_module()
class TorchvisionFeatureMaps(FeatureMaps):
    """Compute a feature map with a model of torchvision.

    Args:
        name: As listed by ``torchvision.models.list_models()``.
        layer: Name of the part of the model whose output is the map, such as 'layer4'.
        weights: See :func:`torchvision_model`.
        norm_eval: Keep the statistics of batch normalization and do not train its parameters.
        frozen: Do not train the model.
        options: Further arguments of the model, such as
            ``replace_stride_with_dilation=[False, True, True]`` for a ResNet-50 of stride 8.

    Raises:
        FileNotFoundError: The file of the weights does not exist.
        InputError: There is no such model, no such layer or there are no such weights, or they
            cannot be downloaded or do not fit.
    """

    def __init__(
        self,
        name: str,
        layer: str,
        weights: str | None = None,
        norm_eval: bool = True,
        frozen: bool = False,
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        model = torchvision_model(name, weights, **options)
        try:
            extractor = create_feature_extractor(model, [layer])
        except ValueError as error:
            raise InputError(
                f'backbone.layer={layer!r}: {name} has no such part ({error})'
            ) from None
        super().__init__(extractor, norm_eval, frozen, init_cfg)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute a feature map (B, C, h, w) of images (B, 3, H, W), normalized."""
        return tuple(self.model(images).values())


def torchvision_model(name: str, weights: str | None, **options: Any) -> nn.Module:
    """Build a model of torchvision; a download of weights is announced with its size.

    Args:
        name: As listed by ``torchvision.models.list_models()``.
        weights: Name of torchvision's weights, such as 'DEFAULT', which are downloaded once; or a
            file of such weights, also as ``package:NAME/PATH``. None starts from random weights.
        options: Further arguments of the model.

    Raises:
        FileNotFoundError: The file of the weights does not exist.
        InputError: There is no such model or there are no such weights, it does not take the
            options, or the weights cannot be downloaded or do not fit.
    """
    if weights is not None and not weights.isidentifier():
        model = torchvision_model(name, None, **options)
        load_weights(model, read_source('backbone.weights', weights)[0], weights)
        return model
    try:
        chosen = weights and torchvision.models.get_model_weights(name)[weights]
        if chosen:
            size = chosen.meta.get('_file_size', 0)
            print_log(f'backbone.weights={weights!r}: {chosen.url}, {size} MB, once', 'current')
        return torchvision.models.get_model(name, weights=chosen, **options)
    except (KeyError, ValueError):
        raise InputError(
            f'backbone: torchvision has no model {name!r} with weights {weights!r}; '
            'torchvision.models.list_models() lists its models'
        ) from None
    except (NotImplementedError, TypeError) as error:
        raise InputError(f'backbone: torchvision cannot build {name!r}: {error}') from None
    except OSError as error:
        raise InputError(
            f'backbone.weights={weights!r}: cannot be downloaded ({error}); without network, '
            'set weights to a file'
        ) from None
