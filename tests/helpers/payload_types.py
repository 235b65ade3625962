"""Classes of data that the payload tests carry: they must stand at the top level of a module."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec

T = TypeVar("T")


@dataclass
class Point:
    x: Any
    y: Any = 0


@dataclass(frozen=True, slots=True, order=True)
class Frozen:
    name: str
    numbers: tuple[int, ...] = ()


@dataclass
class Child(Point):
    z: float = 0.5


@dataclass
class Secret:
    """Its constructor is not idempotent, takes what it does not keep, and counts its runs."""

    password: str
    salt: InitVar[str]
    hashed: str = field(init=False)
    runs: list[str] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self, salt: str) -> None:
        self.runs.append(salt)
        self.hashed = f"{salt}:{self.password}"
        self.password = "*" * len(self.password)
        self.remark = "not a field"

    @cached_property
    def length(self) -> int:
        return len(self.hashed)


@dataclass
class Box(Generic[T]):
    item: T


@dataclass
class Words(list[str]):
    """A dataclass that is also a container."""

    title: str = ""


class Outer:
    @dataclass
    class Inner:
        value: int


class Color(enum.Enum):
    RED = "red"
    GREEN = 2
    CRIMSON = "red"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    ONE = 1
    FOUR = 4


class Pair(NamedTuple):
    left: Any
    right: Any = None


OldPair = namedtuple("OldPair", "left right")


class Price(msgspec.Struct):
    amount: Decimal
    currency: str = "EUR"
    note: str | msgspec.UnsetType = msgspec.UNSET


class Tag(msgspec.Struct, frozen=True, rename="camel", tag=True):
    tag_name: str


class Shouted(msgspec.Struct):
    text: str

    def __post_init__(self) -> None:
        self.text += "!"


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class UserId(int):
    """A subclass of a type that JSON has a word for."""


class Money:
    """A class that needs a codec."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    def __hash__(self) -> int:
        return hash(self.cents)


class DearMoney(Money):
    pass
