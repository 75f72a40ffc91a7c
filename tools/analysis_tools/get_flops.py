"""Count parameters and multiply-accumulates (MACs) of a config's model, part by part.

    python tools/analysis_tools/get_flops.py configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py --depth 2

Attention means the products of queries, keys and values (and of relative positions), whose cost
grows with the square of the number of tokens; many counters omit it. Both sums are printed.
"""

import argparse
import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.report import report_user_errors

ATTENTION = ('bmm', 'baddbmm', 'scaled_dot_product', 'flash_attention', 'efficient_attention')


def _cpu_attention(query_shape, key_shape, value_shape, *args, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(query_shape, key_shape, value_shape)


def parts(model: nn.Module, depth: int) -> list[str]:
    """Return the names of the submodules down to `depth` levels, in the model's order."""
    return [name for name, _ in model.named_modules() if name and name.count('.') < depth]


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count parameters by module name ('' is the whole model); shared ones count once."""
    counts: dict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        pieces = name.split('.')
        for end in range(len(pieces)):
            counts['.'.join(pieces[:end])] += parameter.numel()
    return counts


@contextlib.contextmanager
def operations_counter() -> Iterator[FlopCounterMode]:
    """Count the floating-point operations of products, wherever this code base computes them."""
    # torch counts its GPU attention kernels, but not the CPU kernel.
    extra = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention}
    # The fused attention layer used in evaluation would hide its products from the counter.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False, custom_mapping=extra) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def count_macs(model: nn.Module, run) -> dict[str, tuple[int, int]]:
    """Count the MACs of calling `run`, by module name: (linear and convolution, attention).

    Args:
        model: The model; '' in the result denotes the whole model.
        run: Callable that runs one forward pass.
    """
    with torch.no_grad(), operations_counter() as counter:
        run()
    root = type(model).__name__
    macs = {}
    for name, operations in counter.get_flop_counts().items():
        attention = sum(
            n for op, n in operations.items() if any(word in str(op) for word in ATTENTION)
        )
        key = '' if name in ('Global', root) else name.removeprefix(f'{root}.')
        macs[key] = ((sum(operations.values()) - attention) // 2, attention // 2)
    return macs


def example_samples(model: nn.Module, height: int, width: int) -> list:
    """Return data samples of one image with a sentence; models without text ignore it."""
    from mmdet.structures import DetDataSample

    from projects.common.text import BERTTextEncoder, WordPieceTokenizer

    text = 'the left one'
    for module in model.modules():
        if isinstance(module, BERTTextEncoder) and module.tokenizer is None:
            module.set_tokenizer(WordPieceTokenizer.learn([text], 64, module.lowercase))
    shape = (height, width)
    return [
        DetDataSample(
            metainfo=dict(text=text, img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description='Parameters and MACs of a model, part by part')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        default=(448, 448),
        metavar=('H', 'W'),
        help='size of the input',
    )
    parser.add_argument('--depth', type=int, default=1, help='levels of submodules to list')
    add_cfg_options(parser)
    args = parser.parse_args()
    cfg = load_config(args.config, args.cfg_options)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model = MODELS.build(cfg.model).eval()
    height, width = args.shape
    inputs = torch.zeros(1, 3, height, width)
    samples = example_samples(model, height, width)
    parameters = count_parameters(model)
    macs = count_macs(model, lambda: model(inputs, samples, mode='tensor'))
    names = [name for name in parts(model, args.depth) if parameters[name] or name in macs]
    width_of_names = max(map(len, [*names, 'total']))
    print(f'one image of {height} x {width} with one sentence; MACs in G (1 MAC = 2 FLOPs)')
    print(
        f'{"part":<{width_of_names}}  {"parameters":>12}  {"linear+conv":>11}  {"attention":>9}  '
        f'{"sum":>8}'
    )
    for name in [*names, '']:
        dense, attention = macs.get(name, (0, 0))
        print(
            f'{name or "total":<{width_of_names}}  {parameters[name]:>12,}  '
            f'{dense / 1e9:>11.3f}  {attention / 1e9:>9.3f}  {(dense + attention) / 1e9:>8.3f}'
        )


if __name__ == '__main__':
    with report_user_errors():
        main()
