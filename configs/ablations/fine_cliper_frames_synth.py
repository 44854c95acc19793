"""Train FineCLIPER on frames alone, without the other two levels."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(levels=('frames',))
