"""`bitlane trace`: the story of one request, readable at a glance."""

from argparse import Namespace
from datetime import datetime

from bitlane.cli.admin_report import excerpt, money
from bitlane.cli.phases import Phase, losses, spent
from bitlane.cli.report import moment, present, words
from bitlane.cli.terminal import Terminal
from bitlane.cli.times import short
from bitlane.errors import ConfigError, InvalidRequest
from bitlane.request_types import RequestState, RequestStatus, RequestStory, Transition, TransitionKind
from bitlane.sync import Client
from bitlane.types import Decision

_FAILED = {"deadline", "rejected", "not_migratable", "attempts_exhausted"}


def trace(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    """Prints a request's story. True."""
    return present(find(client, arguments.request_id, getattr(arguments, "tenant", "")), show, arguments, terminal)


def find(client: Client, request_id: str, tenant: str) -> RequestStory:
    """The story; an operator need not name the tenant of a request that came lately and whose id is one tenant's."""
    requests = client.admin.requests
    try:
        return requests.story(request_id, tenant=tenant)
    except InvalidRequest as error:
        if tenant or [violation.field for violation in error.violations] != ["tenant"]:
            raise
    owners = sorted({each.tenant for each in requests.recent(limit=1000) if each.request_id == request_id})
    if len(owners) == 1:
        return requests.story(request_id, tenant=owners[0])
    found = f"several have this id: {', '.join(owners)}" if owners else "it is not among those that came last"
    raise ConfigError(f"whose is it? name its tenant with --tenant ({found})")


def show(story: RequestStory, terminal: Terminal) -> None:
    request = story.request
    terminal.line(f"{terminal.strong(request.request_id)} of {request.tenant}/{request.key or '-'}: {_state(request)}")
    rows = _facts(story)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        terminal.line(f"  {terminal.dim(name.ljust(width))}  {value}")
    terminal.line()
    start = request.submitted_at
    table = [
        (_after(start, step.time), words(step.kind), _lease(step), _who(step), _what(step))
        for step in story.transitions
    ]
    if request.ended_at is None:
        table.append(
            (_after(start, request.read_at), "now", "", request.worker if _runs(request) else "", request.state.value)
        )
    terminal.table(("after", "step", "lease", "by", ""), table, indent="  ", numbers=("after", "lease"))


def tokens_per_second(story: RequestStory) -> float | None:
    """While it decoded; None when it has not, or said too little to tell."""
    decoding = sum(each.seconds for each in spent(story) if each.phase is Phase.DECODE)
    tokens = story.request.usage.output_tokens - 1  # the first one is the prefill's
    return tokens / decoding if decoding > 0 and tokens > 0 else None


def _state(request: RequestStatus) -> str:
    if request.outcome is None:
        return request.state.value
    how = words(request.outcome)
    if request.state is RequestState.DEAD:
        how += ", a dead letter now"
    detail = excerpt(request.detail)
    return f"ended, {how}" + (f" ({detail})" if detail and request.outcome in _FAILED else "")


def _facts(story: RequestStory) -> list[tuple[str, str]]:
    request, decision = story.request, story.request.decision
    source = f"{decision.task_source.value}, {decision.task_confidence:.0%} sure"
    risk = "" if decision.risk is None else f", risk {decision.risk:.2f}"
    rows = [
        ("precision", f"{decision.precision.value} in {decision.pool}, because of {words(decision.reason)}"),
        ("task", f"{words(decision.task)} ({source}), {decision.sensitivity.value} sensitivity{risk}"),
        ("policy", _policy(decision)),
        ("served by", _server(request)),
        ("submitted", f"{moment(request.submitted_at)}, {request.priority.value}" + _deadline(request)),
        ("time", _times(story)),
        ("slowest", _slowest(story)),
        ("tokens", _tokens(story)),
        ("cost", _cost(request)),
    ]
    if decision.ignored_field:
        rows.insert(3, ("ignored", f"{decision.ignored_field}, which this tenant's clients may not ask for"))
    return rows


def _policy(decision: Decision) -> str:
    version, rule = decision.policy_version or "default", decision.rule or "none"
    return f"version {version}, rule {rule}, fp4 gate {words(decision.gate)}"


def _deadline(request: RequestStatus) -> str:
    if request.deadline is None or request.submitted_at is None:
        return ", no deadline"
    return f", to end within {short((request.deadline - request.submitted_at).total_seconds())}"


def _server(request: RequestStatus) -> str:
    if not request.worker:
        return "no worker yet" if request.outcome is None else "no worker"
    made = request.profile
    parts = [request.worker]
    if made:
        parts += [
            f"{made.weight_format} {words(made.compute_path)}".strip(),
            f"{made.engine} {made.engine_version}".strip(),
        ]
        parts += [made.gpu or "cpu"]
    attempts = f"attempt {request.attempts}" if request.outcome is None else f"{request.attempts} attempt"
    if request.outcome is not None and request.attempts != 1:
        attempts += "s"
    return ", ".join([*(part for part in parts if part), attempts])


def _times(story: RequestStory) -> str:
    request = story.request
    parts = [f"{each.phase.value} {short(each.seconds)} ({each.share:.0%})" for each in spent(story)]
    first = request.first_token_at
    if first and request.submitted_at:
        parts.append(f"first token after {short((first - request.submitted_at).total_seconds())}")
    end = request.ended_at or request.read_at
    if end and request.submitted_at:
        parts.append(f"{'all' if request.ended_at else 'so far'} {short((end - request.submitted_at).total_seconds())}")
    return " · ".join(parts)


def _slowest(story: RequestStory) -> str:
    """What took longest, and what that usually means."""
    took = spent(story)
    if not took:
        return "nothing took long"
    most, request = max(took, key=lambda each: each.seconds), story.request
    lost = losses(story.transitions)
    match most.phase:
        case Phase.QUEUE:
            why = (
                f"no slot was free in {request.decision.pool}"
                if request.worker
                else f"waits in {request.decision.pool}"
            )
        case Phase.PREFILL:
            why = f"{request.usage.prompt_tokens:,} prompt tokens" if request.usage.prompt_tokens else "the prompt"
        case Phase.DECODE:
            rate = tokens_per_second(story)
            why = f"{request.usage.output_tokens:,} tokens" + (f" at {rate:,.1f} tokens/s" if rate else "")
            if any(step.kind is TransitionKind.RECLAIMED for step in lost):
                why += "; a worker was silent until its lease ran out"
        case Phase.MIGRATION:
            why = (
                f"{len(lost)} worker{'s' if len(lost) != 1 else ''} lost it: {excerpt(lost[-1].detail) or 'drained'}"
                if lost
                else "it moved"
            )
        case Phase.UNKNOWN:
            why = "in steps that are not kept"
    return f"{most.phase.value} ({most.share:.0%}): {why}"


def _tokens(story: RequestStory) -> str:
    usage, rate = story.request.usage, tokens_per_second(story)
    cached = f" ({usage.cached_prompt_tokens:,} cached)" if usage.cached_prompt_tokens else ""
    speed = f", {rate:,.1f} tokens/s" if rate else ""
    return f"{usage.prompt_tokens:,} in{cached}, {usage.output_tokens:,} out{speed}"


def _cost(request: RequestStatus) -> str:
    if request.outcome in ("not_migratable", "attempts_exhausted"):
        return "none: the service failed"
    text = f"{money(request.cost)} {request.currency}" + ("" if request.outcome else " so far")
    if request.fp8_cost and request.fp8_cost != request.cost:
        saved = float((request.fp8_cost - request.cost) / request.fp8_cost)
        verb = "less" if saved > 0 else "more"
        text += f", {abs(saved):.0%} {verb} than FP8 alone ({money(request.fp8_cost)})"
    return text


def _runs(request: RequestStatus) -> bool:
    return request.state is RequestState.RUNNING


def _after(start: datetime | None, time: datetime | None) -> str:
    if start is None or time is None:
        return "-"
    return f"{(time - start).total_seconds():+.3f} s"


def _lease(step: Transition) -> str:
    return str(step.epoch) if step.epoch else ""


def _who(step: Transition) -> str:
    return excerpt(step.router or step.worker)


def _what(step: Transition) -> str:
    detail = excerpt(step.detail)
    match step.kind:
        case TransitionKind.CLAIMED:
            return f"attempt {step.attempt}"
        case TransitionKind.FIRST_TOKEN:
            return "" if step.index == 0 else f"goes on at {step.index}"
        case TransitionKind.RELEASED:
            return f"failed: {detail}" if step.failed else "drained" + (f": {detail}" if detail else "")
        case TransitionKind.FENCED:
            return "the worker of this lease came too late and was refused"
        case TransitionKind.DROPPED:
            return f"{step.dropped} steps are not kept"
        case TransitionKind.ENDED:
            outcome, _, rest = step.detail.partition(" ")
            return words(outcome) + (f": {excerpt(rest)}" if rest else "")
        case _:
            return detail
