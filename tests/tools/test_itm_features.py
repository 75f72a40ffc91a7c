"""Grid features of real images, once, in the precomputed layout."""

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope

from projects.common.build import build_quietly
from projects.rvse.datasets import PrecompMatchingDataset

TOOL = 'dataset_converters/itm_features.py'


def test_features_of_a_checkpoint(call_tool, repo_root, shared_data, tmp_path, monkeypatch):
    """The rows are what the model's backbone gives, the captions and ids the images' own."""
    monkeypatch.setenv('COCO_SAMPLE_ROOT', str(shared_data / 'coco_sample'))
    config = repo_root / 'configs/rvse/rvse_tiny_1xb40-60e_coco-sample.py'
    cfg = Config.fromfile(config)
    torch.manual_seed(3)
    model = build_quietly(cfg.model, 'mmpretrain').eval()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'w.pth')
    arguments = ('--checkpoint', tmp_path / 'w.pth', '--out', tmp_path / 'grid', '--splits', 'test')
    done = call_tool(TOOL, config, *arguments)

    init_default_scope('mmpretrain')
    pictures = DATASETS.build(cfg.test_dataloader.dataset)
    assert f'{len(pictures)} images' in done.out and len(pictures) > 1
    written = PrecompMatchingDataset('test', str(tmp_path / 'grid'), test_mode=True)
    assert written.captions() == [' '.join(text.split()) for text in pictures.captions()]
    ids = (tmp_path / 'grid/test_ids.txt').read_text().split()
    assert ids == [pictures.get_data_info(i)['ori_id'] for i in range(len(pictures))]
    with torch.no_grad():
        inputs = model.data_preprocessor(pseudo_collate([pictures[0]]), False)['inputs']
        expected = model.grid_features(inputs)[0].numpy()
    rows = np.load(tmp_path / 'grid/test_ims.npy')
    assert rows.shape == (len(pictures), *expected.shape)
    np.testing.assert_allclose(rows[0], expected, atol=1e-5)

    again = call_tool(TOOL, config, *arguments, rc=1)
    assert 'test_ims.npy: exists already; --overwrite replaces it' in again.err
