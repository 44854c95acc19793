"""What the package is and what it needs; the settings of the tools stand in pyproject.toml."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

INSTALL_REQUIRES = [
    # The oldest on which loading a checkpoint executes nothing. torchvision comes with open_clip;
    # take both from the same index, or torchvision's operators are not found.
    'torch>=2.6',
    'numpy',
    # mmcv and mmengine are not here: mmcv, mmcv-lite and forks under other names such as onedl-mmcv
    # each bring their mmengine. Named here, pip would write over the one that a user has.
    'mmaction2==1.2.0',  # the newest; compat.py mends what its wheel lacks
    'importlib_metadata',  # which mmaction2 imports and does not declare
    'open_clip_torch>=3.0',
    # Decodes videos. Before 16 FFmpeg 7 shows broken pictures of HEVC streams cut at any place.
    'av>=16',
    # For the DecordInit of users' own pipelines; there is no wheel for ARM.
    'decord>=0.6; platform_machine == "x86_64" or platform_machine == "AMD64"',
    'filelock',  # a bank's shards are claimed by locks; torch needs it too
    # OpenCV 5 has no Haar cascades. mmaction2 asks for the one, mmcv for the other, without limit.
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
    # For who has no mmcv. MMAction2 refuses 2.2; before 0.10.7 mmengine is untested.
    'lite': ['mmcv-lite>=2.1,<2.2', 'mmengine>=0.10.7'],
    # ruff as in .pre-commit-config.yaml: another release formats otherwise.
    # imageio-ffmpeg brings the ffmpeg program that makes the videos to be read.
    'tests': [
        'pytest>=7',
        'pytest-xdist>=3',
        'ruff==0.17.5',
        'mypy==2.4.1',  # another release finds other errors
        'types-PyYAML',
        'types-openpyxl',
        'types-tqdm',
        'types-tabulate',
        'setuptools>=64',
        'wheel',
        'imageio-ffmpeg>=0.6',
    ],
    'docs': ['sphinx>=8', 'myst-parser>=4', 'pydata-sphinx-theme>=0.16', 'sphinx-copybutton>=0.5'],
}


class BuildWithConfigs(build_py):
    """Puts configs/, tools/ and model-index.yml into the wheel, in OpenMMLab's mmdfer/.mim/.

    An editable install finds them where they are.
    """

    def run(self) -> None:
        """Builds the package, then copies."""
        super().run()
        if self.editable_mode:
            return
        for name in ('configs', 'tools'):
            target = Path(self.build_lib, 'mmdfer', '.mim', name)
            shutil.rmtree(target, ignore_errors=True)  # what an earlier build left
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
        'mmdfer.synthetic.small_clip': ['*.json', '*.gz', '*.safetensors'],
    },
    python_requires='>=3.10',
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    cmdclass={'build_py': BuildWithConfigs},
    entry_points={'console_scripts': ['mmdfer = mmdfer.cli.main:main']},
    zip_safe=False,
)
