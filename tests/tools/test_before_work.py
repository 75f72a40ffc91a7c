"""Tools check their arguments and the place of their output before they start to work."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

CONFIG = 'configs/rvse/rvse_tiny_1xb40-60e_coco-sample.py'
# A file of this name lies where a folder would be needed.
PLACE = 'file/out'
ABSENT = 'absent'  # what is read before a model is would be missed otherwise
TOOLS = [
    ('infer.py', 'grounding', ABSENT, 'a dog', '--weights', ABSENT, '--out-dir', PLACE),
    ('infer.py', 'weak', ABSENT, '--weights', ABSENT, '--out-dir', PLACE),
    ('infer.py', 'search-and-ground', 'a dog', '--search-weights', ABSENT, '--out-dir', PLACE),
    ('infer.py', 'retrieval', 'search', 'a dog', '--weights', ABSENT, '--out', PLACE),
    ('train.py', 'config.py', '--work-dir', PLACE),
    ('test.py', 'config.py', ABSENT, '--out', f'{PLACE}.json'),
    ('test.py', 'hook.py', ABSENT, '--show-dir', PLACE),
    ('test.py', 'config.py', 'weights.pth', '--work-dir', PLACE),
    ('preflight.py', 'config.py', '--table', PLACE),
    ('deployment/export_onnx.py', ABSENT, ABSENT, f'{PLACE}.onnx'),
    ('misc/publish_model.py', ABSENT, '--out', PLACE),
    ('misc/generate_proposals.py', 'images', PLACE),
    ('misc/precompute_cues.py', 'images', ABSENT, PLACE),
    ('misc/export_pseudo_labels.py', ABSENT, ABSENT, PLACE),
    ('model_converters/pdsl.py', ABSENT, PLACE),
    ('model_converters/plvl.py', ABSENT, PLACE),
    ('model_converters/rvse.py', ABSENT, ABSENT, PLACE),
    ('model_converters/vitdet.py', ABSENT, PLACE),
    ('analysis_tools/analyze_grounding.py', ABSENT, ABSENT, '--out-dir', PLACE),
    ('analysis_tools/browse_dataset.py', ABSENT, '--out-dir', PLACE),
    ('analysis_tools/ensemble_matching.py', ABSENT, '--out', PLACE),
    ('analysis_tools/matching_curves.py', 'train', 'features', '--out', PLACE),
    ('analysis_tools/pdsl_ablation.py', 'train', 'scenes', '--out', PLACE),
    ('dataset_converters/grounding.py', ABSENT, '--from', 'jsonl', '--to', 'seqtr', '--out', PLACE),
    ('dataset_converters/itm.py', 'vocab', ABSENT, '--out', PLACE),
    ('dataset_converters/itm.py', 'precomp', ABSENT, '--tsv', ABSENT, '--out', PLACE),
    ('dataset_converters/itm_caption_sets.py', 'captions.txt', '--out', PLACE),
    ('dataset_converters/itm_features.py', f'ROOT/{CONFIG}', '--out', PLACE),
    ('dataset_converters/proposals.py', ABSENT, PLACE),
]


@pytest.fixture
def field(tmp_path, monkeypatch):
    """A folder with the little that some tools look at before their output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('a file')
    for name in ('images', 'features', 'scenes/proposals'):
        (tmp_path / name).mkdir(parents=True)
    Image.new('RGB', (9, 9)).save('images/a.png')
    for name in ('features/train_ims.npy', 'captions.txt', 'weights.pth'):
        (tmp_path / name).touch()
    sections = (f'{kind}_{part} = dict()\n' for kind in ('train', 'test')
                for part in ('cfg', 'dataloader'))  # fmt: skip
    text = ''.join(sections) + 'optim_wrapper = dict()\ntest_evaluator = dict()\n'
    (tmp_path / 'config.py').write_text(text)
    hook = "default_hooks = dict(visualization=dict(type='PredictionVisualizationHook'))\n"
    (tmp_path / 'hook.py').write_text(text + hook)
    return tmp_path


@pytest.mark.parametrize('command', TOOLS, ids=lambda command: ' '.join(command[:2]))
def test_the_place_of_the_output(command, field, call_tool, repo_root):
    """Nothing that is absent is missed before, so nothing is read or computed in vain."""
    script, *arguments = (part.replace('ROOT', str(repo_root)) for part in command)
    done = call_tool(script, *arguments, rc=1)
    line = done.err.strip().splitlines()[-1]
    assert 'Traceback' not in done.err
    assert 'file/' in line or line.startswith('error: file:'), line
    assert 'cannot be written to (Not a directory)' in line or 'Not a directory' in line


def captions(path, counts: list[int]) -> None:
    """COCO json of images with so many captions each."""
    images = [dict(id=i, file_name=f'{i}.png') for i in range(len(counts))]
    texts = [
        dict(id=10 * i + j, image_id=i, caption='a dog')
        for i, n in enumerate(counts)
        for j in range(n)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(images=images, annotations=texts)))


def test_all_splits_of_features_are_checked_first(field, call_tool, repo_root, monkeypatch):
    """The last split does not fit the layout, so the features of the first are not computed."""
    monkeypatch.setenv('COCO_SAMPLE_ROOT', str(field))
    for split, counts in (('train', [2, 2]), ('val', [2, 1])):
        captions(field / f'annotations/captions_{split}2017.json', counts)
        (field / f'{split}2017').mkdir()
        for i in range(2):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(f'{split}2017/{i}.png')
    tool = ('dataset_converters/itm_features.py', repo_root / CONFIG, '--out', 'grid')
    done = call_tool(*tool, '--splits', 'train', 'test', rc=1)
    assert 'captions_val2017.json: images with 1 to 2 captions' in done.err
    assert not (field / 'grid').exists()


@pytest.mark.parametrize(
    'arguments',
    [
        ('analysis_tools/matching_curves.py', 'train', 'features', '--out', 'o', '--iters', '0'),
        ('analysis_tools/pdsl_ablation.py', 'train', 'scenes', '--out', 'o', '--iterations', '5'),
        ('analysis_tools/browse_dataset.py', ABSENT, '--num', '0'),
        ('dataset_converters/proposals.py', ABSENT, 'o', '--max-proposals', '0'),
    ],
    ids=lambda arguments: arguments[0],
)
def test_numbers_that_cannot_be_meant(arguments, field, call_tool):
    line = call_tool(*arguments, rc=1).err.strip()
    assert '\n' not in line and 'expected at least' in line
