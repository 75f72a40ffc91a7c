# PLVL Table 7, row 2: EEVG with the collaborative multi-task head
_base_ = './eevg_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(head=dict(_delete_=True, type='CollaborativeHead', in_channels=768))
