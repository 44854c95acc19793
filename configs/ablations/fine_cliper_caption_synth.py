"""Train FineCLIPER on captions alone, with LoRA in the text tower as the only trained part."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(backbone=dict(adapter=None), neck=None, levels=('caption',))
