# None, one or several objects: PLVL with a presence head on gRefCOCO. Not in the paper.
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/grefcoco_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
model = dict(type='GeneralizedPLVL', head=dict(type='GeneralizedHead'))
default_hooks = dict(
    checkpoint=dict(save_best=['grounding/grec_pr50', 'grounding/gres_giou'], rule='greater'),
)
