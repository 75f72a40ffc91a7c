"""Draw a sheet of synthetic scenes, each with one of its sentences and the object it names.

python .dev/draw_scenes.py docs/images/scenes.jpg
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from projects.common.scenes import KINDS, Scene, SceneSentence, generate_scene


def choose(scene: Scene, kind: str) -> SceneSentence:
    """Return the scene's longest sentence of a kind, or its longest one if it has none."""
    of_kind = [sentence for sentence in scene.sentences if sentence.kind == kind]
    return max(of_kind or scene.sentences, key=lambda sentence: len(sentence.text))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('out', help='picture to write')
    parser.add_argument('--rows', type=int, default=2)
    parser.add_argument('--columns', type=int, default=4)
    parser.add_argument('--size', type=int, default=288, help='side of a scene in pixels')
    parser.add_argument('--seed', type=int, default=0, help='seed of all randomness')
    args = parser.parse_args()
    figure, axes = plt.subplots(
        args.rows,
        args.columns,
        squeeze=False,
        figsize=(2.6 * args.columns, 3.0 * args.rows),
        layout='constrained',
    )
    for index, axis in enumerate(axes.flat):
        scene = generate_scene(index, args.seed, 'val', args.size, min_objects=4)
        sentence = choose(scene, KINDS[index % len(KINDS)])
        axis.imshow(scene.image[..., ::-1])
        mask = scene.masks[sentence.target]
        for color, width in (('black', 4), ('white', 2)):
            axis.contour(mask, levels=[0.5], colors=color, linewidths=width)
        text = '\n'.join(textwrap.wrap(sentence.text, 30))
        axis.set_title(text, fontsize=9, loc='left', y=-0.04, va='top')
        axis.set_axis_off()
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=110)


if __name__ == '__main__':
    main()
