"""LlamaIndex: its Ollama and its OpenAI-like integration."""

from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.ollama import Ollama as OllamaLLM
from llama_index.llms.openai_like import OpenAILike as OpenAILikeLLM
from pydantic import BaseModel

from . import common as c

weather = FunctionTool.from_defaults(c.get_current_weather)


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int
    city: str


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


class Chat:
    name: str

    def model(self, **fields: Any) -> Any:
        raise NotImplementedError

    def calls(self, response: Any) -> list[Any]:
        found = self.model().get_tool_calls_from_response(response, error_on_no_tool_call=False)
        return [(call.tool_name, call.tool_kwargs) for call in found]

    def plain(self) -> str:
        return self.model().chat(user(c.CAPITAL)).message.content

    def completion(self) -> str:
        return self.model().complete("What is the capital of France?").text

    def stream(self) -> list[str]:
        return [piece.delta or "" for piece in self.model().stream_chat(user(c.CAPITAL))]

    async def asynchronous(self) -> str:
        return (await self.model().achat(user(c.CAPITAL))).message.content

    async def asynchronous_stream(self) -> list[str]:
        return [piece.delta or "" async for piece in await self.model().astream_chat(user(c.CAPITAL))]

    def check_streamed_completion(self) -> None:
        assert "Paris" in list(self.model().stream_complete("What is the capital of France?"))[-1].text

    def system(self) -> str:
        return self.model().chat([ChatMessage(role="system", content=c.PIRATE), *user(c.CAPITAL)]).message.content

    def history(self) -> str:
        return self.model().chat([ChatMessage(role=role, content=text) for role, text in c.HISTORY]).message.content

    def tool(self) -> list[Any]:
        return self.calls(self.model().chat_with_tools([weather], user_msg=c.PARIS))

    def tool_stream(self) -> list[Any]:
        return self.calls(list(self.model().stream_chat_with_tools([weather], user_msg=c.PARIS))[-1])

    def two_tools(self) -> list[Any]:
        return self.calls(self.model().chat_with_tools([weather], user_msg=c.TWO, allow_parallel_tool_calls=True))

    def two_tools_stream(self) -> list[Any]:
        model = self.model()
        pieces = list(model.stream_chat_with_tools([weather], user_msg=c.TWO, allow_parallel_tool_calls=True))
        return self.calls(pieces[-1])

    def tool_loop(self) -> str:
        model = self.model()
        answer = model.chat_with_tools([weather], user_msg=c.PARIS)
        call = model.get_tool_calls_from_response(answer)[0]
        fields = {"tool_call_id": call.tool_id, "name": call.tool_name}
        result = ChatMessage(role="tool", content=c.RESULT, additional_kwargs=fields)
        history = [*user(c.PARIS), answer.message, result]
        return model.chat_with_tools([weather], chat_history=history).message.content

    def structured(self) -> Any:
        return self.model().as_structured_llm(Person).chat(user(c.PERSON)).raw

    def structured_stream(self) -> Any:
        return list(self.model().as_structured_llm(Person).stream_chat(user(c.PERSON)))[-1].raw

    def check_agent(self) -> None:
        from llama_index.core.agent.workflow import FunctionAgent

        async def ask() -> str:
            return str(await FunctionAgent(tools=[weather], llm=self.model()).run(c.PARIS))

        answer = c.LOOP.run(ask())
        assert "22" in answer, answer

    def cancel(self) -> str:
        for _ in range(5):
            c.first(self.model().stream_chat(user(c.LONG)))
        return self.plain()

    def unknown_model(self) -> str:
        return c.caught(Exception, lambda: self.model(model="nosuch").chat(user("x")))


class Ollama(Chat):
    name = "llama-index-ollama"

    def model(self, **fields: Any) -> OllamaLLM:
        options = {"repeat_penalty": 1.0, "seed": 1} | fields.pop("options", {})
        own = {"model": c.MODEL, "base_url": c.URL, "temperature": 0, "additional_kwargs": options}
        return OllamaLLM(**own | fields)

    def usage(self) -> tuple[int, int]:
        usage = self.model().chat(user(c.CAPITAL)).raw["usage"]
        return usage["prompt_tokens"], usage["completion_tokens"]

    def thinking(self) -> tuple[str, str]:
        blocks = self.model(thinking=True).chat(user(c.CAPITAL)).message.blocks
        thought = "".join(block.content for block in blocks if block.block_type == "thinking")
        return thought.strip(), "".join(block.text for block in blocks if block.block_type == "text")

    def json(self) -> Any:
        return c.arguments(self.model(json_mode=True, thinking=False).chat(user(c.PERSON)).message.content)

    def stop(self) -> str:
        return self.model(options={"stop": ["4"]}).chat(user(c.COUNT)).message.content

    def embed(self) -> list[float]:
        return OllamaEmbedding(model_name=c.EMBEDDER, base_url=c.URL).get_query_embedding("a")

    def embed_batch(self) -> list[list[float]]:
        return OllamaEmbedding(model_name=c.EMBEDDER, base_url=c.URL).get_text_embedding_batch(["a", "b"])

    async def embed_asynchronous(self) -> list[list[float]]:
        return await OllamaEmbedding(model_name=c.EMBEDDER, base_url=c.URL).aget_text_embedding_batch(["a", "b"])

    def check_context_of_the_model(self) -> None:
        assert self.model(context_window=-1).metadata.context_window == 1024 or c.MODEL != "tinychat"


class OpenAILike(Chat):
    name = "llama-index-openai-like"

    def model(self, **fields: Any) -> OpenAILikeLLM:
        own = {"model": c.MODEL, "api_base": f"{c.URL}/v1", "api_key": "any", "temperature": 0, "max_retries": 0}
        return OpenAILikeLLM(**own | {"is_chat_model": True, "is_function_calling_model": True} | fields)

    def usage(self) -> tuple[int, int]:
        usage = self.model().chat(user(c.CAPITAL)).raw.usage
        return usage.prompt_tokens, usage.completion_tokens

    def required_tool(self) -> list[Any]:
        return self.calls(self.model().chat_with_tools([weather], user_msg="Hello!", tool_required=True))

    def check_completion_route(self) -> None:
        model = self.model(is_chat_model=False)
        assert "Paris" in model.complete("The capital of France is").text
        assert "Paris" in list(model.stream_complete("The capital of France is"))[-1].text

    def embed_batch(self) -> list[list[float]]:
        embeddings = OpenAILikeEmbedding(model_name=c.EMBEDDER, api_base=f"{c.URL}/v1", api_key="any")
        return embeddings.get_text_embedding_batch(["a", "b"])


if __name__ == "__main__":
    c.run(Ollama(), OpenAILike())
