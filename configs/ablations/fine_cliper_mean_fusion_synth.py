"""Train FineCLIPER with equal weights of all levels."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(fusion='mean')
