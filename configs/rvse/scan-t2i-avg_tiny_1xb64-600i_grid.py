# SCAN t2i AVG with small numbers: the curves of docs/rvse_selhn_report.md. Not in the paper.
_base_ = './vse-fc_tiny_1xb64-600i_grid.py'
model = dict(
    image_encoder=dict(pool=None),
    text_encoder=dict(pool=None),
    similarity=dict(_delete_=True, type='SCANSimilarity', direction='t2i', aggregation='AVG'),
)
