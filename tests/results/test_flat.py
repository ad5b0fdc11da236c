"""Rows go into an Arrow table and come out as the DataFrame that they make without it."""

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algoprogress.results import flat, frames
from algoprogress.results.columns import Column

COLUMNS = [
    Column("loss", "float64", "", ""),
    Column("steps", "int64", "", ""),
    Column("host", "str", "", ""),
    Column("dirty", "bool", "", ""),
]
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
INT64 = st.integers(-(2**53), 2**53)
ROW = st.fixed_dictionaries(
    {
        "loss": st.none() | NUMBER | INT64,
        "steps": st.none() | INT64,
        "host": st.none() | st.text(),
        "dirty": st.none() | st.booleans(),
    },
    optional={
        "width": st.none() | INT64,
        "rate": st.none() | NUMBER | INT64,
        "mixed": st.none() | NUMBER | st.text() | st.booleans(),
        "shape": st.tuples(INT64, INT64),
        "flag": st.booleans(),
        "seed": st.integers(2**62, 2**63 - 1),
        "always missing": st.none(),
    },
)


PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PATIENT
@given(st.lists(st.lists(ROW, max_size=4), max_size=4))
def test_packed_rows_make_the_same_table_whatever_they_hold(groups):
    rows = [row for group in groups for row in group]
    packed = flat.join([flat.pack(group) for group in groups])
    pd.testing.assert_frame_equal(flat.frame(packed, COLUMNS), frames.table(rows, COLUMNS), check_exact=True)


@PATIENT
@given(st.lists(ROW, min_size=1), st.data())
def test_rows_that_are_left_out_leave_no_column_and_no_type_behind(rows, data):
    keep = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    left = [row for row, kept in zip(rows, keep, strict=True) if kept]
    packed = flat.pack(rows).filter(keep)
    pd.testing.assert_frame_equal(flat.frame(packed, COLUMNS), frames.table(left, COLUMNS), check_exact=True)
