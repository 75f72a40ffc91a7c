# PLVL Table 7, row 4: EEVG with the language-guided backbone and the collaborative head
_base_ = [
    '../_base_/eevg_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(
    backbone=dict(language_indexes=(2, 5, 8, 11)),
    head=dict(_delete_=True, type='CollaborativeHead', in_channels=768),
)
