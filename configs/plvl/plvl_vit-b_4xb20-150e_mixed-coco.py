# PLVL Tables 1 and 2, pre-trained setting, step 2: both tasks on RefCOCO, RefCOCO+ and RefCOCOg,
# lambda_det 0.05. PLVL_PRETRAINED: the checkpoint of step 1, if it is elsewhere.
import os

_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/mixed_coco_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
model = dict(head=dict(det_weight=0.05))
load_from = os.environ.get(
    'PLVL_PRETRAINED', 'work_dirs/plvl_vit-b_8xb20-20e_mixed-rec/epoch_20.pth'
)
