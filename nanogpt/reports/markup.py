"""HTML and SVG elements whose text and attributes are always escaped."""

from html import escape

from nanogpt.formatting import printable


class Markup(str):
    """Text that is markup already; any other text is escaped."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """Return `<tag …>content</tag>`, or `<tag …/>` without content.

    `content` is escaped and made printable unless it is `Markup`. An underscore in the name of an attribute becomes a
    hyphen, one at its end is dropped (`class_`); numbers are written with two decimals at most.
    """
    named = "".join(f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"' for name, value in attributes.items())
    inner = join(*content)
    return Markup(f"<{tag}{named}>{inner}</{tag}>" if content else f"<{tag}{named}/>")


def join(*content: str) -> Markup:
    """Return the parts one after another, escaped unless they are `Markup`."""
    return Markup("".join(part if isinstance(part, Markup) else escape(printable(part)) for part in content))


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return escape(printable(str(value)), quote=True)
