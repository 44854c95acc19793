"""Align-DFER on MAFW, over CLIP ViT-L/14: as align_dfer_mafw.py, which says what is whose.

    python tools/cross_validate.py configs/align_dfer_mafw_vitl14.py

The paper's figures on MAFW, WAR / UAR in %: 53.24 / 42.07, the mean of five folds.
That they belong to ViT-L/14 is said by a survey of its authors (SurveyFER).
Ours: not measured, since nobody here holds the data.
"""

_base_ = ['align_dfer_mafw.py']

model = dict(backbone=dict(arch='ViT-L-14-quickgelu'))
