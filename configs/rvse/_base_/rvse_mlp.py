# RVSE (MLP): VSE (FC) with a residual MLP for the regions.
_base_ = './vse_fc.py'
model = dict(image_encoder=dict(type='RegionResidualMLP'))
