# PLVL Table 7, row 3: EEVG with the language-guided backbone
_base_ = './eevg_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(backbone=dict(language_indexes=(2, 5, 8, 11)))
