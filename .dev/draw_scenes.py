"""Draw a sheet of synthetic scenes, each with one of its sentences and the object it names.

python .dev/draw_scenes.py docs/images/scenes.jpg
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2

from projects.common.scenes import KINDS, Scene, SceneSentence, generate_scene
from projects.common.visualization import TRUTH_COLOR, Panel, draw_objects, draw_page, tile


def choose(scene: Scene, kind: str) -> SceneSentence:
    """Return the scene's longest sentence of a kind, or its longest one if it has none."""
    of_kind = [sentence for sentence in scene.sentences if sentence.kind == kind]
    return max(of_kind or scene.sentences, key=lambda sentence: len(sentence.text))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('out', help='image to write')
    parser.add_argument('--rows', type=int, default=2)
    parser.add_argument('--columns', type=int, default=4)
    parser.add_argument('--size', type=int, default=288, help='side of a scene in pixels')
    parser.add_argument('--seed', type=int, default=0, help='seed of all randomness')
    args = parser.parse_args()
    drawn = []
    for index in range(args.rows * args.columns):
        scene = generate_scene(index, args.seed, 'val', args.size, min_objects=4)
        sentence = choose(scene, KINDS[index % len(KINDS)])
        image = scene.image[..., ::-1].copy()
        image = draw_objects(image, [None], [scene.masks[sentence.target]], [TRUTH_COLOR])
        drawn.append(draw_page([Panel(image)], sentence.text))
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(args.out, tile(drawn, args.columns)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == '__main__':
    main()
