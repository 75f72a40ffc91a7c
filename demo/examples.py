"""Example scenes, generated once, with sentences and captions to click on."""

from __future__ import annotations

import json
from pathlib import Path

from projects.common.scenes import generate_scene, write_dataset

__all__ = ['ExampleScenes']

COUNT = 60


class ExampleScenes:
    """Scenes of the quick starts' test split, which no training saw.

    Args:
        folder: Where they lie, or will.

    Attributes:
        photos: The folder of their pictures.
        pictures: Paths of the pictures, in order.
        captions: Five of each picture, equal ones once.
    """

    def __init__(self, folder: Path) -> None:
        write_dataset(folder, 0, 0, COUNT, image_size=128, seed=0, progress=False)
        self.photos = folder / 'images'
        self.pictures = sorted(self.photos.iterdir())
        content = json.loads((folder / 'annotations/captions_test.json').read_text())
        self.captions = list(dict.fromkeys(entry['caption'] for entry in content['annotations']))

    def sentences(self, index: int) -> list[str]:
        """What referring expressions the generator made for a picture."""
        scene = generate_scene(index, seed=0, split='test', image_size=128)
        return [sentence.text for sentence in scene.sentences]
