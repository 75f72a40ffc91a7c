"""Image-text matching: two encoders, a similarity of all pairs, a loss of the similarity matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from projects.common.errors import InputError

from .sequences import pad_sets

Features = dict[str, Tensor]


@MODELS.register_module()
class ImageTextMatcher(BaseModel):
    """Every model of the paper; which one it is, its parts say.

    Args:
        image_encoder: Regions (B, N, C) and their numbers (B,) to embeddings and numbers.
        text_encoder: ``tokenize`` makes ids and lengths of captions, ``forward`` embeddings and
            lengths of them.
        similarity: Scores (I, T) of ``images, image_lengths, captions, caption_lengths``.
        loss: A loss of the similarity matrix (:class:`projects.rvse.losses.MatchingLoss`).
        backbone: Makes feature maps (B, C, h, w) of images (B, 3, H, W); their cells are the
            regions then. None: the inputs are regions.
        mask_repeats: Captions of one picture that meet in a batch are no negatives of it. The
            released code counts them as negatives.

    The inputs are regions (B, N, C), or B tensors (N_i, C); with a backbone, images. A data sample
    has in ``text`` its caption or a list of captions, and in ``image_id`` what tells pictures
    apart (needed by ``mask_repeats`` alone). A training sample with several captions stands for as
    many pairs, whose picture is encoded once; they are no negatives of one another.
    """

    def __init__(
        self,
        image_encoder: dict,
        text_encoder: dict,
        similarity: dict,
        loss: dict | None = None,
        backbone: dict | None = None,
        mask_repeats: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone: Any = MODELS.build(backbone) if backbone else None
        self.image_encoder = MODELS.build(image_encoder)
        self.text_encoder = MODELS.build(text_encoder)
        self.similarity = MODELS.build(similarity)
        self.criterion: Any = MODELS.build(loss) if loss else None
        self.mask_repeats = mask_repeats

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: Sequence[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Features | dict[str, Tensor] | tuple[list[DataSample], list[DataSample]]:
        """``loss`` returns losses, ``predict`` data samples, ``tensor`` embeddings.

        Raises:
            ValueError: ``mode`` is another one, or it needs data samples and there are none.
        """
        if mode == 'tensor':
            return self.extract_feat(inputs, data_samples)
        if mode not in ('loss', 'predict'):
            raise InputError(f"mode={mode!r}, expected 'loss', 'predict' or 'tensor'")
        if data_samples is None:
            raise InputError(f'mode={mode!r} needs data_samples')
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.predict(inputs, data_samples)

    def prediction_layers(self) -> list[nn.Module]:
        """Return what makes the similarities: where all are equal, a loss has its chance value."""
        return [self.similarity]

    def grid_features(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Cells of the backbone's last feature map (B, h * w, C) of images (B, 3, H, W)."""
        maps = self.backbone(images if isinstance(images, Tensor) else torch.stack(list(images)))
        maps = maps[-1] if isinstance(maps, (tuple, list)) else maps
        return maps.flatten(2).transpose(1, 2)

    def encode_images(self, inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings of pictures, and their numbers of regions (B,)."""
        if self.backbone is not None:
            inputs = self.grid_features(inputs)
        return self.image_encoder(*pad_sets(inputs))

    def encode_captions(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of captions, and their numbers of words (T,)."""
        return self.text_encoder(*self.text_encoder.tokenize(captions))

    def extract_feat(
        self,
        inputs: Tensor | Sequence[Tensor] | None,
        data_samples: Sequence[DataSample] | None,
    ) -> Features:
        """``image_feat`` and ``image_lengths`` of the inputs, ``text_feat`` and ``text_lengths`` of
        the samples' captions, one after the other; None leaves its half out."""
        features = {}
        if inputs is not None:
            features['image_feat'], features['image_lengths'] = self.encode_images(inputs)
        if data_samples is not None:
            captions = [text for sample in data_samples for text in captions_of(sample)]
            features['text_feat'], features['text_lengths'] = self.encode_captions(captions)
        return features

    def score(self, features: Features) -> Tensor:
        """Similarities (I, T) of all images and captions of :meth:`extract_feat`."""
        return self.similarity(
            features['image_feat'],
            features['image_lengths'],
            features['text_feat'],
            features['text_lengths'],
        )

    def loss(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """``loss`` and the loss module's statistics for a batch of pairs.

        Raises:
            ValueError: A sample has no caption, or ``mask_repeats`` finds no ``image_id``.
        """
        scores, positives = self.pair_scores(inputs, data_samples)
        loss = self.criterion(scores, positives)
        return {'loss': loss, **self.criterion.statistics}

    def pair_scores(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> tuple[Tensor, Tensor | None]:
        """What a matching loss reads of a batch: S (B, B) and further positives (B, B) or None."""
        counts = []
        for i, sample in enumerate(data_samples):
            texts = sample.get('text')
            texts = [texts] if isinstance(texts, str) else texts
            if not (isinstance(texts, list) and texts and all(isinstance(t, str) for t in texts)):
                raise InputError(
                    f'data_samples[{i}].text: {sample.get("text")!r}, expected a caption or a '
                    'list of captions'
                )
            counts.append(len(texts))
        scores = self.score(self.extract_feat(inputs, data_samples))
        several = max(counts) > 1
        owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        positives = (
            self._same_picture(data_samples, owner) if several or self.mask_repeats else None
        )
        # a picture's row once for each of its captions
        return scores[owner.to(scores.device)] if several else scores, positives

    def _same_picture(self, data_samples: Sequence[DataSample], owner: Tensor) -> Tensor:
        """(B, B) bool, of pairs whose samples are ``owner`` (B,)."""
        ids: list[Any] = list(range(len(data_samples)))
        if self.mask_repeats:
            ids = [sample.get('image_id') for sample in data_samples]
            if None in ids:
                raise InputError(f'data_samples[{ids.index(None)}]: mask_repeats needs image_id')
        number = {image_id: i for i, image_id in enumerate(ids)}
        row = torch.tensor([number[image_id] for image_id in ids])[owner]
        return row[:, None] == row

    def predict(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> tuple[list[DataSample], list[DataSample]]:
        """:meth:`predict_all` within a batch."""
        return self.predict_all(self.extract_feat(inputs, data_samples), data_samples)

    def predict_all(
        self,
        feats: Features,
        data_samples: Sequence[DataSample] | None = None,
        num_images: int | None = None,
        num_texts: int | None = None,
    ) -> tuple[list[DataSample], list[DataSample]]:
        """What mmpretrain's retrieval loops ask for, in one process.

        Args:
            feats: Of :meth:`extract_feat`, of all batches one after the other.
            data_samples: One a picture; ``gt_text_id`` and ``gt_image_id`` become ``gt_label``.
            num_images: Pictures that count; more are copies that fill the last batch.
            num_texts: Captions that count.

        Returns:
            A sample for every picture with ``pred_score`` over the captions, and a sample for
            every caption with ``pred_score`` over the pictures.
        """
        scores = self.score(feats)[:num_images, :num_texts]
        pictures = list(data_samples or [DataSample() for _ in scores])[:num_images]
        captions = [_caption_sample(sample, i) for sample in pictures for i in _places(sample)]
        captions = captions or [DataSample() for _ in scores.T]
        for sample in pictures:
            if 'gt_text_id' in sample:
                sample.set_gt_label(sample.gt_text_id)
        for samples, rows in ((pictures, scores), (captions, scores.T)):
            for sample, row in zip(samples, rows, strict=True):
                sample.set_pred_score(row).set_pred_label(row.argmax(keepdim=True))
        return pictures, captions


def captions_of(sample: DataSample) -> list[str]:
    """The captions of a sample, whose ``text`` is one or a list of them."""
    return [sample.text] if isinstance(sample.text, str) else list(sample.text)


def _places(sample: DataSample) -> range:
    return range(len(captions_of(sample)) if 'text' in sample else 0)


def _caption_sample(sample: DataSample, i: int) -> DataSample:
    caption = DataSample(text=captions_of(sample)[i])
    if 'gt_image_id' in sample:
        ids = sample.gt_image_id
        caption.set_gt_label(ids[i] if isinstance(ids, (list, tuple)) else ids)
    return caption
