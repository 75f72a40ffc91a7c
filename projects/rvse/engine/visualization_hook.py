"""A hook that draws retrieval results: images for captions and captions for images."""

from __future__ import annotations

import os
from typing import Any

from mmengine.dist import get_rank, get_world_size
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement

from projects.common.errors import InputError
from projects.common.files.image_reader import read_image
from projects.common.hooks.progress import progress_bar
from projects.common.hooks.visualization_hook import PredictionVisualizationHook

__all__ = ['MatchingVisualizationHook']


@HOOKS.register_module()
class MatchingVisualizationHook(PredictionVisualizationHook):
    """Draw the answers that :class:`MatchingValLoop` or :class:`MatchingTestLoop` found.

    Each chosen image is drawn with the captions retrieved for it, ``<name>_image.jpg``, and
    each of its captions with the images retrieved for it, ``<name>_caption_<number>.jpg``. A
    validation draws the first caption only.

    Args:
        image_pattern: Path of the images of a data set without images, such as
            ``'data/flickr30k-images/{ori_id}.jpg'``. None represents them by their ids.
        kwargs: Arguments of :class:`PredictionVisualizationHook`.

    Raises:
        ValueError: ``image_pattern`` has no ``{ori_id}``.
    """

    def __init__(self, image_pattern: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if image_pattern is not None and '{ori_id' not in image_pattern:
            raise InputError(
                f'MatchingVisualizationHook: image_pattern={image_pattern!r}, expected a path '
                'with {ori_id}'
            )
        self.image_pattern = image_pattern

    @property
    def draws_answers(self) -> bool:
        """Return whether the loop that is running has to keep the answers.

        It is the same on every process, because the loop merges the answers of all.
        """
        return self._is_due

    def path_of(self, info: dict[str, Any]) -> str:
        """Return the path of an image, or its id if the data set has no images."""
        return self._image_path(info) or str(info['ori_id'])

    def _image_path(self, info: dict[str, Any]) -> str | None:
        path = info.get('img_path')
        if path is None and self.image_pattern is not None:
            path = self.image_pattern.format(ori_id=info['ori_id'])
        return path

    def after_val_iter(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the loop ranks the answers after the last batch."""

    def after_test_iter(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the loop ranks the answers after the last batch."""

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Draw the chosen images and their first captions.

        Raises:
            TypeError: The loop does not keep answers.
        """
        self._draw_answers(runner, 'val', runner.val_loop, runner.val_dataloader.dataset, 1)

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Draw all images and captions, of which each process draws its share.

        Raises:
            TypeError: The loop does not keep answers.
        """
        self._draw_answers(runner, 'test', runner.test_loop, runner.test_dataloader.dataset, None)

    def _draw_answers(
        self, runner: Any, stage: str, loop: Any, dataset: Any, max_captions: int | None
    ) -> None:
        if not self._names:
            return
        answers = getattr(loop, 'answers', None)
        if answers is None:
            raise TypeError(
                f'MatchingVisualizationHook: {type(loop).__name__} keeps no answers, expected '
                f'{stage}_cfg.type Matching{stage.capitalize()}Loop'
            )
        images = [each for each in answers if 'text_id' not in each]
        captions: list[list[dict]] = [[] for _ in images]
        for each in answers[len(images) :]:
            captions[dataset.image_of_caption[each['text_id']]].append(each)
        share = list(self._names.items())
        if stage == 'test':
            share = share[get_rank() :: get_world_size()]
        with progress_bar(len(share), 'drawing', 'image') as bar:
            for index, name in share:
                info = images[index]
                path = self._image_path(info)
                image = None if path is None else read_image(path, channel_order='rgb')
                own = [each['text'] for each in captions[index]]
                self.add(runner, stage, f'{name}_image', image, _sample(info, text=own))
                for number, caption in enumerate(captions[index][:max_captions]):
                    paths = [self._image_path(images[i]) for i in caption['pred_image_id']]
                    sample = _sample(caption, pred_img_path=paths, ori_id=info.get('ori_id'))
                    self.add(runner, stage, f'{name}_caption_{number}', image, sample)
                bar.update()
        if stage == 'test' and self.test_out_dir is not None:
            folder = os.path.abspath(self.test_out_dir)
            runner.logger.info(f'answers of {len(share)} images and their captions in {folder}')


def _sample(answer: dict[str, Any], **fields: Any) -> BaseDataElement:
    return BaseDataElement(metainfo={**answer, **fields})
