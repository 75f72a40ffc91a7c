"""The benchmark's variants compute the same and its tables hold what was timed."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from projects.common.cli.config import load_config

CONFIG = 'configs/plvl/plvl_tiny_1xb16-3k_scenes.py'


@pytest.fixture
def benchmark(repo_root, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_root / 'tools' / 'analysis_tools'))
    import benchmark_plvl

    return benchmark_plvl


def test_plain_attention_is_the_same_function(benchmark, repo_root) -> None:
    from projects.plvl.models.language_guided_block import RelativePositionAttention

    model = benchmark.build_model(load_config(repo_root / CONFIG), 'cpu')
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name:
            torch.nn.init.normal_(parameter)
    inputs = benchmark.make_inputs(model, 2, 64, 'cpu')
    ours = RelativePositionAttention.forward
    with torch.inference_mode():
        expected = model.extract_feat(*inputs)
        with benchmark.plain_attention():
            assert RelativePositionAttention.forward is not ours
            found = model.extract_feat(*inputs)
    assert RelativePositionAttention.forward is ours
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'names'),
    [
        (['latency', '--no-compile'], ['plain', 'ours', 'ours, bf16']),
        (['sentences', '--sentences', '1', '3'], [1, 3]),
        (['profile'], ['matrix products in all']),
    ],
)
def test_tables(benchmark, repo_root, monkeypatch, tmp_path, capsys, arguments, names) -> None:
    out = tmp_path / 'rows.json'
    common = [str(repo_root / CONFIG), '--size', '64', '--rounds', '1', '--device', 'cpu']
    monkeypatch.setattr(
        sys, 'argv', ['benchmark_plvl.py', arguments[0], *common, *arguments[1:], '--out', str(out)]
    )
    benchmark.main()
    rows = json.loads(out.read_text())
    first = [next(iter(row.values())) for row in rows]
    assert first[-len(names) :] == names
    assert 'medians of 1 rounds' in capsys.readouterr().out
    if arguments[0] == 'latency':
        ours = rows[1]
        assert ours['box diff'] == ours['mask diff'] == 0
        assert ours['ms'] > 0 and ours['images/s'] == pytest.approx(1e3 / ours['ms'])
        assert 0 < rows[2]['mask diff'] < 0.1
    if arguments[0] == 'profile':
        assert 0 < rows[-1]['% of all'] <= 100


def test_training_step_in_a_process_of_its_own(benchmark, repo_root) -> None:
    arguments = ['training', str(repo_root / CONFIG), '--size', '64', '--rounds', '1']
    sys.argv, before = ['benchmark_plvl.py', *arguments, '--device', 'cpu'], sys.argv
    try:
        args = benchmark.parse_args()
    finally:
        sys.argv = before
    cfg = load_config(args.config)
    row = benchmark._train_in_child(args, cfg, 2, ['--bf16', '--with-cp'])
    assert row['ms'] > 0 and row['GiB'] > 0
    cfg.model.type = 'NoSuchModel'
    assert 'NoSuchModel' in benchmark._train_in_child(args, cfg, 2, [])['note']
