"""Test that tables of text are aligned and keep the text of their cells."""

from __future__ import annotations

from mmdfer.tables import markdown_table, plain_table

ROWS = [['', 'WAR', 'note'], ['fold 1', '85.70', ''], ['mean ± deviation', '-', '1e3']]


def test_a_plain_table_is_aligned_and_keeps_numbers_as_they_are() -> None:
    assert plain_table(ROWS).splitlines() == [
        '                    WAR    note',
        'fold 1            85.70',
        'mean ± deviation      -     1e3',
    ]


def test_long_cells_are_broken() -> None:
    rows = [['', 'is'], ['clips', 'one two three']]
    assert plain_table(rows, 'left', widest=8).splitlines() == [
        '       is',
        'clips  one two',
        '       three',
    ]


def test_a_markdown_table_has_a_rule_below_its_head() -> None:
    head, rule, first, second = markdown_table(ROWS).splitlines()
    assert head.split() == ['|', '|', 'WAR', '|', 'note', '|']
    assert [cell[-1] for cell in rule.strip('|').split('|')] == ['-', ':', ':']
    assert first.split() == ['|', 'fold', '1', '|', '85.70', '|', '|']
    assert second.split()[-4:] == ['-', '|', '1e3', '|']
