"""Draw Figure 8 of RVSE++: RSUM against the number of image-text pairs scored per second.

    python benchmarks/figure8.py figure8.png 'RVSE++=524.2:VSE' 'SGRAF=499.6:SGR+SAF'

The speeds are measured with random weights. The members of an ensemble score one after the other.
"""

import argparse
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from matplotlib.figure import Figure

from benchmarks.measure import Settings, compare
from benchmarks.rvse import SIMILARITIES, embeddings, similarity_of
from projects.common.cli.report import report_user_errors
from projects.common.speed.products import fast_products


def point(text: str) -> tuple[str, float, list[str]]:
    """Parse the name of a model, its RSUM and its similarities."""
    found = re.fullmatch(r'(.+)=([\d.]+):(.+)', text)
    members = found[3].split('+') if found else []
    if not members or not set(members) <= set(SIMILARITIES):
        raise argparse.ArgumentTypeError(
            f'{text!r}, expected NAME=RSUM:MEMBER[+MEMBER] with members {", ".join(SIMILARITIES)}'
        )
    return found[1], float(found[2]), members


@torch.inference_mode()
def seconds_per_pair(name: str, images: int, captions: int, settings: Settings) -> float:
    inputs = embeddings(name, images, captions, settings.device)
    model = similarity_of(name).to(settings.device)
    return compare(lambda: model(*inputs), None, settings)['ours'] / (images * captions)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', help='the image to write')
    parser.add_argument('points', nargs='+', type=point, metavar='NAME=RSUM:MEMBER[+MEMBER]')
    parser.add_argument('--images', type=int, default=1000, help='default: %(default)s')
    parser.add_argument('--captions', type=int, default=500, help='default: %(default)s')
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    settings = Settings(device=args.device)
    seconds = {
        name: seconds_per_pair(name, args.images, args.captions, settings)
        for name in dict.fromkeys(name for *_, members in args.points for name in members)
    }
    axes = Figure(figsize=(6, 4), layout='constrained').add_subplot()
    for name, rsum, members in args.points:
        speed = 1e-3 / sum(seconds[member] for member in members)
        print(f'{name}: RSUM {rsum:.1f}, {speed:.2f} thousand pairs per second')
        axes.scatter(speed, rsum, s=40)
        axes.annotate(name, (speed, rsum), (5, 5), textcoords='offset points')
    axes.set(xscale='log', xlabel='thousands of image-text pairs per second', ylabel='RSUM')
    axes.margins(0.15)
    axes.grid(alpha=0.3)
    axes.figure.savefig(args.out, dpi=120)


if __name__ == '__main__':
    with report_user_errors(), fast_products():
        main()
