# PLVL Table 7, row 2: EEVG with the collaborative multi-task head
_base_ = [
    '../_base_/eevg_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(head=dict(_delete_=True, type='CollaborativeHead', in_channels=768))
