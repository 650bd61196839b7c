"""Near duplicates of a whole corpus: equal rows first, then pairs above a cosine, then groups around a representative.

    fingerprints  equal rows, by the digest of their bytes
    cells         rows that may be close meet in a cell; every pair does, unless a row may be in fewer cells than it needs
    pairs         which rows of a cell are close: decided in float64, whatever multiplied them
    groups        stars around the first row that is close, or connected components

    parts         pieces of this work that leave files; they run anywhere, and again
    units         pieces that compare

Rows are numbered from 0 in 64 bits. Nothing here knows Ray.
"""
