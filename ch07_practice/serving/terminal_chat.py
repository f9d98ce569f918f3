"""The `chat` command: talk to a run's models in the terminal.

If Python has readline, the arrow keys edit the line and recall earlier ones. Ctrl-C stops the
current answer only. Left out: several conversations at a time, which the server has.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ch01_text.run import write_atomically
from ch03_gpt import SamplingParams, TextStream, pick_device
from ch06_instruction.chat import Message
from ch07_practice.load_model import TUNED_STAGES
from ch07_practice.serving.engine import Request
from ch07_practice.serving.model_registry import ModelRegistry, ServedModel
from ch07_practice.story_questions import draw_story, story_prompt

HELP = """\
/help          show this list
/reset         start a new conversation with the same system message
/system TEXT   start a new conversation with TEXT as system message; without TEXT: with none
/story         ask about an unseen story; the true answer is shown behind the model's
/model NAME    continue with another model
/save FILE     save the conversation as JSON
/quit          leave; so does Ctrl-D
End a line with \\ to continue the message on the next one, or enclose several lines in lines of
\"\"\"."""


class Conversation:
    """The messages so far, and the model that answers."""

    def __init__(
        self,
        models: ModelRegistry,
        name: str,
        max_new_tokens: int,
        seed: int,
        sampling: SamplingParams,
    ):
        self.models = models
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        self.sampling = sampling
        self.served: ServedModel = models.open(name)
        self.messages: list[Message] = []

    def reset(self, system: str | None = None) -> None:
        """Start a new conversation with the system message `system`, "" for none; None keeps the
        current one.
        """
        before = [message for message in self.messages if message["role"] == "system"]
        self.messages = (
            before if system is None else [{"role": "system", "content": system}] if system else []
        )

    def drop_oldest(self) -> bool:
        """Drop the oldest exchange, unless it is the only one; returns whether one was dropped."""
        first = int(self.messages[0]["role"] == "system")
        if len(self.messages) - first < 3:
            return False
        del self.messages[first : first + 2]
        return True

    def prompt(self) -> list[int]:
        """The prompt ids. If they leave too little room for an answer, the oldest exchanges are
        dropped. ValueError if the last message alone is too long.
        """
        while True:
            ids = self.served.chat_prompt(self.messages)
            wanted = min(self.max_new_tokens, self.served.context_length // 4)
            if self.served.context_length - len(ids) >= wanted or not self.drop_oldest():
                self.served.room(ids)
                return ids

    def answer(self, text: str) -> Iterator[str]:
        """Send a message; yields the answer piece by piece. An interrupted answer stays in the
        conversation.
        """
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        try:
            ids = self.prompt()
        except ValueError:
            self.messages = before
            raise
        request = Request(
            ids,
            min(self.max_new_tokens, self.served.room(ids)),
            self.sampling,
            self.served.stop_ids,
            self.seed + len(self.messages),
        )
        self.messages.append({"role": "assistant", "content": ""})
        try:
            for piece in self._generate(request):
                self.messages[-1]["content"] += piece
                yield piece
        finally:
            self.served.engine.reset()  # the step may have been interrupted
            if not self.messages[-1]["content"].strip():
                del self.messages[-2:]  # the template does not allow an empty answer

    def _generate(self, request: Request) -> Iterator[str]:
        stream = TextStream(self.served.tokenizer, self.served.chat_stops)
        engine, started = self.served.engine, self.served.has_template
        engine.submit(request)
        while not (request.finish_reason or stream.stopped):
            n = len(request.ids)
            engine.step()
            piece = "".join(stream.push(token) for token in request.ids[n:])
            piece += stream.finish() if request.finish_reason else ""
            piece = piece if started else piece.lstrip()
            if piece:
                started = True
                yield piece


def read_message(prompt: str) -> str:
    """A message of one or several lines; EOFError at the end of the input."""
    line = input(prompt)
    if line.strip() == '"""':
        lines = iter(lambda: input("... "), '"""')
        return "\n".join(lines)
    while line.endswith("\\"):
        line = line[:-1] + "\n" + input("... ")
    return line


class Terminal:
    """The loop that reads messages and commands."""

    def __init__(self, conversation: Conversation):
        self.conversation, self.n_stories = conversation, 0
        self.commands = {
            "/help": self.show_help,
            "/reset": self.reset,
            "/system": self.set_system,
            "/story": self.ask_about_story,
            "/model": self.set_model,
            "/save": self.save,
        }

    def run(self) -> None:
        while True:
            try:
                text = read_message(f"\n{self.conversation.served.name}> ")
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print("\n(Ctrl-D or /quit leaves)")
                continue
            if text.strip() == "/quit":
                return
            try:
                self.execute(text)
            except (ValueError, OSError) as error:
                print(f"error: {error}")

    def execute(self, text: str) -> None:
        """Execute a command, or send a message to the model."""
        name, _, rest = text.strip().partition(" ")
        if not name.startswith("/"):
            if name:
                self.send(text)
        elif name in self.commands:
            self.commands[name](rest.strip())
        else:
            raise ValueError(f"there is no command {name}; /help lists them")

    def send(self, text: str) -> None:
        """Print the answer as it is generated; Ctrl-C stops it."""
        try:
            for piece in self.conversation.answer(text):
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            print(" (stopped)", end="")
        print()

    def show_help(self, _: str) -> None:
        print(HELP)

    def reset(self, _: str) -> None:
        self.conversation.reset()
        print("(new conversation)")

    def set_system(self, text: str) -> None:
        self.conversation.reset(text)
        print("(new system message)" if text else "(no system message)")

    def ask_about_story(self, _: str) -> None:
        self.n_stories += 1
        drawn = draw_story(self.conversation.seed + self.n_stories)
        text = f"{drawn['story']}\n{drawn['question']}"
        print(text + "\n")
        self.send(text)
        print(f"(the true answer: {drawn['answer']})")

    def set_model(self, name: str) -> None:
        self.conversation.served = self.conversation.models.open(name)

    def save(self, file: str) -> None:
        if not file:
            raise ValueError("name a file: /save FILE")
        content = [{"messages": self.conversation.messages}]
        write_atomically(Path(file), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        print(f"(saved in {file})")


def chat(
    model: str | None = None,
    temperature: float = 0.0,
    top_p: float | None = None,
    top_k: int | None = None,
    max_new_tokens: int = 200,
    system: str = "",
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Talk to the run's models in the terminal; /help lists the commands there.

    Args:
        model: base, sft, dpo, ppo or grpo; by default the instruction-tuned model, or else the base
            model.
        temperature: 0 always takes the most likely token, 1 samples as the model predicts.
        top_p: Sample from the smallest set of tokens whose probabilities add up to this.
        top_k: Sample from this many most likely tokens.
        max_new_tokens: Maximum length of an answer.
        system: System message.
        weights: Number format of the weights; auto takes bfloat16 where the device computes it
            fast.
        run: Folder of the run.
        seed: Seed for sampling and for stories.
        device: Where to compute; auto prefers a GPU.
    """
    if max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens must be at least 1, not {max_new_tokens}")
    sampling = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k)
    with suppress(ImportError):
        import readline  # noqa: F401  (gives input() a history)
    models = ModelRegistry(run, story_prompt, weights, pick_device(device), max_num_seqs=1)
    conversation = Conversation(
        models,
        model or next((name for name in TUNED_STAGES if name in models.checkpoints), "base"),
        max_new_tokens,
        seed,
        sampling,
    )
    conversation.reset(system)
    print(f"models of {run}: {', '.join(models.checkpoints)}; /help lists the commands")
    Terminal(conversation).run()
    return {"model": conversation.served.name, "messages": conversation.messages}
