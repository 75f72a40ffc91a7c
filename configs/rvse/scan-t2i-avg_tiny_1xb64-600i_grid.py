# Train a small SCAN t2i AVG for the curves of docs/rvse_selhn_report.md. Not in the paper.
_base_ = [
    './_base_/vse_fc_grid.py',
    '../_base_/datasets/grid_precomp.py',
    '../_base_/schedules/rvse_adamw_600i.py',
    './_base_/runtime_iters.py',
]
model = dict(
    image_encoder=dict(pool=None),
    text_encoder=dict(pool=None),
    similarity=dict(_delete_=True, type='SCANSimilarity', direction='t2i', aggregation='AVG'),
)
