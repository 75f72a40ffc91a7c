# PLVL Table 4, row 4: N=9, M=6; global and with language: 3,6,9,13,14,15
_base_ = '../plvl_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(backbone=dict(global_indexes=(2, 5, 8), language_indexes=(2, 5, 8)))
