# PLVL section 3.3, row 1 of Table 5: a 3x3 convolution on the mask branch as on every other; the
# released code has a 1x1 there
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(head=dict(mask_kernel_size=3))
