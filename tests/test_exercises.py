"""The exercises: `pytest tests/test_exercises.py` checks the answers, `--mine -k ch05` what you
wrote.
"""

import importlib
import inspect

import pytest
from exercise_checks import CHECKS

ALL = [(chapter, check) for chapter, checks in CHECKS.items() for check in checks]


def name(value) -> str:
    return value if isinstance(value, str) else value.__name__


@pytest.mark.parametrize(("chapter", "check"), ALL, ids=name)
def test_exercise(chapter, check, request):
    """Oracle: scikit-learn, scipy, or the shipped module; see exercise_checks."""
    mine = request.config.getoption("--mine")
    module = importlib.import_module(f"{chapter}.{'exercises' if mine else 'solutions'}")
    try:
        check(getattr(module, check.__name__))
    except NotImplementedError:
        pytest.skip(f"not solved yet; a second hint: {chapter}.exercises.hint({check.__name__!r})")


@pytest.mark.parametrize("chapter", CHECKS)
def test_every_exercise_is_specified_hinted_solved_and_checked(chapter, capsys):
    exercises, solutions = (
        importlib.import_module(f"{chapter}.{part}") for part in ("exercises", "solutions")
    )
    names = [
        name
        for name, value in vars(exercises).items()
        if inspect.isfunction(value) and value.__module__ == exercises.__name__
    ]
    assert len(names) >= 7
    assert names == [check.__name__ for check in CHECKS[chapter]]
    for one in names:
        exercise, solution = getattr(exercises, one), getattr(solutions, one)
        assert inspect.signature(exercise) == inspect.signature(solution)
        assert "Hint:" in exercise.__doc__
        exercises.hint(one)
        assert len(capsys.readouterr().out) > 20
    with pytest.raises(KeyError, match="there is no exercise 'nothing'"):
        exercises.hint("nothing")


@pytest.mark.parametrize(("chapter", "check"), ALL, ids=name)
def test_a_wrong_answer_is_refused_with_input_expected_and_got(chapter, check):
    """Every check fails on a function that always returns 0.123, and says why."""
    with pytest.raises(pytest.fail.Exception, match=r"(?s)expected: .*got: "):
        check(lambda *inputs: ["nothing"] if check.__name__ == "order_features" else 0.123)
