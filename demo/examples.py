"""Example scenes, generated once, with sentences and captions to click on."""

from __future__ import annotations

import json
from pathlib import Path

from projects.common.scenes import generate_scene, write_dataset

__all__ = ['ExampleScenes']

COUNT = 60


class ExampleScenes:
    """Generate scenes of the quick starts' test split, which no training has seen.

    Args:
        folder: Folder to read the scenes from, or to write them to.

    Attributes:
        photos: Folder of the images.
        images: Paths of the images, in order.
        captions: Five captions per image, without duplicates.
    """

    def __init__(self, folder: Path) -> None:
        write_dataset(folder, 0, 0, COUNT, image_size=128, seed=0, progress=False)
        self.photos = folder / 'images'
        self.images = sorted(self.photos.iterdir())
        content = json.loads((folder / 'annotations/captions_test.json').read_text())
        self.captions = list(dict.fromkeys(entry['caption'] for entry in content['annotations']))

    def sentences(self, index: int) -> list[str]:
        """Return the referring expressions generated for an image."""
        scene = generate_scene(index, seed=0, split='test', image_size=128)
        return [sentence.text for sentence in scene.sentences]

    def set_sentences(self, index: int) -> list[str]:
        """Return the expressions for an image that fit several objects, then those that fit none.

        There may be fewer than two of either kind.
        """
        scene = generate_scene(index, seed=0, split='test', image_size=128, generalized=True)
        return [sentence.text for sentence in scene.set_sentences]
