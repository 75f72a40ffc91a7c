# PLVL Table 4, row 4, its index list alone: language in 3,6,9,13,14,15;
# block 12 stays global, as the released code has them
_base_ = '../plvl_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(backbone=dict(language_indexes=(2, 5, 8)))
