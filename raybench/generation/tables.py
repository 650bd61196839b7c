"""What a generation leaves, as columns.

generations/<key>/answers.parquet    ANSWERS, one row per query: the same bytes for the same key
generations/<key>/timings.parquet    TIMINGS, one row per query: what this run took, never the same twice
results/answers/<key>.parquet        VALUES, one row per query and measure
results/latencies/<key>.parquet      LATENCIES, one row per query that was answered alone, from its words to its answer
results/samples/<key>.parquet        SAMPLES, a few queries with their pictures, for the report
"""

import pyarrow as pa

ANSWERS = pa.schema(
    [
        ("query_id", pa.string()),
        ("cluster_id", pa.string()),
        ("query", pa.string()),  # its words
        ("question", pa.string()),  # null where the prompt asks none
        ("prompt", pa.string()),  # name and version of the prompt
        ("context", pa.string()),  # retrieved, none, gold or random
        ("image_ids", pa.list_(pa.string())),  # the pictures that were shown, in their order
        ("scores", pa.list_(pa.float64())),  # of the search; null where the context is not retrieved
        ("grades", pa.list_(pa.int64())),  # 0 where a picture is not relevant to the query
        ("prompt_tokens", pa.int64()),  # in all; null where the generator does not say
        ("image_tokens", pa.int64()),  # of those, of pictures
        ("answer_tokens", pa.int64()),
        ("answer", pa.string()),
        ("ended", pa.string()),  # "end", or "length" where it was cut off; null with a problem
        ("problem", pa.string()),  # why there is no answer; null where there is one
        ("detail", pa.string()),
    ]
)
"""One row per query."""

TIMINGS = pa.schema(
    [
        ("query_id", pa.string()),
        ("batch", pa.int64()),  # number of the batch that the query was in
        (
            "together",
            pa.int64(),
        ),  # queries that one call answered side by side; fewer than the batch where memory was short
        ("fetch_s", pa.float64()),  # of the batch: reading its pictures from storage, several at a time
        ("preprocess_s", pa.float64()),  # of the batch: decoding and resizing pictures, tokens
        ("first_token_s", pa.float64()),  # of the call: from what was prepared to the first tokens
        ("decode_s", pa.float64()),  # from the first token to the last of this query
        ("batch_s", pa.float64()),  # of the batch, from its start to its last answer
        ("tries", pa.int64()),  # of a server
        ("waited_s", pa.float64()),  # before tries that followed others
        ("worker", pa.string()),  # host and process
        ("is_first", pa.bool_()),  # whether it was the worker's first batch, which compiles and fills caches
    ]
)
"""One row per query; seconds of a batch or a call are shared by its queries and not divided by their number."""

VALUES = pa.schema(
    [("experiment", pa.string()), ("query_id", pa.string()), ("cluster_id", pa.string()), ("measure", pa.string()), ("value", pa.float64())]
)  # fmt: skip
"""One row per query and measure that is defined for it."""

LATENCIES = pa.schema(
    [
        ("query_id", pa.string()),
        ("encode_s", pa.float64()),  # the query's words to its vector
        ("search_s", pa.float64()),  # all of it
        ("shard_s", pa.float64()),  # of that, on the slowest partition
        ("merge_s", pa.float64()),  # of that, merging what partitions found; the rest is transport
        ("fetch_s", pa.float64()),
        ("preprocess_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("decode_s", pa.float64()),
        ("total_s", pa.float64()),  # by one clock, from the words to the answer; more than the sum of the parts
        ("answer_tokens", pa.int64()),
        ("tries", pa.int64()),  # of a server; of more than one the seconds are not counted
        ("problem", pa.string()),  # why there is no answer, whose seconds are not counted; null where there is one
        ("is_cold", pa.bool_()),  # the first that its worker answered: models were loaded within its seconds
        ("is_warm", pa.bool_()),  # False for what was asked to warm up
    ]
)
"""One row per query that was answered alone."""

SAMPLES = pa.schema(
    [
        ("prompt", pa.string()),
        ("context", pa.string()),
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("words", pa.string()),  # what was asked, as the model read it after the pictures
        ("answer", pa.string()),
        ("ended", pa.string()),
        ("problem", pa.string()),
        ("references", pa.list_(pa.string())),  # what answers are held against
        ("image_ids", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
        ("grades", pa.list_(pa.int64())),
        ("thumbnails", pa.list_(pa.binary())),  # small JPEGs, in the order of image_ids
        ("measures", pa.string()),  # a JSON object of this answer's values
    ]
)
"""One row per shown query and context."""
