"""Data sets of generated scenes with sentences, boxes, masks, tags and captions.

The scenes are of textured shapes, or of cut-outs that are pasted on photographs.
"""

from .collages import write_collages
from .generate import generate_scene
from .language import KINDS
from .scene import COLORS, SHAPES, SIZES, TEXTURES, Scene, SceneObject, SceneSentence, SetSentence
from .set_sentences import SET_KINDS
from .writer import write_dataset

__all__ = [
    'COLORS',
    'KINDS',
    'SET_KINDS',
    'SHAPES',
    'SIZES',
    'TEXTURES',
    'Scene',
    'SceneObject',
    'SceneSentence',
    'SetSentence',
    'generate_scene',
    'write_collages',
    'write_dataset',
]
