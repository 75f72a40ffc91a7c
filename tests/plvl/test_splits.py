"""Several splits in one test run: the numbers are those of one run for each split."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from projects.common.cli.config import load_config
from projects.common.cli.run import (
    build_runner,
    leave_process_group,
    prepare,
)
from projects.plvl.evaluation.grounding_analysis import match_predictions

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/plvl/plvl_tiny_1xb8-150e_refcoco.py'
# Of the eight, RefCOCOg's test split is not in the sample. Sentences, from the sample's own files.
SPLITS = {
    'refcoco_val': 6,
    'refcoco_testA': 11,
    'refcoco_testB': 12,
    'refcoco+_val': 6,
    'refcoco+_testA': 11,
    'refcoco+_testB': 12,
    'refcocog-umd_val': 6,
}


def members(root: Path) -> list[dict]:
    """The splits of mixed_coco_448.py's test that the sample has."""
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/mixed_coco_448.py')
    found = [dict(d, data_root=str(root)) for d in cfg.test_dataloader.dataset.datasets]
    assert [d['subset'] for d in found] == [*SPLITS, 'refcocog-umd_test']
    return found[:-1]


def run(work_dir: Path, dataset: dict, launcher: str = 'none') -> dict[str, float]:
    """Test a small model whose weights depend on the seed alone."""
    cfg = load_config(
        CONFIG,
        {
            'model.backbone.depth': 2,
            'model.backbone.global_indexes': (1,),
            'model.backbone.language_indexes': (1,),
            'model.decoder.num_layers': 1,
            'model.text_encoder.vocab_file': str(vocabulary()),
            'model.text_encoder.bert.vocab_size': 30522,
            'custom_hooks': [],
            'test_dataloader.batch_size': 4,
            'test_dataloader.num_workers': 0,
            'randomness.seed': 0,
        },
    )
    cfg.test_dataloader.dataset = dict(dataset, pipeline=cfg.val_dataloader.dataset.pipeline)
    prepare(cfg, str(CONFIG), launcher, str(work_dir))
    return build_runner(cfg).test()


def vocabulary() -> Path:
    shared = Path(os.environ.get('MMTRIAD_SHARED', ROOT.parent / 'shared'))
    return shared / 'data/text/bert-base-uncased-vocab.txt'


def mix(root: Path) -> dict:
    return dict(type='MixedGroundingDataset', datasets=members(root))


@pytest.fixture(scope='module')
def separate(shared_data, tmp_path_factory) -> dict[str, dict[str, float]]:
    """Metrics of one run for each split."""
    work_dir = tmp_path_factory.mktemp('separate')
    return {
        split['subset']: run(work_dir / split['subset'], {**split, 'subset': None})
        for split in members(shared_data / 'refcoco_sample')
    }


def check(found: dict[str, float], separate: dict[str, dict[str, float]]) -> None:
    overall = {key for key in found if key.count('/') == 1}
    assert overall == set(next(iter(separate.values())))
    expected = {
        f'grounding/{name}/{key.removeprefix("grounding/")}': value
        for name, metrics in separate.items()
        for key, value in metrics.items()
    }
    # On some processors a sentence's numbers differ in the last digits with the size of its batch.
    near = 1e-4  # of a percentage point; any other sentence, or one counted twice, is far from it
    assert {key: found[key] for key in found if key not in overall} == pytest.approx(
        expected, abs=near
    )
    total = sum(SPLITS.values())
    for key in ('rec_acc50', 'rec_miou', 'res_miou', 'res_p50'):
        weighted = sum(SPLITS[n] * m[f'grounding/{key}'] for n, m in separate.items()) / total
        assert found[f'grounding/{key}'] == pytest.approx(weighted, abs=near)
    assert len({m['grounding/rec_miou'] for m in separate.values()}) > 1


def test_one_run_equals_one_run_for_each_split(shared_data, tmp_path, separate):
    found = run(tmp_path, mix(shared_data / 'refcoco_sample'))
    check(found, separate)
    (stored,) = tmp_path.glob('*/*.json')
    assert {k: v for k, v in json.loads(stored.read_text()).items() if k in found} == found
    (log,) = tmp_path.glob('*/*.log')
    rows = [line.split('|')[1:-1] for line in log.read_text().splitlines() if line[:1] == '|']
    assert [cell.strip() for cell in rows[0]] == [
        'subset', 'sentences', 'rec_acc50', 'rec_miou', 'res_miou', 'res_oiou'
    ]  # fmt: skip
    assert {row[0].strip(): int(row[1]) for row in rows[1:]} == SPLITS


@pytest.mark.slow
def test_three_processes_equal_one(shared_data, tmp_path, separate):
    """Of 64 sentences three processes test two a second time."""
    processes = 3
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    started = []
    for rank in range(processes):
        env = dict(
            os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
            MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), PYTHONPATH=str(ROOT),
            OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
        )  # fmt: skip
        command = [sys.executable, __file__, str(tmp_path), str(shared_data / 'refcoco_sample')]
        started.append(subprocess.Popen(command, env=env, cwd=tmp_path))
    try:
        assert [process.wait(timeout=300) for process in started] == [0] * processes
    finally:
        for process in started:
            process.kill()
    for rank in range(processes):
        check(json.loads((tmp_path / f'{rank}.json').read_text()), separate)


def test_analysis_of_several_splits(shared_data):
    """Samples that differ by their subset alone are told apart, and messages name the files."""
    split = dict(members(shared_data / 'refcoco_sample')[0], pipeline=[])
    dataset = DATASETS.build(
        dict(type='MixedGroundingDataset', datasets=[split, dict(split, subset='again')])
    )
    predictions = []
    for i in range(len(dataset)):
        sample = dataset.get_data_info(i)
        box = sample['instances'][0]['bbox'] if sample['subset'] == 'again' else [0, 0, 1, 1]
        predictions.append({**sample, 'pred_instances': dict(bboxes=[box])})
    records = match_predictions(dataset, predictions, 'predictions')
    assert [round(record.box_iou, 6) for record in records[6:]] == [1] * 6
    assert max(record.box_iou for record in records[:6]) < 0.5
    with pytest.raises(
        ValueError, match=r'not of this data set \(.*refcoco/instances\.json, 12 sen'
    ):
        match_predictions(dataset, predictions[:7], 'predictions')


if __name__ == '__main__':
    out, root = map(Path, sys.argv[1:])
    metrics = run(out, mix(root), launcher='pytorch')
    (out / f'{os.environ["RANK"]}.json').write_text(json.dumps(metrics))
    leave_process_group()
