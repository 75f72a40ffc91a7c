# plvl_150e.py in float16, as the released code trains: needs a GPU.
_base_ = './plvl_150e.py'
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic')
