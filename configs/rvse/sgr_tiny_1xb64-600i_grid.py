# Train a small SGR of SGRAF, with 12 regions per image, for the curves of
# docs/rvse_selhn_report.md. Not in the paper.
_base_ = [
    './_base_/vse_fc_grid.py',
    '../_base_/datasets/grid_precomp.py',
    '../_base_/schedules/rvse_adamw_600i.py',
    './_base_/runtime_iters.py',
]
model = dict(
    image_encoder=dict(channels=64, pool=None),
    text_encoder=dict(word_channels=32, channels=64, pool=None),
    similarity=dict(
        _delete_=True,
        type='SGRSimilarity',
        channels=64,
        sim_channels=16,
        num_regions=12,
        dropout=0.0,
    ),
)
