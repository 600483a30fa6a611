"""weights.npz -> golden/sight-text.gguf and golden/sight-mmproj.gguf"""
import sys
import numpy as np
import gguf
from tiny import CHAT_TEMPLATE, GOLDEN, finish
from train import D, EPS, F, H, L, PATCH, SIZE, V, VF, VH, VL, W
from words import ID, MERGES, TOKENS, TYPES

p = dict(np.load(sys.argv[1] if len(sys.argv) > 1 else "weights.npz"))
half = lambda x: x.astype(np.float16)
w = gguf.GGUFWriter(GOLDEN / "sight-text.gguf", "llama")
w.add_name("sight"); w.add_file_type(1); w.add_block_count(L); w.add_context_length(2048); w.add_embedding_length(D)
w.add_feed_forward_length(F); w.add_head_count(H); w.add_head_count_kv(H); w.add_rope_dimension_count(D // H); w.add_rope_freq_base(10000.0)
w.add_layer_norm_rms_eps(EPS); w.add_vocab_size(V)
w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("qwen2"); w.add_token_list(TOKENS); w.add_token_types(TYPES); w.add_token_merges(MERGES)
w.add_eos_token_id(ID["<|im_end|>"]); w.add_pad_token_id(ID["<|endoftext|>"]); w.add_add_bos_token(False); w.add_chat_template(CHAT_TEMPLATE)
w.add_tensor("token_embd.weight", half(p["embed"])); w.add_tensor("output.weight", half(p["out"])); w.add_tensor("output_norm.weight", p["norm"])
for i in range(L):
    b = f"blk.{i}."
    w.add_tensor(b + "attn_norm.weight", p[f"b{i}.an"]); w.add_tensor(b + "ffn_norm.weight", p[f"b{i}.fn"])
    for n, name in (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_output"), ("gate", "ffn_gate"), ("up", "ffn_up"), ("down", "ffn_down")):
        w.add_tensor(b + name + ".weight", half(p[f"b{i}.{n}"]))
finish(w)
w = gguf.GGUFWriter(GOLDEN / "sight-mmproj.gguf", "clip")
w.add_type("mmproj"); w.add_name("sight"); w.add_bool("clip.has_vision_encoder", True); w.add_string("clip.projector_type", "mlp"); w.add_bool("clip.use_gelu", True)
for key, value in (("image_size", SIZE), ("patch_size", PATCH), ("embedding_length", W), ("feed_forward_length", VF), ("block_count", VL + 1), ("projection_dim", D), ("attention.head_count", VH)):
    w.add_uint32("clip.vision." + key, value)
w.add_float32("clip.vision.attention.layer_norm_epsilon", EPS); w.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5]); w.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
w.add_tensor("v.patch_embd.weight", half(p["patch"].reshape(W, 3, PATCH, PATCH))); w.add_tensor("v.position_embd.weight", p["pos"])
for n, g, b in (("v.pre_ln", "preg", "preb"), ("v.post_ln", "postg", "postb")):
    w.add_tensor(n + ".weight", p[g]); w.add_tensor(n + ".bias", p[b])
for i in range(VL + 1):
    j, b = min(i, VL - 1), f"v.blk.{i}."  # the last layer is in the file and never used
    for n in "12":
        w.add_tensor(f"{b}ln{n}.weight", p[f"v{j}.g{n}"]); w.add_tensor(f"{b}ln{n}.bias", p[f"v{j}.b{n}"])
    for n, name in (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_out"), ("up", "ffn_up"), ("down", "ffn_down")):
        w.add_tensor(b + name + ".weight", half(p[f"v{j}.{n}"])); w.add_tensor(b + name + ".bias", p[f"v{j}.{n}b"])
for n in ("mm0", "mm2"):
    name = "mm." + n[2]
    w.add_tensor(name + ".weight", half(p[n])); w.add_tensor(name + ".bias", p[n + "b"])
finish(w)
