# Learn where raccoons are from the tags of 134 photographs with them and 80 without:
# docs/real_pictures.md. Not in the paper.
_base_ = [
    './_base_/pdsl_lite0.py',
    '../_base_/datasets/raccoon_tags.py',
    '../_base_/schedules/pdsl_muon_600i.py',
    './_base_/runtime_iters.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)))
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200, save_best='coco/bbox_mAP_50'))
