"""Benchmark a grounding model: several variants in turn, in one run.

    python tools/analysis_tools/benchmark_plvl.py latency CONFIG --images 1
    python tools/analysis_tools/benchmark_plvl.py sentences CONFIG --sentences 1 4 16
    python tools/analysis_tools/benchmark_plvl.py training CONFIG --batch-sizes 1 2 4 --memory 24
    python tools/analysis_tools/benchmark_plvl.py profile CONFIG
    python tools/analysis_tools/benchmark_plvl.py data CONFIG
    python tools/analysis_tools/benchmark_plvl.py agreement CONFIG --checkpoint WEIGHTS

Timings vary between runs, so figures of two runs are not comparable: every round times each
variant once, and the medians over the rounds are shown with their ratios. Weights are random
unless `--checkpoint` is given; speed does not depend on them, but the differences of boxes and
masks do.
"""

import argparse
import contextlib
import copy
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from get_flops import count_macs, example_samples
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.speed import products
from projects.common.speed.allocator import keep_freed_memory
from projects.common.speed.precision import lower_precision
from projects.common.speed.products import fast_products
from projects.common.speed.timing import show_table, time_in_turn
from projects.common.weights.checkpoint import load_checkpoint_file

GIB = 2**30
SENTENCE = 'the man in the red shirt to the left of the dog'
# Kernels that multiply matrices, including convolutions.
PRODUCTS = ('mm', 'linear', 'conv', 'scaled_dot_product', 'flash_attention', 'bmm', 'gemm')


def build_model(cfg: Config, device: str, checkpoint: str | None = None) -> nn.Module:
    """Build the config's model in evaluation mode, with a vocabulary."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        torch.manual_seed(0)
        logging.disable(logging.INFO)  # suppresses a line per tensor
        model = MODELS.build(cfg.model)
        model.init_weights()
        logging.disable(logging.NOTSET)
    if checkpoint:
        model.load_state_dict(load_checkpoint_file(checkpoint)['state_dict'])
    example_samples(model, 32, 32)  # a randomly initialised model has no vocabulary yet
    return model.to(device).eval()


def make_inputs(
    model: nn.Module, images: int, size: int, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return normalised images (B, 3, size, size), token ids (B, L) and their mask (B, L)."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(images, 3, size, size, generator=generator)
    ids, mask = model.text_encoder.tokenize([SENTENCE] * images)
    return pictures.to(device), ids.to(device), mask.to(device)


def make_targets(images: int, size: int, device: str) -> tuple[Tensor, Tensor]:
    """Return boxes (B, 4), normalised to the image, and masks (B, size, size) of 0 and 1."""
    boxes = torch.tensor([[0.2, 0.3, 0.6, 0.8]], device=device).expand(images, 4)
    masks = torch.zeros(images, size, size, dtype=torch.uint8, device=device)
    masks[:, size // 3 : size // 2, size // 3 : size // 2] = 1
    return boxes, masks


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Use attention as usually written, materialising logits, bias and weights in every call.

    Positions are interpolated and looked up in every call, the bias is added to the logits, and
    their softmax is multiplied by the values, each as a separate operation.
    """
    from projects.plvl.models.language_guided_block import RelativePositionAttention
    from projects.plvl.models.relative_position import (
        relative_position_bias,
        relative_position_table,
    )

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        qkv = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        tables = (
            relative_position_table(self.rel_pos_h, height).to(q.dtype),
            relative_position_table(self.rel_pos_w, width).to(q.dtype),
        )
        logits = logits + relative_position_bias(q, *tables)
        x = logits.softmax(-1) @ v
        return self.proj(x.transpose(1, 2).flatten(2).unflatten(1, (height, width)))

    ours = RelativePositionAttention.forward
    fast = torch.backends.mha.get_fastpath_enabled()
    RelativePositionAttention.forward = forward
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        RelativePositionAttention.forward = ours
        torch.backends.mha.set_fastpath_enabled(fast)


def latency(args: argparse.Namespace, cfg: Config) -> list[dict]:
    """Time plain attention with PyTorch's products, ours, compiled, in bfloat16, and both."""
    model = build_model(cfg, args.device, args.checkpoint)
    inputs = make_inputs(model, args.images, args.size, args.device)
    outputs: dict[str, dict[str, Tensor]] = {}

    @torch.inference_mode()
    def run(name: str, network: nn.Module, features: Callable, context: Callable) -> None:
        with context():
            outputs[name] = network.head.predict(features(*inputs))

    def plain() -> None:
        with plain_attention(), mock.patch.object(products, '_ONEDNN', None):
            run('plain', model, model.extract_feat, contextlib.nullcontext)

    variants = {
        'plain': plain,
        'ours': partial(run, 'ours', model, model.extract_feat, contextlib.nullcontext),
    }
    if not args.no_compile:
        compiled = torch.compile(model.extract_feat)
        variants['ours, compiled'] = partial(
            run, 'ours, compiled', model, compiled, contextlib.nullcontext
        )
    half, context = lower_precision(build_model(cfg, args.device, args.checkpoint))
    variants['ours, bf16'] = partial(run, 'ours, bf16', half, half.extract_feat, context)
    if not args.no_compile:
        compiled_half = torch.compile(half.extract_feat)
        variants['ours, compiled, bf16'] = partial(
            run, 'ours, compiled, bf16', half, compiled_half, context
        )
    seconds = time_in_turn(variants, args.rounds, args.device)
    macs = sum(
        count_macs(
            model,
            lambda: model._forward(inputs[0], input_ids=inputs[1], attention_mask=inputs[2]),
        )['']
    )
    rows = []
    for name, value in seconds.items():
        row = {
            'variant': name,
            'ms': 1e3 * value,
            'images/s': args.images / value,
            'times plain': seconds['plain'] / value,
            'TFLOP/s': 2 * macs / value / 1e12,
        }
        if args.peak_tflops and 'bf16' in name:
            row['% of peak'] = 100 * row['TFLOP/s'] / args.peak_tflops
        row.update(differences(outputs[name], outputs['ours']))
        rows.append(row)
    return rows


def differences(found: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    """Return the largest differences from the reference, with boxes normalised to the image."""
    names = {'boxes_norm': 'box diff', 'mask_probs': 'mask diff'}
    return {
        short: (found[key].float() - reference[key].float()).abs().max().item()
        for key, short in names.items()
        if key in reference
    }


def sentences(args: argparse.Namespace, cfg: Config) -> list[dict]:
    """Compare K sentences about one image at once with one sentence at a time."""
    model = build_model(cfg, args.device, args.checkpoint)
    images, ids, mask = make_inputs(model, max(args.sentences), args.size, args.device)
    image = images[:1]

    @torch.inference_mode()
    def at_once(count: int) -> None:
        repeats = torch.tensor([count], device=image.device)
        model.head.predict(model.extract_feat(image, ids[:count], mask[:count], repeats))

    @torch.inference_mode()
    def one_by_one(count: int) -> None:
        for i in range(count):
            model.head.predict(model.extract_feat(image, ids[i : i + 1], mask[i : i + 1]))

    @torch.inference_mode()
    def repeated(count: int) -> None:
        model.head.predict(model.extract_feat(images[:count], ids[:count], mask[:count]))

    rows = []
    for count in args.sentences:
        seconds = time_in_turn(
            {
                'at once': partial(at_once, count),
                'one by one': partial(one_by_one, count),
                'batch': partial(repeated, count),
            },
            args.rounds,
            args.device,
            warm_up=1,
        )
        rows.append(
            {
                'sentences': count,
                'one by one, ms': 1e3 * seconds['one by one'],
                'batch of copies, ms': 1e3 * seconds['batch'],
                'image once, ms': 1e3 * seconds['at once'],
                'saved': 1 - seconds['at once'] / seconds['one by one'],
                'saved of the batch': 1 - seconds['at once'] / seconds['batch'],
            }
        )
    return rows


def training(args: argparse.Namespace, cfg: Config) -> list[dict]:
    """Measure step time and peak memory by batch size, each in a separate process."""
    variants = [('float32', [])]
    variants.append(('bf16', ['--bf16']))
    variants.append(('bf16, checkpointing', ['--bf16', '--with-cp']))
    rows = []
    for name, options in variants:
        measured = []
        for batch in args.batch_sizes:
            row = _train_in_child(args, cfg, batch, options)
            rows.append({'variant': name, 'batch': batch, **row})
            if 'GiB' in row:
                measured.append((batch, row['GiB']))
        if args.memory and len(measured) > 1:
            (few, low), (many, high) = measured[0], measured[-1]
            each = (high - low) / (many - few)
            fits = int(few + (args.memory - low) / each) if each > 0 else 0
            row = _train_in_child(args, cfg, max(fits, 1), options) if args.device == 'cuda' else {}
            rows.append({'variant': f'{name}: fits {args.memory:g} GiB', 'batch': fits, **row})
    return rows


def _train_in_child(args: argparse.Namespace, cfg: Config, batch: int, options: list[str]) -> dict:
    """Run a training step in a separate process, so that the peak memory is that step's."""
    with tempfile.TemporaryDirectory() as folder:
        config = str(Path(folder, 'config.py'))
        cfg.dump(config)
        command = [sys.executable, __file__, 'step', config, '--images', str(batch), *options]
        command += ['--size', str(args.size), '--rounds', str(args.rounds)]
        command += ['--device', args.device]
        command += ['--default-allocator'] * args.default_allocator
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f'ended with {done.returncode}']
        return {'note': lines[-1][:80]}
    return json.loads(done.stdout.splitlines()[-1])


def step(args: argparse.Namespace, cfg: Config) -> None:
    """Run the training step of one setting and print a line of JSON."""
    cfg.model.backbone.with_cp = args.with_cp
    model = build_model(cfg, args.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    images, ids, mask = make_inputs(model, args.images, args.size, args.device)
    boxes, masks = make_targets(args.images, args.size, args.device)

    def run() -> None:
        with torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
            losses = model.head.loss(model.extract_feat(images, ids, mask), boxes, masks)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = time_in_turn({'step': run}, args.rounds, args.device, warm_up=1)['step']
    if args.device == 'cuda':
        peak = torch.cuda.max_memory_allocated() / GIB
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    print(json.dumps({'ms': 1e3 * seconds, 'images/s': args.images / seconds, 'GiB': peak}))


def profile(args: argparse.Namespace, cfg: Config) -> list[dict]:
    """Show how a prediction spends its time: kernels by their own time."""
    model = build_model(cfg, args.device, args.checkpoint)
    inputs = make_inputs(model, args.images, args.size, args.device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if args.device == 'cuda':
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    own = 'self_device_time_total' if args.device == 'cuda' else 'self_cpu_time_total'
    with torch.inference_mode():
        for _ in range(2):
            model.head.predict(model.extract_feat(*inputs))
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in range(args.rounds):
                model.head.predict(model.extract_feat(*inputs))
    events = [event for event in profiler.key_averages() if getattr(event, own) > 0]
    total = sum(getattr(event, own) for event in events)
    products = sum(
        getattr(event, own) for event in events if any(name in event.key for name in PRODUCTS)
    )
    rows = [
        {
            'operation': event.key[:60],
            'calls': event.count // args.rounds,
            'ms': getattr(event, own) / args.rounds / 1e3,
            '% of all': 100 * getattr(event, own) / total,
        }
        for event in sorted(events, key=lambda event: -getattr(event, own))[:15]
    ]
    rows.append(
        {
            'operation': 'matrix products in all',
            'ms': products / args.rounds / 1e3,
            '% of all': 100 * products / total,
        }
    )
    return rows


def data(args: argparse.Namespace, cfg: Config) -> list[dict]:
    """Compare the rate of one worker of the training pipeline with the rate of the model."""
    from mmengine.registry import DATASETS

    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    torch.set_num_threads(1)
    count = min(args.samples, len(dataset))
    rates = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        for i in range(count):
            dataset[i]
        rates.append(count / (time.perf_counter() - start))
    row = {'samples': count, 'samples/s of one worker': statistics.median(rates)}
    if args.device == 'cuda':
        options = ['--bf16']
        step_row = _train_in_child(args, cfg, args.images, options)
        if 'images/s' not in step_row:
            raise InputError(f'the training step failed: {step_row["note"]}')
        row['samples/s of a bf16 training step'] = step_row['images/s']
        row['workers that keep up'] = step_row['images/s'] / row['samples/s of one worker']
    return [row]


def agreement(args: argparse.Namespace, cfg: Config) -> list[dict]:
    """Compare the predictions in bfloat16 with those in float32 on the test data."""
    from mmengine.registry import DATASETS
    from torchvision.ops import box_iou

    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    model = build_model(cfg, args.device, args.checkpoint)
    half, context = lower_precision(build_model(cfg, args.device, args.checkpoint))
    boxes, masks = [], []
    for i in range(min(args.samples, len(dataset))):
        packed = dataset[i]
        batch = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
        with torch.inference_mode():
            whole = model.test_step(copy.deepcopy(batch))[0].pred_instances
            with context():
                short = half.test_step(batch)[0].pred_instances
        boxes.append(box_iou(whole.bboxes, short.bboxes.float()).item())
        union = (whole.masks | short.masks).sum()
        masks.append(((whole.masks & short.masks).sum() / union).item() if union else 1.0)
    rows = []
    for name, values in (('boxes', boxes), ('masks', masks)):
        row = {'IoU of float32 with bf16': name, 'samples': len(values)}
        row['mean, %'] = 100 * statistics.mean(values)
        row['1st percentile, %'] = 100 * sorted(values)[len(values) // 100]
        row['% below 0.5'] = 100 * sum(value < 0.5 for value in values) / len(values)
        rows.append(row)
    return rows


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'what',
        choices=('latency', 'sentences', 'training', 'profile', 'data', 'agreement', 'step'),
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--checkpoint', help='weights (default: random)')
    parser.add_argument('--images', type=int, default=1, help='batch size (default: 1)')
    parser.add_argument('--size', type=int, default=448, help='side of the images (default: 448)')
    parser.add_argument('--rounds', type=int, default=7, help='rounds to time (default: 7)')
    parser.add_argument('--threads', type=int, help="threads (default: torch's own choice)")
    parser.add_argument('--device', help='cpu or cuda (default: cuda where there is one)')
    parser.add_argument(
        '--no-compile', action='store_true', help='latency: leave out torch.compile'
    )
    parser.add_argument(
        '--default-allocator',
        action='store_true',
        help="on a CPU: leave the C library's memory settings, which our tools change",
    )
    parser.add_argument('--peak-tflops', type=float, help="latency: the chip's bf16 rate")
    parser.add_argument('--sentences', type=int, nargs='+', default=[1, 4, 16])
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--memory', type=float, help='training: GiB; the batch that fits them')
    parser.add_argument('--samples', type=int, default=200, help='data, agreement: samples')
    parser.add_argument('--bf16', action='store_true', help='step: autocast to bfloat16')
    parser.add_argument('--with-cp', action='store_true', help='step: recompute the blocks')
    parser.add_argument('--out', help='also write the rows to this JSON file')
    add_cfg_options(parser)
    args = parser.parse_args()
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    return args


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device == 'cpu' and not args.default_allocator:
        keep_freed_memory()
    cfg = load_config(args.config, args.cfg_options)
    if args.what == 'step':
        step(args, cfg)
        return
    rows = globals()[args.what](args, cfg)
    name = torch.cuda.get_device_name() if args.device == 'cuda' else 'CPU'
    print(
        f'\n{args.what} of {args.config}, {args.size} x {args.size}, batch {args.images}, '
        f'medians of {args.rounds} rounds, {name}, {torch.get_num_threads()} threads, '
        f'torch {torch.__version__}'
    )
    show_table(rows)
    if args.out:
        Path(args.out).write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
    with report_user_errors(), fast_products():
        main()
