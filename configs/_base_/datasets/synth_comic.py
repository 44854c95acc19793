"""Load the second domain of the synthetic benchmark: other people, in the style of a comic.

All other values are those of ``synth.py``. ``docs/synthetic.md`` shows both domains.
"""

_base_ = ['synth.py']

data_root = (__import__('os').environ.get('MMDFER_DATA') or 'data') + '/synth_comic'

train_dataloader = dict(dataset=dict(domain='comic', data_root=data_root))
val_dataloader = dict(dataset=dict(domain='comic', data_root=data_root))
test_dataloader = val_dataloader
