"""Every row of the paper's Tables 4 to 7 trains from its config, and differs where it should."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from projects.common.cli.config import load_config
from projects.common.cli.run import build_runner, prepare
from projects.plvl.released_weights import empty_model

LEAF = '{}_4xb20-150e_refcocog-umd'
MAIN, EEVG = LEAF.format('plvl_vit-b'), LEAF.format('eevg_vit-b')

# Table 4: N, M and the list of blocks with language, 1-based, the decoder's three among them.
TABLE_4 = {
    'plvl_vit-b-n12m3': (12, 3, [13, 14, 15]),
    'plvl_vit-b-n11m4': (11, 4, [3, 13, 14, 15]),
    'plvl_vit-b-n10m5': (10, 5, [3, 6, 13, 14, 15]),
    'plvl_vit-b-n9m6': (9, 6, [3, 6, 9, 13, 14, 15]),
    'plvl_vit-b': (8, 7, [3, 6, 9, 12, 13, 14, 15]),
}
# Its index list alone, as in the released code, whose local blocks are always the same eight.
TABLE_4_INDEXES = {
    'plvl_vit-b-lang3': (8, 3, [13, 14, 15]),
    'plvl_vit-b-lang4': (8, 4, [3, 13, 14, 15]),
    'plvl_vit-b-lang5': (8, 5, [3, 6, 13, 14, 15]),
    'plvl_vit-b-lang6': (8, 6, [3, 6, 9, 13, 14, 15]),
}
REFCOCO_SPLITS = ('val', 'testA', 'testB')
TASKS = ('center', 'offset', 'size', 'mask')
BOX, MASK = {'loss_center', 'loss_bbox', 'loss_iou'}, {'loss_mask', 'loss_dice'}
# Tables 5 and 6: groups of tasks and losses.
TABLES_5_6 = {
    'plvl_vit-b': ([{'mask', 'center'}, {'offset', 'size'}], BOX | MASK),
    'plvl_vit-b-rec': ([{'center'}, {'offset', 'size'}], BOX),
    'plvl_vit-b-res': ([{'mask'}], MASK),
    'plvl_vit-b-mask-apart': ([{'mask'}, {'center', 'offset', 'size'}], BOX | MASK),
}
# Table 7: head, blocks of the backbone with language, losses.
TABLE_7 = {
    'eevg_vit-b': ('TokenMLPHead', [], BOX - {'loss_center'} | MASK),
    'eevg_vit-b-cmth': ('CollaborativeHead', [], BOX | MASK),
    'eevg_vit-b-plvl': ('TokenMLPHead', [3, 6, 9, 12], BOX - {'loss_center'} | MASK),
    'eevg_vit-b-plvl-cmth': ('CollaborativeHead', [3, 6, 9, 12], BOX | MASK),
}
# Where the paper and its code differ: the paper's values.
PAPER = {'plvl_vit-b-paper-lr', 'plvl_vit-b-mask3x3'}
ABLATIONS = {*TABLE_4, *TABLE_4_INDEXES, *TABLES_5_6, *TABLE_7, *PAPER}
RELEASED = (
    'plvl_vit-b-released_4xb20-150e_refcoco',
    'plvl_vit-b-released_8xb20-20e_mixed-rec',
    'plvl_vit-b-released_8xb20-150e_mixed-coco',
)

SMALL = {
    'model.text_encoder.max_tokens': 16,
    'model.text_encoder.bert': dict(
        vocab_size=200,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    ),
    'model.decoder.visual_channels': 32,
    'model.decoder.text_channels': 32,
    'model.decoder.channels': 32,
    'model.decoder.num_heads': 4,
    'model.decoder.ffn_channels': 32,
    'model.head.in_channels': 32,
    'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.indices': 4,
    'train_dataloader.dataset.pipeline.4.scales': [(64, 64)],
    'train_dataloader.dataset.pipeline.5.scale': (64, 64),
    'val_dataloader.dataset.indices': 2,
    'val_dataloader.dataset.pipeline.1.scale': (64, 64),
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'train_cfg.max_epochs': 1,
    'custom_hooks.0.vocab_size': 200,
    'default_hooks.visualization.num_samples': 1,
    'default_hooks.logger.interval': 1,
    'log_level': 'WARNING',
    'randomness.seed': 0,
}
SMALL_VIT = {
    f'model.backbone.{key}': value
    for key, value in dict(
        channels=32,
        num_heads=2,
        window_size=2,  # of 4 x 4 tokens: the four parts of Eq. 1
        text_channels=32,
        cross_heads=2,
        adapter_channels=8,
        pos_embed_grid=4,
        rel_pos_grid=4,
    ).items()
}
SMALL_EEVG = {'model.decoder.pos_embed_grid': 4, 'model.decoder.max_tokens': 16}


def config_path(repo_root: Path, name: str) -> Path:
    (path,) = (repo_root / 'configs/plvl').rglob(f'{name}.py')
    return path


@pytest.fixture
def train(repo_root, shared_data, monkeypatch, tmp_path):
    """Trains a config for two iterations and validates it; returns runner and logged losses."""
    monkeypatch.setenv('DATA_ROOT', str(shared_data / 'refcoco_sample'))
    # Laying out a config's text for log and checkpoint takes as long as the training here.
    monkeypatch.setattr(Config, 'pretty_text', property(lambda cfg: repr(cfg._cfg_dict)))

    def run(name: str, options: dict):
        path = config_path(repo_root, name)
        cfg = load_config(path, options)
        prepare(cfg, str(path), 'none', str(tmp_path))
        runner = build_runner(cfg)
        runner.train()
        assert runner.iter == 2
        logged = {k: v.data[0] for k, v in runner.message_hub.log_scalars.items()}
        losses = {key.removeprefix('train/') for key in logged if key.startswith('train/loss_')}
        assert len(logged['train/loss']) == 2
        assert all(loss > 0 for loss in logged['train/loss'])  # and so no NaN
        assert any(key.startswith('val/grounding/') for key in logged)
        validated = cfg.val_dataloader.dataset
        subsets = {member.subset for member in validated.get('datasets', ())}
        assert {key.split('/')[2] for key in logged if key.count('/') == 3} == subsets
        steps = {int(state['step']) for state in runner.optim_wrapper.optimizer.state.values()}
        trained = len(runner.optim_wrapper.optimizer.state)
        assert steps == {2} and trained == len(list(runner.model.parameters()))
        return runner.model.eval(), losses

    return run


def blocks_that_depend(model, on: str) -> list[int]:
    """1-based blocks of the backbone whose first token changes with something else.

    Args:
        on: 'text', or 'far', the token in the opposite corner.
    """
    x, text = torch.randn(1, 4, 4, 32).double(), torch.randn(1, 16, 32).double()
    other_x, other_text = x.clone(), text
    if on == 'text':
        other_text = torch.randn_like(text)
    else:
        other_x[0, -1, -1] = torch.randn(32)
    found = []
    with torch.no_grad():
        for i, block in enumerate(model.backbone.double().blocks, 1):
            outputs = block(x, text, None), block(other_x, other_text, None)
            if not torch.equal(outputs[0][0, 0, 0], outputs[1][0, 0, 0]):
                found.append(i)
    return found


def language_blocks(model) -> list[int]:
    return blocks_that_depend(model, 'text')


def local_blocks(model) -> list[int]:
    return sorted(set(range(1, 13)) - set(blocks_that_depend(model, 'far')))


@pytest.mark.parametrize('name', [*TABLE_4, *TABLE_4_INDEXES])
def test_table_4(train, name: str) -> None:
    """N local blocks, and language in the listed ones; blocks 13 to 15 are the decoder's."""
    num_local, num_language, listed = {**TABLE_4, **TABLE_4_INDEXES}[name]
    model, losses = train(LEAF.format(name), {**SMALL, **SMALL_VIT})
    assert type(model).__name__ == 'PLVL'
    assert losses == BOX | MASK
    layers = [12 + i for i in range(1, 1 + len(model.decoder.decoder.layers))]
    assert language_blocks(model) + layers == listed
    assert len(listed) == num_language
    local = local_blocks(model)
    assert len(local) == num_local
    assert not set(local) & set(listed)
    if name in TABLE_4:  # 15 blocks, each either local or global with language
        assert sorted(local + listed) == list(range(1, 16))
    if num_local == 8:
        assert local == [1, 2, 4, 5, 7, 8, 10, 11]


@pytest.mark.parametrize('name', [name for name in TABLES_5_6 if name != 'plvl_vit-b'])
def test_tables_5_and_6(train, name: str) -> None:
    """The tasks and their losses; tasks of one group read the same channels, other ones others."""
    groups, losses = TABLES_5_6[name]
    width = {'model.head.group_channels': 16} if name == 'plvl_vit-b-res' else {}
    model, logged = train(LEAF.format(name), {**SMALL, **SMALL_VIT, **width})
    assert logged == losses
    assert set(model.head.branches) == set().union(*groups)
    assert_groups(model.head, groups)


def assert_groups(head, groups: list[set]) -> None:
    width = head.group_channels  # that of the two-task head in each row but Table 6, row 1
    assert width == 16
    read = {}
    for task in head.branches:
        features = torch.randn(1, 32, 4, 4, requires_grad=True)
        head(features)[task].square().sum().backward()
        read[task] = tuple((features.grad.abs().sum((0, 2, 3)) > 0).tolist())
    found = {frozenset(t for t in read if read[t] == channels) for channels in read.values()}
    assert found == {frozenset(group) for group in groups}
    assert all(sum(channels) == width for channels in read.values())


def test_full_model_of_tables_5_and_6(repo_root) -> None:
    from mmengine.registry import MODELS

    groups, _ = TABLES_5_6['plvl_vit-b']
    head = load_config(config_path(repo_root, MAIN), {'model.head.in_channels': 32}).model.head
    assert_groups(MODELS.build(head).eval(), groups)


@pytest.mark.parametrize('name', TABLE_7)
def test_table_7(train, name: str) -> None:
    """The host is EEVG in each row: its decoder sheds tokens; head and backbone are swapped."""
    head, blocks, losses = TABLE_7[name]
    options = {**SMALL, **SMALL_VIT, **SMALL_EEVG, 'model.decoder.threshold': 0.3}
    if head == 'TokenMLPHead':
        options['model.head.hidden_channels'] = 32
    model, logged = train(LEAF.format(name), options)
    assert type(model).__name__ == 'EEVG'
    assert type(model.head).__name__ == head
    assert logged == losses
    assert language_blocks(model) == blocks
    assert local_blocks(model) == [1, 2, 4, 5, 7, 8, 10, 11]
    visual = torch.randn(1, 4, 4, 32)
    with torch.no_grad():
        tokens = model.decoder(visual, torch.randn(1, 16, 32), torch.ones(1, 16))
    assert tokens.cells.shape[1] < 16


@pytest.mark.parametrize(
    ('name', 'backbone', 'channels', 'grid'),
    [
        (
            'plvl_swin-b_4xb20-150e_refcoco',
            dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
            64,
            2,
        ),
        ('plvl_r101_4xb20-150e_refcoco', dict(depth=18, base_channels=8), 64, 4),
    ],
)
def test_other_backbones(train, name: str, backbone: dict, channels: int, grid: int) -> None:
    options = {f'model.backbone.backbone.{key}': value for key, value in backbone.items()}
    options.update(SMALL)
    options['model.decoder.visual_channels'] = channels
    model, logged = train(name, options)
    assert logged == BOX | MASK
    with torch.no_grad():
        tokens = model.backbone(torch.randn(2, 3, 64, 64))
        outputs = model._forward(
            torch.randn(2, 3, 64, 64),
            input_ids=torch.full((2, 16), 5),
            attention_mask=torch.ones(2, 16, dtype=torch.long),
        )
    assert tokens.shape == (2, grid, grid, channels)
    assert outputs['mask'].shape == (2, 1, 64, 64)


def test_pretrained_setting(train, tmp_path, monkeypatch) -> None:
    """Step 1 learns boxes alone; step 2 takes its weights over and learns masks, too."""
    few = dict(
        type='ReferGroundingDataset',
        data_prefix=dict(img='images/train2014/'),
        split='train',
        indices=2,
    )

    def options() -> dict:
        root = os.environ['DATA_ROOT']
        members = [
            dict(ann_file=f'{n}/instances.json', split_file=f'{n}/refs(unc).p', **few)
            for n in ('refcoco', 'refcoco+')
        ]
        return {
            **{k: v for k, v in SMALL.items() if not k.endswith('dataset.indices')},
            **SMALL_VIT,
            **{f'val_dataloader.dataset.datasets.{i}.indices': 2 for i in range(3)},
            'train_dataloader.dataset.datasets': [dict(m, data_root=root) for m in members],
            'train_dataloader.dataset.exclude': [],
        }

    kept = {'save_best': 'grounding/refcoco+_val/rec_acc50', 'rule': 'greater'}
    kept = {f'default_hooks.checkpoint.{key}': value for key, value in kept.items()}
    first, logged = train('plvl_vit-b_8xb20-20e_mixed-rec', {**options(), **kept})
    assert logged == BOX
    assert len(list(tmp_path.glob('best_grounding_refcoco+_val_rec_acc50_epoch_1.pth'))) == 1
    assert first.head.det_weight == 0.5
    weights = {k: v.clone() for k, v in first.state_dict().items()}
    monkeypatch.setenv('PLVL_PRETRAINED', str(tmp_path / 'epoch_1.pth'))
    second, logged = train('plvl_vit-b_4xb20-150e_mixed-coco', {**options(), 'randomness.seed': 1})
    assert logged == BOX | MASK
    assert (second.head.det_weight, second.head.seg_weight) == (0.05, 1.0)
    for key, value in second.named_parameters():
        if 'branches.mask' in key:
            assert key not in weights
        else:  # two steps of at most 2.5e-5 away
            torch.testing.assert_close(value, weights[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ('name', 'num_train', 'num_exclude'),
    [('plvl_vit-b_8xb20-20e_mixed-rec', 5, 10), ('plvl_vit-b_4xb20-150e_mixed-coco', 3, 8)],
)
def test_schedule_and_mix(repo_root, name: str, num_train: int, num_exclude: int) -> None:
    """The polynomial decay ends where training does; all val and test splits are excluded."""
    cfg = Config.fromfile(config_path(repo_root, name))
    epochs = int(re.search(r'-(\d+)e_', name)[1])
    assert cfg.train_cfg.max_epochs == epochs
    assert 'end' not in cfg.param_scheduler[0]  # MMEngine's default is the end of training
    dataset = cfg.train_dataloader.dataset
    assert dataset.type == 'MixedGroundingDataset'
    assert len(dataset.datasets) == num_train
    assert len(dataset.exclude) == num_exclude
    assert 'saiapr' not in str(dataset) and 'referit' not in str(dataset)  # not in the paper's
    assert [split.subset for split in cfg.val_dataloader.dataset.datasets] == [
        'refcoco_val', 'refcoco+_val', 'refcocog-umd_val'
    ]  # fmt: skip
    assert [split.subset for split in cfg.test_dataloader.dataset.datasets] == [
        *(f'{name}_{split}' for name in ('refcoco', 'refcoco+') for split in REFCOCO_SPLITS),
        'refcocog-umd_val',
        'refcocog-umd_test',
    ]
    held_out = {(split.split_file, split.split) for split in cfg.test_dataloader.dataset.datasets}
    assert held_out <= {(split.get('split_file'), split.get('split')) for split in dataset.exclude}


@pytest.mark.parametrize('name', ['plvl_vit-b', 'plvl_vit-b-paper-lr', 'eevg_vit-b'])
def test_learning_rates(repo_root, name: str) -> None:
    """Of every parameter: 'adapter' is shorter than 'backbone', whose rate would win."""
    from mmengine.optim import build_optim_wrapper

    cfg = load_config(config_path(repo_root, LEAF.format(name)))
    model = empty_model(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    groups = wrapper.optimizer.param_groups
    found = {names[id(p)]: group['lr'] for group in groups for p in group['params']}
    assert len(found) == len(names)
    rest = {True: 2.5e-5, False: 1e-5}['paper' in name]
    seen = set()
    for key, rate in found.items():
        language = 'adapter' in key or 'cross_attn' in key
        part = key.split('.')[0]
        expected = {'text_encoder': 5e-6, 'backbone': rest if language else 1e-5}.get(part, 2.5e-5)
        assert rate == pytest.approx(expected, rel=1e-9), key
        seen.add((part, language))
    assert (('backbone', True) in seen) == ('plvl' in name)


def test_the_mask_branch_of_the_paper(repo_root) -> None:
    """Every branch begins with a 3x3 convolution (section 3.3); maps keep their size."""
    from mmengine.registry import MODELS

    cfg = load_config(
        config_path(repo_root, LEAF.format('plvl_vit-b-mask3x3')), {'model.head.in_channels': 32}
    )
    head = MODELS.build(cfg.model.head).eval()
    assert all(branch[0].conv.kernel_size == (3, 3) for branch in head.branches.values())
    assert head(torch.randn(1, 32, 4, 4))['mask'].shape == (1, 1, 64, 64)


@pytest.mark.parametrize('name', RELEASED)
def test_released_values(repo_root, name: str) -> None:
    """Each row of the table of differences that has a released value."""
    cfg = load_config(config_path(repo_root, name))
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper' and 'dtype' not in cfg.optim_wrapper
    assert cfg.train_dataloader.drop_last is True
    assert cfg.model.head.loss_mask == dict(type='DoubleSigmoidFocalLoss')
    assert cfg.model.head.clamp_center is False
    assert not cfg.model.backbone.get('mask_text_padding', False)
    assert cfg.val_evaluator.protocol == cfg.test_evaluator.protocol == 'released'
    train = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert train['RandomSafeCrop'].whole_words is False
    assert train['RandomFlipWithWords'].whole_words is False
    assert train['GroundingResize'].align_corners is True
    for part in ('val', 'test'):
        steps = cfg[f'{part}_dataloader'].dataset.pipeline
        assert [step.get('backend') for step in steps if step.type == 'GroundingResize'] == [
            'pillow',
            None,
        ]
    ours = load_config(config_path(repo_root, name.replace('-released', '')))
    assert cfg.train_cfg == ours.train_cfg and cfg.param_scheduler == ours.param_scheduler
    assert cfg.model.head.det_weight == ours.model.head.det_weight
    assert cfg.default_hooks == ours.default_hooks
    assert ours.train_dataloader.drop_last is False
    assert cfg.auto_scale_lr == ours.auto_scale_lr


def test_both_tasks_keep_their_best_checkpoint(repo_root) -> None:
    """By metrics of the tasks that the head has, in every config of paper size."""
    one, any_number = ('rec_acc50', 'res_miou'), ('grec_pr50', 'gres_giou')
    folder = repo_root / 'configs/plvl'
    for path in [*folder.glob('*.py'), *folder.glob('ablation/*.py')]:
        if 'tiny' in path.name:
            continue
        cfg = load_config(path)
        tasks = {task for group in cfg.model.head.get('groups', [TASKS]) for task in group}
        metrics = any_number if cfg.model.type == 'GeneralizedPLVL' else one
        expected = [f'grounding/{metric}' for task, metric in zip(('center', 'mask'), metrics)
                    if task in tasks]  # fmt: skip
        kept = cfg.default_hooks.checkpoint
        found = kept.save_best if isinstance(kept.save_best, list) else [kept.save_best]
        assert found == expected and kept.rule == 'greater', path.name


# ------------------------------------------------------------------------------ the config files


def flat(node, prefix: str = '') -> dict:
    if not isinstance(node, dict):
        return {prefix: node}
    found = {}
    for key, value in node.items():
        found.update(flat(value, f'{prefix}.{key}' if prefix else key))
    return found


@pytest.mark.parametrize('name', sorted(ABLATIONS - {'plvl_vit-b', 'eevg_vit-b'}))
def test_one_factor(repo_root, name: str) -> None:
    """What a row states differs from the whole model, and nothing else does."""
    base = MAIN if name.startswith('plvl') else EEVG
    ours, theirs = (
        flat(Config.fromfile(config_path(repo_root, n))._cfg_dict.to_dict())
        for n in (LEAF.format(name), base)
    )
    changed = {k for k in {*ours, *theirs} if ours.get(k, ...) != theirs.get(k, ...)}
    language, global_ = 'model.backbone.language_indexes', 'model.backbone.global_indexes'
    if name in TABLE_4:
        assert changed == {language, global_}
    elif name in TABLE_4_INDEXES:
        assert changed == {language}
    elif name in TABLES_5_6:
        kept = 'default_hooks.checkpoint.save_best'  # a single task's own
        width = 'model.head.group_channels'  # the mask's, as in the two-task head
        expected = {'model.head.groups'}
        expected |= {kept} if name in ('plvl_vit-b-rec', 'plvl_vit-b-res') else set()
        assert changed == expected | ({width} if name == 'plvl_vit-b-res' else set())
    elif name == 'plvl_vit-b-mask3x3':
        assert changed == {'model.head.mask_kernel_size'}
    elif name == 'plvl_vit-b-paper-lr':
        keys = 'optim_wrapper.paramwise_cfg.custom_keys.'
        assert changed == {f'{keys}.cross_attn..lr_mult', f'{keys}.adapter..lr_mult'}
    else:
        assert (language in changed) == ('plvl' in name)
        assert ('model.head.type' in changed) == ('cmth' in name)
        assert all(k == language or k.startswith('model.head.') for k in changed)


def test_every_ablation_is_a_file_of_its_own(repo_root) -> None:
    found = {path.stem for path in (repo_root / 'configs/plvl/ablation').glob('*.py')}
    assert found == {LEAF.format(name) for name in ABLATIONS - {'plvl_vit-b'}}
