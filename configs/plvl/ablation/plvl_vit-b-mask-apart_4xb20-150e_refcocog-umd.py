# PLVL Table 6, row 1: {mask} {center, offset, size}
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(head=dict(groups=(('mask',), ('center', 'offset', 'size'))))
