"""docs/adapters.md lists the operators that have a rule."""

from cwjax.adapters.pytorch import rules
from tests.test_programs import ROOT


def test_the_table_of_operators_is_that_of_the_rules():
    text = (ROOT / "docs" / "adapters.md").read_text()
    assert rules.table() in text, (
        "write it anew: python -c 'from cwjax.adapters.pytorch import rules; print(rules.table())'"
    )
