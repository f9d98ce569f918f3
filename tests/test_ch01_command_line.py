"""`command_line` against the flags and the help that a config's fields and comments ask for."""

import re
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

import pytest
from tyro.conf import arg

from ch01_text.run import check_positive, command_line


@dataclass(frozen=True)
class BakingConfig:
    # What to bake.
    cake: str = "plain"
    # How hot; by default what suits
    # the cake.
    heat: float | None = None

    _: KW_ONLY  # below: seldom needed

    # Eggs in the dough.
    n_eggs: int = 2

    def __post_init__(self):
        check_positive(self, "heat", "n_eggs")


@dataclass(frozen=True)
class IcingConfig:
    # Its colour.
    colour: str = "white"


def bake(
    config: Annotated[BakingConfig, arg(name="")] = BakingConfig(n_eggs=3),
    *,
    icing: IcingConfig = IcingConfig(),
    run: Path = Path("kitchen"),
) -> dict:
    """Bake a cake.

    Args:
        run: Where to bake it.
    """
    served.append((config, icing, run))
    return {}


def wash_up(water: float = 40.0) -> dict:
    """Clean the bowl."""
    return {}


served: list[tuple] = []


@pytest.fixture(params=["main", "subcommand"])
def type_in(monkeypatch, request):
    def run(*arguments: str) -> None:
        served.clear()
        if request.param == "main":
            monkeypatch.setattr(sys, "argv", ["bake.py", *arguments])
            command_line(bake)
        else:
            monkeypatch.setattr(sys, "argv", ["kitchen.py", "bake", *arguments])
            command_line({"bake": bake, "wash-up": wash_up})

    return run


def test_fields_are_flags_without_a_prefix_and_a_second_config_keeps_its_own(type_in):
    type_in()
    assert served == [(BakingConfig(n_eggs=3), IcingConfig(), Path("kitchen"))]
    type_in("--n-eggs", "4", "--heat", "180", "--icing.colour", "red", "--run", "x")
    assert served == [(BakingConfig("plain", 180.0, n_eggs=4), IcingConfig("red"), Path("x"))]


def test_comments_are_help_and_keyword_only_fields_a_group_of_their_own(type_in, capsys):
    with pytest.raises(SystemExit, match="0"):
        type_in("--help")
    text = re.sub(r"[^\w.;:()-]+", " ", capsys.readouterr().out)
    pieces = [
        "Bake a cake.",
        " options ",
        "Where to bake it.",
        "--cake STR What to bake. (default: plain)",
        "--heat FLOAT How hot; by default what suits the cake.",
        "more options",
        "--n-eggs INT Eggs in the dough. (default: 3)",
        "icing options",
        "--icing.colour STR Its colour.",
    ]
    places = [text.find(piece) for piece in pieces]
    assert -1 not in places and places == sorted(places), list(zip(places, pieces, strict=True))
    assert "seldom needed" not in text


@pytest.mark.parametrize(
    ("flag", "value"), [("--n-eggs", "0"), ("--n-eggs", "-2"), ("--heat", "nan"), ("--heat", "inf")]
)
def test_a_value_that_the_config_refuses_ends_in_one_line(type_in, flag, value):
    with pytest.raises(SystemExit) as end:
        type_in(flag, value)
    assert end.value.code == f"error: {flag} must be a positive number, not {value}"
