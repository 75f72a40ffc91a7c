"""One object for use: sentences in, pictures of a gallery with boxes and masks out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv

from projects.common.inferencer import write_predictions
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer
from projects.rvse.retrieval import VectorStore

from .visualization import draw_hits

__all__ = ['SearchAndGround']


class SearchAndGround:
    """Finds pictures for a sentence, and in each of them what the sentence names.

    Args:
        search: Finds the pictures in a store of its :meth:`RetrievalInferencer.index`.
        ground: Boxes and cuts out.

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
        min_picture_score: float | None = None,
        min_object_score: float | None = None,
        batch_size: int = 1,
        return_vis: bool = False,
        out_dir: str | os.PathLike = '',
        no_save_vis: bool = False,
        no_save_pred: bool = False,
    ) -> dict[str, list]:
        """Searches a store of pictures and grounds each sentence in what was found for it.

        Args:
            sentences: One or several.
            store: A URI or an open store; its entries are paths of pictures.
            top_k: Pictures to find for each sentence.
            min_picture_score: Pictures whose cosine with the sentence is less are left out; None
                keeps all.
            min_object_score: Pictures in which what was found has less confidence are left out;
                None keeps all.
            batch_size: Pictures to ground at once.
            return_vis: Return the sheets, (H, W, 3) uint8, RGB.
            out_dir: Folder to write to: ``predictions.json`` and, for each sentence for which
                there are pictures, ``vis/sentence_<number>.jpg`` with its sheet.
            no_save_vis: Write no sheets.
            no_save_pred: Write no JSON.

        Returns:
            'predictions', a dict for each sentence: ``query`` and ``hits``, best first, each with
            the fields of :class:`projects.rvse.retrieval.Hit` (``name``, the picture's path, and
            ``score``, the cosine) and ``grounding``, the prediction of
            :class:`GroundingInferencer` (``image``, ``sentence``, ``bbox`` [x1, y1, x2, y2] in
            pixels, ``score`` from 0 to 1, ``mask``); 'visualization', the sheet of each sentence
            if asked for, None where no picture was found.

        Raises:
            FileNotFoundError: The store does not exist, or one of the pictures that were found
                is no longer where it was.
            ValueError: The store is empty or another model's, a picture cannot be read, or a
                sentence has no words.
        """
        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        vectors = self.search.encode_sentences(sentences)
        found = [
            [hit for hit in hits if _reaches(hit.score, min_picture_score)]
            for hits in self.search.find(vectors, store, top_k)
        ]
        asked: dict[str, list[str]] = {}  # picture -> its sentences, which share its features
        for sentence, hits in zip(sentences, found, strict=True):
            for hit in hits:
                if not os.path.isfile(hit.name):
                    raise FileNotFoundError(
                        f'{hit.name}: in the index, but no such picture (found for {sentence!r}); '
                        'put it back, work in the folder in which it was indexed, or index anew'
                    )
                if sentence not in asked.setdefault(hit.name, []):
                    asked[hit.name].append(sentence)
        # Keyed by both, because the order is by picture.
        groundings: dict[tuple[str, str], dict[str, Any]] = {}
        if asked:
            grounded = self.ground(list(asked), list(asked.values()), batch_size)['predictions']
            groundings = {(each['image'], each['sentence']): each for each in grounded}
        predictions = []
        for sentence, hits in zip(sentences, found, strict=True):
            both = [dict(vars(hit), grounding=groundings[hit.name, sentence]) for hit in hits]
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
