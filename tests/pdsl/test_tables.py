"""Every row of Table 1 and of Figure 3 changes one thing of the default, and that thing."""

import pytest
from mmengine.config import Config

DEFAULT = 'pdsl_r18_4xb1-100k_voc12'
HEAD = 'model.roi_head.'
ROWS = {
    **{f'nr{n}': (HEAD + 'bbox_head.num_refinements', 4, n) for n in (0, 1, 2, 3, 5)},
    **{f'nm{n}': (HEAD + 'mask_head.num_specific', 4, n) for n in (0, 1, 2, 3, 5)},
    **{f'seed{n}': (HEAD + 'num_seeds', 10, n) for n in (1, 50, 100)},
    'no-acl': (HEAD + 'loss_correlation.type', 'InstanceCorrelationLoss', None),
    'parallel': ('train_cfg.val_interval', 10000, 2000),
}


def flat(value, prefix=''):
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {prefix: value}
    return {
        key: each
        for name, part in items
        for key, each in flat(part, f'{prefix}.{name}' if prefix else str(name)).items()
    }


def differences(root, name):
    load = lambda path: flat(Config.fromfile(root / 'configs/pdsl' / path).to_dict())  # noqa: E731
    default, other = load(f'{DEFAULT}.py'), load(name)
    return {
        key: (default.get(key), other.get(key))
        for key in {*default, *other}
        if default.get(key) != other.get(key)
    }


@pytest.mark.parametrize('name', ROWS)
def test_a_row_changes_one_thing(repo_root, name):
    key, before, after = ROWS[name]
    found = differences(repo_root, f'ablation/pdsl_r18-{name}_4xb1-100k_voc12.py')
    assert found == {key: (before, after)}


def test_cascade_and_parallel_differ_in_the_source_of_masks(repo_root):
    found = differences(repo_root, 'ablation/pdsl_r18-cascade_4xb1-100k_voc12.py')
    assert found.pop('train_cfg.val_interval') == (10000, 2000)
    assert found == {'model.learning': (None, 'cascade'), 'model.cue.type': ('GrabCutCue', None)}


def test_accumulation_takes_as_many_pictures(repo_root):
    default, single = (
        Config.fromfile(repo_root / 'configs/pdsl' / name)
        for name in (f'{DEFAULT}.py', 'pdsl_r18_1xb1-accum4-400k_voc12.py')
    )
    count = single.optim_wrapper.accumulative_counts
    assert single.train_cfg.max_iters == count * default.train_cfg.max_iters
    steps = [cfg.param_scheduler[-1].milestones[0] for cfg in (default, single)]
    assert steps[1] == count * steps[0]
    assert single.optim_wrapper.optimizer == default.optim_wrapper.optimizer
