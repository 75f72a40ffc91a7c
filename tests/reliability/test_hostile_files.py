"""A file that runs a command when it is unpickled, in every place where one could lie, never does.

The commands that read each place are the ones that people run. What the restricted reader itself
refuses, opcode by opcode, is in tests/common/test_unpickle.py.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import CheckpointLoader

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.config_text import config_of_checkpoint
from projects.common.text import BERTTextEncoder
from projects.common.weights.checkpoint import load_checkpoint_file, use_safe_checkpoint_loading
from projects.common.weights.convert import read_weights
from projects.pdsl import WeakInstanceInferencer
from projects.pdsl.cues import SegmentFileCue
from projects.pdsl.cues.store import MaskStore
from projects.pdsl.proposals import ProposalStore, read_proposals
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer
from projects.rvse.datasets import RegionStore

PLVL = 'plvl_tiny_1xb16-3k_scenes'
PDSL = 'pdsl_tiny_1xb4-600_scenes'
RVSE = 'rvse_tiny_1xb32-3e_scenes'


class Evil:
    """Unpickles as a command that leaves a file behind."""

    def __init__(self, proof: Path) -> None:
        self.command = f'touch {proof}'

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def evil(tmp_path: Path):
    """The object; afterwards its command must not have run."""
    proof = tmp_path / 'ran'
    yield Evil(proof)
    assert not proof.exists()


@pytest.fixture
def loaders():
    before = dict(CheckpointLoader._schemes)
    use_safe_checkpoint_loading()
    yield
    CheckpointLoader._schemes = before


def as_object_array(evil: Evil) -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[:] = evil
    return array


def checkpoint(evil: Evil, place: str) -> dict:
    """What MMEngine writes, with the object in one place."""
    content = {
        'meta': {'epoch': 1, 'iter': 1, 'seed': 0, 'cfg': ''},
        'state_dict': {'w': torch.ones(1)},
        'optimizer': {'state': {0: {}}, 'param_groups': []},
        'param_schedulers': [{}],
        'message_hub': {'log_scalars': {}, 'runtime_info': {}},
        'ema_state_dict': {},
    }
    *path, last = place.split('.')
    node = content
    for key in path:
        node = node[int(key) if key.isdigit() else key]
    node[last] = evil
    return content


def test_the_files_are_hostile(tmp_path: Path) -> None:
    """The check of the check: loaded freely, they do run."""
    torch.save(checkpoint(Evil(tmp_path / 'a'), 'meta.cfg'), tmp_path / 'a.pth')
    torch.load(tmp_path / 'a.pth', weights_only=False)
    np.save(tmp_path / 'b.npy', as_object_array(Evil(tmp_path / 'b')), allow_pickle=True)
    np.load(tmp_path / 'b.npy', allow_pickle=True)
    assert (tmp_path / 'a').exists() and (tmp_path / 'b').exists()


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize(
    'place',
    [
        'meta', 'meta.cfg', 'state_dict', 'state_dict.v', 'optimizer', 'optimizer.state',
        'param_schedulers', 'message_hub', 'message_hub.runtime_info.x', 'ema_state_dict.v', 'more',
    ],
)  # fmt: skip
def test_anywhere_in_a_checkpoint(place: str, legacy: bool, evil, tmp_path, loaders) -> None:
    path = tmp_path / 'evil.pth'
    torch.save(checkpoint(evil, place), path, _use_new_zipfile_serialization=not legacy)
    for read in (
        load_checkpoint_file,
        read_weights,
        lambda p: CheckpointLoader.load_checkpoint(str(p), 'cpu', None),
    ):
        with pytest.raises(pickle.UnpicklingError, match='evil.pth'):
            read(path)


TOOLS = {
    'resume': ('train.py', 'CONFIG', '--resume', 'FILE', '--work-dir', 'DIR'),
    'resume_newest': ('train.py', 'CONFIG', '--resume', '--work-dir', 'HERE'),
    'load_from': ('train.py', 'CONFIG', '--work-dir', 'DIR', '--cfg-options', 'load_from=FILE'),
    'test': ('test.py', 'CONFIG', 'FILE', '--work-dir', 'DIR'),
    'infer_grounding': ('infer.py', 'grounding', 'PICTURE', 'a', '--weights', 'FILE'),
    'infer_weak': ('infer.py', 'weak', 'PICTURE', '--weights', 'FILE'),
    'infer_search': ('infer.py', 'retrieval', 'search', 'a', '--store', 'DIR', '--weights', 'FILE'),
    'convert_plvl': ('model_converters/plvl.py', 'FILE', 'OUT'),
    'convert_rvse': ('model_converters/rvse.py', f'rvse/{RVSE}', 'FILE', 'OUT'),
    'convert_vitdet': ('model_converters/vitdet.py', 'FILE', 'OUT'),
    'onnx': ('deployment/export_onnx.py', f'plvl/{PLVL}', 'FILE', 'ONNX'),
    'pseudo_labels': ('misc/export_pseudo_labels.py', f'pdsl/{PDSL}', 'FILE', 'OUT'),
    'features': ('dataset_converters/itm_features.py', f'rvse/{RVSE}',
                 '--checkpoint', 'FILE', '--out', 'DIR'),
    'proposals': ('dataset_converters/proposals.py', 'PICKLE', 'OUT'),
    'grounding_data': ('dataset_converters/grounding.py', 'FILE', '--to', 'jsonl', '--out', 'OUT'),
}  # fmt: skip


@pytest.mark.parametrize('name', TOOLS)
def test_commands(
    name: str, evil, loaders, poisoned, toy_config, call_tool, repo_root, tmp_path, monkeypatch
) -> None:
    """Each command ends in one line that names the file."""
    monkeypatch.chdir(tmp_path)
    work = tmp_path / 'work'
    work.mkdir()
    file = work / 'epoch_1.pth'
    torch.save(checkpoint(evil, 'meta.more'), file)
    if name == 'grounding_data':
        torch.save([('a.jpg', [1, 2, 3, 4], evil)], file)
    (tmp_path / 'p.pkl').write_bytes(pickle.dumps({'a.jpg': evil}))
    from PIL import Image

    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    places = {
        'CONFIG': toy_config(), 'FILE': file, 'HERE': work, 'DIR': tmp_path / 'new',
        'OUT': tmp_path / 'out', 'PICTURE': tmp_path / 'a.png', 'PICKLE': tmp_path / 'p.pkl',
        'ONNX': tmp_path / 'out.onnx',
    }  # fmt: skip
    script, *arguments = TOOLS[name]
    for i, word in enumerate(arguments):
        if '/' in word and (repo_root / f'configs/{word}.py').is_file():
            word = str(repo_root / f'configs/{word}.py')
        for place, path in places.items():
            if word in (place, f'load_from={place}'):
                word = word.replace(place, str(path))
        arguments[i] = word
    done = call_tool(script, *arguments, rc=1)
    (line,) = [line for line in done.err.splitlines() if 'error:' in line]
    assert ('p.pkl' if name == 'proposals' else 'epoch_1.pth') in line, line
    assert 'system' in line and 'trust' in line, line


@pytest.mark.parametrize(
    'inferencer', [GroundingInferencer, WeakInstanceInferencer, RetrievalInferencer]
)
def test_inferencers(inferencer, evil, tmp_path) -> None:
    torch.save(checkpoint(evil, 'meta.cfg'), tmp_path / 'evil.pth')
    with pytest.raises(pickle.UnpicklingError, match='evil.pth.*system'):
        inferencer(weights=tmp_path / 'evil.pth')


def write_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def refer(folder: Path, evil: Evil) -> None:
    (folder / 'i.json').write_text('{"images": [], "annotations": []}')
    write_pickle(folder / 'refs(me).p', [dict(split='train', ref_id=evil)])
    DATASETS.build(
        dict(type='ReferGroundingDataset', ann_file=f'{folder}/i.json', split='train',
             split_file=f'{folder}/refs(me).p', check_images=False)
    )  # fmt: skip


def transvg(folder: Path, evil: Evil, legacy: bool = False) -> None:
    path = folder / 'a_train.pth'
    torch.save([('a.jpg', [1, 2, 3, 4], evil)], path, _use_new_zipfile_serialization=not legacy)
    DATASETS.build(
        dict(type='TransVGGroundingDataset', ann_file=str(path), check_images=False, pipeline=[])
    )


def pretrained_backbone(folder: Path, evil: Evil) -> None:
    torch.save({'state_dict': {'w': evil}}, folder / 'r.pth')
    init = dict(type='Pretrained', checkpoint=str(folder / 'r.pth'))
    MODELS.build(dict(type='mmdet.ResNet', depth=18, init_cfg=init)).init_weights()


def pretrained_bert(folder: Path, evil: Evil) -> None:
    small = dict(num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8)
    (folder / 'bert').mkdir()
    BERTTextEncoder(bert=small).bert.config.save_pretrained(folder / 'bert')
    torch.save({'embeddings': evil}, folder / 'bert/pytorch_model.bin')
    (folder / 'bert/vocab.txt').write_text('[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n')
    BERTTextEncoder(pretrained=str(folder / 'bert'))


def proposals(folder: Path, evil: Evil, content: Callable[[Evil], dict] = lambda e: {'a': e}):
    write_pickle(folder / 'p.pkl', content(evil))
    list(read_proposals(folder / 'p.pkl'))


def regions(folder: Path, evil: Evil) -> None:
    np.save(folder / 'x_ims.npy', as_object_array(evil), allow_pickle=True)
    RegionStore(str(folder / 'x_ims.npy'))


def proposal_store(folder: Path, evil: Evil) -> None:
    (folder / 'index.json').write_text('{"format": "mmtriad-proposals-1", "names": ["a"]}')
    np.save(folder / 'offsets.npy', as_object_array(evil), allow_pickle=True)
    ProposalStore(folder)


def segments(folder: Path, evil: Evil) -> None:
    np.savez(folder / 'a.npz', masks=as_object_array(evil), allow_pickle=True)
    cue = SegmentFileCue(str(folder))
    cue(np.zeros((4, 4, 3), np.uint8), np.array([[0, 0, 2, 2]]), dict(img_path='a.jpg'))


def config_text(folder: Path, evil: Evil) -> None:
    text = f"model = __import__('os').system({evil.command!r})"
    config_of_checkpoint({'meta': {'cfg': text}}, 'x.pth')


PLACES = {
    'refs': refer,
    'transvg': transvg,
    'transvg_legacy': lambda folder, evil: transvg(folder, evil, legacy=True),
    'pretrained_backbone': pretrained_backbone,
    'pretrained_bert': pretrained_bert,
    'proposals_mmdet': proposals,
    'proposals_detectron': lambda folder, evil: proposals(
        folder, evil, lambda e: dict(boxes=[e], ids=[1], objectness_logits=[e])
    ),
    'weights_pickle': lambda folder, evil: (
        write_pickle(folder / 'w.pkl', {'model': {'a': evil}}), read_weights(folder / 'w.pkl')
    ),
    'regions': regions,
    'proposal_store': proposal_store,
    'segments': segments,
    'config_text': config_text,
}  # fmt: skip


@pytest.mark.parametrize('name', PLACES)
def test_places(name: str, evil, loaders, tmp_path) -> None:
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        PLACES[name](tmp_path, evil)


def test_a_mask_cache_counts_as_absent(evil, tmp_path, log) -> None:
    store = MaskStore(tmp_path, 'x')
    store.path('ab').parent.mkdir(parents=True)
    names = ('boxes', 'sizes', 'windows', 'ends', 'data')
    np.savez(store.path('ab'), **dict.fromkeys(names, as_object_array(evil)))
    assert store.boxes('ab') == set()
    assert 'damaged' in log[0]
