"""Time exported models beside PyTorch, in turn, in one process.

    python benchmarks/onnx_latency.py plvl CONFIG WEIGHTS plvl.json plvl-int8.json --images photos/

Every round runs PyTorch and each description on the same batch of one image, with the same number
of threads, after two rounds that do not count; the medians are printed. Times are those of the
networks alone: reading, resizing, tokenizing, NMS and pasting masks are the same on both sides.
PDSL's are those of the detection network with 200 proposals.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from projects.common.cli.report import report_user_errors
from projects.common.deployment.images import load_image, resize, stack_rgb
from projects.common.deployment.network import Network
from projects.common.deployment.sidecar import read_sidecar
from projects.common.files.images import images_in

PARTS = {'plvl': ('grounding',), 'pdsl': ('detect',), 'rvse': ('image', 'text')}


def graphs(project: str, config: str, weights: str, image: torch.Tensor) -> dict[str, tuple]:
    """Return for each network the module of PyTorch and its inputs, by name."""
    if project == 'plvl':
        from projects.plvl import GroundingInferencer, onnx_export

        graph = onnx_export.GroundingGraph(GroundingInferencer(config, weights, 'cpu').model).eval()
        size = (image.shape[2], image.shape[3])
        inputs = onnx_export.example_inputs(graph, size, 1, graph.model.text_encoder.max_tokens)
        return {'grounding': (graph, {**inputs, 'image': image})}
    if project == 'pdsl':
        from projects.pdsl import WeakInstanceInferencer, onnx_export

        model = WeakInstanceInferencer(config, weights, 'cpu').model
        detect = onnx_export.DetectionGraph(model).eval()
        inputs = onnx_export.example_inputs(detect, (image.shape[2], image.shape[3]), 1, 200)
        return {'detect': (detect, {**inputs, 'image': image})}
    from projects.rvse import RetrievalInferencer, onnx_export

    model = RetrievalInferencer(config, weights, 'cpu').model
    text = onnx_export.TextGraph(model).eval()
    sentences = onnx_export.example_sentences(text, 1, 12, 0)
    return {
        'image': (onnx_export.ImageGraph(model).eval(), {'image': image}),
        'text': (text, sentences),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('project', choices=sorted(PARTS))
    parser.add_argument('config')
    parser.add_argument('weights')
    parser.add_argument('descriptions', nargs='+')
    parser.add_argument('--images', required=True, help='image or folder, of which one is read')
    parser.add_argument('--rounds', type=int, default=30, help='default: %(default)s')
    parser.add_argument('--threads', type=int, default=1, help='default: %(default)s')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    described = {path: read_sidecar(path, args.project) for path in args.descriptions}
    first = described[args.descriptions[0]]
    path = images_in(args.images)[0] if Path(args.images).is_dir() else args.images
    pixels = stack_rgb(
        [resize(load_image(path), first['resize'])], first.get('pad_divisor', 1),
        first['mean'] or (0, 0, 0),
    )  # fmt: skip
    modules = graphs(args.project, args.config, args.weights, torch.from_numpy(pixels))
    for part in PARTS[args.project]:
        module, inputs = modules[part]
        arrays = {name: value.numpy() for name, value in inputs.items()}
        steps: dict[str, Callable[[], Any]] = {'PyTorch': lambda m=module, x=inputs: m(*x.values())}
        for place, each in described.items():
            network = Network(each['networks'][part], args.threads)
            known = {name: value for name, value in arrays.items() if name in network.inputs}
            steps[f'{each["dtype"]} ({place})'] = lambda n=network, x=known: n(**x)
        for name, seconds in _medians(steps, args.rounds).items():
            print(f'{args.project} {part}: {name}: {seconds * 1e3:.2f} ms')


@torch.inference_mode()
def _medians(steps: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each step, all of which run in every round."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


if __name__ == '__main__':
    with report_user_errors():
        main()
