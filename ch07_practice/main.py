"""Chapter 7's commands: use, measure and serve the model that the earlier chapters made."""

from ch01_text.run import command_line
from ch07_practice.benchmarks.bench_command import bench
from ch07_practice.decoding.completion import complete
from ch07_practice.evaluation.evaluate_command import evaluate
from ch07_practice.evaluation.scaling_command import scaling
from ch07_practice.labs.labs_command import labs
from ch07_practice.report import report
from ch07_practice.serving.load_test import load
from ch07_practice.serving.serve_command import serve
from ch07_practice.serving.terminal_chat import chat
from ch07_practice.verify import verify

if __name__ == "__main__":
    command_line(
        {
            "bench": bench,
            "chat": chat,
            "complete": complete,
            "evaluate": evaluate,
            "labs": labs,
            "load": load,
            "report": report,
            "scaling": scaling,
            "serve": serve,
            "verify": verify,
        }
    )
