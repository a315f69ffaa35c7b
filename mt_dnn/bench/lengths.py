"""How long the training rows of known data sets are, in tokens. Only numbers: no row is kept here.

``experiments/baseline/lengths.py`` computes them from the data. The tokenizer is that of all-MiniLM-L6-v2, whose words
are those of BERT uncased. Rows of MNLI are 9,888 of 392,702. Rows of SQuAD are windows of up to 512 tokens.
"""

from __future__ import annotations

import numpy as np

# The 0th, 1st, … 100th percentile of the lengths, with special tokens.
_TABLE = {
    # 2490 rows, mean 70.20
    "rte": """
        13 21 24 26 27 29 30 31 31 32 33 34 34 35 36 37 37 38 38 39 40 40 41 41 42 43 43 44 44 45 45 46 46 47 47
        47 48 48 49 49 50 50 51 52 52 53 53 54 54 55 56 56 57 57 58 59 59 60 61 61 62 63 64 65 66 67 68 69 70 71
        72 75 77 79 82 85 88 91 95 99 103 108 111 115 117 120 123 126 129 131 135 139 141 146 152 157 164 171
        183 197 289""",
    # 8551 rows, mean 11.33
    "cola": """
        4 5 6 6 6 6 7 7 7 7 7 7 7 8 8 8 8 8 8 8 8 8 8 8 8 9 9 9 9 9 9 9 9 9 9 9 9 9 10 10 10 10 10 10 10 10 10
        10 10 10 10 11 11 11 11 11 11 11 11 11 11 11 12 12 12 12 12 12 12 12 12 13 13 13 13 13 13 13 14 14 14 14
        14 15 15 15 15 16 16 16 17 17 18 18 19 20 20 22 23 25 47""",
    # 9888 rows, mean 38.03
    "mnli": """
        5 10 12 13 14 14 15 16 17 17 18 18 19 19 20 20 21 21 22 22 23 23 23 24 24 25 25 26 26 26 27 27 28 28 28
        29 29 30 30 30 31 31 32 32 33 33 34 34 34 35 35 36 36 37 37 37 38 38 39 39 40 40 41 41 42 42 42 43 44 44
        45 45 46 46 47 48 48 49 49 50 51 52 52 53 54 55 56 57 58 59 61 62 64 65 68 70 74 78 86 98 292""",
    # 67349 rows, mean 13.32
    "sst2": """
        3 3 3 4 4 4 4 4 4 4 4 5 5 5 5 5 5 5 5 5 6 6 6 6 6 6 6 6 7 7 7 7 7 7 7 8 8 8 8 8 8 8 9 9 9 9 9 10 10 10
        10 10 11 11 11 11 12 12 12 12 13 13 13 13 14 14 14 15 15 15 16 16 17 17 17 18 18 19 19 20 20 21 21 22 23
        23 24 25 25 26 27 28 29 30 32 33 35 37 40 44 66""",
    # 3668 rows, mean 53.24
    "mrpc": """
        19 27 28 30 31 32 33 34 35 36 36 37 37 38 38 39 39 40 40 41 41 42 42 43 43 44 44 44 45 45 45 46 46 47 47
        47 48 48 49 49 50 50 50 51 51 51 52 52 53 53 53 54 54 54 55 55 55 56 56 57 57 58 58 58 59 59 59 60 60 60
        61 61 61 62 62 62 63 63 64 64 64 65 65 66 67 67 68 68 69 69 70 71 72 72 73 74 76 77 79 83 103""",
    # 3939 rows, mean 154.41
    "squad": """
        43 50 54 59 64 71 73 78 81 84 86 90 93 94 97 99 101 103 105 106 108 110 111 113 114 115 116 118 119 120
        121 122 124 125 126 127 129 130 132 133 134 136 137 139 140 141 142 143 144 145 147 148 149 150 151 153
        154 155 156 157 158 160 161 162 163 165 166 168 169 171 173 174 176 178 180 183 186 188 192 195 199 200
        202 205 208 213 215 219 223 225 228 236 244 254 262 270 276 287 309 346 483""",
    # 8936 rows, mean 29.87
    "conll2000_chunk": """
        3 6 8 9 10 11 11 12 13 13 14 14 15 15 16 16 17 17 18 18 19 19 19 19 20 20 21 21 21 21 22 22 22 23 23 23
        24 24 24 25 25 25 25 26 26 26 27 27 27 28 28 29 29 29 30 30 30 31 31 31 32 32 32 33 33 34 34 34 35 35 36
        36 37 37 37 38 38 39 39 40 40 41 42 42 43 44 45 45 46 47 48 49 50 51 53 54 56 59 62 68 107""",
    # 3394 rows, mean 31.32
    "wnut17": """
        4 7 9 10 10 12 12 13 14 15 15 16 16 17 17 18 18 19 19 20 20 21 21 21 22 22 22 23 23 24 24 24 25 25 25 26
        26 27 27 27 28 28 28 29 29 29 30 30 31 31 31 32 32 32 33 33 33 34 34 34 35 35 35 36 36 36 37 37 37 38 38
        39 39 39 40 40 40 41 41 42 42 43 43 43 44 44 45 45 46 47 47 48 48 49 50 51 53 55 56 60 75""",
}
PERCENTILES: dict[str, tuple[int, ...]] = {name: tuple(map(int, text.split())) for name, text in _TABLE.items()}


def draw_lengths(name: str, count: int, *, longest: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the lengths of ``count`` rows of a data set of ``PERCENTILES``, (count,), in random order.

    The draw is stratified: row i of the sorted lengths comes from the i-th of ``count`` equal parts of the
    distribution. So few rows already have nearly the mean of the data set. Lengths above ``longest`` are cut to it.
    """
    shares = (np.arange(count) + rng.random(count)) / count
    lengths = np.interp(shares, np.linspace(0, 1, 101), PERCENTILES[name]).round().astype(np.int64)
    return rng.permutation(np.minimum(lengths, longest))
