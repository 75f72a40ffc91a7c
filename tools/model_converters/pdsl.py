"""Convert released ResNet-WS backbones and PDSL checkpoints to our format, and back.

    python tools/model_converters/pdsl.py resnet18_ws_model_120_d2.pkl resnet18-ws.pth
    export PDSL_PRETRAINED=$PWD/resnet18-ws.pth
    python tools/model_converters/pdsl.py model_final.pth pdsl.pth
    python tools/model_converters/pdsl.py best.pth for_the_released_code.pth --to released

The kind of source is detected from its tensors: a backbone's .pkl or .pth, or a whole model. The
suffix of the target decides whether a backbone of ours becomes a .pkl or a .pth. The conversion is
strict: a tensor that is missing, unknown or of another shape is an error.
"""

import argparse
import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.config import load_config
from projects.common.cli.options import add_conversion_options
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.atomic import check_output_file, write_atomically
from projects.common.weights.convert import (
    print_names,
    read_weights,
    write_checkpoint,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_conversion_options(parser)
    parser.add_argument(
        '--config',
        help='config of a whole model (default: the released one of its depth, with the heads that '
        'its weights show)',
    )
    args = parser.parse_args()

    from projects.pdsl.released_weights import (
        config_of_weights,
        convert_detector,
        convert_imagenet,
        find_kind,
        find_layout,
    )

    check_output_file(args.target)
    what = args.source
    weights, _ = read_weights(what, args.trust_checkpoint)
    layout, kind = find_layout(weights, what), find_kind(weights)
    if (layout == 'ours') == (args.to == 'ours'):
        raise InputError(
            f'{what}: is in our layout already; --to released writes the other one'
            if layout == 'ours'
            else f'{what}: is in the released layout already; --to ours writes the other one'
        )
    name = Path(what).name
    if kind == 'imagenet':
        if args.config:
            raise InputError(f'--config {args.config}: {what} is a backbone, which needs none')
        to = 'caffe2' if args.to == 'released' and args.target.endswith('.pkl') else args.to
        done = convert_imagenet(weights, to, what)
        if to == 'ours':
            content = dict(state_dict=done.weights, meta=dict(converted_from=name))
        elif to == 'released':
            content = dict(state_dict={f'module.{k}': v for k, v in done.weights.items()})
        else:
            arrays = {key: value.numpy() for key, value in done.weights.items()}
            content = dict(model=arrays, __author__='Caffe2', matching_heuristics=True)
            write_atomically(Path(args.target), pickle.dumps(content, protocol=4))
        if to != 'caffe2':
            write_checkpoint(args.target, content)
    else:
        if args.config:
            cfg = load_config(args.config)
        else:
            path, cfg = config_of_weights(weights, what)
            head = cfg.model.roi_head
            print(
                f'{path.name}: {head.bbox_head.num_classes} classes, '
                f'{head.bbox_head.num_refinements} refinement and '
                f'{head.mask_head.num_specific} class-specific mask heads'
            )
        done = convert_detector(weights, cfg, args.to, what)
        if args.to == 'ours':
            content = dict(state_dict=done.weights, meta=dict(converted_from=name))
        else:
            content = dict(model=done.weights)
        write_checkpoint(args.target, content)
    counters = [key for key in (*done.dropped, *done.made) if key.endswith('num_batches_tracked')]
    print_names(
        [key for key in done.dropped if key not in counters], 'tensors dropped, which have no place'
    )
    print_names([key for key in done.made if key not in counters], 'statistics set to 0 and 1')
    print(f'{args.target}: {len(done.weights)} tensors')


if __name__ == '__main__':
    with report_user_errors():
        main()
