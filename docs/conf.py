"""Configure Sphinx: `sphinx-build -W --keep-going -b html docs docs/_build` builds this site."""

from __future__ import annotations

import pkgutil
import runpy
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / 'mmdfer'

project = 'mmdfer'
author = 'the authors of mmdfer'
copyright = author
version = release = runpy.run_path(str(PACKAGE / 'version.py'))['__version__']

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
exclude_patterns = ['_build']

# Markdown. Headings have the anchors that GitHub gives them, so that links work in both places.
myst_heading_anchors = 4
myst_enable_extensions = ['html_image']

# Pages of the API, from the docstrings.
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_inherit_docstrings = False  # the docstrings of torch and MMEngine are on their own sites
add_module_names = False
toc_object_entries_show_parents = 'hide'
default_role = 'code'
highlight_language = 'none'  # of a literal block in a docstring: a command, a drawing or a tree

html_theme = 'pydata_sphinx_theme'
html_title = f'mmdfer {release}'
templates_path = ['_templates']
html_static_path = ['_static']
html_css_files = ['custom.css']
html_sidebars = {'**': ['all_pages.html']}
html_theme_options = {
    'navbar_center': [],
    'secondary_sidebar_items': ['page-toc'],
    'footer_start': ['copyright'],
    'footer_end': ['sphinx-version'],
    'show_prev_next': False,
}
html_show_sourcelink = False
copybutton_prompt_text = r'\$ |>>> '
copybutton_prompt_is_regexp = True


def write_api_pages(app: Sphinx) -> None:
    """Write one page for each sub-package into docs/api, with all of its modules."""
    folder = DOCS / 'api'
    folder.mkdir(exist_ok=True)
    packages = {'mmdfer': ['mmdfer']}
    for module in pkgutil.walk_packages([str(PACKAGE)], 'mmdfer.'):
        package = module.name if module.ispkg else module.name.rpartition('.')[0]
        packages.setdefault(package, [package])
        if not module.ispkg and not module.name.endswith('.__main__'):
            packages[package].append(module.name)
    pages = {f'{name}.rst': _api_page(name, packages[name]) for name in sorted(packages)}
    for name, text in pages.items():
        if not (folder / name).is_file() or (folder / name).read_text(encoding='utf-8') != text:
            (folder / name).write_text(text, encoding='utf-8')
    for page in folder.glob('*.rst'):
        if page.name not in pages:
            page.unlink()


def _api_page(package: str, modules: list[str]) -> str:
    """Return the page of a sub-package: its docstring, then a section for each module."""
    parts = [package, '=' * len(package), '', f'.. automodule:: {package}', '']
    for module in modules[1:]:
        title = module.removeprefix(f'{package}.')
        parts += [title, '-' * len(title), '', f'.. automodule:: {module}', '   :members:']
        parts += ['   :show-inheritance:', '']
    return '\n'.join(parts)


def mark_literal_blocks(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Make the indented blocks of a module's docstring literal, as they are in Markdown.

    They are commands and trees of files, which reStructuredText would otherwise join into one line.
    """
    if what != 'module':
        return
    for number in range(len(lines) - 1, 1, -1):
        before = [line for line in lines[:number] if line.strip()]
        starts = lines[number].startswith('    ') and not lines[number - 1].strip()
        if starts and before and not before[-1].startswith(' ') and not before[-1].endswith('::'):
            lines[number:number] = ['::', '']


def setup(app: Sphinx) -> None:
    """Connect the functions above to the events of Sphinx."""
    app.connect('builder-inited', write_api_pages)
    app.connect('autodoc-process-docstring', mark_literal_blocks)
