"""Pictures of shapes and conversations about them."""

from __future__ import annotations

import numpy as np

from words import COLORS, SHAPES, encode, ID

SIZE = 32
NAMES = list(COLORS)
PLACES = {"left": (0.27, 0.5), "right": (0.73, 0.5), "top": (0.5, 0.27), "bottom": (0.5, 0.73)}


def draw(shapes: list[tuple[str, str, float, float, float]], ground: tuple[int, int, int], fine: int = 3) -> np.ndarray:
    """`shapes` are (color, shape, x, y, radius) in parts of the picture; smooth edges by averaging."""
    n = SIZE * fine
    y, x = np.mgrid[0:n, 0:n] / n + 0.5 / n
    image = np.empty((n, n, 3), np.float32)
    image[:] = ground
    for color, shape, cx, cy, r in shapes:
        dx, dy = x - cx, y - cy
        if shape == "circle":
            mask = dx * dx + dy * dy < r * r
        elif shape == "square":
            mask = np.maximum(abs(dx), abs(dy)) < r * 0.88
        else:
            mask = (dy < r * 0.75) & (dy > -r + 1.75 * abs(dx) * 1.0)
        image[mask] = COLORS[color]
    return image.reshape(SIZE, fine, SIZE, fine, 3).mean(axis=(1, 3)).round().astype(np.uint8)


GROUNDS = [(128, 128, 128), (200, 200, 205), (70, 70, 75), (170, 160, 150), (100, 110, 120)]


def article(color: str) -> str:
    return "An" if color[0] in "aeiou" else "A"


class Maker:
    """Fresh pictures; `pool`, an npz of `pool.py`, saves the drawing."""

    def __init__(self, seed: int, pool=None) -> None:
        self.r = np.random.default_rng(seed)
        self.pool = None if pool is None else {k: pool[k] for k in pool.files}

    def pick(self, options):
        return options[self.r.integers(len(options))]

    def ground(self):
        g = np.array(self.pick(GROUNDS)) + self.r.integers(-12, 13, 3)
        return tuple(int(v) for v in np.clip(g, 0, 255))

    def single(self):
        if self.pool is not None:
            i = self.r.integers(len(self.pool["s"]))
            return self.pool["s"][i], *map(str, self.pool["sl"][i])
        color, shape = self.pick(NAMES), self.pick(SHAPES)
        x, y = 0.5 + self.r.uniform(-0.14, 0.14, 2)
        return draw([(color, shape, x, y, self.r.uniform(0.24, 0.36))], self.ground()), color, shape

    def pair(self):
        if self.pool is not None:
            i = self.r.integers(len(self.pool["p"]))
            return self.pool["p"][i], {k: (c, s) for k, c, s in (str(x).split("|") for x in self.pool["pl"][i])}
        places = self.pick([("left", "right"), ("top", "bottom")])
        items = []
        for place in places:
            cx, cy = PLACES[place]
            j = self.r.uniform(-0.05, 0.05, 2)
            items.append((self.pick(NAMES), self.pick(SHAPES), cx + j[0], cy + j[1], self.r.uniform(0.17, 0.22)))
        if (items[0][0], items[0][1]) == (items[1][0], items[1][1]):
            return self.pair()
        return draw(items, self.ground()), dict(zip(places, [(c, s) for c, s, *_ in items]))

    def question(self):
        """(images, question, answer)"""
        kind = self.r.random()
        if kind < 0.40:
            image, color, shape = self.single()
            q = self.pick(["What is this?", "What is in the picture?", "Describe the image.", "What color is it?", "What shape is it?"])
            a = f"{color.capitalize()}." if "color" in q else f"A {shape}." if "shape" in q else f"{article(color)} {color} {shape}."
            return [image], q, a
        if kind < 0.72:
            image, what = self.pair()
            place = self.pick(list(what))
            color, shape = what[place]
            return [image], f"What is {'on' if place in ('left', 'right') else 'at'} the {place}?", f"{article(color)} {color} {shape}."
        if kind < 0.93:
            one, two = self.single(), self.single()
            if self.r.random() < 0.25:
                two = one if self.r.random() < 0.5 else two
                return [one[0], two[0]], "Are they the same?", "Yes." if one[1:] == two[1:] else "No."
            which = self.r.integers(2)
            _, color, shape = (one, two)[which]
            return [one[0], two[0]], f"What is in the {('first', 'second')[which]} picture?", f"{article(color)} {color} {shape}."
        q = self.pick(["What is this?", "What color is it?", "What is in the picture?", "Describe the image."])
        return [], q, "I see no picture."

    def sample(self, length: int, tokens_per_image: int):
        """Token ids (-1 and -2 for the places of two pictures), mask of the answer, pictures."""
        images, q, a = self.question()
        front = self.r.random() < 0.5
        ids: list[int] = []
        mask: list[int] = []

        def say(text: str, learn: bool = False) -> None:
            got = encode(text)
            ids.extend(got)
            mask.extend([int(learn)] * len(got))

        def show(k: int) -> None:
            ids.extend([-1 - k] * tokens_per_image)
            mask.extend([0] * tokens_per_image)

        turns = [(q, a)]
        if len(images) == 1 and self.r.random() < 0.25:
            turns.insert(0, self.pick([("Hi", "Hello."), ("Hello.", "Hello.")]))
        at = self.r.integers(len(turns)) if len(images) == 1 else len(turns) - 1
        for i, (question, answer) in enumerate(turns):
            say("<|im_start|>user\n")
            if i == at and front:
                for k in range(len(images)):
                    show(k)
            say(question)
            if i == at and not front:
                for k in range(len(images)):
                    show(k)
            say("<|im_end|>\n<|im_start|>assistant\n")
            say(answer + "<|im_end|>", learn=True)
            say("\n")
        ids, mask = ids[:length], mask[:length]
        pad = length - len(ids)
        return ids + [ID["<|endoftext|>"]] * pad, mask + [0] * pad, images

    def batch(self, size: int, length: int, tokens_per_image: int):
        ids = np.zeros((size, length), np.int32)
        mask = np.zeros((size, length), np.float32)
        images = np.zeros((size, 2, SIZE, SIZE, 3), np.uint8)
        for b in range(size):
            i, m, pictures = self.sample(length, tokens_per_image)
            ids[b], mask[b] = i, m
            for k, picture in enumerate(pictures):
                images[b, k] = picture
        return ids, mask, images


if __name__ == "__main__":
    import time
    m = Maker(0)
    t = time.time()
    ids, mask, images = m.batch(64, 96, 16)
    print("batch", round(time.time() - t, 2), "s longest", (ids != ID["<|endoftext|>"]).sum(1).max())
    from PIL import Image
    Image.fromarray(np.concatenate([np.concatenate(list(images[8 * r : 8 * r + 8, 0]), 1) for r in range(4)], 0)).resize((1024, 512), 0).save("sheet.png")
