"""The models behind the page, without the page: one request at a time, within limits."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from projects.common.errors import InputError
from projects.pdsl import WeakInstanceInferencer
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer
from projects.rvse.retrieval import Hit, VectorStore
from projects.search_and_ground import SearchAndGround, draw_hits

from .uploads import read_sentence

__all__ = ['MAX_HITS', 'Answers', 'Gallery']

MAX_HITS = 10


class Gallery:
    """Pictures and captions, indexed for one model.

    Args:
        search: Makes the embeddings.
        photos: Folder of pictures; damaged ones are left out with a warning.
        captions: Sentences that a picture may be described with.

    Raises:
        InputError: No picture of the folder can be read.
        ValueError: The folder holds none, or the model reads no pictures.
    """

    def __init__(self, search: RetrievalInferencer, photos: Path, captions: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix='mmtriad-gallery-')
        self.pictures = self._index(search, photos, 'pictures')
        if not len(self.pictures):
            raise InputError(f'--photos {photos}: no picture in it can be read')
        self.captions = self._index(search, list(captions), 'captions')

    def _index(self, search: RetrievalInferencer, entries: Any, name: str) -> VectorStore:
        store = search.open_store(Path(self._folder.name, name))
        search.index(entries, store, skip_damaged=True)
        return store


class Answers:
    """What the tabs ask for; safe to call from many threads.

    The models, OpenCV's random state and mmdet's canvas are one for all, so a lock lets one
    request through at a time; on a CPU that is also the fastest way.

    Args:
        ground: Of tabs 1 and 4, or None.
        weak: Of tab 2, or None.
        search: Of tabs 3 and 4, or None.
        gallery: What ``search`` looks in.
    """

    def __init__(
        self,
        ground: GroundingInferencer | None = None,
        weak: WeakInstanceInferencer | None = None,
        search: RetrievalInferencer | None = None,
        gallery: Gallery | None = None,
    ) -> None:
        self._ground, self._weak, self._search = ground, weak, search
        self.gallery = gallery
        self._lock = threading.Lock()

    @property
    def missing(self) -> list[str]:
        """The projects without a model."""
        models = dict(plvl=self._ground, pdsl=self._weak, rvse=self._search)
        return [name for name, model in models.items() if model is None]

    def ground(self, picture: Image.Image, sentence: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Input, box with mask, and score map as one drawing (H, W, 3) RGB; the prediction."""
        sentence = read_sentence(sentence)
        with self._lock:
            result = self._ground(picture, sentence, return_vis=True)
        return result['visualization'][0], result['predictions'][0]

    def instances(
        self, picture: Image.Image, least_score: float
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The drawing (H, W, 3) RGB of what reaches a score, and the prediction with all.

        Raises:
            InputError: The score is not from 0 to 1.
        """
        if not 0 <= least_score <= 1:
            raise InputError(f'The least score is {least_score}; expected 0 to 1.')
        with self._lock:
            result = self._weak(picture, return_vis=True, pred_score_thr=least_score)
        return result['visualization'][0], result['predictions'][0]

    def pictures(self, sentence: str, count: int) -> list[Hit]:
        """The pictures of the gallery that fit a sentence best."""
        sentence, count = read_sentence(sentence), _read_count(count)
        with self._lock:
            vectors = self._search.encode_sentences(sentence)
            return self._search.find(vectors, self.gallery.pictures, count)[0]

    def captions(self, picture: Image.Image, count: int) -> list[Hit]:
        """The captions of the gallery that fit a picture best."""
        count = _read_count(count)
        with self._lock:
            vectors = self._search.encode_pictures(picture)
            return self._search.find(vectors, self.gallery.captions, count)[0]

    def search_and_ground(self, sentence: str, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        """A sheet (H, W, 3) RGB of the pictures found, box and mask in each; the prediction.

        Raises:
            InputError: A picture has gone since it was indexed.
        """
        sentence, count = read_sentence(sentence), _read_count(count)
        find = SearchAndGround(self._search, self._ground)
        try:
            with self._lock:
                prediction = find(sentence, self.gallery.pictures, count)['predictions'][0]
                sheet = draw_hits(prediction, columns=3)
        except FileNotFoundError as error:
            raise InputError(
                'A picture has gone since the folder was indexed; start the page again.'
            ) from error
        for hit in prediction['hits']:  # where the server keeps its pictures is its own affair
            hit['name'] = hit['grounding']['image'] = Path(hit['name']).name
        return sheet, prediction


def _read_count(count: float) -> int:
    if isinstance(count, bool) or not 1 <= count <= MAX_HITS or count != int(count):
        raise InputError(f'The number of answers is {count}; expected 1 to {MAX_HITS}.')
    return int(count)
