"""Zero-shot grounders of transformers, with tiny random models, beside transformers itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    BartTokenizerFast,
    BertTokenizerFast,
    CLIPImageProcessor,
    CLIPTokenizerFast,
    Florence2Processor,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Owlv2ImageProcessor,
    Owlv2Processor,
)
from transformers.models.clip.tokenization_clip import bytes_to_unicode

import projects.plvl.register  # noqa: F401
from projects.common.errors import InputError
from projects.common.scenes import write_dataset

ROOT = Path(__file__).parents[2]
LEAVES = sorted((ROOT / 'configs/plvl/zero-shot').glob('*_refcoco.py'))  # one of each family
SETTINGS = {
    'grounding-dino': dict(type='ZeroShotGrounder', template='{}.'),
    'mm-grounding-dino': dict(type='ZeroShotGrounder', template='{}.'),
    'owlv2': dict(type='ZeroShotGrounder'),
    'florence2': dict(type='FlorenceGrounder', max_new_tokens=12),
}
DETECTORS = list(SETTINGS)[:3]
SENTENCE = 'red dog'
SMALL = dict(
    hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
)  # fmt: skip
PARSED = dict(phrase_grounding={}, description_with_bboxes_or_polygons={})


def write_grounding_dino(folder: Path) -> None:
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', 'the', 'red', 'dog', 'left']
    (folder / 'vocab.txt').write_text('\n'.join(words))
    images = GroundingDinoImageProcessor(size=dict(shortest_edge=64, longest_edge=128))
    tokenizer = BertTokenizerFast(str(folder / 'vocab.txt'))
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    config = AutoConfig.for_model(
        folder.name,
        backbone_config=dict(
            model_type='swin', image_size=32, embed_dim=8, depths=[1, 1, 1, 1],
            num_heads=[1, 1, 1, 1], window_size=2, out_indices=[2, 3, 4],
        ),
        text_config=dict(model_type='bert', vocab_size=16, max_position_embeddings=32, **SMALL),
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=12,
        max_text_len=24, num_feature_levels=3,
    )  # fmt: skip
    save_shaken(AutoModelForZeroShotObjectDetection.from_config(config), folder)


def write_letters(folder: Path, first: list[str], end: str = '') -> tuple[str, str]:
    """Write a byte-pair vocabulary without merges: every letter is a token."""
    letters = list(bytes_to_unicode().values())
    tokens = [*first, *letters, *(letter + end for letter in letters if end)]
    (folder / 'vocab.json').write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / 'merges.txt').write_text('#version: 0.2\n')
    return str(folder / 'vocab.json'), str(folder / 'merges.txt')


def write_owlv2(folder: Path) -> None:
    # OWLv2 takes a sentence whose first token is 0 for padding.
    files = write_letters(folder, ['<pad>', '<|startoftext|>', '<|endoftext|>'], '</w>')
    tokenizer = CLIPTokenizerFast(*files, model_max_length=16, pad_token='<pad>')
    images = Owlv2ImageProcessor(size=dict(height=32, width=32))
    Owlv2Processor(images, tokenizer).save_pretrained(folder)
    text = dict(SMALL, vocab_size=600, max_position_embeddings=16)
    config = AutoConfig.for_model(
        'owlv2', text_config=dict(text, bos_token_id=1, eos_token_id=2, pad_token_id=0),
        vision_config=dict(SMALL, image_size=32, patch_size=8), projection_dim=16,
    )  # fmt: skip
    save_shaken(AutoModelForZeroShotObjectDetection.from_config(config), folder)


def write_florence2(folder: Path) -> None:
    files = write_letters(folder, ['<s>', '<pad>', '</s>', '<unk>', '<mask>'])
    tokenizer = BartTokenizerFast(*files, extra_special_tokens=dict(image_token='<image>'))
    tokenizer.add_tokens([f'<loc_{i}>' for i in range(40)])
    images = CLIPImageProcessor(size=dict(height=64, width=64), do_center_crop=False)
    images.image_seq_length = 5  # 2 x 2 cells of 32 pixels and their mean
    Florence2Processor(images, tokenizer, post_processor_config=PARSED).save_pretrained(folder)
    config = AutoConfig.for_model(
        'florence2', image_token_id=tokenizer.image_token_id,
        vision_config=dict(
            depths=[1, 1, 1, 1], embed_dim=[8, 8, 8, 16], num_heads=[1, 1, 1, 1],
            num_groups=[1, 1, 1, 1], window_size=2, projection_dim=16,
        ),
        text_config=dict(
            model_type='bart', vocab_size=len(tokenizer), d_model=16, encoder_layers=1,
            decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=160, bos_token_id=0,
            pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
        ),
    )  # fmt: skip
    save_shaken(AutoModelForImageTextToText.from_config(config), folder)


def save_shaken(model: torch.nn.Module, folder: Path) -> None:
    """Save a model whose scores and boxes differ from one another."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)


@pytest.fixture(scope='module')
def folders(tmp_path_factory) -> dict[str, Path]:
    """A folder of each family, as transformers saves it."""
    root = tmp_path_factory.mktemp('grounders')
    torch.manual_seed(0)
    found = {name: root / name for name in SETTINGS}
    for name, folder in found.items():
        folder.mkdir()
        write = dict(owlv2=write_owlv2, florence2=write_florence2)
        write.get(name, write_grounding_dino)(folder)
    return found


def build(folders: dict[str, Path], name: str, **options) -> torch.nn.Module:
    return MODELS.build(
        dict(SETTINGS[name], **{'pretrained': str(folders[name]), **options})
    ).eval()  # fmt: skip


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ask(model: torch.nn.Module, rgb: np.ndarray, text: str = SENTENCE) -> DetDataSample:
    """The prediction for one image, given as the pipeline packs it: (3, H, W), BGR."""
    sample = DetDataSample(metainfo=dict(text=text, ori_shape=rgb.shape[:2], img_path='a.jpg'))
    packed = torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1].transpose(2, 0, 1)))
    (found,) = model.test_step(dict(inputs=[packed], data_samples=[sample]))
    return found


@pytest.mark.parametrize('name', DETECTORS)
@torch.no_grad()
def test_boxes_are_those_of_transformers(name, folders):
    folder = folders[name]
    processor = AutoProcessor.from_pretrained(folder)
    theirs = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    model = build(folders, name)
    asked = [[SENTENCE]] if name == 'owlv2' else f'{SENTENCE}.'
    for height, width in ((40, 60), (50, 30)):
        rgb = picture(height, width)
        given = processor(images=Image.fromarray(rgb), text=asked, return_tensors='pt')
        outputs = theirs(**given)
        scores = outputs.logits.flatten(2).amax(-1).sigmoid()[0]
        middle = float(scores.quantile(0.6))
        (expected,) = processor.post_process_grounded_object_detection(
            outputs, threshold=middle, target_sizes=[(height, width)]
        )
        order = expected['scores'].argsort(descending=True, stable=True)
        model.threshold = middle
        found = ask(model, rgb, f' {SENTENCE}. ')
        assert found.pred_num_returned == len(order) > 2
        torch.testing.assert_close(found.pred_instances.scores, expected['scores'][order])
        torch.testing.assert_close(found.pred_instances.bboxes, expected['boxes'][order])
        assert not found.pred_cut_off
        # Nothing above the threshold: the best box is the answer, but none is returned.
        model.threshold = 1.1
        best = ask(model, rgb)
        assert best.pred_num_returned == 0 and len(best.pred_instances) == 1
        torch.testing.assert_close(best.pred_instances.bboxes, expected['boxes'][order[:1]])


@torch.no_grad()
def test_florence_writes_what_transformers_writes(folders):
    folder = folders['florence2']
    processor = AutoProcessor.from_pretrained(folder)
    theirs = AutoModelForImageTextToText.from_pretrained(folder).eval()
    task, rgb = '<OPEN_VOCABULARY_DETECTION>', picture(40, 60)
    given = processor(images=Image.fromarray(rgb), text=task + SENTENCE, return_tensors='pt')
    expected = theirs.generate(**given, max_new_tokens=12, num_beams=3, do_sample=False)
    model = build(folders, 'florence2', task=task)
    written = []
    generate = model.model.generate
    model.model.generate = lambda **options: written.append(generate(**options)) or written[0]
    ask(model, rgb)
    assert torch.equal(written[0], expected) and len(expected[0]) > 5


def test_florence_boxes_by_hand(folders):
    """A location is the middle of one of 1,000 bins, in whole pixels."""
    model = build(folders, 'florence2')
    text = '</s><s>red dog<loc_1><loc_2><loc_30><loc_39><loc_0><loc_0><loc_9><loc_19></s>'
    ids = model.processor.tokenizer(text, add_special_tokens=False, return_tensors='pt').input_ids
    model.model.generate = lambda **options: ids
    found = ask(model, picture(200, 400))
    # x: (1.5, 30.5, 0.5, 9.5) * 0.4; y: (2.5, 39.5, 0.5, 19.5) * 0.2
    assert found.pred_instances.bboxes.tolist() == [[0, 0, 12, 7], [0, 0, 3, 3]]
    assert found.pred_instances.scores.tolist() == [1, 1] and found.pred_num_returned == 2
    model.model.generate = lambda **options: ids[:, :3]
    nothing = ask(model, picture(200, 400))
    assert nothing.pred_instances.bboxes.shape == (0, 4) and nothing.pred_num_returned == 0


def test_which_boxes_are_kept(folders):
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 1, 1]])
    scores = torch.tensor([0.5, 0.8, 0.6, 0.1])

    model = build(folders, 'owlv2', threshold=0.4)
    model.ground = lambda image, text: (boxes, scores)

    def kept(nms_iou: float | None = None, max_boxes: int = 9) -> tuple[list[float], int]:
        model.nms_iou, model.max_boxes = nms_iou, max_boxes
        found = ask(model, picture(40, 40))
        return found.pred_instances.scores.tolist(), found.pred_num_returned

    assert kept() == (pytest.approx([0.8, 0.6, 0.5]), 3)
    assert kept(nms_iou=0.85) == (pytest.approx([0.8, 0.6]), 2)  # the first two have an IoU of 0.9
    assert kept(nms_iou=0.95) == (pytest.approx([0.8, 0.6, 0.5]), 3)
    assert kept(max_boxes=1) == (pytest.approx([0.8]), 1)


def test_long_sentences_are_said_to_be_cut_off(folders, log):
    model = build(folders, 'owlv2')  # 16 tokens, of which 14 are letters
    assert not ask(model, picture(40, 40), 'a' * 14).pred_cut_off
    assert not log
    for length in (15, 60):
        assert ask(model, picture(40, 40), 'b' * length).pred_cut_off
    (line,) = log
    assert 'reads 16 tokens' in line and f'{"b" * 15!r} (17 tokens)' in line
    dino = build(folders, 'grounding-dino')
    assert ask(dino, picture(40, 40), 'red ' * 40).pred_cut_off
    # 160 tokens: 5 of the image, start, end, 'Locate the phrases in the caption: ' and the sentence
    florence = build(folders, 'florence2', max_new_tokens=2)
    room = 160 - 5 - 2 - len('Locate the phrases in the caption: ')
    assert not ask(florence, picture(40, 40), 'a' * room).pred_cut_off
    assert ask(florence, picture(40, 40), 'a' * (room + 1)).pred_cut_off


def test_random_weights_and_a_state_dict(folders):
    """`config=` builds the model of a folder, and loading its state dict gives the same boxes."""
    config = json.loads((folders['owlv2'] / 'config.json').read_text())
    config = {k: config[k] for k in ('model_type', 'text_config', 'vision_config')}
    config['projection_dim'] = 16
    source = dict(pretrained=None, config=config, processor=str(folders['owlv2']))
    random = build(folders, 'owlv2', **source, threshold=0.0)
    trained = build(folders, 'owlv2', threshold=0.0)
    expected = ask(trained, picture(40, 40)).pred_instances.bboxes
    assert not torch.allclose(ask(random, picture(40, 40)).pred_instances.bboxes, expected)
    random.load_state_dict(trained.state_dict())
    torch.testing.assert_close(ask(random, picture(40, 40)).pred_instances.bboxes, expected)


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('owlv2', dict(template='a photo'), "template='a photo', expected one '{}'"),
        ('owlv2', dict(max_boxes=0), 'max_boxes=0, expected at least 1'),
        ('owlv2', dict(config=dict(model_type='owlv2')), 'expected either pretrained or config'),
        ('owlv2', dict(pretrained='some/where'), r'neither a folder nor a hub id .* --local-dir'),
        ('owlv2', dict(pretrained='.'), 'not a model of transformers that can be loaded'),
        ('owlv2', dict(processor='.'), "model.processor='.': its processor cannot be read"),
        ('florence2', dict(task='<OD>'), "task='<OD>', expected one of"),
    ],
)  # fmt: skip
def test_what_is_refused(name, options, message, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # '.' is an empty folder
    with pytest.raises(InputError, match=message) as caught:
        build(folders, name, **options)
    assert '\n' not in str(caught.value)


def test_images_must_not_be_resized_nor_the_model_trained(folders):
    model = build(folders, 'owlv2')
    sample = DetDataSample(metainfo=dict(text='dog', ori_shape=(50, 40), img_path='a.jpg'))
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    with pytest.raises(InputError, match=r'a.jpg: the pipeline resizes .* \(50, 40\) to \(40, 40'):
        model.predict([image], [sample])
    with pytest.raises(InputError, match="mode='loss', expected 'predict'"):
        model([image], [sample], mode='loss')
    folder = folders['florence2']
    settings = json.loads((folder / 'processor_config.json').read_text())
    settings['post_processor_config'] = None
    bare = folder.with_name('bare')
    bare.mkdir()
    for file in folder.iterdir():
        (bare / file.name).symlink_to(file)
    (bare / 'processor_config.json').unlink()
    (bare / 'processor_config.json').write_text(json.dumps(settings))
    with pytest.raises(InputError, match="post_processor_config .* has no 'phrase_grounding'"):
        build(folders, 'florence2', processor=str(bare))


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('scenes')
    write_dataset(root, num_train=1, num_val=1, num_test=1, image_size=64, progress=False)
    return root


def test_every_family_has_a_leaf():
    assert len(LEAVES) == 4
    assert all(any(leaf.stem.startswith(name) for leaf in LEAVES) for name in SETTINGS)


@pytest.mark.parametrize('leaf', LEAVES, ids=lambda path: path.stem)
def test_through_the_tools(leaf, folders, scenes, call_tool, tmp_path, monkeypatch):
    """Test, drawings and the page of failures, of the config with a tiny model and scenes."""
    (name,) = [name for name in SETTINGS if leaf.stem.startswith(f'{name}-')]
    monkeypatch.setenv(f'PLVL_{name.replace("-", "_").upper()}', str(folders[name]))
    monkeypatch.chdir(tmp_path)
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{leaf}'\n"
        'test_dataloader = dict(batch_size=3, num_workers=0, persistent_workers=False,\n'
        "    dataset=dict(_delete_=True, type='ReferGroundingDataset', split='test',\n"
        f"    data_root='{scenes}', data_prefix=dict(img='images/'), test_mode=True,\n"
        "    ann_file='scenes/instances.json', split_file='scenes/refs(scenes).p',\n"
        '    pipeline={{_base_.whole_image_pipeline}}))\n'
    )
    options = ('--cfg-options', 'model.max_new_tokens=6') if name == 'florence2' else ()
    call_tool(
        'test.py', config, 'none', '--work-dir', tmp_path / 'work', '--out', 'found.json',
        '--show-dir', 'drawn', *options,
    )  # fmt: skip
    (log,) = (tmp_path / 'work').glob('*/*.log')
    text = log.read_text()
    assert 'the model predicts no masks: res_* is left out' in text
    (scores,) = (tmp_path / 'work').glob('*/*.json')
    metrics = json.loads(scores.read_text())
    assert 'grounding/rec_acc50' in metrics and 'grounding/res_miou' not in metrics
    found = json.loads((tmp_path / 'found.json').read_text())
    assert len(list((tmp_path / 'drawn').glob('*.jpg'))) == len(found) > 2
    done = call_tool(
        'analysis_tools/analyze_grounding.py',
        config,
        'found.json',
        '--out-dir',
        'an',
        '--failures',
        2,
    )
    content = json.loads((tmp_path / 'an/groups.json').read_text())
    assert content['all']['count'] == len(found)  # also the sentences without a box
    assert content['all']['accuracy'] == pytest.approx(metrics['grounding/rec_acc50'])
    ((title, groups),) = content['returned'].items()
    counts = [each['pred_num_returned'] for each in found]
    assert title == 'Kind of sentence' and groups[0]['boxes'] == pytest.approx(np.mean(counts))
    assert sum(group['count'] for group in groups[1:]) == len(found)
    assert 'Boxes returned: Kind of sentence' in done.out
    assert '<caption>Kind of sentence</caption>' in (tmp_path / 'an/index.html').read_text()


def test_models_without_weights_of_their_own_need_a_checkpoint(call_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = ROOT / 'configs/plvl/plvl_tiny_1xb16-3k_scenes.py'
    done = call_tool('test.py', config, 'none', rc=1)
    assert "checkpoint 'none': the config gives PLVL no weights; expected a file" in done.err
