"""Self-consistency: draw several answers and give the one that most agree on (Wang et al. 2022).

Voting helps where wrong answers differ and the right one comes back. "Any of them" is what a
perfect judge could choose from the same draws (pass@k). Left out: choosing by a reward model, which
is chapter 6's best of n.
"""

from ch06_instruction.best_of_n import majority_vote, pass_at_n, sample_responses
from ch06_instruction.evaluation import evaluate_greedy
from ch06_instruction.grading import exact_match
from ch06_instruction.storyworld_tasks import instructions
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Setting

DRAWS = (1, 3, 5)
TEMPERATURE = 0.8


def measure(setting: Setting) -> list[Finding]:
    """Right answers: greedy, by a vote over k draws, and any of them."""
    asked = list(instructions(setting.n, setting.seed + 1, only="question"))
    prompts, answers = [one.messages for one in asked], [one.answer for one in asked]
    rows, _ = evaluate_greedy(setting.chat, prompts, answers)
    sampled = sample_responses(setting.chat, prompts, max(DRAWS), setting.seed, TEMPERATURE)
    findings = [share("self-consistency", "greedy", list(rows["exact_match"]))]
    for k in DRAWS:
        hits = [
            exact_match(majority_vote(responses[:k]), answer)
            for responses, answer in zip(sampled, answers, strict=True)
        ]
        findings.append(share("self-consistency", f"vote of {k}" if k > 1 else "one draw", hits))
    reachable = round(pass_at_n(sampled, answers) * len(asked))
    hits = [number < reachable for number in range(len(asked))]
    return [*findings, share("self-consistency", f"any of {max(DRAWS)}", hits)]
