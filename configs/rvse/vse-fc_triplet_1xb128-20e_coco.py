# RVSE++ Table 3, row 1 (COCO 5K), and Table 10, row 1 (COCO 1K): VSE (FC) with Triplet
_base_ = './vse-fc_selhn_1xb128-20e_coco.py'
model = dict(loss=dict(_delete_=True, type='ITMTripletLoss', margin=0.2))
