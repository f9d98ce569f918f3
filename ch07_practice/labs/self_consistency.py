"""Self-consistency: draw several answers and give the one that most agree on (Wang et al. 2022).

Voting helps where wrong answers differ and the right one comes back. "Any of them" is what a
perfect judge could choose from the same draws (pass@k). Left out: choosing by a reward model, which
is chapter 6's best of n.
"""

from ch06_instruction.best_of_n import best_there_was, draw_answers, most_agreed
from ch06_instruction.evaluation import examine
from ch06_instruction.grading import exact_match
from ch06_instruction.instructions import instructions
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Setting

DRAWS = (1, 3, 5)
TEMPERATURE = 0.8


def measure(setting: Setting) -> list[Finding]:
    """Right answers: greedy, by a vote over k draws, and any of them."""
    asked = list(instructions(setting.n, setting.seed + 1, only="question"))
    rows, _ = examine(setting.chat, asked)
    drawn = draw_answers(setting.chat, asked, max(DRAWS), setting.seed, TEMPERATURE)
    findings = [share("self-consistency", "greedy", list(rows["exact_match"]))]
    for k in DRAWS:
        hits = [
            exact_match(most_agreed(answers[:k]), one.answer)
            for answers, one in zip(drawn, asked, strict=True)
        ]
        findings.append(share("self-consistency", f"vote of {k}" if k > 1 else "one draw", hits))
    reachable = round(best_there_was(asked, drawn) * len(asked))
    hits = [number < reachable for number in range(len(asked))]
    return [*findings, share("self-consistency", f"any of {max(DRAWS)}", hits)]
