# RVSE++ Table 3, row 4 (COCO 5K), and Table 10, row 4 (COCO 1K): VSE (FC) with SCT
_base_ = './vse-fc_selhn_1xb128-20e_coco.py'
model = dict(loss=dict(_delete_=True, type='SCTLoss', margin=0.2))
