"""A loss that is NaN never reaches the weights."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmpretrain.structures import DataSample

from projects.common.cli.config import load_config
from projects.common.cli.run import build_runner, prepare
from projects.common.errors import InputError
from projects.common.hooks.nonfinite_loss_hook import (
    FiniteLossMixin,
    NonFiniteLossHook,
    batch_ids,
)
from projects.common.weights.checkpoint import load_checkpoint_file

CONFIG = """
custom_imports = dict(imports=['toy', 'poisoned', 'projects.common.register'])
model = dict(type='PoisonedModel')
train_dataloader = dict(
    batch_size=4, num_workers=0, collate_fn=dict(type='poisoned_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='PoisonedDataset'))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = val_dataloader = val_evaluator = None
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
param_scheduler = None  # runs of different lengths are compared
default_hooks = dict(checkpoint=dict(save_best=None), logger=dict(interval=1))
"""


class Toy:
    """Trains six batches of four samples; sample 9 is in the third."""

    def __init__(self, config: Path, folder: Path) -> None:
        self.config, self.folder = str(config), folder
        self.runs = 0

    def __call__(self, name: str | None = None, **options):
        """The runner after training; options have ``__`` for a dot."""
        self.runs += 1
        options = {key.replace('__', '.'): value for key, value in options.items()}
        cfg = load_config(self.config, options)
        prepare(cfg, self.config, 'none', str(self.folder / (name or str(self.runs))))
        cfg.experiment_name = f'{self.folder.name}-{self.runs}'
        self.runner = build_runner(cfg)
        self.runner.train()
        return self.runner

    def weights(self, name: str | None = None, **options) -> dict[str, torch.Tensor]:
        return {k: v.clone() for k, v in self(name, **options).model.state_dict().items()}


@pytest.fixture
def toy(toy_config, poisoned, tmp_path) -> Toy:
    return Toy(toy_config(CONFIG), tmp_path)


POISON = 'train_dataloader__dataset__poison'
MODE = 'default_hooks__nonfinite_loss__mode'


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_training_stops_before_the_weights_are_spoiled(toy, poisoned) -> None:
    with pytest.raises(InputError) as error:
        toy('bad', **{POISON: [9]})
    message = str(error.value)
    for words in (
        'iteration 3: loss nan, loss_a nan; ',
        "'img_id': [8, 9, 10, 11]",
        'images/9.jpg',
        "mode='skip'",
    ):
        assert words in message, message
    assert '\n' not in message
    found = {k: v.clone() for k, v in toy.runner.model.state_dict().items()}
    # the first two batches alone, in a run of their own
    assert same(found, toy.weights(train_dataloader__dataset__length=8))

    (path,) = (toy.folder / 'bad').glob('nonfinite_loss_*.pth')
    assert f'dump: {path}' in message
    dump = load_checkpoint_file(path)  # plain data
    assert dump['iter'] == 3 and dump['ids']['img_id'] == [8, 9, 10, 11]
    assert same(dump['state_dict'], found)
    inputs = dump['batch']['inputs']
    assert torch.equal(inputs['target'], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    model = poisoned.PoisonedModel(zero=True)
    model.load_state_dict(dump['state_dict'])
    assert model(inputs, [], mode='loss')['loss_a'].isfinite()  # it can be computed again


@pytest.mark.parametrize('accumulate', [1, 2])
def test_a_skipped_batch_has_no_gradient(toy, accumulate) -> None:
    """Independent truth: a model whose loss for that batch is zero, and so is its gradient."""
    options = {POISON: [9], 'optim_wrapper__accumulative_counts': accumulate}
    expected = toy.weights(**options, model__zero=True)
    found = toy.weights('skip', **options, **{MODE: 'skip'})
    assert same(found, expected)
    assert toy.runner.message_hub.get_info('num_skipped_batches') == 1
    assert toy.runner.iter == 6
    (log,) = (toy.folder / 'skip').glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == 6 and [row['num_skipped_batches'] for row in rows[2:]] == [1] * 4
    assert all(row['loss'] == row['loss'] for row in rows)  # the NaN is in no mean
    assert len(list((toy.folder / 'skip').glob('nonfinite_loss_iter_3_rank_0.pth'))) == 1


def test_the_update_of_a_skipped_last_part_is_left_out(toy) -> None:
    """The fourth batch is the second of two that would make an update."""
    options = {'optim_wrapper__accumulative_counts': 2}
    found = toy.weights(
        **options, **{POISON: [13], MODE: 'skip'}, train_dataloader__dataset__length=16
    )
    assert same(found, toy.weights(**options, train_dataloader__dataset__length=8))


def test_skipping_ends_where_it_is_of_no_use(toy) -> None:
    hook = 'default_hooks__nonfinite_loss__'
    every = {POISON: list(range(24)), f'{hook}mode': 'skip'}
    with pytest.raises(InputError, match='iteration 4: .*4 batches one after the other'):
        toy('all', **every, **{f'{hook}max_in_a_row': 4, f'{hook}max_dumps': 1})
    assert len(list((toy.folder / 'all').glob('*.pth'))) == 2  # the first, and the one that ended
    with pytest.raises(InputError, match='weights are not finite already .layers.0.weight.'):
        toy(**{f'{hook}mode': 'skip', 'optim_wrapper__optimizer__lr': float('inf')})
    with pytest.raises(ValueError, match="found 'ignore'"):
        NonFiniteLossHook('ignore')


def test_a_resumed_run_goes_on_counting(toy) -> None:
    options = {POISON: [9], MODE: 'skip'}
    toy('work', **options)
    runner = toy('work', **options, resume=True, train_cfg__max_epochs=2)
    assert runner.message_hub.get_info('num_skipped_batches') == 2


def test_mixed_precision(toy, monkeypatch) -> None:
    """MMEngine's wrapper asks for a GPU; here it has PyTorch's scaler for the CPU, and bfloat16."""
    module = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
    if not torch.cuda.is_available():
        monkeypatch.setattr(f'{module}.is_cuda_available', lambda: True)
        monkeypatch.setattr(f'{module}.GradScaler', lambda **kw: torch.amp.GradScaler('cpu', **kw))
    options = {POISON: [9], 'optim_wrapper__type': 'AmpOptimWrapper'}
    expected = toy.weights(**options, model__zero=True)
    assert same(toy.weights(**options, **{MODE: 'skip'}), expected)
    assert toy.runner.optim_wrapper.loss_scaler.get_scale() == 65536  # no overflow was seen
    with pytest.raises(InputError, match='iteration 3: loss nan'):
        toy(**options)


def test_the_model_can_be_copied_and_saved_while_it_is_on(toy, tmp_path) -> None:
    options = {MODE: 'skip', POISON: [9]}
    averaging = [dict(type='EMAHook', momentum=0.5)]
    runner = toy('copied', custom_hooks=averaging, **options)
    copied = copy.deepcopy(runner.model)
    assert same(copied.state_dict(), runner.model.state_dict())
    torch.save(runner.model, tmp_path / 'whole.pth')
    loaded = torch.load(tmp_path / 'whole.pth', weights_only=False)
    assert same(loaded.state_dict(), runner.model.state_dict())
    assert 'parse_losses' not in vars(runner.model)
    assert isinstance(runner.optim_wrapper, FiniteLossMixin)


def test_ids_of_the_projects_samples() -> None:
    detection = DetDataSample(metainfo=dict(img_id=5, img_path='a.jpg', ref_id=7, text='x'))
    matching = DataSample(metainfo=dict(img_path='b.jpg'))
    matching.set_field(3, 'image_id')
    views = [dict(data_samples=[detection])] * 2
    assert batch_ids(views) == {
        'img_id': [5, 5],
        'img_path': ['a.jpg', 'a.jpg'],
        'ref_id': [7, 7],
    }
    assert batch_ids(dict(data_samples=[matching])) == {'img_path': ['b.jpg'], 'image_id': [3]}


@pytest.mark.slow
def test_two_processes_skip_together(toy_config, tool, tmp_path, free_port) -> None:
    """The loss of one process is NaN; neither waits for the other, and their weights are equal."""
    here = Path(__file__).parent
    done = tool(
        *('dist_train.sh', toy_config(CONFIG), '2', '--work-dir', tmp_path / 'two'),
        *('--cfg-options', 'train_dataloader.dataset.poison=[9]', 'train_cfg.max_epochs=2'),
        'default_hooks.nonfinite_loss.mode=skip',
        PORT=free_port(),
        PYTHONPATH=f'{here.parent / "tools"}:{here}',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    hub = load_checkpoint_file(tmp_path / 'two/epoch_2.pth')['message_hub']
    assert hub['runtime_info']['num_skipped_batches'] == 2
    assert len(list((tmp_path / 'two').glob('nonfinite_loss_*_rank_[01].pth'))) == 4
