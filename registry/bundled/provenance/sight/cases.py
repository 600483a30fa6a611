"""Which questions about which fixed pictures the exported model answers right through libmtmd: golden/sight.json."""
import sys, json
import numpy as np
from reference import Eyes, MARKER, quiet
from tiny import GOLDEN
from data import draw, COLORS, SHAPES, article
quiet()
eyes = Eyes(GOLDEN / "sight-text.gguf", GOLDEN / "sight-mmproj.gguf", threads=1)
ASK = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
G = (128, 128, 128)
one = lambda c, s: ([(c, s, 0.5, 0.5, 0.3)], G)
pair = lambda a, b, p: ([(a, "circle", *p[0], 0.2), (b, "circle", *p[1], 0.2)], G)
LR = ((0.27, 0.5), (0.73, 0.5)); TB = ((0.5, 0.27), (0.5, 0.73))
def ask(pictures, question, front=True, before=""):
    m = MARKER * len(pictures)
    h, ch = eyes.tokenize(before + ASK.format(m + question if front else question + m), [eyes.image(draw(*p)) for p in pictures])
    eyes.clear(); pos = eyes.eval(h); a = eyes.greedy(pos, 8)
    return eyes.text(a["tokens"]).replace("<|im_end|>", ""), min(a["margins"])
cases = []
def case(pictures, question, want, front=True):
    got, margin = ask(pictures, question, front)
    cases.append({"shapes": pictures, "question": question, "pictures_first": front, "want": want, "answer": got, "least_margin": margin,
                  "right": got == want, "colour_right": want.split()[-1 if len(want.split()) == 1 else 1].strip(".").lower() in got.lower()})
for c in COLORS:
    for f in (True, False):
        case([one(c, "circle")], "What color is it?", f"{c.capitalize()}.", f)
        for s in SHAPES:
            case([one(c, s)], "What is this?", f"{article(c)} {c} {s}.", f)
names = list(COLORS)
for i, a in enumerate(names):
    b = names[(i + 3) % len(names)]
    for f in (True, False):
        case([pair(a, b, LR)], "What is on the left?", f"{article(a)} {a} circle.", f); case([pair(a, b, LR)], "What is on the right?", f"{article(b)} {b} circle.", f)
        case([pair(a, b, TB)], "What is at the top?", f"{article(a)} {a} circle.", f); case([pair(a, b, TB)], "What is at the bottom?", f"{article(b)} {b} circle.", f)
        case([one(a, "circle"), one(b, "circle")], "What is in the first picture?", f"{article(a)} {a} circle.", f)
        case([one(a, "circle"), one(b, "circle")], "What is in the second picture?", f"{article(b)} {b} circle.", f)
case([], "What is this?", "I see no picture.")
sums = {}
for c in cases:
    k = sums.setdefault(c["question"], [0, 0, 0]); k[0] += 1; k[1] += c["right"]; k[2] += c["colour_right"]
for q, (n, r, k) in sums.items(): print(f"{q:34} right {r}/{n} colour {k}/{n}")
json.dump({"ground": G, "size": 32, "cases": cases}, open(GOLDEN / "sight.json", "w"), indent=1)
