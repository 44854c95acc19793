"""Align-DFER on FERV39k, over CLIP ViT-L/14: as align_dfer_ferv39k.py, which says what is whose.

    python tools/train.py configs/align_dfer_ferv39k_vitl14.py

The paper's figures on FERV39k, WAR / UAR in %: 51.77 / 41.87.
That they belong to ViT-L/14 is said by a survey of its authors (SurveyFER).
Ours: not measured, since nobody here holds the data.
"""

_base_ = ['align_dfer_ferv39k.py']

model = dict(backbone=dict(arch='ViT-L-14-quickgelu'))
