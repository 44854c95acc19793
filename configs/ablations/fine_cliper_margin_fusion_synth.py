"""Train FineCLIPER with weights from how decided each level is on a clip."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(fusion='margin')
