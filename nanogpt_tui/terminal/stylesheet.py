"""A stylesheet that parses each style sheet once for each theme.

Textual keeps 64 parsed sheets, an app of many widgets has more, and it parses all of them again whenever a mode brings
its own or the theme is set. That was a quarter of the time of a start.
"""

from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.css.types import CSSLocation

_parsed: dict[tuple[object, ...], list[RuleSet]] = {}  # by the variables and the sheet; rules never change


class CachedStylesheet(Stylesheet):
    """A `Stylesheet` whose parsed rules are kept while the process lives."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._variables_key = frozenset(self._variables.items())

    def set_variables(self, variables: dict[str, str]) -> None:
        super().set_variables(variables)
        self._variables_key = frozenset(variables.items())

    def _parse_rules(
        self, css: str, read_from: CSSLocation, is_default_rules: bool = False, tie_breaker: int = 0, scope: str = ""
    ) -> list[RuleSet]:
        key = (self._variables_key, css, read_from, is_default_rules, tie_breaker, scope)
        if (rules := _parsed.get(key)) is None:
            rules = _parsed[key] = super()._parse_rules(css, read_from, is_default_rules, tie_breaker, scope)
        return rules

    def reparse(self) -> None:
        """Apply new variables. `parse` changes the rules only if all sheets are valid."""
        self.parse()
