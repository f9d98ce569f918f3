"""Self-consistency: sample several answers and take the most frequent one (Wang et al. 2022).

Voting helps if wrong answers vary and the right one recurs. "Any of them" is what a perfect judge
could choose from the same samples (pass@k). Left out: choosing by a reward model, which is chapter
6's best of n.
"""

from ch06_instruction.best_of_n import majority_vote, pass_at_n, sample_responses
from ch06_instruction.evaluation import evaluate_greedy
from ch06_instruction.grading import exact_match
from ch06_instruction.storyworld_tasks import instructions
from ch07_practice.evaluation.evaluation import EvalResult, accuracy_result
from ch07_practice.labs.setting import Setting

SAMPLES = (1, 3, 5)
TEMPERATURE = 0.8


def measure(setting: Setting) -> list[EvalResult]:
    """Right answers: greedy, by a vote of k samples, and any of the samples."""
    asked = list(instructions(setting.n, setting.seed + 1, only="question"))
    prompts, answers = [one.messages for one in asked], [one.answer for one in asked]
    rows, _ = evaluate_greedy(setting.chat, prompts, answers)
    sampled = sample_responses(setting.chat, prompts, max(SAMPLES), setting.seed, TEMPERATURE)
    results = [accuracy_result("self-consistency", "greedy", list(rows["exact_match"]))]
    for k in SAMPLES:
        hits = [
            exact_match(majority_vote(responses[:k]), answer)
            for responses, answer in zip(sampled, answers, strict=True)
        ]
        measure_name = f"vote of {k}" if k > 1 else "one sample"
        results.append(accuracy_result("self-consistency", measure_name, hits))
    n_reachable = round(pass_at_n(sampled, answers) * len(asked))
    hits = [number < n_reachable for number in range(len(asked))]
    return [*results, accuracy_result("self-consistency", f"any of {max(SAMPLES)}", hits)]
