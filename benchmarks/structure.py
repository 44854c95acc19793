"""Measure the structure of the code, and check the direction of its imports.

    python benchmarks/structure.py [ROOT] [--check]

The script prints Markdown tables about the package ``mmdfer`` of a source tree and the folders next
to it. It needs only the standard library, and does not import the code that it reads. With
``--check`` the exit status is 1 if there is an import cycle, or an import that ``LEVELS`` forbids.

How it counts:

- Imports: every import statement, including those inside functions. ``from a import b`` is an
  import of the module ``a.b`` if there is such a module, otherwise of ``a``. Python also runs the
  ``__init__.py`` of the packages around an imported module; this does not count as an import.
- Functions: every ``def`` of the package, including nested ones, from the line of ``def`` to the
  last line, with and without the docstring. The 90th percentile is the smallest length that 90 % of
  the functions do not exceed.
- Code: the lines of ``*.py`` files except blank lines, comments and docstrings.
- Leaf configs: the files of ``configs/`` outside ``_base_``, with all of their lines.
"""

from __future__ import annotations

import argparse
import ast
import io
import math
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

PACKAGE = 'mmdfer'
# The levels from the top to the bottom. A module may import only from the levels below its own, and
# from its own package.
LEVELS = (
    ('__main__',),
    ('cli',),
    ('apis', 'experiments', 'converters'),
    ('engine', 'inference'),
    ('features',),
    ('evaluation',),
    ('datasets', 'models', 'faces'),
    ('synthetic',),
    ('compat', 'levels', 'locks'),
    ('files', 'cpus', 'installed', 'tables', 'weights', 'workers'),
    ('errors', 'version'),
)
FOLDERS = (PACKAGE, 'tools', 'configs', 'tests', 'benchmarks')
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


@dataclass(frozen=True)
class Module:
    """Hold a source file.

    Attributes:
        path: The path of the file.
        name: The dotted name of the module. An ``__init__.py`` has the name of its package.
        source: The text of the file.
    """

    path: Path
    name: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        """Return the syntax tree of the source."""
        return ast.parse(self.source, str(self.path))

    @property
    def package(self) -> list[str]:
        """Return the parts of the name of the package from which a relative import starts."""
        parts = self.name.split('.')
        return parts if self.path.name == '__init__.py' else parts[:-1]


@dataclass(frozen=True)
class Import:
    """Describe an import of one module of the package by another.

    Attributes:
        importer: The module that contains the import statement.
        line: The line of the statement.
        name: The dotted name of the imported module.
    """

    importer: Module
    line: int
    name: str


Row = Sequence[str | int | float]


def read_modules(root: Path, folder: str) -> list[Module]:
    """Read all Python files below ``root/folder``, sorted by path."""
    modules = []
    for path in sorted((root / folder).rglob('*.py')):
        parts = path.relative_to(root).with_suffix('').parts
        name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
        modules.append(Module(path, name, path.read_text(encoding='utf-8')))
    return modules


# ---------------------------------------------------------------- imports


def find_imports(modules: Sequence[Module]) -> list[Import]:
    """List the imports among the given modules."""
    names = {module.name for module in modules}
    return [
        Import(module, line, name)
        for module in modules
        for line, name in sorted(set(_imported_names(module, names)))
        if name in names
    ]


def _imported_names(module: Module, names: set[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = module.package[: len(module.package) - node.level + 1] if node.level else []
            base = '.'.join([*up, *([node.module] if node.module else [])])
            for alias in node.names:
                below = f'{base}.{alias.name}'
                yield node.lineno, below if below in names else base


def find_cycles(imports: Sequence[Import]) -> list[list[str]]:
    """List the groups of modules that import each other, directly or through other modules."""
    reached: dict[str, set[str]] = {}
    for found in imports:
        reached.setdefault(found.importer.name, set()).add(found.name)
    for middle in list(reached):  # Warshall's transitive closure
        for targets in reached.values():
            if middle in targets:
                targets |= reached[middle]
    groups = {
        tuple(sorted({name, *(t for t in targets if name in reached.get(t, ()))}))
        for name, targets in reached.items()
        if name in targets
    }
    return [list(group) for group in sorted(groups)]


def is_forbidden(found: Import) -> bool:
    """Return whether ``LEVELS`` forbids an import.

    An import is forbidden if the imported module is on the same level or a higher one, or is not
    listed in ``LEVELS``. Imports within one subpackage are allowed.
    """
    importer, imported = (_part(name) for name in (found.importer.name, found.name))
    if importer in ('', imported):  # the package's own __init__.py may import everything
        return False
    return not _level(importer) < _level(imported) < len(LEVELS)


def _part(name: str) -> str:
    """Return the second part of a dotted name, which is empty for the package itself."""
    return (name.split('.') + [''])[1]


def _level(part: str) -> int:
    """Return the level of a subpackage, or ``len(LEVELS)`` if it is not listed in ``LEVELS``."""
    return next((n for n, parts in enumerate(LEVELS) if part in parts), len(LEVELS))


# ---------------------------------------------------------------- functions and lines


def function_lengths(modules: Sequence[Module], with_docstring: bool) -> list[tuple[int, str]]:
    """Return the number of lines and the dotted name of each function, the longest last."""
    return sorted(
        (_length(node, with_docstring), f'{module.name}.{node.name}')
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef, with_docstring: bool) -> int:
    length = len(_lines(function))
    if not with_docstring and ast.get_docstring(function) is not None:
        length -= len(_lines(function.body[0]))
    return length


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def code_lines(module: Module) -> int:
    """Count the lines that are not blank, a comment or a docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(module.source).readline)
    code = {
        line
        for token in tokens
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            code.difference_update(_lines(node))
    return len(code)


def leaf_configs(root: Path) -> list[Module]:
    """Read the configs outside ``_base_``."""
    return [m for m in read_modules(root, 'configs') if '_base_' not in m.path.parts]


# ---------------------------------------------------------------- lines of certain kinds


def find_ndim(module: Module) -> Iterator[int]:
    """Yield the lines that read a number of dimensions by x.ndim, x.dim() or len(x.shape)."""
    for node in ast.walk(module.tree):
        match node:
            case (
                ast.Attribute(attr='ndim')
                | ast.Call(func=ast.Attribute(attr='dim'), args=[])
                | ast.Call(func=ast.Name(id='len'), args=[ast.Attribute(attr='shape')])
            ):
                yield node.lineno


def find_hasattr(module: Module) -> Iterator[int]:
    """Yield the lines that call hasattr."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name(id='hasattr')):
                yield node.lineno


# ---------------------------------------------------------------- report


def summarise(root: Path, modules: Sequence[Module]) -> list[Row]:
    """Compute the figures of the first table, as rows of a name and a value."""
    rows: list[Row] = []
    for with_docstring in (False, True):
        lengths = function_lengths(modules, with_docstring)
        lines = [length for length, _ in lengths]
        figures = median(lines), lines[math.ceil(0.9 * len(lines)) - 1], lines[-1]
        what = 'with docstring' if with_docstring else 'without docstring'
        rows.append(
            (
                f'lines of {len(lines)} functions, {what}: median / p90 / longest',
                f'{" / ".join(f"{figure:g}" for figure in figures)} (`{lengths[-1][1]}`)',
            )
        )
    leaves = leaf_configs(root)
    for what, sizes in (
        ('all lines', [len(leaf.source.splitlines()) for leaf in leaves]),
        ('lines of code', [code_lines(leaf) for leaf in leaves]),
    ):
        rows.append((f'median of {what} of {len(leaves)} leaf configs', f'{median(sizes):g}'))
    for folder in FOLDERS:
        files = read_modules(root, folder)
        rows.append((f'lines of code in {folder}/', f'{sum(map(code_lines, files)):,}'))
    return rows


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def _places(root: Path, modules: Sequence[Module], find: Callable[[Module], Iterable[int]]) -> str:
    """Return a Markdown table of the lines that ``find`` yields for each module."""
    rows = [
        (
            f'{module.path.relative_to(root)}:{line}',
            f'`{module.source.splitlines()[line - 1].strip()}`',
        )
        for module in modules
        for line in sorted(set(find(module)))
    ]
    return _table(('place', 'line'), [(place, line.replace('|', '\\|')) for place, line in rows])


def main() -> int:
    """Print the tables, and return 1 if ``--check`` is given and finds a forbidden import."""
    parser = argparse.ArgumentParser(description='Measure the structure of the code.')
    parser.add_argument(
        'root',
        nargs='?',
        type=Path,
        default=Path(__file__).parents[1],
        help='the source tree',
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='exit with status 1 on import cycles and forbidden imports',
    )
    args = parser.parse_args()
    modules = read_modules(args.root, PACKAGE)
    imports = find_imports(modules)
    cycles, forbidden = find_cycles(imports), [i for i in imports if is_forbidden(i)]
    rows = [
        ('import cycles', len(cycles)),
        ('forbidden imports', len(forbidden)),
        *summarise(args.root, modules),
    ]
    print(_table(('what', 'figure'), rows))
    for cycle in cycles:
        print(f'\n- cycle: {", ".join(cycle)}')
    for i in forbidden:
        place = i.importer.path.relative_to(args.root)
        print(f'\n- forbidden: {place}:{i.line} imports {i.name}')
    print(f'\nLines that read the number of dimensions\n\n{_places(args.root, modules, find_ndim)}')
    print(f'\nLines that call hasattr\n\n{_places(args.root, modules, find_hasattr)}')
    return int(args.check and bool(cycles or forbidden))


if __name__ == '__main__':
    sys.exit(main())
