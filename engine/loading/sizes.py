"""What the parts of a model take, by its GGUF header: weights and caches of each layer, and what a pass computes in.

Pure. Shapes of tensors say more than metadata: which layers attend, which have a recurrent state, how wide keys are.
The sums for a pass were fitted to what llama.cpp reserves (`make memory` compares the two). Sizes are bytes unless they
say numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.loading.windows import MOST_LAYERS, Windows
from registry.gguf import GGUFError, GGUFHeader, TensorInfo

F32 = 4
TOKENS, OUTPUT = "token_embd.weight", "output.weight"
EXPERTS = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch)?exps\.")
BYTES_PER_VALUE = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32}
BYTES_PER_VALUE |= {"q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32}
QUANTUM = 32  # numbers of a block of these types
UNQUANTIZED = frozenset({"f32", "f16", "bf16"})
_LAYER = re.compile(r"blk\.(\d{1,5})\.(.+)")
_ON_CPU = re.compile(r"(token_embd|token_types|position_embd|per_layer_token_embd|token_embd_norm|cls\.)")
_STATE = ("ssm_conv1d", "shortconv.conv", "time_mix_")


@dataclass(frozen=True, slots=True)
class CacheTypes:
    """The ggml types of keys and values in the KV cache, such as "q8_0"."""

    keys: str = "f16"
    values: str = "f16"

    @classmethod
    def parse(cls, text: str) -> CacheTypes:
        """One type for both, or two with a comma between them; what is unknown is f16."""
        keys, _, values = text.lower().partition(",")
        names = (name.strip() if name.strip() in BYTES_PER_VALUE else "f16" for name in (keys, values or keys))
        return cls(*names)

    def bytes(self, keys: int, values: int) -> float:
        """What so many numbers of keys and values take."""
        return keys * BYTES_PER_VALUE[self.keys] + values * BYTES_PER_VALUE[self.values]


@dataclass(frozen=True, slots=True)
class LayerSizes:
    """One layer: bytes of `weights`, `experts` included, and of a sequence's `state`; numbers of a token's K and V.

    `windowed`: its tokens see those in a sliding window alone.
    """

    weights: int = 0
    experts: int = 0
    keys: int = 0
    values: int = 0
    state: int = 0
    windowed: bool = False


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass: at most `tokens` at once, of sequences that see `cells` of the cache; `outputs` have logits.

    Layers with a sliding window see `window` cells of theirs, or as many as the others if that is 0.
    """

    tokens: int
    cells: int
    outputs: int
    streams: int = 1
    flash_attention: bool = True
    window: int = 0


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """All layers, what stays beside them on the CPU (`entry`), and what computes the logits (`output`).

    `tied` bytes of the table of embeddings are the output matrix too, which a GPU needs once more. The other sizes are
    numbers for one token: `width` of embeddings, `inner` of the widest network, for all of the `asked` experts;
    `queries` of all heads; `latent` where attention goes through a compressed state; `scan` of a recurrent state;
    `head` is the size of one head's keys and values. `windowed`: llama.cpp makes a second cache for layers with a
    sliding window, which is smaller if we know the `window`, in tokens.
    """

    layers: tuple[LayerSizes, ...]
    entry: int
    output: int
    tied: int
    width: int
    inner: int
    asked: int
    queries: int
    latent: int
    heads: int
    vocabulary: int
    windowed: bool = False
    window: int = 0
    scan: int = 0
    head: tuple[int, int] = (QUANTUM, QUANTUM)

    @classmethod
    def of(cls, header: GGUFHeader) -> ModelSizes:
        """Raises GGUFError if the header's sizes are not numbers, or it has too many layers."""
        return _sizes(header)

    @property
    def weights(self) -> int:
        """All of them, as the file has them."""
        return self.entry + self.output + sum(layer.weights for layer in self.layers)

    @property
    def caches(self) -> int:
        """How many caches llama.cpp makes: one more for layers with a sliding window."""
        return any(layer.keys for layer in self.layers) * (1 + self.windowed)

    def usable(self, types: CacheTypes) -> CacheTypes:
        """What llama.cpp can do of these types: heads of whole blocks, and one type for a compressed state."""
        keys, values = (
            name if name in UNQUANTIZED or size % QUANTUM == 0 else "f16"
            for name, size in zip((types.keys, types.values), self.head, strict=True)
        )
        return CacheTypes(keys, keys if self.latent else values)

    def cell(self, types: CacheTypes) -> int:
        """What one token takes in the KV cache of all layers."""
        return sum(self.cells(types))

    def cells(self, types: CacheTypes) -> tuple[int, int]:
        """What one token takes in the KV cache of layers that see everything, and of those with a window."""
        sums = [0.0, 0.0]
        for layer in self.layers:
            sums[layer.windowed] += types.bytes(layer.keys, layer.values)
        return round(sums[0]), round(sums[1])

    @property
    def state(self) -> int:
        """What the recurrent state of one sequence takes."""
        return sum(layer.state for layer in self.layers)

    def compute(self, run: Pass) -> int:
        """What llama.cpp reserves for a pass on one device."""
        seen = run.cells + min(run.cells, run.window) if run.window else run.cells * self.caches
        mask = seen * run.tokens * (2 if run.flash_attention else F32)
        scores = 0 if run.flash_attention else self.heads * run.cells if self.caches else 0
        network = 3 * self.inner + 3 * self.width + self.queries
        experts = 2 * self.asked * self.width + self.inner + 3 * self.width if self.asked > 1 else 0
        attention = scores + (self.latent + 6 * self.width if self.latent else 3 * (self.width + self.queries))
        logits = run.outputs * (self.vocabulary + self.width) * F32
        return max(run.tokens * F32 * max(network, experts, attention, self.scan), logits) + mask

    def outputs(self, run: Pass) -> int:
        """What the logits of a pass take on the CPU."""
        return max(run.outputs, run.streams) * self.vocabulary * F32


@dataclass(slots=True)
class _Block:
    """The tensors of one layer."""

    tensors: dict[str, TensorInfo] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        tensor = self.tensors.get(f"{name}.weight")
        return tensor.shape if tensor else ()

    def rows(self, name: str) -> int:
        """The rows of a matrix, 0 if there is none."""
        shape = self.shape(name)
        return shape[1] if len(shape) > 1 else 0

    @property
    def recurrent(self) -> bool:
        return any(name.startswith(_STATE) for name in self.tensors)


def _sizes(header: GGUFHeader) -> ModelSizes:
    blocks: dict[int, _Block] = {}
    entry = output = 0
    names = set()
    for tensor in header.tensors:
        if match := _LAYER.match(tensor.name):
            blocks.setdefault(int(match[1]), _Block()).tensors[match[2]] = tensor
        elif _ON_CPU.match(tensor.name):
            entry += tensor.size
        else:
            output += tensor.size
        names.add(tensor.name)
    heads = header.size("attention.head_count")
    width = header.size("embedding_length")
    count = max(header.size("block_count"), max(blocks, default=-1) + 1)
    if count > MOST_LAYERS:  # nobody should have to count them
        raise GGUFError(f"{count} layers are more than the {MOST_LAYERS} that llama.cpp takes")
    facts = _Facts(header, heads, width, blocks)
    layers = tuple(facts.layer(number, blocks.get(number, _Block())) for number in range(count))
    asked = header.size("expert_used_count")
    inner = max((facts.inner(block, asked) for block in blocks.values()), default=0)
    table = next((tensor for tensor in header.tensors if tensor.name == TOKENS), None)
    return ModelSizes(
        layers=layers,
        entry=entry,
        output=output,
        tied=table.size if table and OUTPUT not in names else 0,
        width=width,
        inner=inner or header.size("feed_forward_length"),
        asked=asked if any(EXPERTS.search(name) for name in names) else 0,
        queries=max((block.rows("attn_q") or block.rows("attn_q_b") for block in blocks.values()), default=0) or width,
        latent=facts.latent,
        heads=heads,
        vocabulary=table.shape[1] if table and len(table.shape) > 1 else 1,
        head=facts.head,
        windowed=bool(header.field("attention.sliding_window") or facts.windows.size),
        window=facts.windows.size,
        scan=max((facts.scan(block) for block in blocks.values() if block.recurrent), default=0),
    )


class _Facts:
    """Reads what llama.cpp makes of metadata and shapes."""

    def __init__(self, header: GGUFHeader, heads: int, width: int, blocks: Mapping[int, _Block]) -> None:
        recurrent = any(block.recurrent for block in blocks.values())
        self.windows = Windows() if recurrent else Windows.of(header)
        self._header = header
        self._width = width
        self._heads = heads
        self._key = header.size("attention.key_length", width // max(heads, 1))
        self._value = header.size("attention.value_length", self._key)
        self._kv_heads = header.sizes("attention.head_count_kv") or [heads]
        self._mla = header.size("attention.key_length_mla")
        self._first_shared = header.size("block_count") - header.size("attention.shared_kv_layers")
        self._last = header.size("block_count") - header.size("nextn_predict_layers")

    @property
    def head(self) -> tuple[int, int]:
        """Numbers of the keys and values of one head."""
        return self._key, self._value

    @property
    def latent(self) -> int:
        """Numbers of one token in multi-head latent attention: the queries, and both ways through the latent state."""
        rank = self._header.size("attention.kv_lora_rank")
        return self._heads * (self._mla + rank + self._key) if self._mla else 0

    def layer(self, number: int, block: _Block) -> LayerSizes:
        weights = sum(tensor.size for tensor in block.tensors.values())
        experts = sum(tensor.size for name, tensor in block.tensors.items() if EXPERTS.search(f".{name}"))
        keys, values = self._cache(number, block)
        state = self._state(block) if block.recurrent else 0
        return LayerSizes(weights, experts, keys, values, state, number in self.windows.layers)

    def inner(self, block: _Block, asked: int) -> int:
        """How wide the network of a layer is, for all experts that a token asks."""
        shape = block.shape("ffn_up_exps") or block.shape("ffn_gate_up_exps")
        dense = block.rows("ffn_up") or block.rows("ffn_gate")
        return max(dense, shape[1] * asked if len(shape) > 2 else 0)

    def scan(self, block: _Block) -> int:
        """Numbers of one token while a recurrent state is scanned."""
        return 3 * block.rows("ssm_in") + self._width

    def _cache(self, number: int, block: _Block) -> tuple[int, int]:
        """Numbers of keys and values of one token, as many as llama.cpp keeps."""
        if number >= self._first_shared > 0 or number >= self._last > 0:
            return 0, 0
        if compressed := block.rows("attn_kv_a_mqa"):
            if self._mla:
                return compressed, 0
            return self._heads * self._key, self._heads * self._value
        if keys := block.rows("attn_k"):
            return keys, block.rows("attn_v") or keys
        if block.rows("attn_qkv") and not block.recurrent:
            heads = self._kv_heads[min(number, len(self._kv_heads) - 1)]
            return heads * self._key, heads * self._value
        return 0, 0

    def _state(self, block: _Block) -> int:
        """Bytes of a sequence's recurrent state: what is convolved, and what is remembered."""
        size = self._header.size
        if head := size("wkv.head_size"):
            return F32 * self._width * (size("token_shift_count", 2) + head)
        if length := size("shortconv.l_cache"):
            return F32 * self._width * (length - 1)
        inner, state, groups = size("ssm.inner_size"), size("ssm.state_size"), size("ssm.group_count")
        if head := size("kda.head_dim"):
            return F32 * self._heads * head * (3 * max(size("ssm.conv_kernel") - 1, 0) + head)
        convolved = max(size("ssm.conv_kernel") - 1, 0) * (inner + 2 * groups * state)
        return F32 * (convolved + state * inner)
