"""The fences, how each is taken out, and the tests that must fail then: what `tests.chaos.mutations` runs.

`tests/unit/test_mutations.py` holds that every pattern still finds its place.
"""

from dataclasses import dataclass

WORKERS = "tests/chaos/test_workers.py"
LIFECYCLE = "tests/contract/broker/test_lifecycle.py tests/contract/broker/test_dead_letters.py"
EJECTION = "tests/contract/broker/test_ejection.py"
LEFT_TO_OTHERS = "tests/contract/broker/test_left_to_others.py"
DEADLINE = "tests/contract/broker/test_deadline.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fence taken out: in `file`, the one match of `pattern` becomes `into`; then `tests` must fail."""

    name: str
    file: str
    pattern: str  # a regular expression, lenient about spaces, so that it survives a reformatting
    into: str
    tests: str  # arguments of pytest


MUTATIONS = (
    Mutation(
        "no epoch check",
        "broker/lua/lib/hold.lua",
        r"if record\.epoch ~= epoch or record\.state ~= 'running' then",
        "if record.state ~= 'running' then",
        "tests/chaos/test_fences.py -k held",
    ),
    Mutation(
        "no index check in the log",
        "broker/lua/lib/token_log.lua",
        r"if index > length then return HOLE, length end\n  if index < length then",
        "if false then",
        LIFECYCLE,
    ),
    Mutation(
        "a repeated chunk is logged again",
        "broker/lua/lib/token_log.lua",
        r"if index < length then",
        "if false then",
        LIFECYCLE,
    ),
    Mutation(
        "no lease",
        "broker/lua/claim.lua",
        r"redis\.call\('ZADD', key\('lease', pool\),[^\n]*\n",
        "\n",
        LIFECYCLE,
    ),
    Mutation(
        "leases are never extended",
        "broker/lua/lib/hold.lua",
        r"redis\.call\('ZADD', key\('lease', record\.pool\), 'XX',[^\n]*\n",
        "\n",
        LIFECYCLE,
    ),
    Mutation(
        "leases never run out",
        "broker/lua/reclaim.lua",
        r"'-inf', string\.format\('%d', now\)",
        "'-inf', '0'",
        LIFECYCLE,
    ),
    Mutation(
        "reservations are not settled",
        "broker/lua/lib/conclude.lua",
        r"\n +settle\(record, [^\n]*\n",
        "\n",
        "tests/chaos/test_cancel.py -k queue",
    ),
    Mutation(
        "the digest is not compared",
        "broker/lua/submit.lua",
        r"digest == ARGV\[4\] and 'joined' or 'conflict'",
        "'joined'",
        LIFECYCLE,
    ),
    Mutation(
        "an id can be submitted again",
        "broker/lua/submit.lua",
        r"if digest then",
        "if false then",
        LIFECYCLE,
    ),
    Mutation(
        "no deadline at claim",
        "broker/lua/claim.lua",
        r"record\.deadline_ms > 0 and now >= record\.deadline_ms then",
        "false then",
        LIFECYCLE,
    ),
    Mutation(
        "admission forgets that a request has to run as well",
        "broker/lua/submit.lua",
        r" or run > 0 and \(turn \+ run\) \* SLACK > timeout",
        "",
        DEADLINE,
    ),
    Mutation(
        "what cannot be done in time takes a slot",
        "broker/lua/claim.lua",
        r"elseif cannot_finish\(record\) then",
        "elseif false then",
        DEADLINE,
    ),
    Mutation(
        "what was cut off counts as work that was done",
        "broker/lua/lib/rate.lua",
        r"\(WHOLE\[outcome\] and record\.prompt_tokens \+ record\.output_tokens or used\)",
        "record.prompt_tokens + record.output_tokens",
        DEADLINE,
    ),
    Mutation(
        "all workers may be ejected",
        "broker/lua/lib/ejection.lua",
        r"if out \* 2 > live then return '' end",
        "",
        EJECTION,
    ),
    Mutation(
        "what all workers fail on ejects them",
        "broker/lua/lib/ejection.lua",
        r" and best_share\(peers\) < share / 2 then return 'failing'",
        " then return 'failing'",
        EJECTION,
    ),
    Mutation(
        "what failed at a worker comes back to it",
        "broker/lua/claim.lua",
        r"record\.failed_by == worker and",
        "false and",
        LEFT_TO_OTHERS,
    ),
    Mutation(
        "slow workers stay in",
        "broker/lua/lib/ejection.lua",
        r"    return 'slow'\n  end\n  return ''",
        "  end\n  return ''",
        EJECTION,
    ),
    Mutation(
        "an ejected worker goes on as before",
        "workers/worker.py",
        r"serves = serves and self\._may_take_one\(\)",
        "pass",
        "tests/chaos/test_sick_workers.py -k slow",
    ),
    Mutation(
        "no deadline at writes",
        "broker/lua/lib/hold.lua",
        r"record\.deadline_ms > 0 and now >= record\.deadline_ms then",
        "false then",
        LIFECYCLE,
    ),
    Mutation(
        "workers do not stop at the deadline",
        "workers/worker.py",
        r"asyncio\.timeout\(None if remaining_ms is None else remaining_ms / 1000\)",
        "asyncio.timeout(None)",
        "tests/chaos/test_deadlines.py -k stays",
    ),
    Mutation(
        "what is guided is spliced",
        "broker/lua/lib/give_back.lua",
        r"record\.migratable == 0 and log_length\(record\) > 0",
        "false",
        f"{WORKERS} -k not_spliced",
    ),
    Mutation(
        "attempts are not counted",
        "broker/lua/lib/give_back.lua",
        r"if not failed then record\.attempts",
        "if true then record.attempts",
        LIFECYCLE,
    ),
    Mutation(
        "workers are not told of endings",
        "broker/lua/lib/notify.lua",
        r"redis\.call\('RPUSH', control,[^\n]*\n",
        "\n",
        "tests/chaos/test_cancel.py -k 'at_once and prefill'",
    ),
    Mutation(
        "prompts stay",
        "broker/lua/lib/conclude.lua",
        r"redis\.call\('HDEL', request, 'job'\)",
        "local _ = nil",
        "tests/chaos/test_cancel.py -k queue",
    ),
    Mutation(
        "who leaves is not noticed",
        "router/service.py",
        r"await asyncio\.sleep\(grace_s\)",
        "await asyncio.sleep(3600)",
        "tests/chaos/test_cancel.py -k 'killed and decode'",
    ),
    Mutation(
        "a stale reader does not read the log",
        "router/relay.py",
        r"if self\._stale or \(behind and not self\._chunks\):",
        "if False:",
        "tests/contract/router/test_relay.py -k 'lost or slow'",
    ),
    Mutation(
        "a stale reader does not follow again",
        "router/relay.py",
        r"follower = self\._router if self\._stale else \"\"",
        'follower = ""',
        "tests/chaos/test_fences.py -k follows_again",
    ),
    Mutation(
        "the relay takes chunks as they come",
        "router/relay.py",
        r"if event\.index == self\.next_index \+ len\(self\._chunks\) and fits:",
        "if fits:",
        "tests/chaos/test_fences.py -k repeats",
    ),
    Mutation(
        "the SDK takes deltas as they come",
        "bitlane/exchange.py",
        r"if event\.next_index <= self\.next_index and event\.next_index > event\.index:\n +return None\n"
        r" +if event\.index != self\.next_index or event\.next_index < event\.index:",
        "if False:",
        "tests/contract/sdk/test_resume.py tests/contract/sdk/test_ending.py",
    ),
    Mutation(
        "the SDK does not resume",
        "bitlane/exchange.py",
        r"if delay is None or delay >= min\(window_left, deadline\.remaining\(\)\):",
        "if True:",
        "tests/chaos/test_routers.py",
    ),
    Mutation(
        "the retry budget is bottomless",
        "bitlane/retry.py",
        r"self\._tokens = max\(0\.0, self\._tokens - 1\)",
        "pass",
        "tests/chaos/test_overload.py -k 'retries and server'",
    ),
    Mutation(
        "each call that a break met is charged",
        "bitlane/retry.py",
        r"if began < self\._break_met:",
        "if False:",
        "tests/contract/sdk/test_retry.py -k one_break",
    ),
    Mutation(
        "calls are made with no connection",
        "bitlane/channel.py",
        r"if self\._take_connected\(impatient\) or not self\._may_come\(window\):",
        "if True:",
        "tests/contract/sdk/test_reach.py -k wait_for_the_only",
    ),
    Mutation(
        "draining workers hand nothing back",
        "workers/worker.py",
        r"await asyncio\.gather\(\*\(serving\.run\.release\(failed=failed,[^\n]*\n",
        "\n",
        "tests/chaos/test_drain.py -k rolling",
    ),
    Mutation(
        "health does not flip",
        "router/server.py",
        r"await _set_health\(healthiness, health_pb2\.HealthCheckResponse\.NOT_SERVING\)",
        "pass",
        "tests/chaos/test_drain.py -k health",
    ),
    Mutation(
        "gaps in the inbox are not seen",
        "broker/inbox.py",
        r"if first != self\._position \+ 1 or last - first != len\(entries\) - 1:",
        "if False:",
        "tests/contract/broker/test_inbox.py",
    ),
    Mutation(
        "attempts are not linked",
        "telemetry/attempts.py",
        r"return \[sent, first\]",
        "return [sent]",
        "tests/chaos/test_traces.py",
    ),
    Mutation(
        "an unsure write is not repeated",
        "workers/run.py",
        r"except BrokerUnavailable:\n +await asyncio\.sleep\(delay \* random\.uniform\(0\.5, 1\.5\)\)",
        "except BrokerUnavailable:\n                return Held.YES\n                await asyncio.sleep(delay)",
        "tests/chaos/test_store.py -k hang",
    ),
)
