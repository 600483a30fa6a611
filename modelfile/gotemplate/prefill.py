"""Where a legacy template is cut so that the model can go on: behind the first `.Response`."""

from __future__ import annotations

from dataclasses import replace

from modelfile.gotemplate.nodes import Action, Body, Branch, Command, Field, Node, Pipe


def cut_after_response(body: Body) -> Body:
    """The body up to and with the first `.Response` that is written.

    Conditions are not looked into, and an action that hands the response on to another command goes as a whole.
    """
    return _Cut().body(body)


class _Cut:
    def __init__(self) -> None:
        self._done = False

    def body(self, body: Body) -> Body:
        kept = (self._node(node) for node in body)
        return tuple(node for node in kept if node is not None)

    def _node(self, node: Node) -> Node | None:
        if self._done:
            return None
        if isinstance(node, Branch):
            body = self.body(node.body)
            otherwise = None if node.otherwise is None else self.body(node.otherwise)
            return replace(node, body=body, otherwise=otherwise)
        if isinstance(node, Action):
            pipe = self._pipe(node.pipe)
            return None if pipe is None else replace(node, pipe=pipe)
        return node

    def _pipe(self, pipe: Pipe) -> Pipe | None:
        """The pipeline without the words behind the response; None if that leaves a command without any."""
        commands: list[Command] = []
        for command in pipe.commands:
            words = [word for word in map(self._word, command.words) if word is not None]
            if not words:
                return None
            commands.append(Command(command.at, words[0], tuple(words[1:])))
        return replace(pipe, commands=tuple(commands))

    def _word(self, word: Node) -> Node | None:
        if isinstance(word, Field) and "Response" in word.path:
            self._done = True
            return word
        if self._done:
            return None
        return self._pipe(word) if isinstance(word, Pipe) else word
