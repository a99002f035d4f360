"""Pickles of plain values, read without unpickling them.

A pickle is a program, and unpickling runs it. This reads only the instructions that build dictionaries, texts, bytes
and numbers; any other instruction is refused. An object of a class that the caller names counts as the dictionary of
its state: nothing of the class is imported or called.
"""

import pickletools
from collections.abc import Collection
from typing import Any

# What a damaged pickle raises, and a file that cannot be read; a ValueError has the reason.
READ_ERRORS = (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError)


def plain_values(content: bytes, classes: Collection[str] = ()) -> Any:
    """Return the value of a pickle. `classes` are the names ("module.Class") of the objects in it.

    Raise one of READ_ERRORS if it is damaged or asks for anything else.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(content):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "EMPTY_DICT":
                stack.append({})
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "SHORT_BINBYTES" | "BINBYTES":
                stack.append(argument)
            case "MARK":
                marks.append(len(stack))
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1][key] = value
            case "SETITEMS":
                mark = marks.pop()
                items, stack[mark:] = stack[mark:], []
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                memo[int(argument or 0)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[int(argument or 0)])
            case "STACK_GLOBAL" | "GLOBAL":
                name = str(argument).replace(" ", ".") if argument else ".".join([stack.pop(-2), stack.pop()])
                if name not in classes:
                    raise ValueError(f"it asks for {name[:80]}, which could run code")
                stack.append(_Class())
            case "EMPTY_TUPLE":
                stack.append(())
            case "NEWOBJ":
                arguments, cls = stack.pop(), stack.pop()
                if arguments != () or not isinstance(cls, _Class):
                    raise ValueError("it makes an object from arguments")
                stack.append({})
            case "BUILD":
                state = stack.pop()
                stack[-1].update(state)
            case "STOP":
                return stack.pop()
            case name:
                raise ValueError(f"it has the instruction {name}, which could run code")
    raise ValueError("it has no end")


class _Class:
    """Stands for a class that is not imported."""
