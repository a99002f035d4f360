"""A stylesheet that parses each style sheet once for each theme and computes equal styles once.

Textual keeps 64 parsed sheets, an app of many widgets has more, and it parses all of them again whenever a mode brings
its own or the theme is set. That was a quarter of the time of a start. It also matches all rules against each node
again whenever the node or an ancestor changes: a quarter of the time to open a form. Here the result is cached by all
that the rules depend on: the type names, classes and ids in their selectors, for the node and its ancestors, and the
pseudo-classes that decide.
"""

import dis
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from textual.css.model import CombinatorType, RuleSet, Selector, SelectorSet, SelectorType
from textual.css.styles import RulesMap
from textual.css.stylesheet import Stylesheet
from textual.css.types import CSSLocation
from textual.dom import DOMNode

Signature = tuple[tuple[frozenset[str], frozenset[str], str | None], ...]

_parsed: dict[tuple[object, ...], list[RuleSet]] = {}  # by the variables and the sheet; rules never change
_candidates: dict[tuple[int, ...], "Candidates"] = {}  # by the ids of rules in `_parsed`

_FLAGS = ["_has_focus_within", "_has_hover_style", "_has_odd_or_even", "_has_order_style"]  # of a node, set by `apply`


def _is_known() -> bool:
    """Return whether this version of Textual computes styles from what is cached here, and sets these flags alone."""
    inputs = ("_css_type_names", "_classes", "_id", "_selector_names", "css_path_nodes", "has_pseudo_classes")
    methods = ("rules_map", "_check_rule", "replace_rules", "_process_component_classes")
    set_by_apply = {each.argval for each in dis.get_instructions(Stylesheet.apply) if each.opname == "STORE_ATTR"}
    return (
        set(SelectorType.__members__) == {"UNIVERSAL", "TYPE", "CLASS", "ID", "NESTED"}
        and set(CombinatorType.__members__) == {"SAME", "DESCENDENT", "CHILD"}
        and {each.name for each in fields(Selector)}
        == {"name", "combinator", "type", "pseudo_classes", "specificity", "advance"}
        and {each.name for each in fields(SelectorSet)} == {"selectors", "specificity"}
        and all(hasattr(DOMNode(), each) for each in inputs)
        and all(hasattr(Stylesheet, each) for each in methods)
        and set_by_apply == set(_FLAGS)
    )


IS_KNOWN = _is_known()


class Candidates:
    """The rules whose last selector names a node, and the styles that they gave to such nodes."""

    def __init__(self, rules: Iterable[RuleSet]) -> None:
        self.sets = [each for rule in rules for each in rule.selector_set]
        names: dict[SelectorType, set[str]] = {each: set() for each in SelectorType}
        for selectors in self.sets:
            for selector in selectors.selectors:
                names[selector.type].add(selector.name)
        self._types = frozenset(names[SelectorType.TYPE])
        self._classes = frozenset(names[SelectorType.CLASS] | {"-textual-system"})  # which "*" does not match
        self._ids = names[SelectorType.ID]
        self._conditions: dict[Signature, list[tuple[int, set[str]]]] = {}
        self.styles: dict[tuple[object, ...], RulesMap | None] = {}
        self.flags: list[tuple[str, Any]] = []

    def key(self, path: list[DOMNode]) -> tuple[object, ...]:
        """Return all that the styles of the last node of `path` depend on, for a path that starts at the app."""
        types, classes, ids = self._types, self._classes, self._ids
        signature = tuple(
            (types & each._css_type_names, classes & each._classes, each._id if each._id in ids else None)
            for each in path
        )
        if (conditions := self._conditions.get(signature)) is None:
            conditions = self._conditions[signature] = self._find_conditions(path)
        return (signature, *[path[depth].has_pseudo_classes(names) for depth, names in conditions])

    def _find_conditions(self, path: list[DOMNode]) -> list[tuple[int, set[str]]]:
        """Return which pseudo-classes of which nodes decide whether a rule matches, each with its depth in `path`."""
        found = {}
        for each in self.sets:
            plain = [replace(selector, pseudo_classes=set()) for selector in each.selectors]
            if not any(Stylesheet._check_rule(RuleSet([SelectorSet(plain)]), path)):
                continue
            depths = range(len(path) - 1, len(path))
            for selector, unconditional in zip(reversed(each.selectors), reversed(plain), strict=True):
                if selector.pseudo_classes:
                    names = frozenset(selector.pseudo_classes)
                    found.update({(depth, names): True for depth in depths if unconditional.check(path[depth])})
                if selector.combinator is not CombinatorType.SAME:
                    depths = range(len(path) - 1)  # the selectors before this one are about ancestors
        return [(depth, set(names)) for depth, names in found]


class CachedStylesheet(Stylesheet):
    """A `Stylesheet` whose parsed rules and computed styles are kept while the process lives."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._variables_key = frozenset(self._variables.items())
        self._by_names: dict[frozenset[str], Candidates] = {}
        self._indexed: object = None  # the rules that `_by_names` is about
        self._computed: dict[DOMNode, RulesMap] = {}

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

    def apply(
        self, node: DOMNode, *, animate: bool = False, cache: dict[tuple[Any, ...], RulesMap] | None = None
    ) -> None:
        """Apply the styles that an equal node has, if there was one, or let Textual compute them."""
        if not IS_KNOWN:
            super().apply(node, animate=animate, cache=cache)
            return
        candidates = self._find_candidates(node)
        key = candidates.key(node.css_path_nodes)
        if key not in candidates.styles:
            super().apply(node, animate=animate)
            candidates.styles[key] = self._computed.pop(node, None)
            candidates.flags = [(flag, getattr(node, flag)) for flag in _FLAGS]
            return
        for flag, value in candidates.flags:
            setattr(node, flag, value)
        if (rules := candidates.styles[key]) is not None:
            super().replace_rules(node, rules, animate=animate)
        self._process_component_classes(node)

    def _find_candidates(self, node: DOMNode) -> Candidates:
        rules_map = self.rules_map
        if self._indexed is not rules_map:
            self._indexed, self._by_names = rules_map, {}
        names = frozenset(rules_map.keys() & node._selector_names)
        if (found := self._by_names.get(names)) is None:
            limit = {rule for name in names for rule in rules_map[name]}
            rules = [rule for rule in self.rules if rule in limit]
            ids = tuple(map(id, rules))
            if ids not in _candidates:
                _candidates[ids] = Candidates(rules)
            found = self._by_names[names] = _candidates[ids]
        return found

    def replace_rules(self, node: DOMNode, rules: RulesMap, animate: bool = False) -> None:  # type: ignore[override]
        if IS_KNOWN:
            self._computed[node] = rules  # until `apply` has kept them
        super().replace_rules(node, rules, animate=animate)
