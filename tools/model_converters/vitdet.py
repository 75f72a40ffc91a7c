"""Convert the backbone of detectron2's ViTDet to weights for LanguageGuidedViT.

    python tools/model_converters/vitdet.py model_final_435fa9.pkl vitdet_b.pth
    export PLVL_VITDET=$PWD/vitdet_b.pth

model_final_435fa9.pkl is cascade_mask_rcnn_vitdet_b/f325358525 of detectron2's model zoo.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.config import load_config
from projects.common.cli.options import add_trust_option
from projects.common.cli.report import report_user_errors
from projects.common.files.atomic import check_output_file
from projects.common.weights.convert import read_weights, write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help="detectron2's checkpoint, .pkl or .pth")
    parser.add_argument('target', help='file to write')
    parser.add_argument(
        '--config',
        default=CONFIG,
        help='config of the model whose backbone it is (default: %(default)s)',
    )
    add_trust_option(parser)
    args = parser.parse_args()

    from projects.plvl.released_weights import convert_vitdet, empty_model

    check_output_file(args.target)
    backbone = empty_model(load_config(args.config)).backbone
    weights, _ = read_weights(args.source, args.trust_checkpoint)
    done = convert_vitdet(weights, backbone, what=args.source)
    content = dict(state_dict=done.weights, meta=dict(converted_from=Path(args.source).name))
    write_checkpoint(args.target, content)
    for part, count in Counter(key.split('.')[0] for key in done.dropped).items():
        examples = [key for key in done.dropped if key.split('.')[0] == part]
        print(f'{count} tensors of the detector dropped: {examples[0]} ... {examples[-1]}')
    print(
        f'{len(done.made)} tensors of the backbone are not in ViTDet and keep their '
        f'initialisation: {done.made[0]} ... {done.made[-1]}'
        if done.made
        else 'the backbone reads no language'
    )
    print(f'{args.target}: {len(done.weights)} tensors')


if __name__ == '__main__':
    with report_user_errors():
        main()
