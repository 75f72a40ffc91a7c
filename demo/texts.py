"""Texts shown on the page."""

from projects.common.scenes import COLORS, SHAPES, TEXTURES

from .uploads import MAX_BYTES, MAX_PIXELS, MAX_SIDE

INTRODUCTION = f"""
# MMTriad
Three models on one page. Those of the quick starts know **generated scenes only**: shapes
({', '.join(SHAPES)}) that are {', '.join(COLORS[:-1])} or {COLORS[-1]}, large or small,
{', '.join(TEXTURES[:-1])} or {TEXTURES[-1]}. Click an example to begin, or bring an image (up to
{MAX_BYTES // 2**20} MB and {MAX_PIXELS // 10**6} million pixels; it is reduced to {MAX_SIDE} pixels
a side, in which boxes count).
"""

GROUND_HELP = """
**Name one object** of the image so that the words fit no other: by its looks, its size, its place
or its neighbours. The answer is always one box and one mask, even where nothing fits; the score
says how sure the model is.
"""
GROUND_HELP_ANY = """
**Name one object** of the image or several ("both circles"): by looks, size, place or neighbours.
This model also says when **nothing in the image fits**; its score is how sure it is that something
does.
"""
NOTHING_FITS = 'nothing in the image fits'
GROUND_LEGEND = """
<div class="legend"><b>How to read it.</b>
<span class="box"></span> box and outline of what the sentence names; the rest is dimmed.
Score map: where the model sees the centre of the object, from the lowest score
<span class="turbo"></span> to the highest. The white cross marks the peak, where the box comes
from; its height is the score.</div>
"""

WEAK_HELP = """
**Which objects are here?** This model learnt from tags alone ("somewhere in this image is a
heart"), never from a box or a mask. It names regions that Selective Search proposes, so a large
image takes some seconds.
"""
WEAK_LEGEND = """
<div class="legend"><b>How to read it.</b> One colour for each object, and the rest is dimmed; the
number beside the name is the score. The quick start's model is often right at 0.1 already; raise
the least score to see only what it is sure of.</div>
"""

SEARCH_HELP = """
**Both ways.** A sentence finds the images that fit it best; an image finds captions. Best answer
first; the number is the cosine of the two embeddings, at most 1. Compare the numbers of one
question with each other, not with another's.
"""

BOTH_HELP = """
**Search, then ground.** The model of tab 3 finds images for the sentence, and the model of tab 1
boxes and cuts out in each of them what the sentence names. The quick start's matcher is small and
goes by colours more than by shapes: expect wrong images among the right ones, and in them a box
around something else.
"""
BOTH_LEGEND = """
<div class="legend"><b>How to read it.</b> Best image first. <i>image</i>: cosine of image and
sentence; <i>object</i>: score of the <span class="box"></span> box and outline, from 0 to 1.</div>
"""


def missing_model(names: list[str]) -> str:
    """Explain how to get the weights that a tab lacks."""
    folders = ' and '.join(f'`work_dirs/quickstart/{name}`' for name in names)
    commands = '\n'.join(f'make quickstart PROJECT={name}' for name in names)
    options = ' '.join(f'--{name} CHECKPOINT' for name in names)
    return (
        f'### This tab has no model yet\nThere is no checkpoint in {folders}. Train one in '
        f'minutes:\n```bash\n{commands}\n```\nor start the page with your own: '
        f'`python demo/web.py {options}`.'
    )
