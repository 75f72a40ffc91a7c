"""Images and sentences in, boxes, masks and files out."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image
from pycocotools import mask as coco_mask

from projects.common.config_text import parse_config_text
from projects.common.text import WordPieceTokenizer
from projects.plvl import GroundingInferencer

NAME = 'plvl_tiny_1xb8-150e_refcoco'
SENTENCES = ['the red circle', 'a small star left of the heart', 'the dog']
SMALL = dict(
    backbone=dict(depth=2, global_indexes=(0, 1), language_indexes=(1,)),
    decoder=dict(num_layers=1),
)


@pytest.fixture(scope='module')
def config(repo_root):
    cfg = Config.fromfile(repo_root / f'configs/plvl/{NAME}.py')
    cfg.merge_from_dict(dict(model=SMALL))
    return cfg


@pytest.fixture(scope='module')
def weights(config, tmp_path_factory):
    """A checkpoint as training leaves it: weights, vocabulary, config."""
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 200))
    path = tmp_path_factory.mktemp('weights') / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=config.pretty_text)), path)
    return path


@pytest.fixture(scope='module')
def inferencer(config, weights):
    return GroundingInferencer(config, weights, device='cpu', show_progress=False)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Two PNG images of noise, 60 x 90 and 70 x 50 pixels."""
    folder = tmp_path_factory.mktemp('pictures')
    rng = np.random.default_rng(0)
    for name, size in (('wide', (60, 90, 3)), ('high', (70, 50, 3))):
        cv2.imwrite(str(folder / f'{name}.png'), rng.integers(0, 255, size, dtype=np.uint8))
    return folder


def close(first, second):
    assert first.keys() == second.keys()
    np.testing.assert_allclose(first['bbox'], second['bbox'], atol=1e-3)
    assert first['score'] == pytest.approx(second['score'], abs=1e-5)
    assert first['sentence'] == second['sentence']
    masks = [coco_mask.decode(entry['mask']) for entry in (first, second)]
    assert (masks[0] != masks[1]).mean() < 0.01


def test_equals_the_model_by_hand(inferencer, pictures):
    """Stretched to 256 x 256 by OpenCV, through the model, back to the image's pixels."""
    image = cv2.imread(str(pictures / 'wide.png'))
    resized = cv2.resize(image, (256, 256), interpolation=cv2.INTER_LINEAR)
    sample = DetDataSample(metainfo=dict(text='the dog', ori_shape=(60, 90)))
    data = dict(inputs=[torch.from_numpy(resized).permute(2, 0, 1)], data_samples=[sample])
    with torch.no_grad():
        (expected,) = inferencer.model.test_step(data)
    result = inferencer(str(pictures / 'wide.png'), 'the dog')
    (prediction,) = result['predictions']
    assert result['visualization'] == []
    assert prediction['image'] == str(pictures / 'wide.png')
    instance = expected.pred_instances
    np.testing.assert_allclose(prediction['bbox'], instance.bboxes[0], atol=1e-3)
    assert prediction['score'] == pytest.approx(instance.scores[0].item(), abs=1e-6)
    mask = coco_mask.decode(prediction['mask'])
    assert mask.shape == (60, 90)
    assert (mask == instance.masks[0].numpy()).all()


def test_kinds_of_pictures(inferencer, pictures):
    """A path, a Path, an array in BGR and a PIL image are the same image."""
    path = pictures / 'wide.png'
    array = cv2.imread(str(path))
    first, *others = (
        inferencer(image, 'the dog')['predictions'][0]
        for image in (str(path), path, array, Image.open(path), Image.open(path).convert('RGBA'))
    )
    for other in others[1:]:
        assert other['image'] is None
    for other in others:
        close({**other, 'image': None}, {**first, 'image': None})


def test_batches_and_pairs(inferencer, pictures):
    """Sentences for one image, one for many, one for each, lists for each: equal to single."""
    paths = [str(pictures / 'wide.png'), str(pictures / 'high.png')]
    single = {
        (path, text): inferencer(path, text)['predictions'][0]
        for path in paths
        for text in SENTENCES
    }

    def check(inputs, sentences, expected, **kwargs):
        predictions = inferencer(inputs, sentences, **kwargs)['predictions']
        assert [(p['image'], p['sentence']) for p in predictions] == expected
        for prediction, key in zip(predictions, expected, strict=True):
            close(prediction, single[key])

    wide, high = paths
    check(wide, SENTENCES, [(wide, text) for text in SENTENCES])
    for size in (1, 2, 5):
        everything = [(path, text) for path in (high, wide) for text in SENTENCES]
        check(str(pictures), SENTENCES, everything, batch_size=size)
        check(paths, SENTENCES[0], [(path, SENTENCES[0]) for path in paths], batch_size=size)
        pairs = list(zip(paths, SENTENCES[:2], strict=True))
        check(paths, SENTENCES[:2], pairs, batch_size=size)
    mixed = [(wide, SENTENCES[0]), (wide, SENTENCES[1]), (high, SENTENCES[2])]
    check(paths, [SENTENCES[:2], SENTENCES[2]], mixed, batch_size=2)


def test_many_sentences_go_in_parts(inferencer, pictures, monkeypatch):
    sizes = []
    step = inferencer.model.test_step
    monkeypatch.setattr(
        inferencer.model, 'test_step', lambda data: sizes.append(len(data['inputs'])) or step(data)
    )
    texts = [SENTENCES[i % 3] for i in range(20)]
    predictions = inferencer(pictures / 'wide.png', texts)['predictions']
    assert [p['sentence'] for p in predictions] == texts
    assert sizes == [16, 4]


def test_files_and_pictures(inferencer, pictures, tmp_path):
    paths = [pictures / 'wide.png', cv2.imread(str(pictures / 'high.png'))]
    result = inferencer(
        paths, [SENTENCES[:2], SENTENCES[2]], out_dir=tmp_path / 'out', return_vis=True
    )
    names = sorted(str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*.*'))
    assert names == [
        'preds/image.json', 'preds/wide.json',
        'vis/image_0.jpg', 'vis/wide_0.jpg', 'vis/wide_1.jpg',
    ]  # fmt: skip
    saved = json.loads((tmp_path / 'out/preds/wide.json').read_text())
    assert saved == json.loads(json.dumps(result['predictions'][:2]))
    assert len(result['visualization']) == 3
    for drawn, name in zip(result['visualization'], ('wide_0', 'wide_1', 'image_0'), strict=True):
        written = cv2.imread(str(tmp_path / f'out/vis/{name}.jpg'))[..., ::-1]
        assert written.shape == drawn.shape
        assert np.abs(written.astype(int) - drawn).mean() < 10  # JPEG
    # A second image of the same name does not take the place of the first.
    other = tmp_path / 'other'
    other.mkdir()
    cv2.imwrite(str(other / 'wide.png'), np.zeros((20, 20, 3), np.uint8))
    inferencer(other / 'wide.png', 'the dog', out_dir=tmp_path / 'out', no_save_vis=True)
    assert json.loads((tmp_path / 'out/preds/wide.json').read_text()) == saved
    assert (tmp_path / 'out/preds/wide_2.json').exists()
    assert not (tmp_path / 'out/vis/wide_2_0.jpg').exists()


def test_datasamples(inferencer, pictures, capsys):
    result = inferencer(
        pictures / 'wide.png', 'the dog', return_datasamples=True, print_result=True
    )
    (sample,) = result['predictions']
    assert isinstance(sample, DetDataSample) and sample.pred_score_map.shape == (16, 16)
    assert json.loads(capsys.readouterr().out)['sentence'] == 'the dog'


def test_config_from_the_checkpoint_and_by_name(inferencer, weights, pictures, config, tmp_path):
    expected = inferencer(pictures / 'wide.png', 'the dog')['predictions'][0]
    alone = GroundingInferencer(weights=weights, device='cpu')
    close(alone(pictures / 'wide.png', 'the dog')['predictions'][0], expected)
    config.dump(tmp_path / 'config.py')
    by_path = GroundingInferencer(tmp_path / 'config.py', weights, device='cpu')
    close(by_path(pictures / 'wide.png', 'the dog')['predictions'][0], expected)
    assert NAME in GroundingInferencer.list_models()
    assert GroundingInferencer.list_models('plvl_tiny_1xb8*') == [NAME]
    # found, but larger
    with pytest.raises(ValueError, match='of PLVL match; the first that does not is'):
        GroundingInferencer(NAME, weights)


@pytest.mark.parametrize(
    ('image', 'sentences', 'message'),
    [
        ('https://example.org/a.jpg', 'x', 'URLs are not read; download the image'),
        ('s3://bucket/a.jpg', 'x', 'URLs are not read'),
        ('none.png', 'x', 'image none.png: no such file'),
        (np.zeros((5, 5), np.uint8), 'x', r'image of shape \(5, 5\)'),
        (np.zeros((5, 5, 3), np.float32), 'x', 'type float32: expected'),
        (3, 'x', 'image of type int: expected a path, bytes, an array or a PIL image'),
        ('wide.png', '', "sentence '': expected words"),
        ('wide.png', [], 'image 0: no sentence'),
        ('wide.png', [3], 'sentence 3: expected words'),
        (['wide.png'] * 3, ['a', 'b'], '2 sentences for 3 images'),
    ],
)
def test_wrong_input(image, sentences, message, inferencer, pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        inferencer(image, sentences)


def test_broken_picture(inferencer, tmp_path):
    path = tmp_path / 'broken.jpg'
    path.write_bytes(b'no image')
    with pytest.raises(ValueError, match='broken.jpg: not readable'):
        inferencer(path, 'x')
    with pytest.raises(ValueError, match='holds no image'):
        (tmp_path / 'empty').mkdir()
        inferencer(tmp_path / 'empty', 'x')


def test_wrong_weights(config, weights, tmp_path):
    state = torch.load(weights, weights_only=True)['state_dict']

    def refused(content, message, model=config):
        torch.save(content, tmp_path / 'bad.pth')
        with pytest.raises(ValueError, match=message):
            GroundingInferencer(model, tmp_path / 'bad.pth', device='cpu')

    fewer = {key: value for key, value in state.items() if key != 'head.stems.0.bn.bias'}
    refused(
        dict(state_dict=fewer), 'first that does not is head.stems.0.bn.bias, which the file lacks'
    )
    names = ('visumodel.x', 'textmodel.bert.x', 'bbox_embed.conv1_ctr.0.bias')
    released = {name: torch.zeros(1) for name in names}
    refused(dict(model=released), 'tools/model_converters/plvl.py')
    bare = {key: value for key, value in state.items() if not key.endswith('_extra_state')}
    refused(bare, 'hold no vocabulary')
    refused(dict(state_dict=state), 'carries no config', model=None)
    code = dict(state_dict=state, meta=dict(cfg='import os\nx = 1'))
    refused(code, 'line 1 is no assignment', model=None)
    with pytest.raises(FileNotFoundError, match='none.pth: no such file'):
        GroundingInferencer(config, 'none.pth')
    with pytest.raises(ValueError, match='URLs are not read; download the checkpoint'):
        GroundingInferencer(config, 'https://example.org/a.pth')
    with pytest.raises(FileNotFoundError, match='nearest: plvl_tiny_1xb8-150e_refcoco'):
        GroundingInferencer('plvl_tiny_1xb8-150e_refcocoo', weights)
    with pytest.raises(ValueError, match='neither a model nor weights'):
        GroundingInferencer()


def test_long_sentences_are_reported(inferencer, pictures, log):
    inferencer(pictures / 'wide.png', ['the dog ' * 9, 'the dog ' * 9 + 'the red'])
    (message,) = [line for line in log if 'cut off' in line]
    assert 'the model reads 18 word pieces' in message and 'the red' in message


def test_config_text_runs_nothing(config):
    """The text of a real config as MMEngine reads it, and nothing but plain values."""
    parsed = parse_config_text(config.pretty_text, 'text')
    assert parsed.to_dict() == Config.fromstring(config.pretty_text, '.py').to_dict()
    for text in (
        'a = open("x")',
        'a = dict(**b)',
        'a.b = 1',
        'print(1)',
        'a = [i for i in b]',
        'a =',
    ):
        with pytest.raises(ValueError, match='text: not a config of plain values'):
            parse_config_text(text, 'text')
