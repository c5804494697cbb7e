"""Says where the tables of the engines differ; exit 1 when they do.

    check.py RESULTS MODELS TABLE,TABLE... ENGINE...

The tables are RESULTS/<engine>/<table>/*.parquet, their keys in the heads of MODELS/<room>/<table>.sql. Compared with those of
the first engine: the rows; the values of each column by key, but of floating point the sum, to a millionth of it.
"""
import glob
import math
import os
import re
import sys

import duckdb

FLOATS = ("FLOAT", "DOUBLE")
EXACT = re.compile("DECIMAL|U?(TINY|SMALL|BIG|HUGE)?INT")


def key_of(models, table):
    model, = glob.glob(os.path.join(models, "*", table + ".sql"))
    return re.search("^-- key: (.*)$", open(model).read(), re.MULTILINE).group(1).split(", ")


def same_form(column, kind):
    """Whatever type an engine gave a column, one value has one form."""
    if EXACT.match(kind):
        return f"{column}::DECIMAL(38, 4)"
    return f"epoch_us({column})" if kind.startswith(("TIMESTAMP", "DATE")) else f"{column}::VARCHAR"


def figures(database, folder, key):
    """Of a table, for each column what is known of all its values; of no column: the rows."""
    source = f"read_parquet('{folder}/*.parquet')"
    kinds = {column: kind for column, kind, *_ in database.execute(f"DESCRIBE FROM {source}").fetchall()}
    forms = {column: same_form(column, kind) for column, kind in kinds.items()}
    asked = {"": "count(*)"}
    for column, kind in sorted(kinds.items()):
        if kind in FLOATS:
            asked[column] = f"[count({column}), sum({column})]"
        else:
            total = f"sum({forms[column]})" if EXACT.match(kind) else "NULL"
            keyed = ", ".join(forms[name] for name in [*key, column] if name in forms)
            asked[column] = f"row(count({column}), {total}, sum(hash({keyed})))"
    return dict(zip(asked, database.execute(f"SELECT {', '.join(asked.values())} FROM {source}").fetchone()))


def agree(one, other):
    if isinstance(one, list) and isinstance(other, list) and None not in one + other:
        return one[0] == other[0] and math.isclose(one[1], other[1], rel_tol=1e-6)
    return one == other


def main():
    results, models, tables, first, *others = sys.argv[1:]
    database, tables, differences = duckdb.connect(), tables.split(","), 0
    for table in tables:
        key = key_of(models, table)
        expected, *found = (figures(database, os.path.join(results, engine, table), key) for engine in (first, *others))
        for engine, theirs in zip(others, found):
            for column in sorted(expected.keys() | theirs.keys()):
                one, other = expected.get(column, "missing"), theirs.get(column, "missing")
                if not agree(one, other):
                    differences += 1
                    print(f"{table}.{column or 'rows'}: {first} {one}, {engine} {other}")
    print(f"{len(tables)} tables of {', '.join((first, *others))}: {differences or 'no'} differences")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
