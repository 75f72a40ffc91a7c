"""The configs of the tables with small numbers and the data of a test."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]


def small(name: str, data: Path, work_dir: Path, epochs: int) -> Config:
    """The config of a table's row with small numbers and the data of this test."""
    cfg = Config.fromfile(ROOT / 'configs/rvse' / f'{name}.py')
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'WARNING'
    cfg.randomness.seed = 0
    matcher = cfg.model.get('matcher', cfg.model)
    matcher.image_encoder.update(in_channels=12, channels=16)
    matcher.text_encoder.update(vocab_size=20, word_channels=8, channels=16, word_dropout=0.0)
    if matcher.similarity.type in ('SGRSimilarity', 'SAFSimilarity'):
        matcher.similarity.update(channels=16, sim_channels=8, num_regions=4, dropout=0.0)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=12, num_workers=0, persistent_workers=False)
        dataset = loader.dataset.get('dataset', loader.dataset)
        dataset.data_root = str(data)
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.param_scheduler = None
    cfg.optim_wrapper.optimizer.lr = 5e-3
    for hook in cfg.custom_hooks:
        if hook.type == 'BuildVocabularyHook':
            hook.min_count = 1
        if hook.type == 'OfflineMiningHook':
            hook.update(top_captions=5, top_images=5, block_size=7)
        if hook.type == 'CleanSplitHook':
            hook.warm_up_epochs = 2
    cfg.default_hooks.logger.interval = 1
    cfg.experiment_name = f'{name}_{work_dir.name}'
    return cfg
