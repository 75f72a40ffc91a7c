"""Search a gallery of images with sentences, and return boxes and masks for what they name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv

from projects.common.inferencer import write_predictions
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer
from projects.rvse.retrieval import VectorStore, with_probabilities

from .visualization import draw_hits

__all__ = ['SearchAndGround']


class SearchAndGround:
    """Find images for a sentence, and locate what it names in each of them.

    Args:
        search: Finds the images in a store created by its :meth:`RetrievalInferencer.index`.
        ground: Predicts boxes and masks.

    Examples:
        >>> find = SearchAndGround(RetrievalInferencer(weights='rvse.pth'),
        ...                        GroundingInferencer(weights='plvl.pth'))  # doctest: +SKIP
        >>> find.search.index('photos/', 'work_dirs/photos')                 # doctest: +SKIP
        >>> result = find('the red car', 'work_dirs/photos', top_k=3)        # doctest: +SKIP
        >>> best = result['predictions'][0]['hits'][0]                       # doctest: +SKIP
        >>> best['name'], best['score'], best['grounding']['bbox']           # doctest: +SKIP
        ('photos/0012.jpg', 0.61, [12.5, 80.1, 96.0, 301.7])
    """

    def __init__(self, search: RetrievalInferencer, ground: GroundingInferencer) -> None:
        self.search = search
        self.ground = ground

    def __call__(
        self,
        sentences: str | Sequence[str],
        store: str | os.PathLike | VectorStore,
        top_k: int = 5,
        min_image_score: float | None = None,
        min_object_score: float | None = None,
        batch_size: int = 1,
        return_vis: bool = False,
        out_dir: str | os.PathLike = '',
        no_save_vis: bool = False,
        no_save_pred: bool = False,
        skip_damaged: bool = False,
        skipped_file: str | os.PathLike | None = None,
    ) -> dict[str, list]:
        """Search a store of images, and ground each sentence in the images found for it.

        Args:
            sentences: One or several sentences.
            store: A URI or an open store, whose entries are image paths.
            top_k: Number of images to find for each sentence.
            min_image_score: Leave out images whose cosine similarity with the sentence is lower.
                None keeps all.
            min_object_score: Leave out images in which the prediction has a lower confidence. None
                keeps all.
            batch_size: Number of images to ground at once.
            return_vis: Whether to return the sheets, (H, W, 3) uint8, RGB.
            out_dir: Output folder for ``predictions.json`` and, for each sentence with hits, its
                sheet in ``vis/sentence_<number>.jpg``.
            no_save_vis: Do not write sheets.
            no_save_pred: Do not write JSON.
            skip_damaged: Leave out found images that are gone or cannot be read, with a warning
                that counts them by reason, instead of raising an error.
            skipped_file: File to list them in, each with a tab and the reason.

        Returns:
            A dict with two entries. 'predictions' has a dict for each sentence: ``query`` and
            ``hits``, best first, each with the fields of :class:`projects.rvse.retrieval.Hit`
            (``name``, the path of the image, ``score``, the cosine similarity, and ``probability``
            if the search is calibrated) and
            ``grounding``, the prediction of :class:`GroundingInferencer` (``image``, ``sentence``,
            ``bbox`` [x1, y1, x2, y2] in pixels, ``score`` from 0 to 1, ``mask``). A model for any
            number of objects may say by ``found=False`` that nothing in the image fits; such hits
            are kept. 'visualization' has the sheet of each sentence if requested, or None if no
            image was found.

        Raises:
            FileNotFoundError: The store does not exist, or one of the images found is no longer at
                its path.
            ValueError: The store is empty or belongs to a different model, an image cannot be read,
                or a sentence has no words.
        """
        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        for sentence in sentences:
            self.search.warn_of_unknown_words(sentence)
        vectors = self.search.encode_sentences(sentences)
        found = [
            [hit for hit in hits if _reaches(hit.score, min_image_score)]
            for hits in (
                with_probabilities(hits, self.search.calibration)
                for hits in self.search.find(vectors, store, top_k)
            )
        ]
        asked: dict[str, list[str]] = {}  # image -> its sentences, which share its features
        for sentence, hits in zip(sentences, found, strict=True):
            for hit in hits:
                if not skip_damaged and not os.path.isfile(hit.name):
                    raise FileNotFoundError(
                        f'{hit.name}: in the index, but no such image (found for {sentence!r}); '
                        'put it back, work in the folder in which it was indexed, or `prune` the '
                        'store'
                    )
                if sentence not in asked.setdefault(hit.name, []):
                    asked[hit.name].append(sentence)
        # Keyed by image and sentence, because the predictions are ordered by image.
        groundings: dict[tuple[str, str], dict[str, Any]] = {}
        if asked:
            options: dict[str, Any] = dict(skip_damaged=skip_damaged, skipped_file=skipped_file)
            grounded = self.ground(list(asked), list(asked.values()), batch_size, **options)
            groundings = {
                (each['image'], each['sentence']): each for each in grounded['predictions']
            }
        predictions = []
        for sentence, hits in zip(sentences, found, strict=True):
            both = [
                dict(hit.as_dict(), grounding=groundings[hit.name, sentence])
                for hit in hits
                if (hit.name, sentence) in groundings  # not of an image that was left out
            ]
            kept = [hit for hit in both if _reaches(hit['grounding']['score'], min_object_score)]
            predictions.append(dict(query=sentence, hits=kept))
        results: dict[str, list] = {'predictions': predictions, 'visualization': []}
        for number, prediction in enumerate(predictions):
            if not (return_vis or (out_dir and not no_save_vis)):
                break
            sheet = draw_hits(prediction) if prediction['hits'] else None
            if return_vis:
                results['visualization'].append(sheet)
            if sheet is not None and out_dir and not no_save_vis:
                path = Path(out_dir, 'vis', f'sentence_{number}.jpg')
                mmcv.imwrite(sheet[..., ::-1], str(path))
        if out_dir and not no_save_pred:
            write_predictions(Path(out_dir, 'predictions.json'), predictions)
        return results


def _reaches(score: float, least: float | None) -> bool:
    return least is None or score >= least
