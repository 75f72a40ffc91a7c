"""PDSL learns from the tags of real images, and every metric runs on others."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import TestLoop
from pycocotools import mask as coco_mask

from projects.common.cli.run import build_runner, prepare
from projects.pdsl.datasets import VOCInstanceDataset, VOCTagDataset
from projects.pdsl.evaluation import InstanceCocoMetric
from projects.pdsl.proposals import generate_proposals
from projects.pdsl.proposals.images import list_images

CONFIG = 'configs/pdsl/pdsl_tiny_1xb4-500_voc12.py'
MAIN, SEGMENTATION = 'VOC2012/ImageSets/Main/{}.txt', 'VOC2012/ImageSets/Segmentation/{}.txt'


@pytest.fixture
def devkit(shared_data):
    return shared_data / 'voc_sample/VOCdevkit'


def instances(devkit, split='val', **kwargs):
    return VOCInstanceDataset(
        data_root=str(devkit),
        data_prefix=dict(sub_data_root='VOC2012/'),
        ann_file=SEGMENTATION.format(split),
        test_mode=True,
        pipeline=[],
        **kwargs,
    )


def test_masks_of_voc(devkit):
    """Boxes come from the XML files and masks from the PNGs: they must fit together."""
    dataset = instances(devkit)
    assert len(dataset) == 24
    count = 0
    for index in range(len(dataset)):
        sample = dataset.get_data_info(index)
        assert sample['instances']
        for each in sample['instances']:
            mask = coco_mask.decode(each['mask']).astype(bool)
            assert mask.shape == (sample['height'], sample['width'])
            ys, xs = np.nonzero(mask)
            tight = np.array([xs.min(), ys.min(), xs.max(), ys.max()])
            assert np.abs(tight - each['bbox']).max() <= 25, sample['img_id']
            count += 1
    assert count > 60
    assert any(
        each['ignore_flag'] for i in range(24) for each in dataset.get_data_info(i)['instances']
    )


def test_masks_set_the_sizes_of_objects(devkit, tmp_path):
    """Boxes are larger than what they hold: 63 objects of 216 would be of another size class."""
    metric = InstanceCocoMetric(metric='segm')
    changed = count = 0
    for split in ('train', 'val'):
        dataset = instances(devkit, split)
        metric.dataset_meta = dataset.metainfo
        pictures = [dataset.get_data_info(i) for i in range(len(dataset))]
        truth = [
            dict(img_id=p['img_id'], height=p['height'], width=p['width'], anns=p['instances'])
            for p in pictures
        ]
        written = json.loads(Path(metric.gt_to_coco_json(truth, str(tmp_path / split))).read_text())
        for ann in written['annotations']:
            pixels = coco_mask.decode(ann['segmentation']).sum()
            assert ann['area'] == pixels
            changed += np.digitize(np.prod(ann['bbox'][2:]), (32**2, 96**2)) != np.digitize(
                pixels, (32**2, 96**2)
            )
            count += 1
    assert (changed, count) == (63, 216)


def test_a_second_image_set_is_left_out(devkit):
    both = VOCTagDataset(
        data_root=str(devkit / 'VOC2012'),
        ann_file='ImageSets/Main/trainval.txt',
        exclude='ImageSets/Segmentation/val.txt',
        pipeline=[],
    )
    train = VOCTagDataset(
        data_root=str(devkit / 'VOC2012'), ann_file='ImageSets/Main/train.txt', pipeline=[]
    )
    names = [{data.get_data_info(i)['img_id'] for i in range(len(data))} for data in (both, train)]
    assert names[0] == names[1] and len(names[0]) == 36
    boxes = VOCInstanceDataset(
        data_root=str(devkit),
        data_prefix=dict(sub_data_root='VOC2012/'),
        ann_file=MAIN.format('trainval'),
        exclude=SEGMENTATION.format('val'),
        mask_subdir=None,
        test_mode=True,
        pipeline=[],
    )
    assert {boxes.get_data_info(i)['img_id'] for i in range(len(boxes))} == names[0]
    assert 'mask' not in boxes.get_data_info(0)['instances'][0]


def test_masks_that_do_not_fit(devkit, tmp_path):
    small = tmp_path / 'VOC2012'
    (small / 'ImageSets').mkdir(parents=True)
    for name in ('JPEGImages', 'Annotations'):
        (small / name).symlink_to(devkit / 'VOC2012' / name)
    first = (devkit / 'VOC2012/ImageSets/Segmentation/val.txt').read_text().split()[0]
    (small / 'ImageSets/one.txt').write_text(f'{first}\n')
    (small / 'SegmentationObject').mkdir()
    mask = small / f'SegmentationObject/{first}.png'
    picture = cv2.imread(str(small / f'JPEGImages/{first}.jpg'))
    arguments = dict(
        data_root=str(tmp_path),
        data_prefix=dict(sub_data_root='VOC2012/'),
        ann_file='VOC2012/ImageSets/one.txt',
        test_mode=True,
        pipeline=[],
    )
    for values, words in (
        (np.zeros((8, 8), np.uint8), r'\(8, 8\) pixels, its image has'),
        (np.full(picture.shape[:2], 99, np.uint8), 'value 99, but the XML file has'),
    ):
        cv2.imwrite(str(mask), values)
        with pytest.raises(ValueError, match=words):
            VOCInstanceDataset(**arguments)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_learns_tags_of_real_pictures(devkit, repo_root, tmp_path, monkeypatch):
    """36 images with their tags; the 24 others through every metric; images drawn."""
    monkeypatch.chdir(repo_root)
    store = tmp_path / 'proposals'
    generate_proposals(
        list_images(devkit / 'VOC2012/JPEGImages'), store, max_proposals=300, max_side=300
    )
    monkeypatch.setenv('DATA_ROOT', f'{devkit.parent}/')
    monkeypatch.setenv('PDSL_PROPOSALS', str(store))
    cfg = Config.fromfile(CONFIG)
    cfg.randomness.seed = 0
    prepare(cfg, CONFIG, launcher='none', work_dir=str(tmp_path / 'work'))
    runner = build_runner(cfg)
    assert len(runner.train_dataloader.dataset) == 36
    runner.train()

    metrics = runner.test()
    expected = ['weak/tag_map', 'voc12/mAP', 'voc07/mAP']
    expected += [f'coco/segm_mAP_{each}' for each in (25, 50, 70, 75)] + ['coco/bbox_mAP_50']
    assert all(0 <= metrics[name] <= 100 for name in expected)

    loader = cfg.test_dataloader
    loader.dataset.ann_file = SEGMENTATION.format('train')
    evaluator = [dict(type='TagMetric'), dict(type='CorLocMetric')]
    on_training = TestLoop(runner, loader, evaluator).run()
    print(json.dumps(dict(val=metrics, train=on_training), indent=1))
    assert on_training['weak/tag_map'] >= 90
    assert 0 <= on_training['weak/corloc'] <= 100

    runner.model.eval()
    dataset = runner.test_dataloader.dataset
    packed = dataset[0]
    batch = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
    sample = runner.model.test_step(batch)[0]
    image = cv2.cvtColor(cv2.imread(sample.img_path), cv2.COLOR_BGR2RGB)
    drawn = runner.visualizer.draw(image, sample, draw_gt=False, pred_score_thr=0.0)
    assert drawn.shape[2] == 3 and (drawn.shape != image.shape or (drawn != image).any())
