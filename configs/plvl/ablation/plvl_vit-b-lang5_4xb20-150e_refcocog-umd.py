# PLVL Table 4, row 3, its index list alone: language in 3,6,13,14,15;
# blocks 9 and 12 stay global, as the released code has them
_base_ = '../plvl_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(backbone=dict(language_indexes=(2, 5)))
