"""Real images and their captions: a small model fits them, a model of full size reads them."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope

from projects.common.cli.run import build_runner, prepare
from projects.common.text import WordPieceTokenizer

TINY = 'configs/rvse/rvse_tiny_1xb40-60e_coco-sample.py'


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fits_real_captions(shared_data, repo_root, tmp_path, monkeypatch):
    """80 images of COCO with five captions each; the other 20 through the test loop."""
    monkeypatch.chdir(repo_root)
    monkeypatch.setenv('COCO_SAMPLE_ROOT', str(shared_data / 'coco_sample'))
    cfg = Config.fromfile(TINY)
    cfg.randomness.seed = 0
    cfg.log_level = 'WARNING'
    prepare(cfg, TINY, launcher='none', work_dir=str(tmp_path))
    runner = build_runner(cfg)
    runner.train()
    assert runner.val_dataloader.dataset.img_size == 80
    assert runner.val_dataloader.dataset.text_size == 400
    fitted = runner.val_loop.run()
    print(fitted)
    assert fitted['matching/rsum'] >= 550
    assert 0 < runner.test()['matching/rsum'] < fitted['matching/rsum']


@pytest.mark.parametrize('name', ['f30k', 'coco', 'own'])
def test_full_size_on_pictures(name, shared_data, repo_root, tmp_path, monkeypatch):
    """ResNet-50 and BERT-base: the files as each data set has them, a loss, and a prediction."""
    root = shared_data / 'coco_sample'
    found = json.loads((root / 'annotations/captions_train2017.json').read_text())
    names = {image['id']: image['file_name'] for image in found['images'][:2]}
    captions = {key: [] for key in names}
    for entry in found['annotations']:
        if entry['image_id'] in names:
            captions[entry['image_id']].append(entry['caption'].strip())
    assert [len(texts) for texts in captions.values()] == [5, 5]
    if name == 'own':
        monkeypatch.setenv('OWN_ROOT', str(tmp_path))
        (tmp_path / 'images').symlink_to(root / 'train2017')
        lines = [f'{names[key]}\t{text}' for key, texts in captions.items() for text in texts]
        (tmp_path / 'train.txt').write_text('\n'.join(lines))
    else:
        monkeypatch.setenv('DATA_ROOT', str(tmp_path))
        file, folder = dict(
            f30k=('flickr30k/dataset_flickr30k.json', 'flickr30k/flickr30k-images'),
            coco=('coco/dataset_coco.json', 'coco/train2014'),
        )[name]
        (tmp_path / file).parent.mkdir()
        (tmp_path / folder).symlink_to(root / 'train2017')
        images = [
            dict(
                filename=names[key],
                imgid=key,
                split='train',
                sentences=[dict(raw=text) for text in texts],
                **(dict(filepath='train2014') if name == 'coco' else {}),
            )
            for key, texts in captions.items()
        ]
        (tmp_path / file).write_text(json.dumps(dict(images=images)))
    monkeypatch.chdir(repo_root)
    cfg = Config.fromfile(f'configs/rvse/rvsepp-r50_selhn_1xb128-30e_{name}-pictures.py')
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 10
    assert sorted(sample['data_samples'].text for sample in dataset) == sorted(
        sum(captions.values(), [])
    )
    if name == 'own':  # one model does for all
        cfg.model.backbone.init_cfg = None
        model = MODELS.build(cfg.model)
        texts = sum(captions.values(), [])
        model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(texts, 200, lowercase=True))
        batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[5]]), training=True)
        assert batch['inputs'].shape == (2, 3, 256, 256)
        model.train()(**batch, mode='loss')['loss'].backward()
        assert model.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0
        assert model.backbone.layer1[0].conv1.weight.grad is None  # frozen
        with torch.no_grad():
            found = model.eval()(**batch, mode='tensor')
        assert found['image_feat'].shape == found['text_feat'].shape == (2, 1024)
