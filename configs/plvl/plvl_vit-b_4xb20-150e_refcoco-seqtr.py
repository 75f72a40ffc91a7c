# PLVL Tables 1 and 2, traditional setting: RefCOCO in SeqTR's json
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcoco_seqtr_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
