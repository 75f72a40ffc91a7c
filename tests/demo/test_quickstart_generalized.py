"""The quick start on sentences about no object, one or several, shortened to two iterations."""

import json

import pytest

from demo.quickstart import plvl_generalized
from demo.quickstart.shared import load_quietly
from projects.common.scenes import SET_KINDS, write_dataset


def write_few(out, **arguments):
    return write_dataset(out, **{**arguments, 'num_train': 8, 'num_val': 2, 'num_test': 24})


def load_short(config, seed):
    cfg = load_quietly(config, seed)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    return cfg


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_whole_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plvl_generalized, 'SCENES', tmp_path / 'scenes')
    monkeypatch.setattr(plvl_generalized, 'write_dataset', write_few)
    monkeypatch.setattr(plvl_generalized, 'load_quietly', load_short)
    plvl_generalized.main(tmp_path / 'work', seed=3)
    summary = json.loads((tmp_path / 'work/summary.json').read_text())
    refs = json.loads((tmp_path / 'scenes/scenes/grefs(scenes).json').read_text())
    tested = [ref for ref in refs if ref['split'] == 'test']
    assert summary['images'] == 24 and summary['seed'] == 3
    assert summary['sentences'] == sum(len(ref['sentences']) for ref in tested)
    nothing = [ref for ref in tested if ref['ann_id'] == [-1]]
    assert summary['no_target_sentences'] == sum(len(ref['sentences']) for ref in nothing) > 0
    for name in ('gres_giou', 'gres_n_acc', 'gres_t_acc', 'grec_pr50'):
        assert 0 <= summary['metrics'][name] <= 100
    drawn = [path.stem for path in (tmp_path / 'work/pictures').glob('*.png')]
    assert 'overview' in drawn
    assert {name.split('_')[0] for name in drawn} - {'overview'} <= set(SET_KINDS)
    assert any(name.startswith('none_') for name in drawn)
    printed = capsys.readouterr().out
    assert 'says that nothing fits where nothing does' in printed
