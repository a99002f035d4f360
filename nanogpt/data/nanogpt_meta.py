"""The characters in nanoGPT's `meta.pkl`, read without unpickling it.

A pickle is a program, and unpickling runs it. This reads only the instructions that build dictionaries, texts and
numbers, which is all that nanoGPT's prepare.py writes; any other instruction is refused.
"""

import pickletools
from pathlib import Path
from typing import Any

from nanogpt.errors import UserError
from nanogpt.files import read_bytes, why

MOST_BYTES = 1 << 22  # all characters of Unicode, twice


def read_characters(path: Path) -> str:
    """Return the characters by id. Raise `UserError` if the file has anything else than nanoGPT's two dictionaries."""
    try:
        values = _plain_values(read_bytes(path, MOST_BYTES))
        by_id = values["itos"]
        characters = [by_id[id] for id in range(len(by_id))]
        if not all(isinstance(character, str) and len(character) == 1 for character in characters):
            raise ValueError("its `itos` does not have one character for each id")
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        problem = why(error) if isinstance(error, OSError | ValueError) else "its `itos` is missing or damaged"
        raise UserError(f"{path} does not have the characters of a nanoGPT data set: {problem}") from None
    return "".join(characters)


def _plain_values(content: bytes) -> Any:
    """Return the value of a pickle of dictionaries, texts and numbers. Raise ValueError for any other one."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(content):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "EMPTY_DICT":
                stack.append({})
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BININT" | "BININT1" | "BININT2":
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
            case "STOP":
                return stack.pop()
            case name:
                raise ValueError(
                    f"it has the instruction {name}, which nanoGPT does not write and which could run code"
                )
    raise ValueError("it has no end")
