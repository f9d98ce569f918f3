"""The command `chat`: talk to a run's models in the terminal.

Where Python has readline, the arrow keys edit a line and bring back earlier ones. Ctrl-C stops the
answer and nothing else. Left out: several conversations at a time, which the server has.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ch01_text.run import write_atomically
from ch03_gpt import Sampling, TextStream, pick_device
from ch06_instruction.chat import Message
from ch07_practice.engine import Request
from ch07_practice.served import TUNED, Models, ServedModel, draw_story

HELP = """\
/help          this
/reset         forget the conversation; what the system said stays
/system TEXT   say something as the system, and begin anew; without TEXT: nothing more of it
/story         ask about an unseen story; the true answer comes behind
/model NAME    go on with another stage
/save FILE     write the conversation as JSON
/quit          the end; so does Ctrl-D
A message goes on in the next line where a line ends in \\, and in all lines between two lines of
\"\"\"."""


class Conversation:
    """What was said so far, with the model that answers."""

    def __init__(
        self, models: Models, name: str, max_new_tokens: int, seed: int, sampling: Sampling
    ):
        self.models = models
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        self.sampling = sampling
        self.served: ServedModel = models.open(name)
        self.messages: list[Message] = []

    def reset(self, system: str | None = None) -> None:
        """Begin anew. `system`: what the system says from now on, "" for nothing; None: what it
        said before.
        """
        before = [message for message in self.messages if message["role"] == "system"]
        self.messages = (
            before if system is None else [{"role": "system", "content": system}] if system else []
        )

    def forget(self) -> bool:
        """Leave out the oldest exchange, as long as a newer one is there; whether there was one
        to leave out.
        """
        first = int(self.messages[0]["role"] == "system")
        if len(self.messages) - first < 3:
            return False
        del self.messages[first : first + 2]
        return True

    def prompt(self) -> list[int]:
        """What the model reads; the oldest exchanges are forgotten where there is no room for an
        answer of some length. ValueError where even the last message is too long.
        """
        while True:
            ids = self.served.chat_prompt(self.messages)
            wanted = min(self.max_new_tokens, self.served.context_length // 4)
            if self.served.context_length - len(ids) >= wanted or not self.forget():
                self.served.room(ids)
                return ids

    def answer(self, text: str) -> Iterator[str]:
        """Say something; yields the answer piece by piece. What has been written when it is
        interrupted stays.
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
            for piece in self._write(request):
                self.messages[-1]["content"] += piece
                yield piece
        finally:
            self.served.engine.reset()  # an interrupted step may have left it half-way
            if not self.messages[-1]["content"].strip():
                del self.messages[-2:]  # a template has no place for an answer that says nothing

    def _write(self, request: Request) -> Iterator[str]:
        stream = TextStream(self.served.tokenizer, self.served.chat_stops)
        engine, begun = self.served.engine, self.served.has_template
        engine.submit(request)
        while not (request.finish_reason or stream.stopped):
            n = len(request.ids)
            engine.step()
            piece = "".join(stream.feed(token) for token in request.ids[n:])
            piece += stream.finish() if request.finish_reason else ""
            piece = piece if begun else piece.lstrip()
            if piece:
                begun = True
                yield piece


def read_message(prompt: str) -> str:
    """A message from the terminal; EOFError at the end of the input."""
    line = input(prompt)
    if line.strip() == '"""':
        lines = iter(lambda: input("... "), '"""')
        return "\n".join(lines)
    while line.endswith("\\"):
        line = line[:-1] + "\n" + input("... ")
    return line


class Terminal:
    """Reads messages and commands until the end of the input."""

    def __init__(self, conversation: Conversation):
        self.conversation, self.n_stories = conversation, 0
        self.commands = {
            "/help": self.help,
            "/reset": self.reset,
            "/system": self.system,
            "/story": self.story,
            "/model": self.model,
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
                print("\n(Ctrl-D or /quit ends)")
                continue
            if text.strip() == "/quit":
                return
            try:
                self.obey(text)
            except (ValueError, OSError) as error:
                print(f"error: {error}")

    def obey(self, text: str) -> None:
        """Do what a command says, or ask the model."""
        name, _, rest = text.strip().partition(" ")
        if not name.startswith("/"):
            if name:
                self.say(text)
        elif name in self.commands:
            self.commands[name](rest.strip())
        else:
            raise ValueError(f"there is no command {name}; /help lists them")

    def say(self, text: str) -> None:
        """Show the answer as it comes; Ctrl-C stops it."""
        try:
            for piece in self.conversation.answer(text):
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            print(" (stopped)", end="")
        print()

    def help(self, _: str) -> None:
        print(HELP)

    def reset(self, _: str) -> None:
        self.conversation.reset()
        print("(forgotten)")

    def system(self, text: str) -> None:
        self.conversation.reset(text)
        print("(the system has spoken)" if text else "(the system says nothing)")

    def story(self, _: str) -> None:
        self.n_stories += 1
        drawn = draw_story(self.conversation.seed + self.n_stories)
        text = f"{drawn['story']}\n{drawn['question']}"
        print(text + "\n")
        self.say(text)
        print(f"(the true answer: {drawn['answer']})")

    def model(self, name: str) -> None:
        self.conversation.served = self.conversation.models.open(name)

    def save(self, file: str) -> None:
        if not file:
            raise ValueError("say where: /save FILE")
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
        model: base, sft, dpo, ppo or grpo; by default the tuned model, or the base model where
            there is none.
        temperature: 0 always takes the most likely token, 1 draws as the model predicts.
        top_p: Draw from the fewest tokens only whose probabilities reach this.
        top_k: Draw from so many most likely tokens only.
        max_new_tokens: Stop an answer after so many tokens.
        system: What the system says first.
        weights: Number format of the weights; auto takes bfloat16 where the device is good at it.
        run: Folder of the run.
        seed: Of draws and of stories.
        device: Where to compute; auto prefers a GPU.
    """
    if max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens must be at least 1, not {max_new_tokens}")
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k)
    with suppress(ImportError):
        import readline  # noqa: F401  (from then on, input() has a history)
    models = Models(run, weights, pick_device(device), rows=1)
    conversation = Conversation(
        models,
        model or next((name for name in TUNED if name in models.folders), "base"),
        max_new_tokens,
        seed,
        sampling,
    )
    conversation.reset(system)
    print(f"{', '.join(models.folders)} of {run}; /help lists the commands")
    Terminal(conversation).run()
    return {"model": conversation.served.name, "messages": conversation.messages}
