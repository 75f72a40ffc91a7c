# Train a small VSE (FC) for the curves of docs/rvse_selhn_report.md. Not in the paper.
_base_ = [
    './_base_/vse_fc_grid.py',
    '../_base_/datasets/grid_precomp.py',
    '../_base_/schedules/rvse_adamw_600i.py',
    './_base_/runtime_iters.py',
]
