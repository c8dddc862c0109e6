"""The command line as a user runs it: a process of its own, its output, its exit code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bitlane import Violation
from bitlane.testing import FakeServer, Fault, Reply
from bitlane.v1 import inference_pb2 as pb
from tests.contract.sdk.keyboard import Keyboard

BITLANE = [sys.executable, "-m", "bitlane"]


def answer(request: pb.GenerateRequest) -> Reply:
    said = request.prompt or request.messages[-1].content
    return Reply(["You said: ", said, "."], hold_after=1 if "hold" in said else None)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(answer, models=("tiny",)) as server:
        yield server


def run(server: FakeServer | str, *arguments: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
    target = server if isinstance(server, str) else server.target
    done = subprocess.run(
        [*BITLANE, "--target", target, *arguments],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        timeout=30,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_generate_puts_text_to_stdout_and_facts_to_stderr(server: FakeServer):
    code, out, err = run(server, "generate", "hello", "--task", "chat")
    assert (code, out) == (0, "You said: hello.\n")
    assert err.startswith("fp4 · low sensitivity · chat · 3 tokens · 0.")
    assert err.endswith(" s\n")
    assert "\033" not in out + err


def test_generate_sends_what_it_was_told(server: FakeServer):
    options = "--task math --at-least fp8 --max-tokens 9 --seed 4 --stop x --stop y --label a=b --priority batch"
    code, _, _ = run(server, *options.split(), "generate", "--system", "Be brief.", "--request-id", "r1", "hello")
    assert code == 0
    [call] = server.calls_of("Generate")
    request = call.request
    assert isinstance(request, pb.GenerateRequest)
    assert [(turn.role, turn.content) for turn in request.messages] == [
        (pb.ROLE_SYSTEM, "Be brief."),
        (pb.ROLE_USER, "hello"),
    ]
    assert (request.model, request.request_id, request.task) == ("tiny", "r1", pb.TASK_MATH)
    assert (request.sampling.max_tokens, request.sampling.seed, list(request.sampling.stop)) == (9, 4, ["x", "y"])
    assert (dict(request.labels), request.priority) == ({"a": "b"}, pb.PRIORITY_BATCH)
    assert request.precision.at_least == pb.PRECISION_FP8


def test_generate_reads_stdin_and_can_go_without_the_template(server: FakeServer):
    assert run(server, "generate", "--raw", "-", stdin="from a pipe\n")[:2] == (0, "You said: from a pipe.\n")
    [call] = server.calls_of("Generate")
    assert isinstance(call.request, pb.GenerateRequest)
    assert call.request.prompt == "from a pipe"


def test_generate_json(server: FakeServer):
    code, out, err = run(server, "generate", "--json", "--pin", "fp8", "hello")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert (result["text"], result["receipt"]["decision"]["precision"]) == ("You said: hello.", "fp8")
    assert result["usage"]["output_tokens"] == 3


def test_explain(server: FakeServer):
    code, out, _ = run(server, "explain", "one two three")
    assert code == 0
    assert out.startswith("fp4 in pool tiny/fp4\n")
    for line in ("task         chat (classifier, 90% sure)", "policy       fake-1", "* default map", "tiny/fp8  1"):
        assert line in out
    assert json.loads(run(server, "explain", "--json", "x")[1])["decision"]["pool"] == "tiny/fp4"
    assert server.runs == 0


def test_models(server: FakeServer):
    code, out, _ = run(server, "models")
    head, fp4, fp8 = out.splitlines()
    assert (code, head.split()[:3]) == (0, ["model", "context", "pool"])
    assert fp4.split() == [
        "tiny",
        "8192",
        "tiny/fp4",
        "1",
        "0",
        "of",
        "4",
        "0",
        "NVFP4",
        "emulated",
        "fake",
        "1",
        "cpu",
    ]
    assert "FP8_E4M3" in fp8
    [model] = json.loads(run(server, "models", "--json")[1])
    assert [pool["name"] for pool in model["pools"]] == ["tiny/fp4", "tiny/fp8"]


def test_resume_and_cancel(server: FakeServer):
    run(server, "generate", "--request-id", "r1", "hello")
    assert run(server, "resume", "r1", "--from", "1")[:2] == (0, "hello.\n")
    assert run(server, "cancel", "r1")[:2] == (0, "r1 had already ended (stop); 3 tokens were generated\n")
    assert json.loads(run(server, "cancel", "r1", "--json")[1])["cancelled"] is False


def test_chat_through_a_pipe_is_plain(server: FakeServer):
    code, out, err = run(server, "chat", "--system", "Be brief.", stdin="one\n\ntwo\n")
    assert (code, out) == (0, "You said: one.\nYou said: two.\n")
    assert err.count("fp4 · low sensitivity") == 2
    second = server.calls_of("Generate")[1].request
    assert isinstance(second, pb.GenerateRequest)
    assert [turn.content for turn in second.messages] == ["Be brief.", "one", "You said: one.", "two"]


def test_what_the_server_refuses_is_one_line_and_its_violations(server: FakeServer):
    bad = [Violation("sampling.max_tokens", "must be at least 1"), Violation("model", "is unknown")]
    server.inject(Fault("INVALID_ARGUMENT", "2 fields are not valid", violations=bad, method="Generate"))
    assert run(server, "generate", "x") == (
        1,
        "",
        "bitlane: 2 fields are not valid\n  sampling.max_tokens: must be at least 1\n  model: is unknown\n",
    )
    server.inject(Fault("RESOURCE_EXHAUSTED", "too fast", reason="QUOTA_REQUESTS", retry_after=99, method="Generate"))
    assert run(server, "generate", "x") == (1, "", "bitlane: too fast (QUOTA_REQUESTS)\n  try again in 99.0 s\n")
    assert run(server, "cancel", "nope")[0] == 1


def test_a_reply_that_breaks_off_ends_its_line(server: FakeServer):
    server.inject(Fault("ABORTED", "its worker died", reason="NOT_MIGRATABLE", after=1, method="Generate"))
    code, out, err = run(server, "generate", "x")
    assert (code, out) == (1, "You said: \n")
    assert err == "bitlane: its worker died (NOT_MIGRATABLE)\n"


def test_no_key_says_how_to_give_one():
    with FakeServer(api_key="bl_right") as server:
        code, _, err = run(server, "models")
        assert (code, "BITLANE_API_KEY" in err) == (1, True)
        assert run(server, "models", BITLANE_API_KEY="bl_right")[0] == 0
        assert "bl_wrong" not in run(server, "models", "--api-key", "bl_wrong")[2]


def test_nothing_listens():
    with FakeServer() as server:
        target = server.target
    code, _, err = run(target, "generate", "x")
    assert code == 1
    assert err.startswith(f"bitlane: nothing answers at {target}\n")
    assert "make up" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: COMMAND"),
        (["generate"], "required: prompt"),
        (["generate", "--task", "maths", "x"], "invalid choice: 'maths'"),
        (["generate", "--pin", "fp4", "--at-least", "fp8", "--model", "m", "x"], "exclude each other"),
        (["generate", "--max-tokens", "-1", "--model", "m", "x"], "sampling.max_tokens"),
        (["generate", "--label", "x", "y"], "NAME=VALUE"),
        (["--timeout", "0", "models"], "above 0"),
        (["--ca", "/nowhere", "models"], "cannot read /nowhere"),
        (["--cert", "/nowhere", "models"], "cannot read /nowhere"),
        (["--cert", "README.md", "models"], "--cert and --cert-key go together"),
        (["models", "--cert-key", "README.md"], "--cert and --cert-key go together"),
        (["resume", "r", "--from", "-1"], "next_index"),
    ],
)
def test_wrong_usage(server: FakeServer, arguments: list[str], said: str):
    code, _, err = run(server, *arguments)
    assert code == 2
    assert said in err


def test_plaintext_to_another_machine_is_refused():
    code, _, err = run("bitlane.example.com:1", "--tls", "--insecure", "models")
    assert (code, "exclude" in err) == (2, True)


def test_a_model_has_to_be_chosen_where_there_are_several():
    with FakeServer(models=("a", "b")) as server:
        code, _, err = run(server, "generate", "x")
        assert (code, err) == (2, "bitlane: choose a model with --model: a, b\n")
        assert run(server, "generate", "x", BITLANE_MODEL="b")[0] == 0


@pytest.mark.parametrize("command", ["", "chat", "generate", "explain", "models", "cancel", "resume"])
def test_every_help_has_an_example(command: str):
    done = subprocess.run([*BITLANE, *command.split(), "--help"], check=True, capture_output=True, text=True)
    assert f"example:\n  bitlane {command}" in done.stdout


def test_a_reader_that_leaves_is_no_error(server: FakeServer):
    server.script(Reply(["line\n"] * 20_000))
    command = f"{sys.executable} -m bitlane --target {server.target} generate x | head -n 1"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("line\n", "")


def test_ctrl_c_ends_the_request(server: FakeServer):
    command = [*BITLANE, "--target", server.target, "generate", "please hold"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == "You said: "
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""
    [call] = server.calls_of("Generate")
    assert call.ended.wait(10)
    assert call.outcome == "cancelled"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_chat_at_a_terminal(server: FakeServer):
    keyboard = Keyboard(*BITLANE, "--target", server.target, "chat", NO_COLOR="")
    assert "Ctrl-D leaves" in keyboard.see("leaves.")
    keyboard.see("> ")
    keyboard.type("hello\n")
    keyboard.see("You said: hello.")
    assert "\033[2mfp4 · low sensitivity · chat" in keyboard.see("> ")
    keyboard.type("hold on\n")
    keyboard.see("You said: ")
    keyboard.type("\x03")
    assert "stopped" in keyboard.see("> ")
    keyboard.type("half a line")
    keyboard.see("half a line")
    # Python's input() misses a Ctrl-C that comes between two of its own waits.
    keyboard.see("> ", keys="\x03")
    server.inject(Fault("RESOURCE_EXHAUSTED", "too fast", reason="QUOTA_REQUESTS", method="Generate"))
    keyboard.type("again\n")
    keyboard.see("too fast (QUOTA_REQUESTS)")
    keyboard.see("> ")
    keyboard.type("bye\n")
    keyboard.see("You said: bye.")
    keyboard.see("> ")
    keyboard.type("\x04")
    assert keyboard.exit_code() == 0
    turns = server.calls_of("Generate")
    assert turns[1].ended.wait(10)
    assert turns[1].outcome == "cancelled"
    last = turns[-1].request
    assert isinstance(last, pb.GenerateRequest)
    assert [turn.content for turn in last.messages] == [
        "hello",
        "You said: hello.",
        "hold on",
        "You said: ",
        "bye",
    ]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_terminal_without_colour_and_a_reply_with_control_characters(server: FakeServer):
    server.script(Reply(["safe\033[31m\x07 text"]))
    keyboard = Keyboard(*BITLANE, "--target", server.target, "generate", "x", NO_COLOR="1")
    assert "safe[31m text" in keyboard.see("safe[31m text")
    assert "\033" not in keyboard.see(" s")
    assert keyboard.exit_code() == 0
