"""Image-text matching: two encoders, a similarity of all pairs and a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from projects.common.errors import InputError
from projects.common.speed.transfer import to_device

from .joint_batch import JointScores, joint_loss, joint_scores, num_processes
from .sequences import pad_sets

Features = dict[str, Tensor]


@MODELS.register_module()
class ImageTextMatcher(BaseModel):
    """Match images and captions; the components determine which model of the paper this is.

    The inputs are regions (B, N, C) or B tensors (N_i, C); with a backbone, they are images. The
    ``text`` of a data sample is a caption or a list of captions. Its ``image_id`` identifies the
    image and is only needed for ``mask_repeats``. A training sample with several captions stands
    for as many pairs. Its image is encoded once, and the captions are not negatives of it.

    In distributed training, the batches of all processes form one batch: every process takes its
    negatives from all of them, and losses and gradients are those of a single process with the
    joint batch.

    Args:
        image_encoder: Maps regions (B, N, C) and their numbers (B,) to embeddings and numbers.
        text_encoder: ``tokenize`` maps captions to ids and lengths, ``forward`` maps these to
            embeddings and lengths.
        similarity: Computes scores (I, T) from ``images, image_lengths, captions,
            caption_lengths``.
        loss: A loss over the similarity matrix (:class:`projects.rvse.losses.MatchingLoss`).
        backbone: Computes feature maps (B, C, h, w) of images (B, 3, H, W), whose cells are then
            the regions. None if the inputs are regions.
        mask_repeats: Do not use several captions of one image in a batch as its negatives. The
            released code counts them as negatives.
        gather_negatives: Join the batches of all processes. If False, negatives only come from the
            batch of the process itself.
    """

    def __init__(
        self,
        image_encoder: dict,
        text_encoder: dict,
        similarity: dict,
        loss: dict | None = None,
        backbone: dict | None = None,
        mask_repeats: bool = False,
        gather_negatives: bool = True,
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
        self.gather_negatives = gather_negatives

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: Sequence[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Features | dict[str, Tensor] | tuple[list[DataSample], list[DataSample]]:
        """Return losses, data samples or embeddings, for mode ``loss``, ``predict`` or ``tensor``.

        Raises:
            ValueError: ``mode`` is unknown, or it needs ``data_samples`` and there are none.
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
        """Return the layers that compute the similarities.

        If all similarities are equal, a loss has its chance value.
        """
        return [self.similarity]

    def grid_features(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Compute the cells (B, h * w, C) of the last feature map of images (B, 3, H, W)."""
        maps = self.backbone(images if isinstance(images, Tensor) else torch.stack(list(images)))
        maps = maps[-1] if isinstance(maps, (tuple, list)) else maps
        return maps.flatten(2).transpose(1, 2)

    def encode_images(self, inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute embeddings of images and their numbers of regions (B,)."""
        if self.backbone is not None:
            inputs = self.grid_features(inputs)
        return self.image_encoder(*pad_sets(inputs))

    def encode_captions(
        self, captions: Sequence[str], token_ids: Sequence[list[int]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute embeddings of captions and their numbers of words (T,).

        Args:
            captions: The captions.
            token_ids: Their ids, if a data loader has tokenized them.
        """
        if token_ids is None:
            return self.text_encoder(*self.text_encoder.tokenize(captions))
        return self.text_encoder(*self.text_encoder.pad(token_ids))

    def extract_feat(
        self,
        inputs: Tensor | Sequence[Tensor] | None,
        data_samples: Sequence[DataSample] | None,
    ) -> Features:
        """Compute embeddings of images and captions.

        Returns:
            ``image_feat`` and ``image_lengths`` for the inputs, ``text_feat`` and ``text_lengths``
            for the concatenated captions of the samples. An argument of None omits its half.
        """
        features = {}
        if inputs is not None:
            features['image_feat'], features['image_lengths'] = self.encode_images(inputs)
        if data_samples is not None:
            captions = [text for sample in data_samples for text in captions_of(sample)]
            features['text_feat'], features['text_lengths'] = self.encode_captions(
                captions, _token_ids(data_samples)
            )
        return features

    def score(self, features: Features) -> Tensor:
        """Compute similarities (I, T) of all images and captions of :meth:`extract_feat`."""
        return self.similarity(
            features['image_feat'],
            features['image_lengths'],
            features['text_feat'],
            features['text_lengths'],
        )

    def loss(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Compute ``loss`` and the statistics of the loss module for a batch of pairs.

        Raises:
            ValueError: A sample has no caption, or no ``image_id`` for ``mask_repeats``.
        """
        joint = self.joint_scores(inputs, data_samples, self.training)
        return joint_loss(self.criterion, joint)

    def joint_scores(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: Sequence[DataSample],
        gather: bool = True,
    ) -> JointScores:
        """Compute the similarities of the pairs and of those of the other processes.

        Args:
            inputs: The images of the samples.
            data_samples: Samples with captions.
            gather: False uses the batch of this process alone.
        """
        owner = _owners(data_samples)
        return self.joint_scores_of(
            self.extract_feat(inputs, data_samples), data_samples, owner, gather
        )

    def joint_scores_of(
        self,
        features: Features,
        data_samples: Sequence[DataSample],
        owner: Tensor,
        gather: bool = True,
    ) -> JointScores:
        """Compute what :meth:`joint_scores` returns from features of :meth:`extract_feat`.

        Args:
            features: Features of the samples.
            data_samples: The samples, which have ids if the model masks repeats.
            owner: (B,) int64, index of the sample of each caption.
            gather: See :meth:`joint_scores`.
        """
        if gather and self.gather_negatives and num_processes() > 1:
            ids = _image_ids(data_samples) if self.mask_repeats else None
            return joint_scores(self.similarity, features, owner, ids)
        scores = self.score(features)
        several = len(owner) > len(data_samples)
        positives = None
        if several or self.mask_repeats:
            row = torch.arange(len(data_samples))
            if self.mask_repeats:
                ids = _image_ids(data_samples)
                number = {one: i for i, one in enumerate(ids)}
                row = torch.tensor([number[one] for one in ids])
            row = row[owner]
            positives = to_device(row[:, None] == row, scores.device)
        if several:  # repeat the row of an image for each of its captions
            scores = scores[to_device(owner, scores.device)]
        return JointScores(scores, positives)

    def pair_scores(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the similarity matrix (B, B) and the mask of extra positives (B, B) or None.

        Only the batch of this process counts.
        """
        joint = self.joint_scores(inputs, data_samples, gather=False)
        return joint.S, joint.positives

    def predict(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Sequence[DataSample]
    ) -> tuple[list[DataSample], list[DataSample]]:
        """Predict within a batch; see :meth:`predict_all`."""
        return self.predict_all(self.extract_feat(inputs, data_samples), data_samples)

    def predict_all(
        self,
        feats: Features,
        data_samples: Sequence[DataSample] | None = None,
        num_images: int | None = None,
        num_texts: int | None = None,
    ) -> tuple[list[DataSample], list[DataSample]]:
        """Score all images and captions, as mmpretrain's retrieval loops require, in one process.

        Args:
            feats: Features from :meth:`extract_feat`, concatenated over all batches.
            data_samples: One sample per image. ``gt_text_id`` and ``gt_image_id`` become
                ``gt_label``.
            num_images: Number of images that count. Any further ones are copies that fill the last
                batch.
            num_texts: Number of captions that count.

        Returns:
            A sample per image with ``pred_score`` over the captions, and a sample per caption with
            ``pred_score`` over the images.
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
    """Return the captions of a sample, whose ``text`` is one caption or a list."""
    return [sample.text] if isinstance(sample.text, str) else list(sample.text)


def _owners(data_samples: Sequence[DataSample]) -> Tensor:
    """Return the index (B,) of the sample of each caption, after checking the captions."""
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
    return torch.tensor([i for i, count in enumerate(counts) for _ in range(count)])


def _image_ids(data_samples: Sequence[DataSample]) -> list[Any]:
    ids = [sample.get('image_id') for sample in data_samples]
    if None in ids:
        raise InputError(f'data_samples[{ids.index(None)}]: mask_repeats needs image_id')
    return ids


def _token_ids(data_samples: Sequence[DataSample]) -> list[list[int]] | None:
    """Return the ids of all captions if every sample has those of its captions."""
    if not all('token_ids' in sample for sample in data_samples):
        return None
    return [ids for sample in data_samples for ids in sample.token_ids]


def _places(sample: DataSample) -> range:
    return range(len(captions_of(sample)) if 'text' in sample else 0)


def _caption_sample(sample: DataSample, i: int) -> DataSample:
    caption = DataSample(text=captions_of(sample)[i])
    if 'gt_image_id' in sample:
        ids = sample.gt_image_id
        caption.set_gt_label(ids[i] if isinstance(ids, (list, tuple)) else ids)
    return caption
