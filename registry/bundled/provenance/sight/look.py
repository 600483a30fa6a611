"""What the exported model says of fresh pictures, through libmtmd."""
import sys, json
import numpy as np
from reference import Eyes, MARKER, quiet
from tiny import GOLDEN
from data import Maker, draw
quiet()
eyes = Eyes(GOLDEN / "sight-text.gguf", GOLDEN / "sight-mmproj.gguf", threads=1)
ASK = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
def ask(pictures, question, front=True):
    m = MARKER * len(pictures)
    h, ch = eyes.tokenize(ASK.format(m + question if front else question + m), [eyes.image(p) for p in pictures])
    eyes.clear(); pos = eyes.eval(h)
    return eyes.text([t for t in eyes.greedy(pos, 8)["tokens"]]).replace("<|im_end|>", "")
m = Maker(4242); good = {}; n = {}
for i in range(int(sys.argv[1])):
    pics, q, a = m.question()
    got = ask(pics, q, i % 2 == 0)
    kind = q.split("?")[0]; n[kind] = n.get(kind, 0) + 1; good[kind] = good.get(kind, 0) + (got == a)
    col = "colour:" + kind; w = a.rstrip(".").split(); n[col] = n.get(col, 0) + 1
    good[col] = good.get(col, 0) + (got.rstrip(".").split()[: len(w) - 1 or 1] == w[: len(w) - 1 or 1])
    if i < 10: print(q, "|", got, "|", a)
print({k: f"{good[k]}/{n[k]}" for k in sorted(n)})
