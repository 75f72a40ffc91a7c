"""Export a grounding model to ONNX and compare it with PyTorch.

    python tools/deployment/export_onnx.py plvl_vit-b_4xb20-150e_refcoco best.pth plvl.onnx

Inputs: image (B, 3, H, W) float32, RGB from 0 to 255, stretched to H x W; input_ids and
attention_mask (B, L) int64. Outputs: box (B, 4) XYXY normalised to the image, score (B,),
mask_logits (B, H, W). The batch size B is dynamic. The vocabulary is written next to the file, for
the tokenizer.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.options import add_trust_option
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_output_file


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='config file, or a name of tools/infer.py models')
    parser.add_argument('weights', help='checkpoint')
    parser.add_argument('out', help='file to write, .onnx')
    parser.add_argument('--opset', type=int, default=18, help='default: %(default)s')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-3,
        help='largest difference from PyTorch that passes (default: %(default)s)',
    )
    parser.add_argument(
        '--skip-check', action='store_true', help='write the file without running it'
    )
    add_trust_option(parser)
    args = parser.parse_args()

    from projects.plvl import GroundingInferencer
    from projects.plvl.onnx_export import EXPORTER, RUNTIME, compare, export_onnx, require

    try:
        require((*EXPORTER, *(() if args.skip_check else RUNTIME)), 'the export to ONNX')
    except ImportError as error:
        raise InputError(str(error)) from error
    check_output_file(args.out)
    inferencer = GroundingInferencer(
        args.model, args.weights, 'cpu', trust_checkpoint=args.trust_checkpoint
    )
    size = inferencer.image_size
    export_onnx(inferencer.model, args.out, size, args.opset)
    print(f'{args.out}: {Path(args.out).stat().st_size / 2**20:.1f} MiB, {size[0]} x {size[1]}')
    if args.skip_check:
        return
    errors = compare(inferencer.model, args.out, size)
    for name, error in errors.items():
        print(f'{name}: largest difference from PyTorch {error:.1e}')
    if max(errors.values()) > args.tolerance:
        raise InputError(f'{args.out}: differs from PyTorch by more than {args.tolerance}')


if __name__ == '__main__':
    with report_user_errors():
        main()
