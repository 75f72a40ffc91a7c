# PLVL Tables 1 and 2, traditional setting: RefCOCO in the .pth files of EEVG and PLVL
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcoco_pth_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
