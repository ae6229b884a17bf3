"""SQL beyond the tables of cases: every dialect, bounds, and what sqlglot itself gets wrong."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl_mcp.limits import SQL_CHARACTERS, SQL_TOKENS
from hitl_mcp.policy.functions.sql import sql_kinds, sql_tables, sql_unbounded
from hitl_mcp.policy.functions.sql_text import DIALECTS, statements

READS = {
    "postgres": """
        select distinct on (a) a, date_trunc('day', b), b::date, c ->> 'x', string_agg(d, ','), now(), version(),
          rank() over (partition by a order by b), percentile_cont(0.5) within group (order by b)
        from s.t join lateral (select jsonb_array_elements(c) as e) u on true
        where a ~ '^x' and b > current_date - interval '7 days' and d ilike 'a%' group by 1 limit 10""",
    "mysql": """
        select date_format(a, '%Y'), ifnull(b, 1), group_concat(c separator ','), curdate(), if(a, 1, 2),
          json_extract(d, '$.x'), date_add(a, interval 1 day), found_rows(), unix_timestamp()
        from `t` use index (i) where a regexp '^x' and b <=> null limit 5, 10""",
    "sqlite": """
        select strftime('%Y', a), julianday(a), printf('%d', b), total(b), typeof(b), json_each.value, iif(a, 1, 2)
        from t, json_each(t.x) where a glob 'x*' order by random() limit 5""",
    "tsql": """
        select top 5 getdate(), isnull(a, 1), len(b), datediff(day, a, b), convert(varchar(10), a), charindex('a', b),
          [c d], iif(a = 1, 2, 3), eomonth(a) from dbo.t cross apply (select 1 as x) u where a like '[ab]%'""",
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_everyday_reading_is_a_select_in_every_dialect(dialect: str) -> None:
    """What analysts write every day needs no people: no `call`, no error."""
    assert sql_kinds(READS[dialect], dialect) == ["select"]
    assert sql_unbounded(READS[dialect], dialect) is False


HARMFUL = """
benchmark(1, 2) cursor_to_xml(1) database_to_xml(true) dblink('x', 'y') dblink_exec('x', 'y') edit('x')
fts3_tokenizer('x') get_lock('x', 1) is_free_lock('x') load_extension('x') load_file('x') lo_creat(1)
lo_export(1, 'x') lo_from_bytea(1, 'x') lo_import('x') lo_put(1, 1, 'x') lo_unlink(1) master_pos_wait('x', 1)
nextval('s') openquery(a, 'x') openrowset('x', 'y', 'z') pg_advisory_lock(1) pg_cancel_backend(1)
pg_logical_emit_message(true, 'x', 'y') pg_ls_dir('x') pg_notify('x', 'y') pg_read_binary_file('x')
pg_read_file('x') pg_reload_conf() pg_rotate_logfile() pg_sleep(1) pg_stat_file('x') pg_stat_reset()
pg_switch_wal() pg_terminate_backend(1) pg_try_advisory_lock(1) query_to_xml('x', true, true, '')
readfile('x') release_lock('x') set_config('a', 'b', false) setval('s', 1) sleep(1) sys_eval('x')
sys_exec('x') table_to_xml('t', true, true, '') ts_stat('x') txid_current() writefile('x', 'y')
xp_cmdshell('x') zorro(1)
"""
"""Functions that write, wait, lock, read files, or run a text; and one that nobody knows."""


@pytest.mark.parametrize("function", re.findall(r"\w+\(.*?\)", HARMFUL))
def test_a_harmful_function_is_a_call_in_every_dialect(function: str) -> None:
    """A select that calls one is not just a select, wherever in it the call stands, however the name is written."""
    places = ["select F", "select 1 from t where F = 1", "with x as (select F a) select 1 from x"]
    for dialect in (None, *DIALECTS):
        for text in [place.replace("F", function) for place in places] + [f"select {function.upper()}"]:
            assert "call" in sql_kinds(text, dialect), (dialect, text)


def test_a_call_inside_a_command_counts() -> None:
    """MySQL takes conditions in `SHOW`, which other dialects leave unread."""
    assert sql_kinds("show tables where sleep(5)") == ["call", "show"]


def test_too_long_a_text_is_refused() -> None:
    """Characters and words are bounded before anything is parsed."""
    with pytest.raises(ValueError, match="longer than"):
        sql_kinds("select '" + "a" * SQL_CHARACTERS + "'")
    with pytest.raises(ValueError, match="words and signs"):
        sql_kinds("select " + "a," * SQL_TOKENS + "a")


@pytest.mark.parametrize(
    "text",
    ["select " + "(" * 480 + "1" + ")" * 480, "select " + "not " * 900 + "1", "select " + "case when 1 then " * 200],
)
def test_deep_nesting_is_refused_and_never_a_crash(text: str) -> None:
    """A parser that runs out of stack has understood nothing."""
    with pytest.raises(ValueError, match=r"not understood|too long to understand"):
        sql_kinds(text)


def test_a_fault_of_the_parser_is_not_understanding() -> None:
    """sqlglot raises a `TypeError` here; the statement is refused like any other that it cannot read."""
    with pytest.raises(ValueError, match="not understood"):
        sql_kinds("alter table t default with and select", "mysql")


def test_the_text_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """sqlglot would warn with the text in it, which may hold secrets."""
    with caplog.at_level(logging.DEBUG):
        sql_kinds("CALL f('hunter2')")
    assert "hunter2" not in caplog.text


_SAFE = st.text(alphabet="abc 'x-;/*\n\"", max_size=20).map(lambda text: text.replace("'", "''"))


@settings(max_examples=60, deadline=None)
@given(inside=_SAFE, after=st.sampled_from(["delete from t", "drop table t", "update t set a = 1", "truncate table t"]))
def test_no_text_in_quotes_hides_what_follows(inside: str, after: str) -> None:
    """Whatever stands between quotes, the statement behind it is found, and what is inside is none."""
    assert statements(f"select '{inside}'; {after}", None) == [f"select '{inside}'", after]
    kinds = sql_kinds(f"select '{inside}'; {after}")
    assert kinds == sorted({"select", after.split()[0]})


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="selctdfromtu *;'\"-/#$[]`\\\n()=1,", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes anything else than an answer or a `ValueError`."""
    for function in (sql_kinds, sql_tables, sql_unbounded):
        try:
            function(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("text", "unbounded"),
    [
        ("delete from t where (id = 1)", False),
        ("delete from t where not id = 1", False),
        ("delete from t where (a is not null)", True),
        ("delete from t where not (a is null)", True),
        ("delete from t where not (a is not null)", False),
        ("delete from t where not not (a is not null)", True),
        ("delete from t where a is not null and b is not null", True),
        ("delete from t where a is not null and b is null", False),
        ("delete from t where b is null and a is not null", False),
        ("delete from t where a is not null or b is null", True),
        ("delete from t where b is null or a is not null", True),
        ("delete from t where not (a is null or b is null)", True),
        ("delete from t where not (a is null and b = 1)", True),
        ("delete from t where a like 'X%'", False),
        ("delete from t where a like 'X'", False),
        ("delete from t where a like '%'", True),
        ("delete from t where exists (select a from s)", True),
        ("merge into t using s on t.id = s.id and 1 = 1 when matched then delete", False),
        ("merge into t using s on t.id = s.id or 1 = 1 when matched then delete", True),
        ("merge into t using s on 1 = 1 when matched then delete", True),
        ("show tables", False),
        ("select 1", False),
    ],
)
def test_a_condition_that_leaves_no_row_out_is_no_bound(text: str, unbounded: bool) -> None:
    """Under brackets, negations, `and` and `or`."""
    assert sql_unbounded(text) is unbounded


def test_a_word_that_begins_a_statement_is_a_name_where_it_cannot_begin_one() -> None:
    """T-SQL runs both halves of `select 1 shutdown`; it does not where the name is quoted."""
    for ending in ("postgres", "mysql", "sqlite"):
        assert sql_kinds("select 1 shutdown", ending) == ["select"]
    for dialect in (None, "tsql"):
        assert sql_kinds('select 1 "shutdown"', dialect) == ["select"]
        with pytest.raises(ValueError, match="begins a statement in T-SQL"):
            sql_kinds("select 1 shutdown", dialect)


def test_a_query_that_names_itself_names_no_table() -> None:
    """Where it is recursive; otherwise the name inside it is a table's."""
    query = "as (select 1 as a union all select a + 1 from x) select a from x"
    assert sql_tables(f"with recursive x {query}") == []
    assert sql_tables(f"with x {query}") == ["x"]


def test_the_dialect_that_is_named_is_the_one_that_reads() -> None:
    """A comment of MySQL is nothing that all of them know."""
    for function, gives in ((sql_tables, ["t"]), (sql_kinds, ["select"]), (sql_unbounded, False)):
        assert function("select * from t # all", "mysql") == gives
        with pytest.raises(ValueError, match="databases read the text differently"):
            function("select * from t # all")
    assert sql_tables("select * from [a b]", "tsql") == ["a b"]


def test_as_many_words_as_are_allowed_are_read() -> None:
    """And parsed to their end; a text of as many characters too."""
    text = "select " + "a," * ((SQL_TOKENS - 2) // 2)
    assert sql_kinds(text + "a" * (SQL_TOKENS % 2 == 0)) == ["select"]
    assert sql_kinds("select '" + "a" * (SQL_CHARACTERS - 9) + "'") == ["select"]
    with pytest.raises(ValueError, match=f"^the text is longer than {SQL_CHARACTERS} characters$"):
        sql_kinds("select '" + "a" * (SQL_CHARACTERS - 8) + "'")
