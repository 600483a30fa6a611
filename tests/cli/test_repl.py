"""The interactive session at a real terminal."""

from tests.cli.terminal import Terminal
from tests.serving import Served

HELLO = "Hello! How can I help you today?"
ENDLESS = '/set parameter logit_bias {"2035": -1000, "2037": -1000}'
"""Never choose the tokens that end an answer of the bundled model."""


def test_a_conversation(terminal: Terminal) -> None:
    assert terminal.say("Hello!") == HELLO
    terminal.say("My name is Alice.")
    assert "Alice" in terminal.say("What is my name?")
    terminal.say("/clear")
    assert "Alice" not in terminal.say("What is my name?")
    terminal.type("/bye\n")
    assert terminal.leave() == 0


def test_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.type("\x04")
    assert terminal.leave() == 0
    assert "Traceback" not in terminal.text


def test_ctrl_c_ends_the_answer_only(terminal: Terminal) -> None:
    terminal.say(ENDLESS)
    terminal.type("Count to 100\n")
    terminal.expect("1, 2, 3")
    terminal.type("\x03")
    terminal.expect("\n>>> ")
    terminal.say('/set parameter logit_bias {"0": 0}')
    terminal.say("/clear")
    assert terminal.say("Hello!") == HELLO


def test_ctrl_c_takes_back_what_is_being_typed(terminal: Terminal) -> None:
    terminal.type("Count to 30")
    terminal.expect("Count to 30")
    terminal.insist("\x03", "\n>>> ")
    terminal.type("Hello!\n")
    terminal.expect(HELLO)
    assert "1, 2, 3" not in terminal.text


def test_a_message_of_many_lines(terminal: Terminal) -> None:
    for line in ('"""', "Hello!"):
        terminal.type(f"{line}\n")
        terminal.expect("\n... ")
    shown_again = '... Hello!\n... """\n'  # the whole message is drawn once more when it is sent
    assert terminal.say('"""') == f"{shown_again}{HELLO}"


def test_a_system_prompt(terminal: Terminal) -> None:
    terminal.say("/set system You are Alice.")
    assert "Alice" in terminal.say("Who are you?")


def test_parameters(terminal: Terminal) -> None:
    assert terminal.say("/set parameter num_predict 3") == "Set parameter num_predict 3"
    assert terminal.say("Count to 30") in ("1,", "1, 2", "1, 2,")
    assert terminal.say("/set parameter bogus 1") == "Error: unknown parameter 'bogus'"


def test_thinking_and_costs(terminal: Terminal) -> None:
    terminal.say("/set think")
    assert "Thinking...\n" in terminal.say("What is 9 + 8?")
    terminal.say("/set nothink")
    terminal.say("/set verbose")
    shown = terminal.say("Hello!")
    assert "Thinking..." not in shown
    assert "eval rate:" in shown


def test_what_the_model_is(terminal: Terminal) -> None:
    assert "embedding length    256" in terminal.say("/show info")
    assert "ChatML" in terminal.say("/show template")


def test_a_mistake_does_not_end_the_session(terminal: Terminal) -> None:
    assert terminal.say("/bogus") == "Error: unknown command '/bogus', /? lists them"
    assert terminal.say("/load nope").startswith("Error: model 'nope' not found")
    assert terminal.say("Hello!") == HELLO


def test_a_server_that_goes_away(terminal: Terminal, server: Served) -> None:
    """Last in this file: it ends the server that the module shares."""
    server.process.terminate()
    server.process.wait()
    assert "could not connect to" in terminal.say("Hello!")
    terminal.type("/bye\n")
    assert terminal.leave() == 0
