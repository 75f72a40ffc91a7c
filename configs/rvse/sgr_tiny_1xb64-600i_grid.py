# SGR of SGRAF with small numbers, 12 regions an image: the curves of docs/rvse_selhn_report.md. Not
# in the paper.
_base_ = './vse-fc_tiny_1xb64-600i_grid.py'
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
