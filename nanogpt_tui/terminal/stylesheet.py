"""A stylesheet that parses each style sheet once for each theme and computes equal styles once.

Textual keeps 64 parsed sheets, an app of many widgets has more, and it parses all of them again whenever a mode brings
its own or the theme is set. That was a quarter of the time of a start. It also matches all rules against each node
again whenever the node or an ancestor changes: a quarter of the time to open a form. Here the result is cached by all
that the rules depend on: the type names, classes and ids in their selectors, for the node and its ancestors, and the
pseudo-classes that decide. A node for which none of these has changed is left as it is.
"""

import dis
from collections.abc import Iterable
from dataclasses import fields, replace
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from textual.css.model import CombinatorType, RuleSet, Selector, SelectorSet, SelectorType
from textual.css.styles import RulesMap
from textual.css.stylesheet import Stylesheet
from textual.css.types import CSSLocation
from textual.dom import DOMNode

Signature = tuple[tuple[frozenset[str], frozenset[str], str | None], ...]

_parsed: dict[tuple[object, ...], list[RuleSet]] = {}  # by the variables and the sheet; rules never change
_indexes: dict[tuple[int, ...], "RuleIndex"] = {}  # by the ids of all rules, which are in `_parsed`; last used last
_candidates: dict[tuple[int, ...], "Candidates"] = {}  # by the ids of these rules

MOST_INDEXES = 8  # a mode or theme that is shown again finds its index
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


class RuleIndex:
    """All rules of a stylesheet, by the names of the nodes that they may be for."""

    def __init__(self, rules: list[RuleSet], rules_map: dict[str, list[RuleSet]]) -> None:
        self.rules_map = rules_map
        self._order = {rule: place for place, rule in enumerate(rules)}
        self._by_names: dict[frozenset[str], Candidates] = {}

    def candidates(self, node: DOMNode) -> Candidates:
        """Return the rules whose last selector names a node."""
        names = frozenset(self.rules_map.keys() & node._selector_names)
        if (found := self._by_names.get(names)) is None:
            rules = sorted({rule for name in names for rule in self.rules_map[name]}, key=self._order.__getitem__)
            ids = tuple(map(id, rules))
            if ids not in _candidates:
                _candidates[ids] = Candidates(rules)
            found = self._by_names[names] = _candidates[ids]
        return found


class Applied(NamedTuple):
    """What the styles of a node were computed from, and the rules that it had then."""

    candidates: Candidates
    key: tuple[object, ...]
    rules: RulesMap


class CachedStylesheet(Stylesheet):
    """A `Stylesheet` whose parsed rules and computed styles are kept while the process lives."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._variables_key = frozenset(self._variables.items())
        self._index: RuleIndex | None = None
        self._applied: WeakKeyDictionary[DOMNode, Applied] = WeakKeyDictionary()
        self._component_keys: WeakKeyDictionary[DOMNode, dict[str, tuple[Candidates, tuple[object, ...]]]]
        self._component_keys = WeakKeyDictionary()
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
        self._apply(node, animate)
        self._process_component_classes(node)

    def _apply(self, node: DOMNode, animate: bool) -> None:
        """Apply the styles of a node without those of its component classes."""
        candidates = self._find_index().candidates(node)
        key, base = candidates.key(node.css_path_nodes), node.styles.base
        if (before := self._applied.get(node)) and before == (candidates, key, base._rules):
            for flag, value in candidates.flags:
                setattr(node, flag, value)
            node.notify_style_update()  # colors of ancestors, which its cached styles are mixed with, may have changed
            return
        if key in candidates.styles:
            for flag, value in candidates.flags:
                setattr(node, flag, value)
            if (rules := candidates.styles[key]) is not None:
                super().replace_rules(node, rules, animate=animate)
        else:
            super().apply(node, animate=animate)
            candidates.styles[key] = self._computed.pop(node, None)
            candidates.flags = [(flag, getattr(node, flag)) for flag in _FLAGS]
        self._applied[node] = Applied(candidates, key, base._rules.copy())

    def _process_component_classes(self, node: DOMNode) -> None:
        """Apply the styles of a node's component classes, unless all would be computed from the same as before."""
        if not (IS_KNOWN and (classes := node._get_component_classes())):
            super()._process_component_classes(node)
            return
        path, index, keys = node.css_path_nodes, self._find_index(), {}
        for name in classes:
            component = _component_node(name)
            candidates = index.candidates(component)
            keys[name] = (candidates, candidates.key([*path, component]))
        if self._component_keys.get(node) != keys or node._component_styles.keys() != keys.keys():
            super()._process_component_classes(node)
            self._component_keys[node] = keys

    @property
    def rules_map(self) -> dict[str, list[RuleSet]]:
        return self._find_index().rules_map if IS_KNOWN else super().rules_map

    def _find_index(self) -> RuleIndex:
        rules = self.rules  # parses what was added; the base class then forgets its own map
        if self._index is None or self._rules_map is not self._index.rules_map:
            ids = tuple(map(id, rules))
            self._index = _indexes.pop(ids) if ids in _indexes else RuleIndex(rules, super().rules_map)
            _indexes[ids] = self._index
            if len(_indexes) > MOST_INDEXES:
                del _indexes[next(iter(_indexes))]
            self._rules_map = self._index.rules_map
        return self._index

    def replace_rules(self, node: DOMNode, rules: RulesMap, animate: bool = False) -> None:  # type: ignore[override]
        if IS_KNOWN:
            self._computed[node] = rules  # until `_apply` has kept them
        super().replace_rules(node, rules, animate=animate)


@cache
def _component_node(name: str) -> DOMNode:
    """Return a node like those that Textual makes for a component class, without a parent."""
    return DOMNode(classes=name)
