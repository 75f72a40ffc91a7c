"""Generate scenes, train a small model on them, test it and draw images.

python tools/quickstart.py plvl --seed 0
python tools/quickstart.py pdsl --data photos
python tools/quickstart.py plvl --data generalized
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from projects.common.cli.report import report_user_errors

PROJECTS = ('plvl', 'pdsl', 'rvse')
DATA = ('shapes', 'photos', 'generalized')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('project', nargs='?', default='plvl', choices=PROJECTS)
    parser.add_argument(
        '--data',
        default='shapes',
        choices=DATA,
        help='scenes of generated shapes, of photographed things (plvl, pdsl), or of shapes with '
        'sentences about none, one or several of them (plvl)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the training (default: 0)')
    parser.add_argument(
        '--work-dir', help='folder of the results (default: work_dirs/quickstart/<project>)'
    )
    args = parser.parse_args()
    photos = args.data == 'photos'
    if photos and args.project == 'rvse':
        parser.error('--data photos: expected plvl or pdsl; rvse has docs/search_photos.md')
    generalized = args.data == 'generalized'
    if generalized and args.project != 'plvl':
        parser.error(f'--data generalized: found {args.project}, expected plvl')
    os.chdir(ROOT)  # the paths in the configs and in the output are relative to it
    name = args.project if args.data == 'shapes' else f'{args.project}_{args.data}'
    work_dir = Path(args.work_dir or f'work_dirs/quickstart/{name}')
    module = name if generalized else args.project
    shared, quickstart = (
        importlib.import_module(f'demo.quickstart.{name}') for name in ('shared', module)
    )
    with shared.library_output_to(work_dir / 'libraries.log'):
        quickstart.main(work_dir, args.seed, **(dict(photos=True) if photos else {}))


if __name__ == '__main__':
    with report_user_errors():
        main()
