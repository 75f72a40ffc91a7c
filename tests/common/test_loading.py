"""What fits of a checkpoint: names, shapes, declared exceptions, meaning and other layouts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.common.weights.layouts import (
    known_layouts,
    names_in,
    recognise,
)
from projects.common.weights.loading import (
    CheckedPretrainedInit,
    check_torch_loading,
    load_weights,
)
from projects.common.weights.matching import match_weights, weights_in
from projects.common.weights.semantics import check_semantics


class Net(BaseModule):
    """A backbone with something optional, a head and a batch norm."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
        self.extra = nn.Linear(4, 4)
        self.head = nn.Linear(4, classes)
        self.optional_in_pretrained = {r'extra\.': 'the extra part'}
        self.optional_in_fine_tuning = {r'head\.': 'the head'}


def state(net: nn.Module, *without: str) -> dict:
    return {
        k: torch.randn_like(v) if v.is_floating_point() else v
        for k, v in net.state_dict().items()
        if not k.startswith(without)
    }


def test_all_of_it_fits(log) -> None:
    net, weights = Net(), state(Net())
    match = load_weights(net, dict(state_dict=weights), 'a.pth')
    assert match.fits and len(match.matched) == match.expected == 10  # and a counter
    assert all(torch.equal(net.state_dict()[k], v) for k, v in weights.items())
    assert log == ['a.pth: 10 of 10 tensors of Net loaded']


@pytest.mark.parametrize('entry', ['state_dict', 'model', None])
def test_where_weights_are_found(entry) -> None:
    weights = {f'module.{k}': v for k, v in state(Net()).items()}
    content = weights if entry is None else {entry: weights, 'epoch': 3}
    assert weights_in(content).keys() == Net().state_dict().keys()
    load_weights(Net(), content, 'a.pth')


def test_counters_and_vocabularies_are_no_weights() -> None:
    weights = {k: v for k, v in state(Net()).items() if 'num_batches' not in k}
    assert load_weights(Net(), weights, 'a.pth').fits


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda w: w.pop('body.0.bias'), ('9 of 10', 'body.0.bias, which the file lacks')),
        (
            lambda w: w.update({'body.0.weight': torch.ones(5, 2)}),
            ('9 of 10', 'body.0.weight, which is (5, 2) in the file and (4, 2) in the model'),
        ),
        (
            lambda w: w.update({'body.7.weight': torch.ones(5)}),
            ('10 of 10', 'body.7.weight, which the model lacks'),
        ),
    ],
)
def test_what_does_not_fit_is_named(change, words) -> None:
    weights = state(Net())
    change(weights)
    for purpose in (None, 'pretrained', 'fine-tuning'):
        with pytest.raises(ValueError) as error:
            load_weights(Net(), weights, 'a.pth', purpose)
        message = str(error.value)
        assert '\n' not in message and message.startswith('checkpoint a.pth: ')
        for word in words:
            assert word in message


def test_declared_exceptions_count_for_their_purpose_alone(log) -> None:
    lacking = {'pretrained': 'extra.', 'fine-tuning': 'head.'}
    for purpose, part in lacking.items():
        weights = state(Net(), part)
        match = load_weights(Net(), weights, 'a.pth', purpose)
        assert sum(map(len, match.excused.values())) == 2
        for other in (None, *lacking.keys() - {purpose}):
            with pytest.raises(ValueError, match=f'8 of 10.*{part}weight, which the file lacks'):
                load_weights(Net(), weights, 'a.pth', other)
    assert '2 by design not: the extra part' in log[0]
    assert '2 by design not: the head' in log[1]
    assert not any(word in line.lower() for line in log for word in ('error', 'warn', 'mismatch'))


def test_another_head_in_fine_tuning(log) -> None:
    """A new number of classes: the file's head is left, ours keeps its initialisation."""
    net, weights = Net(classes=5), state(Net())
    before = net.head.weight.clone()
    load_weights(net, weights, 'a.pth', 'fine-tuning')
    assert torch.equal(net.head.weight, before)
    assert torch.equal(net.body[0].weight, weights['body.0.weight'])
    with pytest.raises(ValueError, match='head.weight, which is .3, 4. in the file'):
        load_weights(Net(classes=5), weights, 'a.pth')


def test_a_classifier_behind_a_pretrained_backbone_is_left_aside(log) -> None:
    weights = {**state(Net()), 'fc.weight': torch.ones(2), 'fc.bias': torch.ones(2)}
    assert load_weights(Net(), weights, 'a.pth', 'pretrained').fits
    assert '2 by design not: fc of the file' in log[0]
    for purpose in (None, 'fine-tuning'):
        with pytest.raises(ValueError, match='fc.weight, which the model lacks'):
            load_weights(Net(), weights, 'a.pth', purpose)


def test_allow_partial_lists_what_it_leaves(log) -> None:
    weights = state(Net(), 'extra.')
    weights['body.0.weight'] = torch.ones(5, 2)
    weights['odd'] = torch.ones(1)
    load_weights(Net(), weights, 'a.pth', 'fine-tuning', allow_partial=True)
    text = '\n'.join(log)
    for words in ('7 of 10', 'extra.weight, extra.bias', 'body.0.weight', 'not used: odd'):
        assert words in text
    with pytest.raises(ValueError, match='0 of 10 tensors of Net match.*first tensor is odd'):
        load_weights(Net(), dict(odd=torch.ones(1)), 'a.pth', allow_partial=True)


def test_a_module_that_renames_what_it_saved_before() -> None:
    class Renamed(Net):
        def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
            for key in [k for k in state_dict if k.startswith(f'{prefix}old.')]:
                state_dict[key.replace('old.', 'extra.')] = state_dict.pop(key)
            super()._load_from_state_dict(state_dict, prefix, *args)

    weights = {k.replace('extra.', 'old.'): v for k, v in state(Net()).items()}
    with pytest.raises(ValueError, match='extra.weight'):
        load_weights(Net(), weights, 'a.pth')
    net = Renamed()
    assert load_weights(net, weights, 'a.pth').fits
    assert torch.equal(net.extra.weight, weights['old.weight'])


# -------------------------------------------------------------------------------- pretrained


@pytest.fixture
def save(tmp_path: Path):
    def write(content, name: str = 'a.pth') -> str:
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return write


def test_pretrained_with_a_prefix(save, log) -> None:
    weights = state(Net(), 'extra.')
    path = save(dict(state_dict={f'backbone.{k}': v for k, v in weights.items()}))
    net = Net()
    CheckedPretrainedInit(path, prefix='backbone.')(net)
    assert torch.equal(net.head.weight, weights['head.weight'])
    with pytest.raises(ValueError, match="set prefix='backbone.' in the init_cfg"):
        CheckedPretrainedInit(path)(Net())
    with pytest.raises(ValueError, match="0 of 10.*none of its 9 names begins with 'neck.'"):
        CheckedPretrainedInit(path, prefix='neck')(Net())


def test_a_module_that_reads_its_checkpoint_itself() -> None:
    net, weights = Net(), state(Net(), 'extra.')
    with check_torch_loading(net, 'swin.pth'):
        net.load_state_dict(weights, False)
        weights.pop('body.0.bias')
        with pytest.raises(ValueError, match=r'swin.pth: 7 of 10.*body.0.bias'):
            net.load_state_dict(weights, False)
    net.load_state_dict(weights, False)  # PyTorch's own again


def test_swin_and_resnet_in_place_of_vitdet(save, log) -> None:
    """mmdet's Swin loads with strict=False inside of its own initialisation."""
    swin = ConfigDict(type='mmdet.SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1),
                num_heads=(1, 1, 2, 2), convert_weights=False)  # fmt: skip
    source = MODELS.build(swin).state_dict()
    path = save(dict(state_dict={f'backbone.{k}': v for k, v in source.items()}))
    swin['init_cfg'] = dict(type='Pretrained', checkpoint=path)
    part = dict(type='LanguageFreeBackbone', backbone=swin)
    MODELS.build(part).init_weights()
    other = {k: v for k, v in source.items() if not k.startswith('stages.0')}
    save(dict(state_dict={f'backbone.{k}': v for k, v in other.items()}))
    with pytest.raises(ValueError, match=r'a.pth: \d+ of \d+ tensors of SwinTransformer match'):
        MODELS.build(part).init_weights()


# ----------------------------------------------------------------------------------- layouts


def keys(shared_reference: Path, name: str) -> list[str]:
    lines = (shared_reference / 'keys' / f'{name}.txt').read_text().splitlines()
    return [line.split('\t')[0] for line in lines if line and not line.startswith('#')]


@pytest.mark.parametrize(
    ('name', 'tool', 'words'),
    [
        ('plvl_checkpoint', 'plvl', 'released PLVL'),
        ('vitdet_backbone_detectron2', 'vitdet', 'ViTDet'),
        ('resnet_ws18_imagenet_pkl', 'pdsl', 'Caffe2'),
        ('resnet_ws101_imagenet_pth', 'pdsl', 'ImageNet'),
        ('rvse_bert_f30k', 'rvse', 'RVSE++'),
        ('scan_f30k', 'rvse', 'SCAN'),
        ('sgr_f30k', 'rvse', 'SGRAF'),
    ],
)
def test_layouts_are_recognised(shared_reference, name, tool, words) -> None:
    tensors = {key: torch.zeros(1) for key in keys(shared_reference, name)}
    content: dict = dict(model=tensors)
    if name.endswith('f30k'):  # a list of state dicts
        parts: list[dict] = [{}, {}, {}]
        for key, value in tensors.items():
            parts[int(key[0])][key[2:]] = value
        content = dict(model=[part for part in parts if part])
    layout = recognise(content)
    assert layout.tool == f'tools/model_converters/{tool}.py' and words in layout.name
    assert len(names_in(content)) == len(tensors)


def test_released_pdsl_and_eevg_are_told_apart(shared_reference) -> None:
    names = keys(shared_reference, 'resnet_ws18') + keys(shared_reference, 'pdsl_heads')
    assert recognise({key: torch.zeros(1) for key in names}).name == 'a released PDSL checkpoint'
    names = [k for k in keys(shared_reference, 'plvl_checkpoint') if not k.startswith('bbox_embed')]
    layout = recognise({key: torch.zeros(1) for key in names})
    assert 'EEVG' in layout.name and 'no converter' in layout.advice


def test_our_own_weights_have_no_foreign_layout(repo_root) -> None:
    assert recognise(state(Net())) is None
    assert recognise(None) is None and recognise(dict(model=3)) is None
    for layout in known_layouts():
        assert layout.tool is None or layout.tool.startswith('tools/model_converters/')


def test_a_pickle_of_arrays_names_its_converter(tmp_path: Path, shared_reference) -> None:
    path = tmp_path / 'model.pkl'
    arrays = {
        k: np.zeros(1, np.float32) for k in keys(shared_reference, 'resnet_ws18_imagenet_pkl')
    }
    for content in (dict(model=arrays), dict(blobs=arrays), arrays):
        for protocol in (2, 4):
            path.write_bytes(pickle.dumps(content, protocol))
            with pytest.raises(pickle.UnpicklingError, match='model_converters/pdsl.py'):
                load_checkpoint_file(path)
    path.write_bytes(pickle.dumps(dict(x=1)))
    with pytest.raises(pickle.UnpicklingError, match=r'model.pkl: (damaged|not readable)'):
        load_checkpoint_file(path)


# --------------------------------------------------------------------------------- semantics


def head(**changes) -> dict:
    return dict(type='CollaborativeHead', in_channels=512, **changes)


MAIN = (('center', 'mask'), ('offset', 'size'))
SAME_MEANING = [
    (dict(groups=MAIN), dict()),  # the default, written out
    (dict(groups=[list(group) for group in MAIN]), dict(groups=MAIN)),
    (dict(groups=(('center',), ('offset', 'size'))), dict(groups=MAIN)),  # step 1, step 2
    (dict(groups=(('mask',),), group_channels=256), dict(groups=MAIN)),
    (dict(det_weight=0.1), dict(det_weight=0.5)),
]
OTHER_MEANING = [
    (dict(groups=(('mask',), ('center', 'offset', 'size'))), dict(groups=MAIN)),
    (dict(groups=MAIN[::-1]), dict(groups=MAIN)),
    (dict(groups=(('mask',),)), dict(groups=MAIN)),
]


def with_config(model: dict) -> dict:
    return dict(meta=dict(cfg=Config(dict(model=model)).pretty_text))


@pytest.mark.parametrize(('theirs', 'ours'), SAME_MEANING)
def test_the_same_meaning(theirs, ours) -> None:
    check_semantics(
        with_config(dict(head=head(**theirs))), dict(head=head(**ours)), 'mmdet', 'a.pth'
    )


@pytest.mark.parametrize(('theirs', 'ours'), OTHER_MEANING)
def test_groups_with_another_meaning(theirs, ours) -> None:
    with pytest.raises(ValueError) as error:
        check_semantics(
            with_config(dict(head=head(**theirs))), dict(head=head(**ours)), 'mmdet', 'a.pth'
        )
    for words in ('checkpoint a.pth', 'model.head.groups', 'channels of', 'here'):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ('theirs', 'ours', 'where'),
    [
        (
            dict(similarity=dict(type='SCANSimilarity', direction='i2t')),
            dict(similarity=dict(type='SCANSimilarity')),
            "similarity.direction is 'i2t'",
        ),
        (
            dict(similarity=dict(type='SCANSimilarity')),
            dict(similarity=dict(type='BFANSimilarity')),
            'similarity.type',
        ),
        (
            dict(backbone=dict(type='LanguageGuidedViT', cross_heads=4)),
            dict(backbone=dict(type='LanguageGuidedViT')),
            'backbone.cross_heads is 4 in its config, but 8 here',
        ),
        (
            dict(data_preprocessor=dict(type='mmdet.DetDataPreprocessor', bgr_to_rgb=False)),
            dict(data_preprocessor=dict(type='mmdet.DetDataPreprocessor', bgr_to_rgb=True)),
            'data_preprocessor.bgr_to_rgb',
        ),
        (
            dict(text_encoder=dict(type='BERTTextEncoder', lowercase=False)),
            dict(text_encoder=dict(type='BERTTextEncoder')),
            'text_encoder.lowercase',
        ),
    ],
)
def test_other_arguments_with_another_meaning(theirs, ours, where) -> None:
    with pytest.raises(ValueError, match=where):
        check_semantics(with_config(theirs), ours, 'mmdet', 'a.pth')
    check_semantics(with_config(ours), ours, 'mmdet', 'a.pth')


def test_a_config_that_would_run_code_is_not_run(tmp_path: Path, log) -> None:
    proof = tmp_path / 'ran'
    text = f'model = __import__("pathlib").Path({str(proof)!r}).touch()'
    check_semantics(dict(meta=dict(cfg=text)), dict(type='PLVL'), 'mmdet', 'a.pth')
    assert not proof.exists() and 'names and shapes alone were compared' in log[0]
    check_semantics({}, {}, 'mmdet', 'a.pth')  # converted weights have none


# -------------------------------------------------------------------------- the paper's model


def test_a_converted_vitdet_file_lacks_language_by_design(
    repo_root, shared_reference, save, log, monkeypatch
) -> None:
    """And in rows of Table 4 the positions of blocks that are local there."""
    from projects.plvl.released_weights import empty_model

    whole = Config.fromfile(repo_root / 'configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py')
    backbone = empty_model(whole).backbone
    weights = {
        k: torch.empty(v.shape)
        for k, v in backbone.state_dict().items()
        if 'cross_attn' not in k and 'adapter' not in k
    }
    match = match_weights(backbone, weights, 'pretrained')
    assert match.fits and len(match.matched) == 171 and len(match.missing) == 40
    assert not match_weights(backbone, weights).fits
    row = 'configs/plvl/ablation/plvl_vit-b-n12m3_4xb20-150e_refcocog-umd.py'
    local = empty_model(Config.fromfile(repo_root / row)).backbone
    match = match_weights(local, weights, 'pretrained')
    assert match.fits and len(match.misshapen) == 8
    weights['blocks.0.attn.rel_pos_h'] = torch.empty(127, 64)
    assert not match_weights(local, weights, 'pretrained').fits


def test_bert_weights_that_do_not_fit(tmp_path: Path) -> None:
    """transformers fills what is missing at random, with a warning."""
    from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

    small = dict(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                 intermediate_size=8)  # fmt: skip
    part = dict(type='BERTTextEncoder', pretrained=str(tmp_path))
    (tmp_path / 'vocab.txt').write_text('\n'.join(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']))
    BertModel(BertConfig(**small)).save_pretrained(tmp_path)
    MODELS.build(part)
    config = (tmp_path / 'config.json').read_text()
    DistilBertModel(DistilBertConfig(vocab_size=30, dim=8, n_layers=1, n_heads=2, hidden_dim=8)
                    ).save_pretrained(tmp_path)  # fmt: skip
    (tmp_path / 'config.json').write_text(config)
    with pytest.raises(ValueError, match='text_encoder.pretrained=.* of 21 tensors of BERT match'):
        MODELS.build(part)
