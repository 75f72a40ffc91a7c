# PLVL Table 4, row 1: N=12, M=3; global and with language: 13,14,15
_base_ = '../plvl_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(backbone=dict(global_indexes=(), language_indexes=()))
