"""`make demo`: what bitlane does, on a real model in real FP4 and FP8 arithmetic, in about a minute."""

import asyncio
import time
from dataclasses import dataclass

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import bitlane
from deploy.local.prompts import (
    CAPITAL,
    KILL_AFTER_TOKENS,
    PROMPTS,
    STORY,
    STORY_TOKENS,
    WORD_PROBLEM,
    WORD_PROBLEM_ANSWER,
    WORD_PROBLEM_PROMPT,
    Prompt,
)
from deploy.local.stack import Stack

_LEASE_MS = 1500
_COLOURS = {"fp4": "green", "fp8": "cyan"}


class DemoFailed(Exception):
    """The stack did not do what the demo is there to show."""


@dataclass(frozen=True, slots=True)
class _Served:
    """One reply, and how fast it came as the client saw it."""

    prompt: Prompt
    completion: bitlane.Completion
    first_token_s: float
    tokens_a_second: float  # after the first token


def run_demo() -> int:
    console = Console()
    began = time.monotonic()
    console.print("[bold]bitlane[/bold]: one model, two precisions, each request where it belongs\n")
    with Stack(lease_ms=_LEASE_MS, say=lambda line: console.print(f"  {line}", style="dim")) as stack:
        stack.start()
        console.print(f"  stack ready after {time.monotonic() - began:.1f} s\n", style="dim")
        try:
            asyncio.run(_tour(console, stack))
        except DemoFailed as failed:
            console.print(f"[bold red]the demo failed:[/bold red] {failed}")
            return 1
    console.print(f"Everything is stopped. The demo took {time.monotonic() - began:.0f} s.")
    console.print("Next: [bold]make up[/bold] runs the stack for you to try; README.md shows how to call it.")
    return 0


async def _tour(console: Console, stack: Stack) -> None:
    clients = {tenant: bitlane.AsyncClient(stack.target, api_key=f"bl_local_{tenant}") for tenant in ("acme", "globex")}
    try:
        await _show_routing(console, clients)
        await _show_difference(console, clients["acme"])
        await _show_migration(console, stack, clients["acme"])
    finally:
        for client in clients.values():
            await client.close()


async def _show_routing(console: Console, clients: dict[str, bitlane.AsyncClient]) -> None:
    console.rule(f"1. {len(PROMPTS)} prompts, two tenants, all at once", align="left")
    with console.status("streaming ..."):
        served = await asyncio.gather(*(_serve(clients[prompt.tenant], prompt) for prompt in PROMPTS))
    for one in served:
        console.print(Text.assemble((f"{one.prompt.tenant:>6} ", "dim"), (one.prompt.text, "bold")))
        reply = " ".join(one.completion.text.split())
        console.print(Text("       " + reply, style="italic", overflow="ellipsis", no_wrap=True))
    console.print()
    console.print(_routing_table(served, console.width))
    used = {one.completion.precision.value for one in served}
    if used != {"fp4", "fp8"}:
        raise DemoFailed(f"both precisions were to serve, and only {', '.join(sorted(used))} did")
    capital = served[PROMPTS.index(CAPITAL)].completion
    if "Paris" not in capital.text:
        raise DemoFailed(f"asked for the capital of France, the model said: {capital.text!r}")
    console.print(
        "\nThe embedded engine computes both formats in NumPy on this CPU: it shows what they do to the text, not how "
        "fast a GPU runs them. globex serves nothing from FP4 weights without calibration: its chat runs in FP8.\n",
        style="dim",
    )


def _routing_table(served: list[_Served], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold underline")
    table.add_column("prompt", no_wrap=True, max_width=max(16, width - 64))
    for name, least in (("task", 16), ("in", 3), ("reason", 20)):
        table.add_column(name, min_width=least, no_wrap=True)
    for name, least in (("TTFT s", 6), ("tok/s", 5), ("tokens", 6)):
        table.add_column(name, justify="right", min_width=least, no_wrap=True)
    for one in served:
        decision, precision = one.completion.decision, one.completion.precision.value
        table.add_row(
            one.prompt.text,
            decision.task.value if decision.task else "",
            Text(precision.upper(), style=_COLOURS.get(precision, "")),
            decision.reason.value,
            f"{one.first_token_s:.2f}",
            f"{one.tokens_a_second:.1f}",
            str(one.completion.usage.output_tokens),
        )
    return table


async def _serve(client: bitlane.AsyncClient, prompt: Prompt) -> _Served:
    began = time.monotonic()
    first = last = 0.0
    async with client.stream(
        messages=[{"role": "user", "content": prompt.text}],
        model="smollm2",
        max_tokens=prompt.max_tokens,
        temperature=0,
    ) as stream:
        async for delta in stream:
            last = time.monotonic()
            first = first or (last if delta.token_ids else 0.0)
        completion = await stream.result()
    after_first = completion.usage.output_tokens - 1
    return _Served(prompt, completion, first - began, after_first / (last - first) if last > first else 0.0)


async def _show_difference(console: Console, client: bitlane.AsyncClient) -> None:
    console.rule("2. Why a router: one word problem, pinned to FP4 and to FP8", align="left")
    console.print(f"[bold]{WORD_PROBLEM}[/bold]  (right: {WORD_PROBLEM_ANSWER})\n")

    async def ask(pin: str) -> bitlane.Completion:
        return await client.generate(
            WORD_PROBLEM_PROMPT,
            model="smollm2",
            pin=pin,  # pyright: ignore[reportArgumentType]: one of the names
            max_tokens=48,
            temperature=0,
            stop=["\n"],
        )

    with console.status("both pools compute ..."):
        replies = await asyncio.gather(ask("fp4"), ask("fp8"))
    grid = Table.grid(expand=True, padding=(0, 1))
    panels: list[Panel] = []
    for pin, reply in zip(("fp4", "fp8"), replies, strict=True):
        if reply.precision.value != pin:
            raise DemoFailed(f"pinned to {pin}, served in {reply.precision.value}")
        profile = reply.receipt.profile
        title = f"{pin.upper()} ({profile.weight_format})" if profile else pin.upper()
        panels.append(Panel(reply.text.strip(), title=title, border_style=_COLOURS[pin]))
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    console.print(grid)
    console.print(
        "The prompt shows two worked examples first: a model this small takes no steps without them. The problem is "
        "one that it solves when nothing is rounded; most it does not.\n",
        style="dim",
    )


async def _show_migration(console: Console, stack: Stack, client: bitlane.AsyncClient) -> None:
    console.rule("3. A worker is killed in the middle of a stream", align="left")

    def story() -> bitlane.AsyncStream:
        return client.stream(
            messages=[{"role": "user", "content": STORY}],
            model="smollm2",
            pin="fp8",
            max_tokens=STORY_TOKENS,
            temperature=0,
        )

    with console.status("first, the same request undisturbed ..."):
        undisturbed = await story().result()
    console.print(f"[bold]{STORY}[/bold]\n")
    victim = stack.workers["smollm2/fp8"][-1]
    heir = None
    seen = 0
    killed_at = resumed_after = 0.0
    async with story() as stream:
        async for delta in stream:
            if killed_at and not resumed_after:
                resumed_after = time.monotonic() - killed_at
            console.print(delta.text, end="", style="cyan" if heir else "", highlight=False, markup=False)
            seen += len(delta.token_ids)
            if heir is None and seen >= KILL_AFTER_TOKENS:
                killed_at = time.monotonic()
                victim.kill()
                console.print(f" [bold red]<-- SIGKILL of worker {victim.name}, pid {victim.pid}[/bold red] ", end="")
                heir = stack.add_worker("smollm2/fp8")
        disturbed = await stream.result()
    console.print("\n")
    if heir is None:
        raise DemoFailed("the reply ended before the worker could be killed")
    same = disturbed.token_ids == undisturbed.token_ids and disturbed.text == undisturbed.text
    console.print(
        f"Worker {heir.name} (pid {heir.pid}) was started, loaded the model and went on {resumed_after:.1f} s later "
        f"from the logged tokens: {disturbed.usage.output_tokens} tokens in {disturbed.receipt.attempts} attempts. "
        f"Text and tokens equal those of the undisturbed run: [bold]{'yes' if same else 'NO'}[/bold].\n"
    )
    if not same:
        raise DemoFailed("the text did not go on as it would have")
    if disturbed.receipt.attempts < 2:
        raise DemoFailed("no second worker took part")
