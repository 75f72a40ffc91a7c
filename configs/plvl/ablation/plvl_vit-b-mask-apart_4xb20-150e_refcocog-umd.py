# PLVL Table 6, row 1: {mask} {center, offset, size}
_base_ = '../plvl_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(head=dict(groups=(('mask',), ('center', 'offset', 'size'))))
