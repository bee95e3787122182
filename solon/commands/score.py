"""`solon score MODEL PROMPT --reply ... | --choices ...`, or a file of them: how likely replies are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from solon.commands.common import answer, parse, say
from solon.conversation import Conversation
from solon.data.rows import from_messages
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.base import Sample
from solon.models.choice import belief
from solon.models.load import load_open
from solon.models.torch_model import TorchModel
from solon.models.trie import trie_of
from solon.records.codecs import from_sample
from solon.records.run import write_text


@dataclass(frozen=True)
class Options:
    """Log-probabilities, in nats, of a given reply's tokens; or the belief over choices."""

    model: Annotated[str, tyro.conf.Positional]
    prompt: Annotated[str, tyro.conf.Positional] = ""
    """what the human says"""
    opening: str = ""
    """how the assistant's turn has begun; replies and choices go on from it"""
    reply: tuple[str, ...] = ()
    """one or more replies to score"""
    choices: tuple[str, ...] = ()
    """two or more choices to believe in"""
    requests: Path | None = None
    """a file of many: rows with prompt (text) or messages, perhaps opening, and reply, replies or choices"""
    out: Path | None = None
    """where the scored rows of --requests go, as JSONL"""
    truncate: bool = False
    """cut prompts that do not fit the context on the left, and say how much, instead of refusing them"""
    dry_run: bool = False
    """say what would be computed, and compute nothing"""
    precision: str = "auto"
    json: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One row: a prompt and the texts to score after it, as alternatives or each for itself."""

    prompt: Conversation
    texts: tuple[str, ...]
    choices: bool


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="score")
    asked = read(options.requests) if options.requests else [single(options)]
    model = load_open(options.model, precision=options.precision, say=say)
    prompts, texts = [row.prompt for row in asked for _ in row.texts], [text for row in asked for text in row.texts]
    if options.dry_run:
        return dry_run(model, prompts, texts, options)
    samples = iter(model.score(prompts, texts, truncate=options.truncate))
    scored = [(row, [next(samples) for _ in row.texts]) for row in asked]
    if options.requests is None:
        row, own = scored[0]
        return answer({"model": model.name, **found(row, own)}, "\n".join(lines(row, own)), as_json=options.json)
    rows = [found(row, own) for row, own in scored]
    if options.out:
        write_text(options.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    cut = sum(sample.cut > 0 for _, own in scored for sample in own)
    human = f"scored {len(texts)} texts after {len(asked)} prompts; {cut} prompts cut on the left" + (f"\n{options.out}" if options.out else "")
    return answer({"model": model.name, "rows": rows, "cut": cut}, human, as_json=options.json)


def single(options: Options) -> Asked:
    if bool(options.reply) == bool(options.choices) or not options.prompt:
        raise InputError("give a prompt and --reply or --choices (one of the two), or a file with --requests")
    prompt = Conversation().human(options.prompt)
    return Asked(prompt.assistant(options.opening) if options.opening else prompt, options.reply or options.choices, bool(options.choices))


def read(path: Path) -> list[Asked]:
    """Rows of a file. Raises InputError, with the line, on one that does not say what to score."""
    asked = []
    for number, row in read_rows(path):
        try:
            prompt = from_messages(row["messages"]) if "messages" in row else Conversation().human(row["prompt"])
            texts = row.get("choices") or row.get("replies") or [row["reply"]]
            prompt = prompt.assistant(row["opening"]) if row.get("opening") else prompt
            if not all(isinstance(text, str) and text for text in texts):
                raise InputError(f"every reply and choice must be text and not empty; found {texts!r}")
        except (KeyError, TypeError, InputError) as error:
            raise InputError(f"{path}, line {number}: expected prompt or messages, and reply, replies or choices ({error})") from error
        asked.append(Asked(prompt, tuple(texts), bool(row.get("choices"))))
    return asked


def dry_run(model: TorchModel, prompts: Sequence[Conversation], texts: Sequence[str], options: Options) -> int:
    planned = model.requests(prompts, texts, truncate=options.truncate)
    requests = [request for request, _ in planned]
    whole, unique = sum(len(prompt) + len(reply) for prompt, reply in requests), trie_of(requests).unique_tokens
    cut = sum(own > 0 for _, own in planned)
    told = {"requests": len(requests), "tokens": whole, "unique_tokens": unique, "tokens_saved": whole - unique, "prompts_cut": cut}
    return answer(
        {"model": model.name, **told}, "\n".join(f"{name.replace('_', ' '):<14} {value}" for name, value in told.items()), as_json=options.json
    )


def found(row: Asked, samples: Sequence[Sample]) -> dict[str, Any]:
    if row.choices:
        return {"choices": list(row.texts), **asdict(belief(samples))}
    return {"replies": [from_sample(sample) for sample in samples]}


def lines(row: Asked, samples: Sequence[Sample]) -> list[str]:
    if not row.choices:
        return [f"{s.logprob:9.3f} nats  {len(s.tokens):3d} tokens  {s.logprob / len(s.tokens):7.3f} a token  {s.text}" for s in samples]
    one = belief(samples)
    rows = zip(row.texts, one.belief, one.logprobs, one.tokens, strict=True)
    told = [f"{share:8.4f}  {logprob:9.3f} nats  {tokens:2d} tokens  {choice}" for choice, share, logprob, tokens in rows]
    return [*told, f"mass on the choices together: {one.mass:.4f}"]
