"""Run the models behind the page, one request at a time and within limits."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from projects.common.errors import InputError
from projects.common.files.annotation_files import printable
from projects.pdsl import WeakInstanceInferencer
from projects.plvl import GroundingInferencer
from projects.plvl.models import GeneralizedPLVL
from projects.rvse import RetrievalInferencer
from projects.rvse.retrieval import Hit, VectorStore
from projects.rvse.retrieval.queries import combined
from projects.rvse.retrieval.results import is_gone
from projects.search_and_ground import SearchAndGround, draw_hits

from .uploads import read_sentence

__all__ = ['MAX_HITS', 'Answers', 'Gallery']

MAX_HITS = 10
GONE = 'An image has gone since the folder was indexed; start the page again.'


class Gallery:
    """Index images and captions for one model.

    Args:
        search: Computes the embeddings.
        photos: Folder of images; damaged ones are skipped with a warning.
        captions: Sentences to choose from when describing an image.
        queries: Sentences to click on; those of the example scenes if there are none.

    Raises:
        InputError: No image in the folder can be read.
        ValueError: The folder contains no images, or the model does not read images.
    """

    def __init__(
        self,
        search: RetrievalInferencer,
        photos: Path,
        captions: Sequence[str],
        queries: Sequence[str] = (),
    ) -> None:
        self.queries = list(queries)
        self._folder = tempfile.TemporaryDirectory(prefix='mmtriad-gallery-')
        self.images = self._index(search, photos, 'pictures')
        if not len(self.images):
            raise InputError(f'--photos {photos}: no image in it can be read')
        self.captions = self._index(search, list(captions), 'captions')

    def _index(self, search: RetrievalInferencer, entries: Any, name: str) -> VectorStore:
        store = search.open_store(Path(self._folder.name, name))
        search.index(entries, store, skip_damaged=True)
        return store


class Answers:
    """Answer the requests of all tabs; safe to call from many threads.

    All threads share the models, OpenCV's random state, so a lock admits one
    request at a time; on a CPU that is also the fastest way.

    Args:
        ground: Model for tabs 1 and 4, or None.
        weak: Model for tab 2, or None.
        search: Model for tabs 3 and 4, or None.
        gallery: Index that ``search`` queries.
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
        """Return the projects that have no model."""
        models = dict(plvl=self._ground, pdsl=self._weak, rvse=self._search)
        return [name for name, model in models.items() if model is None]

    @property
    def any_number(self) -> bool:
        """Return whether the grounding model finds any number of objects, and can find none."""
        return self._ground is not None and isinstance(self._ground.model, GeneralizedPLVL)

    def ground(self, image: Image.Image, sentence: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the input, box with mask, and score map as one RGB drawing, and the prediction."""
        sentence = read_sentence(sentence)
        with self._lock:
            result = self._ground(image, sentence, return_vis=True)
        return result['visualization'][0], result['predictions'][0]

    def instances(
        self, image: Image.Image, least_score: float
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw the instances that reach a score (H, W, 3) RGB; return the whole prediction, too.

        Raises:
            InputError: The score is not between 0 and 1.
        """
        if not 0 <= least_score <= 1:
            raise InputError(f'The least score is {least_score}; expected 0 to 1.')
        with self._lock:
            result = self._weak(image, return_vis=True, pred_score_thr=least_score)
        return result['visualization'][0], result['predictions'][0]

    def images(self, sentence: str, count: int) -> list[Hit]:
        """Return the images in the gallery that match a sentence best.

        Raises:
            InputError: An image has been removed since it was indexed.
        """
        sentence, count = read_sentence(sentence), _read_count(count)
        with self._lock:
            vectors = combined(sentence, self._search.encode_sentences)  # never a path
            hits = self._search.find(vectors, self.gallery.images, count)[0]
        if any(is_gone(hit.name) for hit in hits):
            raise InputError(GONE)
        return hits

    def unknown_words(self, sentence: str) -> list[str]:
        """Return the words of a sentence that the model that searches does not know."""
        return self._search.unknown_words(read_sentence(sentence))

    def captions(self, image: Image.Image, count: int) -> list[Hit]:
        """Return the captions in the gallery that match an image best."""
        count = _read_count(count)
        with self._lock:
            vectors = self._search.encode_images(image)
            return self._search.find(vectors, self.gallery.captions, count)[0]

    def search_and_ground(self, sentence: str, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a sheet (H, W, 3) RGB of matching images with box and mask, and the prediction.

        Raises:
            InputError: An image has been removed since it was indexed.
        """
        sentence, count = read_sentence(sentence), _read_count(count)
        find = SearchAndGround(self._search, self._ground)
        try:
            with self._lock:
                prediction = find(sentence, self.gallery.images, count)['predictions'][0]
                sheet = draw_hits(prediction, columns=3)
        except FileNotFoundError as error:
            raise InputError(GONE) from error
        for hit in prediction['hits']:  # do not reveal the server's paths
            hit['name'] = hit['grounding']['image'] = printable(Path(hit['name']).name)
        return sheet, prediction


def _read_count(count: float) -> int:
    if isinstance(count, bool) or not 1 <= count <= MAX_HITS or count != int(count):
        raise InputError(f'The number of answers is {count}; expected 1 to {MAX_HITS}.')
    return int(count)
