"""Train FineCLIPER with one learned weight for each level."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(fusion='learned')
