"""The tools on a small PDSL: inference, pseudo labels for a second stage, leaks, kills."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask as coco_mask

from projects.common.build import build_quietly
from projects.common.scenes import write_dataset
from projects.pdsl.proposals import generate_proposals, list_images

ROOT = Path(__file__).parents[2]
CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'heart')
CONFIG = next((ROOT / 'configs/pdsl').glob('pdsl_tiny_*_scenes.py'))
SECOND = ROOT / 'configs/pdsl/second_stage/mask-rcnn_tiny_1xb8-2k_scenes-pseudo.py'
SMALL = {'model.roi_head.num_seeds': 2}
OPTIONS = [f'{key}={value}' for key, value in SMALL.items()]


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    """Scenes of 64 pixels with proposals, as the config expects them."""
    root = tmp_path_factory.mktemp('scenes')
    write_dataset(root, num_train=6, num_val=2, num_test=3, image_size=64, progress=False)
    generate_proposals(list_images(root / 'images'), root / 'proposals', max_proposals=40)
    return root


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(SMALL)
    torch.manual_seed(0)
    model = build_quietly(cfg.model, 'mmdet')
    model.roi_head.bbox_head.init_weights()
    path = tmp_path_factory.mktemp('weights') / 'iter_1.pth'
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


def succeed(tool, *arguments, **env):
    done = tool(*arguments, **env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def test_inference_from_the_shell(tool, checkpoint: Path, scenes: Path, tmp_path: Path) -> None:
    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    for index in range(2):
        image = cv2.imread(str(scenes / f'images/test_{index:06d}.png'))
        cv2.imwrite(str(pictures / f'scene{index}.png'), image)
    done = succeed(
        *(tool, 'infer.py', 'weak', pictures, '--weights', checkpoint, '--device', 'cpu'),
        *('--out-dir', tmp_path / 'out', '--score-thr', '0.1', '--max-proposals', '60'),
    )
    lines = done.stdout.strip().splitlines()
    assert lines[-1] == f'written to {tmp_path / "out"}'
    saved = json.loads((tmp_path / 'out/preds/scene0.json').read_text())
    shown = [line for line in lines if line.startswith('    ')]
    assert shown[0].startswith(f'    {saved["classes"][0]}: box ')
    assert sorted(path.name for path in (tmp_path / 'out/vis').iterdir()) == [
        'scene0.jpg',
        'scene1.jpg',
    ]
    wrong = tool('infer.py', 'weak', pictures, '--weights', checkpoint, '--proposals', tmp_path)
    assert wrong.returncode == 1 and len(wrong.stderr.strip().splitlines()) == 1
    assert 'generate_proposals.py' in wrong.stderr


def test_drawings_of_a_test(
    call_tool, checkpoint: Path, scenes: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv('SCENES_ROOT', str(scenes))
    call_tool(
        *('test.py', CONFIG, checkpoint, '--work-dir', tmp_path, '--show-dir', tmp_path / 'drawn'),
        *('--cfg-options', *OPTIONS),
    )
    drawn = sorted((tmp_path / 'drawn').iterdir())
    assert [path.name for path in drawn] == [f'test_{i:06d}.jpg' for i in range(3)]
    assert cv2.imread(str(drawn[0])).shape[1] == 2 * 480 + 3 * 10  # ground truth and prediction


@pytest.mark.slow
def test_mask_rcnn_trains_on_pseudo_labels(
    tool, checkpoint: Path, scenes: Path, tmp_path: Path
) -> None:
    """Exported from a model's predictions, read by mmdet's data set, trained on and tested."""
    out = scenes / 'annotations/pseudo_train.json'
    done = succeed(
        *(tool, 'misc/export_pseudo_labels.py', CONFIG, checkpoint, out),
        *('--score-thr', '0.5', '--cfg-options', *OPTIONS),
        SCENES_ROOT=str(scenes),
    )
    content = json.loads(out.read_text())
    tags = json.loads((scenes / 'annotations/tags_train.json').read_text())
    names = {category['id']: category['name'] for category in content['categories']}
    assert tuple(names.values()) == CLASSES
    assert [image['file_name'] for image in content['images']] == list(tags)
    for image in content['images']:
        assert (image['height'], image['width']) == (64, 64)
        mine = [a for a in content['annotations'] if a['image_id'] == image['id']]
        # of an untrained model nothing reaches 0.5: the best of each tag that has a mask
        assert {names[a['category_id']] for a in mine} <= set(tags[image['file_name']])
        assert len(mine) == len({a['category_id'] for a in mine})
    assert len(content['annotations']) > 6
    for annotation in content['annotations']:
        mask = coco_mask.decode(annotation['segmentation'])
        assert mask.shape == (64, 64) and mask.sum() == annotation['area'] > 0
        x, y, width, height = annotation['bbox']
        assert 0 <= x < x + width <= 64.01 and 0 <= y < y + height <= 64.01
        assert 0 < annotation['score'] < 0.5
    assert f'{len(content["annotations"])} instances on 6 images' in done.stdout

    before = (scenes / 'annotations/instances_train.json').rename(scenes / 'hidden.json')
    try:  # nothing but the exported file is read
        succeed(
            *(tool, 'train.py', SECOND, '--work-dir', tmp_path / 'second'),
            '--allow-schedule-mismatch',  # two iterations of a warm-up of 100
            *('--cfg-options', 'train_cfg.max_iters=2', 'train_dataloader.batch_size=2'),
            *('train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2'),
            SCENES_ROOT=str(scenes),
        )
    finally:
        before.rename(scenes / 'annotations/instances_train.json')
    (log,) = (tmp_path / 'second').glob('*/vis_data/scalars.json')
    assert 'coco/segm_mAP_50' in log.read_text()
    assert (tmp_path / 'second/iter_2.pth').is_file()


def exported(call_tool, out: Path, config: Path, checkpoint: Path, *arguments) -> dict | None:
    options = ('--cfg-options', *OPTIONS, '--score-thr', '0.02', '--part-size', '2')
    call_tool('misc/export_pseudo_labels.py', config, checkpoint, out, *options, *arguments)
    return json.loads(out.read_text()) if out.is_file() else None


def test_export_by_several_processes_and_after_an_interruption(
    call_tool, checkpoint: Path, scenes: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv('SCENES_ROOT', str(scenes))
    straight = exported(call_tool, tmp_path / 'a.json', CONFIG, checkpoint)
    assert len(straight['images']) == 6 and straight['annotations']
    assert [each['id'] for each in straight['annotations']] == list(
        range(1, len(straight['annotations']) + 1)
    )
    out, parts = tmp_path / 'b.json', tmp_path / 'b.json.parts'
    monkeypatch.setenv('WORLD_SIZE', '2')
    for rank, left in (('1', 1), ('0', 0)):
        monkeypatch.setenv('RANK', rank)
        found = exported(call_tool, out, CONFIG, checkpoint)
        assert (found is None) == bool(left)
        assert len(list(parts.glob('0*.json'))) == left
    assert found == straight and not parts.exists()
    # one process takes over what another began, and does not touch what is there
    out, parts = tmp_path / 'c.json', tmp_path / 'c.json.parts'
    monkeypatch.setenv('RANK', '1')
    assert exported(call_tool, out, CONFIG, checkpoint) is None
    (part,) = parts.glob('0*.json')
    records = json.loads(part.read_text())
    records[0]['annotations'] = []
    part.write_text(json.dumps(records))
    monkeypatch.delenv('RANK')
    monkeypatch.delenv('WORLD_SIZE')
    other = ('misc/export_pseudo_labels.py', CONFIG, checkpoint, out)
    line = call_tool(*other, '--score-thr', '0.5', rc=1).err.strip().splitlines()[-1]
    assert 'b.json' not in line and 'c.json.parts: begun with another' in line
    assert 'score_thr' in line and 'remove it' in line
    resumed = exported(call_tool, out, CONFIG, checkpoint)
    assert resumed['images'] == straight['images']
    edited = resumed['images'][2]['id']  # the first image of part 1
    strip = lambda each: {k: v for k, v in each.items() if k != 'id'}  # noqa: E731
    assert [strip(a) for a in resumed['annotations']] == [
        strip(a) for a in straight['annotations'] if a['image_id'] != edited
    ]
    line = call_tool(*other, rc=1).err.strip().splitlines()[-1]
    assert 'c.json: exists already' in line


def test_export_averages_views(
    call_tool, checkpoint: Path, scenes: Path, tmp_path: Path, monkeypatch
) -> None:
    """With --tta; of two equal views it is what one view gives."""
    monkeypatch.setenv('SCENES_ROOT', str(scenes))
    config = tmp_path / 'views.py'
    config.write_text(f"""
_base_ = '{CONFIG}'
tta_model = dict(type='PDSLTTAModel')
test_pipeline = None
proposals = dict(type='LoadStoredProposals', folder='nowhere', max_proposals=250)
pack = dict(
    type='mmdet.PackDetInputs',
    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
               'flip_direction', 'instances'),
)
resize = dict(type='mmdet.Resize', scale=(128, 128))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), proposals, resize,
    dict(type='ProjectProposals', min_side=0, deduplicate=False), pack]))
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    proposals,
    dict(type='TestTimeAug', transforms=[
        [resize, resize],
        [dict(type='ProjectProposals', min_side=0, deduplicate=False)],
        [dict(type='mmdet.LoadAnnotations', with_bbox=True)],
        [pack]]),
]
""")
    one = exported(call_tool, tmp_path / 'one.json', config, checkpoint)
    two = exported(call_tool, tmp_path / 'two.json', config, checkpoint, '--tta')
    assert one['images'] == two['images'] and len(one['annotations']) == len(two['annotations'])
    for first, second in zip(one['annotations'], two['annotations']):
        assert first['category_id'] == second['category_id']
        assert first['score'] == pytest.approx(second['score'], abs=1e-5)
        assert first['bbox'] == pytest.approx(second['bbox'], abs=0.02)


def test_export_says_what_is_wrong(call_tool, checkpoint: Path, tmp_path: Path) -> None:
    def error(*arguments) -> str:
        lines = call_tool('misc/export_pseudo_labels.py', *arguments, rc=1).err.strip().splitlines()
        return lines[-1]

    out = tmp_path / 'x'
    assert 'its model is no PDSL' in error(SECOND, checkpoint, out)
    wide = ('--cfg-options', 'model.roi_head.mask_head.conv_out_channels=64')
    assert 'misshapen' in error(CONFIG, checkpoint, out, *wide)
    assert not out.exists()
