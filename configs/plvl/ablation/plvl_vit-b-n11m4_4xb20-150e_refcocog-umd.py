# PLVL Table 4, row 2: N=11, M=4; global and with language: 3,13,14,15
_base_ = '../plvl_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(backbone=dict(global_indexes=(2,), language_indexes=(2,)))
