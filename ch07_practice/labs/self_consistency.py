"""Self-consistency: sample several answers and take the most frequent one (Wang et al. 2022).

Voting helps if wrong answers vary and the right one recurs. "Any of them" is what a perfect judge
could choose from the same samples (pass@k). Left out: choosing by a reward model, which is chapter
6's best of n.
"""

from ch06_instruction.best_of_n import best_there_was, draw_answers, most_agreed
from ch06_instruction.evaluation import examine
from ch06_instruction.grading import exact_match
from ch06_instruction.instructions import instructions
from ch07_practice.evaluation.evaluation import EvalResult, accuracy_result
from ch07_practice.labs.setting import Setting

SAMPLES = (1, 3, 5)
TEMPERATURE = 0.8


def measure(setting: Setting) -> list[EvalResult]:
    """Right answers: greedy, by a vote of k samples, and any of the samples."""
    tests = list(instructions(setting.n, setting.seed + 1, only="question"))
    rows, _ = examine(setting.chat, tests)
    sampled = draw_answers(setting.chat, tests, max(SAMPLES), setting.seed, TEMPERATURE)
    results = [accuracy_result("self-consistency", "greedy", list(rows["exact_match"]))]
    for k in SAMPLES:
        hits = [
            exact_match(most_agreed(answers[:k]), one.answer)
            for answers, one in zip(sampled, tests, strict=True)
        ]
        measure_name = f"vote of {k}" if k > 1 else "one sample"
        results.append(accuracy_result("self-consistency", measure_name, hits))
    n_reachable = round(best_there_was(tests, sampled) * len(tests))
    hits = [number < n_reachable for number in range(len(tests))]
    return [*results, accuracy_result("self-consistency", f"any of {max(SAMPLES)}", hits)]
