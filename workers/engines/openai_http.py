"""Any OpenAI-compatible server as an engine: vLLM's, SGLang's, trtllm-serve, llama.cpp's.

Two ways. By tokens, where the server takes and returns token ids (`token_ids: true`; vLLM's `return_token_ids`):
replies resume to the token, as with an engine in this process. By text, everywhere else: a reply that moves goes on
from the text that was logged, which another tokenization may split differently; a conversation goes on only at servers
that continue a last turn of the assistant.
"""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import structlog

from precision.profile import ComputePath, Precision, Profile
from precision.quantization import UnknownQuantization
from precision.untyped import integer, items, mapping, text
from workers.attest import ProfileMismatchError, attest, profile_of
from workers.checkpoint import CheckpointUnreadable, digest_of
from workers.engine import Delta, Engine, EngineDead, FinishReason, Job, JobRejected, Load, TokenLogprobs
from workers.engines import options as chosen
from workers.engines.driver import DriverOptions, Order, OrderRefused, Started, Step, seed_at
from workers.engines.failures import facts
from workers.engines.hosted import EngineFailed, HostedEngine
from workers.engines.http_server import HttpServer, ServedModel, ServerRefused
from workers.engines.lifeline import Lifeline
from workers.engines.vocabulary import Vocabulary, VocabularyError
from workers.gpu import GpuUnknown, probe
from workers.text import TextStream

_log = structlog.get_logger("bitlane.worker")
_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_KNOWN = (
    "url",
    "served_model",
    "slots",
    "context_tokens",
    "checkpoint",
    "token_ids",
    "compute_path",
    "server",
    "key_file",
    "guided",
    "priority",
    "profile",
)
_PRIORITY = {"": 0, "lower_first": 1, "higher_first": -1}


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What the operator says about a server."""

    url: str
    served_model: str
    slots: int
    context_tokens: int
    checkpoint: Path | None  # the folder that the server serves, as this host sees it
    token_ids: bool
    compute_path: ComputePath | None
    server: str  # which server it is: for receipts
    key: str
    guided: str  # structured_outputs (vLLM), response_format (others), or none
    priority: str  # "", lower_first or higher_first
    declared: Mapping[str, object]  # a profile that cannot be attested from here


def read_options(options: chosen.Options) -> HttpOptions:
    """Raises ValueError for an option that is missing, unknown or of the wrong kind."""
    if unknown := sorted(set(options) - set(_KNOWN)):
        raise ValueError(f"unknown option {', '.join(unknown)}; known are {', '.join(_KNOWN)}")
    url = chosen.text(options, "url")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url: want the server's address, such as http://127.0.0.1:8000/v1, got {url!r}")
    folder, declared = chosen.text(options, "checkpoint"), mapping(options.get("profile"))
    if bool(folder) == bool(declared):
        raise ValueError("set checkpoint (the served folder, to be attested) or profile (what cannot be), one of them")
    guided = chosen.text(options, "guided", "none")
    if guided not in {"none", "structured_outputs", "response_format"}:
        raise ValueError(f"guided: want none, structured_outputs or response_format, got {guided!r}")
    priority = chosen.text(options, "priority")
    if priority not in _PRIORITY:
        raise ValueError(f"priority: want lower_first or higher_first, got {priority!r}")
    token_ids = chosen.flag(options, "token_ids", default=False)
    if token_ids and not folder:
        raise ValueError("token_ids: needs checkpoint, for its tokenizer")
    key_file = chosen.text(options, "key_file")
    return HttpOptions(
        url=url,
        served_model=chosen.text(options, "served_model"),
        slots=chosen.number(options, "slots", 64, least=1),
        context_tokens=chosen.number(options, "context_tokens", 0, least=0),
        checkpoint=Path(folder) if folder else None,
        token_ids=token_ids,
        compute_path=chosen.path_of(options),
        server=chosen.text(options, "server", "openai_http"),
        key=_key(key_file) if key_file else "",
        guided=guided,
        priority=priority,
        declared=declared,
    )


def _key(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"key_file: cannot read {path}: {error.strerror}") from None


def make(precision: Precision, options: chosen.Options) -> Engine:
    """An engine that is not started yet. Raises ValueError."""
    read = read_options(options)
    if not read.token_ids:
        return TextEngine(read, precision)
    assert read.checkpoint is not None
    folder = read.checkpoint

    def prepare() -> Vocabulary:
        attest(_profile(read, ""), f"of {precision.name}", precision, read.compute_path)
        try:
            return Vocabulary(folder)
        except VocabularyError as error:
            raise ProfileMismatchError(str(error)) from error

    def attested(version: str) -> Profile:
        return _profile(read, version, digest_of(folder))

    limits = DriverOptions(str(folder), read.slots, read.context_tokens)
    return HostedEngine(HttpDriver(read), limits, prepare, attested, guided=read.guided != "none")


class HttpDriver:
    """A server that takes and returns token ids: see `workers.engines.driver.Driver`."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._server = HttpServer(options.url, options.key, options.slots)
        self._model = ServedModel("", 0, "")

    async def start(self, lost: Callable[[str], None]) -> Started:
        del lost
        await self._server.open()
        self._model = await _served(self._server, self._options)
        return Started(await self._server.version(), self._model.context_tokens)

    async def generate(self, order: Order) -> AsyncGenerator[Step]:
        sampling = order.sampling
        body: dict[str, object] = {
            "model": self._model.name,
            "prompt": list(order.prompt),
            "stop_token_ids": sorted(order.ends),
            "ignore_eos": not order.ends,
            "return_token_ids": True,
            **_common(order.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k),
            **_extras(self._options, order.guided, int(order.priority)),
        }
        if sampling.temperature > 0:
            body["seed"] = seed_at(sampling.seed, order.place)
        if sampling.logprobs is not None:
            body["logprobs"] = sampling.logprobs
        ended: FinishReason | None = None
        cached = 0
        try:
            async with aclosing(self._server.stream("completions", body, _headers(order.id, order.trace))) as events:
                async for event in events:
                    cached = _cached(event) or cached
                    for choice in map(mapping, items(event.get("choices"))):
                        ids = tuple(integer(token) for token in items(choice.get("token_ids")))
                        ended = _reason(choice) or ended
                        if ids:
                            yield Step(ids, _chosen_logprobs(choice, len(ids)), None, cached)
                        elif text(choice.get("text")):
                            raise RuntimeError("the server returns no token ids: set token_ids to false")
        except ServerRefused as error:
            raise _refused(error, order.guided, "prompt") from error
        yield Step((), ended=ended or FinishReason.LENGTH, cached=cached)

    async def health(self) -> None:
        await self._server.health()

    def load(self) -> Load | None:
        return self._server.load

    async def close(self) -> None:
        await self._server.close()


class TextEngine:
    """A server that is spoken to in text: see `workers.engine.Engine`. Its deltas count tokens and do not name them."""

    def __init__(self, options: HttpOptions, precision: Precision) -> None:
        self._options = options
        self._precision = precision
        self._server = HttpServer(options.url, options.key, options.slots)
        self._model = ServedModel("", 0, "")
        self._profile: Profile | None = None
        self._life = Lifeline()
        self._taken = 0

    @property
    def profile(self) -> Profile:
        assert self._profile is not None, "valid after start"
        return self._profile

    @property
    def slots(self) -> int:
        return self._options.slots

    @property
    def context_tokens(self) -> int:
        known = (self._options.context_tokens, self._model.context_tokens)
        return min((tokens for tokens in known if tokens), default=0)

    async def start(self) -> None:
        options = self._options
        attest(_profile(options, ""), f"of {self._precision.name}", self._precision, options.compute_path)
        await self._server.open()
        self._model = await _served(self._server, options)
        if not self.context_tokens:
            raise ProfileMismatchError("the server does not say how long its context is: set context_tokens")
        digest = digest_of(options.checkpoint) if options.checkpoint else ""
        self._profile = _profile(options, await self._server.version(), digest)
        self._life.begin()

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        self._life.require()
        if self._taken >= self.slots:
            raise RuntimeError(f"job {job.id} came with all {self.slots} slots taken")
        left = job.sampling.max_tokens - job.generated.tokens
        if left <= 0:
            yield Delta(finish_reason=FinishReason.LENGTH)
            return
        if job.guided is not None and self._options.guided == "none":
            raise JobRejected("guided", "this pool's engine was started without guided decoding")
        self._taken += 1
        try:
            async for delta in self._deltas(job, left):
                yield delta
        except EngineDead as dead:
            self._life.lose(str(dead))
            raise
        except ServerRefused as error:
            _log.info("engine.refused", job=job.id, **facts(error.__cause__ or error, job))
            refused = _refused(error, job.guided, "messages" if job.prompt is None else "prompt", self.context_tokens)
            raise JobRejected(refused.field, refused.description) from None
        except Exception as error:
            if self._life.death:
                raise EngineDead(self._life.death) from None
            _log.warning("engine.failed", job=job.id, **facts(error.__cause__ or error, job))
            raise EngineFailed(f"the engine failed with {type(error).__name__}") from None
        finally:
            self._taken -= 1

    async def _deltas(self, job: Job, left: int) -> AsyncGenerator[Delta]:
        sampling = job.sampling
        body: dict[str, object] = {
            "model": self._model.name,
            # OpenAI's own bound; all of them are looked for here.
            **({"stop": list(sampling.stop[:4])} if sampling.stop else {}),
            **_common(left, sampling.temperature, sampling.top_p, sampling.top_k),
            **_extras(self._options, job.guided, int(job.priority)),
        }
        if sampling.temperature > 0:
            body["seed"] = seed_at(sampling.seed, job.generated.tokens)
        path = _put_prompt(body, job)
        stream, usage = TextStream(sampling.stop), _Usage()
        ended: FinishReason | None = None
        headers = _headers(job.id, job.trace_headers)
        async with aclosing(self._server.stream(path, body, headers)) as events:
            while True:
                try:
                    event = await self._life.next(events)
                except StopAsyncIteration:
                    break
                usage.read(event)
                piece = ""
                for choice in map(mapping, items(event.get("choices"))):
                    piece += text(choice.get("text")) or text(mapping(choice.get("delta")).get("content"))
                    ended = _reason(choice) or ended
                final = stream.push(piece)
                if stream.stopped:
                    ended = FinishReason.STOP
                    yield usage.delta(final, piece, FinishReason.STOP)
                    return
                if final or (piece and ended is None):
                    yield usage.delta(final, piece)
        if ended is None:
            raise RuntimeError("the server's stream ended without a finish reason")
        yield usage.delta(stream.flush(), "", ended)

    async def health(self) -> None:
        self._life.require()
        try:
            await self._server.health()
        except EngineDead as dead:
            self._life.lose(str(dead))
            raise

    def load(self) -> Load:
        return self._server.load or Load(self._taken)

    async def close(self) -> None:
        self._life.lose("the engine was closed")
        await self._server.close()


class _Usage:
    """Counts tokens of a text stream: one a piece, until the server says how many there were."""

    def __init__(self) -> None:
        self._told = 0
        self._total = 0
        self._prompt = 0
        self._cached = 0

    def read(self, event: Mapping[str, object]) -> None:
        usage = mapping(event.get("usage"))
        self._total = integer(usage.get("completion_tokens")) or self._total
        self._prompt = integer(usage.get("prompt_tokens")) or self._prompt
        self._cached = _cached(event) or self._cached

    def delta(self, final: str, piece: str, ended: FinishReason | None = None) -> Delta:
        count = max(self._total - self._told, 0) if self._total else int(bool(piece))
        self._told += count
        return Delta(final, (), (), ended, self._prompt, min(self._cached, self._prompt), count)


async def _served(server: HttpServer, options: HttpOptions) -> ServedModel:
    """Raises ProfileMismatchError when the server does not serve what it should."""
    try:
        model = await server.model(options.served_model)
    except LookupError as error:
        raise ProfileMismatchError(str(error)) from error
    if options.checkpoint is not None and _differ(options.checkpoint, model.root):
        raise ProfileMismatchError(
            f"the server serves {model.root}, and checkpoint is {options.checkpoint}: attest what is served"
        )
    return model


def _differ(local: Path, root: str) -> bool:
    """Whether a server says that it serves another folder. One that this host does not have says nothing."""
    served = Path(root)
    return bool(root) and served.is_dir() and not served.samefile(local)


def _profile(options: HttpOptions, version: str, digest: str = "") -> Profile:
    """From the checkpoint and this host's GPU; or as the operator declares it, which the version then says.

    Raises:
        ProfileMismatchError: it cannot be found out.
    """
    try:
        if options.checkpoint is not None:
            return profile_of(options.checkpoint, probe(), engine=options.server, version=version, digest=digest)
        said = options.declared
        return Profile(
            precision=Precision[str(said["precision"]).upper()],
            weight_format=str(said["weight_format"]),
            activation_format=str(said["activation_format"]),
            kv_cache_format=str(said["kv_cache_format"]),
            group_size=integer(said.get("group_size")),
            compute_path=ComputePath(str(said["compute_path"])),
            checkpoint_digest=str(said["checkpoint_digest"]),
            calibrated=bool(said.get("calibrated")),
            engine=options.server,
            engine_version=f"{version} (declared)".strip(),
            gpu=text(said.get("gpu")),
            sm=text(said.get("sm")),
        )
    except (CheckpointUnreadable, UnknownQuantization, GpuUnknown) as error:
        raise ProfileMismatchError(str(error)) from error
    except (KeyError, ValueError) as error:
        raise ProfileMismatchError(f"profile: {error} is missing or no good (docs/engines.md)") from error


def _common(max_tokens: int, temperature: float, top_p: float, top_k: int) -> dict[str, object]:
    return {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        **({"top_k": top_k} if top_k else {}),
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _extras(options: HttpOptions, guided: tuple[str, str] | None, priority: int) -> dict[str, object]:
    """What servers have beyond OpenAI's API, as far as the operator says that this one has it."""
    extras: dict[str, object] = {}
    if options.priority:
        extras["priority"] = _PRIORITY[options.priority] * priority
    if guided is not None:
        kind, guide = guided
        if options.guided == "structured_outputs":
            extras["structured_outputs"] = {"json" if kind == "json_schema" else "regex": guide}
        elif kind == "json_schema":
            try:
                schema: object = json.loads(guide)
            except ValueError:
                raise JobRejected("guided.json_schema", "is no JSON") from None
            extras["response_format"] = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
        else:
            raise JobRejected("guided.regex", "this pool's engine follows JSON schemas only")
    return extras


def _put_prompt(body: dict[str, object], job: Job) -> str:
    """Adds the prompt, with what was generated before, and returns the path to send it to."""
    if job.prompt is not None:
        body["prompt"] = job.prompt + job.generated.text
        return "completions"
    turns = [{"role": turn.role, "content": turn.content} for turn in job.messages]
    if job.generated.text:
        turns.append({"role": "assistant", "content": job.generated.text})
        # vLLM and SGLang want to be told; llama.cpp goes on with a last turn of the assistant by itself.
        body["continue_final_message"] = True
        body["add_generation_prompt"] = False
    body["messages"] = turns
    return "chat/completions"


def _refused(error: ServerRefused, guided: object, field: str, context: int = 0) -> OrderRefused:
    if guided is not None:
        refused = OrderRefused("guided", "the engine cannot follow this schema or expression")
    else:
        room = f" of {context:,} tokens" if context else ""
        refused = OrderRefused(field, f"the engine refuses it; perhaps it does not fit into the context{room}")
    refused.__cause__ = error.__cause__ or error
    return refused


def _headers(job_id: str, trace: Mapping[str, str]) -> dict[str, str]:
    return {"X-Request-Id": job_id, **trace}


def _reason(choice: Mapping[str, object]) -> FinishReason | None:
    said = choice.get("finish_reason")
    if said is None:
        return None
    if said not in _REASONS:
        raise RuntimeError(f"the server ended the reply: {text(said)[:40]}")
    return _REASONS[text(said)]


def _cached(event: Mapping[str, object]) -> int:
    return integer(mapping(mapping(event.get("usage")).get("prompt_tokens_details")).get("cached_tokens"))


def _chosen_logprobs(choice: Mapping[str, object], count: int) -> tuple[TokenLogprobs, ...]:
    """Those of the chosen tokens: the API names the others by their text, not by id."""
    values = items(mapping(choice.get("logprobs")).get("token_logprobs"))[:count]
    return tuple(TokenLogprobs(float(value)) for value in values if isinstance(value, float | int))
