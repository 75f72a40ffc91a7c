"""Converts proposals between formats.

python tools/dataset_converters/proposals.py data/MCG-Pascal data/proposals/voc_train
python tools/dataset_converters/proposals.py voc_2007_train.mat out --names ImageSets/Main/train.txt
python tools/dataset_converters/proposals.py data/proposals/voc_train out.pkl --to mmdet

Read are our store (a folder), MCG (a folder of .mat), Selective Search (one .mat), Detectron and
detectron2 (.pkl) and mmdet's dictionaries (.pkl). Written are the store, detectron2 and mmdet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli import UserError, report_user_errors
from projects.pdsl.proposals import (
    FORMATS,
    read_proposals,
    tidy,
    write_detectron2,
    write_mmdet,
    write_store,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='file or folder to read')
    parser.add_argument('out', type=Path, help='folder (store) or .pkl file to write')
    parser.add_argument(
        '--to',
        choices=['store', 'detectron2', 'mmdet'],
        default='store',
        help='format to write (default: store)',
    )
    parser.add_argument('--from', dest='format', choices=FORMATS, help='format of the source')
    parser.add_argument('--names', type=Path, help='image set of a Selective Search .mat')
    parser.add_argument('--max-proposals', type=int, help='keep the best of each picture')
    parser.add_argument(
        '--trust-pickle', action='store_true', help='unpickle freely, which may run code'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.out.exists() and (args.out.is_file() or any(args.out.iterdir())):
        raise UserError(f'{args.out}: exists already')
    names = None
    if args.names is not None:
        names = [line.split()[0] for line in args.names.read_text().splitlines() if line.strip()]
    entries = read_proposals(args.source, args.format, names, args.trust_pickle)
    entries = ((name, *tidy(boxes, scores, args.max_proposals)) for name, boxes, scores in entries)
    if args.to == 'store':
        count = len(write_store(args.out, entries))
    else:
        count = (write_detectron2 if args.to == 'detectron2' else write_mmdet)(args.out, entries)
    print(f'{args.out}: proposals of {count} pictures')


if __name__ == '__main__':
    with report_user_errors():
        main()
