"""The tools on a small PLVL: several processes, kill and resume, wrong input, real images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from projects.common.scenes import write_dataset
from projects.common.weights.checkpoint import load_checkpoint_file

CONFIG = 'configs/plvl/plvl_tiny_1xb8-150e_refcoco.py'
ANYHOW = '--allow-schedule-mismatch'  # the warm-up is longer than these runs
SMALL = (
    'model.backbone.depth=2',
    'model.backbone.global_indexes=(1,)',
    'model.backbone.language_indexes=(1,)',
    'model.decoder.num_layers=1',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=1',
    'randomness.seed=3',
)


@pytest.fixture(scope='module')
def scenes_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('scenes')
    write_dataset(root, num_train=6, num_val=2, num_test=2, image_size=64, progress=False)
    return root


@pytest.fixture
def on_scenes(scenes_root: Path) -> tuple[str, ...]:
    """Options that point the RefCOCO config at scenes."""
    options = []
    for split in ('train', 'val', 'test'):
        where = f'{split}_dataloader.dataset'
        options += [
            f'{where}.data_root={scenes_root}',
            f'{where}.data_prefix.img=images/',
            f'{where}.ann_file=scenes/instances.json',
            f'{where}.split_file=scenes/refs(scenes).p',
        ]
    return (*SMALL, *options)


def run(tool, script: str, config: Path, *arguments, **env):
    done = tool(script, config, *arguments, **env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def logged_losses(folder: Path) -> list[dict]:
    (log,) = folder.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [{k: v for k, v in row.items() if 'loss' in k} for row in rows if 'loss' in row]


def test_two_processes_equal_one(repo_root, on_scenes, tool, tmp_path, free_port) -> None:
    """The same losses, each of them, as one process with the same global batch."""
    config = repo_root / CONFIG
    # Statistics of batch normalisation are per process; group normalisation has none.
    options = (
        '--cfg-options',
        *on_scenes,
        'train_cfg.max_epochs=1',
        'log_processor.window_size=1',
        'train_dataloader.drop_last=True',
        # Two processes may make one batch more, and a decay over the whole training sees it.
        'param_scheduler.1.end=150',
        'model.head.norm_cfg.type=GN',
        'model.head.norm_cfg.num_groups=8',
        'model.backbone.stem_norm_cfg.type=GN',
        'model.backbone.stem_norm_cfg.num_groups=8',
    )
    run(tool, 'train.py', config, '--work-dir', tmp_path / 'one', ANYHOW, *options)
    two = ('2', '--work-dir', tmp_path / 'two', ANYHOW, *options, 'train_dataloader.batch_size=4')
    run(tool, 'dist_train.sh', config, *two, PORT=free_port())
    one, two = logged_losses(tmp_path / 'one'), logged_losses(tmp_path / 'two')
    assert len(one) >= 3 and len(one[0]) == 6
    # An odd number of sentences is filled up for two processes, which may make one batch more.
    for ours, theirs in zip(one, two[: len(one)], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.slow
def test_killed_and_resumed_equals_straight(repo_root, on_scenes, tool, tmp_path) -> None:
    """SIGKILL in the middle of the second epoch, then --resume: the same weights, bit for bit."""
    config = repo_root / CONFIG
    options = (ANYHOW, '--cfg-options', *on_scenes, 'train_cfg.max_epochs=3')
    run(tool, 'train.py', config, '--work-dir', tmp_path / 'straight', *options)
    killed = tmp_path / 'killed'
    process = tool.start('train.py', config, '--work-dir', killed, *options)
    deadline = time.time() + 150
    while not (killed / 'epoch_1.pth').exists() and time.time() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (killed / 'epoch_1.pth').exists()
    assert not (killed / 'epoch_3.pth').exists(), 'killed too late to mean anything'
    run(tool, 'train.py', config, '--work-dir', killed, '--resume', *options)
    straight, resumed = (
        load_checkpoint_file(folder / 'epoch_3.pth')['state_dict']
        for folder in (tmp_path / 'straight', killed)
    )
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.bakbone.depth=2', ("'model.bakbone'", "'model.backbone'")),
        (
            'train_dataloader.dataset.data_root=/nowhere',
            ("data_root of ReferGroundingDataset: '/nowhere' does not exist", 'DATA_ROOT'),
        ),
    ],
)
def test_user_errors_are_one_line(repo_root, option, words, tool) -> None:
    done = tool('train.py', repo_root / CONFIG, '--cfg-options', option)
    assert done.returncode in (1, 2)
    assert 'Traceback' not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if 'error:' in line]
    for word in words:
        assert word in line


def test_real_pictures(repo_root, shared_data, tool, call_tool, tmp_path, monkeypatch) -> None:
    """Real RefCOCO trains, is tested on all its splits, and images are drawn."""
    env = dict(DATA_ROOT=str(shared_data / 'refcoco_sample'))
    monkeypatch.setenv('DATA_ROOT', env['DATA_ROOT'])
    config = repo_root / CONFIG
    options = ('--cfg-options', *SMALL, 'train_cfg.max_epochs=2')
    run(tool, 'train.py', config, '--work-dir', tmp_path, ANYHOW, *options, **env)
    rows = logged_losses(tmp_path)
    assert all(value < 100 for row in rows for value in row.values())
    for split, count in (('val', 6), ('testA', 11), ('testB', 12)):
        out, pictures = tmp_path / f'{split}.json', tmp_path / split
        call_tool(
            *('test.py', config, tmp_path / 'epoch_2.pth', '--work-dir', tmp_path / f'of_{split}'),
            *('--out', out, '--show-dir', pictures, '--cfg-options', *SMALL),
            f'test_dataloader.dataset.split={split}',
        )
        assert len(json.loads(out.read_text())) == count
        assert len(list(pictures.iterdir())) == count


# ------------------------------------------------------------------------- the paper's recipe

RECIPE = 'configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py'
# The recipe with a small model and small images; every file is the sample's.
SMALL_RECIPE = """
_base_ = '{root}/{recipe}'
model = dict(
    text_encoder=dict(
        max_tokens=16,
        bert=dict(
            vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32)),
    backbone=dict(
        channels=32, num_heads=2, window_size=2, text_channels=32, cross_heads=2,
        adapter_channels=8, pos_embed_grid=4, rel_pos_grid=4),
    decoder=dict(
        visual_channels=32, text_channels=32, channels=32, num_heads=4, ffn_channels=32),
    head=dict(in_channels=32))
custom_hooks = [dict(type='LearnVocabularyHook', vocab_size=400)]
small = dict(num_workers=0, persistent_workers=False)
train_dataloader = val_dataloader = test_dataloader = small
for pipeline in (_base_.train_pipeline, _base_.test_pipeline):
    for step in pipeline:
        if step['type'] == 'GroundingResize':
            step['scale'] = (64, 64)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline), **small)
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline), **small)
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=3)
"""


@pytest.fixture
def small_recipe(repo_root, tmp_path) -> Path:
    """The recipe's config, small, at its place below a folder that has the tools as well."""
    path = tmp_path / RECIPE
    path.parent.mkdir(parents=True)
    (tmp_path / 'tools').symlink_to(repo_root / 'tools')
    path.write_text(SMALL_RECIPE.format(root=repo_root, recipe=RECIPE))
    return path


# PDSL's recipe on data that is always there.
PDSL = """
_base_ = '{root}/configs/pdsl/pdsl_r18_4xb1-100k_voc12.py'
train_dataloader = dict(_delete_=True, batch_size=1, dataset=dict(type='ToyDataset'))
val_dataloader = val_cfg = val_evaluator = None
"""


def readme_commands(repo_root: Path, config: str) -> list[str]:
    """Tests of a config's checkpoints, as the README has them."""
    text = (repo_root / 'configs/plvl/README.md').read_text().replace('\\\n', ' ')
    lines = (line.split('#')[0].split() for line in text.splitlines())
    return [' '.join(words) for words in lines if words[:2] == ['tools/dist_test.sh', config]]


@pytest.mark.slow
def test_three_epochs_of_the_recipe(
    repo_root, small_recipe, shared_data, tool, tmp_path, free_port
) -> None:
    """Released decay to the last epoch, two best checkpoints, scored by the README's commands."""
    env = dict(DATA_ROOT=str(shared_data / 'refcoco_sample'))
    run(tool, 'train.py', RECIPE, '--cfg-options', 'train_cfg.max_epochs=3', **env)
    folder = tmp_path / 'work_dirs' / Path(RECIPE).stem
    (log,) = folder.glob('*/vis_data/scalars.json')
    rows = [row for row in map(json.loads, log.read_text().splitlines()) if 'lr' in row]
    assert {row['epoch'] for row in rows} == {1, 2, 3}
    assert len(list(folder.glob('*/vis_data/vis_image/val_*.png'))) == 4
    for row in rows:
        factor = (1 - (row['epoch'] - 1) / 3) ** 0.9
        assert row['base_lr'] == pytest.approx(2.5e-5 * factor, abs=1e-12)
    last = load_checkpoint_file(folder / 'epoch_3.pth')
    before = load_checkpoint_file(folder / 'epoch_2.pth')['state_dict']
    names = [name for name, value in before.items() if value.is_floating_point()]
    same = [name for name in names if torch.equal(before[name], last['state_dict'][name])]
    assert not [name for name in same if not name.endswith('rel_pos_h')], same

    commands = readme_commands(repo_root, RECIPE)
    assert len(commands) == 2
    for command, metric in zip(commands, ('rec_acc50', 'res_miou')):
        (best,) = folder.glob(f'best_grounding_{metric}_epoch_*.pth')
        line = command.removesuffix(' 4') + ' 1'
        done = subprocess.run(
            ['bash', '-c', line],
            cwd=tmp_path,
            env={
                **os.environ,
                **env,
                'VIRTUAL_ENV': sys.prefix,
                'PATH': f'{sys.prefix}/bin:{os.environ["PATH"]}',
                'PORT': free_port(),
            },
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        text = done.stdout + done.stderr
        assert f'{best.name}: ' in text  # how many tensors were loaded
        assert f'grounding/refcoco_testA/{metric}' in text


def test_averaged_weights_are_tested(repo_root, on_scenes, tool, call_tool, tmp_path) -> None:
    """The vocabulary is learnt after EMAHook has copied the model, and reaches the copy."""
    config = tmp_path / 'averaged.py'
    hooks = "[*_base_.custom_hooks, dict(type='EMAHook', momentum=0.5, update_buffers=True)]"
    config.write_text(f"_base_ = '{repo_root / CONFIG}'\ncustom_hooks = {hooks}\n")
    options = ('--cfg-options', *on_scenes, 'train_cfg.max_epochs=2')
    run(tool, 'train.py', config, '--work-dir', tmp_path / 'a', ANYHOW, *options)
    content = load_checkpoint_file(tmp_path / 'a/epoch_2.pth')
    key = 'text_encoder._extra_state'
    assert content['state_dict'][key].numel() > 100
    assert torch.equal(content['state_dict'][key], content['ema_state_dict'][f'module.{key}'])
    tested = call_tool(
        *('test.py', repo_root / CONFIG, tmp_path / 'a/epoch_2.pth', '--work-dir', tmp_path / 'b'),
        *options,
    )
    assert 'grounding/rec_acc50' in tested.out
    more = [*options[:-1], 'train_cfg.max_epochs=3']
    again = (ANYHOW, '--resume', '--new-schedule', *more)
    run(tool, 'train.py', config, '--work-dir', tmp_path / 'a', *again)


@pytest.mark.parametrize(
    ('script', 'where', 'words'),
    [
        ('test.py', 'released', ('tensors of PLVL match', 'tools/model_converters/plvl.py')),
        ('train.py', 'load_from', (': 0 of', 'tensors of PLVL match')),
        ('train.py', 'PLVL_VITDET', (': 0 of', 'tensors of LanguageGuidedViT match')),
        ('train.py', 'PDSL_PRETRAINED', (': 0 of', 'tensors of ResNetWS match', "'backbone.'")),
    ],
)
def test_files_of_something_else_are_one_line(
    repo_root,
    small_recipe,
    toy_config,
    shared_data,
    shared_reference,
    call_tool,
    tmp_path,
    monkeypatch,
    script,
    where,
    words,
) -> None:
    """Exit status 1 and a line, before any step."""
    monkeypatch.setenv('DATA_ROOT', str(shared_data / 'refcoco_sample'))
    unrelated = tmp_path / 'unrelated.pth'
    torch.save({'state_dict': {'conv.weight': torch.ones(3, 3)}}, unrelated)
    config, options = small_recipe, []
    checkpoint: list = []
    if where == 'released':
        lines = (shared_reference / 'keys/plvl_checkpoint.txt').read_text().splitlines()
        names = [line.split('\t')[0] for line in lines if not line.startswith('#')]
        released = {name: torch.zeros(1) for name in names}
        torch.save({'model': released, 'epoch': 149}, tmp_path / 'released.pth')
        checkpoint = [tmp_path / 'released.pth']
    elif where == 'load_from':
        options.append(f'load_from={unrelated}')
    else:
        monkeypatch.setenv(where, str(unrelated))
    if where == 'PDSL_PRETRAINED':
        toy_config()  # registers the data set
        config = tmp_path / 'pdsl.py'
        config.write_text(PDSL.format(root=repo_root))
        options = ['model.roi_head.bbox_head.fc_channels=(8,8)', 'randomness.seed=3']
    folder = ('--work-dir', tmp_path)
    options = ['--cfg-options', *options] if options else []
    done = call_tool(script, config, *checkpoint, *folder, *options, rc=1)
    (line,) = [line for line in done.err.splitlines() if 'error:' in line]
    for word in (*words, 'the first that does not is'):
        assert word in line
