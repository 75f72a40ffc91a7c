"""A synthetic data set of textured shapes with sentences, boxes, masks, tags and captions."""

from .generate import generate_scene
from .language import KINDS
from .scene import COLORS, SHAPES, SIZES, TEXTURES, Scene, SceneObject, SceneSentence
from .writer import write_dataset

__all__ = [
    'COLORS',
    'KINDS',
    'SHAPES',
    'SIZES',
    'TEXTURES',
    'Scene',
    'SceneObject',
    'SceneSentence',
    'generate_scene',
    'write_dataset',
]
