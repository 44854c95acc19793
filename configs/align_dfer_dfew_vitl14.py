"""Align-DFER on DFEW, over CLIP ViT-L/14: as align_dfer_dfew.py, which says what is whose.

    python tools/cross_validate.py configs/align_dfer_dfew_vitl14.py

The paper's figures on DFEW, WAR / UAR in %: 74.20 / 64.09, the mean of five folds.
That they belong to ViT-L/14 is said by a survey of its authors (SurveyFER).
Ours: not measured, since nobody here holds the data.
"""

_base_ = ['align_dfer_dfew.py']

model = dict(backbone=dict(arch='ViT-L-14-quickgelu'))
