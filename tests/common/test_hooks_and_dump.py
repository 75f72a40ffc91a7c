"""The progress bar, the mean loss and the written predictions."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from projects.common.hooks.logger_hook import MainProcessLoggerHook
from projects.common.hooks.mean_loss_hook import MeanLossHook
from projects.common.hooks.progress import ProgressBarHook
from projects.common.prediction_dump import PredictionDump


def fake_runner() -> SimpleNamespace:
    logger = logging.getLogger('progress-test')
    logger.setLevel('INFO')
    return SimpleNamespace(
        logger=logger,
        max_iters=4,
        iter=1,
        epoch=0,
        max_epochs=2,
        train_loop=SimpleNamespace(max_epochs=2),
        val_dataloader=[0, 1],
    )


def run_four(hook: ProgressBarHook, runner: SimpleNamespace) -> None:
    hook.before_train(runner)
    for i in range(3):
        hook.after_train_iter(runner, i, outputs={'loss': torch.tensor(0.25)})
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0)
    hook.after_val_epoch(runner, {})
    hook.after_train(runner)


def test_bar_shows_epoch_position_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr('sys.stderr', screen)
    hook = ProgressBarHook(style='bar')
    run_four(hook, fake_runner())
    for words in ('train epoch 1/2', '4/4', 'loss 0.25', 'val'):
        assert words in screen.getvalue()
    assert not hook.bars


def test_lines_show_the_time_left(capsys: pytest.CaptureFixture) -> None:
    run_four(ProgressBarHook(style='lines', interval=0), fake_runner())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('train epoch 1/2: 2/4, 0:00:0')
    assert lines[0].endswith('left, loss 0.25')
    assert any(line.startswith('val: 1/2') for line in lines)


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="found 'dots'"):
        ProgressBarHook(style='dots')


def test_mean_loss_is_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {'loss': torch.tensor(3.0), 'loss_mask': torch.tensor([1.0, 2.0])}
    MeanLossHook().after_train_iter(None, 0, outputs=outputs)  # of one process
    assert [float(v) for v in outputs.values()] == [3.0, 1.5]
    # one copy to the host, which the hooks that read them need not wait for again
    assert len({v.untyped_storage().data_ptr() for v in outputs.values()}) == 1
    outputs = {'loss': torch.tensor(3.0), 'loss_mask': torch.tensor([1.0, 2.0])}
    module = 'projects.common.hooks.mean_loss_hook'
    monkeypatch.setattr(f'{module}.get_world_size', lambda: 2)
    other = torch.tensor([5.0, 2.5])  # what the second process has
    monkeypatch.setattr(f'{module}.all_reduce', lambda t, op: t.copy_((t + other) / 2))
    MeanLossHook().after_train_iter(None, 0, outputs=outputs)
    assert [float(v) for v in outputs.values()] == [4.0, 2.0]


def test_dump_is_plain_data(tmp_path) -> None:
    mask = np.zeros((6, 5), dtype=bool)
    mask[1:4, 2:5] = True
    sample = dict(
        text='the left one',
        ori_shape=(6, 5),
        scale_factor=np.array([2.0, 3.0]),
        gt_instances=dict(bboxes=torch.ones(1, 4)),
        pred_instances=dict(
            bboxes=torch.tensor([[1.0, 2.0, 3.0, 4.0]]), masks=torch.from_numpy(mask)[None]
        ),
        pred_mask_probs=torch.rand(200, 200),
    )
    metric = PredictionDump(out_file=str(tmp_path / 'p.json'))
    metric.process(None, [sample])
    metric.evaluate(1)
    (read,) = json.loads((tmp_path / 'p.json').read_text())
    assert read['text'] == 'the left one'
    assert read['scale_factor'] == [2.0, 3.0]
    assert read['pred_instances']['bboxes'] == [[1.0, 2.0, 3.0, 4.0]]
    (encoded,) = read['pred_instances']['masks']
    assert np.array_equal(coco_mask.decode(encoded).astype(bool), mask)
    assert 'gt_instances' not in read
    assert 'pred_mask_probs' not in read  # 40,000 numbers
    with pytest.raises(ValueError, match='must end in'):
        PredictionDump(out_file='p.txt')


@pytest.mark.parametrize('main', [True, False])
def test_one_process_writes_the_metrics_of_a_test(
    main: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('projects.common.hooks.logger_hook.is_main_process', lambda: main)
    tag = {'accuracy': torch.tensor(0.5), 'time': 0.1}
    runner = SimpleNamespace(
        log_dir=str(tmp_path),
        logger=logging.getLogger('logger-hook-test'),
        test_dataloader=[0, 1],
        log_processor=SimpleNamespace(get_log_after_epoch=lambda *args, **kwargs: (tag, 'a line')),
    )
    hook = MainProcessLoggerHook()
    hook.json_log_path = 'metrics.json'
    hook.after_test_epoch(runner, {'accuracy': 0.5})
    written = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert written == ({'metrics.json': {'accuracy': 0.5, 'time': 0.1}} if main else {})
