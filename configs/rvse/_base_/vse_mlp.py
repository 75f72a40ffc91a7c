# VSE (MLP): VSE (FC) with an MLP behind the linear layer of the regions.
_base_ = './vse_fc.py'
model = dict(image_encoder=dict(type='RegionFCMLP'))
