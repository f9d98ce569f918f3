"""What the exercises of every chapter share: a second hint on request."""

from collections.abc import Callable, Mapping


def hints(second: Mapping[str, str]) -> Callable[[str], None]:
    """A function that prints the second hint of an exercise by its name; KeyError names the
    exercises.
    """

    def hint(name: str) -> None:
        if name not in second:
            raise KeyError(f"there is no exercise {name!r}; there are {', '.join(second)}")
        print(second[name])

    return hint
