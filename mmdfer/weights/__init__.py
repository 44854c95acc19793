"""Hold trained weights that are part of the package.

``mmdfer::NAME`` names a file of this folder wherever a checkpoint is given: to the commands, in
``load_from`` and to MMAction2's ``init_recognizer``. Beside each file, ``NAME.provenance.json``
has the command, the seed, the versions and the digest with which the weights were made, and their
measured accuracy.

- ``align_dfer_synth``: Align-DFER of ``configs/align_dfer_synth.py``. It was trained on drawn faces
  and is not for people.
"""
