"""The best answers to every query of a test set, as plain data."""

from __future__ import annotations

import numpy as np

from projects.common.errors import InputError

from .ranks import RetrievalRanks

__all__ = ['best_answers']


def best_answers(dataset, ranks: RetrievalRanks) -> list[dict]:
    """Return every query with its best answers: first all images, then all captions.

    The entries for an image and a caption look like this::

        {'image_id': 0, 'ori_id': '1007129816', 'img_path': 'flickr30k-images/1007129816.jpg',
         'rank': 1, 'pred_text_id': [2, 0], 'pred_text': ['A man ...', ...],
         'pred_score': [0.71, 0.65], 'correct': [True, True]}
        {'text_id': 0, 'text': 'The man ...', 'rank': 2, 'pred_image_id': [5, 0],
         'pred_ori_id': ['1031973097', '1007129816'], 'pred_score': [0.66, 0.65],
         'correct': [False, True]}

    ``rank`` counts from 1: the rank of the best caption of an image, or of the image of a caption.
    ``img_path`` is only present if the data set has images.

    Args:
        dataset: A :class:`BaseMatchingDataset` in test mode.
        ranks: Ranks with the best answers.

    Raises:
        ValueError: ``ranks`` has no answers.
    """
    best_captions, best_images = ranks.best_captions, ranks.best_images
    caption_scores, image_scores = ranks.best_captions_scores, ranks.best_images_scores
    if best_captions is None or best_images is None:
        raise InputError('best_answers: the ranks were counted without top_k')
    assert caption_scores is not None and image_scores is not None
    infos = [dataset.get_data_info(i) for i in range(dataset.img_size)]
    texts = [text for info in infos for text in info['text']]
    owner: np.ndarray = dataset.image_of_caption
    answers = []
    for i, info in enumerate(infos):
        answer = {key: info[key] for key in ('image_id', 'ori_id', 'img_path') if key in info}
        found = best_captions[i]
        answers.append(
            dict(
                answer,
                rank=int(ranks.i2t[i]) + 1,
                pred_text_id=found.tolist(),
                pred_text=[texts[j] for j in found],
                pred_score=caption_scores[i].tolist(),
                correct=(owner[found] == i).tolist(),
            )
        )
    for j, text in enumerate(texts):
        found = best_images[j]
        answers.append(
            dict(
                text_id=j,
                text=text,
                rank=int(ranks.t2i[j]) + 1,
                pred_image_id=found.tolist(),
                pred_ori_id=[infos[i].get('ori_id') for i in found],
                pred_score=image_scores[j].tolist(),
                correct=(found == owner[j]).tolist(),
            )
        )
    return answers
