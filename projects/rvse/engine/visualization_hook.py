"""A hook that draws retrieval results: images for captions and captions for images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from projects.common.errors import InputError
from projects.common.hooks.progress import progress_bar
from projects.rvse.visualization import Answers, Card, draw_answers

__all__ = ['MatchingVisualizationHook']


@HOOKS.register_module()
class MatchingVisualizationHook(Hook):
    """Draw a page for every image in a test with :class:`MatchingTestLoop`.

    A page shows the captions of the image with the images retrieved for them and, below, the image
    with the captions retrieved for it. Correct answers are marked. ``tools/test.py --show-dir``
    enables the hook. Precomputed features have no images: unless ``image_pattern`` locates the
    images, a card with the image's id is drawn instead.

    Args:
        draw: Whether to draw.
        out_dir: Folder of the pages, ``IMAGE_ID_ORI_ID.png``. None is ``retrievals`` in the work
            folder.
        num_samples: Number of pages to draw, for the first images. -1 draws all.
        top_k: Number of answers per query.
        image_pattern: Path of the images of a data set without images, such as
            ``'data/flickr30k-images/{ori_id}.jpg'``.

    Raises:
        ValueError: ``image_pattern`` has no ``{ori_id}``.
    """

    def __init__(
        self,
        draw: bool = False,
        out_dir: str | None = None,
        num_samples: int = -1,
        top_k: int = 5,
        image_pattern: str | None = None,
    ) -> None:
        if image_pattern is not None and '{ori_id' not in image_pattern:
            raise InputError(
                f'MatchingVisualizationHook: image_pattern={image_pattern!r}, expected a path '
                'with {ori_id}'
            )
        self.draw = draw
        self.out_dir = out_dir
        self.num_samples = num_samples
        self.top_k = top_k
        self.image_pattern = image_pattern

    @property
    def draws_answers(self) -> bool:
        """Return whether the test loop has to keep the answers."""
        return self.draw

    def after_test_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        """Draw the pages.

        Raises:
            TypeError: The loop does not keep answers.
        """
        if not self.draw or not is_main_process():
            return
        answers = getattr(runner.test_loop, 'answers', None)
        if answers is None:
            raise TypeError(
                f'MatchingVisualizationHook: {type(runner.test_loop).__name__} keeps no answers, '
                'expected test_cfg.type MatchingTestLoop'
            )
        folder = Path(self.out_dir or Path(runner.work_dir) / 'retrievals')
        folder.mkdir(parents=True, exist_ok=True)
        owner = runner.test_dataloader.dataset.image_of_caption
        images = [each for each in answers if 'text_id' not in each]
        captions: list[list[dict]] = [[] for _ in images]
        for each in answers[len(images) :]:
            captions[owner[each['text_id']]].append(each)
        chosen = images if self.num_samples < 0 else images[: self.num_samples]
        with progress_bar(len(chosen), 'drawing', 'page') as bar:
            for image, texts in zip(chosen, captions):
                by_caption = [
                    self._answers(
                        each['text'], each, [self._shown(images[i]) for i in each['pred_image_id']]
                    )
                    for each in texts
                ]
                by_image = [self._answers(self._shown(image), image, image['pred_text'])]
                name = re.sub(r'[^\w.-]+', '-', f'{image["image_id"]:05}_{image.get("ori_id")}')
                ranks = ', '.join(str(each['rank']) for each in texts)
                title = (
                    f'rank of the best caption {image["rank"]}; of the image by caption: {ranks}'
                )
                draw_answers(by_caption, by_image, folder / f'{name[:100]}.png', title)
                bar.update()
        runner.logger.info(f'{len(chosen)} pages of retrievals in {folder}')

    def _answers(self, query: Any, answer: dict, found: list) -> Answers:
        right, scores = answer['correct'], answer['pred_score']
        return Answers(query, found[: self.top_k], right[: self.top_k], scores[: self.top_k])

    def _shown(self, image: dict) -> str | Path:
        """Return the path of the image, or a card with its id."""
        path = image.get('img_path')
        if path is None and self.image_pattern is not None:
            path = self.image_pattern.format(ori_id=image['ori_id'])
        return Card(f'image {image["ori_id"]}') if path is None else Path(path)
