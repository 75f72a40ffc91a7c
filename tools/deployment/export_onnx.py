"""Export a model to ONNX and compare it with PyTorch.

    python tools/deployment/export_onnx.py plvl_vit-b_4xb20-150e_refcoco best.pth plvl.onnx
    python tools/deployment/export_onnx.py rvse/config.py rvse rvse.onnx --check photos/

PLVL becomes one network, OUT. Inputs: image (B, 3, H, W) float32, RGB from 0 to 255, stretched to
H x W; input_ids and attention_mask (B, L) int64. Outputs: box (B, 4) XYXY normalised to the image,
score (B,), mask_logits (B, H, W).

A matcher (RVSE++, SelHN) becomes two, OUT.image.onnx and OUT.text.onnx, and PDSL becomes
OUT.detect.onnx and OUT.masks.onnx, between which NMS is done. OUT.json describes the networks for
the classes that run them without PyTorch. docs/deployment.md lists inputs and outputs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.options import add_trust_option
from projects.common.cli.report import report_user_errors
from projects.common.deployment.variants import DTYPES
from projects.common.errors import InputError
from projects.common.files.atomic import check_output_file

TOLERANCES = {'fp32': 1e-3, 'fp16': None, 'int8': None}
MOST_IMAGES = 32  # that are compared
PROJECTS = ('plvl', 'pdsl', 'rvse')
NETWORKS = {'pdsl': ('detect', 'masks'), 'rvse': ('image', 'text')}
LOADERS = ('PackDetInputs', 'PackInputs', 'ProjectProposals')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='config file, or a name of tools/infer.py models')
    parser.add_argument('weights', help='checkpoint')
    parser.add_argument('out', help='file to write, .onnx')
    parser.add_argument('--opset', type=int, default=18, help='default: %(default)s')
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        default='fp32',
        help='fp16 computes in float16, int8 stores the weights of matrix products in 8 bits '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--fixed-size',
        action='store_true',
        help='PLVL: images of the size of the test pipeline only, which is the size in any case '
        'for other backbones than LanguageGuidedViT',
    )
    parser.add_argument(
        '--check',
        metavar='IMAGES',
        help=f'image or folder whose first {MOST_IMAGES} images are compared instead of noise',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        help='largest difference from PyTorch that passes (default: 1e-3 for fp32, any for the '
        'others, whose differences are only printed)',
    )
    parser.add_argument(
        '--skip-check', action='store_true', help='write the file without running it'
    )
    add_trust_option(parser)
    args = parser.parse_args()

    from projects.common.deployment.export import EXPORTER
    from projects.common.deployment.network import RUNTIME, require

    needs_runtime = not args.skip_check or args.dtype != 'fp32'
    try:
        require((*EXPORTER, *(RUNTIME if needs_runtime else ())), 'the export to ONNX')
    except ImportError as error:
        raise InputError(str(error)) from error
    if Path(args.out).suffix != '.onnx':
        raise InputError(f'OUT {args.out}: expected a name that ends in .onnx')
    check_output_file(args.out)
    images = [] if args.check is None else read_images(args.check)

    written, errors = export_and_compare(args, images)
    for file in written:
        print(f'{file}: {file.stat().st_size / 2**20:.1f} MiB')
    if args.skip_check:
        return
    on = f'{len(images)} images' if images else 'noise'
    for name, error in errors.items():
        print(f'{name}: largest difference from PyTorch {error:.1e} on {on}')
    tolerance = TOLERANCES[args.dtype] if args.tolerance is None else args.tolerance
    if tolerance is not None and max(errors.values()) > tolerance:
        raise InputError(f'{args.out}: differs from PyTorch by more than {tolerance}')


def read_images(place: str) -> list:
    """Return the images (H, W, 3) uint8 BGR of a file or folder, the first ones only."""
    from projects.common.deployment.images import load_image
    from projects.common.files.images import images_in

    paths = images_in(place) if Path(place).is_dir() else [place]
    return [load_image(path) for path in paths[:MOST_IMAGES]]


def project_of(config: str) -> str:
    """Return the project whose classes a config imports."""
    from mmengine.config import Config

    from projects.common import find_config

    imports = Config.fromfile(find_config(config)).get('custom_imports', {}).get('imports', [])
    found = [name for name in PROJECTS if f'projects.{name}.register' in imports]
    if len(found) != 1:
        raise InputError(
            f'{config}: custom_imports.imports: {imports}; expected one of '
            f'{[f"projects.{name}.register" for name in PROJECTS]}'
        )
    return found[0]


def _inferencer(project: str, args: argparse.Namespace) -> Any:
    options = dict(device='cpu', trust_checkpoint=args.trust_checkpoint)
    if project == 'plvl':
        from projects.plvl import GroundingInferencer

        return GroundingInferencer(args.model, args.weights, **options)
    if project == 'pdsl':
        from projects.pdsl import WeakInstanceInferencer

        return WeakInstanceInferencer(args.model, args.weights, **options)
    from projects.rvse import RetrievalInferencer

    return RetrievalInferencer(args.model, args.weights, **options)


def _image_size(project: str, inferencer: Any) -> tuple[int, int]:
    """Return (H, W) of an image of 640 x 480 pixels behind the test pipeline; 0 without one."""
    import numpy as np

    if inferencer.pipeline is None:
        return 0, 0
    fields = {}
    if project == 'pdsl':
        fields = dict(given_proposals=np.array([[0, 0, 640, 480]], np.float32))
    packed = inferencer._load(np.zeros((480, 640, 3), np.uint8), **fields)[1]
    return tuple(packed['inputs'].shape[1:])


def export_and_compare(
    args: argparse.Namespace, images: Sequence
) -> tuple[list[Path], dict[str, float]]:
    """Export a model and compare it with PyTorch.

    Args:
        args: Of ``tools/deployment/export_onnx.py``.
        images: Images (H, W, 3) uint8 BGR to compare on; noise if there are none.

    Returns:
        The files that were written, and the largest differences by name, none with
        ``skip_check``.
    """
    from projects.common.deployment.pixels import resize_steps
    from projects.common.deployment.sidecar import network_path, sidecar_path

    project = project_of(args.model)
    if args.fixed_size and project != 'plvl':
        raise InputError(f'--fixed-size: of PLVL only, but {args.model} is of {project}')
    inferencer = _inferencer(project, args)
    model = inferencer.model
    transforms = [] if inferencer.pipeline is None else inferencer.pipeline.transforms
    changing = [
        each
        for each in transforms
        if type(each).__name__ not in LOADERS and each != getattr(inferencer, '_add_proposals', 0)
    ]
    common: dict[str, Any] = dict(steps=resize_steps(changing))
    size = _image_size(project, inferencer)
    options: dict[str, Any] = dict(opset=args.opset, dtype=args.dtype)
    if project == 'plvl':
        from projects.plvl.onnx_export import compare, export_onnx

        options['any_size'] = False if args.fixed_size else None
    elif project == 'pdsl':
        from projects.pdsl.onnx_export import compare, export_onnx

        (project_to_view,) = (t for t in transforms if type(t).__name__ == 'ProjectProposals')
        options['classes'] = inferencer.classes
        options['proposals'] = dict(
            max_proposals=inferencer.max_proposals,
            min_side=project_to_view.min_side,
            deduplicate=project_to_view.deduplicate,
        )
    else:
        from projects.rvse.onnx_export import compare, export_onnx
    export_onnx(model, args.out, size, **common, **options)
    errors = {}
    if not args.skip_check:
        errors = compare(model, args.out, size, images=images, **common)
    networks = [network_path(args.out, name) for name in NETWORKS.get(project, ())]
    files = networks or [Path(args.out)]
    return [*filter(Path.is_file, files), sidecar_path(args.out)], errors


if __name__ == '__main__':
    with report_user_errors():
        main()
