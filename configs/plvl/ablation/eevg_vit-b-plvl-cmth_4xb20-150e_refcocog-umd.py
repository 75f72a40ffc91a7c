# PLVL Table 7, row 4: EEVG with the language-guided backbone and the collaborative head
_base_ = './eevg_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(
    backbone=dict(language_indexes=(2, 5, 8, 11)),
    head=dict(_delete_=True, type='CollaborativeHead', in_channels=768),
)
